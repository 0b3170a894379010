import pytest

from lakehouse_assets_tests.originals import Originals
from lakehouse_assets_tests.platform.orchestration.level import Demo
from lakehouse_assets_tests.platform.pipeline.model_histories import prepared


@pytest.fixture
def demo(originals: Originals, tmp_path) -> Demo:
    """The model of one level on a root of its own."""
    demo = Demo(tmp_path, originals)
    prepared(demo)
    return demo

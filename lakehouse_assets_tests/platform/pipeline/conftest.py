import shutil
from pathlib import Path

import pytest

from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets_tests.platform.orchestration.level import Demo


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """A prepared store to copy: creating one takes more than a second."""
    folder = tmp_path_factory.mktemp("prepared")
    Registry.under(folder).prepare()
    return folder


@pytest.fixture
def demo(prepared, tmp_path) -> Demo:
    """The model of one level on a root of its own."""
    shutil.copytree(prepared, tmp_path / "mlflow")
    return Demo(tmp_path)

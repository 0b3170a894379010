from collections.abc import Iterator

import pytest

from lakehouse_assets_tests.forks import Forks
from lakehouse_assets_tests.originals import Originals
from lakehouse_assets_tests.platform.orchestration.level import Demo
from lakehouse_assets_tests.platform.pipeline import level_child, orders_child
from lakehouse_assets_tests.platform.pipeline.model_histories import prepared


@pytest.fixture
def demo(originals: Originals, tmp_path) -> Demo:
    """The model of one level on a root of its own."""
    demo = Demo(tmp_path, originals)
    prepared(demo)
    return demo


@pytest.fixture(scope="session")
def trainers() -> Iterator[tuple[Forks, Forks]]:
    """Two processes that train the model of one level, each in forks."""
    with Forks(level_child.__name__) as one, Forks(level_child.__name__) as other:
        yield one, other


@pytest.fixture(scope="session")
def replayers() -> Iterator[tuple[Forks, Forks]]:
    """Two processes that replay and refresh the table of `orders`, each in forks."""
    with Forks(orders_child.__name__) as one, Forks(orders_child.__name__) as other:
        yield one, other

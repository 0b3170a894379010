"""The root that tests of pages look at, made once."""

import pytest

from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.views.prepared import prepare


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Settings:
    """The settings of a trained root."""
    return prepare(tmp_path_factory.mktemp("pages"))

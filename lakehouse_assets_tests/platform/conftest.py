"""What tests of several rooms begin with."""

import os
from pathlib import Path

import pytest

from lakehouse_assets_tests.originals import Originals


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    """Shared by all workers of this test run."""
    base = tmp_path_factory.getbasetemp()
    folder: Path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "originals"
    folder.mkdir(exist_ok=True)
    return Originals(folder)

"""Fixtures that more than one room's tests use: a fresh root, and the real invoices where they are at hand."""

from pathlib import Path

import pytest

from lakehouse_assets.settings import Settings

REAL_DATA = Path(__file__).parents[2] / "shared" / "data" / "online_retail"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a root of its own."""
    return Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "root")})


@pytest.fixture(scope="session")
def real_invoices() -> list[Path]:
    """The two published files of the real shop."""
    files = sorted(REAL_DATA.glob("*.parquet"))
    if not files:
        pytest.skip("the real invoices are not beside this checkout")
    return files

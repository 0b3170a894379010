"""`lakehouse run`: what a person sees of each table."""

from lakehouse_assets.cli.progress import result
from lakehouse_assets.cli.run import _ACCOUNT
from lakehouse_assets.platform.orchestration.describe import account
from lakehouse_assets.platform.orchestration.run import TableRun
from lakehouse_assets.platform.quality.account import RowAccount


def test_changed_rows_are_counted_under_the_names_that_a_run_records():
    recorded = account(RowAccount(6, written=1, updated=2, duplicates=0, quarantined=3))
    assert set(_ACCOUNT) == set(recorded)
    assert "3 new or changed, 3 to quarantine" in result(TableRun("shop.gold.rows", metadata=recorded | {"dagster/row_count": 7}))

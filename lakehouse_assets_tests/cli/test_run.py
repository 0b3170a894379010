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


def test_what_a_training_came_to_is_read_from_what_the_asset_records():
    decided = {
        "champion": "version 1",
        "newest_decision": "version 1",
        "reasons": "- WAPE 0.4 against 0.5 for naive: better.\n- It is champion.",
    }
    assert result(TableRun("shop.models.sales", metadata=decided)) == "trained version 1, champion: WAPE 0.4 against 0.5 for naive, 0.0 s"
    short = {"champion": "no champion yet", "newest_decision": "nothing was decided yet", "reasons": "- There are 60 days."}
    assert result(TableRun("shop.models.sales", metadata=short)) == "not trained: There are 60 days, 0.0 s"

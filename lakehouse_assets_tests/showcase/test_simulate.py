"""`lakehouse simulate` hands its options on to the simulator."""

import json

from click.testing import CliRunner

from lakehouse_assets.cli.main import main


def test_the_day_from_which_other_orders_are_fraud_is_handed_on(tmp_path):
    words = ("simulate", "--days", "3", "--orders-per-day", "1", "--start", "2024-01-04", "--json")
    environment = {"LAKEHOUSE_ROOT": str(tmp_path / "root"), "DAGSTER_HOME": ""}
    for options, changes in (((), None), (("--fraud-changes", "2024-01-05"), "2024-01-05")):
        result = CliRunner(env=environment).invoke(main, [*words, *options], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["fraud_changes"] == changes

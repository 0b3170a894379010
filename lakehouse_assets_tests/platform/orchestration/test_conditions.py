"""An asset with an automation condition downstream of a declared table, as `docs/web_ui.md` has it."""

import re
from pathlib import Path

import dagster as dg
import pytest

from lakehouse_assets.platform.declarations.check_names import CONTRACT_CHECK
from lakehouse_assets.platform.orchestration.steps import key_of

PAGE = Path(__file__).parents[3] / "docs" / "web_ui.md"
TABLE = key_of("sales.gold.daily_revenue")


@pytest.mark.filterwarnings("ignore:Parameter `include_sources`")  # of Dagster's own call
def test_it_runs_after_the_table_unless_the_contract_is_broken():
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    names: dict = {}
    exec(code, names)
    report = names["report"]

    @dg.asset(key=TABLE, check_specs=[dg.AssetCheckSpec(CONTRACT_CHECK, asset=TABLE, blocking=True)])
    def table(): ...

    defs = dg.Definitions(assets=[table, report])

    def requested(instance: dg.DagsterInstance, cursor, *, passed: bool):
        instance.report_runless_asset_event(dg.AssetMaterialization(TABLE))
        instance.report_runless_asset_event(dg.AssetCheckEvaluation(TABLE, CONTRACT_CHECK, passed=passed, metadata={}))
        return dg.evaluate_automation_conditions(defs, instance, cursor=cursor)

    for passed in (True, False):
        with dg.DagsterInstance.ephemeral() as instance:
            first = dg.evaluate_automation_conditions(defs, instance)
            assert first.get_num_requested(report.key) == 0
            assert requested(instance, first.cursor, passed=passed).get_num_requested(report.key) == int(passed)

"""What is read from Dagster's databases is what Dagster's own instance says."""

from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from lakehouse_assets.platform.operations import run_records
from lakehouse_assets.platform.operations.run_records import FailedCheck
from lakehouse_assets.platform.orchestration.instance import instance
from lakehouse_assets.platform.orchestration.run import reason_of

KEY = dg.AssetKey(["shop", "gold", "totals"])
DECLARED = {"shop.gold.totals": {"warns", "stops", "passes", "mended"}}


def totals(*, mended: bool) -> dg.AssetsDefinition:
    names = ("warns", "stops", "passes", "mended", "renamed", "silent")

    @dg.multi_asset(
        specs=[dg.AssetSpec(KEY)], check_specs=[dg.AssetCheckSpec(name, asset=KEY) for name in names], name="totals", can_subset=True
    )
    def asset():
        yield dg.MaterializeResult(KEY)
        for name, passed in {"warns": False, "stops": False, "passes": True, "mended": mended, "renamed": False, "silent": False}.items():
            severity = dg.AssetCheckSeverity.ERROR if name == "stops" else dg.AssetCheckSeverity.WARN
            metadata = {"not_evaluated": True} if name == "silent" else {}
            said = "it says why" if name == "stops" else None
            yield dg.AssetCheckResult(asset_key=KEY, check_name=name, passed=passed, severity=severity, metadata=metadata, description=said)

    return asset


@pytest.fixture
def home(settings, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")
    return settings.dagster_home


def test_failed_checks_and_runs_are_those_of_the_instance(settings, home):
    assert run_records.last_run(home) is None
    assert run_records.failed_checks(home, DECLARED) == {}
    with instance(settings) as opened:
        for mended in (False, True):
            result = dg.materialize([totals(mended=mended)], instance=opened)
        opened.add_run(dg.DagsterRun(job_name="j", run_id="11111111-1111-4111-8111-111111111111", status=dg.DagsterRunStatus.STARTED))
        keys = [dg.AssetCheckKey(KEY, name) for name in DECLARED["shop.gold.totals"]]
        records = opened.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        theirs = {key.name for key, record in records.items() if record.status == AssetCheckExecutionRecordStatus.FAILED}
        found = run_records.failed_checks(home, DECLARED)
        assert found.keys() == DECLARED.keys()
        assert set(found["shop.gold.totals"]) == {FailedCheck("warns", stops=False), FailedCheck("stops", stops=True, text="it says why")}
        assert {check.name for check in found["shop.gold.totals"]} == theirs
        assert run_records.runs_under_way(home) == ["11111111-1111-4111-8111-111111111111"]
        opened.delete_run("11111111-1111-4111-8111-111111111111")
        (record,) = opened.get_run_records(limit=1)
        last = run_records.last_run(home)
        assert (last.run_id, last.status) == (result.run_id, "SUCCESS")
        assert last.ended_at == datetime.fromtimestamp(record.end_time, UTC)


@dg.multi_asset(specs=[dg.AssetSpec(KEY)], name="shop__gold__totals")
def refused():
    try:
        int("inner")
    except ValueError as error:
        raise dg.Failure("shop.gold.totals: 3 rows have no price", allow_retries=False) from error


@dg.multi_asset(specs=[dg.AssetSpec(dg.AssetKey(["shop", "gold", "other"]))], name="shop__gold__other")
def broken():
    try:
        int("the file is gone")
    except ValueError as error:
        raise RuntimeError("wrapped") from error


def test_failures_of_the_last_run_are_those_of_the_instance(settings, home):
    assert run_records.failures_of_the_last(home) == {}
    with instance(settings) as opened:
        result = dg.materialize([refused, broken], instance=opened, raise_on_error=False)
        told = {
            event.step_key.replace("__", "."): reason_of(event) for event in result.all_events if event.event_type_value == "STEP_FAILURE"
        }
        assert run_records.failures_of_the_last(home) == told
        assert told["shop.gold.totals"] == "shop.gold.totals: 3 rows have no price"
        assert "the file is gone" in told["shop.gold.other"]
        opened.add_run(dg.DagsterRun(job_name="j", run_id="11111111-1111-4111-8111-111111111111", status=dg.DagsterRunStatus.STARTED))
        assert run_records.failures_of_the_last(home) == told, "of a run under way nothing is known yet"
        dg.materialize([totals(mended=True)], instance=opened)
        assert run_records.failures_of_the_last(home) == {}

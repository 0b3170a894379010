"""Monitors in Dagster: a step of their own behind the table, which nothing waits for and which fails nothing; each verdict is a row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import dagster as dg
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from lakehouse_assets import Freshness, Volume, monitor, open_lakehouse
from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.declarations.monitors import Verdict, Watched
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.orchestration.instance import instance
from lakehouse_assets.platform.orchestration.monitors import MONITORS_SUFFIX
from lakehouse_assets.platform.orchestration.run import Outcome, execute, selection_of
from lakehouse_assets.platform.orchestration.steps import key_of
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.monitoring.kiosk import BRONZE, DAY, GOLD, SILVER, Says, days, defs_of, land, sales, stored
from lakehouse_assets_tests.running import tables_of

FRESH = monitor("kiosk.monitors.sales_come", of=sales, kind=Freshness("day", timedelta(days=2)), severity="error", owner="team:till")
WELL = Verdict(True, "All is well.", {"rows": 3})
BAD = Verdict(False, "amount moved.", metric="psi", value=0.4, threshold=0.2, column_name="amount")
GOOD = Verdict(True, "day did not move.", metric="psi", value=0.1, threshold=0.2, column_name="day")


@pytest.fixture(autouse=True)
def _home(monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")


def says(*said: Verdict, name: str = "says", raised: BaseException | None = None, of=sales, severity="warn"):
    return monitor(f"kiosk.monitors.{name}", of=of, kind=Says(said, raised), severity=severity)


def run(settings, *monitors, tables=None) -> Outcome:
    defs = defs_of(settings, *monitors) if tables is None else defs_of(settings, *monitors, tables=tables)
    return execute(settings, defs, selection_of([], defs, []))


def checks(settings, outcome: Outcome) -> dict[str, dg.AssetCheckEvaluation]:
    with instance(settings) as opened:
        logs = opened.all_logs(outcome.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        found = [entry.get_dagster_event().asset_check_evaluation_data for entry in logs]
    return {f"{'.'.join(one.asset_key.path)}:{one.check_name}": one for one in found}


def secret() -> pl.exceptions.PolarsError:
    """An error that says a value of a row."""
    with pytest.raises(pl.exceptions.PolarsError) as said:
        pl.Series("mail", ["ada@a.org"]).cast(pl.Int64)
    assert "ada@a.org" in str(said.value)
    return said.value


@dataclass(frozen=True)
class Ran:
    """A run of the tables with monitors of many sorts."""

    settings: Settings
    outcome: Outcome
    checks: dict[str, dg.AssetCheckEvaluation]

    def rows(self, name: str) -> pl.DataFrame:
        """The verdicts of a monitor."""
        return stored(self.settings).filter(pl.col("monitor") == f"kiosk.monitors.{name}")


RAISED = {"error": ValueError("no baseline"), "panic": pl.exceptions.PanicException("boom")}
QUARANTINE, PLATFORM = f"{SILVER}__quarantine", "platform.tables.commits"


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Ran:
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path_factory.mktemp("ran") / "root")})
    land(settings, (1, DAY, 5), (2, DAY, -5))
    monitors = [
        FRESH,
        *(says(raised=raised, name=name) for name, raised in RAISED.items()),
        says(raised=secret(), name="secret"),
        says(WELL, name="well"),
        says(GOOD, BAD, name="many", severity="error"),
        says(Verdict(np.False_, "Odd.", {"day": DAY, "share": float("nan"), "rows": np.int64(3)}), name="odd"),
        monitor("kiosk.monitors.days_as_usual", of=GOLD, kind=Volume(time="day")),
        *(says(WELL, name=name, of=of) for name, of in {"few_bad": QUARANTINE, "lands": BRONZE, "counted": PLATFORM}.items()),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        outcome = run(settings, *monitors)
        return Ran(settings, outcome, checks(settings, outcome))


def test_a_monitor_is_a_check_of_its_table_and_a_row(ran):
    found = ran.checks[f"{SILVER}:sales_come"]
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.ERROR
    assert f"The newest day is {DAY}" in found.description
    assert not ran.outcome.failed
    assert any(text.startswith(f"{SILVER}, check sales_come: The newest day") for text in ran.outcome.warnings)
    row = stored(ran.settings).row(by_predicate=pl.col("monitor") == FRESH.name, named=True)
    version = tables_of(ran.settings).table(SILVER).version()
    wanted = {"kind": "freshness", "table": SILVER, "table_version": version, "owner": "team:till", "severity": "error", "passed": False}
    assert {name: row[name] for name in wanted} == wanted
    assert (row["run_id"], row["metric"], row["threshold"], row["column_name"]) == (ran.outcome.run_id, "age_hours", 48.0, "day")
    assert row["value"] > 48


def test_what_contracts_and_kinds_imply_is_a_row_too(ran):
    found = {(row["monitor"], row["kind"], row["passed"]) for row in stored(ran.settings).to_dicts()}
    assert {one for one in found if not one[0].startswith("kiosk.monitors.")} == {(f"{SILVER}.volume", "volume", None)}


@pytest.mark.parametrize("name", RAISED)
def test_a_monitor_that_raises_is_seen_and_fails_nothing(ran, name):
    kind = type(RAISED[name]).__name__
    assert not ran.outcome.failed
    assert not ran.outcome.skipped
    assert tables_of(ran.settings).table(GOLD).count() == 1
    found = ran.checks
    assert (found[f"{SILVER}:{name}"].passed, found[f"{SILVER}:{name}"].severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found[f"{SILVER}:{name}"].description.startswith(f"Not evaluated: {kind}")
    assert found[f"{SILVER}:well"].passed
    assert any(f"check {name}: Not evaluated" in text for text in ran.outcome.warnings)
    row = ran.rows(name).row(0, named=True)
    assert (row["passed"], row["error"]) == (None, kind)


def test_values_of_rows_are_not_in_the_reason(ran):
    assert ran.rows("secret").height == 1
    assert "ada@a.org" not in "".join(stored(ran.settings)["text"])


def test_where_verdicts_cannot_be_stored_nothing_fails(settings):
    land(settings, (1, DAY, 5))
    # What is there is no table of verdicts.
    tables_of(settings).table(verdicts.TABLE).create({"text": pl.Int64()})
    outcome = run(settings, says(WELL))
    assert not outcome.failed
    found = checks(settings, outcome)
    assert found[f"{SILVER}:says"].passed
    with instance(settings) as opened:
        told = [entry.user_message for entry in opened.all_logs(outcome.run_id) if entry.level == 30]
    assert any("kiosk.monitors.says are not stored in platform.monitoring.verdicts" in text for text in told)


def test_many_verdicts_are_one_check(ran):
    found = ran.checks[f"{SILVER}:many"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert found.description == "1 of 2 verdicts are bad. amount moved."
    assert found.metadata["verdicts"].value == 2
    assert "amount" in found.metadata["bad"].value
    assert ran.rows("many")["column_name"].to_list() == ["day", "amount"]


def test_a_monitor_with_nothing_new_keeps_its_last_result(settings):
    land(settings, (1, DAY, 5))
    first = checks(settings, run(settings, says()))[f"{SILVER}:says"]
    assert (first.passed, first.description) == (True, "Not evaluated: nothing that it judges has changed.")
    run(settings, says(BAD))
    found = checks(settings, run(settings, says()))[f"{SILVER}:says"]
    assert (found.passed, found.description) == (False, "amount moved.")


def test_nothing_waits_for_a_monitor(settings):
    """Its step stands behind the table, and is upstream of none."""
    defs = defs_of(settings, says(WELL))
    job = defs.get_repository_def().get_job("refresh")
    node = SILVER.replace(".", "__") + MONITORS_SUFFIX
    waits = {
        one.name: {end.node for definition in ends.values() for end in definition.get_node_dependencies()}
        for one, ends in job.dependencies.items()
    }
    assert waits[node] == {SILVER.replace(".", "__")}
    assert node not in set().union(*waits.values())


def test_a_monitor_is_evaluated_alone(settings):
    """As by the button of the web UI: the table is not refreshed."""
    land(settings, (1, DAY, 5))
    run(settings, FRESH)
    version = tables_of(settings).table(SILVER).version()
    land(settings, (2, DAY, 5))
    defs = defs_of(settings, FRESH)
    check = dg.AssetCheckKey(key_of(SILVER), "sales_come")
    with instance(settings) as opened:
        job = defs.get_repository_def().get_implicit_global_asset_job_def()
        done = job.get_subset(asset_check_selection={check}, asset_selection=set()).execute_in_process(instance=opened)
    assert [one.check_name for one in done.get_asset_check_evaluations()] == ["sales_come"]
    assert tables_of(settings).table(SILVER).version() == version


def test_where_the_contract_is_broken_the_implied_monitors_still_judge(settings):
    land(settings, (1, DAY, 5))
    run(settings)

    def broken(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.drop("amount")

    land(settings, (2, DAY, 5))
    outcome = run(settings, says(WELL), tables=(replace(sales, function=broken),))
    assert [one.name for one in outcome.failed] == [SILVER]
    assert f"{SILVER}:volume" in checks(settings, outcome)


def test_the_same_said_again_is_no_new_row(settings):
    land(settings, (1, DAY, 5))
    well = says(WELL)
    run(settings, well)
    run(settings, well)
    assert stored(settings)["monitor"].to_list().count(well.name) == 1
    run(settings, says(replace(WELL, passed=False, text="It is not.")))
    land(settings, (2, DAY, 6))
    run(settings, says(replace(WELL, passed=False, text="It is not.")))
    found = stored(settings).filter(pl.col("monitor") == well.name)
    assert found["passed"].to_list() == [True, False, False]
    assert found["table_version"].n_unique() == 2


def test_volume_of_a_table_that_is_computed(ran):
    assert ran.checks[f"{GOLD}:days_as_usual"].passed


def test_tables_without_a_step_are_watched_too(ran, settings):
    """A quarantine, after the step of its table; a table that a plain asset writes; one of the platform."""
    defs = defs_of(settings, says(WELL, name="few_bad", of=QUARANTINE))
    job = defs.get_repository_def().get_job("refresh")
    ends = next(ends for one, ends in job.dependencies.items() if one.name == QUARANTINE.replace(".", "__") + MONITORS_SUFFIX)
    waits = {end.node for definition in ends.values() for end in definition.get_node_dependencies()}
    assert waits == {SILVER.replace(".", "__")}
    assert {f"{QUARANTINE}:few_bad", f"{BRONZE}:lands", f"{PLATFORM}:counted"} <= set(ran.checks)
    judged = {row["table"]: row["table_version"] for row in stored(ran.settings).to_dicts()}
    assert (judged[QUARANTINE], judged[PLATFORM]) == (tables_of(ran.settings).table(QUARANTINE).version(), None)


def test_what_a_kind_gives_besides_plain_numbers_fails_nothing(ran):
    found = ran.checks[f"{SILVER}:odd"]
    assert (found.passed, found.metadata["day"].value) == (False, str(DAY))
    assert ran.rows("odd")["passed"].to_list() == [False]


def test_a_step_of_monitors_that_is_skipped_stands_in_the_table_of_steps(settings):
    outcome = run(settings, FRESH)
    assert outcome.failed, "nothing is there to read"
    steps = tables_of(settings).table("platform.system.steps").scan().collect()
    states = dict(steps.select("step", "status").iter_rows())
    assert states[SILVER.replace(".", "__") + MONITORS_SUFFIX] == "skipped"


@dataclass(frozen=True)
class Changed(Says):
    """Judges only what it has not judged."""

    judges_changes = True

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        log = watched.lakehouse.table(verdicts.TABLE)
        return () if log.exists() and log.cursor(watched.monitor.name) is not None else self.said


def test_a_failure_stays_one_while_nothing_that_is_judged_changes(settings, monkeypatch):
    land(settings, (1, DAY, 5))
    table = tables_of(settings).table(SILVER)
    table.create(pl.Schema({"sale": pl.Int64()}))
    moved = monitor("kiosk.monitors.moved", of=sales, kind=Changed((BAD, GOOD)), severity="error")
    lake = open_lakehouse(settings=settings, declarations=(sales, days, moved))
    monkeypatch.setattr("lakehouse_assets.client.open_lakehouse", lambda: lake)
    for _ in range(3):
        done = CliRunner().invoke(main, ["monitors", "run", moved.name])
        assert (done.exit_code, "1 monitor, 1 failed" in done.output) == (1, True), (done.output, done.exception)
        assert [row["monitor"] for row in lake.monitors.failed()] == [moved.name]
    assert stored(settings).height == 2

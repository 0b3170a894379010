"""`lakehouse monitors` and the failed ones in `lakehouse status`, on a product of its own, by the real command, in its own process where
one dies or two run at once."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lakehouse_assets.cli.main import main
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.forks import meet
from lakehouse_assets_tests.running import land_text, tables_of

PRODUCT = '''
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import ClassVar

import polars as pl

from lakehouse_assets import Contract, Feed, Freshness, Upsert, column, conform, day, feed, monitor, table, whole_number
from lakehouse_assets.platform.declarations.monitors import MonitorKind, Verdict, Watched

parcels = feed("depot.bronze.parcels", Feed("parcels", headers=(("parcel", "sent"),)), "Parcels as the warehouse wrote them.")


class Parcel(Contract):
    """A parcel."""

    parcel: int = column(key=True)
    sent: date


@table("depot.silver.parcels", contract=Parcel, kind=Upsert(("parcel",)), inputs={"rows": "depot.bronze.parcels"})
def typed(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Parcels."""
    return conform(rows, parcel=whole_number("parcel"), sent=day("sent", formats=("%Y-%m-%d",)))


@dataclass(frozen=True)
class Dies(MonitorKind):
    """Kills the process that evaluates it, once, or raises."""

    word: ClassVar[str] = "dies"

    @property
    def demands(self) -> str:
        return "Nothing dies."

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        if (marker := Path(os.environ["MARKER"])).exists():
            marker.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("no baseline")


fresh = monitor("depot.monitors.fresh", of=typed, kind=Freshness("sent", timedelta(days=2)), severity="error", owner="team:post")
dies = monitor("depot.monitors.dies", of="depot.silver.parcels", kind=Dies())
'''


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    package = tmp_path / f"watched_{tmp_path.name}"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "depot.py").write_text(PRODUCT)
    own = {"LAKEHOUSE_ROOT": str(tmp_path / "root"), "LAKEHOUSE_PRODUCTS": str(package), "MARKER": str(tmp_path / "marker")}
    land_text(Settings.load({"LAKEHOUSE_ROOT": own["LAKEHOUSE_ROOT"]}), "parcels", "first.csv", "parcel,sent\n1,2026-03-02\n")
    return {**own, "DAGSTER_HOME": "", "COLUMNS": "200"}


def lakehouse(environment: dict[str, str], *words: str) -> Result:
    result = CliRunner(env=environment).invoke(main, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def carry_out(order: dict[str, Any]) -> int:
    """`lakehouse run` in a process of its own; its exit code."""
    meet(f"{order['environment']['LAKEHOUSE_ROOT']}.ready", order["together"])
    return lakehouse(order["environment"], "run").exit_code


def test_a_run_that_is_killed_in_a_monitor_is_finished_by_the_next(environment, tmp_path, forks):
    tables = tables_of(Settings.load({"LAKEHOUSE_ROOT": environment["LAKEHOUSE_ROOT"]}))
    (tmp_path / "marker").touch()
    assert forks[0](sys.modules[__name__], environment=environment, together=1).signal == signal.SIGKILL
    assert tables.table("depot.silver.parcels").count() == 1, "what was committed before is there"
    done = lakehouse(environment, "run", "depot.silver.parcels")
    assert done.exit_code == 0, done.stderr
    assert "check dies: Not evaluated: RuntimeError at " in done.stdout + done.stderr
    assert "check fresh: The newest sent is 2026-03-02" in done.stdout + done.stderr

    listed = {row["monitor"]: row for row in json.loads(lakehouse(environment, "monitors", "--json").stdout)}
    states = {name: row["state"] for name, row in listed.items()}
    assert states == {
        "depot.bronze.parcels.volume": "not evaluated",
        "depot.silver.parcels.volume": "not evaluated",
        "depot.monitors.fresh": "failed",
        "depot.monitors.dies": "error",
    }
    status = json.loads(lakehouse(environment, "status", "--json").stdout)
    assert {row["monitor"] for row in status["failed_monitors"]} == {"depot.monitors.fresh", "depot.monitors.dies"}
    (parcels,) = (row for row in status["tables"] if row["table"] == "depot.silver.parcels")
    assert (parcels["failed_checks"], sorted(parcels["failed_monitors"])) == ([], ["dies", "fresh"])
    assert "monitor failed depot.monitors.fresh" in lakehouse(environment, "status").stdout
    assert "depot.monitors.dies" in lakehouse(environment, "monitors", "list", "--failed").stdout

    # Nothing was refreshed: judged again, the same is said, and no row comes.
    before = tables.table("platform.monitoring.verdicts").count()
    again = lakehouse(environment, "monitors", "run", "depot.silver.parcels", "--json")
    assert again.exit_code == 1, "one of severity error failed"
    assert len(json.loads(again.stdout)) == 3
    assert tables.table("platform.monitoring.verdicts").count() == before

    shown = json.loads(lakehouse(environment, "monitors", "show", "fresh", "--json").stdout)
    assert (shown["owner"], shown["alert"]["consecutive"], len(shown["verdicts"])) == ("team:post", 1, 1)
    assert shown["declared_at"].startswith(f"{Path(environment['LAKEHOUSE_PRODUCTS']).name}/depot.py:")
    assert "age" in lakehouse(environment, "sql", "SELECT metric FROM platform.monitoring.verdicts WHERE NOT passed", "--json").stdout
    said = lakehouse(environment, "monitors", "show", "fresher")
    assert (said.exit_code, "there is no monitor 'fresher'" in said.stderr) == (1, True)


def test_two_runs_at_once_leave_one_verdict_of_each_monitor(environment, forks):
    for fork in forks:
        fork.begin(sys.modules[__name__], environment=environment, together=2)
    assert [fork.end() for fork in forks] == [(0, 0), (0, 0)]
    tables = tables_of(Settings.load({"LAKEHOUSE_ROOT": environment["LAKEHOUSE_ROOT"]}))
    found = tables.table("platform.monitoring.verdicts").scan().collect()
    assert found["monitor"].n_unique() == 4
    assert found.group_by("monitor", "table_version").len()["len"].to_list() == [1] * found.height


def test_an_empty_lakehouse(tmp_path):
    def call(*words: str) -> Result:
        return CliRunner(env={"LAKEHOUSE_ROOT": str(tmp_path / "root")}).invoke(main, words, catch_exceptions=False)

    assert "never evaluated" in call("monitors").output
    assert "No monitor failed." in call("monitors", "list", "--failed").output
    assert "It was not evaluated yet" in call("monitors", "show", "sales.monitors.lines_as_usual").output

"""Two runs at once: what a monitor said of an older state is neither stored nor shown after what it said of a newer one."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets import monitor
from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.monitors import MonitorKind, Verdict, Watched
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.monitoring.evaluation import Evaluation
from lakehouse_assets.platform.orchestration.instance import instance
from lakehouse_assets.platform.orchestration.run import execute, selection_of
from lakehouse_assets.platform.orchestration.steps import key_of
from lakehouse_assets_tests.platform.monitoring.kiosk import BRONZE, DAY, SILVER, days, defs_of, land, sales, stored
from lakehouse_assets_tests.running import tables_of

MEANWHILE = []
"""What happens once, after the rows were judged and before that is stored or shown."""


@dataclass(frozen=True)
class Enough(MonitorKind):
    """Whether the table has two rows."""

    changes: bool = False
    word: ClassVar[str] = "enough"

    @property
    def judges_changes(self) -> bool:
        """See `MonitorKind.judges_changes`."""
        return self.changes

    @property
    def demands(self) -> str:
        """See `MonitorKind.demands`."""
        return "There are two rows."

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        rows = watched.lakehouse.table(SILVER).scan().select(pl.len()).collect().item()
        if MEANWHILE:
            MEANWHILE.pop()()
        return [Verdict(rows >= 2, f"{rows} rows.", granularity="1d", column_name="sale")]


@pytest.fixture(autouse=True)
def _home(monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")
    MEANWHILE.clear()


def refreshed(settings, one) -> list[str]:
    """Runs the kiosk; the warnings of the run."""
    defs = defs_of(settings, one)
    return execute(settings, defs, selection_of([], defs, [])).warnings


def shown(settings, one) -> bool:
    """What Dagster shows of the check of the monitor."""
    key = dg.AssetCheckKey(key_of(SILVER), one.word)
    with instance(settings) as opened:
        (found,) = opened.event_log_storage.get_latest_asset_check_execution_by_key([key]).values()
        return found.event.dagster_event.asset_check_evaluation_data.passed


@pytest.mark.parametrize("changes", [False, True])
def test_a_run_that_judged_an_older_version_does_not_have_the_last_word(settings, changes):
    one = monitor("kiosk.monitors.enough", of=sales, kind=Enough(changes))
    land(settings, (1, DAY, 5))
    assert any("1 rows." in text for text in refreshed(settings, one))

    def other() -> None:
        """Another run brings a row and judges that, while this one still has the version before."""
        land(settings, (2, DAY, 5))
        assert not refreshed(settings, one)

    land(settings, (1, DAY, 6))  # a new version, with one row as before
    MEANWHILE.append(other)
    assert not refreshed(settings, one)
    said = stored(settings).filter(pl.col("monitor") == one.name).sort("sequence")
    assert said["passed"].to_list()[-1] is True
    assert said["table_version"].is_sorted()
    assert shown(settings, one)


@pytest.mark.parametrize("changes", [False, True])
def test_what_is_shown_is_what_holds_when_it_is_shown(settings, changes, monkeypatch):
    one = monitor("kiosk.monitors.enough", of=sales, kind=Enough(changes))
    land(settings, (1, DAY, 5))
    run = Evaluation.run

    def then_another(self, monitors):
        """Another run is over between the commit of this one's verdicts and their being shown."""
        judgements = run(self, monitors)
        if MEANWHILE and [found.name for found in monitors] == [one.name]:
            MEANWHILE.clear()
            land(settings, (2, DAY, 5))
            assert not refreshed(settings, one)
        return judgements

    monkeypatch.setattr(Evaluation, "run", then_another)
    MEANWHILE.append(lambda: MEANWHILE.append(None))
    assert not refreshed(settings, one)
    assert shown(settings, one)


def test_a_table_that_begins_again_is_judged_though_its_versions_are_smaller(settings):
    one = monitor("kiosk.monitors.enough", of=sales, kind=Enough())
    tables = tables_of(settings)
    evaluation = Evaluation(tables, Catalog((sales, days, one), frozenset({BRONZE})), lambda: None, clock.now(), "test", pytest.fail)
    table = tables.table(SILVER)
    schema = pl.Schema({"sale": pl.Int64()})
    table.create(schema)
    for sale in range(3):
        table.append(pl.DataFrame({"sale": [sale]}, schema))
    assert evaluation.run([one])[0].verdicts[0].passed
    shutil.rmtree(settings.tables / "kiosk" / "silver" / "sales")
    table.create(schema)
    assert not evaluation.run([one])[0].verdicts[0].passed
    assert stored(settings).sort("sequence")["table_version"].to_list() == [3, 0]


@dataclass(frozen=True)
class Windows(Enough):
    """Three windows of which the newest is well."""

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        return [
            Verdict(passed, "moved.", window_start=datetime(2026, 3, day, tzinfo=UTC), granularity="1d", column_name="sale")
            for day, passed in ((1, False), (2, False), (3, True))
        ]


def test_a_run_says_how_many_windows_failed_and_which_was_the_first(settings):
    one = monitor("kiosk.monitors.enough", of=sales, kind=Windows(changes=True))
    land(settings, (1, DAY, 5))
    warned = [text for text in refreshed(settings, one) if "enough" in text]
    said = "2 windows failed in this evaluation, the first from 2026-03-01 on: `lakehouse why kiosk.monitors.enough --window 2026-03-01`."
    assert [said in text for text in warned] == [True], warned
    assert verdicts.latest(tables_of(settings), [one])[one.name][0]["passed"]

"""What monitors said last is what the pages say: no failure that is over, and nobody is content of whom nothing is known."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakehouse_assets import open_lakehouse
from lakehouse_assets.platform.declarations.monitors import Verdict
from lakehouse_assets.platform.monitoring import judgements
from lakehouse_assets.settings import Settings
from lakehouse_assets.views import health
from lakehouse_assets.views.blocks import Block, Rows

_AT = datetime(2026, 3, 1, tzinfo=UTC)
_DRIFTED = [
    Verdict(False, f"{column} drifted", window_start=_AT - timedelta(days=day), column_name=column, slice_key="country", slice_value="GB")
    for day, column in ((14, "amount"), (7, "method"))
]


@pytest.fixture
def lake(tmp_path):
    return open_lakehouse(settings=Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "root")}))


def test_tables_of_products_stand_before_those_of_the_platform(lake):
    for name in ("platform.landing.log", "zoo.gold.animals", "bikes.gold.trips", "platform.alerts.log"):
        lake.context.root.lakehouse.table(name).create(pl.Schema({"at": pl.String()}))
    values = lake.status()
    expected = ["bikes.gold.trips", "zoo.gold.animals", "platform.alerts.log", "platform.landing.log"]
    assert [row["table"] for row in values["tables"]] == expected
    values["tables"][1]["failed_checks"] = ["not_null"]
    rows = next(block for block in health.tables(lake, values) if isinstance(block, Rows))
    assert rows.frame["table"].to_list() == [expected[1], expected[0], *expected[2:]]


def judged(lake, number: int, day: int, *said: Verdict) -> str:
    """One monitor said something; its name."""
    every = lake.monitors._all
    monitor = every[number]
    lakehouse = lake.context.root.lakehouse
    judgements.add(lakehouse, [judgements.Judgement(monitor, "t", day, _AT + timedelta(days=day), "run", said)])
    return monitor.name


def shown(lake) -> Rows:
    found: list[Block] = health._verdicts(lake)
    assert isinstance(found[0], Rows)
    return found[0]


@pytest.mark.parametrize("after", [Verdict(True, "all is as before"), Verdict(None, "too few rows")])
def test_a_failure_that_is_over_is_not_shown(lake, after):
    judged(lake, 0, 1, *_DRIFTED)
    assert shown(lake).frame.height == 2
    judged(lake, 0, 2, after)
    assert shown(lake).frame.is_empty()


def test_who_passed_failed_or_knows_nothing_is_counted_apart(lake):
    judged(lake, 0, 1, *_DRIFTED)
    judged(lake, 1, 1, Verdict(True, "fine"), Verdict(True, "fine", column_name="amount"))
    judged(lake, 2, 1, Verdict(None, "too few rows"))
    judged(lake, 3, 1, Verdict(None, "no such column", error="KeyError"))
    unknown = len(lake.monitors.list()) - 3
    assert shown(lake).heading == f"Monitors: 1 passed, 2 failed, {unknown} not evaluated"


def test_a_failed_verdict_has_window_column_and_slice_the_newest_first(lake):
    name = judged(lake, 0, 1, *_DRIFTED)
    rows = shown(lake).frame
    assert rows.select("monitor", "window", "column", "slice").rows() == [
        (name, "2026-02-22", "method", "country: GB"),
        (name, "2026-02-15", "amount", "country: GB"),
    ]


def test_what_was_said_last_is_shown_whatever_clocks_said(lake):
    judged(lake, 0, 300, *_DRIFTED)
    judged(lake, 0, 2, Verdict(True, "all is as before"))
    assert shown(lake).frame.is_empty()
    judged(lake, 0, 3, *_DRIFTED)
    assert shown(lake).frame.height == 2

"""The page of drift: what alarms, with its threshold and its false-alarm rate; a column that was not tested is none that did not drift."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse_assets import Contract, Full, column, open_lakehouse, table
from lakehouse_assets.platform.monitoring.drift.drift_log import DRIFTS_SCHEMA
from lakehouse_assets.platform.monitoring.drift.thresholds import DOMAIN
from lakehouse_assets.platform.quality.masking import MASK
from lakehouse_assets.settings import Settings
from lakehouse_assets.views import drift
from lakehouse_assets.views.blocks import MUTED_COLOUR, Block, Curves, Figure, Figures, Note, Rows, Text
from lakehouse_assets.views.in_html import Html
from lakehouse_assets_tests.running import tables_of

BEGIN = datetime(2025, 3, 1, tzinfo=UTC)


def row(column: str, day: int = 0, *tests: tuple[str, float, float, float], monitor: str = "m", sequence: int = 1, **more: Any) -> dict:
    """What was measured of a column in the window of a day; tests are metric, value, threshold and false-alarm rate."""
    names = ("metric", "value", "threshold", "false_alarm_rate")
    found = [dict(zip(names, test, strict=True)) | {"exceeded": abs(test[1]) > test[2]} for test in tests]
    about = {"monitor": monitor, "table": "t", "sequence": sequence, "evaluated_at": BEGIN, "window_start": BEGIN + timedelta(days=day)}
    about |= {"column_name": column, "drift_type": "BASELINE", "data_type": None if column == ":table" else "Float64"}
    return about | {"thresholds": found, "drifted": any(one["exceeded"] for one in found) if found else None} | more


def shown(root, rows: list[dict], *asked: str) -> list[Block]:
    """The blocks of the page about these rows."""
    settings = Settings.load({"LAKEHOUSE_ROOT": str(root / "root")})
    table = tables_of(settings).table(drift.DRIFT)
    if not table.exists():
        table.create(DRIFTS_SCHEMA)
        given = pl.DataFrame(rows, schema_overrides=DRIFTS_SCHEMA, infer_schema_length=None)
        missing = [pl.lit(None, dtype).alias(name) for name, dtype in DRIFTS_SCHEMA.items() if name not in given.columns]
        table.append(given.with_columns(missing).select(DRIFTS_SCHEMA.names()))
    return drift.drift(open_lakehouse(settings=settings), "t", *asked)


def rows_of(blocks: list[Block], heading: str) -> pl.DataFrame:
    """The table below a heading."""
    return next(block.frame for block in blocks if isinstance(block, Rows) and block.heading.startswith(heading))


def curves_of(blocks: list[Block]) -> Curves:
    """The chart."""
    return next(block for block in blocks if isinstance(block, Curves))


def figures_of(blocks: list[Block]) -> list[dict[str, str]]:
    """The figures of each monitor."""
    return [{one.label: one.value for one in block.items} for block in blocks if isinstance(block, Figures)]


MOVED = [
    row("amount", 0, ("ks_test", 0.1, 0.2, 0.002), ("percent_null_delta", -1.0, 4.0, 0.002)),
    row("amount", 1, ("ks_test", 0.5, 0.25, 0.002), ("percent_null_delta", -3.0, 4.0, 0.002)),
    row("country", 0, ("js_distance", 0.01, 0.1, 0.002)),
    row("country", 1, ("js_distance", 0.02, 0.1, 0.002)),
    row("country", 1, ("js_distance", 0.4, 0.1, 0.002), slice_key="till", slice_value=None),
    row(":table", 1, (DOMAIN, 0.62, 0.56, 0.01)),
    row("size", 1, schema_change="added", drifted=True),
]


def test_each_alarm_stands_with_its_value_threshold_and_false_alarm_rate(tmp_path):
    blocks = shown(tmp_path, MOVED)
    assert figures_of(blocks)[0]["Windows with an alarm"] == "1"
    alarms = rows_of(blocks, "Alarms")
    day = "2025-03-02 00:00"
    assert set(alarms.rows()) == {
        (day, "amount", None, "Kolmogorov-Smirnov statistic", 0.5, 0.25, "one window in 500", "the baseline"),
        (day, "country", "till is null", "Jensen-Shannon distance", 0.4, 0.1, "one window in 500", "the baseline"),
        (day, "(all columns together)", None, "area under the ROC curve", 0.62, 0.56, "one window in 100", "the baseline"),
        (day, "size", None, "schema: added", None, None, None, "the baseline"),
    }
    newest = rows_of(blocks, "The newest window")
    assert newest.columns == ["column", "alarm", "metric", "value", "threshold", "false-alarm rate"]
    assert set(newest.select("column", "alarm", "value").rows()) == {
        ("amount", "yes", 0.5),
        ("amount", "no", -3.0),
        ("country", "no", 0.02),
        ("(all columns together)", "yes", 0.62),
        ("size", "yes", None),
    }


def test_values_that_came_and_went_are_named_beside_the_alarm(tmp_path):
    items = [{"item": f"s{at}", "count": 9} for at in range(5)]
    gone = row("station", 0, ("vanished_items", 40.0, 15.0, 1e-5), vanished_items=items[:1])
    came = row("kind", 0, ("js_distance", 0.5, 0.1, 0.002), unseen_items=items)
    alarms = rows_of(shown(tmp_path, [gone, came]), "Alarms").sort("column")
    assert alarms.select("column", "value", "threshold", "new values", "values without a row").rows() == [
        ("kind", 0.5, 0.1, "s0, s1, s2 …", None),
        ("station", 40.0, 15.0, None, "s0"),
    ]


def test_the_chart_has_the_threshold_as_a_line_and_marks_windows_beyond_it(tmp_path):
    chart = curves_of(shown(tmp_path, MOVED))
    assert (chart.limit, list(chart.limits)) == ("threshold", ["threshold"])
    assert chart.limits["threshold"]["limit"].to_list() == [1.0, 1.0]
    found = {(line, round(value, 2)) for line, value in chart.beyond.select("line", "value").iter_rows()}
    assert found == {("amount", 2.0), ("(all columns together)", 2.0)}
    assert "threshold" in chart.marks
    assert "beyond the threshold" in chart.marks
    own = curves_of(shown(tmp_path, MOVED, "amount", "Kolmogorov-Smirnov statistic"))
    assert own.limits["threshold"]["limit"].to_list() == [0.2, 0.25]
    assert own.beyond["value"].to_list() == [0.5]
    nulls = curves_of(shown(tmp_path, MOVED, drift.ANY, "change of the share of nulls, in points"))
    assert nulls.frame["value"].to_list() == [1.0, 3.0]
    assert nulls.beyond.is_empty()


@pytest.mark.parametrize("metric", drift.METRICS)
def test_every_metric_is_drawn_or_said_to_be_none(tmp_path, metric):
    rows = [one | dict.fromkeys(drift.UNTESTED.values(), 0.3) for one in MOVED]
    chart = next(block for block in shown(tmp_path, rows, drift.ANY, metric) if isinstance(block, Curves | Note))
    drawn = chart.drawn_by(Html())
    if isinstance(chart, Note):
        assert metric in {"change of the share of NaN, in points", "expected rows of a value without any"}
    elif metric in drift.UNTESTED:
        assert "has no threshold" in chart.heading
        assert not chart.marks
    else:
        assert "Dashed: the threshold" in chart.caption
        assert chart.caption in drawn
        assert metric in drawn


def test_a_window_that_came_back_to_the_baseline_is_no_alarm(tmp_path):
    back = row("amount", 1, ("ks_test", 0.6, 0.3, 0.002), drift_type="CONSECUTIVE")
    assert rows_of(shown(tmp_path, [row("amount", 1, ("ks_test", 0.1, 0.2, 0.002)), back]), "Alarms").is_empty()


class Guest(Contract):
    """A guest."""

    age: int = column(nullable=True, personal=True)
    nights: int = column(nullable=True)


@table("hotel.silver.guests", contract=Guest, kind=Full(), inputs={"rows": "hotel.bronze.guests"})
def guests(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Guests."""
    return rows


def test_a_masked_number_is_not_missing(tmp_path):
    lake = open_lakehouse(tmp_path / "root", declarations=(guests,), notice=lambda _: None)
    rows = pl.DataFrame({"age": [31, 32, None, 34], "nights": [1, 2, None, 2]}, schema=dict(guests.schema))
    stored = tables_of(lake.settings).table(guests.name)
    stored.create(rows.schema)
    stored.append(rows)
    (block,) = drift.profile(lake, guests.name)
    assert isinstance(block, Rows)
    assert block.frame.to_dicts() == [
        {"column": "age", "type": "Int64", "missing (%)": 25.0, "distinct (about)": None, "min": MASK, "mean": None, "max": MASK},
        {"column": "nights", "type": "Int64", "missing (%)": 25.0, "distinct (about)": 2, "min": "1", "mean": 1.667, "max": "2"},
    ]


def test_columns_that_are_not_tested_stand_apart_with_the_reason_and_in_no_chart(tmp_path):
    rows = [
        one
        for day in range(2)
        for one in (
            row("amount", day, ("ks_test", 0.1, 0.2, 0.002)),
            row("counter", day, not_tested="it moves with time"),
            row("young", day, not_tested=None),
        )
    ]
    blocks = shown(tmp_path, rows)
    assert figures_of(blocks)[0]["Columns tested"] == "1"
    assert curves_of(blocks).lines == ["amount"]
    assert rows_of(blocks, "The newest window")["column"].to_list() == ["amount"]
    assert rows_of(blocks, "Not tested").rows() == [("counter", "it moves with time"), ("young", "it has no threshold yet")]


def test_monitors_stand_apart_and_a_window_counts_as_it_was_measured_last_unless_its_rows_went(tmp_path):
    bad, good = ("ks_test", 0.5, 0.2, 0.002), ("ks_test", 0.1, 0.2, 0.002)
    rows = [
        row("amount", 0, bad, monitor="a", sequence=1, evaluated_at=BEGIN + timedelta(hours=9)),
        row("amount", 0, good, monitor="a", sequence=2, evaluated_at=BEGIN + timedelta(hours=1)),  # by a clock that went back
        row("amount", 1, bad, monitor="a", sequence=3),
        row(":table", 1, monitor="a", sequence=4, drift_type=None),  # its rows went
        row("amount", 0, bad, monitor="b", sequence=5),
    ]
    blocks = shown(tmp_path, rows)
    assert [block.markdown for block in blocks if isinstance(block, Text)] == ["### a", "### b"]
    figures = figures_of(blocks)
    assert [one["Columns that drifted in it"] for one in figures] == ["0", "1"]
    assert {one["Newest window"] for one in figures} == {str(BEGIN)[:16]}


def year(*columns: str, alarm: int | None = None, **more: Any) -> list[dict]:
    """300 windows of columns that differ in how far they are from the threshold; the last of them may alarm on a day."""
    moved = {column: 0.01 * (1 + number) for number, column in enumerate(columns)}
    return [
        row(column, day, ("ks_test", 0.5 if day == alarm and column == columns[-1] else by, 0.2, 0.002), **more)
        for column, by in moved.items()
        for day in range(300)
    ]


def test_of_many_windows_and_columns_the_newest_and_the_farthest_can_be_read(tmp_path):
    blocks = shown(tmp_path, [*year(*"abcdefg"), *year("key", not_tested="it is a key")])
    chart = curves_of(blocks)
    assert chart.frame["at"].unique().sort().to_list() == [BEGIN + timedelta(days=day) for day in range(240, 300)]
    assert (set(chart.named), set(chart.muted)) == ({"e", "f", "g"}, {"a", "b", "c", "d"})
    assert "The newest 60 of 300 windows" in chart.caption
    assert "Grey: 4 more columns." in chart.caption
    drawn = chart.drawn_by(Html())
    assert chart.caption in drawn
    assert MUTED_COLOUR in drawn
    one = curves_of(shown(tmp_path, [], "g"))
    assert (one.frame.height, one.muted, one.has_points) == (300, (), False)


def test_a_column_that_is_not_tested_stands_in_chart_and_table_only_where_it_alarmed(tmp_path):
    rows = [*year("a"), *year("key", not_tested="it is a key"), *year("id", alarm=298, not_tested="it is a key")]
    blocks = shown(tmp_path, rows)
    assert set(curves_of(blocks).lines) == {"a", "id"}
    assert rows_of(blocks, "The newest window")["column"].to_list() == ["a"]
    assert figures_of(blocks)[0]["Columns tested"] == "1"


@pytest.mark.parametrize(
    ("alarm", "tone", "said"), [(299, "bad", "b"), (290, "warn", "in 1 of the newest 14 windows: b"), (9, "good", "none")]
)
def test_a_quiet_newest_window_is_not_well_where_windows_before_it_alarmed(tmp_path, alarm, tone, said):
    figures = next(block for block in shown(tmp_path, year("a", "b", alarm=alarm)) if isinstance(block, Figures))
    drifted = next(one for one in figures.items if one.label.startswith("Columns that drifted"))
    assert drifted.tone == tone
    assert said in drifted.note


def test_what_the_monitor_says_now_stands_first():
    assert drift._state({"state": "failed", "severity": "error"}) == Figure("The monitor", "failed", "error", "bad")
    assert drift._state({"state": "failed", "severity": "warn"}).tone == "warn"
    assert drift._state({"state": "passed", "severity": "error"}) == Figure("The monitor", "passed", "", "good")


def test_the_axis_is_labelled_at_begins_of_windows(tmp_path):
    weeks = [row("amount", 7 * week, ("ks_test", 0.1, 0.2, 0.002)) for week in range(23)]
    chart = curves_of(shown(tmp_path, weeks))
    assert set(chart.ticks) <= set(chart.frame["at"])
    assert chart.ticks[-1] == BEGIN + timedelta(weeks=22)
    assert 5 < len(chart.ticks) <= 10
    drawn = chart.drawn_by(Html())
    assert all(f"{at:%d %b %y}" in drawn for at in chart.ticks)

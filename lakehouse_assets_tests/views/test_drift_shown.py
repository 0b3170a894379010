"""A column that was not tested is no column that did not drift."""

from datetime import UTC, datetime, timedelta

import polars as pl

from lakehouse_assets import Contract, Full, column, open_lakehouse, table
from lakehouse_assets.platform.quality.masking import MASK
from lakehouse_assets.settings import Settings
from lakehouse_assets.views import drift
from lakehouse_assets.views.blocks import Curves, Figures, Rows, Text
from lakehouse_assets_tests.running import tables_of
from lakehouse_assets_tests.views.prepared import DRIFT_SCHEMA


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
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "root")})
    begin = datetime(2025, 3, 1, tzinfo=UTC)
    said = (("amount", False, None), ("counter", None, "it moves with time"), ("young", None, None))
    rows = [
        {
            "monitor": "m",
            "table": "t",
            "evaluated_at": begin,
            "window_start": begin + timedelta(days=day),
            "column_name": column,
            "drift_type": "BASELINE",
            "population_stability_index": 0.1,
            "drifted": drifted,
            "not_tested": why,
        }
        for day in range(2)
        for column, drifted, why in said
    ]
    table = tables_of(settings).table(drift.DRIFT)
    table.create(pl.Schema(DRIFT_SCHEMA))
    table.append(pl.DataFrame(rows, schema=DRIFT_SCHEMA))
    figures, curves, newest, apart = drift.drift(open_lakehouse(settings=settings), "t")
    assert isinstance(figures, Figures)
    assert {one.label: one.value for one in figures.items}["Columns tested"] == "1"
    assert isinstance(curves, Curves)
    assert curves.lines == ["amount"]
    assert isinstance(newest, Rows)
    assert newest.frame["column"].to_list() == ["amount"]
    assert isinstance(apart, Rows)
    assert apart.frame.rows() == [("counter", "it moves with time"), ("young", "it has no threshold yet")]


def test_monitors_stand_apart_and_a_window_counts_as_it_was_measured_last_unless_its_rows_went(tmp_path):
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "root")})
    begin = datetime(2025, 3, 1, tzinfo=UTC)
    schema = pl.Schema({**DRIFT_SCHEMA, "sequence": pl.Int64})

    def row(monitor: str, sequence: int, clock: int, day: int, *, drifted: bool | None, column: str = "amount") -> dict:
        about = {"monitor": monitor, "table": "t", "sequence": sequence, "evaluated_at": begin + timedelta(hours=clock)}
        about |= {"window_start": begin + timedelta(days=day), "column_name": column, "population_stability_index": 0.1}
        return about | {"drifted": drifted, "drift_type": None if column == ":table" else "BASELINE"}

    rows = [
        row("a", 1, 9, 0, drifted=True),
        row("a", 2, 1, 0, drifted=False),  # by a clock that went back
        row("a", 3, 1, 1, drifted=True),
        row("a", 4, 1, 1, drifted=None, column=":table"),  # its rows went
        row("b", 5, 1, 0, drifted=True),
    ]
    table = tables_of(settings).table(drift.DRIFT)
    table.create(schema)
    table.append(pl.DataFrame(rows, schema=schema))
    shown = drift.drift(open_lakehouse(settings=settings), "t")
    assert [block.markdown for block in shown if isinstance(block, Text)] == ["### a", "### b"]
    figures = [{one.label: one.value for one in block.items} for block in shown if isinstance(block, Figures)]
    assert [one["Columns that drifted"] for one in figures] == ["0", "1"]
    assert {one["Newest window"] for one in figures} == {str(begin)[:16]}

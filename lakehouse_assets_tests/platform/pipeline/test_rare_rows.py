"""Rows that are rare, and that each kind has to get right all the same: the table stays what a full refresh gives, and nothing is lost."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.change_kinds import SCD2
from lakehouse_assets.platform.declarations.computed_kinds import ByKey, Trailing
from lakehouse_assets.platform.declarations.row_kinds import Append, Upsert
from lakehouse_assets.platform.declarations.tables import Dimension, TableDeclaration, table
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column
from lakehouse_assets.platform.storage.commit import Commit
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.replace import replace as replace_rows
from lakehouse_assets.platform.storage.scopes import Everything

SOURCE, OTHER, TARGET = "shop.bronze.rows", "shop.silver.codes", "shop.silver.things"


@pytest.fixture
def lakehouse(tmp_path) -> Lakehouse:
    return Lakehouse(str(tmp_path))


def put(lakehouse: Lakehouse, name: str, frame: pl.DataFrame) -> None:
    """Let a table have these rows and no others."""
    lakehouse.table(name).create(frame.schema)
    replace_rows(lakehouse.table(name), frame, Everything(), (), Commit())


def run(lakehouse: Lakehouse, declaration: TableDeclaration, *, fully: bool = False) -> tuple[list[tuple], list[tuple]]:
    """The rows of the table and of its quarantine after a refresh, without the columns that begin with `_`."""
    refresh = Refresh(declaration, lakehouse, "run")
    _ = full_refresh(refresh) if fully else refresh.run()
    names = list(declaration.contract.to_schema().columns)
    frames = [lakehouse.table(name).scan().select(names).collect() for name in declaration.outputs()]
    return tuple(sorted(frame.rows(), key=repr) for frame in frames)  # type: ignore[return-value]


class Seen(Contract):
    key: str = column(key=True)
    value: int


def test_append_keeps_the_first_row_of_a_key_whichever_file_is_read_first(lakehouse):
    declaration = table(TARGET, contract=Seen, kind=Append(), inputs={"rows": SOURCE})(lambda rows: rows)
    lines = pl.DataFrame({"key": ["a", "a"], "value": [1, 2], "_sequence": [1, 2], "_row": [1, 1]})
    lakehouse.table(SOURCE).create(lines.schema)
    for number in range(2):
        lakehouse.table(SOURCE).append(lines[number : number + 1])
    assert run(lakehouse, declaration) == ([("a", 1)], [("a", 2)])
    lakehouse.table(SOURCE).append(pl.DataFrame({"key": ["a"], "value": [3], "_sequence": [3], "_row": [1]}))
    assert run(lakehouse, declaration) == run(lakehouse, declaration, fully=True) == ([("a", 1)], [("a", 2), ("a", 3)])


def test_append_with_a_key_needs_rows_that_have_an_order():
    silver = table(OTHER, contract=Seen, kind=ByKey("key"), inputs={"rows": SOURCE})(lambda rows: rows)
    keyed = table(TARGET, contract=Seen, kind=Append(), inputs={"rows": OTHER})(lambda rows: rows)
    with pytest.raises(DeclarationError, match=f"{TARGET}: of two rows with one key .* use Upsert or ByKey"):
        Catalog((silver, keyed), frozenset({SOURCE}))


class Found(Contract):
    place: int = column(key=True)
    value: int


class FoundOnce(Contract):
    place: int = column(key=True)
    value: int = column(key=True)
    valid_from: Timestamp
    is_deleted: bool


@pytest.mark.parametrize(
    ("contract", "kind"),
    [(Found, Upsert(("place",), newest_by="value")), (FoundOnce, SCD2(("place",), "value"))],
    ids=["Upsert", "SCD2"],
)
def test_a_key_that_is_looked_up_takes_its_rows_into_the_quarantine_and_out_of_it(lakehouse, contract, kind):
    def found(rows: pl.LazyFrame, codes: pl.LazyFrame) -> pl.LazyFrame:
        moment = pl.datetime(2026, 1, 1, time_unit="us", time_zone="UTC")
        both = rows.join(codes, on="code", how="left").with_columns(valid_from=moment, is_deleted=pl.lit(value=False))
        return both.select(*contract.to_schema().columns)

    looked_up = {"codes": Dimension(OTHER, key="code")}
    declaration = table(TARGET, contract=contract, kind=kind, inputs={"rows": SOURCE}, dimensions=looked_up)(found)
    put(lakehouse, SOURCE, pl.DataFrame({"code": ["x", "y"], "value": [5, 6]}))
    for codes in ({"x": 10}, {"x": 10, "y": 20}, {"y": 20}, {}, {"y": 30}):
        put(lakehouse, OTHER, pl.DataFrame({"code": list(codes), "place": list(codes.values())}, schema={"code": str, "place": pl.Int64}))
        stored, waiting = ([row[:2] for row in rows] for rows in run(lakehouse, declaration))
        values = {"x": 5, "y": 6}
        assert stored == sorted((place, values[code]) for code, place in codes.items())
        assert waiting == sorted((None, value) for code, value in values.items() if code not in codes)


class Day(Contract):
    day: date = column(key=True)
    total: int


@pytest.mark.parametrize("first", [date(1, 1, 1), date(1, 1, 5)])
def test_trailing_looks_back_no_further_than_there_are_dates(lakehouse, first):
    def week(rows: pl.LazyFrame) -> pl.LazyFrame:
        days = rows.group_by("day").agg(pl.col("amount").sum()).sort("day")
        return days.select("day", pl.col("amount").rolling_sum_by("day", "7d").alias("total"))

    declaration = table(TARGET, contract=Day, kind=Trailing("day", timedelta(days=7)), inputs={"rows": SOURCE})(week)
    days = [date(2026, 1, 1), first, date(2026, 1, 2), None]
    for number in range(len(days)):
        put(
            lakehouse,
            SOURCE,
            pl.DataFrame({"day": days[: number + 1], "amount": [1] * (number + 1)}, schema={"day": pl.Date, "amount": pl.Int64}),
        )
        assert run(lakehouse, declaration) == run(lakehouse, declaration, fully=True)


class Area(Contract):
    meter: str = column(key=True)
    area: str = column(nullable=True)


class ByArea(Contract):
    meter: str = column(key=True)
    area: str = column(key=True)


def test_a_full_refresh_to_another_key_leaves_no_row_that_the_new_key_does_not_know(lakehouse):
    by_meter = table(TARGET, contract=Area, kind=ByKey("meter"), inputs={"rows": SOURCE})(lambda rows: rows)
    by_area = replace(by_meter, contract=ByArea, function=lambda rows: rows.with_columns(pl.col("area").fill_null("unknown")))
    put(lakehouse, SOURCE, pl.DataFrame({"meter": ["m1", "m2"], "area": ["east", None]}))
    run(lakehouse, by_meter)
    assert run(lakehouse, by_area, fully=True) == ([("m1", "east"), ("m2", "unknown")], [])
    assert run(lakehouse, by_area)[0] == [("m1", "east"), ("m2", "unknown")]


def test_a_replay_does_not_undo_an_equally_new_row_of_a_later_file(lakehouse):
    from lakehouse_assets.platform.pipeline.replay import Replays
    from lakehouse_assets.platform.pipeline.selection import Selection

    class Stock(Contract):
        key: str = column(key=True)
        at: int
        value: int = column(nullable=True, ge=0)

    def stock(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.with_columns(pl.col("value").cast(pl.Int64))

    declaration = table(TARGET, contract=Stock, kind=Upsert(("key",), newest_by="at"), inputs={"rows": SOURCE})(stock)
    values: dict[str, Any] = {"key": ["a", "a"], "at": [5, 5], "value": ["-1", "7"], "_file": ["1.csv", "2.csv"], "_sequence": [1, 2]}
    put(lakehouse, SOURCE, pl.DataFrame(values | {"_row": [1, 1]}))
    assert run(lakehouse, declaration) == ([("a", 5, 7)], [("a", 5, -1)])
    Replays(declaration, lakehouse, "replay").run(Selection(sets={"value": "'10'"}))
    assert lakehouse.table(TARGET).scan().select("value").collect().item() == 7
    assert run(lakehouse, declaration, fully=True)[0] == [("a", 5, 7)]

"""Whatever happened to the sources and however it was cut into batches, a table ends as if it had been worked out at once."""

import tempfile
from dataclasses import replace
from datetime import date, timedelta
from itertools import accumulate
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.declarations.row_kinds import Append
from lakehouse_assets.platform.declarations.tables import TableDeclaration, table
from lakehouse_assets.platform.pipeline.refresh import Refresh, Refreshed
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.quality.contract import Contract, column
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

SCHEMA = pl.Schema({"day": pl.Date(), "id": pl.Int64(), "amount": pl.Int64()})
FIRST = date(2024, 1, 1)


class Sale(Contract, max_bad_share=1.0):
    """A sale."""

    id: int = column(key=True)
    day: date
    amount: int = column(ge=0)


class Total(Contract):
    """What was sold up to the end of a day."""

    day: date = column(key=True)
    amount: int


class OfDay(Contract):
    """What was sold on a day."""

    day: date = column(key=True)
    amount: int


@table("shop.silver.sales", contract=Sale, reads={"rows": Changes("shop.bronze.sales")}, write=Merge(on=("id",), newest_by="amount"))
def sales(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales."""
    return rows


@table("shop.silver.all_sales", contract=Sale, reads={"rows": Changes("shop.bronze.sales")}, write=Append())
def appended(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales, one below the other."""
    return rows


@table("shop.gold.days", contract=OfDay, reads={"rows": Touched("shop.silver.sales", by="day")}, write=Merge(on=("day",)))
def days(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales by day."""
    return rows.group_by("day").agg(pl.col("amount").sum())


@table("shop.gold.totals", contract=Total, reads={"rows": Since("shop.gold.days", by="day")}, write=Merge(on=("day",)))
def totals(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales up to each day."""
    return rows.sort("day").with_columns(pl.col("amount").cum_sum())


TABLES = (sales, days, totals)


def opened(folder: str) -> Lakehouse:
    lakehouse = Lakehouse(folder)
    lakehouse.table("shop.bronze.sales").create(SCHEMA)
    return lakehouse


@pytest.fixture
def shop(tmp_path):
    return opened(str(tmp_path))


def frame(*rows: tuple[int, int, int]) -> pl.DataFrame:
    return pl.DataFrame([(FIRST + timedelta(days=day), id_, amount) for day, id_, amount in rows], schema=SCHEMA, orient="row")


def land(shop: Lakehouse, *rows: tuple[int, int, int]) -> None:
    shop.table("shop.bronze.sales").append(frame(*rows))


def refresh(shop: Lakehouse, asset: TableDeclaration, batch_rows: int = 1_000_000) -> Refreshed:
    return Refresh(asset, shop, "run", lambda _: None, batch_rows).run()


def rows_of(shop: Lakehouse, asset: TableDeclaration) -> list[tuple]:
    return sorted(shop.table(asset.name).scan().select(list(asset.schema)).collect().rows())


ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), st.integers(-1, 4)), min_size=1, max_size=4, unique_by=lambda row: row[1])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("land"), ROWS),
        st.tuples(st.just("take away"), st.integers(0, 8)),
        st.tuples(st.just("compact"), st.sampled_from(["shop.bronze.sales", *(asset.name for asset in TABLES)])),
        st.tuples(st.just("refresh"), st.integers(1, 10)),
    ),
    min_size=2,
    max_size=8,
)


def take(shop: Lakehouse, landed: list[tuple[int, int, int]], number: int, name: str, what: Any) -> list[tuple[int, int, int]]:
    """Do one step; the rows that are landed after it."""
    match name:
        case "land":
            rows = [(day, id_, amount + 10 * number * (amount >= 0)) for day, id_, amount in what]
            land(shop, *rows)
            return landed + rows
        case "take away":
            shop.table("shop.bronze.sales").delta().delete(f"id = {what}")
            return [row for row in landed if row[1] != what]
        case "compact":
            if shop.table(what).exists():
                shop.table(what).delta().optimize.compact()
        case "refresh":
            for asset in TABLES:
                refresh(shop, asset, what)
    return landed


@settings(max_examples=12, deadline=None)
@given(STEPS)
def test_any_history_gives_the_table_that_one_reading_gives(steps):
    with tempfile.TemporaryDirectory() as folder:
        shop = opened(folder)
        landed: list[tuple[int, int, int]] = []
        for number, (name, what) in enumerate([*steps, ("refresh", 2)]):
            landed = take(shop, landed, number, name, what)
        # What lands later has the larger amounts.
        held: dict[int, tuple[int, int]] = {}
        for day, id_, amount in landed:
            if amount >= max(held.get(id_, (0, 0))[1], 0):
                held[id_] = (day, amount)
        assert rows_of(shop, sales) == sorted((id_, FIRST + timedelta(days=day), amount) for id_, (day, amount) in held.items())
        by_day = {day: sum(amount for at, amount in held.values() if at == day) for day, _ in held.values()}
        assert rows_of(shop, days) == [(FIRST + timedelta(days=day), by_day[day]) for day in sorted(by_day)]
        up_to = accumulate(by_day[day] for day in sorted(by_day))
        assert [amount for _, amount in rows_of(shop, totals)] == list(up_to)
        assert shop.table("shop.silver.sales__quarantine").count() == sum(amount < 0 for _, _, amount in landed)
        for asset in TABLES:
            assert refresh(shop, asset).batches == 0


def test_rows_that_went_from_the_source_go_from_what_was_made_of_them(shop):
    land(shop, (0, 1, 5), (1, 2, 7), (1, 3, -1))
    for asset in (*TABLES, appended):
        refresh(shop, asset)
    shop.table("shop.bronze.sales").delta().delete("id IN (2, 3)")
    for asset in (*TABLES, appended):
        refresh(shop, asset)
    assert rows_of(shop, sales) == rows_of(shop, appended) == [(1, FIRST, 5)]
    assert rows_of(shop, days) == rows_of(shop, totals) == [(FIRST, 5)]
    assert shop.table("shop.silver.sales__quarantine").count() == 0


def test_a_rebuild_after_lost_rows_rewrites_only_what_differs(shop):
    land(shop, (0, 1, 5), (1, 2, 7))
    refresh(shop, sales)
    before = shop.table(sales.name).version()
    shop.table("shop.bronze.sales").delta().delete("id = 2")
    refresh(shop, sales)
    changed = shop.table(sales.name)._change_feed(before, shop.table(sales.name).version()).collect()
    assert changed.select("id", "_change_type").rows() == [(2, "delete")]


def test_compaction_of_a_source_wakes_no_reader(shop):
    for number in range(3):
        land(shop, (number, number, 1))
    for asset in TABLES:
        refresh(shop, asset)
    versions = {asset.name: shop.table(asset.name).version() for asset in TABLES}
    for name in ("shop.bronze.sales", *versions):
        shop.table(name).delta().optimize.compact()
        shop.table(name).delta().create_checkpoint()
    for asset in TABLES:
        step = Refresh(asset, shop, "run", lambda _: None)
        assert step.pending() == []
        assert step.run().batches == 0
    land(shop, (4, 4, 1))
    for asset in TABLES:
        assert refresh(shop, asset).batches == 1
    assert rows_of(shop, totals)[-1] == (FIRST + timedelta(days=4), 4)


def test_much_that_waits_is_read_a_part_at_a_time(shop):
    for number in range(10):
        land(shop, *((day, number * 10 + day, 1) for day in range(4)))
    done = refresh(shop, sales, batch_rows=12)
    assert done.account == RowAccount(40, 40)
    assert done.batches == 4
    found = {evidence.rule.name: (evidence.rows_in, evidence.broken) for evidence in done.evidence}
    assert found["amount_ge"] == (40, 0), "one for each rule, over all batches"
    assert len(found) == len(done.evidence)
    assert refresh(shop, appended, batch_rows=1).batches == 10
    land(shop, (0, 0, 2), (0, 100, 2))
    assert refresh(shop, sales, batch_rows=1).account == RowAccount(2, 1, 1)


def test_what_looks_back_is_worked_out_from_the_first_change_on(shop):
    land(shop, (0, 1, 1), (1, 2, 2), (2, 3, 3))
    for asset in TABLES:
        refresh(shop, asset)
    land(shop, (1, 4, 10))
    for asset in TABLES[:2]:
        refresh(shop, asset)
    assert refresh(shop, totals).account == RowAccount(2, 0, 2), "the first day cannot have changed and is not looked at"
    assert [amount for _, amount in rows_of(shop, totals)] == [1, 13, 16]


def test_a_group_that_ends_leaves_the_table(shop):
    land(shop, (0, 1, 5))
    for asset in TABLES:
        refresh(shop, asset)
    land(shop, (1, 1, 6))
    for asset in TABLES[:2]:
        refresh(shop, asset)
    assert rows_of(shop, days) == [(FIRST + timedelta(days=1), 6)]


def test_a_rebuild_takes_out_what_the_function_does_not_make_any_more(shop):
    land(shop, (0, 1, 5), (1, 2, 7))
    refresh(shop, sales)

    def fewer(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.filter(pl.col("id") == 1)

    Refresh(replace(sales, function=fewer, row_for_row=False), shop, "run", lambda _: None).rebuild()
    assert rows_of(shop, sales) == [(1, FIRST, 5)]


def test_a_rebuild_that_died_after_the_quarantine_is_taken_up_though_no_source_moved(shop, monkeypatch):
    land(shop, (0, 1, 5), (1, 2, 7))
    refresh(shop, sales)

    class Strict(Sale):
        """A sale of more than five."""

        amount: int = column(gt=5)

    stricter = Refresh(replace(sales, contract=Strict), shop, "run", lambda _: None)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Refresh, "_write", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        stricter.rebuild()
    assert shop.table("shop.silver.sales__quarantine").count() == 1
    assert stricter.pending() == ["shop.silver.sales__quarantine"]
    assert stricter.run().batches == 1
    assert rows_of(shop, sales) == [(2, FIRST + timedelta(days=1), 7)]
    assert shop.table("shop.silver.sales__quarantine").count() == 1
    assert stricter.pending() == []
    assert stricter.run().batches == 0


def test_what_looks_back_also_fills_the_gap_before_the_first_change(shop):
    @table("shop.gold.every_day", contract=Total, reads={"rows": Since("shop.gold.days", by="day")}, write=Merge(on=("day",)))
    def every_day(rows: pl.LazyFrame) -> pl.LazyFrame:
        all_days = rows.select(pl.date_range(pl.col("day").min(), pl.col("day").max()).alias("day"))
        return all_days.join(rows, on="day", how="left").sort("day").with_columns(pl.col("amount").fill_null(0).cum_sum())

    for day in (0, 3):
        land(shop, (day, day, 5))
        for asset in (sales, days, every_day):
            refresh(shop, asset)
    assert [amount for _, amount in rows_of(shop, every_day)] == [5, 5, 5, 10]

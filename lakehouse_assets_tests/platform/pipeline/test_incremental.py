"""Whatever happened to the sources and however it was cut into batches, a table ends as if it had been computed at once.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

import tempfile
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.declarations.computed_kinds import ByKey, Trailing
from lakehouse_assets.platform.declarations.row_kinds import Append, Upsert
from lakehouse_assets.platform.declarations.tables import TableDeclaration, table
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.refresh import Refresh, Refreshed
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.quality.contract import Contract, column
from lakehouse_assets.platform.storage import evolution
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.source import Source
from lakehouse_assets_tests import sweeps

SCHEMA = pl.Schema({"day": pl.Date(), "id": pl.Int64(), "amount": pl.Int64()})
FIRST = date(2024, 1, 1)


class Sale(Contract, max_bad_share=1.0):
    """A sale."""

    id: int = column(key=True)
    day: date
    amount: int = column(ge=0)


class Total(Contract):
    """What was sold on a day and the two before."""

    day: date = column(key=True)
    amount: int


class OfDay(Contract):
    """What was sold on a day."""

    day: date = column(key=True)
    amount: int


@table("shop.silver.sales", contract=Sale, kind=Upsert(("id",), newest_by="amount"), inputs={"rows": "shop.bronze.sales"})
def sales(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales."""
    return rows


@table("shop.silver.all_sales", contract=Sale, kind=Append(), inputs={"rows": "shop.bronze.sales"})
def appended(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales, one below the other."""
    return rows


@table("shop.gold.days", contract=OfDay, kind=ByKey("day"), inputs={"rows": "shop.silver.sales"})
def days(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales by day."""
    return rows.group_by("day").agg(pl.col("amount").sum())


TRAILING = Trailing("day", lookback=timedelta(days=2))


@table("shop.gold.totals", contract=Total, kind=TRAILING, inputs={"rows": "shop.gold.days"})
def totals(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales of each day and the two before."""
    return rows.sort("day").rolling("day", period="3d").agg(pl.col("amount").sum())


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


def refresh(shop: Lakehouse, declaration: TableDeclaration, batch_rows: int = 1_000_000) -> Refreshed:
    return Refresh(declaration, shop, "run", batch_rows=batch_rows).run()


def rows_of(shop: Lakehouse, declaration: TableDeclaration) -> list[tuple]:
    return sorted(shop.table(declaration.name).scan().select(list(declaration.schema)).collect().rows())


ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), st.integers(-1, 4)), min_size=1, max_size=4, unique_by=lambda row: row[1])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("land"), ROWS),
        st.tuples(st.just("take away"), st.integers(0, 8)),
        st.tuples(st.just("compact"), st.sampled_from(["shop.bronze.sales", *(declaration.name for declaration in TABLES)])),
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
            for declaration in TABLES:
                refresh(shop, declaration, what)
    return landed


@sweeps.examples(8, 60)
@given(STEPS)
def test_any_history_gives_the_table_that_one_computation_gives(steps):
    with tempfile.TemporaryDirectory() as folder:
        shop = opened(folder)
        landed: list[tuple[int, int, int]] = []
        for number, (name, what) in enumerate([*steps, ("refresh", 2)]):
            landed = take(shop, landed, number, name, what)
        # What lands later has the larger amounts.
        newest: dict[int, tuple[int, int]] = {}
        for day, id_, amount in landed:
            if amount >= max(newest.get(id_, (0, 0))[1], 0):
                newest[id_] = (day, amount)
        assert rows_of(shop, sales) == sorted((id_, FIRST + timedelta(days=day), amount) for id_, (day, amount) in newest.items())
        by_day = {day: sum(amount for at, amount in newest.values() if at == day) for day, _ in newest.values()}
        assert rows_of(shop, days) == [(FIRST + timedelta(days=day), by_day[day]) for day in sorted(by_day)]
        last_three = [sum(by_day.get(day - ago, 0) for ago in range(3)) for day in sorted(by_day)]
        assert [amount for _, amount in rows_of(shop, totals)] == last_three
        assert shop.table("shop.silver.sales__quarantine").count() == sum(amount < 0 for _, _, amount in landed)
        for declaration in TABLES:
            assert refresh(shop, declaration).batches == 0


def test_rows_that_went_from_the_source_go_from_its_readers_and_their_quarantine(shop):
    land(shop, (0, 1, 5), (1, 2, 7), (1, 3, -1))
    for declaration in (*TABLES, appended):
        refresh(shop, declaration)
    shop.table("shop.bronze.sales").delta().delete("id IN (2, 3)")
    for declaration in (*TABLES, appended):
        refresh(shop, declaration)
    assert rows_of(shop, sales) == rows_of(shop, appended) == [(1, FIRST, 5)]
    assert rows_of(shop, days) == rows_of(shop, totals) == [(FIRST, 5)]
    assert shop.table("shop.silver.sales__quarantine").count() == 0


def test_rows_that_went_from_the_source_are_the_only_ones_written(shop):
    land(shop, (0, 1, 5), (1, 2, 7))
    refresh(shop, sales)
    before = shop.table(sales.name).version()
    shop.table("shop.bronze.sales").delta().delete("id = 2")
    refresh(shop, sales)
    changed = Source(shop.table(sales.name), before, shop.table(sales.name).version())
    assert changed.went().collect().select("id").rows() == [(2,)]
    assert changed.came().collect().is_empty()


def test_compaction_of_a_source_gives_its_readers_nothing_to_do(shop):
    for number in range(3):
        land(shop, (number, number, 1))
    for declaration in TABLES:
        refresh(shop, declaration)
    versions = {declaration.name: shop.table(declaration.name).version() for declaration in TABLES}
    for name in ("shop.bronze.sales", *versions):
        shop.table(name).delta().optimize.compact()
        shop.table(name).delta().create_checkpoint()
    for declaration in TABLES:
        step = Refresh(declaration, shop, "run")
        assert step.pending() == []
        assert step.run().batches == 0
    land(shop, (4, 4, 1))
    for declaration in TABLES:
        assert refresh(shop, declaration).batches == 1
    assert rows_of(shop, totals)[-1] == (FIRST + timedelta(days=4), 2)


def test_a_long_backlog_is_read_in_batches(shop):
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


def test_a_trailing_table_is_computed_from_the_first_change_on(shop):
    land(shop, (0, 1, 1), (1, 2, 2), (2, 3, 3))
    for declaration in TABLES:
        refresh(shop, declaration)
    land(shop, (1, 4, 10))
    for declaration in TABLES[:2]:
        refresh(shop, declaration)
    assert refresh(shop, totals).account == RowAccount(None, 0, 2), "the first day cannot have changed"
    assert [amount for _, amount in rows_of(shop, totals)] == [1, 13, 16]


def test_a_group_that_ends_leaves_the_table(shop):
    land(shop, (0, 1, 5))
    for declaration in TABLES:
        refresh(shop, declaration)
    land(shop, (1, 1, 6))
    for declaration in TABLES[:2]:
        refresh(shop, declaration)
    assert rows_of(shop, days) == [(FIRST + timedelta(days=1), 6)]


def test_a_full_refresh_takes_out_what_the_function_does_not_return_any_more(shop):
    land(shop, (0, 1, 5), (1, 2, 7))
    refresh(shop, sales)

    def fewer(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.filter(pl.col("id") == 1)

    full_refresh(Refresh(replace(sales, function=fewer, row_for_row=False), shop, "run"))
    assert rows_of(shop, sales) == [(1, FIRST, 5)]


def test_a_full_refresh_that_died_after_the_quarantine_is_finished_though_no_source_moved(shop, monkeypatch):
    land(shop, (0, 1, 5), (1, 2, 7))
    refresh(shop, sales)

    class Strict(Sale):
        """A sale of more than five."""

        amount: int = column(gt=5)

    stricter = Refresh(replace(sales, contract=Strict), shop, "run")
    swap = evolution.swap

    def of_the_quarantine_only(table, *args, **how):
        if table.name == sales.name:
            raise KeyboardInterrupt
        return swap(table, *args, **how)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evolution, "swap", of_the_quarantine_only)
        full_refresh(stricter)
    assert shop.table("shop.silver.sales__quarantine").count() == 1
    assert rows_of(shop, sales) == [(1, FIRST, 5), (2, FIRST + timedelta(days=1), 7)]
    assert stricter.pending() == ["shop.silver.sales__quarantine"]
    stricter.run()
    assert rows_of(shop, sales) == [(2, FIRST + timedelta(days=1), 7)]
    assert shop.table("shop.silver.sales__quarantine").count() == 1
    assert stricter.pending() == []
    assert stricter.run().batches == 0


def test_a_trailing_table_also_fills_the_gap_before_the_first_change(shop):
    @table("shop.gold.every_day", contract=Total, kind=TRAILING, inputs={"rows": "shop.gold.days"})
    def every_day(rows: pl.LazyFrame) -> pl.LazyFrame:
        all_days = rows.select(pl.date_range(pl.col("day").min(), pl.col("day").max()).alias("day"))
        filled = all_days.join(rows, on="day", how="left").sort("day").with_columns(pl.col("amount").fill_null(0))
        return filled.rolling("day", period="3d").agg(pl.col("amount").sum())

    for day in (0, 3):
        land(shop, (day, day, 5 + day))
        for declaration in (sales, days, every_day):
            refresh(shop, declaration)
    assert [amount for _, amount in rows_of(shop, every_day)] == [5, 5, 5, 8]

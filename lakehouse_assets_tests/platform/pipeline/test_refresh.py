"""A declared table follows its sources: nothing twice, nothing lost, nothing outside its scope, whatever came before."""

import shutil
from dataclasses import replace
from datetime import date

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.computed_kinds import ByPartition, Full
from lakehouse_assets.platform.declarations.features import feature_set
from lakehouse_assets.platform.declarations.row_kinds import Append, Upsert
from lakehouse_assets.platform.declarations.tables import Dimension, TableDeclaration, table
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.refresh import Refresh, Refreshed, reads_of
from lakehouse_assets.platform.quality.account import RowAccount, RowsLost
from lakehouse_assets.platform.quality.contract import Contract, ContractBroken, Timestamp, column, schema_of
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table


class Sale(Contract, max_bad_share=0.6, share_counts_from=4):
    """A sale."""

    month: date = column(key=True)
    id: str = column(key=True)
    product: str
    amount: int = column(ge=0)


@table(
    "shop.silver.sales",
    contract=Sale,
    kind=Upsert(("month", "id")),
    inputs={"rows": "shop.bronze.sales"},
    partition_by=("month",),
)
def sales(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales."""
    return rows


class Revenue(Contract):
    """Revenue."""

    month: date = column(key=True)
    group: str = column(key=True)
    amount: int


@table(
    "shop.gold.revenue",
    contract=Revenue,
    kind=ByPartition("month"),
    inputs={"rows": "shop.silver.sales"},
    dimensions={"groups": Dimension("shop.silver.groups", key="product")},
)
def revenue(rows: pl.LazyFrame, groups: pl.LazyFrame) -> pl.LazyFrame:
    """Revenue by month and group."""
    named = rows.join(groups, on="product", how="left").with_columns(pl.col("group").fill_null("none"))
    return named.group_by("month", "group").agg(pl.col("amount").sum())


JAN, FEB, MAR = date(2024, 1, 1), date(2024, 2, 1), date(2024, 3, 1)
BRONZE = pl.Schema(
    {
        "month": pl.Date(),
        "id": pl.String(),
        "product": pl.String(),
        "amount": pl.Int64(),
        "_file": pl.String(),
        "_sequence": pl.Int64(),
        "_row": pl.Int64(),
    }
)


@pytest.fixture
def shop(tmp_path):
    lakehouse = Lakehouse(str(tmp_path))
    lakehouse.table("shop.bronze.sales").create(BRONZE)
    lakehouse.table("shop.silver.groups").create(pl.Schema({"product": pl.String(), "group": pl.String()}))
    return lakehouse


def land(shop: Lakehouse, *rows: tuple[date, str, str, int | None]) -> None:
    """Append a file to the source."""
    bronze = shop.table("shop.bronze.sales")
    number = bronze.version() + 1
    lines = [(*row, f"{number}.csv", number, at) for at, row in enumerate(rows, 1)]
    bronze.append(pl.DataFrame(lines, schema=BRONZE, orient="row"))


def refresh(shop: Lakehouse, declaration: TableDeclaration) -> Refreshed:
    return Refresh(declaration, shop, "run").run()


def rows(table: Table) -> list[tuple[object, ...]]:
    return sorted(table.scan().collect().rows())


def files_of(table: Table, month: date) -> set[str]:
    files = pl.DataFrame(table.delta().get_add_actions(flatten=True))
    return set(files.filter(pl.col("partition.month") == month)["path"])


def test_a_refresh_takes_what_is_new_and_nothing_twice(shop):
    land(shop, (JAN, "1", "a", 5))
    assert refresh(shop, sales).account == RowAccount(1, 1)
    assert refresh(shop, sales).batches == 0
    land(shop, (JAN, "1", "a", 5), (JAN, "2", "a", 7))
    assert refresh(shop, sales).account == RowAccount(2, 1, 0, 1)
    land(shop, (JAN, "2", "a", 8))
    assert refresh(shop, sales).account == RowAccount(1, 0, 1)
    assert [row[3] for row in rows(shop.table("shop.silver.sales"))] == [5, 8]


def test_a_row_that_breaks_a_rule_is_in_quarantine_and_not_in_the_table(shop):
    land(shop, (JAN, "1", "a", -5), (JAN, "2", "a", 7), (JAN, "3", "a", None))
    assert refresh(shop, sales).account == RowAccount(3, 1, 0, 0, 2)
    assert shop.table("shop.silver.sales").count() == 1
    rejected = shop.table("shop.silver.sales__quarantine").scan().sort("id").collect()
    assert rejected["id"].to_list() == ["1", "3"]
    assert [len(names) for names in rejected["_broken"]] == [1, 1]


def test_a_broken_contract_leaves_the_table_where_it_was_until_the_source_is_fixed(shop):
    land(shop, (JAN, "1", "a", 5))
    refresh(shop, sales)
    version = shop.table("shop.silver.sales").version()
    land(shop, *((JAN, str(number), "a", -1) for number in range(10)))
    for _ in range(2):
        with pytest.raises(ContractBroken, match=r"10 of 10 rows"):
            refresh(shop, sales)
        assert shop.table("shop.silver.sales").version() == version
        assert shop.table("shop.silver.sales__quarantine").count() == 0


def test_a_function_that_drops_rows_is_stopped(shop):
    @table("shop.silver.sales", contract=Sale, kind=Append(), inputs={"rows": "shop.bronze.sales"})
    def leaky(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.filter(pl.col("amount") > 5)

    land(shop, (JAN, "1", "a", 5), (JAN, "2", "a", 6))
    with pytest.raises(RowsLost, match="given 2 rows and returned 1"):
        refresh(shop, leaky)
    assert not shop.table("shop.silver.sales").exists()


def test_only_partitions_that_changed_are_rewritten(shop):
    land(shop, (JAN, "1", "a", 5), (FEB, "2", "a", 6))
    refresh(shop, sales)
    refresh(shop, revenue)
    gold = shop.table("shop.gold.revenue")
    january = files_of(gold, JAN)
    land(shop, (FEB, "3", "a", 10))
    refresh(shop, sales)
    refresh(shop, revenue)
    assert rows(gold) == [(JAN, "none", 5), (FEB, "none", 16)]
    assert files_of(gold, JAN) == january


def test_a_changed_dimension_restates_the_partitions_that_refer_to_it(shop):
    land(shop, (JAN, "1", "a", 5), (FEB, "2", "b", 6), (MAR, "3", "a", 7))
    refresh(shop, sales)
    refresh(shop, revenue)
    gold = shop.table("shop.gold.revenue")
    february = files_of(gold, FEB)
    shop.table("shop.silver.groups").append(pl.DataFrame({"product": ["a"], "group": ["toys"]}))
    refresh(shop, revenue)
    assert rows(gold) == [(JAN, "toys", 5), (FEB, "none", 6), (MAR, "toys", 7)]
    assert files_of(gold, FEB) == february


def test_a_correction_takes_its_row_out_of_the_old_group(shop):
    land(shop, (JAN, "1", "a", 5))
    refresh(shop, sales)
    refresh(shop, revenue)
    land(shop, (JAN, "1", "a", 2))
    refresh(shop, sales)
    refresh(shop, revenue)
    assert rows(shop.table("shop.gold.revenue")) == [(JAN, "none", 2)]


def test_a_correction_moves_a_row_of_an_append_table_to_its_new_partition(shop):
    class Sold(Contract):
        month: date
        id: str = column()
        amount: int

    @table("shop.silver.sold", contract=Sold, kind=Append(), inputs={"rows": "shop.bronze.sales"}, partition_by=("month",))
    def sold(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.drop("product")

    land(shop, (JAN, "a", "tea", 1), (FEB, "b", "tea", 2))
    refresh(shop, sold)
    bronze = shop.table("shop.bronze.sales")
    bronze.replace(bronze.scan().collect().with_columns(month=pl.when(id="a").then(MAR).otherwise("month")), None)
    refresh(shop, sold)
    assert sorted(shop.table(sold.name).scan().select("month", "id", "amount").collect().rows()) == [(FEB, "b", 2), (MAR, "a", 1)]


def test_a_run_that_died_after_the_quarantine_is_taken_up_with_the_same_batch(shop, monkeypatch):
    land(shop, (JAN, "1", "a", -5), (JAN, "2", "a", 7))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Upsert, "write", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        refresh(shop, sales)
    assert shop.table("shop.silver.sales__quarantine").count() == 1
    assert shop.table("shop.silver.sales").count() == 0
    land(shop, (JAN, "3", "a", -1), (JAN, "4", "a", 1))
    done = refresh(shop, sales)
    assert done.batches == 2
    assert shop.table("shop.silver.sales__quarantine").scan().collect()["id"].sort().to_list() == ["1", "3"]
    assert shop.table("shop.silver.sales").scan().collect()["id"].sort().to_list() == ["2", "4"]


def test_pending_tells_what_has_changed(shop):
    step = Refresh(sales, shop, "run")
    assert step.pending() == ["shop.bronze.sales"]
    step.run()
    assert step.pending() == []
    land(shop, (JAN, "1", "a", 5))
    assert step.pending() == ["shop.bronze.sales"]


def test_a_commit_says_which_versions_it_was_made_from(shop):
    land(shop, (JAN, "1", "a", 5))
    done = refresh(shop, sales)
    assert reads_of(shop.table("shop.silver.sales"), done.version) == {"shop.bronze.sales": 1}


def test_the_row_account_stands_in_the_commit(shop):
    land(shop, (JAN, "1", "a", -5), (JAN, "2", "a", 7))
    refresh(shop, sales)
    info = shop.table("shop.silver.sales").history(1)[0]["info"]
    assert RowAccount.from_json(info["account"]) == RowAccount(2, 1, 0, 0, 1)
    assert info["run_id"] == "run"


def test_a_full_refresh_computes_everything_again(shop):
    land(shop, (JAN, "1", "a", 5), (FEB, "2", "a", -6))
    refresh(shop, sales)
    refresh(shop, revenue)

    def doubled(rows: pl.LazyFrame, groups: pl.LazyFrame) -> pl.LazyFrame:
        return revenue(rows, groups).with_columns(pl.col("amount") * 2)

    changed = replace(revenue, function=doubled)
    assert refresh(shop, changed).batches == 0
    full_refresh(Refresh(changed, shop, "run"))
    assert rows(shop.table("shop.gold.revenue")) == [(JAN, "none", 10)]
    full_refresh(Refresh(sales, shop, "run"))
    assert shop.table("shop.silver.sales__quarantine").count() == 1
    assert refresh(shop, sales).batches == 0


class Level(Contract):
    """A level as it was known."""

    id: str = column(key=True)
    month: date = column(key=True)
    amount: int
    known_at: Timestamp


def test_a_value_that_is_revised_later_is_kept_next_to_the_one_known_before(shop):
    @feature_set(
        "shop.features.levels",
        contract=Level,
        entity=("id",),
        event_time="month",
        kind=Full(),
        inputs={"rows": "shop.silver.sales"},
    )
    def levels(rows: pl.LazyFrame) -> pl.LazyFrame:
        end = pl.col("month").dt.month_end().cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        return rows.select("id", "month", "amount", known_at=end)

    land(shop, (JAN, "1", "a", 5))
    refresh(shop, sales)
    refresh(shop, levels)
    land(shop, (JAN, "1", "a", 9))
    refresh(shop, sales)
    refresh(shop, levels)
    known = shop.table("shop.features.levels").scan().sort("known_at").collect()
    assert known["amount"].to_list() == [5, 9]
    assert known["known_at"][0].year == 2024
    assert known["known_at"][1].year > 2024, "a late fact was not known when its month ended"


def test_tables_are_made_even_where_nothing_has_come_yet(shop):
    refresh(shop, sales)
    refresh(shop, revenue)
    assert shop.table("shop.gold.revenue").count() == 0
    assert refresh(shop, revenue).batches == 0


def test_a_source_that_was_deleted_and_created_again_is_noticed(shop):
    land(shop, (JAN, "1", "a", 5))
    refresh(shop, sales)
    refresh(shop, revenue)
    shutil.rmtree(shop.table("shop.silver.sales").uri)
    shutil.rmtree(shop.table("shop.silver.sales__quarantine").uri)
    shop.table("shop.silver.sales").create(schema_of(Sale), ("month",))
    said = (
        r"shop\.gold\.revenue has read shop\.silver\.sales up to version 1, and .* was deleted and created again since: it is at version 0"
    )
    with pytest.raises(NoSuchVersion, match=said):
        refresh(shop, revenue)

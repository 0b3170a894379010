"""A table of several inputs reads all of them at one scope, whichever of them changed; what goes in is not counted."""

from typing import Any

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.computed_kinds import ByKey, ByPartition, Full, Trailing
from lakehouse_assets.platform.declarations.features import feature_set
from lakehouse_assets.platform.declarations.row_kinds import Upsert
from lakehouse_assets.platform.declarations.tables import TableDeclaration, table
from lakehouse_assets.platform.orchestration.describe import account
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.refresh import Refresh, Refreshed
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

A, B = "shop.silver.a", "shop.silver.b"
SCHEMA = pl.Schema({"id": pl.Int64(), "month": pl.Int64(), "amount": pl.Int64()})
INPUTS = {"a": A, "b": B}


class Month(Contract):
    """Sums of both inputs."""

    month: int = column(key=True)
    a: int
    b: int


class KnownMonth(Month):
    """Sums of both inputs, as they were known."""

    known_at: Timestamp


class Row(Contract):
    """A row."""

    id: int = column(key=True)
    month: int
    amount: int


def sums(a: pl.LazyFrame, b: pl.LazyFrame) -> pl.LazyFrame:
    """What both inputs have of a month."""
    sides = [rows.group_by("month").agg(pl.col("amount").sum().alias(name)) for name, rows in (("a", a), ("b", b))]
    joined = sides[0].join(sides[1], on="month", how="full", coalesce=True)
    return joined.with_columns(pl.col("a", "b").fill_null(0))


def known(a: pl.LazyFrame, b: pl.LazyFrame) -> pl.LazyFrame:
    """The same, known when the month ended."""
    ended = pl.datetime(2024, pl.col("month"), 1, time_unit="us", time_zone="UTC")
    return sums(a, b).with_columns(known_at=ended)


def declared(kind: Any) -> TableDeclaration:
    return table("shop.gold.months", contract=Month, kind=kind, inputs=INPUTS)(sums)


def features(kind: Any) -> TableDeclaration:
    return feature_set("shop.features.months", contract=KnownMonth, entity=(), event_time="month", kind=kind, inputs=INPUTS)(known)


KINDS = (ByPartition("month"), ByKey("month"), Trailing("month", 0), Full())
DECLARED = [*map(declared, KINDS), *map(features, KINDS)]
IDS = [f"{one.name} {kind}" for one, kind in zip(DECLARED, KINDS * 2, strict=True)]


@pytest.fixture
def shop(tmp_path):
    lakehouse = Lakehouse(str(tmp_path))
    for name in (A, B):
        lakehouse.table(name).create(SCHEMA)
    land(lakehouse, A, (1, 1, 10), (2, 2, 20))
    land(lakehouse, B, (1, 1, 1), (2, 2, 2))
    return lakehouse


def land(shop: Lakehouse, name: str, *rows: tuple[int, int, int]) -> None:
    shop.table(name).append(pl.DataFrame(rows, schema=SCHEMA, orient="row"))


def refresh(shop: Lakehouse, declaration: TableDeclaration) -> Refreshed:
    return Refresh(declaration, shop, "run").run()


def latest(shop: Lakehouse, declaration: TableDeclaration) -> list[tuple[int, int, int]]:
    """The newest row of each month."""
    rows = shop.table(declaration.name).scan().collect()
    rows = rows.sort("known_at") if "known_at" in rows.columns else rows
    return rows.group_by("month", maintain_order=True).last().select("month", "a", "b").sort("month").rows()


@pytest.mark.parametrize("declaration", DECLARED, ids=IDS)
def test_a_month_that_changed_in_one_input_is_read_whole_from_the_other(shop, declaration):
    refresh(shop, declaration)
    assert latest(shop, declaration) == [(1, 10, 1), (2, 20, 2)]
    land(shop, A, (3, 1, 5))
    land(shop, B, (3, 2, 3))
    refresh(shop, declaration)
    assert latest(shop, declaration) == [(1, 15, 1), (2, 20, 5)]
    land(shop, A, (4, 3, 7))
    refresh(shop, declaration)
    assert latest(shop, declaration) == [(1, 15, 1), (2, 20, 5), (3, 7, 0)]


@pytest.mark.parametrize("declare", [declared, features], ids=["table", "feature set"])
def test_partitions_are_computed_in_parts(shop, declare):
    declaration = declare(ByPartition("month"))
    Refresh(declaration, shop, "run", batch_rows=1).run()
    info = [commit["info"] for commit in shop.table(declaration.name).commits() if "account" in commit["info"]]
    assert [RowAccount.from_json(one["account"]).written for one in info] == [1, 1]
    assert latest(shop, declaration) == [(1, 10, 1), (2, 20, 2)]


@pytest.mark.parametrize("declaration", DECLARED, ids=IDS)
def test_rows_that_go_into_a_computed_table_are_not_counted(shop, declaration):
    for run in (refresh, refresh, lambda *which: full_refresh(Refresh(which[1], which[0], "run"))):
        done = run(shop, declaration)
        assert done.account.rows_in is None
        assert done.account.balanced
        recorded = RowAccount.from_json(shop.table(declaration.name).history(1)[0]["info"]["account"])
        assert recorded.rows_in is None
        assert account(done.account)["rows_in"] == "not counted"
        land(shop, A, (3, 1, 5))


def test_rows_of_a_row_kind_are_counted_until_keys_are_computed_again(shop):
    rows = table("shop.silver.rows", contract=Row, kind=Upsert(("id",), newest_by="amount"), inputs={"rows": A})(lambda rows: rows)
    assert refresh(shop, rows).account == RowAccount(2, 2)
    land(shop, A, (1, 1, 11))
    assert refresh(shop, rows).account == RowAccount(1, 0, 1)
    shop.table(A).delta().delete("id = 2")
    assert refresh(shop, rows).account == RowAccount(None, removed=1)

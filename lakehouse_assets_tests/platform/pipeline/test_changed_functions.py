"""A function changes: what it computed before stays as it was, and that is known until a full refresh has computed it again."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse_assets.platform.declarations.computed_kinds import ByKey, ByPartition, Full, Trailing
from lakehouse_assets.platform.declarations.row_kinds import Append, Upsert
from lakehouse_assets.platform.declarations.tables import TableDeclaration, table
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.functions import has_changed
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.contract import Contract, column
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.restore import restore

SOURCE = "shop.silver.sales"
SCHEMA = {"part": pl.String, "id": pl.Int64, "amount": pl.Int64}
KINDS = {
    "append": Append(),
    "upsert": Upsert(("id",), newest_by="amount"),
    "by_partition": ByPartition("part"),
    "by_key": ByKey("id"),
    "trailing": Trailing("id", 1),
    "full": Full(),
}


class Sale(Contract):
    part: str = column()
    id: int = column()
    amount: int = column()


class KeyedSale(Contract):
    part: str = column()
    id: int = column(key=True)
    amount: int = column()


class PartedSale(Contract):
    part: str = column(key=True)
    id: int = column(key=True)
    amount: int = column()


def as_it_is(sales: pl.LazyFrame) -> pl.LazyFrame:
    return sales


def doubled(sales: pl.LazyFrame) -> pl.LazyFrame:
    return sales.with_columns(pl.col("amount") * 2)


def with_a_comment(sales: pl.LazyFrame) -> pl.LazyFrame:
    """The same."""
    # Said twice.
    return sales


with_a_comment.__name__ = "as_it_is"


@pytest.fixture
def lakehouse(tmp_path) -> Lakehouse:
    found = Lakehouse(str(tmp_path / "tables"))
    found.table(SOURCE).create(SCHEMA)
    put(found, 1, 2)
    return found


def put(lakehouse: Lakehouse, *ids: int) -> None:
    rows = [{"part": "ab"[number % 2], "id": number, "amount": number} for number in ids]
    lakehouse.table(SOURCE).append(pl.DataFrame(rows, schema=SCHEMA))


def declare(kind: str, function: Callable[..., pl.LazyFrame]) -> TableDeclaration:
    contract = {"append": Sale, "by_partition": PartedSale}.get(kind, KeyedSale)
    partitions: Any = {"partition_by": ("part",)} if kind == "by_partition" else {}
    return table(f"shop.gold.{kind}", contract=contract, kind=KINDS[kind], inputs={"sales": SOURCE}, **partitions)(function)


def run(declaration: TableDeclaration, lakehouse: Lakehouse, how: Callable[[Refresh], object] = Refresh.run) -> bool:
    """Whether the function has changed after a run."""
    how(Refresh(declaration, lakehouse, "run"))
    return has_changed(declaration, lakehouse)


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_function_is_noticed_until_all_rows_are_computed_again(lakehouse, kind):
    before, after = declare(kind, as_it_is), declare(kind, doubled)
    assert not has_changed(before, lakehouse)
    assert not run(before, lakehouse)
    assert has_changed(after, lakehouse)
    put(lakehouse, 3)
    computes_all = kind == "full"
    assert run(after, lakehouse) is not computes_all
    # Rows of both functions: neither of them computed all.
    assert has_changed(before, lakehouse)
    put(lakehouse, 4)
    assert run(before, lakehouse) is not computes_all
    assert not run(after, lakehouse, full_refresh)
    rows = lakehouse.table(after.name).scan().sort("id").collect()
    assert_frame_equal(rows, doubled(lakehouse.table(SOURCE).scan()).sort("id").collect(), check_column_order=False)
    assert has_changed(before, lakehouse)
    put(lakehouse, 5)
    assert not run(after, lakehouse)


def test_a_comment_changes_nothing(lakehouse):
    assert not run(declare("upsert", as_it_is), lakehouse)
    assert not has_changed(declare("upsert", with_a_comment), lakehouse)


def test_a_table_without_rows_has_none_of_another_function(lakehouse):
    before, after = declare("append", as_it_is), declare("append", doubled)
    empty = replace(before, inputs={"sales": "shop.silver.none"})
    lakehouse.table("shop.silver.none").create(SCHEMA)
    run(empty, lakehouse)
    changed = replace(after, inputs={"sales": "shop.silver.none"})
    assert not has_changed(changed, lakehouse)
    lakehouse.table("shop.silver.none").append(pl.DataFrame([{"part": "a", "id": 1, "amount": 1}], schema=SCHEMA))
    assert not run(changed, lakehouse)


def test_a_restore_brings_the_function_of_the_rows_back(lakehouse):
    before, after = declare("upsert", as_it_is), declare("upsert", doubled)
    run(before, lakehouse)
    stored = lakehouse.table(before.name)
    version = stored.version()
    run(after, lakehouse, full_refresh)
    restore(stored, version, "run")
    assert has_changed(after, lakehouse)
    assert not has_changed(before, lakehouse)

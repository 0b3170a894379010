"""A table with a quarantine for the tests of replays; `orders_child` replays and refreshes it in processes that die."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import polars as pl
from deltalake.table import TableMerger

from lakehouse_assets.platform.declarations.row_kinds import Append, Upsert
from lakehouse_assets.platform.declarations.tables import TableDeclaration, table
from lakehouse_assets.platform.pipeline.quarantine import unreleased, with_source
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.pipeline.replay import Replays
from lakehouse_assets.platform.pipeline.selection import Selection
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.quality.conform import conform, text, whole_number
from lakehouse_assets.platform.quality.contract import Contract, column
from lakehouse_assets.platform.storage import data_files
from lakehouse_assets.platform.storage import table as storage_table
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

SOURCE = "shop.bronze.orders"
BRONZE = pl.Schema(
    {
        "item": pl.String(),
        "Quantity": pl.String(),
        "_file": pl.String(),
        "_row": pl.Int64(),
        "_sequence": pl.Int64(),
        "_rescued": pl.String(),
    }
)


class Order(Contract):
    """An order."""

    line: str = column(key=True)
    item: str = column()
    quantity: int = column(ge=0)


@table("shop.silver.orders", contract=Order, kind=Upsert(("line",)), inputs={"rows": SOURCE})
def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Orders; a line that is twice in one file is two, one that is in two files is one."""
    typed = conform(rows, item=text("item"), quantity=whole_number("Quantity"))
    words = pl.format("{}x{}", pl.col("quantity").cast(pl.String).fill_null("?"), pl.col("item").fill_null("?"))
    number = pl.int_range(1, pl.len() + 1).over("_file", "words")
    return typed.with_columns(words=words).with_columns(line=pl.format("{}-{}", "words", number)).drop("words")


KINDS: Mapping[str, TableDeclaration] = {"upsert": orders, "append": replace(orders, kind=Append())}

Row = tuple[str | None, str | None]


def land(lakehouse: Lakehouse, *files: Iterable[Row]) -> None:
    """Append files to the source, one commit a file."""
    bronze = lakehouse.table(SOURCE)
    bronze.create(BRONZE)
    for rows in files:
        number = bronze.version() + 1
        lines = [(*row, f"{number}.csv", at, number, None) for at, row in enumerate(rows, 1)]
        bronze.append(pl.DataFrame(lines, schema=BRONZE, orient="row"))


def refresh(lakehouse: Lakehouse, declaration: TableDeclaration = orders) -> RowAccount:
    return Refresh(declaration, lakehouse, "run").run().account


def replays(lakehouse: Lakehouse, declaration: TableDeclaration = orders) -> Replays:
    return Replays(declaration, lakehouse, "replay")


def accounts(lakehouse: Lakehouse, declaration: TableDeclaration = orders) -> RowAccount:
    """Of all commits of the table together."""
    recorded = (commit["info"].get("account") for commit in lakehouse.table(declaration.name).commits())
    return sum((RowAccount.from_json(account) for account in recorded if account), RowAccount())


def waiting(lakehouse: Lakehouse, declaration: TableDeclaration = orders) -> list[Row]:
    """The rows in quarantine that are not released: their source rows."""
    rows = with_source(declaration, lakehouse).select(pl.col("source").struct.unnest()).select("item", "Quantity").collect()
    return sorted(rows.rows(), key=repr)


def assert_whole(lakehouse: Lakehouse, declaration: TableDeclaration = orders) -> None:
    """Each row of the source is accounted for once over the life of the table."""
    account = accounts(lakehouse, declaration)
    rejected = unreleased(lakehouse.table(declaration.quarantine)).select(pl.len()).collect().item()
    assert lakehouse.table(SOURCE).count() == account.written + account.updated + account.duplicates + rejected
    assert not replays(lakehouse, declaration).unfinished()


def lines(lakehouse: Lakehouse) -> Counter[str]:
    """How often each line is in the table, without its number."""
    return Counter(line.rsplit("-", 1)[0] for line in lakehouse.table(orders.name).scan().collect()["line"])


@contextmanager
def dying(at: int, when: str, die: Callable[[], None]) -> Iterator[Callable[[], int]]:
    """Call `die` before or after the commit of this number, counted from the start of the block; gives how many there were so far."""
    plain_write, plain_append, plain_merge = storage_table.write_deltalake, data_files.append, TableMerger.execute
    count = 0

    def around(commit: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            number = count
            if number == at and when == "before":
                die()
            result = commit(*args, **kwargs)
            if number == at and when == "after":
                die()
            return result

        return counted

    storage_table.write_deltalake, data_files.append = around(plain_write), around(plain_append)
    TableMerger.execute = around(plain_merge)  # type: ignore[method-assign]
    try:
        yield lambda: count
    finally:
        storage_table.write_deltalake, data_files.append = plain_write, plain_append
        TableMerger.execute = plain_merge  # type: ignore[method-assign]


FIX = Selection(sets={"Quantity": "replace(Quantity, ',', '')"})

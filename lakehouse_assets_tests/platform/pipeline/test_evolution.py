"""A contract changes: what can evolve does at the next run, what cannot is refused with the command, and versions, id and readers go on."""

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.computed_kinds import ByKey, ByPartition
from lakehouse_assets.platform.declarations.row_kinds import Append, Upsert
from lakehouse_assets.platform.declarations.tables import TableDeclaration, table
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.layout import FullRefreshNeeded
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.contract import Contract, column, rule
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

SOURCE, OTHER_SOURCE = "shop.silver.orders", "shop.silver.other_orders"


class Order(Contract):
    id: int = column(key=True, description="Number.")
    month: str = column()
    version: int = column()
    amount: int = column(ge=0)


class WithNote(Contract):
    id: int = column(key=True)
    month: str = column()
    version: int = column()
    amount: int = column(ge=0)
    note: str = column(nullable=True, description="What the clerk wrote.")


class Wider(Contract):
    id: int = column(key=True)
    month: str = column()
    version: int = column()
    amount: float = column(ge=0)


class OtherRules(Contract):
    id: int = column(key=True, description="Number of the order.", personal=True)
    month: str = column()
    version: int = column()
    amount: int = column(ge=0, le=1_000)
    odd = rule("an order is not odd", pl.col("amount") % 2 == 0, level="warn")


class OtherKey(Contract):
    id: int = column(key=True)
    month: str = column(key=True)
    version: int = column()
    amount: int = column(ge=0)


class Narrower(Contract):
    id: int = column(key=True)
    month: str = column()
    version: int = column()
    amount: pl.Int8 = column(ge=0)


class Required(Contract):
    id: int = column(key=True)
    month: str = column()
    version: int = column()
    amount: int = column(ge=0)
    note: str = column()


class Fewer(Contract):
    id: int = column(key=True)
    version: int = column()
    amount: int = column(ge=0)


@pytest.fixture
def lakehouse(tmp_path) -> Lakehouse:
    found = Lakehouse(str(tmp_path / "tables"))
    put(found, [1, 2, 3])
    return found


def put(lakehouse: Lakehouse, ids: list[int], **values: Any) -> None:
    """Append rows to the source, and to another one that has the same."""
    rows = [{"id": number, "month": "jan", "version": 1, "amount": 10 * number} | values for number in ids]
    frame = pl.DataFrame(rows, schema={"id": pl.Int64, "month": pl.String, "version": pl.Int64, "amount": pl.Int64})
    for source in (lakehouse.table(SOURCE), lakehouse.table(OTHER_SOURCE)):
        source.create(frame.schema)
        source.append(frame)


def declare(contract: type[Contract], function: Any = lambda orders: orders, **how: Any) -> TableDeclaration:
    kind = how.pop("kind", Upsert(("id",), newest_by="version"))
    return table("shop.silver.clean", contract=contract, kind=kind, inputs={"orders": SOURCE}, **how)(function)


def state(lakehouse: Lakehouse, name: str = "shop.silver.clean") -> tuple[str, int]:
    stored = lakehouse.table(name)
    return stored.delta().metadata().id, stored.version()


def run(declaration: TableDeclaration, lakehouse: Lakehouse) -> list[dict[str, Any]]:
    Refresh(declaration, lakehouse, "run").run()
    return lakehouse.table(declaration.name).scan().sort("id").collect().to_dicts()


def test_a_nullable_column_is_added_at_the_next_run_and_versions_go_on(lakehouse):
    run(declare(Order), lakehouse)
    before = state(lakehouse)
    put(lakehouse, [4])
    rows = run(declare(WithNote, lambda orders: orders.with_columns(note=pl.lit("new"))), lakehouse)
    assert [row["note"] for row in rows] == [None, None, None, "new"]
    table_id, version = state(lakehouse)
    assert table_id == before[0]
    assert version == before[1] + 2  # the column, and the new row
    assert lakehouse.table("shop.silver.clean").scan(before[1]).collect().columns == ["id", "month", "version", "amount"]


def test_the_quarantine_gains_the_column_too(lakehouse):
    run(declare(Order), lakehouse)
    put(lakehouse, [4], amount=-1)
    run(declare(WithNote, lambda orders: orders.with_columns(note=pl.lit("bad"))), lakehouse)
    assert lakehouse.table("shop.silver.clean__quarantine").scan().select("id", "note").collect().rows() == [(4, "bad")]


def test_a_wider_type_is_taken_over_in_place(lakehouse):
    first = declare(Order)
    run(replace(first, contract=Order), lakehouse)
    narrow = declare(Narrower, lambda orders: orders.with_columns(pl.col("amount").cast(pl.Int8)), kind=Append())
    narrow = replace(narrow, name="shop.silver.narrow")
    Refresh(narrow, lakehouse, "run").run()
    before = state(lakehouse, narrow.name)
    wide = replace(declare(Order, kind=Append()), name=narrow.name)
    put(lakehouse, [4], amount=1_000)
    rows = run(wide, lakehouse)
    assert [row["amount"] for row in rows] == [10, 20, 30, 1_000]
    table_id, version = state(lakehouse, narrow.name)
    assert table_id == before[0]
    assert version > before[1]


def test_rules_descriptions_and_tags_change_and_nothing_is_rewritten(lakehouse):
    run(declare(Order), lakehouse)
    before, files = state(lakehouse), set(lakehouse.table("shop.silver.clean").delta().file_uris())
    run(declare(OtherRules), lakehouse)
    assert state(lakehouse) == before  # nothing was new
    put(lakehouse, [4], amount=7_000)
    put(lakehouse, [5], amount=7)
    rows = run(declare(OtherRules), lakehouse)
    assert [row["id"] for row in rows] == [1, 2, 3, 5]
    assert state(lakehouse) == (before[0], before[1] + 1)
    assert files <= set(lakehouse.table("shop.silver.clean").delta().file_uris())


@pytest.mark.parametrize(
    ("declaration", "said"),
    [
        pytest.param(
            declare(OtherKey, kind=Upsert(("id", "month"), newest_by="version")), "its key was id, and now is id, month", id="key"
        ),
        pytest.param(
            declare(OtherKey, kind=Upsert(("id", "month"), newest_by="version"), partition_by=("month",)),
            "it is partitioned by nothing, and now by month",
            id="partitions",
        ),
        pytest.param(
            declare(Narrower, lambda orders: orders.with_columns(pl.col("amount").cast(pl.Int8))), "column amount is Int64", id="type"
        ),
        pytest.param(
            declare(Required, lambda orders: orders.with_columns(note=pl.lit(""))), "column note is new and may not be null", id="required"
        ),
        pytest.param(declare(Order, kind=Upsert(("id",), newest_by="amount")), "its kind, or what the kind goes by", id="newest_by"),
        pytest.param(declare(Order, kind=ByKey("id")), "its kind, or what the kind goes by", id="kind"),
        pytest.param(replace(declare(Order), inputs={"orders": OTHER_SOURCE}), "its inputs", id="input"),
        pytest.param(declare(Fewer, lambda orders: orders.drop("month")), "column month is not declared any more", id="column less"),
    ],
)
def test_what_cannot_evolve_is_refused_with_the_command_that_keeps_id_and_versions(lakehouse, declaration, said):
    run(declare(Order), lakehouse)
    run(reader := summary(), lakehouse)
    before, of_reader = state(lakehouse), state(lakehouse, reader.name)
    put(lakehouse, [4])
    with pytest.raises(FullRefreshNeeded) as refused:
        run(declaration, lakehouse)
    assert said in str(refused.value)
    assert "`lakehouse run shop.silver.clean --full-refresh`" in str(refused.value)
    assert state(lakehouse) == before

    full_refresh(Refresh(declaration, lakehouse, "full"))
    table_id, version = state(lakehouse)
    assert table_id == before[0]
    assert version > before[1]
    stored = lakehouse.table("shop.silver.clean")
    assert tuple(stored.delta().metadata().partition_columns) == declaration.partitions
    assert sorted(stored.scan().collect()["id"]) == [1, 2, 3, 4]
    assert stored.scan(before[1]).collect().height == 3  # history stays readable
    assert not lakehouse.table("shop.silver.clean__full_refresh").exists()
    if "month" in declaration.schema:  # readers go on
        assert [row["orders"] for row in run(reader, lakehouse)] == [4]
        assert state(lakehouse, reader.name)[0] == of_reader[0]
    assert run(declaration, lakehouse)
    assert state(lakehouse) == (table_id, version)  # and nothing more is to be done


class Summary(Contract):
    id: str = column(key=True)
    month: str = column(key=True)
    orders: int = column()


def summary() -> TableDeclaration:
    def orders_of(orders: pl.LazyFrame) -> pl.LazyFrame:
        return orders.group_by("month").agg(id=pl.lit("all"), orders=pl.len().cast(pl.Int64))

    kind = ByKey("month")
    return table("shop.gold.summary", contract=Summary, kind=kind, inputs={"orders": "shop.silver.clean"})(orders_of)


def test_a_full_refresh_writes_only_what_differs(lakehouse):
    declaration = declare(Order)
    run(declaration, lakehouse)
    files = lakehouse.table(declaration.name).delta().file_uris()
    done = full_refresh(Refresh(declaration, lakehouse, "full"))
    assert lakehouse.table(declaration.name).delta().file_uris() == files
    assert done.account.written == 3  # of the rows that were computed
    changed = declare(Order, lambda orders: orders.with_columns(amount=pl.when(pl.col("id") == 2).then(0).otherwise("amount")))
    full_refresh(Refresh(changed, lakehouse, "full"))
    feed = lakehouse.table(declaration.name)
    at = feed.version()
    assert [row["id"] for row in feed.changes(at - 1, at).collect().to_dicts()] == [2]


def test_a_broken_contract_in_a_full_refresh_leaves_the_table_as_it_was(lakehouse):
    class Strict(Contract):
        id: int = column(key=True)
        month: str = column()
        version: int = column()
        amount: int = column(le=10, level="fail")

    run(declare(Order), lakehouse)
    before = state(lakehouse)
    with pytest.raises(Exception, match="which no row may break"):
        full_refresh(Refresh(declare(Strict), lakehouse, "full"))
    assert state(lakehouse) == before
    full_refresh(Refresh(declare(Order), lakehouse, "full"))
    assert [row["id"] for row in run(declare(Order), lakehouse)] == [1, 2, 3]


def test_an_interrupted_full_refresh_is_taken_up_only_by_the_same_code(lakehouse):
    declaration = declare(Order)
    run(declaration, lakehouse)
    other = declare(Order, lambda orders: orders.with_columns(amount=pl.col("amount") + 1))
    # The staging table of other code, as a run that was killed leaves it.
    from lakehouse_assets.platform.pipeline import full_refresh as module
    from lakehouse_assets.platform.pipeline import swap
    from lakehouse_assets.platform.pipeline.marks import FULL_REFRESH

    marks = {FULL_REFRESH: 1, module._CODE: module._code(other)}
    Refresh(swap.staging(other), lakehouse, "killed", marks=marks).run()
    full_refresh(Refresh(declaration, lakehouse, "full"))
    assert [row["amount"] for row in run(declaration, lakehouse)] == [10, 20, 30]


def test_partitions_are_replaced_in_parts_and_a_killed_batch_goes_on(lakehouse, monkeypatch):
    for month, ids in {"feb": [4, 5], "mar": [6], "apr": [7, 8, 9]}.items():
        put(lakehouse, ids, month=month)

    class Month(Contract):
        month: str = column(key=True)
        amount: int = column()

    def by_month(orders: pl.LazyFrame) -> pl.LazyFrame:
        return orders.group_by("month").agg(pl.col("amount").sum())

    declaration = table("shop.gold.months", contract=Month, kind=ByPartition("month"), inputs={"orders": SOURCE})(by_month)
    refresh = Refresh(declaration, lakehouse, "run", batch_rows=3)
    stored = lakehouse.table(declaration.name)
    writes = []
    real = ByPartition.write

    def dies(self, table, result, commit):
        if len(writes) == 2:
            raise KeyboardInterrupt
        writes.append(result.scope.values)
        return real(self, table, result, commit)

    monkeypatch.setattr(ByPartition, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        refresh.run()
    assert len(writes) == 2
    assert stored.cursor(SOURCE) is None
    monkeypatch.setattr(ByPartition, "write", lambda self, *args: (writes.append(args[1].scope.values), real(self, *args))[1])
    Refresh(declaration, lakehouse, "run", batch_rows=3).run()
    assert [list(group) for group in writes] == [["apr"], ["feb"], ["jan"], ["mar"]]  # none of them twice
    assert dict(stored.scan().collect().rows()) == {"jan": 60, "feb": 90, "mar": 60, "apr": 240}
    assert stored.cursor(SOURCE) == lakehouse.table(SOURCE).version()
    assert stored.cursor("progress") is None

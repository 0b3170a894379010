"""A function changes: what it computed before stays as it was, and that is known until a full refresh has computed it again."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse_assets.platform.declarations.computed_kinds import ByKey, ByPartition, Full, Trailing
from lakehouse_assets.platform.declarations.row_kinds import Append, Upsert
from lakehouse_assets.platform.declarations.tables import TableDeclaration, table
from lakehouse_assets.platform.pipeline.full_refresh import _code, full_refresh
from lakehouse_assets.platform.pipeline.functions import has_changed
from lakehouse_assets.platform.pipeline.layout import FullRefreshNeeded
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.contract import Contract, column
from lakehouse_assets.platform.storage import evolution
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.restore import restore
from lakehouse_assets_tests import sweeps

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


def tripled(sales: pl.LazyFrame) -> pl.LazyFrame:
    return sales.with_columns(pl.col("amount") * 3)


class Died(BaseException):
    """Stands for the end of the process."""


def dies_after(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, commits: int, work: Callable[[], object]) -> None:
    """Do some work that ends after so many calls of a function that commits."""
    real, calls = getattr(owner, name), 0

    def counted(*words: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > commits:
            raise Died
        return real(*words, **more)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, counted)
        with pytest.raises(Died):
            work()


@pytest.mark.parametrize(
    ("parts", "batch_rows"), sweeps.of([(1, 2), (2, 3), (3, 4), (1, 5), (2, 100)], [*product((1, 2, 3), (2, 3, 4, 5, 100))])
)
def test_a_batch_that_was_killed_between_its_parts_is_ended_however_it_is_divided_then(lakehouse, monkeypatch, parts, batch_rows):
    declaration = declare("by_partition", as_it_is)
    for number in range(1, 7):
        lakehouse.table(SOURCE).append(pl.DataFrame([{"part": str(number), "id": number, "amount": 1}], schema=SCHEMA))
    Refresh(declaration, lakehouse, "run").run()
    more = [{"part": str(number), "id": 10 + number, "amount": 1} for number in range(1, 7)]
    lakehouse.table(SOURCE).append(pl.DataFrame(more, schema=SCHEMA))
    killed = Refresh(declaration, lakehouse, "run", batch_rows=1)
    dies_after(monkeypatch, Refresh, "_commit", parts, killed.run)
    Refresh(declaration, lakehouse, "run", batch_rows=batch_rows).run()
    rows = lakehouse.table(declaration.name).scan().sort("id").collect()
    assert_frame_equal(rows, lakehouse.table(SOURCE).scan().sort("id").collect(), check_column_order=False)


def test_parts_of_another_function_do_not_count(lakehouse, monkeypatch):
    put(lakehouse, *range(3, 9))
    before, changed, other = (declare("by_partition", function) for function in (as_it_is, doubled, tripled))
    Refresh(before, lakehouse, "run").run()
    put(lakehouse, *range(9, 13))
    dies_after(monkeypatch, Refresh, "_commit", 1, Refresh(changed, lakehouse, "run", batch_rows=1).run)
    Refresh(other, lakehouse, "run", batch_rows=1).run()
    rows = lakehouse.table(other.name).scan().sort("id").collect()
    assert_frame_equal(rows, tripled(lakehouse.table(SOURCE).scan()).sort("id").collect(), check_column_order=False)
    assert has_changed(other, lakehouse)  # which partitions the batch had is not known any more


@pytest.mark.parametrize("kind", ["append", "upsert", "by_partition"])
def test_a_full_refresh_that_other_code_ends_is_of_the_code_that_began_it(lakehouse, monkeypatch, kind):
    before, changed, other = (declare(kind, function) for function in (as_it_is, doubled, tripled))
    run(before, lakehouse)
    dies_after(monkeypatch, evolution, "swap", 1, lambda: full_refresh(Refresh(changed, lakehouse, "run")))
    assert run(other, lakehouse)
    assert lakehouse.table(other.name).scan().sort("id").collect()["amount"].to_list() == [2, 4]
    assert not run(other, lakehouse, full_refresh)
    assert lakehouse.table(other.name).scan().sort("id").collect()["amount"].to_list() == [3, 6]


def test_a_full_refresh_that_was_begun_over_another_input_is_told(lakehouse, monkeypatch):
    lakehouse.table("shop.silver.other").create(SCHEMA)
    before = declare("upsert", as_it_is)
    run(before, lakehouse)
    dies_after(monkeypatch, evolution, "swap", 1, lambda: full_refresh(Refresh(declare("upsert", doubled), lakehouse, "run")))
    moved = replace(before, inputs={"sales": "shop.silver.other"})
    with pytest.raises(FullRefreshNeeded):
        Refresh(moved, lakehouse, "run").run()
    full_refresh(Refresh(moved, lakehouse, "run"))
    assert lakehouse.table(moved.name).count() == 0


def test_a_full_refresh_is_not_resumed_by_other_code_of_its_product(tmp_path):
    folder = tmp_path / "shop" / "silver"
    folder.mkdir(parents=True)
    (tmp_path / "shop" / "rates.py").write_text("FACTOR = 1\n")
    file = folder / "tables.py"
    file.write_text("def sales_of(sales):\n    return sales\n")
    scope: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    declaration = declare("upsert", scope["sales_of"])
    before = _code(declaration)
    (tmp_path / "shop" / "rates.py").write_text("FACTOR = 100\n")
    assert _code(declaration) != before


def test_the_file_of_a_function_may_be_edited_while_it_runs(lakehouse, tmp_path):
    file = tmp_path / "edited.py"
    file.write_text("def sales_of(sales):\n    return sales\n")
    scope: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    declaration = declare("upsert", scope["sales_of"])
    number = declaration.function_number
    file.write_text("# Longer.\n\ndef sales_of(sales):\n    return sales.head(1)\n")
    assert declaration.function_number == replace(declaration, description="Another.").function_number == number


def test_functions_that_a_function_made_differ_by_the_values_that_they_keep():
    def times(factor: int) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
        def multiplied(sales: pl.LazyFrame) -> pl.LazyFrame:
            return sales.with_columns(pl.col("amount") * factor)

        return multiplied

    numbers = [declare("upsert", times(factor)).function_number for factor in (2, 3, 2)]
    assert numbers[0] == numbers[2] != numbers[1]


def test_a_restore_brings_the_function_of_the_rows_back(lakehouse):
    before, after = declare("upsert", as_it_is), declare("upsert", doubled)
    run(before, lakehouse)
    stored = lakehouse.table(before.name)
    version = stored.version()
    run(after, lakehouse, full_refresh)
    restore(stored, version, "run")
    assert has_changed(after, lakehouse)
    assert not has_changed(before, lakehouse)

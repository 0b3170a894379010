"""Rejected rows come back once, and only through the contract; the row account stays whole whatever happens in between.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

import json
import shutil
import signal
from collections import Counter
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import reduce
from operator import or_
from tempfile import TemporaryDirectory
from typing import Annotated
from unittest import mock

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.declarations.computed_kinds import ByKey, Full
from lakehouse_assets.platform.declarations.row_kinds import Append, Upsert
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.quarantine import unreleased
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.pipeline.replay import Replays
from lakehouse_assets.platform.pipeline.selection import ReplayRefused, Selection
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.quality.contract import Contract, column
from lakehouse_assets.platform.storage.commit import Counts
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.restore import restore
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.pipeline import orders_child
from lakehouse_assets_tests.platform.pipeline.orders import (
    FIX,
    KINDS,
    SOURCE,
    Order,
    assert_whole,
    dying,
    land,
    lines,
    orders,
    refresh,
    replays,
    waiting,
)


@pytest.fixture
def shop(tmp_path):
    return Lakehouse(str(tmp_path / "tables"))


DIRTY = [("tea", "1"), ("tea", "1,000"), ("jam", "-2"), (None, "3"), ("tea", "1,000"), ("pie", "x")]


@pytest.fixture
def rejected(shop):
    land(shop, DIRTY)
    assert refresh(shop) == RowAccount(6, 1, 0, 0, 5)
    return shop


def test_a_fixed_contract_releases_the_rows_that_it_lets_through(rejected):
    class Lenient(Contract):
        line: str = column(key=True)
        item: str = column()
        quantity: int = column()

    done = replays(rejected, replace(orders, contract=Lenient)).run(Selection())
    assert (done.selected, done.released, done.rejected) == (5, 1, {"readable": 3, "item_not_null": 1})
    assert done.account == RowAccount(1, 1)
    assert lines(rejected) == {"1xtea": 1, "-2xjam": 1}
    assert_whole(rejected)


def test_a_fixed_source_row_is_computed_again(rejected):
    done = replays(rejected).run(FIX)
    assert (done.selected, done.released, done.account) == (5, 2, RowAccount(2, 2))
    assert lines(rejected) == {"1xtea": 1, "1000xtea": 2}
    assert waiting(rejected) == sorted([("jam", "-2"), (None, "3"), ("pie", "x")], key=repr)
    assert_whole(rejected)


def test_a_released_row_says_when_and_how_and_is_not_released_again(rejected):
    assert replays(rejected).run(FIX).number == 1
    again = replays(rejected).run(FIX)
    assert (again.selected, again.released, again.number) == (3, 0, None)
    kept = rejected.table(orders.quarantine).scan().filter(pl.col("_released_in").is_not_null()).collect()
    assert kept["_released_in"].to_list() == [1, 1]
    assert [json.loads(text) for text in kept["_released_with"]] == [dict(FIX.sets)] * 2
    assert kept["_released_at"].null_count() == 0
    assert rejected.table(SOURCE).count() == 6
    assert_whole(rejected)


def test_both_commits_say_what_was_done(rejected):
    replays(rejected).run(replace(FIX, where="_row < 4"))
    said = json.loads(rejected.table(orders.quarantine).history(1)[0]["info"]["replay"])
    assert said == {"number": 1, "set": sorted(FIX.sets), "source_version": 1, "rows": 1}
    info = rejected.table(orders.name).history(1)[0]["info"]
    assert RowAccount.from_json(info["account"]) == RowAccount(1, 1)
    assert (info["replay"], info["run_id"], json.loads(info["reads"])) == ("1", "replay", {SOURCE: 1})


@pytest.mark.parametrize(
    ("where", "selected"),
    [
        (None, 5),
        ("_row = 2", 1),
        ("array_contains(_broken, 'readable')", 3),
        ("\"Quantity\" like '%,%'", 2),
        ("item is null", 1),
        ("source.item = 'jam'", 1),
        ("_unparsed like '%x%' or source.\"Quantity\" = '3'", 2),
        ("quantity < 0", 1),
        ("false", 0),
    ],
)
def test_rows_are_selected_by_columns_of_the_quarantine_and_of_the_source(rejected, where, selected):
    assert replays(rejected).run(Selection(where), dry_run=True).selected == selected


def test_a_dry_run_writes_nothing(rejected):
    versions = [rejected.table(name).version() for name in (orders.name, orders.quarantine)]
    done = replays(rejected).run(FIX, dry_run=True)
    assert (done.selected, done.released, done.number, done.account) == (5, 2, None, None)
    assert [rejected.table(name).version() for name in (orders.name, orders.quarantine)] == versions


def test_a_literal_and_a_typed_value_can_be_set(rejected):
    done = replays(rejected).run(Selection("Quantity = 'x'", {"Quantity": "7"}))
    assert done.account == RowAccount(1, 1)
    done = replays(rejected).run(Selection("item is null", {"item": "'cup'", "Quantity": "cast(Quantity as int) + 1"}))
    assert done.account == RowAccount(1, 1)
    assert lines(rejected) == {"1xtea": 1, "7xpie": 1, "4xcup": 1}


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (Selection("no_such_column = 1"), r"--where 'no_such_column = 1' cannot be understood: .*no_such_column.* Quantity"),
        (Selection("((("), "--where .* cannot be understood"),
        (Selection("quantity = '1,000'"), r"^--where quantity = '1,000': [^\n]*`source\.COLUMN`$"),
        (Selection(sets={"quantity": "1"}), "'quantity' is not a column of the source that can be set. There are: item, Quantity"),
        (Selection(sets={"_row": "1"}), "'_row' is not a column of the source that can be set"),
        (Selection(sets={"Quantity": "nothing + 1"}), "--set Quantity 'nothing \\+ 1' cannot be understood"),
        (Selection(sets={"Quantity": "cast(item as int)"}), "--set Quantity=cast"),
    ],
    ids=str,
)
def test_a_selection_that_cannot_be_understood_changes_nothing(rejected, selection, said):
    version = rejected.table(orders.quarantine).version()
    with pytest.raises(ReplayRefused, match=said):
        replays(rejected).run(selection)
    assert rejected.table(orders.name).version() == 1
    assert unreleased(rejected.table(orders.quarantine)).collect().height == 5
    assert rejected.table(orders.quarantine).version() <= version + 1  # the columns of a release may have come


@pytest.mark.parametrize(
    "selection",
    [
        Selection("cast(item as int) = 1"),
        Selection(sets={"Quantity": "cast(item as int)"}),
        Selection(sets={"Quantity": "cast(strptime(item, '%Y') as int)"}),
    ],
    ids=str,
)
def test_a_refused_selection_shows_no_values_of_rows(rejected, selection):
    with pytest.raises(ReplayRefused, match="failed in column 'item'") as refused:
        replays(rejected).run(selection, dry_run=True)
    assert refused.value.__cause__ is None
    assert not any(value in str(refused.value) for value in ("tea", "jam", "pie"))


@pytest.mark.parametrize(
    "declaration",
    [
        replace(orders, kind=ByKey("line")),
        replace(orders, kind=Full()),
        replace(orders, row_for_row=False),
    ],
    ids=["by key", "full", "not row for row"],
)
def test_a_table_that_is_not_computed_row_by_row_is_refused_with_what_to_do_instead(rejected, declaration):
    with pytest.raises(ReplayRefused, match=r"fix shop\.bronze\.orders.*then `lakehouse run shop\.silver\.orders --full-refresh`"):
        replays(rejected, declaration).run(Selection())


def test_a_table_without_lineage_is_refused(shop):
    def bare(rows: pl.LazyFrame) -> pl.LazyFrame:
        return orders.function(rows).drop("_row")

    land(shop, DIRTY)
    declaration = replace(orders, function=bare)
    refresh(shop, declaration)
    with pytest.raises(ReplayRefused, match=r"shop\.silver\.orders__quarantine has no _row"):
        replays(shop, declaration).run(Selection())


def test_a_line_that_becomes_equal_to_another_one_of_its_file_is_a_line_of_its_own(shop):
    land(shop, [("tea", "1,0"), ("tea", "10"), ("tea", "1,0")], [("tea", "1,0")])
    assert refresh(shop) == RowAccount(4, 1, 0, 0, 3)
    # One by one or at once, they are numbered after those that the table has of their file.
    assert replays(shop).run(replace(FIX, where="_sequence = 1 and _row = 3")).account == RowAccount(1, 1)
    assert replays(shop).run(replace(FIX, where="_sequence = 1")).account == RowAccount(1, 1)
    assert replays(shop).run(FIX).account == RowAccount(1, 0, 0, 1)  # in the other file it is the first
    assert lines(shop) == {"10xtea": 3}
    assert_whole(shop)


class Stock(Contract):
    item: str = column(key=True)
    at: int = column()
    quantity: int = column(ge=0)


def stock(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What the newest file says of an item; all rows are equally new by `at`."""
    return orders.function(rows).drop("line").with_columns(at=pl.lit(1, pl.Int64))


STOCKS = [
    pytest.param(replace(orders, contract=Stock, function=stock, kind=Upsert(("item",), newest_by=newest_by)), id=f"newest_by {newest_by}")
    for newest_by in (None, "at")
]


def take(lakehouse: Lakehouse, declaration: TableDeclaration, *files: list[tuple[str, str]]) -> None:
    """One refresh a file: a row that changes nothing then leaves no trace in the table."""
    for rows in files:
        land(lakehouse, rows)
        refresh(lakehouse, declaration)


def in_stock(lakehouse: Lakehouse) -> dict[str, int]:
    return dict(lakehouse.table(orders.name).scan().select("item", "quantity").collect().iter_rows())


@pytest.mark.parametrize("declaration", STOCKS)
def test_an_older_row_does_not_undo_a_newer_one(shop, declaration):
    land(shop, [("tea", "1,0"), ("jam", "1,0"), ("jam", "5")], [("tea", "7")], [("jam", "2,0")])
    refresh(shop, declaration)
    done = replays(shop, declaration).run(FIX)
    assert in_stock(shop) == {"tea": 7, "jam": 20}
    assert done.account == RowAccount(3, 0, 1, 2)
    assert_whole(shop, declaration)


@pytest.mark.parametrize("declaration", STOCKS)
@pytest.mark.parametrize(
    "files",
    [
        pytest.param([[("tea", "7")], [("tea", "1,0")], [("tea", "7")]], id="in a later file"),
        pytest.param([[("tea", "7")], [("tea", "1,0"), ("tea", "7")]], id="later in its file"),
    ],
)
def test_a_released_row_does_not_undo_a_later_one_that_changed_nothing(shop, declaration, files):
    take(shop, declaration, *files, [("jam", "1,0"), ("pie", "1")], [("pie", "2,0")])
    done = replays(shop, declaration).run(FIX)
    assert (done.released, done.account) == (3, RowAccount(3, 1, 1, 1))
    assert in_stock(shop) == {"tea": 7, "jam": 10, "pie": 20}
    assert_whole(shop, declaration)
    full_refresh(Refresh(declaration, shop, "run"))
    assert in_stock(shop) == {"tea": 7, "jam": 10, "pie": 20}


@pytest.mark.parametrize("declaration", STOCKS)
def test_a_released_row_is_not_undone_by_an_older_one_that_is_released_after_it(shop, declaration):
    take(shop, declaration, [("tea", "10")], [("tea", "2,0")], [("tea", "1,0")])
    newer, older = (replays(shop, declaration).run(replace(FIX, where=f"_sequence = {number}")) for number in (3, 2))
    assert (newer.account, older.account) == (RowAccount(1, 0, 0, 1), RowAccount(1, 0, 0, 1))
    assert in_stock(shop) == {"tea": 10}
    assert_whole(shop, declaration)


@pytest.mark.parametrize("declaration", STOCKS)
def test_a_later_row_that_the_table_has_not_taken_does_not_hold_a_released_one_back(shop, declaration):
    take(shop, declaration, [("tea", "7")], [("tea", "1,0")], [("tea", "7,")])
    land(shop, [("tea", "7")])  # it was not read yet
    assert replays(shop, declaration).run(replace(FIX, where="_sequence = 2")).account == RowAccount(1, 0, 1)
    assert in_stock(shop) == {"tea": 10}
    refresh(shop, declaration)
    assert in_stock(shop) == {"tea": 7}
    assert_whole(shop, declaration)


@pytest.mark.parametrize("declaration", STOCKS)
def test_a_later_row_that_another_process_takes_meanwhile_is_not_undone(shop, declaration):
    take(shop, declaration, [("tea", "7")], [("tea", "1,0")])
    calls = 0

    def slow(rows):
        nonlocal calls
        calls += 1
        if calls == 3:  # 1: which rows pass, 2: what is written, 3: what came later
            with mock.patch.object(Replays, "finish"):  # a refresh that had begun before
                take(shop, declaration, [("tea", "7")])
        return stock(rows)

    replays(shop, replace(declaration, function=slow)).run(FIX)
    assert calls > 3
    assert in_stock(shop) == {"tea": 7}
    assert_whole(shop, declaration)


@pytest.mark.parametrize("declaration", STOCKS)
def test_the_function_is_called_as_often_however_many_replays_there_were(shop, declaration):
    calls = 0

    def counted(rows):
        nonlocal calls
        calls += 1
        return stock(rows)

    land(shop, [("tea", "7"), *[("tea", f"{number},0") for number in range(1, 6)]])
    refresh(shop, declaration)
    counting = replays(shop, replace(declaration, function=counted))
    needed = []
    for row in range(2, 7):
        calls = 0
        assert counting.run(replace(FIX, where=f"_row = {row}")).account == RowAccount(1, 0, 1)
        assert in_stock(shop) == {"tea": 10 * (row - 1)}
        needed.append(calls)
    assert needed == [3, 4, 4, 4, 4]  # the second one has one before it
    assert_whole(shop, declaration)


def test_of_rows_that_the_table_has_taken_only_what_says_which_counts_is_read(shop):
    declaration = STOCKS[1].values[0]
    take(shop, declaration, [("tea", "7")], [("tea", "1,0")])
    with mock.patch.object(Upsert, "release", autospec=True, side_effect=Upsert.release) as release:
        replays(shop, declaration).run(FIX)
    result = release.call_args.args[2]
    assert result.taken.columns == ["item", "at", "_sequence", "_row"]


def test_a_release_returns_the_counts_that_its_commit_has(shop):
    declaration = STOCKS[0].values[0]
    take(shop, declaration, [("tea", "7")], [("tea", "1,0"), ("tea", "7"), ("jam", "1,0")])
    written, plain = [], Upsert.release
    with mock.patch.object(Upsert, "release", lambda *args: written.append(plain(*args))):
        done = replays(shop, declaration).run(FIX)
    assert done.account == RowAccount(2, 1, 0, 1)
    assert [one.counts for one in written] == [Counts(1, 0, 1)]


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_function_that_fails_shows_no_values_of_rows(shop, failing):
    declaration = STOCKS[0].values[0]
    take(shop, declaration, [("tea", "7")], [("tea", "1,0")])
    calls = 0

    def fails(rows):
        nonlocal calls
        calls += 1
        return stock(rows.with_columns(pl.col("item").cast(pl.Int64).cast(pl.String)) if calls == failing else rows)

    with pytest.raises(ReplayRefused, match="failed in column 'item'") as refused:
        replays(shop, replace(declaration, function=fails)).run(FIX)
    assert refused.value.__cause__ is None
    assert "tea" not in str(refused.value)
    assert replays(shop, declaration).run(FIX).finished == (failing > 1)
    assert in_stock(shop) == {"tea": 10}


class Graded(Contract):
    item: str = column(key=True)
    kind: Annotated[pl.Enum, ["tea", "jam", "cup"]] = column(key=True)
    brand: pl.Categorical = column(key=True)
    day: Annotated[pl.Datetime, "us", None] = column(key=True)
    grade: Annotated[pl.Enum, ["low", "high"]] = column()
    weight: pl.UInt32 = column()
    quantity: int = column(ge=0)


def graded(rows: pl.LazyFrame) -> pl.LazyFrame:
    """All types that a table stores as others."""
    return (
        stock(rows)
        .with_columns(
            kind=pl.col("item").cast(pl.Enum(["tea", "jam", "cup"])),
            brand=pl.col("item").cast(pl.Categorical),
            day=pl.datetime(2024, 1, 1),
            grade=pl.when(pl.col("quantity") > 9).then(pl.lit("high")).otherwise(pl.lit("low")).cast(pl.Enum(["low", "high"])),
            weight=pl.lit(1, pl.UInt32),
        )
        .drop("at")
    )


@pytest.mark.parametrize("newest_by", [None, "grade"])
def test_types_that_a_table_stores_as_others_are_released(shop, newest_by):
    kind = Upsert(("item", "kind", "brand", "day"), newest_by=newest_by)
    declaration = replace(orders, contract=Graded, function=graded, kind=kind)
    take(shop, declaration, [("tea", "7"), ("cup", "10")], [("tea", "8,"), ("jam", "1,0"), ("jam", "x"), ("cup", "5,")])
    take(shop, declaration, [("tea", "7"), ("cup", "10")])
    done = replays(shop, declaration).run(FIX)
    # Values are compared as they are stored, as in a refresh: the text "low" is newer than "high".
    assert in_stock(shop) == {"tea": 7, "jam": 10, "cup": 5 if newest_by else 10}
    assert done.account == (RowAccount(3, 1, 1, 1) if newest_by else RowAccount(3, 1, 0, 2))
    assert waiting(shop, declaration) == [("jam", "x")]
    assert_whole(shop, declaration)
    full_refresh(Refresh(declaration, shop, "run"))
    assert in_stock(shop) == {"tea": 7, "jam": 10, "cup": 5 if newest_by else 10}


def test_keys_of_types_that_a_table_stores_as_others_are_known_again(shop):
    declaration = replace(orders, contract=Graded, function=graded, kind=Append())
    take(shop, declaration, [("tea", "7")], [("tea", "8"), ("cup", "1")])
    assert in_stock(shop) == {"tea": 7, "cup": 1}
    assert [row[0] for row in waiting(shop, declaration)] == ["tea"]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_wait_need_not_have_the_columns_and_types_that_rows_have_now(shop, kind):
    land(shop, [("tea", "1,0"), ("jam", "-2")])
    refresh(shop, replace(KINDS[kind], function=lambda rows: orders.function(rows).drop("_unparsed")))

    class Unsigned(Contract):
        line: str = column(key=True)
        item: Annotated[pl.Enum, ["tea"]] = column()
        quantity: pl.UInt32 = column()

    def unsigned(rows):
        narrow = {"quantity": pl.UInt32, "item": pl.Enum(["tea"])}
        return orders.function(rows).with_columns(pl.col(name).cast(dtype, strict=False) for name, dtype in narrow.items())

    done = replays(shop, replace(KINDS[kind], contract=Unsigned, function=unsigned)).run(FIX)
    assert (done.account, done.rejected) == (RowAccount(1, 1), {"item_not_null": 1, "quantity_not_null": 1})
    assert_whole(shop, KINDS[kind])


def test_rows_whose_source_row_is_gone_stay(rejected):
    bronze = rejected.table(SOURCE)
    kept = bronze.scan().filter(pl.col("_row") != 2).collect()
    bronze.replace(kept, None)
    done = replays(rejected).run(FIX)
    assert (done.selected, done.released, done.gone) == (4, 1, 1)
    assert unreleased(rejected.table(orders.quarantine)).collect().height == 4


def test_a_refresh_after_a_replay_continues_and_a_full_refresh_keeps_what_was_released(rejected):
    replays(rejected).run(FIX)
    land(rejected, [("tea", "1,000"), ("pie", "4")])
    assert refresh(rejected) == RowAccount(2, 1, 0, 0, 1)
    assert_whole(rejected)
    before = lines(rejected)
    full_refresh(Refresh(orders, rejected, "run"))
    assert lines(rejected) == before
    assert len(waiting(rejected)) == 4
    assert not replays(rejected).unfinished()


def test_a_table_that_was_brought_back_gets_its_released_rows_again(rejected):
    table = rejected.table(orders.name)
    replays(rejected).run(replace(FIX, where="_row = 2"))
    replays(rejected).run(FIX)
    assert lines(rejected) == {"1xtea": 1, "1000xtea": 2}
    restore(table, 1, "back")
    assert lines(rejected) == {"1xtea": 1}
    assert Refresh(orders, rejected, "run").pending() == [orders.quarantine]
    refresh(rejected)
    assert lines(rejected) == {"1xtea": 1, "1000xtea": 2}
    assert not replays(rejected).unfinished()


def test_a_quarantine_that_was_made_before_replays_gets_their_columns(rejected):
    quarantine = rejected.table(orders.quarantine)
    old = quarantine.scan().select(pl.exclude(r"^_released.*$")).collect()
    shutil.rmtree(quarantine.uri)
    quarantine.create(old.schema)
    quarantine.append(old)
    assert unreleased(quarantine).collect().height == 5
    assert replays(rejected).run(FIX).released == 2
    assert_whole(rejected)
    shutil.rmtree(quarantine.uri)
    quarantine.create(old.schema)
    land(rejected, DIRTY)
    assert refresh(rejected).quarantined == 5


# --- deaths


class Died(BaseException):
    """As if the process had been killed, as far as tables can tell."""


def die():
    raise Died


@pytest.mark.parametrize("declaration", STOCKS)
def test_a_batch_that_died_is_finished_before_its_rows_are_released(shop, declaration):
    """Else the released row would come before an earlier row of its file."""
    take(shop, declaration, [("tea", "7")])
    land(shop, [("tea", "3"), ("tea", "1,0")])
    with pytest.raises(Died), dying(2, "before", die):
        refresh(shop, declaration)
    for dry_run in (True, False):
        with pytest.raises(ReplayRefused, match=r"a run of it was interrupted.* `lakehouse run shop\.silver\.orders` first"):
            replays(shop, declaration).run(FIX, dry_run=dry_run)
    assert in_stock(shop) == {"tea": 7}
    refresh(shop, declaration)
    assert replays(shop, declaration).run(FIX).account == RowAccount(1, 0, 1)
    assert in_stock(shop) == {"tea": 10}
    assert_whole(shop, declaration)


@pytest.mark.parametrize("declaration", STOCKS)
@pytest.mark.parametrize("version", [0, 1])
def test_rows_that_were_released_come_after_the_batches_that_a_restored_table_lacks(shop, declaration, version):
    take(shop, declaration, [("tea", "7")], [("tea", "3"), ("tea", "1,0")])
    replays(shop, declaration).run(FIX)
    restore(shop.table(declaration.name), version, "back")
    assert replays(shop, declaration).finish() == 0
    assert Refresh(declaration, shop, "run").pending() == [SOURCE, declaration.quarantine]
    refresh(shop, declaration)
    assert in_stock(shop) == {"tea": 10}
    assert not replays(shop, declaration).unfinished()


@pytest.mark.parametrize("declaration", STOCKS)
def test_rows_that_are_marked_while_a_refresh_is_between_its_commits_wait_for_it(shop, declaration):
    take(shop, declaration, [("tea", "7")], [("jam", "1,0")])
    land(shop, [("tea", "3"), ("tea", "1,0")])
    plain = Replays._selected

    def slow(self, selection):
        """The refresh begins when the replay has, and dies in between."""
        with pytest.raises(Died), dying(2, "before", die):
            Refresh(declaration, shop, "run").run()
        return plain(self, selection)

    with mock.patch.object(Replays, "_selected", slow):
        assert replays(shop, declaration).run(FIX).released == 0
    assert in_stock(shop) == {"tea": 7}
    refresh(shop, declaration)
    assert in_stock(shop) == {"tea": 10, "jam": 10}
    assert_whole(shop, declaration)


def test_replays_are_written_in_the_order_of_their_numbers(rejected):
    """One that marked its rows when another one began is not passed over."""
    plain = Replays.finish

    def slow(self):
        done = plain(self)
        with mock.patch.object(Replays, "finish", plain), pytest.raises(Died), dying(1, "after", die):
            replays(rejected).run(replace(FIX, where="_row = 2"))
        Replays.finish = plain
        return done

    with mock.patch.object(Replays, "finish", slow):
        assert replays(rejected).run(replace(FIX, where="_row = 5")).number == 2
    assert lines(rejected) == {"1xtea": 1, "1000xtea": 2}
    assert_whole(rejected)


PLACES = [(1, "before"), (1, "after"), (2, "before"), (2, "after")]
BETWEEN = PLACES[1:3]
"""The quarantine is committed, and the table is not."""


def child(lakehouse, kind, place=(0, "before"), job="replay"):
    """An order."""
    return {"root": lakehouse.root, "kind": kind, "fatal": place[0], "when": place[1], "job": job}


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_replay_is_finished_by_the_next_one_or_by_the_next_refresh(tmp_path, kind, forks):
    declaration = KINDS[kind]
    first = Lakehouse(str(tmp_path / "first"))
    land(first, DIRTY, [("tea", "2,0")])
    refresh(first, declaration)
    in_between = [(*place, job) for place in BETWEEN for job in ("replay", "refresh")]
    around = [(*place, "replay") for place in PLACES if place not in BETWEEN]
    sample = [in_between[0], in_between[3]] if kind == "append" else [*in_between[1:3], *around]
    for fatal, when, job in sweeps.of(sample, [*in_between, *around]):
        shop = Lakehouse(str(tmp_path / f"{fatal}-{when}-{job}"))
        shutil.copytree(first.root, shop.root)
        assert forks[0](orders_child, **child(shop, kind, (fatal, when))).signal == signal.SIGKILL
        if job == "refresh":
            land(shop, [("cup", "1")])
            refresh(shop, declaration)
        done = replays(shop, declaration).run(FIX)
        assert lines(shop) == Counter({"1xtea": 1, "1000xtea": 2, "20xtea": 1} | ({"1xcup": 1} if job == "refresh" else {}))
        assert done.finished == ((fatal, when) in BETWEEN and job == "replay")
        assert done.released == (3 if (fatal, when) == (1, "before") else 0)
        assert_whole(shop, declaration)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_replay_after_a_killed_refresh_waits_for_its_batch(shop, kind, place, forks):
    declaration = KINDS[kind]
    land(shop, [("tea", "1"), ("tea", "x")])
    refresh(shop, declaration)
    land(shop, [("tea", "1,0"), ("tea", "10"), ("jam", "1")])
    assert forks[0](orders_child, **child(shop, kind, place, "refresh")).signal == signal.SIGKILL
    with pytest.raises(ReplayRefused, match="was interrupted") if place in BETWEEN else nullcontext():
        replays(shop, declaration).run(FIX)
    refresh(shop, declaration)
    replays(shop, declaration).run(FIX)
    assert lines(shop) == {"1xtea": 1, "10xtea": 2, "1xjam": 1}
    assert_whole(shop, declaration)


def test_rows_that_do_not_pass_any_more_are_taken_back(rejected):
    with pytest.raises(Died), dying(1, "after", die):
        replays(rejected).run(FIX)
    assert replays(rejected).unfinished()

    class Stricter(Order):
        quantity: int = column(ge=0, lt=1000)

    stricter = replays(rejected, replace(orders, contract=Stricter))
    for when in ("before", "after", "before"):  # the rest is written, then the rows are taken back
        with pytest.raises(Died), dying(1, when, die):
            stricter.finish()
    assert stricter.unfinished()
    stricter.finish()
    assert lines(rejected) == {"1xtea": 1}
    assert len(waiting(rejected)) == 5
    assert_whole(rejected)
    assert replays(rejected).run(FIX).number == 2
    assert_whole(rejected)


def test_rows_that_another_process_writes_meanwhile_are_not_taken_back(shop):
    declaration = KINDS["append"]
    land(shop, DIRTY)
    refresh(shop, declaration)
    with pytest.raises(Died), dying(1, "after", die):
        replays(shop, declaration).run(FIX)
    other = replays(shop, declaration)

    def slow(rows):
        """While this one looks at the rows, the other one writes them: their keys are taken then."""
        other.finish()
        return orders.function(rows)

    replays(shop, replace(declaration, function=slow)).finish()
    assert lines(shop) == {"1xtea": 1, "1000xtea": 2}
    assert len(waiting(shop, declaration)) == 3
    assert_whole(shop, declaration)


@pytest.mark.parametrize("kind", KINDS)
def test_two_replays_at_once_release_each_row_once(tmp_path, kind, forks):
    shop = Lakehouse(str(tmp_path))
    declaration = KINDS[kind]
    land(shop, *[[(f"item{number}", "1,0"), ("tea", "x")] for number in range(6)])
    refresh(shop, declaration)
    for one in forks:
        one.begin(orders_child, **child(shop, kind))
    ended = [one.end() for one in forks]
    assert [one.signal for one in ended] == [0, 0]
    assert sum(one.result for one in ended) == 6
    assert lines(shop) == Counter({f"10xitem{number}": 1 for number in range(6)})
    assert_whole(shop, declaration)


TEXTS = ["1", "2", "1,0", "10", "-1", "x", None]
FILES = st.lists(st.tuples(st.sampled_from(["tea", "jam", None]), st.sampled_from(TEXTS)), min_size=1, max_size=6)
# Conditions and changes in SQL, and the same in Python for the row's number, item and quantity.
WHERE = {
    None: lambda row, item, quantity: True,
    "_row > 2": lambda row, item, quantity: row > 2,
    "\"Quantity\" like '%,%'": lambda row, item, quantity: "," in (quantity or ""),
    "source.item = 'tea'": lambda row, item, quantity: item == "tea",
    "array_contains(_broken, 'readable')": lambda row, item, quantity: quantity in ("1,0", "x"),
}
SETS = {
    (): lambda item, quantity: (item, quantity),
    ("Quantity", "replace(Quantity, ',', '')"): lambda item, quantity: (item, quantity and quantity.replace(",", "")),
    ("Quantity", "replace(Quantity, '-', '')"): lambda item, quantity: (item, quantity and quantity.replace("-", "")),
    ("Quantity", "'1'"): lambda item, quantity: (item, "1"),
    ("item", "'cup'"): lambda item, quantity: ("cup", quantity),
}
REPLAYS = st.tuples(st.sampled_from(list(WHERE)), st.sampled_from(list(SETS)))
DEATHS = st.none() | st.tuples(st.integers(1, 3), st.sampled_from(["before", "after"]))


class Oracle:
    """A row counts once it is accepted, as it was or changed: of one file every line, of several files each line once."""

    def __init__(self):
        self.accepted, self.waits = {}, {}

    def take(self, sequence, row, item, quantity):
        if item and quantity and quantity.isdigit():
            self.accepted.setdefault(sequence, Counter())[f"{quantity}x{item}"] += 1
            self.waits.pop((sequence, row), None)

    def refresh(self, sequence, rows):
        for row, (item, quantity) in enumerate(rows, 1):
            self.waits[sequence, row] = (item, quantity)
            self.take(sequence, row, item, quantity)

    def replay(self, where, change):
        for (sequence, row), (item, quantity) in list(self.waits.items()):
            if WHERE[where](row, item, quantity):
                self.take(sequence, row, *SETS[change](item, quantity))

    @property
    def lines(self):
        return reduce(or_, self.accepted.values(), Counter())


@given(st.lists(st.tuples(FILES, st.lists(REPLAYS, min_size=1, max_size=3)), min_size=1, max_size=3), st.lists(DEATHS, max_size=10))
@sweeps.examples(6, 60, database=None)
def test_each_source_row_is_accounted_for_once_whatever_is_replayed_and_wherever_it_dies(landings, deaths):
    oracle, dies = Oracle(), iter(deaths)

    def twice(work):
        """Die on the way, and do the same again: what was left undone is done."""
        with suppress(Died), dying(*(next(dies, None) or (0, "before")), die):
            work()
        work()
        assert_whole(shop)

    with TemporaryDirectory() as root:
        shop = Lakehouse(root)
        for file, selections in landings:
            land(shop, file)
            twice(lambda: refresh(shop))
            oracle.refresh(shop.table(SOURCE).version(), file)
            for where, change in selections:
                selection = Selection(where, dict([change] if change else []))
                twice(lambda: replays(shop).run(selection))  # noqa: B023 called at once
                oracle.replay(where, change)
                assert waiting(shop) == sorted(oracle.waits.values(), key=repr)
                assert lines(shop) == oracle.lines

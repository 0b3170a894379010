"""A table is made of two, itself and its quarantine. Whichever was deleted by hand, the command that is named builds both again.

Afterwards both are what a first run would have made of the sources: no row is in both, and none in neither.
"""

import shutil
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.row_kinds import Append, Upsert
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline import quarantine
from lakehouse_assets.platform.pipeline.full_refresh import bring_up_to_date, full_refresh
from lakehouse_assets.platform.pipeline.quarantine import unreleased
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.pipeline.selection import ReplayRefused, Selection
from lakehouse_assets.platform.quality.contract import ContractBroken, column
from lakehouse_assets.platform.storage.errors import CursorMoved, NoSuchTable, NoSuchVersion
from lakehouse_assets.platform.storage.known_at import as_known
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.pipeline import test_feature_sets
from lakehouse_assets_tests.platform.pipeline.orders import FIX, Order, land, lines, orders, replays
from lakehouse_assets_tests.platform.pipeline.test_law_incremental import Died, contents, dying_at, from_scratch
from lakehouse_assets_tests.platform.pipeline.worlds import SCHEMA, FeedWorld, World, declarations, of_feed
from lakehouse_assets_tests.platform.serving import busy, till

ROWS = [{"id": n, "part": ("jan", "feb", None)[n % 3], "day": n + 1, "code": "xyz"[n % 3], "amount": (n, -20, n)[n % 3]} for n in range(9)]
MORE = [{"id": n + 20, "part": "mar", "day": n + 9, "code": "x", "amount": n - 1} for n in range(4)]
OVER = declarations(1, dimension=False)
WORLDS = {
    **{name: (World, one, [("put", "shop.silver.a", ROWS)], [("put", "shop.silver.a", MORE)]) for name, one in OVER.items()},
    **{
        f"{name} over a feed": (FeedWorld, one, [("land", 0, ROWS), ("land", 0, MORE)], [("land", 0, MORE), ("reread", 11, MORE)])
        for name, one in of_feed().items()
    },
}
DIRTY = [("tea", "1"), ("tea", "1,000"), ("jam", "-2"), (None, "3"), ("tea", "1,000"), ("pie", "x")]


def delete(lakehouse: Lakehouse, name: str) -> None:
    shutil.rmtree(lakehouse.table(name).uri)


def stricter(declaration: TableDeclaration) -> TableDeclaration:
    """The same with a contract that rejects more, under the same layout."""
    name = "amount" if "amount" in declaration.contract.to_schema().columns else "total"
    contract = type("Stricter", (declaration.contract,), {"__annotations__": {name: int}, name: column(ge=3)})
    return replace(declaration, contract=contract)


@pytest.mark.parametrize("how", [bring_up_to_date, full_refresh])
@pytest.mark.parametrize("more", [False, True], ids=["nothing new", "more rows"])
@pytest.mark.parametrize("name", WORLDS)
def test_a_table_whose_quarantine_stayed_is_built_again_with_it(tmp_path, name, more, how):
    make, declaration, first, then = WORLDS[name]
    world = make(tmp_path / "world")
    world.apply((first, {"x": 2}))
    Refresh(declaration, world.lakehouse, "first").run()
    assert contents(world.lakehouse, declaration.quarantine), "rows were rejected"
    if more:
        world.apply((then, None))
        declaration = stricter(declaration)
    delete(world.lakehouse, declaration.name)
    assert set(Refresh(declaration, world.lakehouse, "").pending()) == set(declaration.sources())
    done = how(Refresh(declaration, world.lakehouse, "again", batch_rows=3))
    fresh = from_scratch(world, declaration, tmp_path / "fresh")
    for table in declaration.outputs():
        assert contents(world.lakehouse, table) == contents(fresh, table), table
    if not more:  # files that were read again are accounted for as often as they were read
        assert done.account.quarantined == len(contents(fresh, declaration.quarantine))
    assert Refresh(declaration, world.lakehouse, "").pending() == []
    world.apply((then, None))  # and it goes on from there
    bring_up_to_date(Refresh(declaration, world.lakehouse, "more"))
    fresh = from_scratch(world, declaration, tmp_path / "fresher")
    for table in declaration.outputs():
        assert contents(world.lakehouse, table) == contents(fresh, table), table


@pytest.mark.parametrize("name", WORLDS)
def test_a_quarantine_that_was_deleted_is_built_again_by_the_command_that_is_named(tmp_path, name):
    make, declaration, first, _ = WORLDS[name]
    world = make(tmp_path / "world")
    world.apply((first, {"x": 2}))
    Refresh(declaration, world.lakehouse, "first").run()
    before = {table: contents(world.lakehouse, table) for table in declaration.outputs()}
    delete(world.lakehouse, declaration.quarantine)
    with pytest.raises(NoSuchTable, match=f"`lakehouse run {declaration.name} --full-refresh` makes it"):
        world.lakehouse.table(declaration.quarantine).scan()
    full_refresh(Refresh(declaration, world.lakehouse, "again"))
    assert {table: contents(world.lakehouse, table) for table in declaration.outputs()} == before
    assert Refresh(declaration, world.lakehouse, "").pending() == []


@pytest.mark.parametrize("behind", [False, True], ids=["as many versions as before", "fewer"])
@pytest.mark.parametrize("name", OVER)
def test_a_source_that_was_created_again_is_no_known_one_whatever_its_version(tmp_path, name, behind):
    """Its rows would be missed, or the change between two tables taken for one of rows."""
    declaration = OVER[name]
    world = World(tmp_path / "world")
    world.apply(([("put", "shop.silver.a", ROWS[:4]), ("put", "shop.silver.a", ROWS[4:])], None))
    refresh = Refresh(declaration, world.lakehouse, "first")
    refresh.run()
    source = world.lakehouse.table("shop.silver.a")
    read = source.version()
    delete(world.lakehouse, source.name)
    source.create(SCHEMA)
    world.apply(([("put", source.name, [*MORE[:1], MORE[3] | {"part": "apr"}])], None))
    while source.version() < read and not behind:
        world.apply(([("put", source.name, [MORE[2] | {"id": 100 + source.version()}])], None))
    assert refresh.pending() == [source.name]
    before = contents(world.lakehouse, declaration.name)
    with pytest.raises(NoSuchVersion, match=f"deleted and created again.*`lakehouse run {declaration.name} --full-refresh`"):
        refresh.run()
    assert contents(world.lakehouse, declaration.name) == before
    full_refresh(refresh)
    assert refresh.pending() == []
    for step in ([], [("put", source.name, MORE[3:])]):
        world.apply((step, None))
        refresh.run()
        fresh = from_scratch(world, declaration, tmp_path / f"fresh{len(step)}")
        for table in declaration.outputs():
            assert contents(world.lakehouse, table) == contents(fresh, table), table


@pytest.mark.parametrize("how", [bring_up_to_date, full_refresh])
def test_a_feature_set_whose_quarantine_stayed_is_built_again_with_it(tmp_path, how):
    class Positive(test_feature_sets.Level, max_bad_share=1.0):
        amount: int = column(ge=0)

    declared: FeatureSet = replace(test_feature_sets.declared(), contract=Positive)
    shop = test_feature_sets.Shop(tmp_path)
    shop.put(s1=("a", 0, 5), s2=("b", 0, -5))
    shop.run(declared)
    assert contents(shop.lakehouse, declared.quarantine)
    before = [len(contents(shop.lakehouse, table)) for table in declared.outputs()]
    delete(shop.lakehouse, declared.name)
    how(Refresh(declared, shop.lakehouse, "again"))
    assert [len(contents(shop.lakehouse, table)) for table in declared.outputs()] == before
    delete(shop.lakehouse, declared.name)
    lenient = test_feature_sets.declared()
    how(Refresh(lenient, shop.lakehouse, "again"))
    assert [len(contents(shop.lakehouse, table)) for table in declared.outputs()] == [sum(before), 0], "what passes now is in one alone"


def test_a_full_refresh_that_was_refused_does_not_stand_in_the_way_of_one_from_another_source(tmp_path):
    """The command that is named would refuse for ever."""
    declaration = OVER["Upsert"]
    world = World(tmp_path / "world")
    source = world.lakehouse.table("shop.silver.a")
    world.apply(([("put", source.name, [row for row in ROWS if row["amount"] > 0])], None))
    refresh = Refresh(declaration, world.lakehouse, "first")
    refresh.run()
    for rows in ([row | {"amount": -1} for row in ROWS], MORE):
        delete(world.lakehouse, source.name)
        source.create(SCHEMA)
        world.apply(([("put", source.name, rows)], None))
        if rows is not MORE:
            with pytest.raises(ContractBroken, match="would be empty"):
                full_refresh(refresh)
    full_refresh(refresh)
    fresh = from_scratch(world, declaration, tmp_path / "fresh")
    assert contents(world.lakehouse, declaration.name) == contents(fresh, declaration.name) != []


def test_a_first_reading_that_died_in_its_parts_is_not_gone_on_with_from_another_source(tmp_path):
    declaration = OVER["ByPartition"]
    world = World(tmp_path / "world")
    source = world.lakehouse.table("shop.silver.a")
    world.apply(([("put", source.name, ROWS)], None))
    refresh = Refresh(declaration, world.lakehouse, "first", batch_rows=2)
    with dying_at(5), suppress(Died):
        refresh.run()
    assert refresh.stored.count() > 0
    assert refresh.stored.cursor(source.name) is None
    delete(world.lakehouse, source.name)
    source.create(SCHEMA)
    world.apply(([("put", source.name, MORE)], None))
    with pytest.raises(NoSuchVersion, match=f"has read a part of {source.name}, which was deleted .* {declaration.name} --full-refresh`"):
        refresh.run()
    full_refresh(refresh)
    fresh = from_scratch(world, declaration, tmp_path / "fresh")
    assert contents(world.lakehouse, declaration.name) == contents(fresh, declaration.name)
    assert refresh.pending() == []


def test_a_feature_set_is_computed_in_place_from_a_source_that_was_created_again(tmp_path):
    """What was known before stays known as it was."""
    declared = test_feature_sets.declared()
    shop = test_feature_sets.Shop(tmp_path)
    shop.put(s1=("a", 0, 5), s2=("b", 0, 7))
    shop.run(declared)
    delete(shop.lakehouse, test_feature_sets.SALES)
    shop.lakehouse.table(test_feature_sets.SALES).create(test_feature_sets.SCHEMA)
    shop.put(s2=None, s3=("c", 0, 9))
    refresh = Refresh(declared, shop.lakehouse, "again")
    for how in (refresh.run, partial(bring_up_to_date, refresh)):
        with pytest.raises(NoSuchVersion, match="deleted and created again"):
            how()
    full_refresh(refresh)
    assert refresh.pending() == []
    assert sorted(
        as_known(shop.lakehouse.table(declared.name).scan(), test_feature_sets.KEY).collect().select("part", "amount").rows()
    ) == [("a", 5), ("c", 9)]
    shop.put(s4=("d", 1, 1))
    refresh.run()
    assert refresh.pending() == []


@pytest.mark.parametrize("how", [bring_up_to_date, full_refresh])
def test_predictions_whose_quarantine_stayed_are_made_again_with_it(tmp_path, how):
    class Likely(till.Score, max_bad_share=1.0):
        probability: float = column(ge=0.5)

    root = Root(Settings.load({"LAKEHOUSE_ROOT": str(tmp_path)}))
    runner = busy.prepared(root, 20)
    declared = replace(busy.scored, contract=Likely)

    def run(declaration: TableDeclaration) -> list[list[str]]:
        how(Refresh(declaration, root.lakehouse, "again", runner.champions))
        return [root.lakehouse.table(name).scan().collect()["receipt"].sort().to_list() for name in declared.outputs()]

    before = run(declared)
    assert [len(set(one)) == len(one) > 0 for one in before] == [True, True]
    delete(root.lakehouse, declared.name)
    assert run(declared) == before
    delete(root.lakehouse, declared.name)
    assert run(busy.scored) == [sorted(before[0] + before[1]), []], "what passes now is in one alone"


def test_a_quarantine_that_another_run_fills_meanwhile_keeps_its_rows(tmp_path, monkeypatch):
    shop = Lakehouse(str(tmp_path))
    land(shop, DIRTY)
    bring_up_to_date(Refresh(orders, shop, "first"))
    before = contents(shop, orders.quarantine)
    delete(shop, orders.name)
    rejected = shop.table(orders.quarantine)
    answer = quarantine.has_no_table

    def and_then(*given):
        rejected.append(rejected.scan().limit(0).collect())
        return answer(*given)

    monkeypatch.setattr(quarantine, "has_no_table", and_then)
    with pytest.raises(CursorMoved, match="is written by another process"):
        quarantine.read_again(orders, shop)
    assert contents(shop, orders.quarantine) == before


@pytest.mark.parametrize("kind", [Upsert(("line",)), Append()], ids=["upsert", "append"])
def test_what_people_released_is_in_the_table_again(tmp_path, kind):
    shop, declared = Lakehouse(str(tmp_path)), replace(orders, kind=kind)
    land(shop, DIRTY)
    bring_up_to_date(Refresh(declared, shop, "first"))
    assert replays(shop, declared).run(FIX).released == 2
    before = lines(shop)
    delete(shop, declared.name)
    assert not replays(shop, declared).unfinished()
    with pytest.raises(NoSuchTable, match=f"`lakehouse run {declared.name}` makes it"):
        replays(shop, declared).run(FIX)
    bring_up_to_date(Refresh(declared, shop, "again"))
    assert lines(shop) == before == {"1xtea": 1, "1000xtea": 2}
    assert not replays(shop, declared).unfinished()
    assert unreleased(shop.table(declared.quarantine)).collect().height == 3


def test_a_quarantine_that_is_gone_cannot_be_replayed_and_says_what_makes_it(tmp_path):
    shop = Lakehouse(str(tmp_path))
    land(shop, DIRTY)
    bring_up_to_date(Refresh(orders, shop, "first"))
    delete(shop, orders.quarantine)
    with pytest.raises(ReplayRefused, match=r"has no quarantine: `lakehouse run shop\.silver\.orders --full-refresh` computes both again"):
        replays(shop).run(Selection())
    full_refresh(Refresh(orders, shop, "again"))
    assert replays(shop).run(FIX).released == 2


@pytest.mark.parametrize("commit", range(6))
def test_wherever_it_dies_while_it_is_built_again_the_next_run_ends_it(tmp_path, commit):
    class Lenient(Order, max_bad_share=1.0):
        quantity: int = column()

    shop, lenient = Lakehouse(str(tmp_path)), replace(orders, contract=Lenient)
    land(shop, DIRTY, [("tea", "7"), ("jam", "-1")])
    bring_up_to_date(Refresh(orders, shop, "first"))
    delete(shop, orders.name)
    with dying_at(commit), suppress(Died):
        bring_up_to_date(Refresh(lenient, shop, "dies"))
    bring_up_to_date(Refresh(lenient, shop, "again"))
    assert lines(shop) == {"1xtea": 1, "-2xjam": 1, "7xtea": 1, "-1xjam": 1}
    assert unreleased(shop.table(orders.quarantine)).collect().height == 4
    assert not replays(shop, lenient).unfinished()
    assert not [path for path in Path(shop.root).rglob("*__full_refresh*") if path.is_file()]

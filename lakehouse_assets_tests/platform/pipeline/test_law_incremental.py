"""Law 4: whatever happens to the sources, the incremental table equals what a full refresh from the same sources gives.

Runs die between any two commits here by an exception that nothing catches: what is stored then is what a kill leaves. Real kills of real
processes are in `test_crash` and `test_full_refresh`.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from unittest import mock

import polars as pl
import pytest
from hypothesis import HealthCheck, assume, example, given
from hypothesis import strategies as st

from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline import swap
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.quarantine import RELEASED
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.pipeline.replay import Replays
from lakehouse_assets.platform.pipeline.selection import ReplayRefused, Selection
from lakehouse_assets.platform.quality.contract import ContractBroken
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.lineage import LINEAGE
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.pipeline.worlds import (
    SOURCES,
    FeedWorld,
    World,
    declarations,
    feed_steps,
    of_feed,
    steps,
    with_a_fix,
)

CASES = sweeps.cases(
    (
        pytest.param(declaration, id=f"{kind}, {inputs} inputs{', a dimension' if dimension else ''}")
        for inputs in (1, 2, 3)
        for dimension in (False, True)
        for kind, declaration in declarations(inputs, dimension=dimension).items()
    ),
    sample=(
        "ByPartition, 1 inputs",
        "ByPartition, 3 inputs, a dimension",
        "ByKey, 2 inputs, a dimension",
        "ByKey of a coarser key, 3 inputs, a dimension",
        "Trailing, 2 inputs, a dimension",
        "ByKeyAndTime, 2 inputs, a dimension",
        "Full, 2 inputs, a dimension",
        "Append, 1 inputs",
        "Upsert, 1 inputs, a dimension",
        "SCD1, 1 inputs, a dimension",
        "SCD2, 1 inputs, a dimension",
    ),
)
# What is done after the sources changed: how often it dies before, and whether everything is computed again.
runs = st.tuples(st.lists(st.integers(0, 4), max_size=2), st.booleans())


class Died(BaseException):
    """The end of a process."""


@contextmanager
def dying_at(commit: int) -> Iterator[None]:
    """Die before a commit, counted from 0."""
    commits, real = iter(range(1_000)), Table.write

    def write(table: Table, *args: object) -> object:
        if next(commits) == commit:
            raise Died
        return real(table, *args)

    with mock.patch.object(Table, "write", write):
        yield


def contents(lakehouse: Lakehouse, name: str) -> list[tuple]:
    table = lakehouse.table(name)
    if not table.exists():
        return []
    rows = table.scan().drop([*RELEASED, *LINEAGE], strict=False).collect()
    return sorted(rows.select(sorted(rows.columns)).rows(), key=repr)


def from_scratch(world: World, declaration: TableDeclaration, folder: Path) -> Lakehouse:
    """The same sources in another lakehouse, where the table is computed for the first time."""
    fresh = Lakehouse(str(folder))
    for name in world.sources:
        source = world.lakehouse.table(name)
        fresh.table(name).create(source.schema())
        fresh.table(name).append(source.scan().collect())
    Refresh(declaration, fresh, "fresh").run()
    return fresh


def bring_up_to_date(declaration: TableDeclaration, lakehouse: Lakehouse, dies_at: list[int], *, fully: bool) -> None:
    def refresh() -> Refresh:
        return Refresh(declaration, lakehouse, "run", batch_rows=3)

    def once() -> object:
        try:
            return full_refresh(refresh()) if fully else refresh().run()
        except ContractBroken:
            assume(not fully)  # it refuses to empty a table because all that is left would be rejected, and a run does not
            raise

    for commit in dies_at:
        with dying_at(commit), suppress(Died):  # a run may have fewer commits
            once()
    once()


def row(number: int, part: str | None, day: int | None, code: str, amount: int) -> dict[str, object]:
    return {"id": number, "part": part, "day": day, "code": code, "amount": amount}


_A, _B, _C = SOURCES
_PARTS = ("jan", "feb", "mar")
# All that a source can do, to several partitions, keys and days at once: what chance puts together too seldom for few examples.
BUSY = [
    (([("put", name, [row(n, _PARTS[n % 3], n + 1, "xyz"[n % 3], n) for n in range(9)]) for name in SOURCES], {"x": 2}), ([], False)),
    (  # rows change in two partitions and go from one to the other; new and late ones come; one source goes back
        (
            [
                ("put", _A, [row(0, "feb", 1, "x", 7), row(4, "feb", 5, "x", 8), row(5, "mar", 2, "z", 9), row(9, None, None, "y", 1)]),
                ("put", _B, [row(1, "jan", 11, "y", 5), row(8, "mar", 9, "z", -3)]),
                ("restore", _C, []),
            ],
            None,
        ),
        ([1], False),
    ),
    (([("delete", _A, [row(n, None, None, "x", 0) for n in (2, 5, 8)]), ("delete", _B, [row(3, None, None, "x", 0)])], None), ([0], False)),
    (([("nothing", _A, [])], {"x": 3, "z": 2, "nobody": 1}), ([], False)),
]


@pytest.mark.parametrize("declaration", CASES)
@sweeps.examples(2, 30, suppress_health_check=list(HealthCheck))
@given(history=st.lists(st.tuples(steps, runs), min_size=2, max_size=4))
@example(history=BUSY)
def test_an_incremental_table_equals_a_full_refresh(declaration, history):
    hold_law(World, declaration, history)


@pytest.mark.parametrize("declaration", [pytest.param(declaration, id=name) for name, declaration in of_feed().items()])
@sweeps.examples(3, 30, suppress_health_check=list(HealthCheck))
@given(history=st.lists(st.tuples(feed_steps, runs), min_size=2, max_size=4))
def test_tables_over_a_feed_follow_files_that_are_read_again_or_taken_back(declaration, history):
    hold_law(FeedWorld, declaration, history)


# Two values of a part, of which one is rejected: so a value often comes again after another one was rejected.
lines = st.lists(
    st.fixed_dictionaries(
        {"part": st.sampled_from(["jan", "feb"]), "code": st.sampled_from(["x", "z"]), "amount": st.sampled_from([-1, 1])}
    ),
    min_size=1,
    max_size=3,
)


def jan(*amounts: int) -> tuple[str, int, list[dict[str, object]]]:
    return ("land", 0, [{"part": "jan", "code": "x", "amount": amount} for amount in amounts])


landings = st.tuples(st.sampled_from(["land", "land", "land", "reread", "restore"]), st.integers(0, 3), lines)
replayed = st.none() | st.sampled_from([None, "_sequence > 2", "_row = 0", "part = 'jan'"]).map(Selection)


@pytest.mark.parametrize(("strict", "fixed"), [pytest.param(*both, id=name) for name, both in with_a_fix().items()])
@sweeps.examples(1, 40, suppress_health_check=list(HealthCheck))
@given(history=st.lists(st.tuples(landings, st.none() | st.integers(0, 3), replayed), min_size=2, max_size=6))
@example(history=[(jan(1), None, None), (jan(-1), None, None), (jan(1), None, None)])  # the last file changes nothing
@example(
    history=[  # the last files go again
        (jan(1, -1), None, Selection()),
        (jan(-1), None, None),
        (jan(1, -1), None, None),
        (("restore", 0, []), None, None),
    ]
)
@example(history=[(jan(1), None, None), (jan(1, -1), 1, Selection())])  # a row is released in the middle of its batch
def test_a_table_whose_rejected_rows_were_all_released_equals_a_full_refresh(strict, fixed, history):
    """The contract is fixed for replays alone: what a refresh reads is rejected as before. A refresh may die before its replay."""
    folder = Path(tempfile.mkdtemp())
    try:
        world = FeedWorld(folder / "world")
        for landing, dies_at, selection in [*history, (None, None, None)]:
            world.apply(([landing] if landing else [], None))
            with nullcontext() if dies_at is None else dying_at(dies_at), suppress(Died):
                Refresh(strict, world.lakehouse, "run").run()
            if selection is not None:
                with suppress(ReplayRefused):  # a run has to be finished first
                    Replays(fixed, world.lakehouse, "replay").run(selection)
        Replays(fixed, world.lakehouse, "replay").run(Selection())
        fresh = from_scratch(world, fixed, folder / "fresh")
        assert contents(world.lakehouse, fixed.name) == contents(fresh, fixed.name)
    finally:
        shutil.rmtree(folder)


def hold_law(world_type: type[World], declaration: TableDeclaration, history: list) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        world = world_type(folder / "world")
        for step, (dies_at, fully) in history:
            world.apply(step)
            bring_up_to_date(declaration, world.lakehouse, dies_at, fully=fully)
        fresh = from_scratch(world, declaration, folder / "fresh")
        for name in declaration.outputs():
            assert contents(world.lakehouse, name) == contents(fresh, name), name
        assert Refresh(declaration, world.lakehouse, "run").run().batches == 0
        assert not [name for name in swap.staging(declaration).outputs() if world.lakehouse.table(name).exists()]
    finally:
        shutil.rmtree(folder)


@sweeps.examples(6, 30, suppress_health_check=list(HealthCheck))
@given(history=st.lists(steps, min_size=2, max_size=4))
def test_files_of_partitions_outside_the_scope_stay_the_same(history):
    declaration = declarations(2, dimension=False)["ByPartition"]
    folder = Path(tempfile.mkdtemp())
    try:
        world = World(folder)
        for step in history:
            before = {name: world.lakehouse.table(name).scan().collect() for name in SOURCES[:2]}
            files = _files(world.lakehouse, declaration.name)
            world.apply(step)
            Refresh(declaration, world.lakehouse, "run").run()
            touched = set()
            for name, rows in before.items():
                now = world.lakehouse.table(name).scan().collect()
                differing = pl.concat([rows.join(now, on=rows.columns, how="anti"), now.join(rows, on=rows.columns, how="anti")])
                touched |= set(differing["part"])
            after = _files(world.lakehouse, declaration.name)
            assert {part: paths for part, paths in files.items() if part not in touched} == {
                part: paths for part, paths in after.items() if part not in touched
            }
    finally:
        shutil.rmtree(folder)


def _files(lakehouse: Lakehouse, name: str) -> dict[str, set[str]]:
    table = lakehouse.table(name)
    if not table.exists():
        return {}
    actions = pl.DataFrame(table.delta().get_add_actions(flatten=True))
    return {} if not actions.height else {part: set(rows["path"]) for (part,), rows in actions.group_by("partition.part")}

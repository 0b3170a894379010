"""Law 4: whatever happens to the sources, the incremental table equals what a full refresh from the same sources gives.

Runs die between any two commits here by an exception that nothing catches: what is stored then is what a kill leaves. Real kills of real
processes are in `test_crash` and `test_full_refresh_kill`.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline import swap
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.quarantine import RELEASED
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets_tests.platform.pipeline.worlds import LOOKUP, SOURCES, World, declarations, steps

CASES = [
    pytest.param(declaration, id=f"{kind}, {inputs} inputs{', a dimension' if dimension else ''}")
    for inputs in (1, 2, 3)
    for dimension in (False, True)
    for kind, declaration in declarations(inputs, dimension=dimension).items()
]
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
    return sorted(table.scan().drop(list(RELEASED), strict=False).collect().rows(), key=repr)


def from_scratch(world: World, declaration: TableDeclaration, folder: Path) -> Lakehouse:
    """The same sources in another lakehouse, where the table is computed for the first time."""
    fresh = Lakehouse(str(folder))
    for name in (*SOURCES, LOOKUP):
        source = world.lakehouse.table(name)
        fresh.table(name).create(source.schema())
        fresh.table(name).append(source.scan().collect())
    Refresh(declaration, fresh, "fresh").run()
    return fresh


def bring_up_to_date(declaration: TableDeclaration, lakehouse: Lakehouse, dies_at: list[int], *, fully: bool) -> None:
    def refresh() -> Refresh:
        return Refresh(declaration, lakehouse, "run", batch_rows=3)

    def once() -> object:
        return full_refresh(refresh()) if fully else refresh().run()

    for commit in dies_at:
        with dying_at(commit), suppress(Died):  # a run may have fewer commits
            once()
    once()


@pytest.mark.parametrize("declaration", CASES)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=st.lists(st.tuples(steps, runs), min_size=1, max_size=4))
def test_an_incremental_table_equals_a_full_refresh(declaration, history):
    folder = Path(tempfile.mkdtemp())
    try:
        world = World(folder / "world")
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


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
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

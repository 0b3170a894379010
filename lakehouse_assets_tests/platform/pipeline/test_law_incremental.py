"""Law 4: whatever happens to the sources, the incremental table equals what a full refresh from the same sources gives."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline.quarantine import RELEASED
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.pipeline.worlds import LOOKUP, SOURCES, World, declarations, steps

CASES = [
    pytest.param(declaration, id=f"{kind}, {inputs} inputs{', a dimension' if dimension else ''}")
    for inputs in (1, 2, 3)
    for dimension in (False, True)
    for kind, declaration in declarations(inputs, dimension=dimension).items()
]


def contents(lakehouse: Lakehouse, name: str) -> list[tuple]:
    table = lakehouse.table(name)
    if not table.exists():
        return []
    return sorted(table.scan().drop(list(RELEASED), strict=False).collect().rows(), key=repr)


def full(world: World, declaration: TableDeclaration, folder: Path) -> Lakehouse:
    """The same sources in another lakehouse, where the table is computed for the first time."""
    fresh = Lakehouse(str(folder))
    for name in (*SOURCES, LOOKUP):
        source = world.lakehouse.table(name)
        fresh.table(name).create(source.schema())
        fresh.table(name).append(source.scan().collect())
    Refresh(declaration, fresh, "full").run()
    return fresh


@pytest.mark.parametrize("declaration", CASES)
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=st.lists(steps, min_size=1, max_size=4))
def test_an_incremental_table_equals_a_full_refresh(declaration, history):
    folder = Path(tempfile.mkdtemp())
    try:
        world = World(folder / "world")
        for step in history:
            world.apply(step)
            Refresh(declaration, world.lakehouse, "run").run()
        fresh = full(world, declaration, folder / "fresh")
        for name in declaration.outputs():
            assert contents(world.lakehouse, name) == contents(fresh, name), name
        assert Refresh(declaration, world.lakehouse, "run").run().batches == 0
    finally:
        shutil.rmtree(folder)

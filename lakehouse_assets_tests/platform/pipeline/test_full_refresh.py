"""A full refresh computes a table again in place: same id, versions that only grow, and wherever it dies, the next one ends it.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

import shutil
import signal
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.pipeline import contracts
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.layout import FullRefreshNeeded
from lakehouse_assets.platform.pipeline.quarantine import RELEASED
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.contract import fingerprint
from lakehouse_assets.platform.storage.lakehouse import STAGING_SUFFIX, Lakehouse
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.crash_child import some_of
from lakehouse_assets_tests.platform.pipeline import full_refresh_child
from lakehouse_assets_tests.platform.pipeline.full_refresh_child import BATCH_ROWS
from lakehouse_assets_tests.platform.pipeline.full_refresh_tables import BEFORE, CHANGED, SOURCE

SCHEMA = pl.Schema(
    {"part": pl.String(), "id": pl.Int64(), "amount": pl.Int64(), "_file": pl.String(), "_sequence": pl.Int64(), "_row": pl.Int64()}
)


def refresh(shop: Lakehouse, name: str) -> Refresh:
    return Refresh(CHANGED[name], shop, "run", batch_rows=BATCH_ROWS)


def content(shop: Lakehouse, name: str, without: tuple[str, ...] = ()) -> list[list[tuple]]:
    """The rows of a table and of its quarantine, whatever the order of their columns."""
    frames = [shop.table(one).scan().drop([*RELEASED, *without], strict=False).collect() for one in CHANGED[name].outputs()]
    return [sorted(frame.select(sorted(frame.columns)).rows(), key=repr) for frame in frames]


def state(shop: Lakehouse, name: str) -> list[tuple[str, int]]:
    """Id and version of a table and of its quarantine."""
    tables = [shop.table(one) for one in CHANGED[name].outputs()]
    return [(one.delta().metadata().id, one.version()) for one in tables]


def assert_continued(now: list[tuple[str, int]], before: list[tuple[str, int]]) -> None:
    """The ids are the same, and no version went back."""
    for (id_now, version_now), (id_before, version_before) in zip(now, before, strict=True):
        assert id_now == id_before
        assert version_now >= version_before


def staged(shop: Lakehouse) -> list[Path]:
    """What is left of tables that were computed to take the place of others."""
    return [path for path in Path(shop.root).rglob("*") if STAGING_SUFFIX in str(path) and path.is_file()]


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Path:
    """A root on which each table was brought up to date, with rows in its quarantine."""
    shop = Lakehouse(str(tmp_path_factory.mktemp("full-refresh") / "tables"))
    bronze = shop.table(SOURCE)
    bronze.create(SCHEMA)
    for file in range(1, 4):
        rows = [("a", file), ("b", 2 * file), ("c", 3 * file), ("c", -file)]
        lines = [(part, 10 * file + row, amount, f"{file}.csv", file, row) for row, (part, amount) in enumerate(rows, 1)]
        bronze.append(pl.DataFrame(lines, schema=SCHEMA, orient="row"))
    for declaration in BEFORE.values():
        Refresh(declaration, shop, "first").run()
    return Path(shop.root)


@pytest.fixture
def shop(ran: Path, tmp_path: Path) -> Lakehouse:
    shutil.copytree(ran, tmp_path / "tables")
    return Lakehouse(str(tmp_path / "tables"))


@pytest.mark.parametrize("name", CHANGED)
def test_a_table_is_computed_again_in_place(shop, name):
    before, rows_before = state(shop, name), content(shop, name)
    if name == "other_layout":
        with pytest.raises(FullRefreshNeeded, match=r"partitioned by nothing, and now by part.*lakehouse run shop\.silver\.upsert --full-"):
            refresh(shop, name).run()
    done = full_refresh(refresh(shop, name))
    table = shop.table(CHANGED[name].name)
    assert_continued(state(shop, name), before)
    assert table.version() == done.version > before[0][1]
    assert content(shop, name) != rows_before
    assert [len(rows) for rows in content(shop, name)] == [8, 4], "one of 10 and three below 0 are rejected"
    assert set(table.scan().collect()["note"]) == {"A", "B", "C"}
    assert tuple(table.delta().metadata().partition_columns) == CHANGED[name].partitions
    assert table.scan(before[0][1]).collect().height == len(rows_before[0]), "older versions stay readable"
    assert staged(shop) == []
    assert refresh(shop, name).pending() == []
    assert refresh(shop, name).run().batches == 0


@pytest.mark.parametrize("name", CHANGED)
def test_a_full_refresh_that_changes_nothing_writes_no_row(shop, name):
    full_refresh(refresh(shop, name))
    table = shop.table(CHANGED[name].name)
    files, rows = set(table.delta().file_uris()), content(shop, name)
    full_refresh(refresh(shop, name))
    assert set(table.delta().file_uris()) == files
    assert content(shop, name) == rows


def test_the_contract_of_a_full_refresh_is_recorded_under_the_name_of_the_table(shop):
    full_refresh(refresh(shop, "upsert"))
    recorded = contracts.recorded(CHANGED["upsert"], shop)
    assert recorded is not None
    assert recorded["fingerprint"] == fingerprint(CHANGED["upsert"].contract)
    assert [name for name in shop.table(contracts.LOG).scan().collect()["table"] if STAGING_SUFFIX in name] == []


def test_what_an_interrupted_full_refresh_of_other_code_left_is_not_used(shop, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lakehouse_assets.platform.pipeline.swap.swap", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        full_refresh(Refresh(BEFORE["upsert"], shop, "old code", batch_rows=BATCH_ROWS))
    assert staged(shop)
    full_refresh(refresh(shop, "upsert"))
    assert set(shop.table("shop.silver.upsert").scan().collect()["note"]) == {"A", "B", "C"}
    assert staged(shop) == []


# --- deaths


def places_of(names: list[str]) -> list[tuple[int, str]]:
    """Where it dies: while it computes, between the two commits of the swap, after them, and while it deletes; in a full sweep at many."""
    commits = [number for number in some_of(names, 4, all_below=2) if names[number - 1] != "delete"]
    deletions = [number for number, name in enumerate(names, 1) if name == "delete"]
    *_, first, last = (number for number, name in enumerate(names, 1) if name == "write")
    before = sweeps.of([commits[1]], [*commits, *deletions[::16]])
    return [*((number, "before") for number in before), (first, "after"), (last, "after"), (deletions[-1], "before")]


@pytest.mark.parametrize("name", sweeps.of([*CHANGED][::2], CHANGED))
def test_a_killed_full_refresh_is_ended_by_the_next_one(ran, forks, tmp_path, name):
    before = state(Lakehouse(str(ran)), name)
    old = content(Lakehouse(str(ran)), name)
    shutil.copytree(ran, tmp_path / "oracle")
    done = forks[0](full_refresh_child, root=str(tmp_path / "oracle"), table=name, fatal=0, when="before")
    assert done.signal == 0
    expected = content(Lakehouse(str(tmp_path / "oracle")), name)
    places = places_of(done.result)
    assert len(places) >= 4
    for position, (fatal, when) in enumerate(places):
        root = tmp_path / f"{fatal}-{when}"
        shutil.copytree(ran, root)
        place = f"{when} {fatal}: {done.result[fatal - 1]}"
        assert forks[0](full_refresh_child, root=str(root), table=name, fatal=fatal, when=when).signal == signal.SIGKILL, place
        shop = Lakehouse(str(root))
        killed = state(shop, name)
        assert_continued(killed, before)
        if position % 2 and name != "other_layout":
            # A run in between leaves all as it was, or ends the swap: never a table of one and a quarantine of the other.
            refresh(shop, name).run()
            now = content(shop, name)
            assert now == expected or content(shop, name, without=("note",)) == old, place
        full_refresh(refresh(shop, name))
        assert content(shop, name) == expected, place
        assert_continued(state(shop, name), killed)
        assert staged(shop) == [], place
        assert refresh(shop, name).pending() == [], place
        assert refresh(shop, name).run().batches == 0, place
        shutil.rmtree(root)

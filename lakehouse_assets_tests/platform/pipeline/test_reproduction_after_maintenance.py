"""A champion is reproduced to the byte after a hundred later commits, real compaction and real vacuum; what is gone is named."""

import os
import time
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.operations.maintenance import Maintenance
from lakehouse_assets.platform.pipeline.reproduction import NotReproducible, Reproduction, reproduce
from lakehouse_assets.platform.storage import evolution
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.maintenance import CLEANED, COMPACTED, VACUUMED
from lakehouse_assets_tests.platform.pipeline.park import DAILY, DAYS, HABITS, MODEL, RETURNS, VISITS, Park, trained


def maintain(park: Park) -> dict[str, set[str]]:
    """Let all files be old, and everything be deleted that nobody needs; what was done to which table."""
    old = time.time() - timedelta(days=40).total_seconds()
    for path in Path(park.settings.tables).rglob("*.*"):
        os.utime(path, (old, old))
    maintenance = Maintenance(park.root.lakehouse, park.declarations, park.root.registry, timedelta(0), timedelta(0))
    done = list(maintenance.run("maintenance"))
    assert [one.why_not for one in done if one.why_not] == []
    return {one.table: set(one.done) for one in done}


def again(park: Park, version: int) -> Reproduction:
    registry = park.root.registry()
    return reproduce(park.model, registry.version(MODEL, version), park.root.lakehouse, registry)


def commit_often(park: Park, days: int) -> None:
    """New days, late visits, corrected features: three commits a day, and now and then a run."""
    lakehouse = park.root.lakehouse
    visits, habits = lakehouse.table(VISITS), lakehouse.table(HABITS)
    for number in range(days):
        park.visit([DAYS + number], seed=number)  # a commit to each of two tables
        if number % 8 == 0:
            visits.append(pl.DataFrame({"guest": ["a"], "day": [date(2024, 1, 1 + number % 28)], "rides": [1]}, visits.schema()))
            park.run(DAILY, HABITS)
        row = habits.scan().sort("known_at", "guest", "day").last().collect()
        habits.append(row.with_columns(pl.col("known_at") + timedelta(microseconds=1), pl.col("rides") + 1))


@pytest.fixture
def park(settings, originals) -> Park:
    return trained(originals, settings)


def test_the_champion_is_equal_to_the_byte_after_a_hundred_commits_compaction_and_vacuum(park):
    pinned = park.root.registry().version(MODEL, 1).tables
    done: dict[str, set[str]] = {}
    for days in (34, 10):  # the second time, compacted files are among those that are compacted and deleted
        commit_often(park, days)
        park.run()
        done = {name: done.get(name, set()) | what for name, what in maintain(park).items()}
    for name in (VISITS, RETURNS, DAILY, HABITS):
        table = park.root.lakehouse.table(name)
        assert done[name] >= {COMPACTED, VACUUMED}, name
        assert table.version() > pinned[name] + 4
        with pytest.raises((NoSuchVersion, OSError)):
            table.scan(pinned[name] + 1).collect()
    assert CLEANED in done[HABITS]
    assert sum(park.root.lakehouse.table(name).version() - pinned[name] for name in pinned) > 100
    found = again(park, 1)
    assert (found.equal, found.differences, found.tables) == (True, (), pinned)
    assert found.files


def test_a_version_without_an_alias_is_not_kept_and_what_of_it_is_gone_is_said(park):
    first = park.root.registry().version(MODEL, 1).tables
    commit_often(park, 9)
    park.run()
    maintain(park)  # from now on other files hold the same rows
    for number in (1, 2):
        park.visit([DAYS + 9 + number])
        park.run()
        assert park.train().champion == number + 1
    assert again(park, 1).equal
    maintain(park)
    with pytest.raises(NotReproducible) as gone:
        again(park, 1)
    assert f"these are gone: {RETURNS} at version {first[RETURNS]} (" in str(gone.value)
    assert f"{HABITS} at version {first[HABITS]} (" in str(gone.value)
    assert again(park, 2).equal, "the previous champion, to which a rollback leads"
    assert again(park, 3).equal


def test_a_file_that_is_gone_is_noticed_wherever_it_is_in_the_version(park):
    files = park.root.lakehouse.table(RETURNS).delta(park.root.registry().version(MODEL, 1).tables[RETURNS]).file_uris()
    for path in (files[0], files[len(files) // 2], files[-1]):
        content = Path(path).read_bytes()
        Path(path).unlink()
        with pytest.raises(NotReproducible, match=f"these are gone: {RETURNS} at version"):
            again(park, 1)
        Path(path).write_bytes(content)
    assert again(park, 1).equal


def test_what_the_examples_were_computed_from_may_be_gone(park):
    """They are read from their own table: what lies before it is only for people to know."""
    evolution.drop(park.root.lakehouse.table(VISITS))
    assert again(park, 1).equal
    daily = park.root.lakehouse.table(DAILY)
    for version in range(daily.version() + 1):
        Path(daily.uri, "_delta_log", f"{version:020d}.json").unlink()
    assert again(park, 1).equal

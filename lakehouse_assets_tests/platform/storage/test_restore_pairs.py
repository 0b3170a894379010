"""A quarantine goes back to the version that belongs to its table's, by their cursors, whatever the clocks of their writers said."""

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.storage import maintenance, restore
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.maintenance import Keep
from lakehouse_assets_tests.platform.storage.fresh import examples, fresh_table

SCHEMA = {"batch": pl.Int64()}
NAMES = {"replays": "replay/quarantine"}


class Pair:
    """A table with its quarantine, written as a refresh writes them: rejected rows first, both with the same cursors."""

    def __init__(self, table):
        self.table = table
        self.quarantine = Lakehouse(str(Path(table.uri).parents[2])).table(f"{table.name}__quarantine")
        self.quarantine.create(SCHEMA)
        self.runs = count()
        self.rejected = {0: []}  # by version of the table
        self.went_back = False

    def batch(self, *, bad, dies=False):
        run, batch = f"run {next(self.runs)}", pl.DataFrame({"batch": [self.table.version()]}, schema=SCHEMA)
        at = self.table.cursor("source")
        after = (0 if at is None else at) + 1
        if bad and (self.quarantine.cursor("source") or 0) < after:
            self.quarantine.append(batch, self._commit(run, Cursor("source", self.quarantine.cursor("source"), after)))
        if not dies:
            self.table.append(batch, self._commit(run, Cursor("source", at, after)))
            self.rejected[self.table.version()] = self.rows()

    def replay(self):
        if (self.quarantine.cursor("source") or 0) > (self.table.cursor("source") or 0):
            return  # refused: the batch has to be finished first
        run, before = f"run {next(self.runs)}", self.quarantine.cursor("replays")
        self.quarantine.replace(pl.DataFrame(schema=SCHEMA), None, self._commit(run, Cursor("replays", before, (before or 0) + 1)))
        after = Cursor("replay/quarantine", self.table.cursor("replay/quarantine"), (before or 0) + 1)
        self.table.append(pl.DataFrame({"batch": [0]}, schema=SCHEMA), self._commit(run, after))
        self.rejected[self.table.version()] = self.rows()

    def back(self, to):
        run, rows, self.went_back = f"run {next(self.runs)}", self.rejected[to], True
        pair = restore.paired(self.table, to, self.quarantine, NAMES)
        assert restore.restore(self.table, to, run) <= self.table.version()
        restore.restore(self.quarantine, pair, run)
        assert self.rows() == rows
        self.rejected[self.table.version()] = rows

    def rows(self):
        return sorted(self.quarantine.scan().collect()["batch"])

    def paired(self, version):
        return sorted(self.quarantine.scan(restore.paired(self.table, version, self.quarantine, NAMES)).collect()["batch"])

    def _commit(self, run, cursor):
        return Commit((cursor,), lambda _: {"lakehouse.run_id": run})


@pytest.fixture
def pair(table):
    table.create(SCHEMA)
    return Pair(table)


def change_clocks(table, shift):
    """As if the writers' clocks had been others: in commits and in the times of their files."""
    for commit in table.history():
        file = Path(table.uri, "_delta_log", f"{commit['version']:020d}.json")
        first, *rest = file.read_text().splitlines()
        said = json.loads(first)
        said["commitInfo"]["timestamp"] += int(shift(commit["version"]).total_seconds() * 1000)
        file.write_text("\n".join([json.dumps(said, separators=(",", ":")), *rest]) + "\n")


STEP = st.one_of(
    # After a restore none dies: see the test below.
    st.builds(lambda bad, dies: lambda pair: pair.batch(bad=bad, dies=dies and not pair.went_back), st.booleans(), st.booleans()),
    st.just(lambda pair: pair.replay()),
    st.just(lambda pair: pair.quarantine.delta().optimize.compact()),
    st.builds(lambda choice: lambda pair: pair.back(sorted(pair.rejected)[choice % len(pair.rejected)]), st.integers(0, 20)),
)


@given(st.lists(STEP, min_size=3, max_size=9), st.randoms(use_true_random=False))
@examples(5)
def test_a_quarantine_has_the_rows_that_it_had_when_its_table_came_to_a_version(steps, chance):
    with fresh_table(SCHEMA) as table:
        pair = Pair(table)
        for step in steps:
            step(pair)
        for one in (pair.table, pair.quarantine):
            change_clocks(one, lambda _: timedelta(hours=chance.uniform(-50, 50)))
        assert {version: pair.paired(version) for version in pair.rejected} == pair.rejected


@pytest.mark.xfail(reason="a quarantine that has not changed since is not restored with its table, and nothing says when the run came")
def test_what_a_run_left_that_died_after_a_restore_is_of_no_version_before_it(pair):
    pair.batch(bad=True)
    pair.batch(bad=False)
    pair.back(1)
    pair.batch(bad=True, dies=True)
    assert {version: pair.paired(version) for version in pair.rejected} == pair.rejected


def test_a_clock_that_stepped_back_changes_nothing(pair):
    for bad in (True, True, False, True):
        pair.batch(bad=bad)
    change_clocks(pair.quarantine, lambda version: timedelta(hours=-version))
    change_clocks(pair.table, lambda version: timedelta(hours=version % 2))
    assert [len(pair.paired(version)) for version in (0, 1, 2, 3, 4)] == [0, 1, 2, 2, 3]


def test_a_batch_that_died_in_between_does_not_belong_to_the_table(pair):
    pair.batch(bad=True)
    pair.batch(bad=True, dies=True)
    assert pair.paired(1) == [0]
    assert len(pair.rows()) == 2


def test_what_came_after_a_restore_belongs_to_another_life(pair):
    """Cursors of both lives are the same, as the same source was read again."""
    pair.batch(bad=True)
    pair.batch(bad=False)
    pair.back(1)
    pair.batch(bad=True)
    assert pair.paired(2) == [0]
    assert pair.paired(pair.table.version()) == pair.rows()


def test_a_restore_that_takes_back_a_replay_belongs_to_the_quarantine_before_it(pair):
    """The next replay has the same number."""
    pair.batch(bad=True)
    pair.replay()
    pair.back(1)
    pair.replay()
    assert [len(pair.paired(version)) for version in (0, 1, 2, 3, 4)] == [0, 1, 0, 1, 0]
    for version in (3, 2, 5):
        pair.back(version)
    assert [len(pair.paired(version)) for version in (4, 5, 6, 7)] == [0, 1, 0, 1]


def test_a_quarantine_that_cannot_go_back_so_far_says_so(pair):
    for _ in range(3):
        pair.batch(bad=True)
    pair.quarantine.replace(pl.DataFrame({"batch": [7]}), None, Commit((Cursor("source", 3, 4),)))
    later = datetime.now(UTC) + timedelta(days=30)
    maintenance.maintain(pair.quarantine, Keep(None, (), timedelta(days=7), later), "maintenance")
    with pytest.raises(NoSuchVersion, match=r"shop.silver.things__quarantine has no version any more that belongs to version 1"):
        restore.paired(pair.table, 1, pair.quarantine, NAMES)

"""A row that was rejected before, unchanged, is not rejected again, whatever is computed again around it.

The row accounts add up: rows that were rejected are those that the quarantine gained, also where runs die in between.
"""

import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline import rejections
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.refresh import Refresh, Refreshed
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.quality.split import BROKEN, Split
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.pipeline.test_law_incremental import Died, contents, dying_at
from lakehouse_assets_tests.platform.pipeline.worlds import FeedWorld, World, declarations, feed_steps, of_feed, steps

OF_FEED = [pytest.param(declaration, id=name) for name, declaration in of_feed().items()]
COMPUTED = [
    pytest.param(declaration, id=name)
    for name, declaration in declarations(2, dimension=True).items()
    if name in {"ByPartition", "ByKey", "Trailing", "Full"}
]


def line(part: str | None, amount: int) -> dict[str, object]:
    return {"part": part, "code": "x", "amount": amount}


def refresh(declaration: TableDeclaration, lakehouse: Lakehouse) -> Refreshed:
    return Refresh(declaration, lakehouse, "run").run()


def accounts(lakehouse: Lakehouse, name: str) -> list[RowAccount]:
    """Those of the commits of a table."""
    commits = lakehouse.table(name).commits() if lakehouse.table(name).exists() else ()
    return [RowAccount.from_json(commit["info"]["account"]) for commit in commits if "account" in commit["info"]]


def broken(done: Refreshed) -> dict[str, int]:
    return {evidence.rule.name: evidence.broken for evidence in done.evidence if evidence.broken}


def rejected_rows(lakehouse: Lakehouse, declaration: TableDeclaration) -> Counter[str]:
    """The rows in quarantine, whichever file they are of."""
    return Counter(map(repr, contents(lakehouse, declaration.quarantine)))


@pytest.fixture
def feed(tmp_path):
    """Three files, whose first has rows without a key, and one with a key that comes again."""
    world = FeedWorld(tmp_path)
    rows = ([line(None, 1), line(None, -1), line("jan", -1)], [line("feb", 1)], [line("jan", 1), line("mar", -2)])
    for given_ in rows:
        world.apply(([("land", 0, given_)], None))
    return world


@pytest.mark.parametrize("declaration", OF_FEED)
def test_a_file_that_is_read_again_rejects_no_row_of_another_file(feed, declaration):
    refresh(declaration, feed.lakehouse)
    rejected = contents(feed.lakehouse, declaration.quarantine)
    assert rejected
    for again in (3, 3):  # the file of that number is read again, with one more row
        feed.apply(([("reread", again, [line("dec", 5)])], None))
        done = refresh(declaration, feed.lakehouse)
        assert (done.account.quarantined, broken(done)) == (0, {})
        assert contents(feed.lakehouse, declaration.quarantine) == rejected


@pytest.mark.parametrize("declaration", OF_FEED)
def test_what_a_file_has_new_is_rejected_though_others_were_before(feed, declaration):
    refresh(declaration, feed.lakehouse)
    before = rejected_rows(feed.lakehouse, declaration)
    feed.apply(([("reread", 12, [line("feb", 1), line("feb", -7), line(None, -1)])], None))
    done = refresh(declaration, feed.lakehouse)
    gained = rejected_rows(feed.lakehouse, declaration) - before
    assert done.account.quarantined == gained.total() > 0
    assert broken(done)
    assert all(evidence.sample for evidence in done.evidence if evidence.broken)


def test_rows_that_were_rejected_before_do_not_count_for_the_limits(feed):
    declaration = of_feed()["Upsert by line"]
    refresh(declaration, feed.lakehouse)
    for _ in range(3):  # each of these files keeps the contract's limit: half of the rows of a batch
        feed.apply(([("land", 0, [line(None, 1)] * 60 + [line("apr", 1)] * 60)], None))
        refresh(declaration, feed.lakehouse)
    feed.apply(([("reread", 99, [line("dec", 5)])], None))
    refresh(declaration, feed.lakehouse)
    feed.apply(([("reread", 99, [line("dec", 6)])], None))
    assert refresh(declaration, feed.lakehouse).account.quarantined == 0


def test_a_full_refresh_counts_all_rows_and_the_next_run_none_of_them(feed):
    declaration = of_feed()["Upsert by line"]
    first = refresh(declaration, feed.lakehouse)
    again = full_refresh(Refresh(declaration, feed.lakehouse, "again"))
    assert again.account.quarantined == first.account.quarantined
    feed.apply(([("reread", 12, [line("feb", 2)])], None))
    assert refresh(declaration, feed.lakehouse).account.quarantined == 0


@pytest.mark.parametrize("declaration", OF_FEED)
@sweeps.examples(2, 30, suppress_health_check=list(HealthCheck))
@given(history=st.lists(st.tuples(feed_steps, st.none() | st.integers(0, 3)), min_size=2, max_size=5))
def test_the_accounts_of_tables_over_a_feed_add_up(declaration, history):
    hold_account(FeedWorld, declaration, history)


@pytest.mark.parametrize("declaration", COMPUTED)
@sweeps.examples(2, 30, suppress_health_check=list(HealthCheck))
@given(history=st.lists(st.tuples(steps, st.none() | st.integers(0, 3)), min_size=2, max_size=4))
def test_the_accounts_of_computed_tables_add_up(declaration, history):
    hold_account(World, declaration, history)


def hold_account(world_type: type[World], declaration: TableDeclaration, history: list) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        world = world_type(folder)
        for step, dies_at in history:
            world.apply(step)
            before, known = rejected_rows(world.lakehouse, declaration), len(accounts(world.lakehouse, declaration.name))
            if dies_at is not None:
                with dying_at(dies_at), suppress(Died):
                    refresh(declaration, world.lakehouse)
            refresh(declaration, world.lakehouse)
            gained = rejected_rows(world.lakehouse, declaration) - before
            told = accounts(world.lakehouse, declaration.name)
            assert sum(account.quarantined for account in told[: len(told) - known]) == gained.total()
    finally:
        shutil.rmtree(folder)


def test_rows_that_were_rejected_before_a_type_was_widened_are_compared_with_those_that_need_it():
    """A value that the narrower type cannot hold was not there."""
    before = pl.DataFrame({"id": [1, 2], "value": pl.Series([7, None], dtype=pl.Int32), BROKEN: [["x"], ["x"]]})
    rows = pl.DataFrame({"id": [1, 2, 3], "value": [7, None, 3_000_000_000]}, schema_overrides={"value": pl.Int64})
    bad = rows.with_columns(pl.Series(BROKEN, [["x"]] * 3))

    def split(given: pl.DataFrame, *, limited: bool) -> Split:
        return Split(given.clear(), bad.join(given.select("id"), on="id", how="semi"), ())

    assert rejections.judge(rows, before, split, lambda parts: parts, mixes=False).repeated == 2

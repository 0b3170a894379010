"""What a reader sees since its cursor: every change once, in order, and nothing of what did not change."""

from collections import Counter
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.storage import merge, scd2
from lakehouse_assets.platform.storage.change_feed import CHANGE_TYPE, change_feed
from lakehouse_assets.platform.storage.errors import NoSuchTable, NoSuchVersion
from lakehouse_assets.platform.storage.source import Source
from lakehouse_assets_tests.platform.storage.fresh import examples, fresh_table, rows_of

SCHEMA = {"part": pl.String(), "id": pl.Int64(), "value": pl.Int64()}
PART = st.sampled_from(["a", "it's b", "c/d"])
ROWS = st.lists(st.tuples(PART, st.integers(0, 3), st.integers(0, 2)), max_size=4, unique_by=lambda row: row[:2])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("merge"), ROWS),
        st.tuples(st.just("replace"), PART, ROWS),
        st.tuples(st.just("replace all"), ROWS),
        st.tuples(st.just("delete"), PART, st.integers(0, 3)),
        st.tuples(st.just("compact")),
    ),
    min_size=1,
    max_size=5,
)


def take(table, step):
    name, *how = step
    match name:
        case "merge":
            merge.merge(table, pl.DataFrame(how[0], SCHEMA, orient="row"), ["part", "id"])
        case "replace":
            rows = [(how[0], id_, value) for _, id_, value in {row[1]: row for row in how[1]}.values()]
            table.replace(pl.DataFrame(rows, SCHEMA, orient="row"), {"part": [how[0]]})
        case "replace all":
            table.replace(pl.DataFrame(how[0], SCHEMA, orient="row"), None)
        case "delete":
            table.delta().delete(f"part = '{how[0].replace(chr(39), chr(39) * 2)}' AND id = {how[1]}")
        case "compact":
            table.delta().optimize.compact()


def came(feed):
    return feed.filter(pl.col(CHANGE_TYPE).is_in(["insert", "update_postimage"]))


def apply(held, feed):
    """The rows after a commit; a row that goes has to be there, a row that comes must not be."""
    for part, id_, value, _ in feed.join(came(feed), on=feed.columns, how="anti").rows():
        assert held.pop((part, id_)) == value
    for part, id_, value, _ in came(feed).rows():
        assert (part, id_) not in held
        held[part, id_] = value
    return held


@given(STEPS, st.sampled_from([(), ("part",)]))
@examples(10)
def test_changes_make_the_table_out_of_an_earlier_one(steps, partition_by):
    partition_by = partition_by or (("part",) if any(step[0] == "replace" for step in steps) else ())
    with fresh_table(SCHEMA, partition_by) as table:
        states = [{}]
        for step in steps:
            take(table, step)
            while len(states) <= table.version():
                states.append({row[:2]: row[2] for row in rows_of(table)})
        delta = table.delta()
        feeds = [change_feed(delta, version, version + 1, {}).collect() for version in range(len(states) - 1)]
        for before, feed, after in zip(states, feeds, states[1:], strict=False):
            assert apply(dict(before), feed) == after
        # What a reader gets over several commits are the same rows, oldest commit first.
        first = len(feeds) // 2
        seen = pl.concat([change_feed(delta, 0, 0, {}).collect(), *feeds[first:]])
        assert table.changes(first, table.version()).collect().rows() == came(seen).drop(CHANGE_TYPE).rows()
        # Net, it is what is there now and was not before, and the other way round.
        source = Source(table, first, table.version())
        earlier, now = Counter(table.scan(first).collect().rows()), Counter(rows_of(table))
        assert Counter(source.came().collect().unique().rows()) == Counter(set(now - earlier))
        assert Counter(source.went().collect().unique().rows()) == Counter(set(earlier - now))
        assert set(source.touched(("part", "id")).rows()) == {row[:2] for row in [*(now - earlier), *(earlier - now)]}


@pytest.fixture
def things(table):
    table.create(SCHEMA, ("part",))
    table.append(pl.DataFrame({"part": ["a", "b"], "id": [1, 2], "value": [1, 2]}))
    return table


def test_who_has_read_nothing_gets_all_rows(things):
    assert sorted(things.changes(None, 1).collect().rows()) == [("a", 1, 1), ("b", 2, 2)]
    assert things.changes(None, 0).collect().is_empty()
    assert sorted(Source(things, None, 1).touched(("part", "id")).rows()) == [("a", 1), ("b", 2)]


def test_who_has_read_all_gets_nothing(things):
    assert things.changes(1, 1).collect().is_empty()
    assert things.changes(1, 1).collect_schema() == things.schema()
    assert Source(things, 1, 1).touched(("part",)).is_empty()


def test_changes_come_in_the_order_of_the_commits(things):
    merge.merge(things, pl.DataFrame({"part": ["b"], "id": [2], "value": [3]}), ["part", "id"])
    things.append(pl.DataFrame({"part": ["a"], "id": [4], "value": [4]}))
    merge.merge(things, pl.DataFrame({"part": ["b"], "id": [2], "value": [5]}), ["part", "id"])
    for engine in ("in-memory", "streaming"):
        assert things.changes(1, 4).collect(engine=engine)["value"].to_list() == [3, 4, 5]


def test_a_row_that_went_away_is_touched_but_does_not_come(things):
    things.replace(things.scan().collect().clear(), {"part": ["a"]})
    assert things.changes(1, 2).collect().is_empty()
    assert Source(things, 1, 2).touched(("part", "id")).rows() == [("a", 1)]


def test_a_changed_row_touches_its_values_before_and_after(table):
    table.create({"id": pl.Int64(), "country": pl.String()})
    table.append(pl.DataFrame({"id": [1, 2], "country": ["de", "fr"]}))
    merge.merge(table, pl.DataFrame({"id": [1], "country": ["es"]}), ["id"])
    assert sorted(Source(table, 1, 2).touched(("country",))["country"]) == ["de", "es"]
    assert table.changes(1, 2).collect().rows() == [(1, "es")]


@pytest.mark.parametrize("rewritten", [False, True])
def test_a_row_that_moves_to_another_partition_is_an_update(table, rewritten):
    history = scd2.History(("id",), "sequence")
    events = pl.DataFrame(
        {
            "id": [1, 2, 3, 1, 4],
            "sequence": [1, 1, 1, 2, 1],
            "valid_from": pl.Series([1, 1, 1, 2, 2]).cast(pl.Datetime("us", "UTC")),
            "is_deleted": False,
            "v": ["a", "b", "c", "d", "e"],
        }
    )
    table.create(history.schema(events.schema), ("is_current",))
    scd2.write(table, events[:3], history)
    if rewritten:  # as maintenance leaves the files
        table.delta().optimize.z_order(["id"])
    before = table.version()
    scd2.write(table, events[3:], history)
    feed = table.change_feed(before, before + 1).select(CHANGE_TYPE, "id", "sequence", "v", "is_current").collect()
    assert sorted(feed.rows()) == [
        ("insert", 1, 2, "d", True),
        ("insert", 4, 1, "e", True),
        ("update_postimage", 1, 1, "a", False),
        ("update_preimage", 1, 1, "a", True),
    ]
    theirs = pl.DataFrame(table.delta().load_cdf(starting_version=before + 1).read_all()).select(feed.columns)
    assert sorted(theirs.rows()) == sorted(feed.rows())
    assert sorted(table.changes(before, before + 1).collect()["v"]) == ["a", "d", "e"]
    assert sorted(table.scan().filter("is_current").collect()["v"]) == ["b", "c", "d", "e"]
    pruned = table.scan().filter("is_current").explain()
    assert "is_current=true" in pruned
    assert "is_current=false" not in pruned


def test_intervals_that_go_away_are_touched(table):
    history = scd2.History(("id",), "sequence")
    events = pl.DataFrame(
        {
            "id": [1] * 3,
            "sequence": [1, 3, 2],
            "valid_from": pl.Series([1, 3, 2]).cast(pl.Datetime("us", "UTC")),
            "is_deleted": False,
            "v": ["a", "b", "b"],
        }
    )
    table.create(history.schema(events.schema))
    scd2.write(table, events[:2], history)
    scd2.write(table, events[2:], history)
    assert Source(table, 1, 2).touched(("sequence",))["sequence"].sort().to_list() == [1, 2, 3]
    assert sorted(table.changes(1, 2).collect()["sequence"]) == [1, 2]


def test_compaction_changes_nothing(things):
    things.append(pl.DataFrame({"part": ["a"], "id": [3], "value": [3]}))
    things.delta().optimize.compact()
    assert things.version() == 3
    assert things.changes(2, 3).collect().is_empty()
    assert Source(things, 2, 3).touched(("part",)).is_empty()
    things.delta().optimize.z_order(["id"])
    assert things.changes(2, things.version()).collect().is_empty()
    # The rows of one commit may lie in several files, which come in any order.
    assert sorted(things.changes(0, things.version()).collect()["id"]) == [1, 2, 3]


def test_a_restored_table_says_what_came_back(things):
    things.replace(things.scan().collect().clear(), None)
    things.delta().restore(1)
    assert sorted(things.changes(2, 3).collect().rows()) == [("a", 1, 1), ("b", 2, 2)]


@pytest.mark.parametrize(("after", "until"), [(1, 2), (5, 7), (2, 1)])
def test_a_cursor_past_the_table_is_a_clear_error(things, after, until):
    for read in (lambda: things.changes(after, until), lambda: Source(things, after, until).touched(("part",))):
        with pytest.raises(NoSuchVersion, match=r"shop\.silver\.things is at version 1, .* replaced or restored"):
            read()


def test_a_log_that_was_cleaned_up_is_a_clear_error(things):
    things.delta().create_checkpoint()
    Path(things.uri, "_delta_log", f"{1:020d}.json").unlink()
    with pytest.raises(NoSuchVersion, match="read the whole table"):
        things.changes(0, 1)


def test_a_table_that_does_not_exist_has_no_changes(table):
    with pytest.raises(NoSuchTable, match=r"shop\.silver\.things does not exist yet"):
        table.changes(None, 0)


def test_all_types_come_through_the_change_feed(table):
    frame = pl.DataFrame(
        {"day": [date(2011, 7, 1), None], "flag": [True, None], "n": pl.Series([1, None], dtype=pl.Int16), "tags": [["x"], None]}
    )
    table.create(frame.schema, ("day", "flag", "n"))
    table.append(frame)
    table.replace(frame, None)
    assert table.changes(1, 2).collect_schema() == frame.schema
    assert sorted(table.changes(1, 2).collect().rows(), key=repr) == sorted(frame.rows(), key=repr)


def test_changes_are_read_when_they_are_needed(things):
    """A column that is not asked for is not read, so that a wide table costs a reader no more than its columns."""
    plan = things.changes(0, 1).select("id").explain()
    assert "PROJECT 1/" in plan


@examples(4)
@given(STEPS)
def test_the_newest_change_is_the_newest_version_with_rows_in_its_change_feed(steps):
    with fresh_table(SCHEMA, ("part",)) as table:
        table.append(pl.DataFrame([("a", 0, 0)], SCHEMA, orient="row"))
        for step in steps:
            take(table, step)
        newest = table.version()
        feeds = {v: change_feed(table.delta(), v - 1, v, {}).collect() for v in range(1, newest + 1)}
        changed = [version for version, feed in feeds.items() if feed.height]
        for after in range(newest + 1):
            assert table.changed_at(after) == max([v for v in changed if v > after], default=after)
        assert table.changed_at(None) == newest


@examples(4)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(1, 8))
def test_steps_reach_the_end_and_are_small_unless_one_commit_is_large(heights, rows):
    with fresh_table(SCHEMA) as table:
        for number, height in enumerate(heights):
            table.append(pl.DataFrame([("a", number * 10 + n, 0) for n in range(height)], SCHEMA, orient="row"))
        at, newest, seen = -1, table.version(), 0
        while at < newest:
            until = table.step(None if at < 0 else at, newest, rows)
            came = sum(heights[max(0, at) : until])
            assert until > at
            assert came <= rows or max(heights[max(0, at) : until]) > rows or at < 0
            assert came <= rows + max(heights)
            at, seen = until, seen + came
        assert seen == sum(heights)


def test_a_new_column_is_null_in_the_rows_that_were_there():
    with fresh_table(SCHEMA) as table:
        table.append(pl.DataFrame([("a", 0, 0)], SCHEMA, orient="row"))
        for _ in range(2):
            table.add_columns({"note": pl.String(), "id": pl.Int64()})
        table.append(pl.DataFrame([("a", 1, 1, "new")], {**SCHEMA, "note": pl.String()}, orient="row"))
        assert rows_of(table) == [("a", 0, 0, None), ("a", 1, 1, "new")]
        assert table.changes(1, table.version()).collect().rows() == [("a", 1, 1, "new")]
        assert table.changed_at(1) == table.version()
        assert table.count() == 2

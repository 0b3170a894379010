"""What was known when: a revised value never appears before it was revised."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.features.point_in_time import as_first_known
from lakehouse_assets.platform.storage.commit import Counts
from lakehouse_assets.platform.storage.errors import ScopeError
from lakehouse_assets.platform.storage.known_at import (
    KNOWN_AT,
    KNOWN_AT_ASSUMED,
    OWN_COLUMNS,
    VERSION,
    as_known,
    of_version,
)
from lakehouse_assets.platform.storage.known_at import revise as store
from lakehouse_assets.platform.storage.scopes import Everything, Keys, Tail
from lakehouse_assets_tests.platform.storage.fresh import examples, files_of, fresh_table

START = datetime(2011, 1, 1, tzinfo=UTC)
SCHEMA = {"group": pl.String(), "id": pl.Int64(), "value": pl.Float64(), KNOWN_AT: pl.Datetime("us", "UTC")}
STORED = {**SCHEMA, **OWN_COLUMNS}
KEY = ["group", "id"]


def day(number):
    return START + timedelta(days=number)


def frame(*rows):
    """Rows of id, value and day of `known_at`."""
    return pl.DataFrame([("g", id_, value, day(known)) for id_, value, known in rows], SCHEMA, orient="row")


def revise(table, rows, on, revised_at, commit=None, **how):
    """As the pipeline does it: rows are in order after what the table has."""
    return store(table, rows, on, revised_at, commit, **({"event_time": "id", "had": table.version()} | how))


def values_at(rows, at=None):
    return dict(as_known(rows, KEY, at).select("id", "value").collect().rows())


BATCH = st.lists(st.tuples(st.integers(1, 5), st.sampled_from([None, 0.5, 1.5]), st.integers(0, 9)), max_size=4)


@given(st.lists(st.tuples(st.integers(0, 9), BATCH), min_size=1, max_size=4), st.sampled_from([(), ("group",)]))
@examples(9)
def test_each_moment_sees_what_was_known_by_then(batches, partition_by):
    with fresh_table(STORED, partition_by) as table:
        revisions = {}  # per key, the value and the moment from which it was known
        for revised, batch in batches:
            counts = revise(table, frame(*batch), KEY, day(revised)).counts
            added, newest = 0, max(revisions, default=-1)
            for id_, value, known in {row[0]: row for row in batch}.values():
                past = revisions.setdefault(id_, [])
                if not past:
                    past.append((value, day(known) if id_ > newest else max(day(revised), day(known))))
                elif past[-1][0] != value:
                    past.append((value, max(day(revised), day(known), past[-1][1] + timedelta(microseconds=1))))
                else:
                    continue
                added += 1
            assert counts == Counts(written=added, duplicates=len(batch) - added)
        rows = table.scan().collect().lazy()
        assert values_at(rows) == {id_: past[-1][0] for id_, past in revisions.items() if past}
        for moment in [day(number) for number in range(-1, 11)]:
            wanted = {id_: [value for value, known in past if known <= moment] for id_, past in revisions.items()}
            assert values_at(rows, moment) == {id_: values[-1] for id_, values in wanted.items() if values}


@given(st.permutations(range(6)), st.lists(st.integers(1, 3), max_size=6), st.sampled_from([(), ("group",)]))
@examples(9)
def test_nothing_is_known_before_it_came_unless_the_row_says_that_it_is_assumed(order, sizes, partition_by):
    """Law 5, over random orders of arrival: facts of days 0 to 5 come on days 20, 21 and so on, some of them together."""
    with fresh_table(STORED, partition_by) as table:
        came, waiting = {}, list(order)
        for moment, size in enumerate([*sizes, 6], 20):
            batch, waiting = waiting[:size], waiting[size:]
            newest = max(came, default=-1)
            revise(table, frame(*((id_, 0.5, id_ + 1) for id_ in batch)), KEY, day(moment))
            came |= {id_: (day(moment), id_ > newest) for id_ in batch}
        for id_, known, assumed in table.scan().select("id", KNOWN_AT, KNOWN_AT_ASSUMED).collect().rows():
            assert (known, assumed) == ((day(id_ + 1), True) if came[id_][1] else (came[id_][0], False))


@pytest.fixture
def features(table):
    table.create(STORED)
    revise(table, frame((1, 0.5, 1), (2, 0.5, 1)), KEY, day(1))
    return table


def test_a_first_value_is_known_from_when_the_frame_says(features):
    assert values_at(features.scan(), day(1) - timedelta(microseconds=1)) == {}
    assert values_at(features.scan(), day(1)) == {1: 0.5, 2: 0.5}


def test_a_revised_value_is_known_from_its_revision_on(features):
    assert revise(features, frame((1, 9.0, 1), (2, 0.5, 1)), KEY, day(5)).counts == Counts(written=1, duplicates=1)
    assert values_at(features.scan(), day(5) - timedelta(microseconds=1)) == {1: 0.5, 2: 0.5}
    assert values_at(features.scan(), day(5)) == {1: 9.0, 2: 0.5}


def test_a_value_that_is_known_later_than_its_revision_does_not_appear_before(features):
    revise(features, frame((1, 9.0, 7)), KEY, day(5))
    assert values_at(features.scan(), day(6)) == {1: 0.5, 2: 0.5}
    assert values_at(features.scan(), day(7)) == {1: 9.0, 2: 0.5}


def test_a_revision_that_claims_to_be_older_than_what_it_revises_comes_after_it(features):
    revise(features, frame((1, 9.0, 0)), KEY, day(0))
    assert values_at(features.scan(), day(0)) == {}
    assert values_at(features.scan(), day(1)) == {1: 0.5, 2: 0.5}
    assert values_at(features.scan(), day(1) + timedelta(microseconds=1)) == {1: 9.0, 2: 0.5}


def test_a_value_that_is_revised_back_is_a_revision(features):
    revise(features, frame((1, 9.0, 1)), KEY, day(5))
    revise(features, frame((1, 0.5, 1)), KEY, day(6))
    assert [values_at(features.scan(), day(number))[1] for number in (4, 5, 6)] == [0.5, 9.0, 0.5]


def test_an_unchanged_value_adds_nothing(features):
    files = files_of(features)
    assert revise(features, frame((1, 0.5, 3), (2, 0.5, 4)), KEY, day(5)).counts == Counts(duplicates=2)
    assert files_of(features) == files
    assert features.changes(1, 2).collect().is_empty()


def test_lineage_is_no_value(table):
    table.create({**SCHEMA, "_run": pl.String(), **OWN_COLUMNS})
    for run in ("first", "second"):
        revise(table, frame((1, 0.5, 1)).with_columns(_run=pl.lit(run)), KEY, day(5))
    assert table.count() == 1


def test_a_naive_moment_is_utc(features):
    revise(features, frame((1, 9.0, 1)), KEY, day(5).replace(tzinfo=None))
    assert values_at(features.scan(), day(5))[1] == 9.0


@pytest.mark.parametrize("column", [*KEY, KNOWN_AT])
def test_rows_without_key_or_moment_are_refused(features, column):
    rows = frame((1, 9.0, 1))
    with pytest.raises(ScopeError, match=f"nulls in {column}"):
        revise(features, rows.with_columns(pl.lit(None, rows.schema[column]).alias(column)), KEY, day(5))
    assert features.version() == 1


def retracted(rows):
    return sorted(rows.filter("is_retracted").select("id", "value").collect().rows())


def test_keys_that_their_sources_do_not_give_any_more_are_retracted_in_the_scope():
    with fresh_table(STORED) as table:
        revise(table, frame((1, 0.5, 0), (2, 0.5, 0), (8, 0.5, 9)), KEY, day(1), scope=Everything())
        revise(table, frame((2, 1.5, 0)), KEY, day(2), scope=Tail("id", 1))
        rows = table.scan().collect().lazy()
        assert values_at(rows) == {1: 0.5, 2: 1.5}
        assert retracted(rows) == [(8, 0.5)]
        assert values_at(rows, day(9)) == {1: 0.5, 2: 1.5, 8: 0.5}  # known later than it was retracted: retracted after that
        assert revise(table, frame((2, 1.5, 0)), KEY, day(3), scope=Tail("id", 1)).counts == Counts(written=0, duplicates=1)
        revise(table, frame((8, 0.5, 9)), KEY, day(10), scope=Tail("id", 7))
        again = table.scan().collect().lazy()
        assert values_at(again, day(10) - timedelta(microseconds=1)) == {1: 0.5, 2: 1.5}, "what came again is known from when it came"
        assert values_at(again) == {1: 0.5, 2: 1.5, 8: 0.5}
        assert sorted(as_first_known(rows, KEY).collect()["id"]) == [1, 2]
        assert sorted(as_first_known(again, KEY).collect()["id"]) == [1, 2, 8]


def test_a_fact_for_a_time_that_the_table_had_passed_is_known_from_when_it_came(features):
    revise(features, frame((0, 7.0, 1), (3, 7.0, 4)), KEY, day(9))
    assert values_at(features.scan(), day(9) - timedelta(microseconds=1)) == {1: 0.5, 2: 0.5, 3: 7.0}
    assert values_at(features.scan(), day(9)) == {0: 7.0, 1: 0.5, 2: 0.5, 3: 7.0}
    assert dict(features.scan().select("id", KNOWN_AT_ASSUMED).collect().rows()) == {0: False, 1: False, 2: False, 3: True}


def test_a_fact_that_is_as_new_as_the_newest_came_late(features):
    other = frame((2, 7.0, 3)).with_columns(group=pl.lit("h"))
    revise(features, other, KEY, day(9))
    assert features.scan().filter(group="h").select(KNOWN_AT, KNOWN_AT_ASSUMED).collect().row(0) == (day(9), False)


def test_versions_stand_side_by_side_and_each_keeps_when_its_values_were_known():
    with fresh_table(STORED) as table:
        revise(table, frame((1, 0.5, 2), (2, 0.5, 3), (3, 0.5, 4)), KEY, day(5), scope=Everything())
        revise(table, frame((1, 0.7, 2), (2, 0.5, 3)), KEY, day(6), scope=Everything())
        second = frame((1, 7.0, 2), (2, 5.0, 3), (3, 5.0, 4), (4, 5.0, 5))
        revise(table, second, KEY, day(10), version=2, scope=Everything(), changed=Tail("id", 3))
        revise(table, frame((2, 6.0, 3)), KEY, day(11), version=2, scope=Keys(frame((2, 0.0, 0)).select(KEY)))
        stored = table.scan().collect()
        assert stored.filter(pl.col(VERSION) == 2)[KNOWN_AT].min() == day(5), "a later event is history that came in order"
        assert stored.filter((pl.col(VERSION) == 2) & (pl.col("id") < 4))[KNOWN_AT].min() == day(10), (
            "what new code gives was not known before"
        )
        old, new = (of_version(stored.lazy(), version).collect().lazy() for version in (1, 2))
        assert [values_at(old, day(at)) for at in (5, 6, 20)] == [{1: 0.5, 2: 0.5, 3: 0.5}, {1: 0.7, 2: 0.5}, {1: 0.7, 2: 0.5}]
        assert values_at(new, day(5)) == {2: 5.0, 4: 5.0}, "the value of 1 was revised on day 6, and that of 3 was gone"
        assert values_at(new, day(6)) == {1: 7.0, 2: 5.0, 4: 5.0}
        assert values_at(new, day(11)) == {1: 7.0, 2: 6.0, 3: 5.0, 4: 5.0}
        assert values_at(stored.lazy()) == values_at(new)
        assert sorted(as_first_known(stored.lazy(), KEY).collect()["value"]) == [5.0, 5.0, 5.0, 7.0]


def test_the_first_rows_of_a_version_from_new_facts_are_known_from_when_they_came():
    with fresh_table(STORED) as table:
        revise(table, frame((1, 0.5, 2), (2, 0.5, 3)), KEY, day(5), scope=Everything())
        revise(table, frame((1, 7.0, 2), (2, 8.0, 3)), KEY, day(10), version=2, scope=Everything(), changed=Tail("id", 1))
        assert [values_at(table.scan(), day(at)) for at in (9, 10)] == [{1: 7.0}, {1: 7.0, 2: 8.0}]

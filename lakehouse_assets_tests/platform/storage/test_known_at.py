"""What was known when: a revised value never appears before it was revised."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.features.point_in_time import as_first_known
from lakehouse_assets.platform.storage.commit import Counts
from lakehouse_assets.platform.storage.errors import ScopeError
from lakehouse_assets.platform.storage.known_at import IS_RETRACTED, KNOWN_AT, as_known, revise
from lakehouse_assets.platform.storage.scopes import Everything, Tail
from lakehouse_assets_tests.platform.storage.fresh import examples, files_of, fresh_table

START = datetime(2011, 1, 1, tzinfo=UTC)
SCHEMA = {"group": pl.String(), "id": pl.Int64(), "value": pl.Float64(), KNOWN_AT: pl.Datetime("us", "UTC")}
KEY = ["group", "id"]


def day(number):
    return START + timedelta(days=number)


def frame(*rows):
    """Rows of id, value and day of `known_at`."""
    return pl.DataFrame([("g", id_, value, day(known)) for id_, value, known in rows], SCHEMA, orient="row")


def values_at(rows, at=None):
    return dict(as_known(rows, KEY, at).select("id", "value").collect().rows())


BATCH = st.lists(st.tuples(st.integers(1, 3), st.sampled_from([None, 0.5, 1.5]), st.integers(0, 9)), max_size=4)


@given(st.lists(st.tuples(st.integers(0, 9), BATCH), min_size=1, max_size=4), st.sampled_from([(), ("group",)]))
@examples(25)
def test_each_moment_sees_what_was_known_by_then(batches, partition_by):
    with fresh_table(SCHEMA, partition_by) as table:
        revisions = {}  # per key, the value and the moment from which it was known
        for revised, batch in batches:
            counts = revise(table, frame(*batch), KEY, day(revised)).counts
            added = 0
            for id_, value, known in {row[0]: row for row in batch}.values():
                past = revisions.setdefault(id_, [])
                if not past:
                    past.append((value, day(known)))
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


@pytest.fixture
def features(table):
    table.create(SCHEMA)
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
    table.create({**SCHEMA, "_run": pl.String()})
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
    schema = {**SCHEMA, IS_RETRACTED: pl.Boolean()}
    with fresh_table(schema, ()) as table:
        revise(table, frame((1, 0.5, 0), (2, 0.5, 0), (8, 0.5, 9)), KEY, day(1), scope=Everything())
        revise(table, frame((2, 1.5, 0)), KEY, day(2), scope=Tail("id", 1))
        rows = table.scan().collect().lazy()
        assert values_at(rows) == {1: 0.5, 2: 1.5}
        assert retracted(rows) == [(8, 0.5)]
        assert values_at(rows, day(9)) == {1: 0.5, 2: 1.5, 8: 0.5}  # known later than it was retracted: retracted after that
        assert revise(table, frame((2, 1.5, 0)), KEY, day(3), scope=Tail("id", 1)).counts == Counts(written=0, duplicates=1)
        revise(table, frame((8, 0.5, 9)), KEY, day(10), scope=Tail("id", 7))
        again = table.scan().collect().lazy()
        assert values_at(again) == {1: 0.5, 2: 1.5, 8: 0.5}
        assert sorted(as_first_known(rows, KEY).collect()["id"]) == [1, 2]
        assert sorted(as_first_known(again, KEY).collect()["id"]) == [1, 2, 8]

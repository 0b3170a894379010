"""No label sees a value that happened or became known after it, whatever was revised when."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.features.point_in_time import as_first_known, join_as_known

START = datetime(2024, 1, 1, tzinfo=UTC)
MOMENT = pl.Datetime("us", "UTC")
FEATURES = pl.Schema({"entity": pl.String(), "event": MOMENT, "known_at": MOMENT, "value": pl.Int64()})
LABELS = pl.Schema({"entity": pl.String(), "at": MOMENT})

entities = st.sampled_from("ab")
hours = st.integers(0, 12)
features = st.lists(st.tuples(entities, hours, hours), max_size=12).map(
    lambda rows: [
        (entity, START + timedelta(hours=event), START + timedelta(hours=event + late, minutes=number), number)
        for number, (entity, event, late) in enumerate(rows)
    ]
)
labels = st.lists(st.tuples(entities, st.integers(0, 30)), max_size=8).map(
    lambda rows: [(entity, START + timedelta(hours=hour)) for entity, hour in rows]
)


def by_hand(label, rows):
    entity, at = label
    known = [row for row in rows if row[0] == entity and row[1] <= at and row[2] <= at]
    return max(known, key=lambda row: (row[1], row[2]))[3] if known else None


@settings(deadline=None)
@given(features, labels)
def test_the_newest_value_that_was_known_then(rows, wanted):
    found = join_as_known(
        pl.LazyFrame(wanted, LABELS, orient="row"),
        pl.LazyFrame(rows, FEATURES, orient="row"),
        entity=["entity"],
        event_time="event",
        at="at",
    ).collect()
    assert sorted(found.select("entity", "at", "value").rows(), key=str) == sorted(
        [(*label, by_hand(label, rows)) for label in wanted], key=str
    )


@settings(deadline=None)
@given(features, labels)
def test_what_becomes_known_later_changes_nothing_before(rows, wanted):
    late = [row for row in rows if row[2] > START + timedelta(hours=10)]
    early = [label for label in wanted if label[1] <= START + timedelta(hours=10)]
    kept = [row for row in rows if row not in late]
    joined = [
        join_as_known(
            pl.LazyFrame(early, LABELS, orient="row"),
            pl.LazyFrame(seen, FEATURES, orient="row"),
            entity=["entity"],
            event_time="event",
            at="at",
        ).collect()
        for seen in (rows, kept)
    ]
    assert joined[0].equals(joined[1])


def test_as_first_known_leaves_revisions_out():
    rows = pl.LazyFrame([("a", START, START + timedelta(days=9), 2), ("a", START, START + timedelta(days=1), 1)], FEATURES, orient="row")
    assert as_first_known(rows, ["entity", "event"]).collect()["value"].to_list() == [1]

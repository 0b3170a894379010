"""Labels of which one value is told and the other is that nothing came: an order without a charge back within ten weeks is honest."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets import RollingTime
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.features.labels import Labels, TrainingSetError
from lakehouse_assets.platform.features.manifest import pin
from lakehouse_assets.platform.features.training_set import LabelledExamples, once
from lakehouse_assets_tests.platform.features.shop import CARDS, LABELS, MOMENT, ORDERS, START, cards, frames, orders, written

WEEKS = timedelta(days=70)
FRAUD = Labels(LABELS, ("invoice",), at="placed_at", target="is_fraud", known_at="reported_at", settled=WEEKS, otherwise=False)
SCHEMA = pl.Schema({"invoice": pl.Int64, "placed_at": MOMENT, "is_fraud": pl.Boolean, "reported_at": MOMENT})


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def rows_of(rows: Iterable[tuple[Any, ...]]) -> pl.LazyFrame:
    return pl.DataFrame(list(rows), schema=SCHEMA, orient="row").lazy()


def told(table: pl.LazyFrame, until: datetime | None = None) -> dict[int, tuple[bool, datetime]]:
    """By invoice the target, and from when on it counts."""
    found = FRAUD.rows(table, (), until)
    return {invoice: (target, known) for invoice, target, known in found.select("invoice", "is_fraud", "label_known_at").rows()}


def test_an_order_without_a_charge_back_is_honest_once_the_table_has_orders_that_are_newer_by_so_much():
    old = [(1, day(0), None, None), (2, day(5), True, day(20))]
    assert told(rows_of(old)) == {}, "nothing has settled"
    assert told(rows_of([*old, (3, day(70), None, None)])) == {1: (False, day(70))}
    both = told(rows_of([*old, (3, day(75), None, None)]))
    assert both == {1: (False, day(70)), 2: (True, day(75))}, "a charge back counts no earlier than its peers"


def test_a_target_that_comes_after_it_was_settled_is_a_revision():
    table = rows_of([(1, day(0), True, day(90)), (2, day(100), None, None)])
    assert told(table, day(69)) == {}
    assert told(table, day(70)) == {1: (False, day(70))}
    assert told(table, day(89)) == {1: (False, day(70))}
    assert told(table, day(90)) == {1: (True, day(90))}
    assert told(table) == {1: (True, day(90))}
    assert told(table, day(90).replace(tzinfo=None)) == told(table, day(90))


def test_of_several_rows_of_one_order_the_newest_that_was_known_counts():
    table = rows_of([(1, day(0), None, None), (1, day(0), True, day(20)), (1, day(0), False, day(95)), (2, day(80), None, None)])
    assert told(table) == {1: (False, day(95))}
    assert told(table, day(94)) == {1: (True, day(70))}
    gone = rows_of([(1, day(0), True, day(20)), (2, day(80), None, None)]).with_columns(is_retracted=pl.col("invoice") == 1)
    assert told(gone) == {}


def test_dates_count_from_their_end():
    table = pl.LazyFrame({"invoice": [1, 2], "placed_at": [date(2024, 1, 1), date(2024, 3, 12)], "is_fraud": [None, None]}).with_columns(
        pl.col("is_fraud").cast(pl.Boolean), reported_at=pl.lit(None, MOMENT)
    )
    assert told(table) == {1: (False, datetime(2024, 3, 12, tzinfo=UTC))}


ORDER = st.tuples(st.integers(0, 200), st.none() | st.integers(1, 150))


@given(st.lists(ORDER, min_size=1, max_size=8), st.integers(0, 400))
def test_what_counts_at_a_moment_is_what_was_known_then(given_orders, until):
    """The same as of a table that has only what had come by then."""
    rows = [
        (n, day(at), None if late is None else True, None if late is None else day(at + late)) for n, (at, late) in enumerate(given_orders)
    ]
    came = [
        (n, at, target if target and reported <= day(until) else None, reported if target and reported <= day(until) else None)
        for n, at, target, reported in rows
    ]
    assert told(rows_of(rows), day(until)) == told(rows_of(came), day(until))
    for n, (target, known) in told(rows_of(rows), day(until)).items():
        assert rows[n][1] + WEEKS <= known <= day(until)
        assert target == (came[n][2] is True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settled": None}, "otherwise=False is the target of rows that have none when they are settled"),
        ({"known_at": None}, "say when one became known by known_at="),
        ({"otherwise": None}, "and not by both unless otherwise= says what a row is"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes, message):
    usual = {"known_at": "reported_at", "settled": WEEKS, "otherwise": False}
    with pytest.raises(DeclarationError, match=message):
        Labels(LABELS, ("invoice",), at="placed_at", target="is_fraud", **(usual | changes))


def test_a_target_needs_the_time_at_which_it_was_known_and_otherwise_its_type():
    with pytest.raises(TrainingSetError, match="1 row without reported_at"):
        told(rows_of([(1, day(0), True, None)]))
    with pytest.raises(TrainingSetError, match="otherwise=0 is no Boolean, which is_fraud is"):
        Labels(LABELS, ("invoice",), "placed_at", "is_fraud", "reported_at", WEEKS, otherwise=0).rows(rows_of([(1, day(0), None, None)]))


def test_the_folds_of_a_training_learn_targets_as_they_were_known_and_join_features_once(tmp_path, monkeypatch):
    tables = frames(4000)
    late = pl.col("invoice") % 7 == 0
    reported = pl.col("placed_at") + pl.when(late).then(pl.duration(days=90)).otherwise(pl.duration(days=20))
    tables[LABELS] = tables[LABELS].with_columns(
        pl.when("is_fraud").then(pl.lit(value=True)).alias("is_fraud"), pl.when("is_fraud").then(reported).alias("reported_at")
    )
    pinned = pin(written(str(tmp_path / "root"), tables), (LABELS, ORDERS, CARDS))
    examples = LabelledExamples(FRAUD, (orders, cards))
    kept = once(examples)
    whole = kept.rows(pinned.read).collect()
    assert whole["label_known_at"].max() <= whole["placed_at"].max() + timedelta(days=90)
    for fold in RollingTime(every=timedelta(days=10), count=3).folds(whole, at="placed_at"):
        learnt = kept.rows(pinned.read, fold.known_until).collect()
        assert learnt.equals(examples.rows(pinned.read, fold.known_until).collect()), "the same as joined again"
        assert learnt["placed_at"].max() <= fold.known_until - WEEKS
        young = learnt.filter(late, pl.col("placed_at") > fold.known_until - timedelta(days=90))
        assert not young["is_fraud"].any(), "their charge backs had not come"
        assert whole.join(young, on="invoice", how="semi")["is_fraud"].any()

"""Whatever comes in whatever order, the accuracy table is what all rows together give; and a process that dies leaves no half of it.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

import tempfile
from pathlib import Path
from threading import Thread

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from lakehouse_assets.platform.monitoring.accuracy.step import AccuracyStep
from lakehouse_assets.platform.monitoring.accuracy.table import IDENTITY, NOTES
from lakehouse_assets.platform.monitoring.accuracy.windowed import Now, windowed
from lakehouse_assets.platform.monitoring.kinds.live_accuracy import LiveAccuracy
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.monitoring.accuracy.scored_shop import DAY, LABELS, START, ScoredShop, made, scored
from lakehouse_assets_tests.platform.pipeline.test_law_incremental import Died, dying_at

KIND = LiveAccuracy(every="1w", slices=("country",))
# What an estimate was depends on when it was made: it is kept.
_OF_THE_PAST = ("estimate", "difference", *NOTES)

orders_of_days = st.integers(0, 15).map(lambda day: ("score", day))
steps = st.lists(
    st.one_of(
        orders_of_days,
        st.integers(0, 15).map(lambda day: ("label", day)),
        st.integers(0, 15).map(lambda day: ("report", day)),
        st.integers(0, 15).map(lambda day: ("withdraw", day)),
        st.integers(1, 40).map(lambda days: ("wait", days)),
        st.just(("evaluate", 0)),
    ),
    min_size=3,
    max_size=9,
)


def whole(step: AccuracyStep) -> pl.DataFrame:
    """The table as all rows together give it."""
    rows = step.predicted.rows(None, step.now)
    found = windowed(rows, step.question, None, Now(step.now), lambda version, some: None)
    return found.filter(~pl.col("is_estimate")).drop(_OF_THE_PAST).sort(IDENTITY)


def stored(shop: ScoredShop) -> pl.DataFrame:
    return shop.rows().filter(~pl.col("is_estimate")).drop(_OF_THE_PAST).sort(IDENTITY)


def of_day(day: int) -> pl.DataFrame:
    return made(1, 6, seed=day, first=day * 100, start=START + DAY * day)


def act(shop: ScoredShop, what: str, day: int) -> None:
    rows = of_day(day)
    if what == "score":
        there = shop.lakehouse.table(scored.name)
        if not there.exists() or there.scan().filter(pl.col("invoice") == rows["invoice"][0]).collect().is_empty():
            shop.score(rows)
    elif what == "label":
        shop.label(rows, known=False)
    elif what == "report":
        shop.label(rows.filter("is_fraud"))
    elif what == "withdraw" and (table := shop.lakehouse.table(scored.name)).exists():
        kept = table.scan().filter(~pl.col("invoice").is_in(rows["invoice"].implode())).collect()
        table.replace(kept, None)


@sweeps.examples(3, 40, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_incremental_is_a_full_recomputation(history):
    with tempfile.TemporaryDirectory() as folder:
        shop, now = ScoredShop(Path(folder)), START + 5 * DAY
        shop.score(of_day(0))
        shop.label(of_day(0), known=False)
        estimates: dict = {}
        for what, number in [*history, ("evaluate", 0)]:
            if what == "wait":
                now += number * DAY
            elif what == "evaluate":
                step = shop.step(now, KIND)
                step.run()
                assert stored(shop).equals(whole(step)), history
                final = shop.rows().filter("is_estimate", ~pl.col("provisional")).select(*IDENTITY, "value", "rows").rows()
                for *identity, value, count in final:
                    assert estimates.setdefault(tuple(identity), (value, count)) == (value, count), "it stays as it was made"
                estimates = {one: told for one, told in estimates.items() if one in {tuple(row[:-2]) for row in final}}
            else:
                act(shop, what, number)


@pytest.mark.parametrize("dies_at", [0, 1])
def test_a_step_that_dies_is_done_by_the_next(tmp_path, dies_at):
    shop, now = ScoredShop(tmp_path / "tables"), START + 100 * DAY
    shop.score(of_day(0))
    shop.label(of_day(0))
    if dies_at:
        shop.step(now, KIND).run()
        shop.score(of_day(9))
        shop.label(of_day(9))
    before = shop.rows()
    with pytest.raises(Died), dying_at(0):
        shop.step(now, KIND).run()
    assert shop.rows().equals(before)
    step = shop.step(now, KIND)
    assert step.run() > 0
    assert stored(shop).equals(whole(step))
    assert step.run() == 0


def test_two_steps_at_once_do_it_once(tmp_path):
    shop, now = ScoredShop(tmp_path / "tables"), START + 100 * DAY
    for day in range(6):
        shop.score(of_day(day))
        shop.label(of_day(day))
    failed: list[BaseException] = []

    def run() -> None:
        try:
            shop.step(now, KIND).run()
        except BaseException as error:  # noqa: BLE001 told below
            failed.append(error)

    threads = [Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert stored(shop).equals(whole(shop.step(now, KIND)))
    assert shop.rows().select(IDENTITY).is_duplicated().sum() == 0


def test_a_source_that_was_made_again_is_read_again(tmp_path):
    shop, now = ScoredShop(tmp_path / "tables"), START + 100 * DAY
    shop.score(of_day(0))
    shop.label(of_day(0))
    shop.label(of_day(1))
    shop.step(now, KIND).run()
    other = ScoredShop(tmp_path / "others")
    other.label(of_day(0).with_columns(is_fraud=~pl.col("is_fraud")))
    table = shop.lakehouse.table(LABELS)
    table.replace(other.lakehouse.table(LABELS).scan().collect(), None)
    step = shop.step(now, KIND)
    step.run()
    assert stored(shop).equals(whole(step))


def test_a_long_time_is_worked_out_by_stretches(tmp_path):
    shop = ScoredShop(tmp_path / "tables")
    for day in (0, 100, 183, 184, 190, 400):
        shop.score(of_day(day))
        shop.label(of_day(day))
    step = shop.step(START + 600 * DAY, KIND)
    assert step.run() == 5, "two of the days are of one week"
    assert stored(shop).equals(whole(step))

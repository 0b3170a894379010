"""Accuracy when labels arrive: what is counted when, of which predictions, with which interval, and what was estimated before."""

from datetime import timedelta

import polars as pl
import pytest

from lakehouse_assets.platform.modelling.metrics import AveragePrecision, LogLoss
from lakehouse_assets.platform.monitoring.kinds.live_accuracy import LiveAccuracy
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.monitoring.accuracy.scored_shop import DAY, LABELS, START, ScoredShop, made

WEEK, SECOND = 7 * DAY, timedelta(seconds=1)


@pytest.fixture
def shop(tmp_path):
    return ScoredShop(tmp_path / "tables")


def chosen(shop, metric, start, *, estimate=False, cell="all", granularity="1 week", version=1):
    rows = shop.rows().filter(
        pl.col("metric") == metric,
        pl.col("window_start") == start,
        pl.col("is_estimate") == estimate,
        pl.col("cell") == cell,
        pl.col("granularity") == granularity,
        pl.col("model_version") == version,
    )
    assert rows.height <= 1
    return rows.row(0, named=True) if rows.height else None


def test_a_window_has_the_score_of_its_rows_once_their_labels_are_settled(shop):
    rows = made(21, 60, seed=1)
    shop.score(rows)
    shop.label(rows)
    for days, labelled in ((14, 0), (69, 0), (73, 180), (76, 360), (77, 420), (78, 420)):
        shop.step(START + DAY * days - SECOND).run()
        row = chosen(shop, "average precision", START)
        assert row["rows"] == 420
        # An order counts as honest after ten weeks, and as a fraud not earlier: else young rows would all be frauds.
        assert (row["labelled"], row["provisional"]) == (labelled, days < 78), days
        assert row["coverage"] == pytest.approx(labelled / 420)
    week = rows.head(420).with_columns(actual="is_fraud")
    assert row["value"] == pytest.approx(AveragePrecision().score(week))
    assert row["low"] < row["value"] < row["high"]
    assert row["baseline"] is None, "nothing says what the version had learnt from"
    assert chosen(shop, "LogLoss", START)["value"] == pytest.approx(LogLoss().score(week))
    assert chosen(shop, "average precision", START + 2 * WEEK)["labelled"] == 0


def test_silence_settles_only_as_far_as_the_rows_of_the_table_of_labels_go(shop):
    rows = made(21, 60, seed=1)
    shop.score(rows)
    shop.label(rows, known=False, goes_on=False)
    shop.step(START + DAY * 300).run()
    row = chosen(shop, "average precision", START)
    assert (row["labelled"], row["provisional"]) == (0, True), "nothing came for months, so silence says nothing"
    later = made(90, 1, seed=2, first=rows.height, start=START + DAY * 21)
    shop.label(later, known=False, goes_on=False)
    shop.step(START + DAY * 301).run()
    ends = {days: chosen(shop, "average precision", START + DAY * days) for days in (0, 7, 14)}
    assert {days: (row["labelled"], row["provisional"]) for days, row in ends.items()} == dict.fromkeys(ends, (420, False))
    assert chosen(shop, "average precision", START)["value"] is None, "of 420 orders none was fraud, as far as is known"


def test_slices_come_from_predictions_and_labels(shop):
    rows = made(7, 60, seed=2)
    shop.score(rows)
    shop.label(rows)
    shop.step(START + 80 * DAY, LiveAccuracy(slices=("method", "country"))).run()
    for column, value in (("method", "card"), ("country", "FR")):
        part = rows.filter(pl.col(column) == value).with_columns(actual="is_fraud")
        row = chosen(shop, "average precision", START, cell=f"{column}={value}")
        assert (row["slice_key"], row["slice_value"], row["rows"]) == (column, value, part.height)
        assert row["value"] == pytest.approx(AveragePrecision().score(part))


def test_what_a_version_learnt_from_does_not_count(shop):
    old, new = made(100, 20, seed=3), made(20, 20, seed=4, first=5_000, start=START + 100 * DAY)
    shop.label(old, goes_on=False)
    rows = pl.concat([old, new])
    learnt = shop.lakehouse.table(LABELS).version()
    shop.decide(2, {LABELS: learnt})
    shop.label(new)
    shop.score(rows, version=2)
    shop.score(rows, version=1)  # nothing is known of it
    shop.step(START + 400 * DAY).run()
    found = shop.rows().filter(metric="average precision", is_estimate=False, granularity="1 week")
    # Labels are settled after 70 days: the version learnt from the first 30 days of the first 100.
    newest_learnt = START + 29.95 * DAY
    counted = found.filter(model_version=2)["rows"].sum()
    assert counted == rows.filter(pl.col("at") > newest_learnt).height
    first = chosen(shop, "average precision", START + 5 * WEEK, version=2)
    share = old.filter(pl.col("at") <= newest_learnt)["is_fraud"].mean()
    # The baseline says one probability of every order, so its average precision is the share of frauds.
    assert first["baseline"] == pytest.approx(
        old.filter(pl.col("at").is_between(START + 5 * WEEK, START + 6 * WEEK))["is_fraud"].mean(), abs=0.02
    )
    log_loss = chosen(shop, "LogLoss", START + 5 * WEEK, version=2)
    week = old.filter(pl.col("at") >= START + 5 * WEEK, pl.col("at") < START + 6 * WEEK).with_columns(
        actual="is_fraud", probability=pl.lit(share)
    )
    assert log_loss["baseline"] == pytest.approx(LogLoss().score(week))
    # Of one that the ledger does not know, everything counts.
    assert found.filter(model_version=1)["rows"].sum() == rows.height


def test_coverage_by_age(shop):
    rows = made(7, 100, seed=5)
    shop.score(rows)
    shop.label(rows)
    shop.step(START + 10 * DAY).run()
    told = shop.rows().filter(pl.col("metric").str.contains("after"))
    assert told["metric"].to_list() == ["labelled after 1 days"]
    shop.step(START + 90 * DAY).run()
    shares = {row["metric"]: row["value"] for row in shop.rows().filter(granularity="1 week").iter_rows(named=True)}
    assert [shares[f"labelled after {days} days"] for days in (1, 7, 14, 28, 70)] == [0, 0, 0, 0, 1]
    frauds = rows.filter("is_fraud")
    for days in (7, 14, 28):
        by_then = (frauds["reported_at"] - frauds["at"] <= DAY * days).mean()
        assert shares[f"reported after {days} days"] == pytest.approx(by_then)


def test_an_estimate_is_kept_as_it_was_made_and_compared_with_what_came_true(shop):
    rows = made(14, 200, seed=6)
    shop.score(rows)
    shop.label(rows, known=False)
    shop.step(START + 3 * DAY).run()
    early = chosen(shop, "average precision", START, estimate=True)
    assert early["provisional"]
    shop.step(START + 8 * DAY).run()
    made_then = chosen(shop, "average precision", START, estimate=True)
    assert made_then["value"] != early["value"]
    assert not made_then["provisional"]
    assert chosen(shop, "average precision", START)["difference"] is None
    # A late prediction and all labels change what is realised, and not what was estimated.
    shop.score(made(1, 5, seed=7, first=9_000))
    shop.label(rows.filter("is_fraud"))
    shop.step(START + 100 * DAY).run()
    assert chosen(shop, "average precision", START, estimate=True) == made_then
    realised = chosen(shop, "average precision", START)
    assert realised["estimate"] == made_then["value"]
    assert realised["difference"] == pytest.approx(realised["value"] - made_then["value"])
    assert made_then["low"] < realised["value"] < made_then["high"]
    positive = rows.head(1400).filter(pl.col("probability") >= 0.5)
    expected = chosen(shop, "true positives", START, estimate=True)
    assert expected["value"] == pytest.approx(positive["probability"].sum())
    assert chosen(shop, "true positives", START)["value"] == positive["is_fraud"].sum()


@pytest.mark.parametrize("power", sweeps.of([2.0], [1.0, 2.0]))
def test_realised_values_lie_in_the_intervals_of_estimates_where_probabilities_are_right(shop, power):
    rows = made(40, 150, seed=8, power=power)
    shop.score(rows)
    shop.label(rows)
    shop.step(START + 120 * DAY, LiveAccuracy(every="1d")).run()
    days = shop.rows().filter(granularity="1 day", cell="all")
    for metric in ("LogLoss", "average precision"):
        both = days.filter(metric=metric, is_estimate=True).join(
            days.filter(metric=metric, is_estimate=False).select("window_start", realised="value"), on="window_start"
        )
        within = both.select(pl.col("realised").is_between("low", "high").mean()).item()
        assert (within >= 0.85) == (power == 1.0), (metric, within)


def test_nothing_is_written_where_nothing_changed(shop):
    rows = made(14, 50, seed=9)
    shop.score(rows)
    shop.label(rows)
    shop.step(START + 200 * DAY).run()
    version, before = shop.table.version(), shop.rows()
    assert shop.step(START + 201 * DAY).run() == 0
    assert shop.table.version() == version
    # One order of the second week alone.
    shop.score(made(1, 1, seed=10, first=9_000, start=START + 9 * DAY))
    assert shop.step(START + 202 * DAY).run() == 1
    after = shop.rows()
    first = pl.col("window_start") == START
    assert after.filter(first).sort("metric", "is_estimate").equals(before.filter(first).sort("metric", "is_estimate"))
    assert after.filter(~first)["rows"].max() == 351

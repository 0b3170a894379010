"""A row that is dated in the future is no history: it pulls no forecast ahead, and a check says that it is left out."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets_tests.platform.monitoring.accuracy.judging import said_of, words
from lakehouse_assets_tests.platform.recipes.test_forecast import FIRST, SOURCE, Catalog, rows, run, sales

FEATURES, PREDICTIONS = "shop.features.sales", "shop.predictions.sales"


def ahead(days: int, **groups: str) -> pl.DataFrame:
    return pl.DataFrame([{"date": datetime.now(UTC).date() + timedelta(days=days), "amount": 5.0, **groups}])


def known_days(root) -> tuple[date, date, int]:
    features = root.lakehouse.table(FEATURES).scan().collect()
    return features["date"].min(), features["date"].max(), features["date"].n_unique()


def forecast_from(root) -> date:
    """The first day of the forecast that was scored last."""
    scored = root.lakehouse.table(PREDICTIONS).scan().collect()
    return scored.filter(pl.col("as_of") == scored.sort("scored_at", "as_of")["as_of"][-1])["date"].min()


@pytest.mark.parametrize("groups", [{}, {"branch": ("north", "south")}], ids=["one series", "groups"])
@pytest.mark.parametrize("days", [2, 200])
def test_a_forecast_starts_after_the_newest_day_that_is_over_whatever_is_dated_in_the_future(settings, groups, days):
    declared = sales(by=tuple(groups), horizon=7)
    far = ahead(days, **{name: values[0] for name, values in groups.items()})
    _, root = run(declared, settings, pl.concat([rows(20, **groups), far]))
    assert known_days(root) == (FIRST, FIRST + timedelta(days=19), 20)
    assert forecast_from(root) == FIRST + timedelta(days=20)
    # What comes later goes on from there.
    root.lakehouse.table(SOURCE).append(rows(22, **groups).filter(pl.col("date") >= FIRST + timedelta(days=20)))
    catalog = Catalog(declared.declarations, frozenset({SOURCE}))
    for name in (FEATURES, PREDICTIONS):
        Runner(catalog, root.lakehouse, root.ingestion, root.registry, 1).run([name], run_id="later")
    assert known_days(root) == (FIRST, FIRST + timedelta(days=21), 22)
    assert forecast_from(root) == FIRST + timedelta(days=22)


def test_the_rows_that_are_left_out_are_told_with_their_number_and_the_latest_day(settings):
    declared, now = sales(horizon=7), datetime.now(UTC)
    frames = [rows(20), ahead(40), ahead(45)]
    _, root = run(declared, settings, pl.concat(frames))
    assert "not_ahead" in words(declared.features)
    assert "not_ahead" not in words(declared.predictions)

    def said(at: datetime) -> tuple[bool, str]:
        verdict = said_of(declared.features, root.lakehouse, at)["not_ahead"]
        return verdict.passed, verdict.text

    latest = frames[2]["date"][0]
    passed, text = said(now)
    assert not passed
    assert text.startswith(f"2 rows of {SOURCE} have a date after today, the latest {latest}: left out until then, see ")
    assert text.endswith(f"`lakehouse show {SOURCE} --where \"date > date '{now.date()}'\"`.")
    condition = text.partition('--where "')[2].rpartition('"')[0]
    assert root.lakehouse.table(SOURCE).scan().filter(pl.sql_expr(condition)).collect().height == 2
    assert said(now + timedelta(days=42))[1].startswith(f"1 row of {SOURCE} has a date after today")
    assert said(now + timedelta(days=45)) == (True, "No date is after today.")


def test_a_shop_that_is_ahead_of_utc_is_not_warned_of_its_own_today(settings):
    _, root = run(sales(horizon=7), settings, rows(20))
    noon = datetime(2025, 1, 25, 12, tzinfo=UTC)  # the last row is of 25 January; in Auckland the 26th has begun
    assert said_of(sales(horizon=7).features, root.lakehouse, noon - timedelta(days=1))["not_ahead"].passed
    assert not said_of(sales(horizon=7).features, root.lakehouse, noon - timedelta(days=2))["not_ahead"].passed

"""Forecasts as their days come in: by horizon and group, next to the naive forecast of the same origins, whatever was revised."""

import json
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from lakehouse_assets import forecast
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.modelling.metrics import Wape
from lakehouse_assets.platform.monitoring.accuracy.residuals import ResidualRows
from lakehouse_assets.platform.monitoring.accuracy.step import AccuracyStep
from lakehouse_assets.platform.monitoring.accuracy.table import accuracy_table
from lakehouse_assets.platform.monitoring.accuracy.watched import watched_predictions
from lakehouse_assets.platform.monitoring.accuracy.windows import GRANULARITIES
from lakehouse_assets.platform.monitoring.kinds.live_accuracy import LiveAccuracy, question_of
from lakehouse_assets.platform.monitoring.profiling.groups import Groups
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA

FIRST, DAYS, LEARNT = date(2024, 1, 1), 140, 100
DAY = timedelta(days=1)
SERIES = "kiosk.gold.sales"
SCHEMA = {"day": pl.Date(), "kiosk": pl.String(), "sold": pl.Float64()}

sales = forecast("kiosk.sold", series=SERIES, time="day", value="sold", by=("kiosk",), horizon=14)
DECLARED = {one.name: one for one in sales.declarations}


def sold(days: int) -> pl.DataFrame:
    """Two kiosks, of which one sells ten times as much; weekends are half."""
    chance = np.random.default_rng(1)
    rows = []
    for number in range(days):
        day = FIRST + number * DAY
        for kiosk, level in (("north", 100.0), ("south", 10.0)):
            rows.append({"day": day, "kiosk": kiosk, "sold": level * (0.5 if day.weekday() > 4 else 1.0) * chance.uniform(0.7, 1.3)})
    return pl.DataFrame(rows, schema=SCHEMA)


def forecasts(rows: pl.DataFrame, origins: range) -> pl.DataFrame:
    """What is forecast at the end of some days: what comes, and 20 % too much for the north."""
    parts = []
    for number in origins:
        as_of = FIRST + number * DAY
        ahead = rows.filter(pl.col("day") > as_of, pl.col("day") <= as_of + 14 * DAY)
        wrong = pl.when(pl.col("kiosk") == "north").then(1.2).otherwise(1.0) * pl.col("sold")
        parts.append(ahead.select(as_of=pl.lit(as_of), day="day", kiosk="kiosk", mean=wrong))
    quantiles = {name: pl.col("mean") * share for name, share in (("p10", 0.8), ("p50", 1.0), ("p90", 1.3))}
    return pl.concat(parts).with_columns(
        horizon=(pl.col("day") - pl.col("as_of")).dt.total_days(),
        **quantiles,
        model_name=pl.lit(sales.model.name),
        model_version=pl.lit(1, pl.Int64),
        feature_version=pl.lit(0, pl.Int64),
        scored_at=pl.lit(datetime(2024, 1, 1, tzinfo=UTC)),
    )


@pytest.fixture
def kiosks(settings):
    """A root with features up to a day, of which a version has learnt a part, and forecasts from each day."""
    root = Root(settings)
    lakehouse, rows = root.lakehouse, sold(DAYS)
    catalog = Catalog(sales.declarations, frozenset({SERIES}))
    source = lakehouse.table(SERIES)
    source.create(SCHEMA)

    def land(some: pl.DataFrame) -> None:
        source.append(some)
        Runner(catalog, lakehouse, root.ingestion, root.registry, 1).run([sales.features.name], run_id="test")

    first = pl.col("day") < FIRST + LEARNT * DAY
    land(rows.filter(first))
    ledger, features = lakehouse.table(sales.model.name), lakehouse.table(sales.features.name)
    ledger.create(LEDGER_SCHEMA)
    learnt = json.dumps({features.name: features.version()})
    decided = {"sequence": 1, "version": 1, "champion": 1, "training_tables": learnt, "decision": "promoted"}
    ledger.append(pl.DataFrame([decided | {"decided_at": datetime(2024, 4, 10, tzinfo=UTC)}], schema=LEDGER_SCHEMA))
    predicted = lakehouse.table(sales.predictions.name)
    predicted.create(sales.predictions.schema)
    made = forecasts(rows, range(LEARNT - 20, DAYS - 1))
    predicted.append(made.select(list(sales.predictions.schema)))
    land(rows.filter(~first))
    return lakehouse, rows


def evaluated(lakehouse, now: datetime) -> pl.DataFrame:
    kind = LiveAccuracy(every="1w", slices=("kiosk",))
    predicted = watched_predictions(sales.predictions.name, DECLARED, lakehouse, kind.slices)
    AccuracyStep(predicted, question_of(predicted, [kind]), now, 0).run()
    return accuracy_table(lakehouse).scan().collect().filter(metric="WAPE")


def test_forecasts_by_horizon_and_group_beside_the_naive_one(kiosks):
    lakehouse, rows = kiosks
    early = evaluated(lakehouse, datetime(2024, 5, 15, tzinfo=UTC)).filter(cell="all").sort("window_start")
    # Of the week that is not over the first days have come.
    assert early["provisional"].to_list() == [False] * (early.height - 1) + [True]
    found = evaluated(lakehouse, datetime(2024, 5, 20, tzinfo=UTC))
    # Forecasts from before the end of what the version had learnt do not count.
    assert found["window_start"].min() == datetime(2024, 4, 8, tzinfo=UTC)
    start = datetime(2024, 4, 29, tzinfo=UTC)
    week = {row["cell"]: row for row in found.filter(window_start=start).iter_rows(named=True)}
    assert set(week) == {"all", "kiosk=north", "kiosk=south", "horizon=1-7", "horizon=8-14"}
    assert week["kiosk=north"]["value"] == pytest.approx(0.2, abs=1e-4)  # features are rounded
    assert week["kiosk=south"]["value"] == pytest.approx(0.0, abs=1e-4)
    assert week["all"]["rows"] == 7 * 14 * 2
    assert not week["all"]["provisional"]
    assert week["all"]["horizon"] is None
    # The naive forecast of a day is that of the same weekday in the last week that the origin knew.
    days = {(row["day"], row["kiosk"]): row["sold"] for row in rows.iter_rows(named=True)}
    for cell, back in (("horizon=1-7", 7), ("horizon=8-14", 14)):
        asked = [one for one in days if start.date() <= one[0] < start.date() + 7 * DAY]
        naive = pl.DataFrame({"actual": [days[one] for one in asked], "p50": [days[(one[0] - back * DAY, one[1])] for one in asked]})
        assert week[cell]["baseline"] == pytest.approx(Wape().score(naive), abs=1e-4)


def test_what_was_revised_counts_from_when_it_was_known(kiosks):
    lakehouse, _ = kiosks
    before = evaluated(lakehouse, datetime(2024, 5, 13, tzinfo=UTC)).filter(cell="all", window_start=datetime(2024, 4, 29, tzinfo=UTC))
    features = lakehouse.table(sales.features.name)
    revised = features.scan().filter(pl.col("day") == date(2024, 4, 30), pl.col("kiosk") == "north").collect()
    known = datetime(2024, 5, 14, tzinfo=UTC)
    features.append(revised.with_columns(pl.col("sold") * 2, known_at=pl.lit(known)))
    same = evaluated(lakehouse, datetime(2024, 5, 13, 12, tzinfo=UTC)).filter(cell="all", window_start=before["window_start"][0])
    assert same["value"][0] == before["value"][0]
    after = evaluated(lakehouse, datetime(2024, 5, 15, tzinfo=UTC)).filter(cell="all", window_start=before["window_start"][0])
    assert after["value"][0] > before["value"][0]


def test_residuals_of_each_outcome_once_by_windows_that_are_over(kiosks):
    lakehouse, _ = kiosks
    predicted = watched_predictions(sales.predictions.name, DECLARED, lakehouse, ("kiosk", "horizon")).pinned()
    # On Monday the week before is over; on Sunday only those before it are.
    for now, last in ((datetime(2024, 5, 13, tzinfo=UTC), date(2024, 5, 12)), (datetime(2024, 5, 12, 23, tzinfo=UTC), date(2024, 5, 5))):
        rows = ResidualRows(predicted, GRANULARITIES["1w"], now)
        found = rows.rows(Groups("about", "1w", predicted.slices)).collect()
        assert found.schema == rows.schema
        assert found.group_by("about").len()["len"].unique().to_list() == [2]
        assert found["about"].max().date() == last
    north = found.filter(kiosk="north")
    assert north["residual_share"].to_list() == pytest.approx([-0.2 / 1.2] * north.height, abs=1e-4)
    assert found.filter(kiosk="south")["residual"].abs().max() == pytest.approx(0.0, abs=1e-3)
    # All days of a week are as far ahead as each other, as in a test.
    weeks = found.filter(pl.col("about") >= datetime(2024, 4, 29, tzinfo=UTC)).group_by(pl.col("about").dt.truncate("1w"))
    assert weeks.agg(pl.col("horizon").n_unique())["horizon"].unique().to_list() == [1]

"""Trainings and tests of models give the same bytes and the same rows, wherever they work (law 6)."""

from datetime import timedelta

import polars as pl
import pytest

from lakehouse_assets import PerSegment, classifier
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.compute.processes import Processes
from lakehouse_assets.platform.compute.travel import packed, unpacked
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.learning import MODEL, TrainingRows
from lakehouse_assets.platform.features.training_set import once
from lakehouse_assets.platform.modelling.evaluation import Candidates
from lakehouse_assets.platform.modelling.forecasting import training
from lakehouse_assets.platform.modelling.forecasting.direct import DirectForecast
from lakehouse_assets.platform.modelling.forecasting.examples import SeriesExamples
from lakehouse_assets.platform.modelling.forecasting.plain import plain_forecasts
from lakehouse_assets.platform.modelling.forecasting.statistics import daily_features
from lakehouse_assets.platform.modelling.learners.boosting import GradientBoosting
from lakehouse_assets.platform.modelling.predictors import save_predictor
from lakehouse_assets.platform.modelling.splits import RollingOrigins
from lakehouse_assets.platform.modelling.time_folds import TimeFolds
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets_tests.platform.modelling.forecasting.shop import FIRST, SERIES, sales
from lakehouse_assets_tests.platform.recipes.shop_orders import orders

PLACES = (Local(), Processes(2))
SMALL = DirectForecast(SERIES, rounds=5, most_rows=2_000)


def saved(predictor, folder):
    save_predictor(predictor, folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def features():
    return daily_features(sales(430), SERIES).collect().lazy()


def series(features, _root):
    learners = {MODEL: SMALL, **plain_forecasts(SERIES)}
    split = RollingOrigins(horizon=28, step=SERIES.step, count=2, least=SERIES.least_days)
    return learners, SeriesExamples(SERIES, "features"), {"features": features}.get, split


def outcomes(_features, root):
    """Of rows whose tables are read by the folds, as a training reads them: what makes them cannot travel, and need not."""
    fraud = classifier(
        "shop.fraud",
        table="shop.silver.orders",
        target="charged_back",
        entity=("order",),
        time="ordered_at",
        inputs={"amount": float, "country": str, "method": str},
        settled=timedelta(days=30),
        learner=PerSegment(GradientBoosting("binary", calibrated=True, rounds=20), by=("country",), least=50),
        slices=("country",),
    )
    rows, source = orders(1_000), root.lakehouse.table("shop.silver.orders")
    source.create(rows.schema)
    source.append(rows)
    catalog = Catalog(fraud.declarations, frozenset({source.name}))
    Runner(catalog, root.lakehouse, root.ingestion, root.registry, 1).run([fraud.features.name], run_id="test")
    learners = {MODEL: fraud.model.learner, **fraud.model.baselines}
    return learners, once(fraud.model.examples), lambda name: root.lakehouse.table(name).scan(), TimeFolds(most=2)


@pytest.mark.parametrize("world", [series, outcomes])
def test_models_and_evaluations_are_equal_wherever_they_are_made(world, features, settings, tmp_path):
    learners, examples, read, split = world(features, Root(settings))
    evaluations, models = [], []
    for number, place in enumerate(PLACES):
        candidates = Candidates(learners, examples, read, 1, place)
        evaluations.append(candidates.evaluate(split))
        models.append(saved(candidates.fit(MODEL), tmp_path / str(number)))
    here, there = evaluations
    assert len(here.folds) > 1
    assert there.rows.equals(here.rows)
    assert (there.slices, there.grid) == (here.slices, here.grid)
    assert models[0] == models[1]


def test_backtests_are_equal_wherever_they_are_made(features):
    origins = [FIRST + timedelta(days=number) for number in (360, 390)]
    here, there = (training.backtest(features, SERIES, origins, seed=1, compute=place, learner=SMALL) for place in PLACES)
    assert there.equals(here)


def test_training_rows_travel_as_they_are_whatever_they_are_read_from():
    plan = pl.LazyFrame({"key": [2, 1, 3], "at": [1, 1, 0], "y": [0.0, 1.0, 2.0]}).map_batches(lambda rows: rows)
    rows = TrainingRows(plan, ("key",), "at", "y", ("key",))
    there = unpacked(packed(rows, "rows"), "rows")
    assert there.rows.collect().equals(rows.collect())
    assert there.collect().equals(rows.collect())
    assert (there.key, there.at, there.target, there.inputs) == (rows.key, rows.at, rows.target, rows.inputs)

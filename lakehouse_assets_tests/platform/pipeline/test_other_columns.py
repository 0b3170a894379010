"""Feature sets and predictions keep what they once recorded, with the columns that it had: another declaration is no dead end."""

from datetime import date, timedelta

import polars as pl

from lakehouse_assets import forecast
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.model_step import ModelStep
from lakehouse_assets.platform.pipeline.runner import Runner

SOURCE, DAYS = "zoo.gold.daily", 40


def test_a_forecast_of_another_value_is_computed_beside_the_former_one(settings):
    root = Root(settings)
    days = [date(2024, 1, 1) + timedelta(days=number) for number in range(DAYS)]
    rows = pl.DataFrame({"day": days, "groups": [1.0] * DAYS, "people": [100.0 + number % 7 for number in range(DAYS)]})
    root.lakehouse.table(SOURCE).create(rows.schema)
    root.lakehouse.table(SOURCE).append(rows)
    for value in ("groups", "people"):
        crowd = forecast("zoo.crowd", series=SOURCE, time="day", value=value, horizon=7)
        runner = Runner(Catalog(crowd.declarations, frozenset({SOURCE})), root.lakehouse, root.ingestion, root.registry, 1)
        runner.run([crowd.features.name], run_id="run", from_scratch=True)
        ModelStep(crowd.model, root.lakehouse, root.registry(), 1, "run").run(retrain=True)
        runner.run([crowd.predictions.name], run_id="run")
    features = root.lakehouse.table("zoo.features.crowd").scan().collect()
    of_version = features.group_by("feature_set_version").agg(pl.col("groups", "people").null_count()).sort("feature_set_version")
    assert of_version.rows() == [(1, 0, DAYS), (2, DAYS, 0)]
    newest = root.lakehouse.table("zoo.predictions.crowd").scan().filter(pl.col("model_version") == pl.col("model_version").max()).collect()
    assert newest["mean"].mean() == 103.0

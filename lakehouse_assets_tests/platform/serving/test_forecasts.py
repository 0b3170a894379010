"""A forecast is served by one declaration: asked by keys, answered from memory, made again when the champion or the features are others."""

from datetime import date, timedelta

import polars as pl
import pytest

from lakehouse_assets import endpoint, forecast, open_lakehouse
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.modelling.forecasting.plain import plain_forecasts
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.registry.decisions import ModelDecisions
from lakehouse_assets.platform.serving.service import Service
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets_tests.platform.registry.example import training
from lakehouse_assets_tests.platform.serving.asking import PATIENT, Connection
from lakehouse_assets_tests.platform.serving.till import Memory, listening, until

SALES = "shop.gold.sales"
FIRST, DAYS = date(2024, 1, 1), 120
sold = forecast("shop", series=SALES, time="day", value="net", by=("group",), horizon=7)
asked = endpoint("sales", predictions=sold.predictions)
CATALOG = Catalog((*sold.declarations, asked), frozenset({SALES}))


def rows(first: int, last: int) -> pl.DataFrame:
    days = [FIRST + timedelta(days=number) for number in range(first, last)]
    return pl.DataFrame([{"day": day, "group": group, "net": 100.0 + level} for day in days for level, group in enumerate(("a", "b"))])


class Shop:
    """A root with a series and its forecast."""

    def __init__(self, settings) -> None:
        self.root = Root(settings)
        self.table = self.root.lakehouse.table(SALES)
        self.table.create(rows(0, 1).schema)
        self.decisions = ModelDecisions(self.root.lakehouse.table(sold.model.name), sold.model.name, self.root.registry(), "test")
        self.decisions.create()

    def land(self, first: int, last: int) -> None:
        self.table.append(rows(first, last))
        Runner(CATALOG, self.root.lakehouse, self.root.ingestion, self.root.registry, 1).run([sold.features.name], run_id="test")

    def train(self, word: str) -> int:
        features = self.root.lakehouse.table(sold.features.name)
        examples = sold.model.examples
        learnt = examples.training(examples.rows(lambda name: self.root.lakehouse.table(name).scan()))
        fitted = plain_forecasts(sold.series)[word].fit(learnt, seed=1, compute=Local())
        known = {
            "tables": [],
            "parameters": {},
            "files": {},
            "breakdowns": {},
            "features": {sold.features.name: FeatureVersion.of(features)},
        }
        made = training(model_name=sold.model.name, predictor=fitted, input_example=learnt.collect().head(3), fingerprint=word, **known)
        return self.decisions.registry.log_training(made).version

    def service(self) -> Service:
        reader = open_lakehouse(settings=self.root.settings, declarations=CATALOG.declarations, notice=lambda _: None).context.reader
        return Service(self.root, CATALOG, reader, Memory(), PATIENT, reload_seconds=0.05)


@pytest.mark.timeout(120)
def test_the_newest_forecast_is_answered_by_keys_and_follows_champion_and_features(settings):
    shop = Shop(settings)
    service = shop.service()
    with listening(service) as address, Connection(address) as connection:
        assert connection.post("/endpoints/sales", {})[0] == 503
        shop.land(0, DAYS)
        words = list(plain_forecasts(sold.series))
        first, second = shop.train(words[0]), shop.train(words[1])
        shop.decisions.promote(first, "For a test.")
        until(lambda: service.served["sales"].versions is not None)

        status, everything = connection.post("/endpoints/sales", {})
        assert (status, len(everything["predictions"]), everything["model_name"]) == (200, 14, sold.model.name)
        status, one = connection.post("/endpoints/sales", {"group": "b"})
        assert {(row["group"], row["model_version"]) for row in one["predictions"]} == {("b", first)}
        assert [row["horizon"] for row in one["predictions"]] == list(range(1, 8))
        as_of = (FIRST + timedelta(days=DAYS - 1)).isoformat()
        assert {row["as_of"] for row in one["predictions"]} == {one["as_of"]} == {as_of}
        both = connection.post("/endpoints/sales", {"keys": [{"group": "b"}, {"group": "a"}]})[1]["predictions"]
        assert [row["group"] for row in both] == ["b"] * 7 + ["a"] * 7

        status, answer = connection.post("/endpoints/sales", {"keys": [{"group": "a"}, {"group": "c"}]})
        assert (status, answer["errors"][0]["row"], answer["errors"][0]["field"]) == (422, 1, "group")
        assert "there are a, b" in answer["errors"][0]["message"]
        assert connection.post("/endpoints/sales", {"rows": []})[0] == 422
        # However often all are asked for, no answer is much longer than the table.
        assert connection.post("/endpoints/sales", {"keys": [{}, {"group": "a"}, {}]})[0] == 422
        assert connection.post("/endpoints/sales", {"keys": [{"group": f"g{number}"} for number in range(2_000)]})[0] == 413
        assert connection.post("/endpoints/sales/invocations", {})[0] == 404

        shop.decisions.promote(second, "For a test.")
        until(lambda: connection.post("/endpoints/sales", {"group": "a"})[1]["predictions"][0]["model_version"] == second)
        shop.land(DAYS, DAYS + 1)
        until(lambda: connection.post("/endpoints/sales", {"group": "a"})[1]["as_of"] > as_of)
        assert connection.get("/openapi.json")[1]["paths"]["/endpoints/sales"]["post"]

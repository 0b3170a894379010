"""What is personal in the table of a recipe is so in every table that the recipe makes, wherever rows are shown."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta

import polars as pl
import pytest

from lakehouse_assets import (
    ByKey,
    Contract,
    Full,
    Gate,
    GradientBoosting,
    Timestamp,
    classifier,
    column,
    endpoint,
    forecast,
    open_lakehouse,
    table,
    window_features,
)
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.features.online.forms import Needs
from lakehouse_assets.platform.features.online.opening import online_store
from lakehouse_assets.platform.features.online.sync import sync
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.model_step import ModelStep
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.serving.service import Service
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.recipes.shop_orders import orders
from lakehouse_assets_tests.platform.serving import busy
from lakehouse_assets_tests.platform.serving.asking import PATIENT, Connection
from lakehouse_assets_tests.platform.serving.till import listening, until

RAW, SOURCE, DAYS, BY_METHOD = "shop.bronze.orders", "shop.silver.orders", "shop.gold.days", "shop.gold.methods"
SECRET, BORN = "Zebulon", 19_470_203
QUICK = {
    "learner": GradientBoosting("binary", rounds=10, early_stopping=None),
    "gate": Gate(error_rate=0.2, folds=4, newest=None, leakage=None),
}


class Order(Contract):
    """An order, and who made it."""

    order: str = column(key=True, personal=True, description="Who ordered, and a number.")
    ordered_at: Timestamp
    amount: float = column(description="Pounds.")
    method: str = column(personal=True, description="Whose card it was.")
    born: int = column(personal=True)
    charged_back: bool


class Day(Contract):
    """What was ordered on one day."""

    day: date = column(key=True)
    takings: float = column(personal=True, description="Of the one customer.")


@table(SOURCE, contract=Order, kind=ByKey("order"), inputs={"rows": RAW})
def source(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Orders."""
    return rows


@table(DAYS, contract=Day, kind=Full(), inputs={"rows": SOURCE})
def days(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Days."""
    return rows.group_by(pl.col("ordered_at").dt.date().alias("day")).agg(takings=pl.lit(float(BORN)))


class MethodDay(Day):
    """What was paid with one card."""

    method: str = column(key=True, personal=True)


@table(BY_METHOD, contract=MethodDay, kind=Full(), inputs={"rows": SOURCE})
def by_method(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Days of each card."""
    return rows.group_by(pl.col("ordered_at").dt.date().alias("day"), "method").agg(takings="amount")


fraud = classifier(
    "shop.fraud", table=SOURCE, target="charged_back", entity=("order",), time="ordered_at", settled=timedelta(days=5),
    inputs={"amount": float, "method": str, "born": int}, **QUICK,
)  # fmt: skip
again = classifier(
    "shop.again", table=fraud.features.name, target="born", entity=("order",), time="ordered_at", settled=timedelta(days=5),
    inputs={"method": str}, classes=("1", "2", "3"),
)  # fmt: skip
windows = window_features(
    "shop.features.methods", of=SOURCE, entity=("method",), time="ordered_at", windows=("1d",),
    values={"*": ("count",), "born": ("last", "max"), "order": ("first", "distinct")}, types={"order": str},
)  # fmt: skip
daily = window_features(
    "shop.features.daily", of=SOURCE, entity=("method",), time="ordered_at", windows=("1d",), every="1d", values={"*": ("count",)}
)
takings = forecast("shop.takings", series=DAYS, time="day", value="takings")
# A recipe may be put together with its table in any order.
DECLARED = (*takings.declarations, *again.declarations, *fraud.declarations, windows, daily, days, source)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Root:
    """With every table of the recipes that can be computed; the classifier is trained and has predicted."""
    root = Root(Settings.load({"LAKEHOUSE_ROOT": str(tmp_path_factory.mktemp("personal")), "LAKEHOUSE_SHOW_PERSONAL": "owner"}))
    rows = orders(300, days=40).select(
        (f"{SECRET} " + pl.col("order")).alias("order"), "ordered_at", "amount",
        (f"{SECRET} " + pl.col("method").fill_null("none")).alias("method"), pl.lit(BORN).cast(pl.Int64).alias("born"), "charged_back",
    )  # fmt: skip
    raw = root.lakehouse.table(RAW)
    raw.create(rows.schema)
    raw.append(rows)
    runner = Runner(Catalog(DECLARED, frozenset({RAW})), root.lakehouse, root.ingestion, root.registry, 1)
    runner.run(run_id="test")
    ModelStep(fraud.model, root.lakehouse, root.registry(), 1, "test").run()
    runner.run([fraud.predictions.name], run_id="scored")
    return root


PERSONAL = {
    fraud.features.name: {"order", "method", "born"},
    fraud.predictions.name: {"order"},
    again.features.name: {"order", "method"},
    again.predictions.name: {"order", "predicted", "probability_1", "probability_2", "probability_3"},
    windows.name: {"method", "born_last_1d", "born_max_1d", "order_first_1d"},
    daily.name: {"method"},
    takings.features.name: {
        name
        for name in takings.features.schema
        if name.removeprefix("total_").startswith(
            ("takings", "value", "level", "capped", "weekday_", "median", "window_average", "deviation")
        )
        and name != "weekday_open"
    },
    takings.predictions.name: {"p10", "p50", "p90", "mean"},
}


def test_the_tables_of_a_recipe_have_the_personal_columns_of_its_source():
    Catalog(DECLARED, frozenset({RAW}))
    made = {one.name: set(one.personal) for one in DECLARED if one.name in PERSONAL}
    assert made == PERSONAL
    said = fraud.features.described()
    assert (said["amount"], said["born"]) == ("Pounds.", f"As in {SOURCE}.")
    for one in (fraud.features, fraud.predictions, again.features, again.predictions):
        assert one.described()["order"] == "Who ordered, and a number."
    assert takings.features.described()["takings"] == "Sum of the day."


@pytest.mark.parametrize("name", [name for name, personal in PERSONAL.items() if personal])
def test_the_reader_masks_them(root, name):
    whole, masked = (
        open_lakehouse(settings=replace(root.settings, show_personal=shown), declarations=DECLARED, notice=lambda _: None)
        .context.reader.scan(name)
        .collect()
        for shown in ("owner", "never")
    )
    assert masked.drop(PERSONAL[name]).equals(whole.drop(PERSONAL[name]))
    assert whole.height or name in {again.predictions.name, takings.predictions.name}
    for one in PERSONAL[name] if whole.height else ():
        assert whole[one].null_count() < whole.height
        assert {*masked[one].drop_nulls()} <= {"•••"}
    assert SECRET not in str(masked.rows())
    assert str(BORN) not in str(masked.rows())


def test_the_service_masks_them(root):
    lake = open_lakehouse(settings=root.settings, declarations=DECLARED, notice=lambda _: None)
    catalog = Catalog((*DECLARED, endpoint("fraud", predictions=fraud.predictions, event=SOURCE)), frozenset({RAW}))
    with closing(online_store(root.settings)) as store:
        for one in (fraud.features, daily):
            sync(store, root.lakehouse, one, Needs(lambda _: ()))
    service = Service(root, catalog, lake.context.reader, busy.StoreOnline(root.settings), PATIENT)
    row = root.lakehouse.table(fraud.features.name).scan().first().collect().row(0, named=True)
    order, method = row["order"], row["method"]
    event = root.lakehouse.table(SOURCE).scan().filter(pl.col("order") == order).collect().row(0, named=True)
    event |= {"ordered_at": event["ordered_at"].isoformat()}
    with listening(service) as address, Connection(address) as connection:
        until(lambda: service.served["fraud"].versions is not None)
        found = [
            connection.post("/endpoints/fraud?explain=true", {"rows": [event | {"order": "new"}]}),
            connection.post("/features", {"feature_sets": [fraud.features.name], "keys": [{"order": order}]}),
            connection.post("/features", {"feature_sets": [daily.name], "keys": [{"method": method}]}),
            connection.get(f"/features/{fraud.features.name}?key={order.replace(' ', '%20')}"),
            connection.get(f"/features/{daily.name}?key={method.replace(' ', '%20')}"),
        ]
    for status, answer in found:
        assert status == 200, answer
        assert SECRET not in json.dumps(answer)
        assert str(BORN) not in json.dumps(answer)
    values = found[1][1]["rows"][0][fraud.features.name]["values"]
    assert (values["method"], values["born"], values["amount"]) == ("•••", None, row["amount"])


def test_a_forecast_by_a_personal_column_is_refused():
    """The values of such a column would stand in the evaluation, in the names of series."""
    told = forecast("shop.by_method", series=BY_METHOD, time="day", value="takings", by=("method",))
    with pytest.raises(DeclarationError, match=r"'method', which is personal in shop\.features\.by_method.*of a forecast, of by"):
        Catalog((by_method, source, *told.declarations), frozenset({RAW}))


def test_a_table_that_nobody_declares_tells_nothing():
    alone = classifier(
        "shop.alone", table="shop.silver.plain", target="paid", entity=("id",), time="at", settled=timedelta(0), inputs={"amount": float}
    )
    Catalog(alone.declarations, frozenset({"shop.silver.plain"}))
    assert not alone.features.personal
    assert alone.features.described()["amount"] == "As in shop.silver.plain."

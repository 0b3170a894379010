"""The recipe `forecast` on series of many sorts: each ends with predictions or with a reason, and never with an error of a library."""

import sys
from datetime import date, timedelta
from types import ModuleType

import polars as pl
import pytest

from lakehouse_assets import forecast
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.modules import declarations_in
from lakehouse_assets.platform.modelling.forecasting.evaluation import score, train_and_test
from lakehouse_assets.platform.modelling.result import HistoryTooShort
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.orchestration import versions
from lakehouse_assets.platform.pipeline.model_step import ModelStep
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.quality.contract import schema_of

FIRST = date(2025, 1, 6)  # a Monday
SOURCE = "shop.gold.daily_sales"


def week(number: int, level: float = 100.0) -> float:
    """A value with a week that a model can learn, and with some noise."""
    return level * (1, 1.2, 0.9, 1, 1.4, 1.8, 0.4)[number % 7] + 7 * ((number * 7919) % 11 - 5)


def rows(days, value=week, **groups):
    """One row a day, for each value of the group columns, if there are any."""
    names = [dict(zip(groups, names, strict=True)) for names in zip(*groups.values(), strict=True)] if groups else [{}]
    return pl.DataFrame(
        [{"date": FIRST + timedelta(days=number), "amount": float(value(number)), **name} for number in range(days) for name in names]
    )


def sales(by=(), **options):
    return forecast("shop.sales", series=SOURCE, time="date", value="amount", by=by, **options)


def run(declared, settings, frame):
    """Bring a root with this source up to date, training and predictions included: what became of the model, and the predictions."""
    root = Root(settings)
    source = root.lakehouse.table(SOURCE)
    source.create(frame.schema)
    source.append(frame)
    catalog = Catalog(declared.declarations, frozenset({SOURCE}))
    Runner(catalog, root.lakehouse, root.ingestion, root.registry, 1).run([declared.features.name], run_id="test")
    trained = ModelStep(declared.model, root.lakehouse, root.registry(), 1, "test").run()
    Runner(catalog, root.lakehouse, root.ingestion, root.registry, 1).run([declared.predictions.name], run_id="test")
    return trained, root.lakehouse


def test_a_series_without_groups_is_trained_becomes_champion_and_is_forecast(settings):
    declared = sales(horizon=14, quantiles=(0.05, 0.25, 0.5, 0.75, 0.95), calendar="DE")
    trained, lakehouse = run(declared, settings, rows(200))
    assert trained.champion == 1, trained.reasons
    predicted = lakehouse.table("shop.predictions.sales").scan().sort("date").collect()
    assert predicted.height == 14
    assert predicted["date"].to_list() == [FIRST + timedelta(days=200 + ahead) for ahead in range(14)]
    assert predicted.select(pl.col("p5", "p25", "p50", "p75", "p95").is_finite().all()).row(0) == (True,) * 5
    expected = [week(200 + ahead) for ahead in range(14)]
    assert (predicted["p50"] - pl.Series(expected)).abs().mean() < 25
    assert declared.newest(lambda name: lakehouse.table(name).scan()).collect().height == 14
    picture = declared.predictions.picture(lambda name: lakehouse.table(name).scan())
    assert picture.startswith(b"\x89PNG")
    assert lakehouse.table("shop.features.sales").count() == 200
    assert lakehouse.table("shop.features.sales__quarantine").count() == 0


def test_a_history_that_is_too_short_says_how_many_days_are_missing_and_nothing_is_predicted(settings):
    trained, lakehouse = run(sales(), settings, rows(60))
    assert trained.champion is None
    assert trained.reasons == (
        "140 days of amount are needed to train a model and to test it on 2 origins, and there are 60. Land 80 more days.",
    )
    assert lakehouse.table("shop.predictions.sales").count() == 0
    assert lakehouse.table("shop.features.sales").count() == 60


SERIES = {
    "one group": (rows(110, shop=["a"]), ("shop",)),
    "groups of two columns": (rows(110, shop=["a", "a", "b"], floor=[1, 2, 1]), ("shop", "floor")),
    "a group without a name": (rows(110, shop=["a", None]), ("shop",)),
    "returns": (rows(110, lambda number: -500.0 if number % 30 == 3 else week(number)), ()),
    "days of nothing": (rows(110, lambda number: week(number) if number % 7 < 3 else 0.0), ()),
    "a new group": (pl.concat([rows(110, shop=["a"]), rows(8, shop=["b"]).with_columns(pl.col("date") + timedelta(days=85))]), ("shop",)),
    "a group that ended": (pl.concat([rows(110, shop=["a"]), rows(30, shop=["b"])]), ("shop",)),
    "a series that ended": (rows(160, lambda number: week(number) if number < 130 else 0.0), ()),
    "no numbers": (rows(110).with_columns(amount=pl.when(pl.col("date").dt.day() == 9).then(float("nan")).otherwise("amount")), ()),
    "very large": (rows(110, lambda number: week(number, 1e9)), ()),
    "very small": (rows(110, lambda number: 1e-3 * week(number)), ()),
    "rows of a few weekdays": (rows(110).filter(pl.col("date").dt.weekday() < 4), ()),
    "whole numbers": (rows(110).with_columns(pl.col("amount").cast(pl.Int64)), ()),
    "decimals": (rows(110).with_columns(pl.col("amount").cast(pl.Decimal(18, 2))), ()),
}


@pytest.mark.parametrize("name", SERIES)
def test_series_of_many_sorts_are_forecast(name):
    frame, by = SERIES[name]
    declared = sales(by, horizon=7)
    features = declared.features(frame.lazy()).collect()
    assert all(features[name].null_count() == 0 for name in by)
    training = train_and_test(features.lazy(), declared.series, 1)
    numbers = training.backtest.select("actual", "model", *training.baselines)
    assert numbers.select(pl.all().is_finite().all()).row(0) == (True,) * numbers.width
    predicted = score(training.model, features.lazy(), declared.series)
    assert predicted.height == 7 * features.filter(pl.col("date") == pl.col("date").max()).height
    assert predicted.select((pl.col("p10") <= pl.col("p50")).all() & (pl.col("p50") <= pl.col("p90")).all()).item()
    promised = schema_of(declared.predictions.contract)
    assert {name: dtype for name, dtype in predicted.schema.items() if name in by} == {name: promised[name] for name in by}


@pytest.mark.parametrize("horizon", [1, 10, 40])
def test_any_horizon_is_trained_tested_and_forecast_on_the_least_history(horizon):
    declared = sales(horizon=horizon)
    with pytest.raises(HistoryTooShort) as short:
        train_and_test(declared.features(rows(20).lazy()), declared.series, 1)
    needed = int(str(short.value).split()[0])
    features = declared.features(rows(needed).lazy())
    assert score(train_and_test(features, declared.series, 1).model, features, declared.series).height == horizon


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (rows(150, lambda _: 0.0), "has no level above zero"),
        (rows(150, lambda number: -week(number)), "has no level above zero"),
        (rows(300, lambda number: week(number) if number < 60 else 0.0), "is 0 on all days"),
        (rows(1), "and there are 1"),
        (rows(1).clear(), "and there are 0"),
    ],
    ids=["zeros", "negative", "ended", "one day", "no row"],
)
def test_what_cannot_be_learnt_is_said(frame, said):
    declared = sales()
    with pytest.raises(HistoryTooShort, match=said):
        train_and_test(declared.features(frame.lazy()), declared.series, 1)


def test_a_champion_without_a_known_day_predicts_nothing(settings):
    declared = sales(("shop",), horizon=7)
    features = declared.features(rows(150, shop=["a"]).lazy())
    model = train_and_test(features, declared.series, 1).model
    assert score(model, features.clear(), declared.series).is_empty()


def test_where_and_count_say_which_rows_and_which_days_count():
    frame = rows(20).with_columns(kind=pl.lit("sale"), orders=pl.col("date").dt.weekday() % 2)
    fees = frame.with_columns(kind=pl.lit("fee"), amount=pl.lit(1e6))
    known = sales(where=pl.col("kind") == "sale", count="orders").features(pl.concat([frame, fees]).lazy()).sort("date").collect()
    assert known["amount"].to_list() == frame["amount"].to_list()
    assert known["is_open"].to_list() == [day.isoweekday() % 2 == 1 for day in known["date"]]


def test_a_module_that_has_a_forecast_has_its_three_declarations_written_where_it_is_called():
    module = ModuleType("a_product")
    module.expected = declared = forecast("shop", series=SOURCE, time="date", value="amount")
    names = ["shop.features.daily_sales", "shop.models.daily_sales", "shop.predictions.daily_sales"]
    assert [one.name for one in declarations_in([module])] == names
    line = sys._getframe().f_lineno - 3
    assert {one.written_at for one in declared.declarations} == {(__file__, line)}


def test_what_the_recipe_is_given_is_part_of_the_code_of_its_tables():
    plain, same, other = sales(), sales(), sales(where=pl.col("amount") > 0)
    assert versions.of_table(plain.features) == versions.of_table(same.features) != versions.of_table(other.features)
    assert versions.of_model(plain.model) == versions.of_model(same.model) != versions.of_model(other.model)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"horizon": 0}, "horizon is a number of days from 1 to 182, not 0"),
        ({"horizon": 200}, "horizon is a number of days from 1 to 182"),
        ({"quantiles": (0.1, 0.9)}, "quantiles ascend symmetrically around 0.5"),
        ({"quantiles": (0.2, 0.5, 0.9)}, "quantiles ascend symmetrically around 0.5"),
        ({"quantiles": (0.025, 0.5, 0.975)}, "quantiles are whole percents"),
        ({"quantiles": ()}, "quantiles ascend symmetrically around 0.5"),
        ({"calendar": "England"}, "calendar='England' is no country: write its code, as 'GB'"),
        ({"by": "shop"}, r"by='shop' is one text: write a tuple of columns, as in by=\('shop',\)"),
        ({"by": ("shop", "shop")}, "by names 'shop' twice"),
        ({"by": ("amount",)}, "time, value and by are different columns"),
        ({"by": ("horizon",)}, "the forecast adds a column 'horizon' itself: rename that of shop.gold.daily_sales"),
        ({"value": "total_value"}, "the forecast adds a column 'total_value' itself"),
        ({"by": ("level_28",)}, "the forecast adds a column 'level_28' itself"),
        ({"series": "daily_sales"}, "series='daily_sales' is no name of a table"),
        ({"name": "Shop Sales"}, "forecast 'Shop Sales': write product or product.name"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(options, said):
    given = {"name": "shop", "series": SOURCE, "time": "date", "value": "amount"} | options
    with pytest.raises(DeclarationError, match=said):
        forecast(given.pop("name"), **given)


def test_columns_may_have_the_names_that_are_used_inside():
    declared = forecast("shop", series=SOURCE, time="day", value="value", by=("group",))
    known = declared.features(rows(30, group=["a"]).lazy().rename({"date": "day", "amount": "value"})).collect()
    assert known.select("group", "day", "value").height == 30

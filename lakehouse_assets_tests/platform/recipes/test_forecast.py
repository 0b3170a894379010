"""The recipe `forecast` on series of many sorts: each ends with predictions or with a reason, and never with an error of a library.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

import sys
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from types import ModuleType, SimpleNamespace

import polars as pl
import pytest

from lakehouse_assets import forecast
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.gates import LeakageLimits
from lakehouse_assets.platform.declarations.learning import MODEL, NotEnoughData
from lakehouse_assets.platform.declarations.modules import declarations_in
from lakehouse_assets.platform.features.leakage import Leakage
from lakehouse_assets.platform.modelling.evaluation import Candidates
from lakehouse_assets.platform.modelling.predictors import load_predictor
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.orchestration import versions
from lakehouse_assets.platform.pipeline.model_step import ModelStep
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.quality.contract import schema_of
from lakehouse_assets_tests import sweeps

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


def small(declared, folds=2):
    """The declared model with few trees and folds: enough to see that there is an answer."""
    model = declared.model
    return replace(model, learner=replace(model.learner, rounds=10, most_rows=3_000), split=replace(model.split, count=folds))


def try_out(declared, features):
    """The candidates of the declared model on features: their evaluation, and the model that is fitted to all."""
    model = small(declared)
    candidates = Candidates({MODEL: model.learner, **model.baselines}, model.examples, {declared.features.name: features}.get, 1, Local())
    return candidates.evaluate(model.split), candidates.fit(MODEL)


def predicted(declared, model, features):
    return declared.predictions(SimpleNamespace(model=model), features).collect()


def in_order(rows, *names):
    """Whether there is a number in every row and column, and each is at least the one before it."""
    numbers = rows.select(names)
    finite = numbers.select(pl.all().is_finite().fill_null(value=False).all()).row(0)
    return all(finite) and all((rows[low] <= rows[high]).all() for low, high in pairwise(names))


def run(declared, settings, frame, model=None):
    """Bring a root with this source up to date, training and predictions included: what became of the model, and the root."""
    root = Root(settings)
    source = root.lakehouse.table(SOURCE)
    source.create(frame.schema)
    source.append(frame)
    catalog = Catalog(declared.declarations, frozenset({SOURCE}))
    Runner(catalog, root.lakehouse, root.ingestion, root.registry, 1).run([declared.features.name], run_id="test")
    trained = ModelStep(model or small(declared), root.lakehouse, root.registry(), 1, "test").run()
    Runner(catalog, root.lakehouse, root.ingestion, root.registry, 1).run([declared.predictions.name], run_id="test")
    return trained, root


def champion_of(root, declared):
    """The champion's name among the candidates, and the folder with what is stored of it."""
    registry = root.registry()
    version = registry.version(declared.model.name, registry.aliases(declared.model.name).champion)
    return version.tags["candidate"], registry.model_folder(version)


def test_a_series_without_groups_is_trained_becomes_champion_and_is_forecast(settings):
    declared = sales(horizon=14, quantiles=(0.05, 0.25, 0.5, 0.75, 0.95), calendar="DE")
    # The first days of a month are the best ones, which no plain forecast knows.
    monthly = rows(200).with_columns(pl.when(pl.col("date").dt.day() < 9).then(pl.col("amount") * 3).otherwise("amount"))
    learner = replace(declared.model.learner, rounds=60, most_rows=3_000)
    model = replace(declared.model, learner=learner, split=replace(declared.model.split, count=6))
    trained, root = run(declared, settings, monthly, model)
    assert trained.promoted, trained.reasons
    lakehouse = root.lakehouse
    forecasts = lakehouse.table("shop.predictions.sales").scan().sort("date").collect()
    assert forecasts["date"].to_list() == [FIRST + timedelta(days=200 + ahead) for ahead in range(14)]
    assert in_order(forecasts, "p5", "p25", "p50", "p75", "p95")
    expected = pl.Series([week(200 + ahead) * (3 if day.day < 9 else 1) for ahead, day in enumerate(forecasts["date"])])
    assert forecasts["mean"].sum() == pytest.approx(expected.sum(), rel=0.3)
    assert declared.newest(lambda name: lakehouse.table(name).scan()).collect().height == 14
    picture = declared.predictions.picture(lambda name: lakehouse.table(name).scan())
    assert picture.startswith(b"\x89PNG")
    assert lakehouse.table("shop.features.sales").count() == 200
    assert lakehouse.table("shop.features.sales__quarantine").count() == 0
    # What is registered gives the numbers of the prediction table, in their unit, from its input columns alone.
    candidate, folder = champion_of(root, declared)
    stored = load_predictor(folder)
    newest = declared.model.examples.newest(lakehouse.table("shop.features.sales").scan()).sort("day").collect()
    assert candidate == MODEL
    assert stored.predict(newest.select(stored.inputs))["mean"].equals(forecasts["mean"])


def test_calendar_and_growth_of_a_young_series_are_no_leaks():
    """Ten months in which month and level go one way: nobody can leave an input of the recipe out."""
    declared = sales()
    features = declared.features(rows(300, lambda number: week(number) + 5 * number).lazy()).collect()
    examples = declared.model.examples
    made = examples.rows({declared.features.name: features.lazy()}.__getitem__).collect()

    def leaks(limits) -> list[str]:
        found = Leakage(limits).report_rows(
            made, key=examples.key, at=examples.at, target=examples.target, inputs=examples.inputs, seed=0, compute=Local()
        )
        return found.sentences()

    assert any(said.startswith("month goes with time") for said in leaks(LeakageLimits()))
    assert leaks(declared.model.gate.leakage) == []


def test_while_history_is_too_short_it_says_what_is_missing_and_the_first_baseline_predicts(settings):
    declared = sales()
    trained, root = run(declared, settings, rows(60))
    assert not trained.promoted
    assert "a test needs 56 days up to an origin" in trained.reasons[0]
    assert "and 28 days after it" in trained.reasons[0]
    assert "the baseline seasonal_naive predicts" in trained.reasons[1]
    assert champion_of(root, declared)[0] == "seasonal_naive"
    forecasts = root.lakehouse.table("shop.predictions.sales").scan().sort("date").collect()
    assert forecasts["p50"].to_list() == [week(53 + ahead % 7) for ahead in range(28)]
    assert in_order(forecasts, "p10", "p50", "p90")


@pytest.mark.parametrize("days", [0, 1])
def test_without_two_days_there_is_a_reason_and_no_prediction(settings, days):
    declared = sales()
    trained, root = run(declared, settings, rows(1).head(days))
    assert trained.champion is None
    assert "a test needs 56 days" in trained.reasons[0]
    assert trained.reasons[-1].endswith("land at least 2 days")
    assert root.lakehouse.table("shop.predictions.sales").count() == 0


def test_of_zeros_nothing_is_learnt_and_zeros_are_forecast(settings):
    declared = sales(horizon=7)
    trained, root = run(declared, settings, rows(110, lambda _: 0.0))
    assert not trained.promoted
    assert "has no level above zero" in trained.reasons[0]
    forecasts = root.lakehouse.table("shop.predictions.sales").scan().collect()
    assert forecasts.select("p10", "p50", "p90", "mean").unique().rows() == [(0.0, 0.0, 0.0, 0.0)]


def test_where_no_tested_day_has_an_outcome_there_is_no_test_and_a_plain_forecast(settings):
    declared = sales(horizon=7)
    trained, root = run(declared, settings, rows(130, lambda number: week(number) if number < 110 else 0.0))
    assert not trained.promoted
    assert "WAPE has no score in any of the 2 tested folds" in trained.reasons[0]
    assert champion_of(root, declared)[0] == "seasonal_naive"
    forecasts = root.lakehouse.table("shop.predictions.sales").scan().collect()
    assert forecasts["mean"].to_list() == [0.0] * 7
    assert in_order(forecasts, "p10", "p50", "p90")


SERIES = {
    "constant": (rows(110, lambda _: 50.0), ()),
    "one that is always zero": (
        rows(110, shop=["a", "b"]).with_columns(amount=pl.when(pl.col("shop") == "a").then("amount").otherwise(0.0)),
        ("shop",),
    ),
    "one that is negative": (
        rows(110, shop=["a", "b"]).with_columns(amount=pl.when(pl.col("shop") == "a").then("amount").otherwise(-pl.col("amount"))),
        ("shop",),
    ),
    "gaps": (rows(130).filter(pl.col("date").dt.ordinal_day() % 40 > 9), ()),
    "a single row": (pl.concat([rows(110, shop=["a"]), rows(1, shop=["b"]).with_columns(pl.col("date") + timedelta(days=90))]), ("shop",)),
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


SAMPLE = (
    "constant", "one that is negative", "gaps", "a single row", "a group without a name", "returns", "a series that ended", "no numbers",
    "very small",
)  # fmt: skip


@pytest.mark.parametrize("name", sweeps.of(SAMPLE, SERIES))
def test_series_of_many_sorts_are_forecast(name):
    frame, by = SERIES[name]
    declared = sales(by, horizon=7)
    features = declared.features(frame.lazy()).collect()
    assert all(features[name].null_count() == 0 for name in by)
    evaluation, model = try_out(declared, features.lazy())
    assert len(evaluation.folds) == 2
    assert evaluation.candidates == (MODEL, *declared.model.baselines)
    assert evaluation.rows.select("actual", "p10", "p50", "p90", "mean").select(pl.all().is_finite().all()).row(0) == (True,) * 5
    found = predicted(declared, model, features.lazy())
    assert found.height == 7 * features.filter(pl.col("date") == pl.col("date").max()).height
    assert in_order(found, "p10", "p50", "p90")
    assert found["mean"].is_finite().all()
    promised = schema_of(declared.predictions.contract)
    assert dict(found.schema) == {name: dtype for name, dtype in promised.items() if name in found.columns}


def test_a_group_that_is_younger_than_four_weeks_at_one_origin_does_not_stop_the_others():
    old, young = rows(140, shop=["a"]), rows(30, shop=["b"]).with_columns(pl.col("date") + timedelta(days=110))
    declared = sales(("shop",), horizon=28)
    features = declared.features(pl.concat([old, young]).lazy()).collect().lazy()
    evaluation, model = try_out(declared, features)
    # At the newest origin, of day 111, the group has two days, at the one before none.
    of_young = evaluation.rows.filter(pl.col("shop") == "b")
    assert of_young["fold"].unique().to_list() == [str(FIRST + timedelta(days=111))]
    assert of_young["mean"].is_finite().all()
    found = predicted(declared, model, features)
    assert found.filter(pl.col("shop") == "b").height == 28
    assert in_order(found, "p10", "p50", "p90")


@pytest.mark.parametrize("horizon", sweeps.of([1, 40], [1, 10, 40]))
def test_any_horizon_is_trained_tested_and_forecast_on_the_least_history(horizon):
    declared = sales(horizon=horizon)
    least = declared.series.least_days
    needed = least + horizon
    with pytest.raises(NotEnoughData, match=f"a test needs {least} days up to an origin.* and {horizon} days after it"):
        try_out(declared, declared.features(rows(needed - 1).lazy()).collect().lazy())
    features = declared.features(rows(needed).lazy()).collect().lazy()
    evaluation, model = try_out(declared, features)
    assert evaluation.folds == (str(FIRST + timedelta(days=least - 1)),)
    assert predicted(declared, model, features).height == horizon


@pytest.mark.parametrize("value", [lambda _: 0.0, lambda number: -week(number)], ids=["zeros", "negative"])
def test_what_has_no_level_above_zero_is_not_learnt_and_it_is_said_what_to_do(value):
    declared = sales()
    with pytest.raises(NotEnoughData, match=r"amount has no level above zero up to .*forecast the opposite"):
        try_out(declared, declared.features(rows(150, value).lazy()).collect().lazy())


def test_a_champion_without_a_known_day_predicts_nothing():
    declared = sales(("shop",), horizon=7)
    features = declared.features(rows(110, shop=["a"]).lazy()).collect().lazy()
    _, model = try_out(declared, features)
    assert predicted(declared, model, features.clear()).is_empty()


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
    # Which rows count is in the version of the feature set, whose rows the model learns from.
    assert versions.of_model(plain.model) == versions.of_model(same.model) != versions.of_model(sales(horizon=7).model)


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

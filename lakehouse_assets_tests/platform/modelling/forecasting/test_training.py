"""The forecast as a whole on a made-up shop: in order, without a look ahead, the same twice, and sensible for groups of every size.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.learning import MODEL, NotEnoughData
from lakehouse_assets.platform.modelling.evaluation import Candidates
from lakehouse_assets.platform.modelling.forecasting import training
from lakehouse_assets.platform.modelling.forecasting.direct import DirectForecast
from lakehouse_assets.platform.modelling.forecasting.examples import SeriesExamples
from lakehouse_assets.platform.modelling.forecasting.plain import plain_forecasts
from lakehouse_assets.platform.modelling.forecasting.series import Series
from lakehouse_assets.platform.modelling.forecasting.statistics import daily_features
from lakehouse_assets.platform.modelling.metrics import Coverage, Wape
from lakehouse_assets.platform.modelling.predictors import load_predictor, save_predictor
from lakehouse_assets.platform.modelling.splits import RollingOrigins
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.modelling.forecasting.shop import FIRST, LEVELS, SERIES, sales

LEAST_DAYS = SERIES.least_days
LEARNER = DirectForecast(SERIES, most_rows=6_000)
SMALL = DirectForecast(SERIES, rounds=10, most_rows=3_000)  # what is learnt from is the same, and nothing here is about how well


def train(known, cutoff, learner=SMALL, **how):
    return training.train(known, SERIES, cutoff, seed=1, compute=Local(), learner=learner, **how)


def forecast(model, known, as_of):
    return training.forecast(model, training.rows_from(known, SERIES, [as_of]), SERIES)


def backtest(known, origins, learner=SMALL):
    return training.backtest(known, SERIES, origins, seed=1, compute=Local(), learner=learner)


def features(days, **shop):
    return daily_features(sales(days, **shop), SERIES).collect().lazy()


def day(number):
    return FIRST + timedelta(days=number)


FEATURES = features(430)
AS_OF = day(400)


@pytest.fixture(scope="module")
def model():
    return train(FEATURES, AS_OF)


def bytes_of(model, folder):
    save_predictor(model, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_forecast_has_every_group_and_day_with_quantiles_in_order(model):
    found = forecast(model, FEATURES, AS_OF)
    assert found.columns == ["as_of", "day", "horizon", "product_group", "p10", "p50", "p90", "mean"]
    assert found.height == 28 * len(LEVELS)
    assert found.select(pl.struct("day", "product_group").is_unique().all()).item()
    assert found.select(((pl.col("day") - pl.col("as_of")).dt.total_days() == pl.col("horizon")).all()).item()
    assert found.select((pl.col("p10") <= pl.col("p50")).all() & (pl.col("p50") <= pl.col("p90")).all()).item()
    assert found.null_count().sum_horizontal().item() == 0


def test_a_closed_day_is_forecast_as_nothing():
    found = forecast(train(FEATURES, AS_OF, DirectForecast(SERIES)), FEATURES, AS_OF)
    saturdays, fridays = (found.filter(pl.col("day").dt.weekday() == number) for number in (6, 5))
    assert saturdays["p90"].sum() < 0.02 * fridays["p50"].sum()


def test_neither_training_nor_forecast_sees_what_comes_after_the_origin(model, tmp_path):
    """Law 5: with other sales after the origin the model has the same bytes and the forecast the same values."""
    other = sales(430).with_columns(net=pl.when(pl.col("day") > AS_OF).then(pl.col("net") * 50 - 7).otherwise(pl.col("net")))
    shocked = daily_features(other, SERIES).collect().lazy()
    again = train(shocked, AS_OF)
    assert bytes_of(again, tmp_path / "again") == bytes_of(model, tmp_path / "first")
    assert forecast(again, shocked, AS_OF).equals(forecast(model, FEATURES, AS_OF))


def revised(known_at, since=FIRST, known=FEATURES):
    """The features, and of every day from `since` on other values that became known at `known_at`, or the day after if that is later."""
    later = pl.max_horizontal(pl.lit(known_at), pl.col("known_at") + timedelta(days=1))
    values = pl.col("net", "^(total_)?level_.*$", "^(total_)?weekday_[0-9]$", "median_28", "deviation_28")
    return pl.concat([known, known.filter(pl.col("day") >= since).with_columns(values * 3 + 100, known_at=later)])


def test_a_training_learns_what_became_known_after_the_cutoff_only_if_that_is_asked_for(model, tmp_path):
    midnight = datetime.combine(AS_OF + timedelta(days=1), time(), UTC)
    late = revised(midnight + timedelta(microseconds=1))
    careful = train(late, AS_OF)
    knowing = train(late, AS_OF, outcomes_known_at=midnight + timedelta(days=60))
    assert bytes_of(careful, tmp_path / "careful") == bytes_of(model, tmp_path / "first")
    assert bytes_of(knowing, tmp_path / "knowing") != bytes_of(model, tmp_path / "second")


def evaluated(known, learners, count=2):
    """The candidates on unseen days, as a training of the declared model tests them."""
    tested = Candidates(learners, SeriesExamples(SERIES, "features"), {"features": known}.get, 1, Local())
    return tested.evaluate(RollingOrigins(horizon=28, step=SERIES.step, count=count, least=LEAST_DAYS))


def test_no_fold_of_a_test_learns_or_predicts_from_what_became_known_after_its_origin():
    """Law 5, for the model and for plain forecasts: what came later is the outcome alone."""
    every, known = plain_forecasts(SERIES), FEATURES.filter(pl.col("day") <= day(sweeps.of(110, 429)))
    learners = {MODEL: SMALL, **sweeps.of(dict([*every.items()][:1]), every)}
    plain = evaluated(known, learners, sweeps.of(1, 2))
    for fold in plain.folds:
        after = datetime.combine(date.fromisoformat(fold) + timedelta(days=1), time(), UTC) + timedelta(microseconds=1)
        late = evaluated(revised(after, day(60), known), learners, sweeps.of(1, 2))
        assert late.folds == plain.folds
        here = pl.col("fold") == fold
        assert late.rows.filter(here).drop("actual").equals(plain.rows.filter(here).drop("actual"))
        assert not late.rows.filter(here)["actual"].equals(plain.rows.filter(here)["actual"])


def test_the_model_that_may_become_champion_learns_all_that_is_known():
    late = revised(datetime(2020, 1, 1, tzinfo=UTC))
    tested = Candidates({}, SeriesExamples(SERIES, "features"), {"features": late}.get, 1, Local())
    last = pl.col("origin") == day(428)
    newest = FEATURES.filter(pl.col("day") == day(429)).sort("product_group").collect()["net"]
    learnt = tested.training_rows().collect().filter(last, pl.col("horizon") == 1).sort("product_group")
    assert (learnt["value"] - newest * 3 - 100).abs().max() < 1e-6


def test_a_backtest_knows_no_revision_that_came_after_its_origins():
    """Law 5: only the outcome is the revised one."""
    origins = [day(340), day(368)]
    late = revised(datetime.combine(origins[-1] + timedelta(days=1), time(), UTC) + timedelta(microseconds=1))
    plain, tested = (backtest(frame, origins) for frame in (FEATURES, late))
    assert tested.drop("actual").equals(plain.drop("actual"))
    assert (tested["actual"] - (plain["actual"] * 3 + 100)).abs().max() < 1e-6


def test_the_order_of_the_feature_rows_does_not_matter(model, tmp_path):
    shuffled = FEATURES.collect().sample(fraction=1, shuffle=True, seed=3).lazy()
    again = train(shuffled, AS_OF)
    assert bytes_of(again, tmp_path / "again") == bytes_of(model, tmp_path / "first")
    assert forecast(again, shuffled, AS_OF).equals(forecast(model, FEATURES, AS_OF))


SUMMER = [day(228), day(256), day(284)]  # before a season was seen


def test_a_backtest_holds_model_and_baselines_against_the_outcome():
    tested = backtest(FEATURES, SUMMER, LEARNER)
    assert tested["origin"].unique().sort().to_list() == SUMMER
    assert tested.height == 3 * 28 * len(LEVELS)
    model, average, naive = (Wape(name).score(tested) for name in ("p50", "seasonal_window_average", "seasonal_naive"))
    assert model < average < naive
    assert 0.7 < Coverage().score(tested) < 0.95
    actual = tested.join(FEATURES.collect(), on=["product_group", "day"])
    assert actual["actual"].equals(actual["net"].alias("actual"))


def test_a_backtest_leaves_out_days_without_an_outcome():
    tested = backtest(FEATURES, [day(420)])
    assert tested["day"].max() == day(429)


def test_sixty_days_are_enough_to_begin_with():
    tested = backtest(features(88), [day(59)], LEARNER)
    assert tested.height == 28 * len(LEVELS)
    assert Wape("p50").score(tested) < Wape("seasonal_naive").score(tested)


@pytest.mark.parametrize("days", [2, 28, LEAST_DAYS - 2])  # the next one is a Saturday
def test_a_history_that_is_too_short_says_how_much_is_missing(days):
    with pytest.raises(NotEnoughData, match=f"{days} days .* needs {LEAST_DAYS}: land {LEAST_DAYS - days} more"):
        train(features(days), day(days - 1))


def test_one_day_is_no_history():
    with pytest.raises(NotEnoughData, match=f"less than 2 days; .* needs {LEAST_DAYS}: land at least {LEAST_DAYS - 1} more"):
        train(features(1), day(0))


def test_the_least_history_is_enough():
    known = features(LEAST_DAYS)
    assert forecast(train(known, day(LEAST_DAYS - 1)), known, day(LEAST_DAYS - 1))["p50"].sum() > 0


def test_many_tiny_groups_do_not_disturb_a_large_one():
    tiny = {f"tiny {number}": 1.0 + number / 3 for number in range(25)}
    known = features(300, levels={"large": 5000.0, **tiny})
    found = forecast(train(known, day(270), LEARNER), known, day(270))
    assert found["product_group"].n_unique() == 26
    assert found.select(pl.col("p10", "p50", "p90").is_finite().all()).row(0) == (True, True, True)
    both = found.join(known.collect(), on=["product_group", "day"])
    assert Wape("p50").score(both.filter(pl.col("product_group") == "large").rename({"net": "actual"})) < 0.4
    assert both.filter(pl.col("product_group") != "large")["p90"].max() < 500


def test_a_day_without_features_is_refused(model):
    with pytest.raises(ValueError, match="no features of"):
        forecast(model, FEATURES, day(500))


def test_a_stored_forecast_predicts_money_from_its_input_columns_alone(model, tmp_path):
    """In the unit of the prediction table, whatever the order of the columns and whatever other columns there are."""
    save_predictor(model, tmp_path / "model")
    loaded = load_predictor(tmp_path / "model")
    rows = training.rows_from(FEATURES, SERIES, [AS_OF])
    found = loaded.predict(rows.select(reversed(loaded.inputs)))
    assert found.equals(forecast(model, FEATURES, AS_OF).select("p10", "p50", "p90", "mean"))
    past = FEATURES.filter(pl.col("day") <= AS_OF, pl.col("day") > AS_OF - timedelta(days=28)).select(pl.col("net").sum()).collect().item()
    assert past / 2 < found["mean"].sum() < past * 2
    assert bytes_of(loaded, tmp_path / "again") == bytes_of(model, tmp_path / "first")
    assert loaded.predict(rows.clear()).is_empty()
    with pytest.raises(ValueError, match="needs month"):
        loaded.predict(rows.drop("month"))


@pytest.mark.parametrize("name", plain_forecasts(SERIES))
def test_a_stored_plain_forecast_predicts_its_column_with_a_band_around_it(name, tmp_path):
    known = FEATURES.filter(pl.col("day") <= day(150))
    examples, learner = SeriesExamples(SERIES, "features"), plain_forecasts(SERIES)[name]
    fitted = learner.fit(examples.training(examples.rows({"features": known}.get)), seed=1, compute=Local())
    save_predictor(fitted, tmp_path / "model")
    loaded = load_predictor(tmp_path / "model")
    rows = training.rows_from(known, SERIES, [day(150)])
    found = loaded.predict(rows.select(loaded.inputs))
    assert found["mean"].equals(rows[learner.column].alias("mean"))
    assert found.select((pl.col("p10") <= pl.col("p50")).all() & (pl.col("p50") <= pl.col("p90")).all()).item()
    assert found["p90"].sum() > found["mean"].sum() > found["p10"].sum()
    assert bytes_of(loaded, tmp_path / "again") == bytes_of(fitted, tmp_path / "first")


def test_sums_of_means_come_closer_to_what_came_than_sums_of_medians():
    """Values are skewed, so the median of a day lies below its mean."""
    skewed = sales(430, levels={"large": 5000.0, "middle": 800.0}).with_columns(
        net=pl.when(pl.col("net").hash(seed=1) % 8 == 0).then(pl.col("net") * 4).otherwise("net")
    )
    tested = backtest(daily_features(skewed, SERIES).collect().lazy(), SUMMER, LEARNER)
    came = tested["actual"].sum()
    assert abs(tested["mean"].sum() - came) < 0.12 * came
    assert tested["p50"].sum() < 0.85 * came


def test_what_is_learnt_by_level_counts_as_far_as_it_saw_a_season():
    shares = [train(features(days), day(days - 1)).settings()["level_share"] for days in (250, 430, 800)]
    assert shares[0] == 0 < shares[1] < shares[2] == 0.7


def test_a_series_without_a_level_is_forecast_by_its_reference_alone(model, tmp_path):
    level = pl.when(pl.col("product_group") != "small").then("level")
    rows = training.rows_from(FEATURES, SERIES, [AS_OF]).with_columns(level.alias("level"))
    found = model.predict(rows.select(model.inputs)).with_columns(rows["product_group"])
    save_predictor(model, tmp_path)
    parts = json.loads((tmp_path / "forecast.json").read_text())
    (tmp_path / "forecast.json").write_text(json.dumps({**parts, "level_share": 0.0}))
    alone = load_predictor(tmp_path).predict(rows.select(model.inputs)).with_columns(rows["product_group"])
    small = pl.col("product_group") == "small"
    assert found.filter(small).equals(alone.filter(small))
    assert not found.filter(~small).equals(alone.filter(~small))


THREADS = """
import sys
from pathlib import Path
from lakehouse_assets_tests.platform.modelling.forecasting.test_training import AS_OF, FEATURES, backtest, day, save_predictor, train
save_predictor(train(FEATURES, AS_OF), Path(sys.argv[1]) / "model")
FEATURES.collect().write_parquet(Path(sys.argv[1]) / "features")
backtest(FEATURES, [day(380)]).write_parquet(Path(sys.argv[1]) / "backtest")
"""


def test_features_model_and_backtest_are_the_same_bytes_on_any_number_of_threads(tmp_path):
    found = []
    for threads in sweeps.of(("1", "8"), ("1", "2", "8")):
        folder = tmp_path / threads
        folder.mkdir()
        limits = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS"), threads)
        subprocess.run([sys.executable, "-c", THREADS, str(folder)], env={**os.environ, **limits}, check=True)
        found.append({str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()})
    models = {"p10", "p50", "p90", "mean", "level_p10", "level_p50", "level_p90"}
    assert {"features", "backtest", *(f"model/{name}.txt" for name in models)} <= found[0].keys()
    for other in found[1:]:
        assert [name for name in found[0] if other.get(name) != found[0][name]] == []


def grown(number):
    """Little for eight weeks, six times as much from one day to the next, and then more each week."""
    return 0.15 if number < 58 else 1 + (number - 58) / 60


def after_a_break(days):
    """Sales of two shops that open every day but Sunday."""
    rng = np.random.default_rng(1)
    shop = Series("day", "net", ("shop",))
    rows = [
        (day(number), name, size * (1.0, 1.1, 1.0, 1.2, 1.5, 2.0)[day(number).weekday()] * grown(number) * rng.uniform(0.9, 1.1))
        for number in range(days)
        for name, size in (("north", 8.0), ("south", 4.0))
        if day(number).weekday() != 6
    ]
    return shop, daily_features(pl.DataFrame(rows, schema=["day", "shop", "net"], orient="row").lazy(), shop).collect().lazy()


@pytest.mark.parametrize("number", [187, 215])
def test_a_break_in_level_that_nothing_told_of_is_not_expected_again(number):
    shop, known = after_a_break(number + 29)
    tested = training.backtest(known, shop, [day(number)], seed=0, compute=Local(), learner=DirectForecast(shop))
    assert tested["p50"].sum() == pytest.approx(tested["actual"].sum(), rel=0.12)


def test_a_series_that_is_never_as_expected_is_learnt_from_all_the_same():
    rng = np.random.default_rng(2)
    shop = Series("day", "net")
    values = [float(value) if number % 40 == 0 else 0.0 for number, value in enumerate(rng.uniform(50, 5000, 300))]
    known = daily_features(pl.LazyFrame({"day": [day(number) for number in range(300)], "net": values}), shop).collect().lazy()
    found = training.train(known, shop, day(299), seed=0, compute=Local(), learner=DirectForecast(shop, rounds=5))
    assert found.predict(training.rows_from(known, shop, [day(299)]).select(found.inputs)).null_count().sum_horizontal().item() == 0


def test_a_day_of_a_series_is_one_outcome_however_many_origins_lie_before_it():
    examples = SeriesExamples(SERIES, "features")
    rows = examples.rows({"features": features(LEAST_DAYS + 40)}.get).collect()
    told = rows.select(*examples.outcome)
    assert told.columns == ["product_group", "day"]
    days = told.unique()
    assert rows.height > 5 * days.height, "most days are about as often as there are days ahead"
    one = days.filter(product_group="large")["day"]
    assert one.n_unique() == one.len() <= LEAST_DAYS + 40
    more = examples.rows({"features": features(LEAST_DAYS + 47)}.get).select(*examples.outcome).unique().collect()
    assert more.join(days, on=more.columns, how="anti").height <= 7 * len(LEVELS)

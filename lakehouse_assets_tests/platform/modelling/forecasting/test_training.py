"""The forecast as a whole on a made-up shop: in order, without a look ahead, the same twice, and sensible for groups of every size."""

from datetime import UTC, datetime, time, timedelta

import polars as pl
import pytest

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.modelling.forecasting import evaluation, training
from lakehouse_assets.platform.modelling.forecasting.statistics import daily_features
from lakehouse_assets.platform.modelling.metrics import coverage, wape
from lakehouse_assets.platform.modelling.result import HistoryTooShort
from lakehouse_assets_tests.platform.modelling.forecasting.shop import FIRST, LEVELS, SERIES, sales

LEAST_DAYS = SERIES.least_days


def train(known, cutoff, **how):
    return training.train(known, SERIES, cutoff, **how)


def forecast(model, known, as_of):
    return training.forecast(model, known, SERIES, as_of)


def backtest(known, origins, **how):
    return training.backtest(known, SERIES, origins, **how)


def features(days, **shop):
    return daily_features(sales(days, **shop), SERIES).collect().lazy()


def day(number):
    return FIRST + timedelta(days=number)


FEATURES = features(430)
AS_OF = day(400)


@pytest.fixture(scope="module")
def model():
    return train(FEATURES, AS_OF, seed=1, compute=Local())


def bytes_of(model, folder):
    model.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_forecast_has_every_group_and_day_with_quantiles_in_order(model):
    found = forecast(model, FEATURES, AS_OF)
    assert found.columns == ["as_of", "day", "horizon", "product_group", "p10", "p50", "p90"]
    assert found.height == 28 * len(LEVELS)
    assert found.select(pl.struct("day", "product_group").is_unique().all()).item()
    assert found.select(((pl.col("day") - pl.col("as_of")).dt.total_days() == pl.col("horizon")).all()).item()
    assert found.select((pl.col("p10") <= pl.col("p50")).all() & (pl.col("p50") <= pl.col("p90")).all()).item()
    assert found.null_count().sum_horizontal().item() == 0


def test_a_closed_day_is_forecast_as_nothing(model):
    saturdays = forecast(model, FEATURES, AS_OF).filter(pl.col("day").dt.weekday() == 6)
    fridays = forecast(model, FEATURES, AS_OF).filter(pl.col("day").dt.weekday() == 5)
    assert saturdays["p90"].sum() < 0.02 * fridays["p50"].sum()


def test_neither_training_nor_forecast_sees_what_comes_after_the_origin(model, tmp_path):
    """Law 5: with other sales after the origin the model has the same bytes and the forecast the same values."""
    other = sales(430).with_columns(net=pl.when(pl.col("day") > AS_OF).then(pl.col("net") * 50 - 7).otherwise(pl.col("net")))
    shocked = daily_features(other, SERIES).collect().lazy()
    again = train(shocked, AS_OF, seed=1, compute=Local())
    assert bytes_of(again, tmp_path / "again") == bytes_of(model, tmp_path / "first")
    assert forecast(again, shocked, AS_OF).equals(forecast(model, FEATURES, AS_OF))


def revised(known_at):
    """The features, and of every day other values that became known at `known_at`, or the day after if that is later."""
    later = pl.max_horizontal(pl.lit(known_at), pl.col("known_at") + timedelta(days=1))
    values = pl.col("net", "^(total_)?level_.*$", "^(total_)?weekday_[0-9]$", "median_28", "deviation_28")
    return pl.concat([FEATURES, FEATURES.with_columns(values * 3 + 100, known_at=later)])


def test_a_training_learns_what_became_known_after_the_cutoff_only_if_that_is_asked_for(model, tmp_path):
    midnight = datetime.combine(AS_OF + timedelta(days=1), time(), UTC)
    late = revised(midnight + timedelta(microseconds=1))
    careful = train(late, AS_OF, seed=1, compute=Local())
    knowing = train(late, AS_OF, seed=1, compute=Local(), outcomes_known_at=midnight + timedelta(days=60))
    assert bytes_of(careful, tmp_path / "careful") == bytes_of(model, tmp_path / "first")
    assert bytes_of(knowing, tmp_path / "knowing") != bytes_of(model, tmp_path / "second")


def test_the_model_that_may_become_champion_learns_all_that_is_known(monkeypatch):
    late = revised(datetime(2020, 1, 1, tzinfo=UTC))
    learnt = []

    def watched(*args, **kwargs):
        learnt.append(kwargs["outcomes_known_at"])
        raise InterruptedError

    monkeypatch.setattr(evaluation, "train", watched)
    with pytest.raises(InterruptedError):
        evaluation.train_and_test(late, SERIES, 1)
    assert learnt == [datetime(2020, 1, 1, tzinfo=UTC)]


def test_a_backtest_knows_no_revision_that_came_after_its_origins():
    """Law 5: only the outcome is the revised one."""
    origins = [day(340), day(368)]
    late = revised(datetime.combine(origins[-1] + timedelta(days=1), time(), UTC) + timedelta(microseconds=1))
    plain, tested = (backtest(frame, origins, seed=1, compute=Local()) for frame in (FEATURES, late))
    assert tested.drop("actual").equals(plain.drop("actual"))
    assert (tested["actual"] - (plain["actual"] * 3 + 100)).abs().max() < 1e-6


def test_the_order_of_the_feature_rows_does_not_matter(model, tmp_path):
    shuffled = FEATURES.collect().sample(fraction=1, shuffle=True, seed=3).lazy()
    again = train(shuffled, AS_OF, seed=1, compute=Local())
    assert bytes_of(again, tmp_path / "again") == bytes_of(model, tmp_path / "first")
    assert forecast(again, shuffled, AS_OF).equals(forecast(model, FEATURES, AS_OF))


def test_a_backtest_holds_model_and_baselines_against_the_outcome():
    origins = [day(340), day(368), day(396)]
    tested = backtest(FEATURES, origins, seed=1, compute=Local())
    assert tested["origin"].unique().sort().to_list() == origins
    assert tested.height == 3 * 28 * len(LEVELS)
    score = tested.select(wape("actual", "p50"), wape("actual", "seasonal_naive"), wape("actual", "seasonal_window_average"))
    assert score["p50"].item() < score["seasonal_window_average"].item() < score["seasonal_naive"].item()
    assert 0.7 < tested.select(coverage("actual", "p10", "p90")).item() < 0.95
    actual = tested.join(FEATURES.collect(), on=["product_group", "day"])
    assert actual["actual"].equals(actual["net"].alias("actual"))


def test_a_backtest_leaves_out_days_without_an_outcome():
    tested = backtest(FEATURES, [day(420)], seed=1, compute=Local())
    assert tested["day"].max() == day(429)


def test_sixty_days_are_enough_to_begin_with():
    tested = backtest(features(88), [day(59)], seed=1, compute=Local())
    assert tested.height == 28 * len(LEVELS)
    score = tested.select(wape("actual", "p50"), wape("actual", "seasonal_naive"))
    assert score["p50"].item() < score["seasonal_naive"].item()


@pytest.mark.parametrize("days", [1, 28, LEAST_DAYS - 1])
def test_a_history_that_is_too_short_says_how_much_is_missing(days):
    with pytest.raises(HistoryTooShort, match=f"{days} days .* needs {LEAST_DAYS}: land {LEAST_DAYS - days} more"):
        train(features(days), day(days - 1), seed=1, compute=Local())


def test_the_least_history_is_enough():
    known = features(LEAST_DAYS)
    assert forecast(train(known, day(LEAST_DAYS - 1), seed=1, compute=Local()), known, day(LEAST_DAYS - 1))["p50"].sum() > 0


def test_many_tiny_groups_do_not_disturb_a_large_one():
    tiny = {f"tiny {number}": 1.0 + number / 3 for number in range(25)}
    known = features(300, levels={"large": 5000.0, **tiny})
    found = forecast(train(known, day(270), seed=1, compute=Local()), known, day(270))
    assert found["product_group"].n_unique() == 26
    assert found.select(pl.col("p10", "p50", "p90").is_finite().all()).row(0) == (True, True, True)
    both = found.join(known.collect(), on=["product_group", "day"])
    assert both.filter(pl.col("product_group") == "large").select(wape("net", "p50")).item() < 0.4
    assert both.filter(pl.col("product_group") != "large")["p90"].max() < 500


def test_a_day_without_features_is_refused(model):
    with pytest.raises(ValueError, match="no features of"):
        forecast(model, FEATURES, day(500))

"""Paired backtests of the revenue forecast on real invoices, from which `benchmarks.gate` draws: losses by origin and product group.

25 origins, every 14 days from 2010-12-01 to 2011-11-02, 28 days ahead. Every candidate forecasts the same rows; its loss is WAPE. The
candidates are the median in units of the reference by three seeds, other parameters, inputs, weights and objectives, and what needs no
learning. The second part trains whole models 28 days apart, on the real days and with the last 20 of them ten times too large or too small,
and keeps what the gate is told about the newest 28 days.

Run it with `python -m benchmarks.gate_backtests`; it takes some five CPU minutes and writes `benchmarks/results/gate_backtests.json`.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import polars as pl

from benchmarks.forecast import PROTOCOLS, daily_revenue
from benchmarks.measure import RESULTS
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.gates import NewestLimits
from lakehouse_assets.platform.declarations.learning import Predictor
from lakehouse_assets.platform.features.point_in_time import as_first_known
from lakehouse_assets.platform.modelling.boosting import REPRODUCIBLE, load_lightgbm
from lakehouse_assets.platform.modelling.forecasting.examples import SeriesExamples
from lakehouse_assets.platform.modelling.forecasting.inputs import MODEL_INPUTS
from lakehouse_assets.platform.modelling.forecasting.series import DAY, VALUE
from lakehouse_assets.platform.modelling.forecasting.statistics import daily_features
from lakehouse_assets.platform.modelling.forecasting.training import forecast, rows_from, train
from lakehouse_assets.platform.modelling.gate.newest import NewestWindow, newest_window
from lakehouse_assets.platform.modelling.metrics import Wape
from lakehouse_assets.products.revenue_forecast.forecast import revenue

RESULT = RESULTS / "gate_backtests.json"
SERIES = revenue.series
ORIGINS = tuple(date(2010, 12, 1) + timedelta(days=14 * number) for number in range(25))
ENDS = ORIGINS[4::2]
DAYS, CORRUPTED_DAYS, FACTORS = 28, 20, (1.0, 10.0, 0.1)
MOST_ROWS = 25_000
# As `DirectForecast` learns a quantile in units of the reference.
ROUNDS = 60
PARAMETERS: Mapping[str, Any] = {
    "num_threads": 1,
    "learning_rate": 0.08,
    "num_leaves": 15,
    "min_data_in_leaf": 120,
    "feature_fraction": 0.6,
    "lambda_l2": 1.0,
}
MEDIAN = {"objective": "quantile", "alpha": 0.5}
WITHOUT_SEASONS = tuple(name for name in MODEL_INPUTS if "season" not in name and "year" not in name)


def variant(
    weight: float = 0.5, inputs: tuple[str, ...] = MODEL_INPUTS, rounds: int = ROUNDS, seed: int = 0, **parameters: Any
) -> dict[str, Any]:
    return {"weight": weight, "inputs": inputs, "rounds": rounds, "parameters": {**PARAMETERS, **MEDIAN, "seed": seed, **parameters}}


LEARNT: Mapping[str, dict[str, Any]] = {
    "product": variant(),
    "other seed": variant(seed=1),
    "third seed": variant(seed=2),
    "fewer leaves": variant(num_leaves=7),
    "fewer rounds": variant(rounds=30),
    "faster": variant(learning_rate=0.16, rounds=30),
    "without seasons": variant(inputs=WITHOUT_SEASONS),
    "weighted by value": variant(weight=1.0),
    "tweedie": variant(objective="tweedie", tweedie_variance_power=1.3),
    "squares": variant(objective="regression"),
}
UNLEARNT = ("reference", "seasonal_naive", "window_average_4", "window_average_8")


def lessons_of(features: pl.LazyFrame, origin: date) -> pl.DataFrame:
    """The examples up to an origin with what was known at its end, with the ratio to learn."""
    midnight = datetime.combine(origin + timedelta(days=1), time(), UTC)
    rows = SeriesExamples(SERIES, "").rows(lambda _: features.filter(pl.col(SERIES.time) <= origin), midnight)
    day = pl.col("origin") + pl.duration(days=pl.col("horizon"))
    return rows.filter(pl.col("reference") > 0).with_columns(day.alias(DAY), (pl.col(VALUE) / pl.col("reference")).alias("ratio")).collect()


def losses(daily: pl.DataFrame) -> pl.DataFrame:
    """Columns `fold`, `slice`, `value`, `candidate`, `loss` and `rows`, as the gate takes them."""
    features = daily_features(daily.lazy(), SERIES).collect().lazy()
    known = as_first_known(features, SERIES.stored_key).collect().lazy()
    actual = known.pipe(SERIES.opened).select(*SERIES.key, actual=VALUE).collect()
    found = []
    for origin in ORIGINS:
        rows = rows_from(features, SERIES, [origin]).sort(SERIES.key)
        forecasts = dict(_learnt(features, rows, origin))
        tested = rows.select(*SERIES.key, pl.col("reference"), *_averages(daily, rows, origin)).with_columns(
            pl.Series(name, values) for name, values in forecasts.items()
        )
        long = (
            tested.join(actual, on=SERIES.key)
            .unpivot([*forecasts, *UNLEARNT], index=[*SERIES.key, "actual"], variable_name="candidate", value_name="forecast")
            .with_columns(pl.lit(str(origin)).alias("fold"))
        )
        error, size = (pl.col("actual") - pl.col("forecast")).abs().sum(), pl.col("actual").abs().sum()
        for by in ([], ["product_group"]):
            scored = long.group_by("fold", "candidate", *by).agg((error / size).alias("loss"), pl.len().alias("rows"))
            name, value = (pl.lit("product_group"), pl.col("product_group")) if by else (pl.lit(None, pl.String), pl.lit(None, pl.String))
            found.append(scored.select("fold", name.alias("slice"), value.alias("value"), "candidate", pl.col("loss").round(6), "rows"))
        print(origin, long.group_by("candidate").agg((error / size).round(4)).sort("candidate").rows(), file=sys.stderr, flush=True)
    return pl.concat(found).sort("fold", "slice", "value", "candidate", nulls_last=False)


def _learnt(features: pl.LazyFrame, rows: pl.DataFrame, origin: date) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    lightgbm = load_lightgbm()
    lessons = lessons_of(features, origin)
    lessons = lessons.sort("origin", "horizon", *SERIES.by)
    # A sample whose size is coprime to week and horizons, as the product takes.
    every = next(step for step in range(-(-lessons.height // MOST_ROWS), 1000) if step == 1 or (step % 2 and step % 7))
    lessons = lessons.filter(((origin - pl.col("origin")).dt.total_days() + pl.col("horizon")) % every == 0)
    for name, how in LEARNT.items():
        weight = lessons["reference"] ** how["weight"]
        dataset = lightgbm.Dataset(
            lessons.select(pl.col(how["inputs"]).cast(pl.Float64)).to_numpy(),
            # A mean is pulled by few very large ratios, and Tweedie knows nothing below zero.
            label=lessons["ratio"].clip(0, 4).to_numpy() if how["parameters"]["objective"] != "quantile" else lessons["ratio"].to_numpy(),
            weight=(weight / weight.mean()).to_numpy(),
        )
        parameters = {
            name: value for name, value in how["parameters"].items() if name != "alpha" or how["parameters"]["objective"] == "quantile"
        }
        booster = lightgbm.train({**parameters, **REPRODUCIBLE}, dataset, how["rounds"])
        ratios = booster.predict(rows.select(pl.col(how["inputs"]).cast(pl.Float64)).to_numpy())
        yield name, np.round(ratios * rows["reference"].to_numpy(), 4)


def _averages(daily: pl.DataFrame, rows: pl.DataFrame, origin: date) -> list[pl.Series]:
    values = {(group, day): net for group, day, net in daily.select("product_group", "day", "net").rows()}

    def average(weeks: int) -> list[float]:
        found = []
        for group, day in rows.select("product_group", DAY).rows():
            newest = day - timedelta(days=7 * -(-(day - origin).days // 7))
            found.append(sum(values.get((group, newest - timedelta(days=7 * week)), 0.0) for week in range(weeks)) / weeks)
        return found

    return [
        pl.Series("seasonal_naive", average(1)),
        pl.Series("window_average_4", average(4)),
        pl.Series("window_average_8", average(8)),
    ]


def newest_windows(daily: pl.DataFrame, usual: Mapping[str, float]) -> list[dict[str, Any]]:
    """For each end of the data and each factor on its last 20 days: what the gate is told about the newest window.

    Args:
        daily: The real days.
        usual: Losses of the product by origin.
    """
    models: dict[date, Predictor] = {}
    found = []
    for until in ENDS:
        start, before = until - timedelta(days=DAYS), until - timedelta(days=2 * DAYS)
        for factor in FACTORS:
            wrong = pl.when(pl.col("day") > until - timedelta(days=CORRUPTED_DAYS)).then(pl.col("net") * factor).otherwise("net")
            days = daily.filter(pl.col("day") <= until).with_columns(net=wrong)
            features = daily_features(days.lazy(), SERIES).collect().lazy()
            for cutoff in (before, start):
                if cutoff not in models:
                    models[cutoff] = train(features, SERIES, cutoff, seed=0, compute=Local())
            new = train(features, SERIES, until, seed=0, compute=Local())
            window = _window(features, days, until, (new, models[start], models[before]), usual)
            numbers = {name: value for name, value in asdict(window).items() if name != "inputs"}
            inputs = {name: list(asdict(shift).values()) for name, shift in window.inputs.items()}
            found.append({"until": str(until), "factor": factor, "window": _rounded(numbers), "inputs": _rounded(inputs)})
            failed = [str(guard) for guard in window.guards(NewestLimits()) if not guard.passed]
            print(until, factor, failed, file=sys.stderr, flush=True)
    return found


def _window(
    features: pl.LazyFrame, days: pl.DataFrame, until: date, models: tuple[Predictor, ...], usual: Mapping[str, float]
) -> NewestWindow:
    start = until - timedelta(days=DAYS)
    new, without, champion = models
    lessons = lessons_of(features, until)
    newest = rows_from(features, SERIES, [until])
    actual = days.select("product_group", pl.col("day").alias(DAY), pl.col("net").alias("actual"))

    def loss(forecasts: pl.DataFrame, name: str) -> float:
        return Wape(name).score(forecasts.join(actual, on=SERIES.key))

    rows = rows_from(features, SERIES, [start])
    averages = rows.select(SERIES.key).with_columns(_averages(days, rows, start))
    return newest_window(
        lessons,
        at="origin",
        known_at=DAY,
        target=VALUE,
        inputs=(*MODEL_INPUTS, "reference"),
        challenger=new.predict(newest),
        held_out=without.predict(newest),
        champion=champion.predict(newest),
        loss=loss(forecast(without, rows, SERIES), "p50"),
        usual_losses=[value for origin, value in usual.items() if date.fromisoformat(origin) < start],
        baseline_losses=[loss(averages, name) for name in UNLEARNT[1:]],
        champion_loss=loss(forecast(champion, rows, SERIES), "p50"),
        days=DAYS,
    )


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return float(f"{value:.5g}")
        case dict():
            return {name: _rounded(part) for name, part in value.items()}
        case list():
            return [_rounded(part) for part in value]
        case _:
            return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("losses", "newest"), help="only this part; the other one stays as it is kept")
    part = parser.parse_args().part
    daily = daily_revenue(PROTOCOLS["25"])
    kept = json.loads(RESULT.read_text()) if part else {}
    if part != "newest":
        kept["losses"] = by_candidate(losses(daily))
    if part != "losses":
        kept["newest"] = newest_windows(daily, dict(zip(map(str, ORIGINS), kept["losses"]["all"]["product"], strict=True)))
    RESULT.write_text(json.dumps({"origins": [str(origin) for origin in ORIGINS], **kept}, separators=(",", ":")) + "\n")


def by_candidate(scored: pl.DataFrame) -> dict[str, dict[str, list[float]]]:
    """Losses in the order of the origins, by product group (`all`: together) and candidate."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in scored.sort("fold").iter_rows(named=True):
        found.setdefault(row["value"] or "all", {}).setdefault(row["candidate"], []).append(row["loss"])
    return {group: dict(sorted(candidates.items())) for group, candidates in sorted(found.items())}


if __name__ == "__main__":
    main()

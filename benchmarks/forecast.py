"""How far the revenue forecast is off on real invoices, against plain forecasts, StatsForecast, mlforecast and a direct LightGBM.

Revenue is quantity times price of product lines: stock codes of five digits and at most one letter. Cancellations and write-offs are
netted on their own day; days without a line are zero; 1 to 9 December 2010, which stand in both files, count once. Series are the nine
largest by net revenue up to the first origin (first two digits of the stock code, or country) and all others as the tenth, or one in all.
From each origin 28 days are forecast; errors are pooled over series and days, and averaged over origins.

Nothing after an origin is used, neither by the model, its band, nor the choice of series. Inputs, reference, weights, parameters and the
way of calibration were chosen on origins before 2011-06 alone. Later origins were looked at to see where the model stands, never to choose.

Run it with `python -m benchmarks.forecast`; it needs the extra `bench` and writes `benchmarks/results/forecast.json` after each method.
Every method is a process of its own. `--method` and `--protocol` run a part, and keep the results of the others; targets are judged on all
that is there.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.measure import REAL_DATA, RESULTS, keep, measure
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.modelling.forecasting.series import Series
from lakehouse_assets.platform.modelling.forecasting.statistics import daily_features
from lakehouse_assets.platform.modelling.forecasting.training import backtest
from lakehouse_assets.products.revenue_forecast.forecast import revenue

HORIZON = revenue.series.horizon
LARGEST, SEED = 9, 0
OURS = "lakehouse-assets"
FIVE = (date(2011, 6, 30), date(2011, 7, 31), date(2011, 8, 31), date(2011, 9, 30), date(2011, 10, 31))
TWENTY_FIVE = tuple(date(2010, 12, 1) + timedelta(days=14 * number) for number in range(25))


@dataclass(frozen=True)
class Protocol:
    """Series and origins: `by` is `group`, `country` or `total`."""

    by: str
    origins: tuple[date, ...]


# The thirteen are every second of the 25: scored from the same forecasts.
PROTOCOLS = {
    "five": Protocol("group", FIVE),
    "25": Protocol("group", TWENTY_FIVE),
    "country": Protocol("country", FIVE),
    "total": Protocol("total", FIVE),
}
SCORED = {"five": FIVE, "25": TWENTY_FIVE, "thirteen": TWENTY_FIVE[::2], "country": FIVE, "total": FIVE}
MOST_WAPE = {"five": 0.342, "thirteen": 0.350, "25": 0.360}
MOST_WEEK, MOST_BIAS = {"five": 0.13, "25": 0.17}, 0.05
COVERAGE, LEAST_AT_ORIGIN = (0.76, 0.84), 0.62


def daily_revenue(protocol: Protocol) -> pl.DataFrame:
    """Columns `day`, `product_group`, `net` and `orders`: one row a day and series, from the first day of the files to the last."""
    first = pl.scan_parquet(REAL_DATA / "online_retail_ii_2009_2010.parquet").select(
        pl.col("Invoice").alias("invoice"), pl.col("InvoiceDate").dt.date().alias("day"), "StockCode", "Quantity", "Price", "Country"
    )
    second = pl.scan_parquet(REAL_DATA / "online_retail_2010_2011.parquet").select(
        pl.col("InvoiceNo").alias("invoice"),
        pl.col("InvoiceDate").str.to_datetime().dt.date().alias("day"),
        "StockCode",
        "Quantity",
        pl.col("UnitPrice").alias("Price"),
        "Country",
    )
    name = {"group": pl.col("StockCode").str.slice(0, 2), "country": pl.col("Country"), "total": pl.lit("all")}[protocol.by]
    lines = pl.concat([first.filter(pl.col("day") < date(2010, 12, 1)), second]).filter(
        pl.col("StockCode").str.contains(r"^\d{5}[A-Za-z]?$")
    )
    net = (pl.col("Quantity") * pl.col("Price")).sum()
    known = lines.filter(pl.col("day") <= protocol.origins[0]).group_by(name.alias("name")).agg(net.alias("net"))
    largest = known.sort("net", descending=True).head(LARGEST).collect()["name"].to_list()
    sold = (
        lines.with_columns(product_group=pl.when(name.is_in(largest)).then(name).otherwise(pl.lit("other")))
        .group_by("day", "product_group")
        .agg(net.alias("net"), pl.col("invoice").n_unique().cast(pl.Int64).alias("orders"))
        .collect()
    )
    days = sold.select(pl.date_range(pl.col("day").min(), pl.col("day").max()).alias("day"))
    grid = sold.select(pl.col("product_group").unique()).join(days, how="cross")
    return grid.join(sold, on=["product_group", "day"], how="left").fill_null(0).sort("product_group", "day")


def ours(daily: pl.DataFrame, origins: Sequence[date]) -> pl.DataFrame:
    """The product's own backtest."""
    series: Series = replace(revenue.series, by=("product_group",))
    features = daily_features(daily.lazy(), series).collect().lazy()
    return backtest(features, series, origins, seed=SEED, compute=Local()).with_columns(forecast="p50")


def window(weeks: int) -> Callable[[pl.DataFrame, Sequence[date]], pl.DataFrame]:
    """The mean of the same weekday in the last weeks; one week is the seasonal naive."""

    def forecast(history: pl.DataFrame) -> pl.DataFrame:
        last: date = history.select(pl.col("ds").max()).item()
        recent = history.filter(pl.col("ds") > last - timedelta(weeks=weeks))
        means = recent.group_by("unique_id", pl.col("ds").dt.weekday().alias("weekday")).agg(pl.col("y").mean().alias("forecast"))
        days = pl.DataFrame({"ds": [last + timedelta(days=ahead + 1) for ahead in range(HORIZON)]})
        return days.with_columns(weekday=pl.col("ds").dt.weekday()).join(means, on="weekday").select("unique_id", "ds", "forecast")

    return lambda daily, origins: _from_origins(daily, origins, forecast)


def auto_ets(daily: pl.DataFrame, origins: Sequence[date]) -> pl.DataFrame:
    """AutoETS of StatsForecast, fitted to each series on its own."""
    from statsforecast import StatsForecast
    from statsforecast.models import AutoETS

    def forecast(history: pl.DataFrame) -> pl.DataFrame:
        expected: pl.DataFrame = StatsForecast(models=[AutoETS(season_length=7)], freq="1d").forecast(df=history, h=HORIZON)
        return expected

    return _from_origins(daily, origins, forecast)


def mlforecast(daily: pl.DataFrame, origins: Sequence[date]) -> pl.DataFrame:
    """One LightGBM model of mlforecast for all series; each day is forecast from the forecasts of the days before it."""
    from lightgbm import LGBMRegressor
    from mlforecast import MLForecast
    from mlforecast.lag_transforms import RollingMean

    def forecast(history: pl.DataFrame) -> pl.DataFrame:
        model = MLForecast(
            models=[LGBMRegressor(objective="regression_l1", random_state=SEED, verbosity=-1, n_jobs=1)],
            freq="1d",
            lags=[1, 7, 14, 21, 28],
            lag_transforms={1: [RollingMean(7), RollingMean(28)], 7: [RollingMean(28)]},
            date_features=["weekday", "month"],
        )
        expected: pl.DataFrame = model.fit(history, static_features=[]).predict(HORIZON)
        return expected

    return _from_origins(daily, origins, forecast)


def plain_lightgbm(daily: pl.DataFrame, origins: Sequence[date]) -> pl.DataFrame:
    """A direct LightGBM as one writes it in thirty lines: trailing means and weekday means at the origin, the date, and days ahead."""
    from lightgbm import LGBMRegressor

    def forecast(history: pl.DataFrame) -> pl.DataFrame:
        y, own = pl.col("y"), "unique_id"
        last: date = history.select(pl.col("ds").max()).item()
        at = history.sort(own, "ds").with_columns(
            *(y.rolling_mean(days).over(own).alias(f"mean_{days}") for days in (7, 14, 28, 56, 91)),
            *(y.rolling_median(days).over(own).alias(f"median_{days}") for days in (14, 28, 91)),
            code=pl.col(own).rank("dense").cast(pl.Int32),
        )
        rows = at.join(pl.DataFrame({"ahead": range(1, HORIZON + 1)}), how="cross").with_columns(
            day=pl.col("ds") + pl.duration(days="ahead"), weeks=(pl.col("ahead") + 6) // 7
        )
        for week in range(4):
            other = history.select(own, pl.col("ds").alias("then"), y.alias(f"weekday_{week}"))
            rows = rows.with_columns(then=pl.col("day") - pl.duration(days=7 * (pl.col("weeks") + week)))
            rows = rows.join(other, on=[own, "then"], how="left").drop("then")
        weekday = pl.col("ds").dt.weekday()
        for weeks in (4, 8):
            mean = y.rolling_mean(weeks).over(own, weekday).alias(f"weekday_mean_{weeks}")
            other = history.sort(own, "ds").select(own, pl.col("ds").alias("then"), mean)
            rows = rows.with_columns(then=pl.col("day") - pl.duration(days=7 * pl.col("weeks")))
            rows = rows.join(other, on=[own, "then"], how="left").drop("then")
        rows = rows.with_columns(weekday=pl.col("day").dt.weekday(), month=pl.col("day").dt.month(), number=pl.col("day").dt.day())
        inputs = [name for name in rows.columns if name not in {own, "ds", "y", "day", "weeks", "orders"}]
        outcome = history.select(own, pl.col("ds").alias("day"), y.alias("outcome"))
        learnt = rows.filter(pl.col("mean_56") > 0).join(outcome, on=[own, "day"]).sort(own, "ds", "ahead")
        level = learnt["mean_56"].to_numpy()
        scaled = [name for name in inputs if name.startswith(("mean_", "median_", "weekday_"))]
        ratios = [pl.col(name) / pl.col("mean_56") if name in scaled else pl.col(name) for name in inputs]
        model = LGBMRegressor(
            objective="quantile", alpha=0.5, n_estimators=200, learning_rate=0.05, num_leaves=15, min_child_samples=100,
            colsample_bytree=0.6, random_state=SEED, verbosity=-1, n_jobs=1,
        )  # fmt: skip
        every = learnt.with_row_index().filter(pl.col("index") % 3 == 0)
        model.fit(every.select(ratios).to_numpy(), every["outcome"] / every["mean_56"], sample_weight=level[::3] ** 0.5)
        asked = rows.filter(pl.col("ds") == last)
        found = model.predict(asked.select(ratios).to_numpy()) * asked["mean_56"].to_numpy()
        return asked.select(own, pl.col("day").alias("ds"), pl.Series("forecast", found))

    return _from_origins(daily, origins, forecast)


def _from_origins(daily: pl.DataFrame, origins: Sequence[date], forecast: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """Forecasts next to outcomes; peers know series as `unique_id`, `ds` and `y`, and name their forecast as they like."""
    series = daily.select(pl.col("product_group").alias("unique_id"), pl.col("day").alias("ds"), pl.col("net").alias("y"))
    found = []
    for origin in origins:
        forecasts = forecast(series.filter(pl.col("ds") <= origin))
        named = forecasts.rename({forecasts.columns[-1]: "forecast"})
        horizon = (pl.col("ds") - pl.lit(origin)).dt.total_days()
        found.append(
            named.join(series, on=["unique_id", "ds"]).select(
                pl.lit(origin).alias("origin"), horizon.alias("horizon"), pl.col("y").alias("actual"), pl.col("forecast").cast(pl.Float64)
            )
        )
    return pl.concat(found)


METHODS: dict[str, Callable[[pl.DataFrame, Sequence[date]], pl.DataFrame]] = {
    OURS: ours,
    "seasonal naive": window(1),
    "window of 4 weeks": window(4),
    "window of 8 weeks": window(8),
    "plain LightGBM": plain_lightgbm,
    "mlforecast": mlforecast,
    "AutoETS": auto_ets,
}


def scores(forecasts: pl.DataFrame) -> dict[str, Any]:
    """By origin: WAPE, error of the sums of a week, sum of forecasts and of outcomes, and the share within the band where there is one."""
    adds_up = "mean" if "mean" in forecasts.columns else "forecast"
    found: dict[str, Any] = {}
    for (origin,), rows in forecasts.group_by("origin", maintain_order=True):
        actual = rows["actual"]
        weeks = rows.group_by((pl.col("horizon") - 1) // 7).agg(pl.col("actual", adds_up).sum())
        one = {
            "wape": float((actual - rows["forecast"]).abs().sum()) / float(actual.abs().sum()),
            "week": float((weeks["actual"] - weeks[adds_up]).abs().sum()) / float(weeks["actual"].abs().sum()),
            "sum": rows[adds_up].sum(),
            "actual": actual.sum(),
        }
        if "p10" in rows.columns:
            one["coverage"] = rows.select(pl.col("actual").is_between("p10", "p90").mean()).item()
        found[str(origin)] = one
    return found


def score(method: str, name: str) -> dict[str, Any]:
    """The scores of one method by one protocol."""
    protocol = PROTOCOLS[name]
    daily = daily_revenue(protocol)
    forecasts = METHODS[method](daily, protocol.origins).sort("origin", maintain_order=True)
    expected = len(protocol.origins) * HORIZON * daily["product_group"].n_unique()
    if forecasts.height != expected:
        sys.exit(f"{method} made {forecasts.height} forecasts instead of {expected}")
    return scores(forecasts)


def summary(by_origin: dict[str, Any], origins: Sequence[date]) -> dict[str, float]:
    """Means over origins, bias as a ratio of sums, and the least coverage at an origin."""
    chosen = [by_origin[str(origin)] for origin in origins]

    def mean(key: str) -> float:
        values: list[float] = [one[key] for one in chosen]
        return sum(values) / len(values)

    found = {
        "wape": mean("wape"),
        "week": mean("week"),
        "bias": sum(one["sum"] for one in chosen) / sum(one["actual"] for one in chosen) - 1,
    }
    if "coverage" in chosen[0]:
        found |= {"coverage": mean("coverage"), "least_coverage": min(one["coverage"] for one in chosen)}
    return found


def judged(summaries: dict[str, dict[str, dict[str, float]]]) -> dict[str, bool]:
    """Each target that there are numbers for, and whether it is met."""
    found: dict[str, bool] = {}
    for name, of in summaries.items():
        if OURS not in of:
            continue
        mine, peers = of[OURS], [one["wape"] for method, one in of.items() if method != OURS]
        if name in MOST_WAPE:
            found[f"{name}: WAPE at most {MOST_WAPE[name]}"] = mine["wape"] <= MOST_WAPE[name]
        if peers:
            found[f"{name}: ahead of every peer"] = mine["wape"] <= min(peers)
        if name in MOST_WEEK:
            found[f"{name}: the shop's week at most {MOST_WEEK[name]}"] = mine["week"] <= MOST_WEEK[name]
            found[f"{name}: bias within {MOST_BIAS:.0%}"] = abs(mine["bias"]) <= MOST_BIAS
        if name == "25":
            found[f"25: coverage {COVERAGE[0]:.0%} to {COVERAGE[1]:.0%}"] = COVERAGE[0] <= mine["coverage"] <= COVERAGE[1]
            found[f"25: coverage at least {LEAST_AT_ORIGIN:.0%} at every origin"] = mine["least_coverage"] >= LEAST_AT_ORIGIN
    return found


def report(results: dict[str, Any]) -> bool:
    """Print and keep what there is; whether all targets are met."""
    summaries: dict[str, dict[str, dict[str, float]]] = {
        name: {
            method: summary(of[source], origins) for method, of in results.items() if (source := "25" if name == "thirteen" else name) in of
        }
        for name, origins in SCORED.items()
    }
    table = Table("method", *SCORED, "week, five", "week, 25", "bias, five", "bias, 25", "P10-P90, 25", "least", title="WAPE of P50, means")
    for method in results:
        of = {name: found.get(method, {}) for name, found in summaries.items()}
        wapes = (f"{of[name]['wape']:.4f}" if of[name] else "" for name in SCORED)
        others = [(name, key) for key in ("week", "bias") for name in ("five", "25")] + [("25", "coverage"), ("25", "least_coverage")]
        table.add_row(method, *wapes, *(f"{of[name][key]:.3f}" if key in of[name] else "" for name, key in others))
    Console(width=150).print(table)
    targets = judged(summaries)
    for target, holds in targets.items():
        print(f"{'met   ' if holds else 'MISSED'} {target}")
    keep("forecast", {"targets": targets, "summaries": summaries, "methods": results})
    return all(targets.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=METHODS, action="append", help="run this one only, and keep the results of the others")
    parser.add_argument("--protocol", choices=PROTOCOLS, action="append", help="by this one only")
    parser.add_argument("--print", action="store_true", help="print the scores of one method by one protocol as JSON, and keep nothing")
    options = parser.parse_args()
    if options.print:
        print(json.dumps(score(options.method[0], options.protocol[0])))
        return
    kept = json.loads((RESULTS / "forecast.json").read_text()) if options.method or options.protocol else {}
    # What was kept in another form is of no use.
    results: dict[str, Any] = kept.get("methods", {}) if "summaries" in kept else {}
    for name in options.protocol or PROTOCOLS:
        for method in options.method or METHODS:
            command = [sys.executable, "-m", "benchmarks.forecast", "--print", "--method", method, "--protocol", name]
            results.setdefault(method, {})[name] = json.loads(measure(command).output.splitlines()[-1])
            holds = report(results)
    sys.exit(not holds)


if __name__ == "__main__":
    main()

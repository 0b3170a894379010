"""What several processes gain: the same tests of models with `LAKEHOUSE_COMPUTE=processes` and `local`, in one run, with equal results.

The forecast of the shop's revenue keeps one core busy, so its folds are what processes are for. Boosting of many rows uses all cores by
itself, and small models are quicker than a process starts: they are shown, and have no limit. The limit is on CPU time, which
is what starting processes and sending rows cost: how much wall time it saves depends on how many cores have nothing else to do. Each is
done three times by turns, of which the quickest counts. Rows are made up.
Run it with `python -m benchmarks.processes`; it writes `benchmarks/results/processes.json`.
"""

import resource
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.measure import keep
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.compute.pool import cores
from lakehouse_assets.platform.compute.processes import Processes
from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import LABEL_KNOWN_AT, MODEL, Learner, ScoredAsStored
from lakehouse_assets.platform.modelling.evaluation import Candidates, Evaluation
from lakehouse_assets.platform.modelling.forecasting.statistics import daily_features
from lakehouse_assets.platform.modelling.learners.baselines import ClassPrior
from lakehouse_assets.platform.modelling.learners.boosting import GradientBoosting
from lakehouse_assets.platform.modelling.splits import RollingTime
from lakehouse_assets.products.revenue_forecast.forecast import revenue
from lakehouse_assets_tests.platform.modelling.forecasting.shop import sales

DAYS, MANY, FEW, INPUTS = 730, 400_000, 2_000, 20
MOST_CPU, TURNS = 1.3, 3


@dataclass(frozen=True)
class Orders(ScoredAsStored):
    """Orders over a year, with numbers of which some say something."""

    count: int
    key: tuple[str, ...] = ("order",)
    at: str = "at"
    target: str = "fraud"
    inputs: tuple[str, ...] = tuple(f"x{number}" for number in range(INPUTS))
    slices: tuple[str, ...] = ()

    def sources(self) -> tuple[str, ...]:
        """See `Examples`."""
        return ()

    def identity(self) -> str:
        """See `Examples`."""
        return repr(self)

    def rows(self, read: Any, known_until: datetime | None = None) -> pl.LazyFrame:
        """See `Examples`."""
        rows: pl.LazyFrame = read("orders")
        return rows if known_until is None else rows.filter(pl.col(LABEL_KNOWN_AT) <= known_until)


def orders(count: int) -> pl.LazyFrame:
    """The rows of `Orders`."""
    draw = np.random.default_rng(7)
    values = draw.normal(size=(count, INPUTS))
    chance = 1 / (1 + np.exp(-(values[:, 0] + values[:, 1] * values[:, 2] - 2)))
    names = Orders(count).inputs
    frame = pl.DataFrame({"order": np.arange(count), **{name: values[:, number] for number, name in enumerate(names)}})
    at = pl.lit(datetime(2025, 1, 1, tzinfo=UTC)).cast(pl.Datetime("us", "UTC")) + pl.duration(
        seconds=pl.col("order") * 31_000_000 // count
    )
    made = frame.with_columns(at=at, fraud=pl.Series(draw.random(count) < chance))
    return made.with_columns(pl.col("at").alias(LABEL_KNOWN_AT)).lazy()


def forecast(place: Compute) -> Evaluation:
    """The declared test of the product's model: thirteen origins, with its plain forecasts."""
    features = daily_features(sales(DAYS), revenue.series).collect().lazy()
    learners: dict[str, Learner] = {MODEL: revenue.model.learner, **revenue.model.baselines}
    return Candidates(learners, revenue.model.examples, lambda _: features, 20, place).evaluate(revenue.model.split)


def classifier(count: int, place: Compute) -> Evaluation:
    """Four periods of four weeks, with boosting of 200 rounds and the share of each class."""
    rows = orders(count)
    learners: dict[str, Learner] = {MODEL: GradientBoosting("binary", rounds=200, early_stopping=None), "prior": ClassPrior()}
    return Candidates(learners, Orders(count), lambda _: rows, 20, place).evaluate(RollingTime(every=timedelta(days=28), count=4))


def measured(work: Any, place: Compute) -> tuple[Evaluation, float, float]:
    """The result, and wall and CPU seconds, those of worker processes too."""
    started, used = time.perf_counter(), _cpu()
    result = work(place)
    return result, time.perf_counter() - started, _cpu() - used


def _cpu() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def main() -> None:
    """Measure and show."""
    cases = {
        f"forecast, {DAYS} days, 13 origins": forecast,
        f"boosting of {MANY:,} rows, 4 periods": partial(classifier, MANY),
        f"boosting of {FEW:,} rows, 4 periods": partial(classifier, FEW),
    }
    classifier(FEW, Local())  # what is imported once
    table = Table("test of", "local s", "processes s", "times local", "CPU, times local", title=f"Tests of models on {cores()} cores")
    found = {}
    for name, work in cases.items():
        turns = [(measured(work, Local()), measured(work, Processes())) for _ in range(TURNS)]
        if any(not there[0].rows.equals(here[0].rows) for here, there in turns):
            sys.exit(f"{name}: the results differ")
        (_, seconds, cpu), (_, seconds_there, cpu_there) = (min(place, key=lambda one: one[1]) for place in zip(*turns, strict=True))
        found[name] = {
            "local_seconds": seconds,
            "processes_seconds": seconds_there,
            "ratio": seconds_there / seconds,
            "cpu_ratio": cpu_there / cpu,
        }
        table.add_row(name, f"{seconds:.1f}", f"{seconds_there:.1f}", f"{seconds_there / seconds:.2f}", f"{cpu_there / cpu:.2f}")
    Console().print(table)
    keep("processes", {"cores": cores(), **found})
    ratio = next(iter(found.values()))["cpu_ratio"]
    if ratio > MOST_CPU:
        sys.exit(f"the forecast takes {ratio:.2f} times the CPU time of one process, and {MOST_CPU} is the most")


if __name__ == "__main__":
    main()

"""A product small enough to be read in a test: days, their feature set, a model that expects one level, and its predictions.

The model's errors in the test on unseen rows stand in the days themselves, so a test says how good the next training is. Run as
`python -m … ROOT WHEN` it is brought up to date in a process of its own, which kills itself after it has `registered` a version,
committed a decision (`decided`) or made the first call that changes an alias (`alias`), or waits before it registers until another
process is as far (`together`) and then prints the result. With a third argument it rolls back or only syncs instead.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.computed_kinds import Full
from lakehouse_assets.platform.declarations.models import model, predictions
from lakehouse_assets.platform.declarations.tables import table
from lakehouse_assets.platform.modelling.result import HistoryTooShort, Training
from lakehouse_assets.platform.pipeline.model_step import ModelStep, ModelStepResult, Scorer, champion_of
from lakehouse_assets.platform.pipeline.refresh import Refresh, Refreshed
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column
from lakehouse_assets.platform.registry.mlflow_store import load_mlflow
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table

DAYS, GOLD, FEATURES, MODEL, PREDICTIONS = (
    f"demo.{name}" for name in ("bronze.days", "gold.days", "features.days", "models.level", "predictions.level")
)
DAYS_EACH, LEAST_ORIGINS = 4, 2
SEED = 11


class Day(Contract):
    """A day, what is known of it, and how far off the model and the baseline will be."""

    origin: date = column(key=True)
    day: date = column(key=True)
    actual: float
    error: float
    naive_error: float


class Prediction(Contract):
    """What is expected of the day after the last."""

    day: date = column(key=True)
    model_name: str
    model_version: int = column(key=True)
    p50: float
    feature_version: int
    scored_at: Timestamp


@dataclass(frozen=True)
class Level:
    """Expects the same of every day."""

    level: float

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.select(p50=pl.lit(self.level))

    def save(self, folder: Path) -> None:
        (folder / "level.json").write_text(json.dumps(asdict(self)), encoding="utf-8")


def load_level(folder: Path) -> Level:
    return Level(**json.loads((folder / "level.json").read_text(encoding="utf-8")))


@table(GOLD, contract=Day, kind=Full(), inputs={"days": DAYS})
def gold(days: pl.LazyFrame) -> pl.LazyFrame:
    """The days as they came."""
    return days


@table(FEATURES, contract=Day, kind=Full(), inputs={"days": GOLD})
def features(days: pl.LazyFrame) -> pl.LazyFrame:
    """The feature set."""
    return days


@model(MODEL, features=FEATURES, load=load_level)
def level_model(rows: pl.LazyFrame, seed: int) -> Training:
    """Learns the level."""
    days = rows.sort("day").collect()
    if days["origin"].n_unique() < LEAST_ORIGINS:
        raise HistoryTooShort(f"{LEAST_ORIGINS} origins are needed. Land more days.")
    return Training(
        model=Level(days["actual"].mean()),
        loader=f"{load_level.__module__}:load_level",
        packages=("polars",),
        input_example=days.head(2).select("actual"),
        backtest=days.select(
            "origin", "day", "actual", model=pl.col("actual") + pl.col("error"), naive=pl.col("actual") + pl.col("naive_error")
        ),
        row=("origin", "day"),
        baselines=("naive",),
        parameters={"seed": seed},
        metrics={"wape_model": days["error"].abs().sum() / days["actual"].sum()},
        plots={"backtest": b"\x89PNG"},
    )


@predictions(PREDICTIONS, contract=Prediction, model=level_model, features=FEATURES, key=("day", "model_version"))
def scores(champion: Scorer, features: pl.LazyFrame) -> pl.LazyFrame:
    """The champion's level for the next day."""
    return features.select((pl.col("day").max() + timedelta(days=1)).alias("day"), p50=pl.lit(champion.model.level))


@dataclass(frozen=True)
class Demo:
    """The product on one root."""

    root: Path

    @property
    def lakehouse(self) -> Lakehouse:
        return Lakehouse(str(self.root / "tables"))

    @property
    def registry(self) -> Registry:
        return Registry.under(self.root / "mlflow")

    @property
    def ledger(self) -> Table:
        return self.lakehouse.table(MODEL)

    def land(self, *, error: float, origins: int = 5, first: date = date(2024, 1, 1), naive_error: float = 20.0) -> None:
        """Put days into bronze, in the place of those that were there."""
        days = [(first + timedelta(days=DAYS_EACH * origin), DAYS_EACH * origin + ahead) for origin in range(origins) for ahead in range(4)]
        frame = pl.DataFrame(
            {
                "origin": [origin for origin, _ in days],
                "day": [first + timedelta(days=number + 1) for _, number in days],
                "actual": [100.0 + number % 7 for _, number in days],
                "error": [error * (1 + number % 3 / 10) for _, number in days],
                "naive_error": [naive_error * (1 + number % 2 / 10) for _, number in days],
            }
        )
        table = self.lakehouse.table(DAYS)
        table.create(frame.schema)
        table.replace(frame, None)

    def step(self, **changes: Any) -> ModelStep:
        return ModelStep(
            **({"asset": level_model, "lakehouse": self.lakehouse, "registry": self.registry, "seed": SEED, "run_id": "r"} | changes)
        )

    def work_out_features(self) -> None:
        for asset in (gold, features):
            Refresh(asset, self.lakehouse, "r", lambda _: None).run()

    def predict(self) -> Refreshed:
        return Refresh(scores, self.lakehouse, "r", champion_of(self.lakehouse, lambda: self.registry)).run()

    def run(self, **how: Any) -> ModelStepResult:
        """Bring everything up to date, in the order of the graph."""
        self.work_out_features()
        trained = self.step().run(**how)
        self.predict()
        return trained

    def decisions(self) -> list[dict[str, Any]]:
        return self.ledger.scan().sort("sequence").collect().to_dicts()

    def predicted(self) -> list[tuple[int, float, int]]:
        """Version, level and features' version of each prediction, in the order of scoring."""
        return self.lakehouse.table(PREDICTIONS).scan().sort("scored_at").select("model_version", "p50", "feature_version").collect().rows()

    def aliases(self) -> dict[str, int]:
        return {alias: version.version for version in self.registry.versions(MODEL) for alias in version.aliases}


def _then(function: Callable[..., Any], act: Callable[[Any], None]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        act(args)
        return result

    return wrapped


def _die(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_if_decided(arguments: tuple[Any, ...]) -> None:
    written_to, rows = arguments[:2]
    if written_to.name == MODEL and rows.height:
        _die(arguments)


def main(root: str, when: str, what: str = "run") -> None:
    demo = Demo(Path(root))
    if when == "registered":
        Registry.log_training = _then(Registry.log_training, _die)  # type: ignore[method-assign]
    elif when == "decided":
        Table.append = _then(Table.append, _die_if_decided)  # type: ignore[method-assign]
    elif when == "alias":
        client = load_mlflow().MlflowClient
        client.set_registered_model_alias = _then(client.set_registered_model_alias, _die)
        client.delete_registered_model_alias = _then(client.delete_registered_model_alias, _die)
    elif when == "together":
        log_training = Registry.log_training

        def wait_and_log(*arguments: Any) -> Any:
            (demo.root / f"{os.getpid()}.waits").touch()
            while len(list(demo.root.glob("*.waits"))) < 2:
                time.sleep(0.02)
            return log_training(*arguments)

        Registry.log_training = wait_and_log  # type: ignore[method-assign]
    if what != "run":
        {"rollback": demo.step().rollback, "sync": demo.step().open_ledger().sync}[what]()
        return
    trained = demo.run()
    print(json.dumps({"version": trained.version, "champion": trained.champion, "promoted": trained.promoted}))


if __name__ == "__main__":
    main(*sys.argv[1:])

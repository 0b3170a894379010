"""A product small enough to be read in a test: days, their feature set, a model that expects one level, and its predictions.

The model's errors in the test on unseen rows stand in the days themselves, so a test says how good the next training is.
`pipeline.level_child` brings it up to date in processes that die.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.computed_kinds import Full
from lakehouse_assets.platform.declarations.gates import Gate
from lakehouse_assets.platform.declarations.learning import NotEnoughData, Predictor, Read, ScoredAsStored, TrainingRows
from lakehouse_assets.platform.declarations.models import model, predictions
from lakehouse_assets.platform.declarations.tables import table
from lakehouse_assets.platform.modelling.metrics import MeanAbsoluteError
from lakehouse_assets.platform.modelling.predictors import PREDICTORS
from lakehouse_assets.platform.modelling.splits import RollingOrigins
from lakehouse_assets.platform.pipeline.champions import Scorer, champion_of
from lakehouse_assets.platform.pipeline.model_step import ModelStep, ModelStepResult
from lakehouse_assets.platform.pipeline.refresh import Refresh, Refreshed
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets_tests.originals import Originals

DAYS, GOLD, FEATURES, MODEL, PREDICTIONS = (
    f"demo.{name}" for name in ("bronze.days", "gold.days", "features.days", "models.level", "predictions.level")
)
DAYS_EACH = 4
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
class LevelModel(Predictor):
    """Predicts what stands in a column, or a share of it, and knows the level of its training days."""

    word: ClassVar[str] = "test_level"
    level: float
    column: str
    share: float = 1.0

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.column,)

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.select(prediction=self.share * pl.col(self.column))

    def save(self, folder: Path) -> None:
        (folder / "level.json").write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "LevelModel":
        return cls(**json.loads((folder / "level.json").read_text(encoding="utf-8")))


PREDICTORS["test_level"] = "lakehouse_assets_tests.platform.orchestration.level:LevelModel"


@dataclass(frozen=True)
class Level:
    """Learns the level."""

    column: str
    share: float = 1.0
    before: ClassVar[Callable[[], None]] = staticmethod(lambda: None)
    """Is called before a training begins."""

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> LevelModel:
        Level.before()
        rows = training.collect()
        if rows.is_empty():
            raise NotEnoughData("There is no day to learn from. Land more days.")
        return LevelModel(rows[training.target].mean(), self.column, self.share)


@dataclass(frozen=True)
class Days(ScoredAsStored):
    """Each day of an origin is an example, whose forecasts stand next to it."""

    source: str = FEATURES
    key: tuple[str, ...] = ("origin", "day")
    at: str = "origin"
    target: str = "actual"
    inputs: tuple[str, ...] = ("forecast", "naive_forecast")
    slices: tuple[str, ...] = ()

    def sources(self) -> tuple[str, ...]:
        return (self.source,)

    def identity(self) -> str:
        return repr(self)

    def rows(self, read: Read, known_until: datetime | None = None) -> pl.LazyFrame:
        rows = read(self.source).select(
            "origin",
            "day",
            "actual",
            forecast=pl.col("actual") + pl.col("error"),
            naive_forecast=pl.col("actual") + pl.col("naive_error"),
            label_known_at=pl.col("day").cast(pl.Datetime("us", "UTC")) + pl.duration(days=1),
        )
        return rows if known_until is None else rows.filter(pl.col("label_known_at") <= known_until)


@table(GOLD, contract=Day, kind=Full(), inputs={"days": DAYS})
def gold(days: pl.LazyFrame) -> pl.LazyFrame:
    """The days as they came."""
    return days


@table(FEATURES, contract=Day, kind=Full(), inputs={"days": GOLD})
def features(days: pl.LazyFrame) -> pl.LazyFrame:
    """The feature set."""
    return days


level_model = model(
    MODEL,
    description="Learns the level.",
    examples=Days(),
    learner=Level("forecast"),
    baselines={"naive": Level("naive_forecast")},
    split=RollingOrigins(horizon=DAYS_EACH),
    metric=MeanAbsoluteError(),
    one_line_rule=False,
    gate=Gate(error_rate=0.1, folds=4),
)


@predictions(PREDICTIONS, contract=Prediction, model=level_model, features=FEATURES, key=("day", "model_version"))
def scores(champion: Scorer, features: pl.LazyFrame) -> pl.LazyFrame:
    """The champion's level for the next day."""
    return features.select((pl.col("day").max() + timedelta(days=1)).alias("day"), p50=pl.lit(champion.model.level))


@dataclass(frozen=True)
class Demo:
    """The product on one root; `originals` has what tests begin with."""

    root: Path
    originals: Originals | None = None

    @property
    def lakehouse(self) -> Lakehouse:
        return Lakehouse(str(self.root / "tables"))

    @property
    def registry(self) -> Registry:
        return Registry.under(self.root / "mlflow")

    @property
    def ledger(self) -> Table:
        return self.lakehouse.table(MODEL)

    def land(self, *, error: float | Sequence[float], origins: int = 5, first: date = date(2024, 1, 1), naive_error: float = 20.0) -> None:
        """Put days into bronze, in the place of those that were there. The error is one, or one for each origin."""
        errors = [float(error)] * origins if isinstance(error, int | float) else list(error)
        origins = len(errors)
        days = [(first + timedelta(days=DAYS_EACH * origin), DAYS_EACH * origin + ahead) for origin in range(origins) for ahead in range(4)]
        frame = pl.DataFrame(
            {
                "origin": [origin for origin, _ in days],
                "day": [first + timedelta(days=number + 1) for _, number in days],
                "actual": [100.0 + number % 7 for _, number in days],
                "error": [errors[number // DAYS_EACH] * (1 + number % 3 / 10) for _, number in days],
                "naive_error": [naive_error * (1 + number % 2 / 10) for _, number in days],
            },
            schema={"origin": pl.Date, "day": pl.Date, "actual": pl.Float64, "error": pl.Float64, "naive_error": pl.Float64},
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

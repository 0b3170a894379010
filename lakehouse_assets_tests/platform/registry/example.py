"""A model small enough to be read in a test: a weight a channel and a slope. It is saved as JSON and found by its word."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import ClassVar

import polars as pl

from lakehouse_assets.platform.declarations.learning import Predictor
from lakehouse_assets.platform.modelling.predictors import PREDICTORS
from lakehouse_assets.platform.registry.training_run import TrainingRun, TrainingTable
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion

CHANNEL = pl.Enum(["shop", "web"])

FEATURES = pl.DataFrame(
    {
        "day": [date(2024, 1, 1), date(2024, 1, 2)],
        "channel": ["shop", "web"],
        "orders": [3, None],
        "units": [5, 7],
        "price": [1.5, 2.5],
    },
    schema={"day": pl.Date, "channel": CHANNEL, "orders": pl.Int32, "units": pl.Int64, "price": pl.Float64},
)


@dataclass(frozen=True)
class Linear(Predictor):
    """Predicts the channel's weight plus slope times price, and refuses rows of other types than it was made for."""

    word: ClassVar[str] = "test_linear"
    weights: dict[str, float]
    slope: float

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(FEATURES.columns)

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        assert rows.schema == FEATURES.schema
        return rows.select(p50=pl.col("channel").cast(pl.String).replace_strict(self.weights) + self.slope * pl.col("price"))

    def save(self, folder: Path) -> None:
        (folder / "linear.json").write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Linear":
        return cls(**json.loads((folder / "linear.json").read_text(encoding="utf-8")))


PREDICTORS["test_linear"] = "lakehouse_assets_tests.platform.registry.example:Linear"
MODEL = Linear({"shop": 10.0, "web": 20.0}, slope=2.0)


def training(**changes) -> TrainingRun:
    """A training of that model, with everything that can be recorded."""
    values = {
        "model_name": "demo.daily_revenue",
        "predictor": MODEL,
        "input_example": FEATURES,
        "candidate": "model",
        "fingerprint": "f1",
        "recipe": "r1",
        "code_version": "c1",
        "seed": 7,
        "environment": "e1",
        "started_at": datetime(2024, 1, 3, 4, 5, tzinfo=UTC),
        "tables": [
            TrainingTable(name="sales.gold.daily_revenue", version=0, uri="/tables/daily_revenue", digest="d" * 36, rows=10),
            TrainingTable(name="demo.features.daily", version=3, uri="/tables/daily", digest="abc", rows=20),
        ],
        "features": {"demo.features.daily": FeatureVersion(number=2, meaning=77)},
        "parameters": {"learning_rate": 0.1, "objective": "quantile"} | {f"p{i}": i for i in range(150)},
        "metrics": {"wape": 0.35},
        "breakdowns": {
            "group": pl.DataFrame({"group": ["85", "a/b & c"], "wape": [0.3, 0.4], "bias": [0.1, None]}),
            "horizon": pl.DataFrame({"horizon": [1, 2, 28], "wape": [0.1, 0.2, 0.3]}),
        },
        "files": {"plots/forecast.png": b"\x89PNG", "training_set.json": b"{}"},
    }
    return TrainingRun(**(values | changes))

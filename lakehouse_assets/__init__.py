"""An open, self-hosted lakehouse ML platform. These are the public names: products, notebooks and stored models rely on them alone.

A name is imported when it is first used, so `import lakehouse_assets` loads nothing else. The modules behind the names are private and may
move.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakehouse_assets.client import open_lakehouse
    from lakehouse_assets.platform.declarations.change_kinds import SCD1, SCD2
    from lakehouse_assets.platform.declarations.computed_kinds import ByKey, ByKeyAndTime, ByPartition, Full, Trailing
    from lakehouse_assets.platform.declarations.endpoints import endpoint
    from lakehouse_assets.platform.declarations.features import feature_set
    from lakehouse_assets.platform.declarations.feeds import feed
    from lakehouse_assets.platform.declarations.gates import Gate, LeakageLimits, NewestLimits
    from lakehouse_assets.platform.declarations.learning import NotEnoughData
    from lakehouse_assets.platform.declarations.models import model, predictions
    from lakehouse_assets.platform.declarations.monitors import AlertRule, monitor
    from lakehouse_assets.platform.declarations.retraining import Retrain
    from lakehouse_assets.platform.declarations.row_kinds import Append, Upsert
    from lakehouse_assets.platform.declarations.tables import Dimension, table
    from lakehouse_assets.platform.features.labels import Labels
    from lakehouse_assets.platform.ingestion.feed import Feed
    from lakehouse_assets.platform.modelling.contributions import reasons
    from lakehouse_assets.platform.modelling.costs import Costs
    from lakehouse_assets.platform.modelling.learners.baselines import ClassPrior, InputColumn, Mean, Median
    from lakehouse_assets.platform.modelling.learners.blend import Blend
    from lakehouse_assets.platform.modelling.learners.boosting import GradientBoosting
    from lakehouse_assets.platform.modelling.learners.estimators import Sklearn
    from lakehouse_assets.platform.modelling.learners.linear import Linear
    from lakehouse_assets.platform.modelling.learners.rule import BestRule
    from lakehouse_assets.platform.modelling.learners.segments import PerSegment
    from lakehouse_assets.platform.modelling.metrics import (
        Accuracy,
        Auc,
        AveragePrecision,
        Bias,
        Brier,
        CalibrationError,
        Cost,
        Coverage,
        LogLoss,
        MacroF1,
        MeanAbsoluteError,
        Pinball,
        RootMeanSquaredError,
        Wape,
    )
    from lakehouse_assets.platform.modelling.search import Search
    from lakehouse_assets.platform.modelling.splits import GroupSplit, RollingOrigins, RollingTime, StratifiedSplit, TimeHoldout
    from lakehouse_assets.platform.modelling.time_folds import TimeFolds
    from lakehouse_assets.platform.monitoring.kinds.drift_kind import Drift
    from lakehouse_assets.platform.monitoring.kinds.freshness import Freshness
    from lakehouse_assets.platform.monitoring.kinds.live_accuracy import LiveAccuracy
    from lakehouse_assets.platform.monitoring.kinds.residual_drift import ResidualDrift
    from lakehouse_assets.platform.monitoring.kinds.volume import Volume
    from lakehouse_assets.platform.quality.conform import (
        boolean,
        choice,
        code,
        conform,
        day,
        money,
        number,
        text,
        timestamp,
        whole_number,
    )
    from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column, rule
    from lakehouse_assets.platform.quality.identity import with_line_id
    from lakehouse_assets.platform.recipes.classifier import classifier
    from lakehouse_assets.platform.recipes.forecast import forecast
    from lakehouse_assets.platform.recipes.windows import window_features

_PLATFORM = f"{__name__}.platform"
_DECLARATIONS = f"{_PLATFORM}.declarations"
_MODULES = {
    "Contract": f"{_PLATFORM}.quality.contract",
    "column": f"{_PLATFORM}.quality.contract",
    "rule": f"{_PLATFORM}.quality.contract",
    "Timestamp": f"{_PLATFORM}.quality.contract",
    "feed": f"{_DECLARATIONS}.feeds",
    "Feed": f"{_PLATFORM}.ingestion.feed",
    "conform": f"{_PLATFORM}.quality.conform",
    "text": f"{_PLATFORM}.quality.conform",
    "code": f"{_PLATFORM}.quality.conform",
    "whole_number": f"{_PLATFORM}.quality.conform",
    "number": f"{_PLATFORM}.quality.conform",
    "money": f"{_PLATFORM}.quality.conform",
    "boolean": f"{_PLATFORM}.quality.conform",
    "timestamp": f"{_PLATFORM}.quality.conform",
    "day": f"{_PLATFORM}.quality.conform",
    "choice": f"{_PLATFORM}.quality.conform",
    "with_line_id": f"{_PLATFORM}.quality.identity",
    "table": f"{_DECLARATIONS}.tables",
    "Dimension": f"{_DECLARATIONS}.tables",
    "Append": f"{_DECLARATIONS}.row_kinds",
    "Upsert": f"{_DECLARATIONS}.row_kinds",
    "SCD1": f"{_DECLARATIONS}.change_kinds",
    "SCD2": f"{_DECLARATIONS}.change_kinds",
    "ByPartition": f"{_DECLARATIONS}.computed_kinds",
    "ByKey": f"{_DECLARATIONS}.computed_kinds",
    "ByKeyAndTime": f"{_DECLARATIONS}.computed_kinds",
    "Trailing": f"{_DECLARATIONS}.computed_kinds",
    "Full": f"{_DECLARATIONS}.computed_kinds",
    "feature_set": f"{_DECLARATIONS}.features",
    "model": f"{_DECLARATIONS}.models",
    "predictions": f"{_DECLARATIONS}.models",
    "endpoint": f"{_DECLARATIONS}.endpoints",
    "monitor": f"{_DECLARATIONS}.monitors",
    "AlertRule": f"{_DECLARATIONS}.monitors",
    "Drift": f"{_PLATFORM}.monitoring.kinds.drift_kind",
    "ResidualDrift": f"{_PLATFORM}.monitoring.kinds.residual_drift",
    "Freshness": f"{_PLATFORM}.monitoring.kinds.freshness",
    "Volume": f"{_PLATFORM}.monitoring.kinds.volume",
    "LiveAccuracy": f"{_PLATFORM}.monitoring.kinds.live_accuracy",
    "forecast": f"{_PLATFORM}.recipes.forecast",
    "window_features": f"{_PLATFORM}.recipes.windows",
    "classifier": f"{_PLATFORM}.recipes.classifier",
    "Labels": f"{_PLATFORM}.features.labels",
    "NotEnoughData": f"{_DECLARATIONS}.learning",
    "Gate": f"{_PLATFORM}.declarations.gates",
    "NewestLimits": f"{_DECLARATIONS}.gates",
    "LeakageLimits": f"{_DECLARATIONS}.gates",
    "Retrain": f"{_DECLARATIONS}.retraining",
    "reasons": f"{_PLATFORM}.modelling.contributions",
    "Costs": f"{_PLATFORM}.modelling.costs",
    "GradientBoosting": f"{_PLATFORM}.modelling.learners.boosting",
    "Linear": f"{_PLATFORM}.modelling.learners.linear",
    "Sklearn": f"{_PLATFORM}.modelling.learners.estimators",
    "Blend": f"{_PLATFORM}.modelling.learners.blend",
    "PerSegment": f"{_PLATFORM}.modelling.learners.segments",
    "Search": f"{_PLATFORM}.modelling.search",
    "ClassPrior": f"{_PLATFORM}.modelling.learners.baselines",
    "Mean": f"{_PLATFORM}.modelling.learners.baselines",
    "Median": f"{_PLATFORM}.modelling.learners.baselines",
    "InputColumn": f"{_PLATFORM}.modelling.learners.baselines",
    "BestRule": f"{_PLATFORM}.modelling.learners.rule",
    "RollingOrigins": f"{_PLATFORM}.modelling.splits",
    "RollingTime": f"{_PLATFORM}.modelling.splits",
    "TimeFolds": f"{_PLATFORM}.modelling.time_folds",
    "TimeHoldout": f"{_PLATFORM}.modelling.splits",
    "GroupSplit": f"{_PLATFORM}.modelling.splits",
    "StratifiedSplit": f"{_PLATFORM}.modelling.splits",
    "Wape": f"{_PLATFORM}.modelling.metrics",
    "MeanAbsoluteError": f"{_PLATFORM}.modelling.metrics",
    "RootMeanSquaredError": f"{_PLATFORM}.modelling.metrics",
    "Bias": f"{_PLATFORM}.modelling.metrics",
    "Pinball": f"{_PLATFORM}.modelling.metrics",
    "Coverage": f"{_PLATFORM}.modelling.metrics",
    "LogLoss": f"{_PLATFORM}.modelling.metrics",
    "Brier": f"{_PLATFORM}.modelling.metrics",
    "Auc": f"{_PLATFORM}.modelling.metrics",
    "AveragePrecision": f"{_PLATFORM}.modelling.metrics",
    "CalibrationError": f"{_PLATFORM}.modelling.metrics",
    "Accuracy": f"{_PLATFORM}.modelling.metrics",
    "MacroF1": f"{_PLATFORM}.modelling.metrics",
    "Cost": f"{_PLATFORM}.modelling.metrics",
    "open_lakehouse": f"{__name__}.client",
}
"""The module of each public name."""

__all__ = [  # noqa: RUF022 in the order in which a product needs them
    "Contract",
    "column",
    "rule",
    "Timestamp",
    "feed",
    "Feed",
    "conform",
    "text",
    "code",
    "whole_number",
    "number",
    "money",
    "boolean",
    "timestamp",
    "day",
    "choice",
    "with_line_id",
    "table",
    "Dimension",
    "Append",
    "Upsert",
    "SCD1",
    "SCD2",
    "ByPartition",
    "ByKey",
    "ByKeyAndTime",
    "Trailing",
    "Full",
    "feature_set",
    "model",
    "predictions",
    "endpoint",
    "monitor",
    "AlertRule",
    "Drift",
    "ResidualDrift",
    "Freshness",
    "Volume",
    "LiveAccuracy",
    "forecast",
    "window_features",
    "classifier",
    "Labels",
    "NotEnoughData",
    "Gate",
    "NewestLimits",
    "LeakageLimits",
    "Retrain",
    "reasons",
    "Costs",
    "GradientBoosting",
    "Linear",
    "Sklearn",
    "Blend",
    "PerSegment",
    "Search",
    "ClassPrior",
    "Mean",
    "Median",
    "InputColumn",
    "BestRule",
    "RollingOrigins",
    "RollingTime",
    "TimeFolds",
    "TimeHoldout",
    "GroupSplit",
    "StratifiedSplit",
    "Wape",
    "MeanAbsoluteError",
    "RootMeanSquaredError",
    "Bias",
    "Pinball",
    "Coverage",
    "LogLoss",
    "Brier",
    "Auc",
    "AveragePrecision",
    "CalibrationError",
    "Accuracy",
    "MacroF1",
    "Cost",
    "open_lakehouse",
]


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]

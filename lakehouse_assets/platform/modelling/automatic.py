"""Which learners and parameters are worth trying on a table that nobody has looked at yet.

Chosen on tables that ship with scikit-learn, see `benchmarks/tabular.py`. The search itself is in `search`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lakehouse_assets.platform.declarations.learning import Learner, Metric, Split
from lakehouse_assets.platform.modelling.learners.baselines import ClassPrior, Mean, Median
from lakehouse_assets.platform.modelling.learners.boosting import GradientBoosting
from lakehouse_assets.platform.modelling.learners.estimators import Sklearn
from lakehouse_assets.platform.modelling.learners.linear import Linear
from lakehouse_assets.platform.modelling.learners.rule import BestRule
from lakehouse_assets.platform.modelling.metrics import LogLoss, RootMeanSquaredError
from lakehouse_assets.platform.modelling.search import Search
from lakehouse_assets.platform.modelling.targets import Task
from lakehouse_assets.platform.modelling.trials import Candidate, Range

BOOSTING: Final[Mapping[str, Range]] = {
    "learning_rate": (0.01, 0.2, "log"),
    "num_leaves": (4, 63, "log"),
    "min_data_in_leaf": (3, 100, "log"),
    "feature_fraction": (0.2, 1.0),
    "bagging_fraction": (0.5, 1.0),
    "lambda_l2": (0.001, 30.0, "log"),
    "extra_trees": [False, True],
}
LINEAR: Final[Mapping[str, Range]] = {"strength": (0.001, 1000.0, "log")}
FOREST: Final[Mapping[str, Range]] = {"estimator.max_features": (0.1, 1.0), "estimator.min_samples_leaf": (1, 20, "log")}
BEST_RULE: Final = "best rule"
"""The baseline that is a rule of one column."""
_MOST_ROWS_OF_FORESTS: Final = 50_000


def default_search(
    task: Task,
    *,
    rows: int,
    positive: str | None = None,
    metric: Metric | None = None,
    trials: int = 60,
    seconds: float | None = None,
    folds: Split | None = None,
    folder: Path | None = None,
) -> Search:
    """Gradient boosting, a linear model and extremely randomised trees, searched and blended, with plain baselines on the leaderboard.

    Args:
        task: `regression`, `binary` or `multiclass`.
        rows: How many there are to learn from: of many, forests are too slow and too large.
        positive: Of a binary target with texts, the value that counts.
        metric: What decides; None: log loss, or the root mean squared error.
        trials: Most of them.
        seconds: Of the search, see `Search`.
        folds: How trials are judged; None: three periods, in the order of time. Rows without a time need `StratifiedSplit` or `GroupSplit`.
        folder: Where trials are kept.
    """
    forests = (Candidate("ExtraTrees", _forest(task, positive), FOREST),) if rows <= _MOST_ROWS_OF_FORESTS else ()
    return Search(
        GradientBoosting(task, positive=positive),
        BOOSTING,
        metric or (RootMeanSquaredError() if task == "regression" else LogLoss(positive)),
        trials=trials,
        seconds=seconds,
        folds=folds,
        others=(Candidate("Linear", Linear(task, positive), LINEAR), *forests),
        baselines=_baselines(task, positive),
        blend=True,
        folder=folder,
    )


def _forest(task: Task, positive: str | None) -> Learner:
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    if task == "regression":
        return Sklearn(ExtraTreesRegressor(n_estimators=200, max_features=0.5, min_samples_leaf=2))
    return Sklearn(ExtraTreesClassifier(n_estimators=200, max_features="sqrt"), task, positive)


def _baselines(task: Task, positive: str | None) -> Mapping[str, Learner]:
    rule = {BEST_RULE: BestRule(task, positive)}
    if task == "regression":
        return {"mean": Mean(), "median": Median(), **rule}
    return {"share of each class": ClassPrior(task, positive), **rule}

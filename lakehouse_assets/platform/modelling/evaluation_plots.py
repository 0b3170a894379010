"""Plots of a test and of a fitted model, as PNG bytes: scores by fold, calibration, residuals, importances, learning curves.

What is drawn follows from the columns of the predictions. The plot of a forecast is in `plots`.
"""

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.declarations.learning import ACTUAL, CANDIDATE, FOLD, Metric, Predictor
from lakehouse_assets.platform.modelling.evaluation import SCORE, SLICE, Evaluation
from lakehouse_assets.platform.modelling.plots import HISTORY, MODEL, OTHERS, figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_MOST_INPUTS: Final = 20
_MOST_POINTS: Final = 4_000
_BINS: Final = 10
_QUANTILE: Final = r"^p\d+(\.\d+)?$"


def of_evaluation(evaluation: Evaluation, metric: Metric, candidate: str) -> dict[str, bytes]:
    """The plots of a test, by name: `folds`, and what the predictions of the candidate allow."""
    rows = evaluation.of(candidate).drop_nulls(ACTUAL)
    found = {"folds": folds_plot(evaluation, metric, candidate)}
    if rows.is_empty():
        return found
    if "probability" in rows.columns and rows["probability"].null_count() < rows.height:
        return found | {"calibration": calibration_plot(rows)}
    centre = next((name for name in ("mean", "prediction", "p50") if name in rows.columns), None)
    if centre is not None and rows[ACTUAL].dtype.is_numeric():
        found["residuals"] = residuals_plot(rows, centre)
    if len(rows.select(pl.col(_QUANTILE)).columns) > 1 and rows[ACTUAL].dtype.is_numeric():
        found["coverage"] = coverage_plot(rows)
    return found


def of_predictor(predictor: Predictor) -> dict[str, bytes]:
    """The plots of a fitted model, by name: `importance` and `learning_curve`, where it has them."""
    found = {}
    if (importance := predictor.importance()) is not None and not importance.is_empty():
        found["importance"] = importance_plot(importance)
    if (curve := predictor.learning_curve()) is not None and not curve.is_empty():
        found["learning_curve"] = learning_curve_plot(curve)
    return found


def folds_plot(evaluation: Evaluation, metric: Metric, candidate: str) -> bytes:
    """The score of every candidate in every fold, and its mean after the name; the candidate in question stands out."""
    overall = evaluation.losses(metric).filter(pl.col(SLICE).is_null())
    folds = evaluation.folds
    names = [candidate, *(name for name in evaluation.candidates if name != candidate)]
    with figure(max(5.0, 0.42 * len(folds) + 3.2), 3.2) as (drawn, picture):
        axes = drawn.add_subplot()
        for place, name in enumerate(names):
            scores = dict(overall.filter(pl.col(CANDIDATE) == name).select(FOLD, SCORE).iter_rows())
            known = [value for value in scores.values() if value is not None]
            label = f"{name.replace('_', ' ')} (mean {sum(known) / len(known):.3g})" if known else f"{name.replace('_', ' ')} (no score)"
            axes.plot(
                range(len(folds)),
                [scores.get(fold, np.nan) for fold in folds],
                color=MODEL if place == 0 else OTHERS[(place - 1) % len(OTHERS)],
                linewidth=1.8 if place == 0 else 1.0,
                marker="o",
                markersize=3.5 if place == 0 else 2.5,
                zorder=2 if place else 3,
                label=label,
            )
        axes.set_xticks(range(len(folds)), list(folds), rotation=45 if len(folds) > 4 else 0, ha="right" if len(folds) > 4 else "center")
        better = "lower" if metric.lower_is_better else "higher"
        axes.set_title(f"{metric.name} by fold ({better} is better)", loc="left", fontsize=10)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
        plain(axes)
    return picture.getvalue()


def calibration_plot(rows: pl.DataFrame) -> bytes:
    """How often the positive class came, by what was predicted, in ten groups of equally many rows; and how probabilities spread."""
    known = rows.select(pl.col("probability"), pl.col(ACTUAL).cast(pl.Float64)).drop_nulls().sort("probability")
    group = (pl.int_range(pl.len()) * _BINS // pl.len()).alias("group")
    groups = known.with_columns(group).group_by("group").agg(pl.col("probability").mean(), pl.col(ACTUAL).mean()).sort("group")
    with figure(6.4, 3.2) as (drawn, picture):
        left, right = drawn.subplots(1, 2)
        top = max(float(groups.select(pl.max_horizontal(pl.col("probability").max(), pl.col(ACTUAL).max())).item() or 0), 1e-9)
        left.plot([0, top], [0, top], color=HISTORY, linewidth=0.8, linestyle="--")
        left.plot(groups["probability"].to_numpy(), groups[ACTUAL].to_numpy(), color=MODEL, marker="o", markersize=4, linewidth=1.4)
        _titled(left, "calibration", "predicted probability", "share that came")
        _histogram(right, known["probability"].to_numpy(), 30)
        _titled(right, "probabilities", "predicted probability", "rows")
    return picture.getvalue()


def residuals_plot(rows: pl.DataFrame, centre: str) -> bytes:
    """What came against what was predicted, and how the errors spread."""
    known = rows.select(pl.col(centre), pl.col(ACTUAL).cast(pl.Float64)).drop_nulls()
    shown = known.gather_every(max(1, known.height // _MOST_POINTS))
    with figure(6.4, 3.2) as (drawn, picture):
        left, right = drawn.subplots(1, 2)
        left.scatter(shown[centre].to_numpy(), shown[ACTUAL].to_numpy(), s=3, color=MODEL, alpha=0.35, linewidths=0)
        edges = shown.select(low=pl.min_horizontal(pl.all().min()), high=pl.max_horizontal(pl.all().quantile(0.99))).row(0)
        left.plot(edges, edges, color=HISTORY, linewidth=0.8, linestyle="--")
        if edges[0] < edges[1]:  # of a constant that is predicted as it is, there is one point
            left.set_xlim(edges[0], edges[1])
            left.set_ylim(edges[0], edges[1])
        _titled(left, "what came", f"predicted ({centre})", "actual")
        errors = (known[ACTUAL] - known[centre]).to_numpy()
        low, high = (float(np.quantile(errors, share)) for share in (0.01, 0.99))
        _histogram(right, errors.clip(low, high), 40)
        right.axvline(0, color=HISTORY, linewidth=0.8)
        _titled(right, "errors (1 % at either end drawn in)", "actual less predicted", "rows")
    return picture.getvalue()


def coverage_plot(rows: pl.DataFrame) -> bytes:
    """The share of outcomes below each quantile, which should be the quantile's own."""
    quantiles = sorted(rows.select(pl.col(_QUANTILE)).columns, key=lambda name: float(name[1:]))
    shares = [float(name[1:]) / 100 for name in quantiles]
    below = rows.select((pl.col(ACTUAL).cast(pl.Float64) <= pl.col(name)).mean().alias(name) for name in quantiles).row(0)
    with figure(3.4, 3.2) as (drawn, picture):
        axes = drawn.add_subplot()
        axes.plot([0, 1], [0, 1], color=HISTORY, linewidth=0.8, linestyle="--")
        axes.plot(shares, below, color=MODEL, marker="o", markersize=5, linewidth=1.4)
        _titled(axes, "coverage of the quantiles", "quantile", "share of outcomes below")
    return picture.getvalue()


def importance_plot(importance: pl.DataFrame) -> bytes:
    """The inputs that matter most, largest on top."""
    shown = importance.head(_MOST_INPUTS).reverse()
    with figure(5.0, 0.24 * shown.height + 0.8) as (drawn, picture):
        axes = drawn.add_subplot()
        axes.barh(shown["input"].to_list(), shown["importance"].to_numpy(), color=MODEL)
        more = importance.height - shown.height
        _titled(axes, "importance" + (f" ({more} more inputs)" if more else ""), "share", "")
    return picture.getvalue()


def learning_curve_plot(curve: pl.DataFrame) -> bytes:
    """The loss by round, in training and on rows that were held out."""
    with figure(5.0, 3.0) as (drawn, picture):
        axes = drawn.add_subplot()
        for place, name in enumerate(name for name in curve.columns if name != "round"):
            axes.plot(curve["round"].to_numpy(), curve[name].to_numpy(), label=name.replace("_", " "), color=(MODEL, *OTHERS)[place % 5])
        axes.legend(fontsize=8, frameon=False)
        _titled(axes, "learning curve", "round", "loss")
    return picture.getvalue()


def _histogram(axes: "Axes", values: "NDArray[np.float64]", bins: int) -> None:
    # Values that differ in their last digits alone leave no room for so many bins, and NumPy refuses.
    narrow = values.size > 0 and 0 < np.ptp(values) < 1e-9 * np.abs(values).max()
    axes.hist(values, bins=1 if narrow else bins, color=MODEL)


def _titled(axes: "Axes", title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    plain(axes)

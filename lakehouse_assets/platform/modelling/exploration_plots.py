"""Pictures of a table before anything is fitted: how its columns are distributed, and how much each says about the target alone.

What is drawn of a fitted model is in `evaluation_plots`.
"""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.modelling.plots import HISTORY, MODEL, OTHERS, figure, plain
from lakehouse_assets.platform.modelling.targets import is_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_PANELS: Final = 16
_MOST_BARS: Final = 8
_MOST_ROWS: Final = 25
_BINS: Final = 30
_LONGEST: Final = 24


def columns_plot(rows: pl.DataFrame, target: str, inputs: list[str]) -> bytes:
    """How the target and the inputs are distributed, a panel each: the target first, then the inputs as they are given."""
    shown = [target, *inputs[: _MOST_PANELS - 1]]
    width = min(4, len(shown))
    height = -(-len(shown) // width)
    with figure(2.9 * width, 1.9 * height + 0.4) as (drawn, picture):
        for place, name in enumerate(shown, start=1):
            axes = drawn.add_subplot(height, width, place)
            _distribution(axes, rows[name], MODEL if place == 1 else HISTORY)
            missing = rows[name].null_count() / max(rows.height, 1)
            title = _short(name) + (f", {missing:.0%} missing" if missing >= 0.005 else "")
            axes.set_title(title, loc="left", fontsize=9, fontweight="bold" if place == 1 else "normal")
        more = len(inputs) + 1 - len(shown)
        drawn.suptitle(f"{target} and what it is learnt from" + (f" ({more} more columns)" if more else ""), x=0.01, ha="left", fontsize=10)
    return picture.getvalue()


def relations_plot(strengths: pl.DataFrame, target: str, measure: str) -> bytes:
    """What each column alone says about the target, on rows that its rule was not found on.

    Args:
        strengths: `input`, `score` and `strength` (0: nothing, 1: all), strongest first.
        target: For the title.
        measure: What `score` is.
    """
    shown = strengths.head(_MOST_ROWS).reverse()
    with figure(5.6, 0.24 * max(shown.height, 2) + 0.9) as (drawn, picture):
        axes = drawn.add_subplot()
        axes.barh([_short(name) for name in shown["input"]], shown["strength"].to_numpy(), color=MODEL)
        axes.set_xlim(0, 1)
        axes.set_xlabel(f"0: nothing, 1: everything (from the {measure} of the best rule of the column alone)", fontsize=8)
        axes.set_title(f"what one column says about {target}", loc="left", fontsize=10)
        plain(axes)
    return picture.getvalue()


def leaderboard_plot(board: pl.DataFrame, metric: str) -> bytes:
    """The best trial of each learner, and the baselines, by their loss: shorter bars are better.

    Args:
        board: `candidate`, `state` and `loss`, as `Searched.trials` gives them.
        metric: What the loss is.
    """
    known = board.filter(pl.col("loss").is_not_null(), pl.col("state") != "pruned")
    best = (
        known.group_by("candidate").agg(pl.col("loss").min(), pl.col("state").first(), pl.len().alias("trials")).sort("loss", "candidate")
    )
    shown = best.reverse()
    with figure(6.0, 0.32 * max(shown.height, 2) + 0.9) as (drawn, picture):
        axes = drawn.add_subplot()
        names = [
            name if state != "complete" else f"{name} (best of {trials})"
            for name, state, trials in shown.select("candidate", "state", "trials").iter_rows()
        ]
        colours = [OTHERS[0] if state == "baseline" else MODEL for state in shown["state"]]
        bars = axes.barh(names, shown["loss"].to_numpy(), color=colours)
        axes.bar_label(bars, labels=[f"{loss:.4g}" for loss in shown["loss"]], fontsize=7, padding=2)
        axes.set_xlabel(f"{metric} on rows that were not learnt from (grey: baselines)", fontsize=8)
        axes.set_title("leaderboard", loc="left", fontsize=10)
        axes.margins(x=0.12)
        plain(axes)
    return picture.getvalue()


def _distribution(axes: "Axes", values: pl.Series, colour: str) -> None:
    known = values.drop_nulls()
    if is_text(known.dtype) or known.dtype == pl.Boolean or (known.dtype.is_integer() and known.n_unique() <= _MOST_BARS):
        counts = known.cast(pl.String).alias("value").value_counts().sort("count", "value", descending=[True, False])
        shown = counts.head(_MOST_BARS).reverse()
        axes.barh([_short(value) for value in shown["value"]], shown["count"].to_numpy(), color=colour)
        plain(axes)
        return
    days = known.cast(pl.Datetime("us")).to_physical() / 86_400_000_000 if known.dtype.is_temporal() else known
    numbers = days.cast(pl.Float64).to_numpy()
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers):
        low, high = (float(np.quantile(numbers, share)) for share in (0.005, 0.995))
        axes.hist(numbers.clip(low, high), bins=_BINS, color=colour)
    plain(axes)
    if known.dtype.is_temporal():
        axes.xaxis.set_major_locator(_few())
        axes.xaxis.set_major_formatter(lambda day, _: f"{np.datetime64(int(day), 'D')}"[:7])


def _few() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(3)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"

"""Pictures of forecasts and backtests for people: PNG, small enough to travel with a materialisation.

What is drawn, and under which names, is decided by the products.
"""

import io
import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import polars as pl

from lakehouse_assets.platform.training.metrics import wape

_COLOURS = ("#1f5fa8", "#9aa5b1", "#d08c3c", "#6b8f71")
_COLOURS_KEPT = 48
_HISTORY_DAYS = 84
_MOST_PANELS = 12


def forecast_plot(history: pl.DataFrame, forecast: pl.DataFrame, *, group: str, day: str, value: str) -> bytes:
    """What is expected beside what was: all groups together, then each of the largest.

    Args:
        history: `group`, `day` and `value`.
        forecast: `group`, `day`, `p10`, `p50` and `p90` of days after those.
        group: Column of the group.
        day: Column of the day.
        value: Column of what was.
    """
    first = forecast[day].min()
    assert first is not None  # noqa: S101 there is a forecast to draw
    recent = history.filter(pl.col(day).is_between(first - timedelta(days=_HISTORY_DAYS), first, closed="left"))  # type: ignore[operator]
    sizes = forecast.group_by(group).agg(pl.col("p50").sum()).sort("p50", descending=True)
    groups = sizes[group].head(_MOST_PANELS - 1).to_list()
    columns = 3
    figure, axes = _figure(math.ceil((len(groups) + 1) / columns), columns, height=1.9)
    total = forecast.group_by(day).agg(pl.col("p50").sum()).sort(day)
    # The quantiles of groups do not add up to those of their sum; the expected values nearly do.
    panels = [("all groups", recent.group_by(day).agg(pl.col(value).sum()).sort(day), total)]
    panels += [(name, recent.filter(pl.col(group) == name).sort(day), forecast.filter(pl.col(group) == name).sort(day)) for name in groups]
    for axis, (title, was, expected) in zip(axes, panels, strict=False):
        axis.plot(was[day], was[value], color=_COLOURS[1], linewidth=0.8)
        if "p10" in expected.columns:
            axis.fill_between(expected[day], expected["p10"], expected["p90"], color=_COLOURS[0], alpha=0.22, linewidth=0)
        axis.plot(expected[day], expected["p50"], color=_COLOURS[0], linewidth=1.2)
        axis.set_title(title, fontsize=8, loc="left")
    return _png(figure, axes, 1 + len(groups))


def backtest_plot(rows: pl.DataFrame, *, actual: str, forecasts: Sequence[str], origin: str, labels: Sequence[str]) -> bytes:
    """The error of each forecast from each origin, as bars side by side; lower is better.

    Args:
        rows: `origin`, `actual` and `forecasts`.
        actual: Column of the outcome.
        forecasts: Columns of the forecasts, the model's first.
        origin: Column of the forecast origin.
        labels: Their names for people.
    """
    scores = rows.group_by(origin).agg(wape(actual, name) for name in forecasts).sort(origin)
    figure, axes = _figure(1, 1, height=2.8)
    width = 0.8 / len(forecasts)
    for number, (name, label) in enumerate(zip(forecasts, labels, strict=True)):
        places = [place + (number - (len(forecasts) - 1) / 2) * width for place in range(scores.height)]
        axes[0].bar(
            places,
            scores[name],
            width * 0.92,
            color=_COLOURS[number % len(_COLOURS)],
            label=f"{label}, mean {sum(scores[name]) / scores.height:.3f}",
        )
    axes[0].set_xticks(range(scores.height), [str(value) for value in scores[origin]])
    axes[0].set_title("Backtest: WAPE of 28 days from each origin (lower is better)", fontsize=9, loc="left")
    axes[0].legend(fontsize=7, frameon=False, ncols=len(forecasts), loc="upper center", bbox_to_anchor=(0.5, -0.1))
    return _png(figure, axes, 1, dates=False)


def _figure(rows: int, columns: int, *, height: float) -> tuple[Any, list[Any]]:
    # Not pyplot: it keeps figures in a global list and picks a backend by the machine.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _png(figure: Any, axes: list[Any], used: int, *, dates: bool = True) -> bytes:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from PIL import Image

    for number, axis in enumerate(axes):
        axis.set_visible(number < used)
        axis.tick_params(labelsize=6, length=2)
        axis.spines[["top", "right"]].set_visible(False)
        if dates:
            locator = AutoDateLocator(maxticks=5)  # type: ignore[no-untyped-call]
            axis.xaxis.set_major_locator(locator)
            axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
            axis.xaxis.get_offset_text().set_fontsize(6)
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=80)
    # A few colours are enough for lines, and a third of the bytes.
    Image.open(drawn).convert("RGB").quantize(_COLOURS_KEPT).save(small, format="png", optimize=True)
    return small.getvalue()

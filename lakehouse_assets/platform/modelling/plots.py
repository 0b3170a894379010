"""The plot of a forecast, as PNG bytes small enough for the metadata of a run, and what all plots have in common.

Plots are drawn without a display and know nothing of what is predicted. Those of a test are in `evaluation_plots`. Where they are shown or
stored is decided elsewhere.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from textwrap import fill
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HISTORY, MODEL, OTHERS = "#8a8f98", "#1f6feb", ("#b8bdc6", "#7d838d", "#d9a441", "#a371f7")
HISTORY_DAYS = 56
MOST_PANELS = 12
_ONE_AT_A_TIME: Final = threading.RLock()


def forecast_plot(
    history: pl.DataFrame, forecast: pl.DataFrame, *, value: str, by: str, quantiles: tuple[str, str] = ("p10", "p90")
) -> bytes:
    """The last eight weeks and the forecast after them: the total and the largest series, a panel each; a single series alone.

    Args:
        history: `day`, `by` and `value`, one row a day and series; only days up to the first forecast are drawn.
        forecast: `day`, `by`, `mean` and the quantiles; without rows, as while there is no champion, the history is drawn alone.
        value: What is forecast.
        by: Column that tells the series apart.
        quantiles: Columns of the lower and upper edge of the band.

    Returns:
        A PNG. Means add up, quantiles do not: the total has no band.
    """
    first = pl.lit(forecast.select(pl.col("day").min()).item(), dtype=pl.Date)
    start = first.fill_null(pl.col("day").max() + pl.duration(days=1))
    recent = history.filter(pl.col("day") < start, pl.col("day") >= start - pl.duration(days=HISTORY_DAYS))
    largest = recent.group_by(by).agg(pl.col(value).sum()).sort(value, by, descending=[True, False])[by].to_list()
    shown = largest[: MOST_PANELS - 1]
    total = [frame.group_by("day").agg(pl.col(column).sum()).sort("day") for frame, column in ((recent, value), (forecast, "mean"))]
    panels: list[tuple[str, pl.DataFrame, pl.DataFrame]] = [
        (f"all {len(largest)} groups" if len(shown) < len(largest) else "all groups", total[0], total[1])
    ]
    for name in shown:
        past, future = (frame.filter(pl.col(by) == name).sort("day") for frame in (recent, forecast))
        panels.append((str(name), past, future))
    panels = panels[len(largest) == 1 :]  # the total of one series is that series

    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    with figure(2.9 * columns, 1.75 * rows + 0.5) as (drawn, picture):
        for place, (title, past, future) in enumerate(panels, start=1):
            axes = drawn.add_subplot(rows, columns, place)
            mean = future["mean"]
            lower, upper = (future[name] if name in future.columns else mean for name in quantiles)
            axes.plot(past["day"], past[value].to_numpy(), color=HISTORY, linewidth=0.9)
            axes.fill_between(future["day"], lower.to_numpy(), upper.to_numpy(), color=MODEL, alpha=0.22, linewidth=0)
            axes.plot(future["day"], mean.to_numpy(), color=MODEL, linewidth=1.3)
            # One extreme day of the past must not flatten the rest.
            edges = pl.select(
                top=pl.max_horizontal(past[value].quantile(0.98), upper.max(), 1e-9), bottom=pl.min_horizontal(lower.min(), 0.0)
            )
            axes.set_ylim(edges["bottom"].item(), 1.12 * edges["top"].item())
            axes.set_title(title, loc="left", fontsize=9, fontweight="bold" if place == 1 else "normal")
            plain(axes)
            _sparse_dates(axes)
        days = forecast["day"].n_unique()
        future_days = f"the next {days} days (blue: mean, band {quantiles[0].upper()} to {quantiles[1].upper()})"
        title = f"{value} a day: the last {HISTORY_DAYS // 7} weeks (grey), {future_days if days else 'no forecast'}"
        drawn.suptitle(fill(title, 34 * columns), x=0.01, ha="left", fontsize=10)
    return picture.getvalue()


@contextmanager
def styled(parameters: Mapping[str, Any] = MappingProxyType({})) -> Iterator[None]:
    """Draw with other parameters of matplotlib, one thread at a time, as these are of the process.

    Texts come with the data: a `$` in them starts no formula.
    """
    from matplotlib import rc_context

    changed: Any = {"text.parse_math": False, **parameters}
    with _ONE_AT_A_TIME, rc_context(changed):
        yield


@contextmanager
def figure(width: float, height: float) -> Iterator[tuple["Figure", BytesIO]]:
    """An empty figure, and the buffer that holds it as PNG after the block. Inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    empty, picture = Figure(figsize=(width, height), dpi=80, layout="constrained"), BytesIO()
    canvas = FigureCanvasAgg(empty)
    with styled():
        yield empty, picture
        canvas.draw()  # type: ignore[no-untyped-call]
    # A few dozen colours are enough, and make the file several times smaller.
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    Image.fromarray(pixels).convert("RGB").quantize(32).save(picture, "PNG", optimize=True)


def plain(axes: "Axes") -> None:
    """Axes without what nobody reads."""
    from matplotlib.ticker import ScalarFormatter

    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7, length=2)
    axes.grid(axis="y", linewidth=0.3, alpha=0.6)
    axes.set_axisbelow(True)
    if isinstance(axes.yaxis.get_major_formatter(), ScalarFormatter):  # an axis of names keeps them
        axes.yaxis.set_major_formatter(lambda number, _: f"{number / 1000:g}k" if abs(number) >= 1000 else f"{number:g}")


def _sparse_dates(axes: "Axes") -> None:
    from matplotlib.dates import DateFormatter, WeekdayLocator

    axes.xaxis.set_major_locator(WeekdayLocator(byweekday=0, interval=4))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(DateFormatter("%d %b"))  # type: ignore[no-untyped-call]

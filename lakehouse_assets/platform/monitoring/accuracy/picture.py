"""The picture of the accuracy of a model over time, as PNG. What the rows that it draws mean is in docs/accuracy.md."""

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from lakehouse_assets.platform.modelling.plots import MODEL, OTHERS, figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_PANELS: Final = 8
_COLUMNS: Final = 2
_KEY: Final = "__panel"


def accuracy_plot(rows: pl.DataFrame, *, metric: str, model: str) -> bytes:
    """A panel for each slice, range of the horizon, or all: realised values with their intervals, estimates, and the baseline.

    Args:
        rows: Of one metric and granularity, with the columns of the accuracy table.
        metric: Its name.
        model: Of the title.
    """
    label = pl.coalesce(pl.col("slice_value"), "days ahead " + pl.col("horizon"), pl.lit("all"))
    named = rows.with_columns(label.alias(_KEY)).sort("window_start", "model_version")
    largest = named.group_by(_KEY, maintain_order=True).agg(pl.col("rows").sum()).sort("rows", descending=True, maintain_order=True)
    panels = largest[_KEY].head(_MOST_PANELS).to_list() or ["all"]
    if named["horizon"].null_count() < named.height:
        panels.sort(key=lambda name: int(name.removeprefix("days ahead ").split("-")[0]))
    columns = min(_COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    with figure(7.5 if columns == 1 else 5 * columns, 2.4 * lines + 0.9) as (drawn, picture):
        grid = drawn.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
        for place, axes in enumerate(grid.flat):
            if place >= len(panels):
                axes.set_visible(False)
                continue
            _panel(axes, named.filter(pl.col(_KEY) == panels[place]), title=panels[place] if len(panels) > 1 else "")
        drawn.supylabel(metric, fontsize=9)
        drawn.suptitle(f"{model}: {metric} of what was predicted", x=0.01, ha="left", fontsize=10)
        handles: dict[str, Any] = {}
        for axes in grid.flat:
            for handle, text in zip(*axes.get_legend_handles_labels(), strict=True):
                if axes.get_visible() and _is_drawn(handle):
                    handles.setdefault(text, handle)
        if handles:
            drawn.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=len(handles), fontsize=7, frameon=False)
    return picture.getvalue()


def _is_drawn(handle: Any) -> bool:
    """Whether there is anything of it in the picture."""
    points = handle.get_offsets() if hasattr(handle, "get_offsets") else handle.get_xdata()
    return bool(len(points))


def _panel(axes: "Axes", rows: pl.DataFrame, *, title: str) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.set_title(title, loc="left", fontsize=9)
    for (version,), part in rows.group_by("model_version", maintain_order=True):
        known = part.filter(pl.col("value").is_not_null())
        final, open_yet = known.filter(~pl.col("provisional")), known.filter("provisional")
        axes.plot(known["window_start"], known["value"].to_numpy(), color=MODEL, linewidth=1.0)
        axes.fill_between(known["window_start"], known["low"].to_numpy(), known["high"].to_numpy(), color=MODEL, alpha=0.15, linewidth=0)
        axes.scatter(final["window_start"], final["value"].to_numpy(), color=MODEL, s=12, label="realised, all outcomes known")
        axes.scatter(
            open_yet["window_start"], open_yet["value"].to_numpy(), s=14, facecolors="white", edgecolors=MODEL, label="so far", zorder=3
        )
        guessed = part.filter(pl.col("estimate").is_not_null())
        axes.plot(guessed["window_start"], guessed["estimate"].to_numpy(), color=OTHERS[2], linewidth=1.0, dashes=(3, 2), label="estimate")
        plain_rows = known.filter(pl.col("baseline").is_not_null())
        axes.plot(plain_rows["window_start"], plain_rows["baseline"].to_numpy(), color=OTHERS[1], linewidth=0.9, label="baseline")
        begin = part["window_start"].min()
        if rows["model_version"].n_unique() > 1 and begin is not None:
            axes.axvline(begin, color=OTHERS[0], linewidth=0.7)  # type: ignore[arg-type]
            axes.annotate(f"version {version}", (begin, 1), xycoords=("data", "axes fraction"), fontsize=7, va="top")
    plain(axes)
    axes.xaxis.set_major_locator(AutoDateLocator(maxticks=7))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]
    axes.xaxis.get_offset_text().set_fontsize(7)

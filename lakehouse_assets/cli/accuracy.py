"""`lakehouse accuracy`: how good the predictions of a model were, by window, as labels arrived."""

from pathlib import Path
from typing import Any

import click

from lakehouse_assets.cli.complete import MODELS
from lakehouse_assets.cli.shared import JSON, client, command
from lakehouse_assets.cli.terminal import add_row, grid, line, optional, print_json, print_paged, right, say

_WINDOWS = 20


@command()
@click.argument("model", shell_complete=MODELS)
@click.option("--every", type=click.Choice(["1d", "1w", "1mo"]), help="How long windows are; by default weeks, or else what there is.")
@click.option("--slice", "by_slice", metavar="COLUMN", help="Each value of this column by itself.")
@click.option("--by", type=click.Choice(["horizon"]), help="Each range of days ahead by itself, of a forecast.")
@click.option("--metric", help="One of the model's; by default the one by which the gate decides.")
@click.option("--limit", type=click.IntRange(1), default=_WINDOWS, show_default=True, help="How many windows, the newest.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Also draw it into this PNG file.")
@JSON
def accuracy(  # noqa: PLR0917 click passes them by name
    model: str, every: str | None, by_slice: str | None, by: Any, metric: str | None, limit: int, plot: Path | None, as_json: bool
) -> None:
    """How good the predictions of MODEL were, by window, as their outcomes became known.

    \b
    Examples:
      lakehouse accuracy order_fraud
      lakehouse accuracy order_fraud --slice method
      lakehouse accuracy revenue_forecast.models.daily_revenue --by horizon --plot accuracy.png
    """
    found = client().models.accuracy(model, every=every, by_slice=by_slice, by=by, metric=metric)
    starts = found.rows["window_start"].unique().sort().tail(limit)
    rows = found.rows.filter(found.rows["window_start"].is_in(starts.implode()))
    if plot is not None:
        plot.write_bytes(found.plot())
    if as_json:
        print_json(rows.to_dicts())
        return
    several = rows["predictions"].n_unique() > 1
    part = [by_slice] if by_slice is not None else ["days ahead"] if by == "horizon" else []
    numbers = ("interval", "baseline", "estimate")
    shown = grid(
        *(["predictions"] if several else []),
        "from",
        right("version"),
        *part,
        right(found.metric),
        *(right(name) for name in numbers),
        right("predictions" if not several else "rows"),
        right("with outcome"),
        optional("state"),
    )
    for row in rows.iter_rows(named=True):
        cell = row["slice_value"] if by_slice is not None else row["horizon"]
        add_row(
            shown,
            *([row["predictions"]] if several else []),
            f"{row['window_start']:%Y-%m-%d}",
            row["model_version"],
            *(["" if cell is None else cell] if part else []),
            _number(row["value"]),
            "" if row["low"] is None else f"{_number(row['low'])} to {_number(row['high'])}",
            _number(row["baseline"]),
            _number(row["estimate"]),
            f"{row['rows']:,}",
            f"{row['coverage']:.0%}",
            "provisional" if row["provisional"] else "",
        )
    title = line((found.model, "bold"), f": {found.metric} by {_WORDS[found.every]}{_WAYS[found.lower_is_better]}")
    print_paged(title, shown, *([line((_PROVISIONAL, "dim"))] if rows["provisional"].any() else []))
    if plot is not None:
        say("Drawn: ", (str(plot), "bold"))


_WAYS = {True: ", lower is better", False: ", higher is better", None: ""}
_WORDS = {"1d": "day", "1w": "week", "1mo": "month"}
_PROVISIONAL = "provisional: outcomes are still to come, and the estimate says what is to be expected if the probabilities are right"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"

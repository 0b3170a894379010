"""How good the predictions of a model were as their outcomes became known: what the pages show of it. It is worked out by monitors."""

from datetime import timedelta
from typing import Any, Final

import polars as pl

from lakehouse_assets.client import Client
from lakehouse_assets.client.accuracy import LiveAccuracyOf
from lakehouse_assets.platform.wording import counted
from lakehouse_assets.views.blocks import Block, Curves, Figure, Note, Rows, Tone, filled, rounded

_WINDOWS: Final = 12


def _accuracy(lake: Client, name: str) -> LiveAccuracyOf | None:
    """How good predictions were as their outcomes became known; None where nothing watches it."""
    try:
        found = lake.models.accuracy(name)
    except LookupError:
        return None
    return found if found.rows.height else None


def live(lake: Client, name: str) -> list[Block]:
    """Live accuracy by window, the newest first, with its interval and what a baseline would have got."""
    found = _accuracy(lake, name)
    if found is None:
        return [
            Note("Its live accuracy is not watched: a monitor of the kind `LiveAccuracy` of its predictions does it, see docs/accuracy.md.")
        ]
    rows = found.rows.sort("window_start", "model_version", descending=True)
    shown = pl.DataFrame([_window(row, found.metric) for row in rows.head(_WINDOWS).to_dicts()], infer_schema_length=None)
    known = found.rows.filter(pl.col("value").is_not_null()).sort("window_start")
    chart = [_over_time(known, found.metric)] if known["window_start"].n_unique() > 1 else []
    return [Rows(f"Live accuracy: {found.metric} by window of {found.every}, the newest first", filled(shown)), *chart]


def _over_time(known: pl.DataFrame, metric: str) -> Curves:
    """A line for each version, and one for what each was compared with: its baseline was fitted to what the version had learnt from."""
    with_baseline = known.filter(pl.col("baseline").is_not_null())
    several = with_baseline["model_version"].n_unique() > 1
    baseline = pl.format("baseline of version {}", "model_version") if several else pl.lit("baseline")
    day, none = pl.col("window_start").alias("at"), pl.lit(None, pl.Float64)
    version = pl.format("version {}", "model_version").alias("line")
    lines = pl.concat(
        [
            known.select(day, "value", version, "low", "high"),
            with_baseline.select(day, pl.col("baseline").alias("value"), baseline.alias("line"), low=none, high=none),
        ]
    )
    dashed = tuple(name for name in lines["line"].unique(maintain_order=True) if name.startswith("baseline"))
    band = "the interval in which the measure most likely lies"
    return Curves("Live accuracy over time", lines, metric, dashed=dashed, time="begin of the window", band=band, windows=True)


def _window(row: dict[str, Any], metric: str) -> dict[str, Any]:
    value = row["value"]
    state = "no outcome is known yet" if value is None else "provisional: outcomes still come" if row["provisional"] else "final"
    low, high = row["low"], row["high"]
    return {
        "window": f"{row['window_start']:%Y-%m-%d} to {row['window_end'] - timedelta(microseconds=1):%Y-%m-%d}",
        "version": row["model_version"],
        metric: None if value is None else rounded(value),
        "interval": None if low is None or high is None else f"{low:.4g} to {high:.4g}",
        "baseline": None if row["baseline"] is None else rounded(row["baseline"]),
        "estimate without outcomes": None if row["estimate"] is None else rounded(row["estimate"]),
        "rows": row["rows"],
        "with outcome": row["labelled"],
        "state": state,
    }


def newest_accuracy(lake: Client, name: str) -> Figure | None:
    """The newest live accuracy of a model that is known; None where nothing watches it."""
    found = _accuracy(lake, name)
    if found is None:
        return None
    label = f"Live {found.metric} of {name.rsplit('.', 1)[-1]}"
    newest = max((row for row in found.rows.to_dicts() if row["value"] is not None), key=lambda row: row["window_start"], default=None)
    if newest is None:
        last = max(found.rows.to_dicts(), key=lambda row: row["window_start"])
        guess = "" if last["estimate"] is None else f"; estimated {last['estimate']:.4g}"
        return Figure(label, "not known yet", f"no outcome of {counted(last['rows'], 'row')} has come{guess}")
    parts = [
        f"week of {newest['window_start']:%Y-%m-%d}" if found.every == "1w" else f"{found.every} from {newest['window_start']:%Y-%m-%d}"
    ]
    if newest["low"] is not None and newest["high"] is not None:
        parts.append(f"{newest['low']:.4g} to {newest['high']:.4g}")
    if newest["baseline"] is not None:
        parts.append(f"baseline {newest['baseline']:.4g}")
    if newest["provisional"]:
        parts.append("provisional")
    return Figure(label, f"{newest['value']:.4g}", ", ".join(parts), _tone(newest, found.lower_is_better))


def _tone(row: dict[str, Any], lower_is_better: bool | None) -> Tone:  # noqa: FBT001 unknown where the metric is no longer declared
    """Whether it is better than its baseline."""
    if row["baseline"] is None or lower_is_better is None:
        return "plain"
    return "good" if (row["value"] < row["baseline"]) == lower_is_better else "warn"

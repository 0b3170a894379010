"""What speaks for a training: failed verdicts about a champion, new labels, a span of time that is over. All of it is pure.

Where verdicts, importances and counts come from is in `standing`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations.monitors import AlertRule
from lakehouse_assets.platform.monitoring.drift.drift_verdicts import SHARE_OF
from lakehouse_assets.platform.monitoring.retraining.decision import NEW_LABELS, SCHEDULE, Reason
from lakehouse_assets.platform.monitoring.verdicts import is_ahead
from lakehouse_assets.platform.wording import counted, slice_in_words, span

_DRIFT: Final = "drift"
_MANY: Final = 1_000
_TOO_LONG: Final = 1e15
"""From here on numbers are told without decimals."""
_ONE: Final = ("monitor", "kind", "table", "column_name", "slice_key", "slice_value", "granularity", "model_version")
"""What tells the things apart of which a monitor speaks, window by window: several metrics of one are one matter, bad if one is."""


def failing(verdicts: pl.DataFrame, rules: Mapping[str, AlertRule], champion: int | None) -> list[dict[str, Any]]:
    """The newest verdicts that are bad, as rows of their table: those of as many windows in a row as the monitor's rule wants.

    Of several verdicts about one window the last counts. What says nothing, speaks of too few rows, of a window that has not begun, or of a
    version that is not the champion, does not count at all.

    Args:
        verdicts: Since the last training.
        rules: By monitor.
        champion: The version that is champion.
    """
    counting = verdicts.filter(
        pl.col("passed").is_not_null(),
        ~is_ahead(),
        pl.col("model_version").is_null() | pl.col("model_version").eq_missing(pl.lit(champion, dtype=pl.Int64)),
    )
    found = []
    for (monitor, *_), rows in counting.group_by(*_ONE, maintain_order=True):
        rule = rules.get(str(monitor), AlertRule())
        known = rows.filter(pl.col("rows").is_null() | (pl.col("rows") >= rule.least_rows))
        last = known.with_columns(_until=pl.coalesce("window_end", "evaluated_at"), _order=pl.col("sequence").fill_null(0))
        for part in ("_order", "evaluated_at"):
            last = last.filter(pl.col(part) == pl.col(part).max().over("_until"))
        windows = last.group_by("_until").agg(pl.col("passed").all()).sort("_until").tail(rule.consecutive)
        if windows.height == rule.consecutive and not windows["passed"].any():
            bad = last.filter(pl.col("_until") == windows["_until"][-1], ~pl.col("passed"))
            found.append(bad.drop("_until", "_order").row(-1, named=True))
    return found


def of_verdicts(rows: list[dict[str, Any]], importance: Callable[[str, str], float | None], important: float) -> list[Reason]:
    """Bad verdicts as reasons: what is no drift first, then drift by importance. Drift of what hardly matters is none.

    Args:
        rows: As `failing` gives them.
        importance: Of a column of a table for the champion, a share; None: it is not known.
        important: The least that counts.
    """
    found = []
    for row in rows:
        share = _share(row, importance)
        if share is not None and share < important:
            continue
        parts = ("evaluated_at", "window_start", "window_end", "slice_key", "slice_value", "column_name", "metric", "value", "threshold")
        kept = {name: row[name] for name in parts}
        found.append(Reason(row["kind"], _sentence(row, share), row["monitor"], importance=share, **kept))
    return sorted(found, key=lambda one: (one.cause == _DRIFT, -(1.0 if one.importance is None else one.importance), one.text))


def unheeded(
    rows: pl.DataFrame,
    rules: Mapping[str, AlertRule],
    champion: int | None,
    importance: Callable[[str, str], float | None],
    important: float,
) -> list[str]:
    """The newest verdicts that are bad and yet no reason, each with why: sentences without their full stop.

    Args:
        rows: Since the last training.
        rules: By monitor.
        champion: The version that is champion.
        importance: As `of_verdicts`.
        important: As `of_verdicts`.
    """
    heeded = [[row[name] for name in _ONE] for row in failing(rows, rules, champion)]
    versions = [None, *rows["model_version"].drop_nulls().unique().sort()]
    bad = {tuple(row[name] for name in _ONE): row for version in versions for row in failing(rows, {}, version)}
    found = []
    for one, row in bad.items():
        rule, share, version = rules.get(row["monitor"], AlertRule()), _share(row, importance), row["model_version"]
        if version is not None and version != champion:
            why = f"it is of version {version}, which is not champion"
        elif row["rows"] is not None and row["rows"] < rule.least_rows:
            why = f"it is of fewer rows than the {rule.least_rows:,} of alert="
        elif [*one] not in heeded:
            why = f"{counted(rule.consecutive, 'window')} in a row of enough rows have to fail, as alert= says"
        elif share is not None and share < important:
            why = f"predictions owe {important:.2%} at least to what counts, as important= says"
        else:
            continue
        found.append(f"{_sentence(row, share)}: no reason, as {why}")
    return sorted(found)


def _share(row: Mapping[str, Any], importance: Callable[[str, str], float | None]) -> float | None:
    """What the champion owes to what drifted, a share; None: it is not known, or the matter is no drift.

    Of all columns together it is the mean of those by which rows are told from the baseline's, by how much each tells.
    """
    if row["kind"] != _DRIFT:
        return None
    if row["column_name"]:
        return importance(row["table"], row["column_name"])
    told = {name.removeprefix(SHARE_OF): share for name, share in json.loads(row["numbers"] or "{}").items() if name.startswith(SHARE_OF)}
    known = {name: importance(row["table"], name) for name in told}
    if all(one is None for one in known.values()) or not sum(told.values()):
        return None
    return float(sum(share * (1.0 if (one := known[name]) is None else one) for name, share in told.items()) / sum(told.values()))


def of_labels(new: int | None, wanted: int | None) -> Iterator[Reason]:
    """A reason if enough new labels have come."""
    if new is not None and wanted is not None and new >= wanted:
        text = f"{counted(new, 'new label')} since the last training (threshold {wanted:,})"
        yield Reason(NEW_LABELS, text, metric="new_labels", value=float(new), threshold=float(wanted))


def of_time(trained_at: datetime | None, every: timedelta | None, now: datetime) -> Iterator[Reason]:
    """A reason if the declared span since the last training is over, or there was none."""
    if every is None:
        return
    days, wanted = None if trained_at is None else (now - trained_at) / timedelta(days=1), every / timedelta(days=1)
    if days is None:
        yield Reason(SCHEDULE, f"It was not trained yet, and is to be every {span(every)}", metric="days", threshold=wanted)
    elif not 0 <= days < wanted:
        text = f"The last training was {span(timedelta(days=days))} ago, and it is to be trained every {span(every)}"
        yield Reason(SCHEDULE, text, metric="days", value=days, threshold=wanted)


def _sentence(row: Mapping[str, Any], share: float | None) -> str:
    """A verdict as a sentence: monitor, what was judged, value, threshold, window."""
    what = " of ".join(word for word in (row["metric"], row["column_name"]) if word)
    limit = "" if row["threshold"] is None else f" (threshold {_number(row['threshold'])})"
    measured = f"{what} was {_number(row['value'])}{limit}" if row["metric"] and row["value"] is not None else str(row["text"]).rstrip(".")
    parts = [measured]
    if row["slice_key"]:
        parts.append(slice_in_words(row["slice_key"], row["slice_value"]))
    if row["window_start"] is not None and row["window_end"] is not None:
        parts.append(f"window {_moment(row['window_start'])} to {_moment(row['window_end'])}")
    else:
        parts.append(f"evaluated at {_moment(row['evaluated_at'])}")
    if row["kind"] == _DRIFT and (row["column_name"] or share is not None):
        parts.append("importance unknown" if share is None else f"importance {share:.0%}")
    return f"{row['monitor']} failed: {', '.join(parts)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if _MANY <= abs(value) < _TOO_LONG else f"{value:.4g}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d}" if at.time() == at.min.time() else f"{at:%Y-%m-%d %H:%M}"

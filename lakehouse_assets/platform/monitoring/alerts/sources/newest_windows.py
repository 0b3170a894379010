"""What monitors said of the newest window of each matter, evaluation by evaluation, and which windows are told too late to count.

It follows `verdicts.latest` over the commits that are read, so that it does not matter how many are read at once. What an alert makes of a
window is in `machine`.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lakehouse_assets.platform.declarations.monitors import OVER
from lakehouse_assets.platform.monitoring.verdicts import FIRST_ZONE, MATTER

Row = Mapping[str, Any]
Matter = tuple[Any, ...]
"""What a verdict is about, with the table's id and the length of the window."""
Window = tuple[Matter, datetime]
"""A matter and the begin of a window of it."""


@dataclass(frozen=True)
class _Said:
    """What was said of a window last.

    Attributes:
        window: Its begin.
        is_bad: Whether it is bad.
        column: The matter of the column with which the slice failed; None: it failed by itself, or is no slice.
    """

    window: datetime
    is_bad: bool
    column: Matter | None = None


class NewestWindows:
    """What is said of the newest window of each matter.

    Args:
        by_window: The monitors that judge only windows that changed; each judgement of another one is all that holds.
        held: The rows that held before the first evaluation.
        with_column: Those of them that are slices which failed with their column.
    """

    def __init__(self, by_window: Collection[str], held: Iterable[Row] = (), with_column: Iterable[Row] = ()) -> None:
        self._by_window = by_window
        self._said: dict[str, dict[Matter, _Said]] = {}
        folded = {matter_in_table(row) for row in with_column}
        for row in held:
            if row["monitor"] in by_window and _has_begun(row):
                said, matter = self._said.setdefault(row["monitor"], {}), matter_in_table(row)
                is_bad = row["passed"] is False or (matter in said and said[matter].is_bad)
                said[matter] = _Said(row["window_start"], is_bad, _column(row) if matter in folded else None)

    def take(self, said: Sequence[Row]) -> set[Window]:
        """Take what one evaluation said.

        Args:
            said: Its rows.

        Returns:
            Matters and windows that are well, while a newer window is bad that was said to be so before: that is still, and they tell
            nothing of how it is now.
        """
        monitor, is_redeclared = said[0]["monitor"], said[0]["sequence"] == said[0]["declaration"]
        if monitor not in self._by_window:
            return set()
        before = {} if is_redeclared else self._said.get(monitor, {})
        over = {matter_in_table(row)[: len(MATTER)] for row in said if row["passed"] and OVER in json.loads(row["numbers"] or "{}")}
        before = {matter: of for matter, of in before.items() if matter[: len(MATTER)] not in over}
        windows = _windows(said)
        newest = {matter: of[max(of)] for matter, of in windows.items()}
        after = before | {matter: of for matter, of in newest.items() if matter not in before or of.window >= before[matter].window}
        for matter, of in before.items():
            column = None if of.column is None else after.get(of.column)
            if column is not None and not column.is_bad and column.window >= of.window:
                before[matter] = replace(of, is_bad=False)  # it is over with its column
                after[matter] = before[matter] if after[matter] is of else after[matter]
        self._said[monitor] = after
        return {
            (shown, window)
            for shown, of in windows.items()
            if (known := before.get(shown)) is not None and known.is_bad and of.get(known.window, known).is_bad
            for window, one in of.items()
            if not one.is_bad and window < known.window
        }


def _windows(said: Sequence[Row]) -> dict[Matter, dict[datetime, _Said]]:
    """By matter and window what an evaluation said: bad if one of several metrics is."""
    failed = {(matter_in_table(row), row["window_start"]) for row in said if row["passed"] is False and not row["slice_key"]}
    found: dict[Matter, dict[datetime, _Said]] = {}
    for row in filter(_has_begun, said):
        of, start = found.setdefault(matter_in_table(row), {}), row["window_start"]
        is_folded = bool(row["slice_key"]) and row["passed"] is False and (_column(row), start) in failed
        one = of.get(start, _Said(start, is_bad=False))
        of[start] = _Said(start, one.is_bad or row["passed"] is False, _column(row) if is_folded else one.column)
    return found


def _has_begun(row: Row) -> bool:
    """Whether it is about a window, and none that begins after it was judged."""
    return row["window_start"] is not None and row["window_start"] <= row["evaluated_at"] + FIRST_ZONE


def matter_in_table(row: Row) -> Matter:
    """What a verdict is about, with the table's id and the length of the window."""
    return (*(row[name] for name in MATTER), row["table_id"], row["granularity"])


def _column(row: Row) -> Matter:
    """The matter of the column of a slice."""
    return matter_in_table({**row, "slice_key": None, "slice_value": None})

"""Values that a baseline has in each of its windows and a window has not: a shop that sends no rows any more, a product nobody buys.

Such a value may be too rare to move a distance. Whether it is missing by chance is told by how many rows of it were to be expected, and by
how much that number varies from window to window of the baseline. Distances are in `column_distances`, thresholds in `thresholds`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.monitoring.drift.distances import Array
from lakehouse_assets.platform.monitoring.drift.thresholds import LEAST_ROWS
from lakehouse_assets.platform.monitoring.profiling.cells import Texts
from lakehouse_assets.platform.monitoring.profiling.counting import Column
from lakehouse_assets.platform.monitoring.profiling.profile import ITEM, TABLE, Profile

VANISHED: Final = "vanished_items"
PERCENT: Final = "percent_vanished"
VANISHED_SCHEMA: Final = pl.List(ITEM)
LEAST_WINDOWS: Final = 8
_MATTER: Final = ("window_start", "slice_key", "slice_value", "column_name")
# Of the false alarms of one test of a column: so few that the promised rates of all tests together hold as they are.
_PART: Final = 0.01
# Few windows do not tell how much a number varies: by so many over their number its variance is raised.
_UNKNOWN: Final = 25
# The same where rows may come in batches: by so many over the square of their number. Found by simulation of 8 to 30 windows.
_UNKNOWN_OF_BATCHES: Final = 250
_MOST_ITEMS: Final = 20
Slices = dict[tuple[str | None, str | None], pl.DataFrame]
"""By key and value of a slice, its groups."""


def with_vanished(found: pl.DataFrame, profile: Profile, baseline: Profile, rates: Mapping[str, float]) -> pl.DataFrame:
    """The drift of windows from a baseline, with what vanished: `vanished_items`, `percent_vanished`, and a test among `thresholds`.

    The value of the test is the number of rows that were to be expected of the item that is missed most, its threshold the number from
    which on quiet windows lack an item that seldom. Only items that each window of the baseline has since they first came are tested.

    Args:
        found: Of all windows, as `drift` gives them, all compared with the baseline.
        profile: Of the windows.
        baseline: Counted in blocks; one without blocks tells nothing.
        rates: Of each column the false-alarm rate of one test.
    """
    if baseline.blocks is None:
        return found
    slices = _slices(profile.keys), _slices(baseline.block_keys)
    hits = [hit for name, rate in rates.items() for hit in _of_column(name, profile, baseline, slices, _PART * rate)]
    if not hits:
        return found
    told = pl.DataFrame(hits, schema_overrides={name: found.schema[name] for name in (*_MATTER, VANISHED)}, infer_schema_length=None)
    of_tables = told.select(_MATTER[:3]).unique().with_columns(column_name=pl.lit(TABLE), _any=pl.lit(value=True))
    told = pl.concat([told.with_columns(_any=pl.lit(value=True)), of_tables], how="diagonal")
    joined = found.drop(VANISHED, PERCENT).join(told, on=_MATTER, how="left", nulls_equal=True, maintain_order="left")
    one = pl.concat_list(pl.col("test").cast(found.schema["thresholds"].inner))  # type: ignore[attr-defined]
    thresholds = pl.when(pl.col("test").is_null()).then("thresholds").otherwise(pl.concat_list(pl.col("thresholds").fill_null([]), one))
    return joined.with_columns(thresholds=thresholds, drifted=pl.col("_any").fill_null(value=False) | pl.col("drifted")).select(
        found.columns
    )


def _of_column(name: str, profile: Profile, baseline: Profile, slices: tuple[Slices, Slices], rate: float) -> Iterator[dict[str, Any]]:
    """What vanished of a column, for each window and slice that lacks something."""
    of_windows, of_blocks = slices
    new, old = profile.columns.get(name), baseline.columns.get(name)
    if new is None or old is None or new.cells != old.cells or not _has_items(old):
        return
    items = old.cells.items()
    for (key, value), groups in of_windows.items():
        blocks = of_blocks.get((key, value))
        if blocks is None:
            continue
        blocks = blocks.filter(pl.col("window_start").is_not_null()).sort("window_start")
        expected = _Expected(old.blocks[blocks["at"].to_numpy()], [cell for cell, _ in items], rate / len(items))
        counts = new.counts[groups["at"].to_numpy()]
        rows = counts[:, :-2].sum(axis=1)
        lacks = (counts[:, expected.cells] == 0) & (rows >= LEAST_ROWS)[:, None] & expected.is_steady
        for at in np.flatnonzero(lacks.any(axis=1)):
            gone = []
            for place in np.flatnonzero(lacks[at]).tolist():
                share, least = expected.of(place)
                if rows[at] * share > least:
                    gone.append((rows[at] * share, least, share, items[place][1]))
            if gone:
                gone.sort(key=lambda one: (-one[0], one[3]))
                about = dict(zip(_MATTER, (groups["window_start"][int(at)], key, value, name), strict=True))
                yield about | _columns_of_row(gone, rate)


def _columns_of_row(gone: list[tuple[float, float, float, str]], rate: float) -> dict[str, Any]:
    """The columns of a row: the items with the rows that were to be expected, the most missed first."""
    test = {"metric": VANISHED, "value": gone[0][0], "threshold": gone[0][1], "false_alarm_rate": rate, "exceeded": True}
    items = [{"item": item, "count": round(expected)} for expected, _, _, item in gone[:_MOST_ITEMS]]
    return {VANISHED: items, PERCENT: 100 * sum(share for _, _, share, _ in gone), "test": test}


class _Expected:
    """How many rows of each item windows have.

    Args:
        blocks: Counts of the windows of a baseline in all cells, in order.
        cells: Those of the items.
        rate: How often a quiet window may lack one of them that is said to have vanished.
    """

    def __init__(self, blocks: Array, cells: list[int], rate: float) -> None:
        self.cells = np.array(cells, dtype=np.intp)
        rows = blocks[:, :-2].sum(axis=1)
        usable = rows >= LEAST_ROWS
        self._rows, self._counts, self._rate = rows[usable], blocks[usable][:, self.cells], rate
        has = self._counts > 0
        self._first = has.argmax(axis=0) if len(has) else np.zeros(len(cells), dtype=np.intp)
        windows = len(has) - self._first
        self.is_steady = (has.sum(axis=0) == windows) & (windows >= LEAST_WINDOWS)
        self._known: dict[int, tuple[float, float]] = {}

    def of(self, place: int) -> tuple[float, float]:
        """The share of an item, and the number of expected rows from which on quiet windows lack it that seldom."""
        if place not in self._known:
            self._known[place] = self._of(self._counts[self._first[place] :, place], self._rows[self._first[place] :])
        return self._known[place]

    def _of(self, counts: Array, rows: Array) -> tuple[float, float]:
        share, windows = float(counts.sum() / rows.sum()), len(rows)
        by_chance = 1 / (rows * share)
        seen = float(np.mean((counts * by_chance - 1) ** 2)) * windows / (windows - 1)
        varies = seen * (1 + _UNKNOWN / windows)
        # Numbers that vary more than by chance may be negative binomial: a window has none with (1 + beyond * mean)^(-1 / beyond).
        beyond = max(varies - float(by_chance.mean()), 1e-9)
        with np.errstate(over="ignore"):
            least = float(np.expm1(-beyond * np.log(self._rate)) / beyond)
        # Or rows come in batches of so many, and a window has none with e^(-mean / batch): the same variance, and far more often none.
        batch = seen * (1 + _UNKNOWN_OF_BATCHES / windows**2) / float(by_chance.mean())
        least = max(least, -batch * float(np.log(self._rate)))
        # The share itself is only about right.
        return share, least / max(1 - 2 * float(np.sqrt(varies / windows)), 1e-9)


def _has_items(column: Column) -> bool:
    """Whether its cells of one value each are values that people name: texts, Booleans and whole numbers."""
    return bool(column.cells.items()) and (isinstance(column.cells, Texts) or column.dtype.is_integer())


def _slices(keys: pl.DataFrame) -> Slices:
    """The groups of each slice, with their places under `at`."""
    parts = keys.with_row_index("at").partition_by("slice_key", "slice_value", as_dict=True, maintain_order=True)
    return {(key, value): part for (key, value), part in parts.items()}

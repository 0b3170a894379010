"""Which windows are taken as quiet: those of a baseline, or those of the profile itself where there is none."""

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from lakehouse_assets.platform.monitoring.drift import calibration as calibrating
from lakehouse_assets.platform.monitoring.drift.calibration import Calibration, Quiet, parts
from lakehouse_assets.platform.monitoring.drift.thresholds import Independent, false_alarm_rate
from lakehouse_assets.platform.monitoring.profiling.cells import Counts
from lakehouse_assets.platform.monitoring.profiling.counting import Column
from lakehouse_assets.platform.monitoring.profiling.profile import Profile

Slice = tuple[str | None, str | None]
_LEAST_STRETCHES = 16
_BASELINE = "BASELINE"


class Calibrations:
    """The thresholds of each kind of comparison and each slice, made when they are first asked for.

    Args:
        profile: Whose windows are compared.
        baseline: With what; None: with each other.
        kinds: Of comparison that there are.
        untested: Columns that no threshold is asked for: the false alarms of the whole table are those of the others.
    """

    def __init__(self, profile: Profile, baseline: Profile | None, kinds: Collection[str], untested: Collection[str] = ()) -> None:
        self._profile, self._baseline, self._kinds = profile, baseline, max(len(kinds), 1)
        self._tested = {name: column for name, column in profile.columns.items() if name not in untested}
        self._independent = Independent()
        # All slices of a window together may alarm as seldom as the whole table.
        keys = (baseline or profile).keys
        self._slices = 1 + len(keys.filter(pl.col("slice_key").is_not_null()).select("slice_key", "slice_value").unique())
        self._known: dict[tuple[str, Slice], Calibration] = {}
        self._bases: dict[tuple[Slice, str], dict[str, Counts]] = {}

    def of(self, kind: str, of_slice: Slice, column: str, test: str) -> tuple[Calibration, Counts] | None:
        """The calibration of a slice, and the counts that quiet windows of a column are resampled from.

        None if the baseline has no such slice or column, or none with the same test: which windows are profiled together must not decide
        whether something is tested.
        """
        source = self._profile if self._baseline is None else self._baseline
        if not self._has(source, of_slice, column):
            return None
        if (kind, of_slice) not in self._known:
            self._known[kind, of_slice] = self._made(kind, of_slice, source)
        if (of_slice, column) not in self._bases:
            self._bases[of_slice, column] = dict(self._parts(source.columns[column], self._total(source, of_slice, column)))
        return self._known[kind, of_slice], self._bases[of_slice, column][test]

    @cached_property
    def rates(self) -> Mapping[str, float]:
        """Of each column the false-alarm rate of one test."""
        return {
            name: false_alarm_rate(len(self._tested), self._kinds * len(self._parts(column, column.counts[0])), self._slices)
            for name, column in self._tested.items()
        }

    def _has(self, source: Profile, of_slice: Slice, column: str) -> bool:
        known = source.columns.get(column)
        return known is not None and known.cells.test == self._tested[column].cells.test and _groups(source.keys, of_slice).height > 0

    def _total(self, source: Profile, of_slice: Slice, column: str) -> Counts:
        found: Counts = source.columns[column].counts[_groups(source.keys, of_slice)["at"].to_numpy()].sum(axis=0)
        return found

    def _made(self, kind: str, of_slice: Slice, source: Profile) -> Calibration:
        is_base = source is self._baseline
        names = [name for name in self._tested if name in source.columns]
        rates = self.rates
        common: dict[str, Any] = {"tables": self._kinds * self._slices, "kinds": self._kinds, "independent": self._independent}
        if is_base and source.blocks is None:
            return Calibration(None, rates, frozenset(name for name in names if source.columns[name].dtype.is_temporal()), **common)
        groups = _groups(source.block_keys if is_base else source.keys, of_slice).sort("window_start")
        groups = groups.filter(pl.col("window_start").is_not_null())
        at = groups["at"].to_numpy()
        follows = np.ones(len(at), dtype=bool)
        if is_base and source.blocks is not None:
            follows = source.blocks.follows[groups["window_start"].to_numpy()] & (
                np.diff(groups["window_start"].to_numpy(), prepend=-1) == 1
            )
            if source.blocks.every is not None and len(at) == len(source.blocks.bounds):
                follows = np.ones(len(at), dtype=bool)
        times = self._merges(source, of_slice, len(at)) if is_base else 0
        quiet: dict[tuple[str, str], Quiet] = {}
        moving = set()
        for name in names:
            column = source.columns[name]
            windows = (column.blocks if is_base else column.counts)[at]
            for _ in range(times):
                windows = windows[: len(windows) // 2 * 2]
                windows = windows[::2] + windows[1::2]
            joined = follows if not times else np.ones(len(windows), dtype=bool)
            total = dict(self._parts(column, self._total(source, of_slice, name)))
            for test, counts in self._parts(column, windows):
                of_values = test == column.cells.test
                rest = calibrating.from_rest(test, counts, total[test]) if is_base and (kind == _BASELINE or of_values) else None
                if kind == _BASELINE and rest is not None:
                    quiet[name, test] = rest
                else:
                    quiet[name, test] = calibrating.from_before(test, counts, joined, total[test], trimmed=not is_base)
                if of_values and (
                    (rest is not None and calibrating.moves(rest, counts))
                    or (kind != _BASELINE and calibrating.moves_on(quiet[name, test]))
                ):
                    moving.add(name)
        windows_are = f"pairs of windows of {source.groups.every}"
        if is_base and source.blocks is not None:
            windows_are = "stretches of time" if source.blocks.every is None else f"windows of {source.blocks.every}"
        return Calibration(quiet, rates, frozenset(moving), windows_are, **common)

    def _parts(self, column: Column, counts: Counts) -> list[tuple[str, Counts]]:
        """The counts in the cells of each test; a column is one of floats if it is so on one side."""
        sides = (one.columns.get(column.name) for one in (self._profile, self._baseline) if one is not None)
        floats = any(one is not None and "Float" in str(one.dtype) for one in sides)
        return list(parts(counts, column.cells.test, floats=floats))

    def _merges(self, source: Profile, of_slice: Slice, blocks: int) -> int:
        """How often neighbouring stretches are joined, so that they are about as long as what is compared."""
        if source.blocks is None or source.blocks.every is not None or not blocks:
            return 0
        column = next(iter(source.columns))
        rows = self._profile.columns.get(column, next(iter(self._profile.columns.values()))).counts.sum() / max(
            self._profile.keys.height, 1
        )
        a_block, times = self._total(source, of_slice, column).sum() / blocks, 0
        while rows >= 2 * a_block * 2**times and blocks >> (times + 1) >= _LEAST_STRETCHES:
            times += 1
        return times


def _groups(keys: pl.DataFrame, of_slice: Slice) -> pl.DataFrame:
    """The groups of a slice, with their places under `at`."""
    key, value = of_slice
    return keys.with_row_index("at").filter(pl.col("slice_key").eq_missing(pl.lit(key)), pl.col("slice_value").eq_missing(pl.lit(value)))

"""Drift: how the windows of a profile differ from a baseline and from the window before, as a frame like that of the profile.

The names are those of the drift metrics table of Databricks' data profiling (docs.databricks.com, "Data profiling metric tables"): the
columns that say what a row is about, `drift_type` (`BASELINE` or `CONSECUTIVE`), `count_delta`, `avg_delta`, `percent_null_delta`,
`percent_zeros_delta`, `percent_distinct_delta`, `non_null_columns_delta` (of the row `:table`), of numbers `ks_test`,
`wasserstein_distance` and `population_stability_index`, of texts and Booleans `js_distance`, `chi_squared_test`, `tv_distance` and
`l_infinity_distance`, and the index too. Its `window_cmp` is `window_cmp_start` and `window_cmp_end` here. `avg_cmp`, `percent_nan_delta`,
`schema_change`, `unseen_items`, `percent_unseen`, `vanished_items`, `percent_vanished`, `thresholds`, `drifted` and `not_tested` are
ours. Deltas are the new less the old, percents from 0 to 100. Distances of a column are in `column_distances`, what vanished in `vanished`.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from lakehouse_assets.platform.monitoring.drift.calibration import parts
from lakehouse_assets.platform.monitoring.drift.column_distances import UNSEEN_SCHEMA, Sides
from lakehouse_assets.platform.monitoring.drift.quiet import Calibrations
from lakehouse_assets.platform.monitoring.drift.thresholds import DOMAIN, LEAST_ROWS
from lakehouse_assets.platform.monitoring.drift.vanished import PERCENT as PERCENT_VANISHED
from lakehouse_assets.platform.monitoring.drift.vanished import VANISHED, VANISHED_SCHEMA, with_vanished
from lakehouse_assets.platform.monitoring.profiling.cells import LEVELS
from lakehouse_assets.platform.monitoring.profiling.counting import Column
from lakehouse_assets.platform.monitoring.profiling.profile import SCHEMA, TABLE, Profile

BASELINE, CONSECUTIVE = "BASELINE", "CONSECUTIVE"
_TEST = pl.Struct({"statistic": pl.Float64, "pvalue": pl.Float64})
_ABOUT = ("window_start", "window_end", "granularity", "slice_key", "slice_value", "column_name", "data_type")
_DELTAS = ("avg", "percent_null", "percent_nan", "percent_zeros", "percent_distinct")
DRIFT_SCHEMA = pl.Schema(
    {
        **{name: SCHEMA[name] for name in _ABOUT},
        "window_cmp_start": SCHEMA["window_start"],
        "window_cmp_end": SCHEMA["window_end"],
        "drift_type": pl.String(),
        "count_delta": pl.Int64(),
        **{f"{name}_delta": pl.Float64() for name in _DELTAS},
        "avg_cmp": pl.Float64(),
        "non_null_columns_delta": pl.Struct({"added": pl.Int64(), "missing": pl.Int64()}),
        "ks_test": _TEST,
        "wasserstein_distance": pl.Float64(),
        "population_stability_index": pl.Float64(),
        "js_distance": pl.Float64(),
        "chi_squared_test": _TEST,
        "tv_distance": pl.Float64(),
        "l_infinity_distance": pl.Float64(),
        "schema_change": pl.String(),
        "unseen_items": UNSEEN_SCHEMA,
        "percent_unseen": pl.Float64(),
        VANISHED: VANISHED_SCHEMA,
        PERCENT_VANISHED: pl.Float64(),
        DOMAIN: pl.Float64(),
        f"{DOMAIN}_columns": pl.List(pl.Struct({"column_name": pl.String(), "share": pl.Float64()})),
        "thresholds": pl.List(
            pl.Struct(
                {
                    "metric": pl.String(),
                    "value": pl.Float64(),
                    "threshold": pl.Float64(),
                    "false_alarm_rate": pl.Float64(),
                    "exceeded": pl.Boolean(),
                }
            )
        ),
        "drifted": pl.Boolean(),
        "not_tested": pl.String(),
    }
)
Array = npt.NDArray[Any]
KEY, OF_TIME, LEFT_OUT = "it is a key", "it is the column of time", "it is left out"
NOT_IN_BASELINE = "the baseline has none of it"
_WHERE = ("window_start", "window_end", "granularity", "slice_key", "slice_value")


def drift(
    profile: Profile,
    baseline: Profile | None = None,
    *,
    untested: Collection[str] = (),
    keys: Collection[str] = (),
    p_values: bool = False,
) -> pl.DataFrame:
    """The drift of each window and slice of a profile: from the baseline, if there is one, and from the last window before that has rows.

    Args:
        profile: Its cells are those of the baseline; a column whose cells differ has no distances.
        baseline: Without windows, with the same slices, and with blocks of the length of the profile's windows. Without one, thresholds
            come from the profile's own windows.
        untested: Columns that get no thresholds. Neither do the column of time, the values of keys, and what moves with time.
        keys: Columns that are keys, besides those whose values say so: how their values are distributed is not tested.
        p_values: Whether tests get their p-values. With many rows they tell that two samples differ, which is always so; thresholds tell
            whether it is more than usual.

    Returns:
        A row for each window, slice, kind of drift and column, as `DRIFT_SCHEMA` says. `drifted` is null where nothing was tested, and
        `not_tested` says why values were not.
    """
    pairs = [pairs for pairs in _pairs(profile, baseline) if len(pairs.new)]
    if not pairs:
        return pl.DataFrame(schema=DRIFT_SCHEMA)
    # As many kinds as there may be, so that a window's thresholds do not depend on which others are profiled with it.
    kinds = {BASELINE, CONSECUTIVE} if baseline is not None and profile.groups.every is not None else {one.kind for one in pairs}
    reasons = dict.fromkeys(untested, LEFT_OUT) | ({profile.groups.time: OF_TIME} if profile.groups.time else {})
    calibrations = Calibrations(profile, baseline, kinds, reasons)
    return (
        pl.concat(_Compare(one, profile, calibrations, reasons, frozenset(keys), p_values=p_values).frame() for one in pairs)
        .sort("order", maintain_order=True)
        .drop("order")
    )


class _Pairs:
    """Groups of a profile, each with what it is compared with: places in the order of both frames."""

    def __init__(self, kind: str, new: Sequence[int], old: Sequence[int], other: Profile) -> None:
        self.kind, self.other = kind, other
        self.new, self.old = np.array(new, dtype=np.intp), np.array(old, dtype=np.intp)


def _pairs(profile: Profile, baseline: Profile | None) -> list[_Pairs]:
    keys = _keys(profile)
    found = []
    if baseline is not None:
        places = {key[1:]: at for at, key in enumerate(_keys(baseline))}
        known = [(at, places[key[1:]]) for at, key in enumerate(keys) if key[1:] in places]
        found.append(_Pairs(BASELINE, [at for at, _ in known], [old for _, old in known], baseline))
    # Of a slice that has no rows in the window before, nothing is compared: an earlier window may not be among those that are profiled.
    starts = sorted({window for window, *_ in keys if window is not None})
    before, known_places = dict(pairwise(reversed(starts))), {key: at for at, key in enumerate(keys)}
    earlier = [(at, known_places.get((before.get(window), *of_slice))) for at, (window, *of_slice) in enumerate(keys) if window in before]
    following = [(at, old) for at, old in earlier if old is not None]
    return [*found, _Pairs(CONSECUTIVE, [at for at, _ in following], [old for _, old in following], profile)]


def _keys(profile: Profile) -> list[tuple[Any, ...]]:
    """Window, slice key and slice value of each group, in the order of the frame."""
    return profile.keys[profile.order].with_columns(pl.col("window_start").to_physical()).rows()


class _Compare:
    """Compares groups of a profile with others, a column at a time."""

    def __init__(
        self,
        pairs: _Pairs,
        profile: Profile,
        calibrations: Calibrations,
        reasons: Mapping[str, str],
        known_keys: frozenset[str],
        *,
        p_values: bool,
    ) -> None:
        self.pairs, self.profile, self.calibrations, self.reasons, self.p_values = pairs, profile, calibrations, reasons, p_values
        self.known_keys = known_keys
        self.new_groups, self.old_groups = profile.order[pairs.new], pairs.other.order[pairs.old]
        self.tables = self._about(profile, 0, pairs.new), self._about(pairs.other, 0, pairs.old)
        keys = profile.keys[profile.order][pairs.new]
        of_slice = list(zip(keys["slice_key"], keys["slice_value"], strict=True))
        places: dict[Any, list[int]] = {}
        for at, key in enumerate(of_slice):
            places.setdefault(key, []).append(at)
        self.slices = {key: np.array(found) for key, found in places.items()}

    def frame(self) -> pl.DataFrame:
        """The rows of all pairs: first that of the table, then one a column."""
        names = list(dict.fromkeys([*self.profile.columns, *self.pairs.other.columns]))
        columns = [self._column(name) for name in names]
        drifted = pl.concat([frame["drifted"].to_frame(f"c{number}") for number, frame in enumerate(columns)], how="horizontal")
        any_drifted = drifted.select(
            pl.when(pl.any_horizontal(pl.all().fill_null(value=False)))
            .then(pl.lit(value=True))
            .when(pl.any_horizontal(pl.all().is_not_null()))
            .then(pl.lit(value=False))
        ).to_series()
        new, old = (one["non_null_columns"] for one in self.tables)
        sets = pl.DataFrame({"new": new, "old": old})
        delta = sets.select(
            pl.struct(
                added=pl.col("new").list.set_difference("old").list.len().cast(pl.Int64),
                missing=pl.col("old").list.set_difference("new").list.len().cast(pl.Int64),
            )
        ).to_series()
        table = pl.DataFrame(
            {
                "column_name": [TABLE] * len(new),
                "count_delta": self.tables[0]["count"] - self.tables[1]["count"],
                "non_null_columns_delta": delta,
                "drifted": any_drifted,
            }
        )
        common = pl.DataFrame(
            {name: self.tables[0][name] for name in _WHERE}
            | {"window_cmp_start": self.tables[1]["window_start"], "window_cmp_end": self.tables[1]["window_end"]}
            | {"drift_type": [self.pairs.kind] * len(new), "order": self.pairs.new}
        )
        # Rows of one window stay together: those of one kind, the table first.
        missing_last = pl.concat(
            [pl.concat([common, _whole(frame)], how="horizontal").with_row_index("pair") for frame in (table, *columns)], how="vertical"
        ).sort("pair", maintain_order=True)
        if self.pairs.kind == BASELINE:
            missing_last = with_vanished(missing_last, self.profile, self.pairs.other, self.calibrations.rates)
        return missing_last.select(*(pl.col(name).cast(dtype) for name, dtype in DRIFT_SCHEMA.items()), "order")

    def _about(self, profile: Profile, number: int, places: Array) -> pl.DataFrame:
        """The rows of a profile's frame about one column."""
        return profile.frame.gather_every(len(profile.columns) + 1, number)[places]

    def _column(self, name: str) -> pl.DataFrame:
        new, old = self.profile.columns.get(name), self.pairs.other.columns.get(name)
        size = len(self.pairs.new)
        if new is None or old is None:
            dtype = (self.profile if old is None else self.pairs.other).columns[name].dtype
            about = [name, str(dtype), "missing" if new is None else "added", True]
            return pl.DataFrame([about] * size, schema=["column_name", "data_type", "schema_change", "drifted"], orient="row")
        places = [list(profile.columns).index(name) + 1 for profile in (self.profile, self.pairs.other)]
        rows = self._about(self.profile, places[0], self.pairs.new), self._about(self.pairs.other, places[1], self.pairs.old)
        change = None if new.dtype == old.dtype else f"{old.dtype} became {new.dtype}"
        frame = pl.DataFrame(
            {
                "column_name": [name] * size,
                "data_type": [str(new.dtype)] * size,
                "schema_change": pl.Series([change] * size, dtype=pl.String),
                "count_delta": rows[0]["count"] - rows[1]["count"],
                **{f"{part}_delta": rows[0][part] - rows[1][part] for part in _DELTAS},
                "avg_cmp": rows[1]["avg"],  # the delta from a far larger number does not tell it
            }
        )
        if new.cells != old.cells:
            return frame.with_columns(drifted=pl.lit(value=True if change else None), not_tested=pl.lit("its type changed"))
        groups = self.new_groups, self.old_groups
        sides = Sides(new, old, groups, rows, from_base=self.pairs.kind == BASELINE, p_values=self.p_values)
        frame = frame.with_columns(sides.distances())
        frame = frame.with_columns(self._tests(new, sides.counts, rows, frame))
        return frame.with_columns(drifted=pl.lit(value=True)) if change else frame

    # --- tests

    def _tests(
        self, column: Column, counts: tuple[Array, Array], rows: tuple[pl.DataFrame, pl.DataFrame], frame: pl.DataFrame
    ) -> list[pl.Series]:
        size = len(counts[0])
        reasons: list[str | None] = [self.reasons.get(column.name)] * size
        if column.name in self.reasons:
            return [pl.Series("drifted", [None] * size, dtype=pl.Boolean), pl.Series("not_tested", reasons, dtype=pl.String)]
        floats, found = "Float" in str(column.dtype), []
        new, old = (dict(parts(one, column.cells.test, floats=floats)) for one in counts)
        keys = _keys_of(rows[1]) if column.cells.test == "ks_test" else np.zeros(size, dtype=bool)
        keys |= column.name in self.known_keys
        for metric in new:
            value = frame[metric] if metric in frame.columns else pl.Series([None] * size, dtype=pl.Float64)
            value = value.struct.field("statistic") if value.dtype == pl.Struct else value
            skip = keys if metric == column.cells.test else np.zeros(size, dtype=bool)
            found.append(self._test_of(column, metric, (new[metric], old[metric]), value.cast(pl.Float64), skip=skip, reasons=reasons))
        if column.cells.test is None:
            reasons = [f"values of {column.dtype} are not compared"] * size
        together = pl.concat([one.to_frame(f"t{number}") for number, one in enumerate(found)], how="horizontal")
        listed = together.select(pl.concat_list(pl.all()).list.drop_nulls().alias("thresholds"))
        exceeded = listed.select(
            pl.col("thresholds").list.eval(pl.element().struct.field("exceeded")).list.drop_nulls().alias("all")
        ).select(pl.when(pl.col("all").list.len() > 0).then(pl.col("all").list.any()).alias("drifted"))
        return [listed["thresholds"], exceeded["drifted"], pl.Series("not_tested", reasons, dtype=pl.String)]

    def _test_of(
        self, column: Column, metric: str, sides: tuple[Array, Array], values: pl.Series, *, skip: Array, reasons: list[str | None]
    ) -> pl.Series:
        """What one test says of each pair; null where it has no value. Why values were not tested goes into `reasons`."""
        of_values, (new, old) = metric == column.cells.test, sides
        rows, compared = new.sum(axis=1), old.sum(axis=1)
        thresholds, rates, tested = np.full(len(rows), np.nan), np.zeros(len(rows)), values.is_not_null().to_numpy() & ~skip
        found = np.abs(values.fill_null(0).to_numpy())
        for of_slice, places in self.slices.items():
            calibrated = self.calibrations.of(self.pairs.kind, of_slice, column.name, metric)
            rate = self.calibrations.rates[column.name]
            for at in places:
                reason: str | None = KEY if skip[at] else None
                if tested[at] and calibrated is None:
                    reason = NOT_IN_BASELINE
                elif tested[at] and min(rows[at], compared[at]) < LEAST_ROWS:
                    reason = f"there are fewer than {LEAST_ROWS} rows"
                elif tested[at] and calibrated is not None:
                    calibration, base = calibrated
                    size = rows[at] * compared[at] / (rows[at] + compared[at])
                    threshold, reason = calibration.threshold(column.name, metric, base, size)
                    if threshold is not None and found[at] > threshold and self.pairs.kind == CONSECUTIVE:
                        # After a change windows are no longer those of the baseline: what both have together tells what chance does.
                        threshold = max(threshold, calibration.independent.threshold(metric, new[at] + old[at], size, rate))
                    thresholds[at] = np.nan if threshold is None else threshold
                rates[at] = rate
                if of_values and reason is not None:
                    reasons[at] = reason
        known = np.isfinite(thresholds)
        frame = pl.DataFrame(
            {
                "metric": [metric] * len(rows),
                "value": values,
                "threshold": pl.Series(thresholds).fill_nan(None),
                "false_alarm_rate": rates,
                "exceeded": pl.Series(found > thresholds).set(pl.Series(~known), None),
            }
        )
        return frame.to_struct().set(pl.Series(~tested), None) if not tested.all() else frame.to_struct()


def _keys_of(rows: pl.DataFrame) -> Array:
    """Whether about every row has a whole number of its own: a new one is always another."""
    is_key = pl.col("data_type").str.contains("Int") & (pl.col("count") > LEVELS) & (pl.col("percent_distinct") > 95)
    return rows.select(is_key.fill_null(value=False)).to_series().to_numpy()


def _whole(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns that are not about the window, all of them, in one order."""
    names = [name for name in DRIFT_SCHEMA if name not in {*_WHERE, "window_cmp_start", "window_cmp_end", "drift_type"}]
    known = [
        pl.col(name).cast(DRIFT_SCHEMA[name]) if name in frame.columns else pl.lit(None, DRIFT_SCHEMA[name]).alias(name) for name in names
    ]
    return frame.select(known)

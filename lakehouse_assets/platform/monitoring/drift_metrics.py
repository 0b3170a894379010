"""Drift: how the windows of a profile differ from a baseline and from the window before, as a frame like that of the profile.

The names are those of the drift metrics table of Databricks' data profiling (docs.databricks.com, "Data profiling metric tables"): the
columns that say what a row is about, `drift_type` (`BASELINE` or `CONSECUTIVE`), `count_delta`, `avg_delta`, `percent_null_delta`,
`percent_zeros_delta`, `percent_distinct_delta`, `non_null_columns_delta` (of the row `:table`), of numbers `ks_test`,
`wasserstein_distance` and `population_stability_index`, of texts and Booleans `js_distance`, `chi_squared_test`, `tv_distance` and
`l_infinity_distance`, and the index too. Its `window_cmp` is `window_cmp_start` and `window_cmp_end` here. `percent_nan_delta`,
`schema_change`, `unseen_items`, `percent_unseen`, `thresholds` and `drifted` are ours. Deltas are the new less the old, percents from 0 to
100.
"""

from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from lakehouse_assets.platform.monitoring import distances
from lakehouse_assets.platform.monitoring.cells import LEVELS, Cells, Numbers, Texts
from lakehouse_assets.platform.monitoring.profile import ITEM, SCHEMA, TABLE, Profile
from lakehouse_assets.platform.monitoring.thresholds import Thresholds, dependence, false_alarm_rate

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
        "non_null_columns_delta": pl.Struct({"added": pl.Int64(), "missing": pl.Int64()}),
        "ks_test": _TEST,
        "wasserstein_distance": pl.Float64(),
        "population_stability_index": pl.Float64(),
        "js_distance": pl.Float64(),
        "chi_squared_test": _TEST,
        "tv_distance": pl.Float64(),
        "l_infinity_distance": pl.Float64(),
        "schema_change": pl.String(),
        "unseen_items": pl.List(ITEM),
        "percent_unseen": pl.Float64(),
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
    }
)
Row = dict[str, Any]
Rows = dict[str, Row]


def drift(profile: Profile, baseline: Profile | None = None, *, untested: Collection[str] = (), p_values: bool = False) -> pl.DataFrame:
    """The drift of each window and slice of a profile: from the baseline, if there is one, and from the window before.

    Args:
        profile: Its cells are those of the baseline; a column whose cells differ has no distances.
        baseline: Without windows, and with the same slices. Without one, thresholds come from all windows of the profile together, and
            from its blocks.
        untested: Columns that get no thresholds. Neither do the column of time, the values of keys, of what moves with time, and of
            dates where no blocks tell whether they do.
        p_values: Whether tests get their p-values. With many rows they tell that two samples differ, which is always so; thresholds tell
            whether it is more than usual.

    Returns:
        A row for each window, slice, kind of drift and column, as `DRIFT_SCHEMA` says.
    """
    known = baseline if baseline is not None else profile
    thresholds = dependence(known.blocks, {name: cells.test for name, cells in known.cells.items()}, between_neighbours=baseline is None)
    compare = _Compare(profile.cells, known.cells, thresholds, {profile.time, *untested}, p_values=p_values)
    rows: list[Row] = []
    groups = _groups(profile.frame)
    whole: dict[tuple[Any, ...], dict[str, Any]] = {}
    for key, about in groups.items():
        of_slice = whole.setdefault(key[1:], {})
        for name, row in about.items():
            of_slice[name] = of_slice.get(name, 0) + _counts(row)
    bases = {} if baseline is None else {key[1:]: about for key, about in _groups(baseline.frame).items()}
    by_end = {(about[TABLE]["window_end"], *key[1:]): about for key, about in groups.items() if key[0] is not None}
    for key, about in groups.items():
        base = bases.get(key[1:])
        if base is not None:
            rows += compare.rows(about, base, {name: _counts(row) for name, row in base.items()}, BASELINE)
        before = by_end.get(key) if key[0] is not None else None
        if before is not None:
            known_counts = {name: _counts(row) for name, row in base.items()} if base is not None else whole[key[1:]]
            rows += compare.rows(about, before, known_counts, CONSECUTIVE)
    return pl.DataFrame(rows, schema=DRIFT_SCHEMA)


def _groups(frame: pl.DataFrame) -> dict[tuple[Any, ...], Rows]:
    """Each window and slice, with the rows about its columns."""
    counts = frame["cell_counts"]
    values, ends = counts.explode().drop_nulls().to_numpy(), np.cumsum(counts.list.len().fill_null(0).to_numpy())
    groups: dict[tuple[Any, ...], Rows] = {}
    for row, counted in zip(frame.drop("quantiles", "cell_counts").to_dicts(), np.split(values, ends[:-1]), strict=True):
        key = (row["window_start"], row["slice_key"], row["slice_value"])
        groups.setdefault(key, {})[row["column_name"]] = row | {"cell_counts": counted}
    return groups


def _counts(row: Row) -> Any:
    """The counts of a column with its nulls and NaN, as a block has them."""
    return np.append(row["cell_counts"], [row["num_nulls"] or 0, row["num_nan"] or 0])


@dataclass(frozen=True)
class _Compare:
    """Compares the columns of one window with those of another."""

    cells: Mapping[str, Cells]
    other_cells: Mapping[str, Cells]
    thresholds: Thresholds
    untested: AbstractSet[str | None]
    p_values: bool

    def rows(self, new: Rows, old: Rows, known: Mapping[str, Any], drift_type: str) -> Iterator[Row]:
        """The rows of one window: first that of the table, then one a column.

        Args:
            new: The window, by column.
            old: What it is compared with.
            known: The counts of each column that quiet windows are resampled from.
            drift_type: The kind.
        """
        common = {"window_cmp_start": old[TABLE]["window_start"], "window_cmp_end": old[TABLE]["window_end"], "drift_type": drift_type}
        names = [name for name in dict.fromkeys([*new, *old]) if name != TABLE]
        columns = [self._column(name, new.get(name), old.get(name), known.get(name)) | common for name in names]
        present, before = (set(rows[TABLE]["non_null_columns"]) for rows in (new, old))
        about = {name: new[TABLE][name] for name in _ABOUT}
        yield {
            **about,
            **common,
            "count_delta": new[TABLE]["count"] - old[TABLE]["count"],
            "non_null_columns_delta": {"added": len(present - before), "missing": len(before - present)},
            "drifted": any(row["drifted"] for row in columns),
        }
        where = {name: about[name] for name in ("window_start", "window_end", "granularity", "slice_key", "slice_value")}
        yield from (row | where for row in columns)

    def _column(self, name: str, new: Row | None, old: Row | None, known: Any) -> Row:
        if new is None or old is None:
            data_type = (new or old or {}).get("data_type")
            change = "missing" if new is None else "added"
            return {"column_name": name, "data_type": data_type, "schema_change": change, "drifted": True}
        row: Row = {"column_name": name, "data_type": new["data_type"], "drifted": False}
        if new["data_type"] != old["data_type"]:
            row |= {"schema_change": f"{old['data_type']} became {new['data_type']}", "drifted": True}
        row["count_delta"] = new["count"] - old["count"]
        row |= {f"{part}_delta": _less(new[part], old[part]) for part in _DELTAS}
        cells = self.cells[name]
        if cells != self.other_cells.get(name):
            return row
        if new["cell_counts"].any() and old["cell_counts"].any():
            row |= self._distances(cells, new, old)
        found = self._alarms(row, cells, new, old, known) if known is not None and name not in self.untested else []
        return row | {"thresholds": found, "drifted": row["drifted"] or any(one["exceeded"] for one in found)}

    def _distances(self, cells: Cells, new: Row, old: Row) -> Row:
        counts, base = new["cell_counts"], old["cell_counts"]
        share, base_share = distances.shares(counts), distances.shares(base)
        if isinstance(cells, Numbers):
            statistic = float(distances.kolmogorov_smirnov(base_share, share))
            row: Row = {
                "ks_test": {"statistic": statistic, "pvalue": self._ks_p(statistic, base.sum(), counts.sum())},
                "population_stability_index": distances.stability_index(*distances.in_bins(base_share, share)),
            }
            bounds = [value for one in (new, old) for value in (one["min"], one["max"])]
            if None not in bounds:
                area = distances.wasserstein(cells, base_share, share, min(bounds), max(bounds))
                # It is never less than that of the means, which are exact.
                row["wasserstein_distance"] = max(area, abs(new["avg"] - old["avg"]))
            return row
        if not isinstance(cells, Texts):
            return {}
        chi, freedom = distances.chi_squared(base, counts)
        return {
            "js_distance": float(distances.jensen_shannon(base_share, share)),
            "chi_squared_test": {"statistic": chi, "pvalue": self._chi_p(chi, freedom)},
            "tv_distance": float(distances.total_variation(base_share, share)),
            "l_infinity_distance": float(distances.infinity(base_share, share)),
            "population_stability_index": distances.stability_index(base_share, share),
            **_unseen(new, old),
        }

    def _alarms(self, row: Row, cells: Cells, new: Row, old: Row, known: Any) -> list[Row]:
        # Of each test: how many values were tested here and there, and the counts that quiet windows are resampled from.
        tests = {
            "percent_null_delta": ([one["count"] + one["num_nulls"] for one in (new, old)], [known.sum() - known[-2], known[-2]]),
        }
        moves = new["data_type"].startswith("Date") and (row["column_name"], cells.test) not in self.thresholds.dependence
        if cells.test is not None and not moves and not _is_key(old):
            tests[cells.test] = ([one["cell_counts"].sum() for one in (new, old)], known[:-2])
        if "Float" in new["data_type"]:
            tests["percent_nan_delta"] = ([one["count"] for one in (new, old)], [known[:-2].sum(), known[-1]])
        rate, found = false_alarm_rate(len(self.cells), len(tests)), []
        for metric, ((rows, compared), counts) in tests.items():
            value, base = row.get(metric), np.array(counts)
            value = value["statistic"] if isinstance(value, dict) else value
            if value is None or not base.any() or not rows or not compared:
                continue
            threshold = self.thresholds.threshold((row["column_name"], metric), base, rows, compared, rate=rate)
            exceeded = threshold is not None and abs(value) > threshold
            found.append({"metric": metric, "value": value, "threshold": threshold, "false_alarm_rate": rate, "exceeded": exceeded})
        return found

    def _ks_p(self, statistic: float, base: int, new: int) -> float | None:
        if not self.p_values:
            return None
        from scipy.special import kolmogorov  # type: ignore[import-untyped]

        return float(kolmogorov(statistic * np.sqrt(base * new / (base + new))))

    def _chi_p(self, statistic: float, freedom: int) -> float | None:
        if not self.p_values:
            return None
        from scipy.special import chdtrc

        return float(chdtrc(freedom, statistic)) if freedom else 1.0


def _is_key(row: Row) -> bool:
    """Whether about every row has a whole number of its own: a new one is always another."""
    return "Int" in row["data_type"] and row["count"] > LEVELS and row["percent_distinct"] > 95


def _unseen(new: Row, old: Row) -> Row:
    """The values that what is compared with does not have; nothing if it has too many to know them all."""
    if not old["items_complete"]:
        return {}
    known = {item["item"] for item in old["frequent_items"]}
    items = [item for item in new["frequent_items"] if item["item"] not in known]
    return {"unseen_items": items, "percent_unseen": 100 * sum(item["count"] for item in items) / new["count"]}


def _less(new: float | None, old: float | None) -> float | None:
    return None if new is None or old is None else new - old

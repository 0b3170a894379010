"""The distances of one column between groups of rows and what they are compared with.

Distances themselves are functions of arrays in `distances`; here they get the counts that they need, and become columns of a frame.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from lakehouse_assets.platform.monitoring.drift import distances
from lakehouse_assets.platform.monitoring.profiling.cells import Numbers, Texts
from lakehouse_assets.platform.monitoring.profiling.counting import Column
from lakehouse_assets.platform.monitoring.profiling.profile import ITEM
from lakehouse_assets.platform.monitoring.profiling.statistics import Axis

UNSEEN_SCHEMA = pl.List(ITEM)
_UNSEEN_ITEMS = 20
_TEST = pl.Schema({"statistic": pl.Float64(), "pvalue": pl.Float64()})

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Sides:
    """A column of two profiles with the same cells, and pairs of their groups.

    Attributes:
        new: What is compared.
        old: With what.
        groups: Of each pair the groups in both.
        rows: Of each pair the rows of the profiles' frames.
        from_base: Whether the cells are those of the older profile.
        p_values: Whether tests get their p-values.
    """

    new: Column
    old: Column
    groups: tuple[Array, Array]
    rows: tuple[pl.DataFrame, pl.DataFrame]
    from_base: bool
    p_values: bool

    @cached_property
    def counts(self) -> tuple[Array, Array]:
        """The counts of each pair."""
        return self.new.counts[self.groups[0]], self.old.counts[self.groups[1]]

    def distances(self) -> list[pl.Series]:
        """The distances of the column, each a row for each pair."""
        counts = self.counts
        cells, values = self.new.cells, [one[:, :-2] for one in counts]
        usable = np.flatnonzero(values[0].any(axis=1) & values[1].any(axis=1))
        if cells.test is None or not len(usable):
            return []
        share, base = (distances.shares(one[usable]) for one in values)
        sizes = [one[usable].sum(axis=1) for one in values]
        found: dict[str, Any] = {}
        if isinstance(cells, Numbers):
            found["ks_test"] = _test(statistic := distances.kolmogorov_smirnov(base, share), self._ks_p(statistic, *sizes))
            found["population_stability_index"] = distances.stability_index(*distances.in_bins(base, share))
            found["wasserstein_distance"] = self._wasserstein(usable)
        else:
            chi, freedom = distances.chi_squared(values[1][usable], values[0][usable])
            found["js_distance"] = distances.jensen_shannon(base, share)
            found["chi_squared_test"] = _test(chi, self._chi_p(chi, freedom))
            found["tv_distance"] = distances.total_variation(base, share)
            found["l_infinity_distance"] = distances.infinity(base, share)
            found["population_stability_index"] = distances.stability_index(base, share)
        spread = pl.DataFrame({"at": usable} | found)
        places = pl.DataFrame({"at": np.arange(len(values[0]))})
        every = places.join(spread, on="at", how="left", maintain_order="left").drop("at").get_columns()
        return [*every, *self._unseen(cells)] if isinstance(cells, Texts) else every

    def _wasserstein(self, usable: Array) -> pl.Series:
        """The area between both, of finite numbers; null where one side has none."""
        found = np.full(len(usable), np.nan)
        rows = self.rows
        bounds = [rows[side][part].to_numpy()[usable] for side in (0, 1) for part in ("min", "max")]
        means = [rows[side]["avg"].to_numpy()[usable] for side in (0, 1)]
        finite = np.flatnonzero(~np.isnan(bounds[0]) & ~np.isnan(bounds[2]))
        axis = Axis([self.new, self.old])
        for part in axis.parts(len(finite)):
            at = finite[part]
            pair = [axis.counts(side, groups[usable[at]]) for side, groups in enumerate(self.groups)]
            low, high = np.fmin(bounds[0], bounds[2])[at], np.fmax(bounds[1], bounds[3])[at]
            area = distances.wasserstein((axis.lower, axis.upper), distances.shares(pair[1]), distances.shares(pair[0]), (low, high))
            # It is never less than that of the means, which are exact.
            found[at] = np.fmax(area, np.abs(means[0][at] - means[1][at]))
        return pl.Series(np.where(np.isfinite(found), found, np.nan)).fill_nan(None)

    def _ks_p(self, statistic: Array, new: Array, old: Array) -> Array | None:
        if not self.p_values:
            return None
        from scipy.special import kolmogorov  # type: ignore[import-untyped]

        found: Array = kolmogorov(statistic * np.sqrt(new * old / (new + old)))
        return found

    def _chi_p(self, statistic: Array, freedom: Array) -> Array | None:
        if not self.p_values:
            return None
        from scipy.special import chdtrc

        found: Array = np.where(freedom > 0, chdtrc(np.maximum(freedom, 1), statistic), 1.0)
        return found

    def _unseen(self, cells: Texts) -> list[pl.Series]:
        """The values that what is compared with does not have; nothing if it has too many to know them all."""
        new, old, counts, own = self.new, self.old, self.counts, len(cells.values)
        gone = (counts[1][:, :own] == 0) & (counts[0][:, :own] > 0)
        others, known = _others(new), _others(old)
        values = counts[0][:, :-2].sum(axis=1)
        items: list[list[dict[str, Any]] | None] = []
        shares = np.full(len(values), np.nan)
        shared, old_shared = new.shared(self.groups[0]), old.shared(self.groups[1])
        for at, (group, before) in enumerate(zip(self.groups[0].tolist(), self.groups[1].tolist(), strict=True)):
            here, there = others.get(group, {}), known.get(before, {})
            if sum(there.values()) != old_shared[at] or not values[at]:
                items.append(None)
                continue
            is_base = self.from_base and cells.rare is not None and old_shared[at] > 0
            rest = new.unseen[group] if is_base else shared[at] - sum(count for text, count in here.items() if text in there)
            found = [(cells.values[cell], int(counts[0][at, cell])) for cell in np.flatnonzero(gone[at])]
            found += [(text, count) for text, count in here.items() if text not in there]
            found.sort(key=lambda item: (-item[1], item[0]))
            items.append([{"item": text, "count": count} for text, count in found[:_UNSEEN_ITEMS]])
            shares[at] = 100 * (counts[0][at, :own][gone[at]].sum() + rest) / values[at]
        return [
            pl.Series("unseen_items", items, dtype=UNSEEN_SCHEMA),
            pl.Series("percent_unseen", shares).fill_nan(None),
        ]


def _others(column: Column) -> dict[int, dict[str, int]]:
    """The texts of each group that have no cell of their own, as far as they are known."""
    found: dict[int, dict[str, int]] = {}
    for group, text, count in column.frequent.counted().iter_rows():
        found.setdefault(group, {})[text] = count
    return found


def _test(statistic: Array, p_value: Array | None) -> pl.Series:
    frame = pl.DataFrame({"statistic": statistic, "pvalue": p_value}, schema=_TEST)
    return frame.to_struct()

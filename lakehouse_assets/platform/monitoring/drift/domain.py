"""Drift of all columns together: how well a classifier tells the rows of a window from those of the baseline, and by which columns.

It finds what no column shows by itself, as two columns that went together and do not any more. The measure is the area under the ROC curve
of rows that the classifier has not seen. Its threshold is calibrated as every other (`calibration`): by windows of the baseline, each told
from the rest of it by a classifier that learns from as many rows. Drift of single columns is in `drift_metrics`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.features.domain_classifier import Encoding, encoded, encodings, tell_apart
from lakehouse_assets.platform.monitoring.drift.calibration import LEAST_WINDOWS, Calibration, Quiet
from lakehouse_assets.platform.monitoring.drift.drift_metrics import BASELINE, DRIFT_SCHEMA
from lakehouse_assets.platform.monitoring.drift.thresholds import DOMAIN, DOMAIN_RATE, RANKS, Independent
from lakehouse_assets.platform.monitoring.profiling.profile import TABLE, Profile
from lakehouse_assets.platform.monitoring.profiling.row_samples import GROUP, MOMENT, row_samples

MOST_ROWS, MOST_WINDOWS, MOST_BLOCKS = 4_000, 100, 40
"""Sampled rows of each side; windows that are compared in one go; windows of a baseline that the threshold comes from."""
LEAST_ROWS = 80
"""Rows of a window without which it is not compared."""
_OF_BASELINE = 20_000
_CHUNKS = 20
_SHOWN = 10
_SEED = 20_260_101
_COLUMNS = f"{DOMAIN}_columns"
_OF_VALUES: Final = ("ks_test", "js_distance")
_ALL = 0
Separation = tuple[float, float, Mapping[str, float]]
"""The area under the curve, to how many rows of a window against all the comparison amounts, and the columns' shares in it."""


def with_domain(found: pl.DataFrame, profile: Profile, baseline: Profile, rows: tuple[pl.LazyFrame, pl.LazyFrame]) -> pl.DataFrame:
    """The drift from a baseline, with that of all columns together in the rows of the whole table.

    Only columns that are tested by their values take part: no keys, and nothing that moves with time.

    Args:
        found: What `drift_metrics.drift` found, or some windows of it.
        profile: What is compared.
        baseline: With what.
        rows: Those that were profiled, and those of the baseline. Each is read once more; what is kept of them are samples.
    """
    return with_domain_known(found, profile, rows[0], lambda inputs: OfBaseline.of(baseline, rows[1], inputs))


def with_domain_known(
    found: pl.DataFrame, profile: Profile, rows: pl.LazyFrame, of_baseline: Callable[[Sequence[str]], "OfBaseline"]
) -> pl.DataFrame:
    """As `with_domain`, with what is known of the baseline.

    Args:
        found: As there.
        profile: As there.
        rows: Those that were profiled.
        of_baseline: Gives what is known of the baseline, by the columns that take part; asked only if there are two.
    """
    asked = found.with_row_index("at").filter(
        pl.col("column_name") == TABLE, pl.col("data_type").is_null(), pl.col("slice_key").is_null(), pl.col("drift_type") == BASELINE
    )
    if asked.is_empty():
        return found
    starts = asked["window_start"].to_physical()
    inputs, newest = _inputs(found), starts.drop_nulls().unique().sort(descending=True).head(MOST_WINDOWS)
    compared = _Comparison(inputs, profile, rows, newest, of_baseline)
    of_windows = [_row_of_window(compared, start) for start in starts]
    schema = {name: DRIFT_SCHEMA[name] for name in (DOMAIN, _COLUMNS, "thresholds", "not_tested")}
    of_table = pl.DataFrame(of_windows, schema={**schema, "exceeded": pl.Boolean}, orient="row").with_columns(asked["at"])
    joined = found.with_row_index("at").join(of_table, on="at", how="left", suffix="_of_table", maintain_order="left")
    filled = joined.with_columns(pl.coalesce(f"{name}_of_table", name).alias(name) for name in schema)
    drifted = pl.when("exceeded").then(pl.lit(value=True)).otherwise(pl.coalesce("drifted", "exceeded"))
    return filled.with_columns(drifted=drifted).select(found.columns)


def _inputs(found: pl.DataFrame) -> list[str]:
    """The columns whose values have a threshold in some window."""
    of_columns = found.filter(pl.col("slice_key").is_null(), pl.col("drift_type") == BASELINE, pl.col("data_type").is_not_null())
    tests = of_columns.select("column_name", "schema_change", "thresholds").explode("thresholds").unnest("thresholds")
    tested = tests.filter(pl.col("metric").is_in(_OF_VALUES), pl.col("threshold").is_not_null(), pl.col("schema_change").is_null())
    return tested["column_name"].unique(maintain_order=True).to_list()


def _row_of_window(compared: "_Comparison", start: int | None) -> dict[str, Any]:
    """What stands in the row of a window."""
    reason = compared.why_not(start)
    if reason is not None:
        return {"not_tested": f"all columns together: {reason}"}
    value, size, shares = compared.windows[start]
    limit, reason = compared.calibration.threshold(TABLE, DOMAIN, RANKS, size)
    threshold = None if limit is None else 0.5 + limit
    exceeded = None if threshold is None else value > threshold
    test = {"metric": DOMAIN, "value": value, "threshold": threshold, "false_alarm_rate": DOMAIN_RATE, "exceeded": exceeded}
    columns = [{"column_name": name, "share": share} for name, share in list(shares.items())[:_SHOWN] if share > 0]
    not_tested = None if reason is None else f"all columns together: {reason}"
    return {DOMAIN: value, _COLUMNS: columns, "thresholds": [test], "not_tested": not_tested, "exceeded": exceeded}


@dataclass(frozen=True)
class OfBaseline:
    """What is known of a baseline: a sample of its rows, and how well its own windows are told from the rest of it.

    Attributes:
        encodings: How columns become numbers, in their order.
        base: Rows of it, in the order of their time.
        quiet: Of each of its windows that has enough rows the area under the curve, and to how many rows the comparison amounts.
        rows_of_a_window: As many at most as a window of the baseline has: more would be told apart better.
        has_time: Whether its rows have a time.
        called: How its windows are called.
    """

    encodings: Mapping[str, Encoding]
    base: pl.DataFrame
    quiet: Sequence[tuple[float, float]]
    rows_of_a_window: int
    has_time: bool
    called: str

    @classmethod
    def of(cls, baseline: Profile, rows: pl.LazyFrame, inputs: Sequence[str]) -> "OfBaseline":
        """Of a baseline and its rows, which are read once."""
        return _Samples(list(inputs), baseline, rows).known

    def separation(self, new: pl.DataFrame, base: pl.DataFrame | None = None) -> Separation | None:
        """How well rows are told from the baseline.

        Args:
            new: The rows, with their time.
            base: Other rows of the baseline than the sample, encoded.
        """
        base = self.base if base is None else base
        new = new.head(self.rows_of_a_window).sort(MOMENT, maintain_order=True)
        if min(new.height, base.height) < LEAST_ROWS:
            return None
        rows = pl.concat([encoded(new, dict(self.encodings)), base])
        is_new = np.arange(rows.height) < new.height
        # Stretches of time are held out and not single rows, as rows that are near each other are often alike.
        held_out = np.concatenate([np.arange(side.height) * _CHUNKS // side.height % 2 == 1 for side in (new, base)])
        separated = tell_apart(rows, is_new, held_out, seed=_SEED, compute=Local())
        if separated is None:
            return None
        counts = [float((held_out & side).sum()) for side in (is_new, ~is_new)]
        return separated[0], counts[0] * counts[1] / sum(counts), separated[1]

    @cached_property
    def calibration(self) -> Calibration:
        """The threshold, by the windows of the baseline; by chance alone if it has no time."""
        if not self.has_time:
            return Calibration(None, {TABLE: DOMAIN_RATE}, independent=Independent())
        values, sizes = (np.array(part) for part in zip(*((abs(value - 0.5), size) for value, size in self.quiet), strict=True))
        quiet = Quiet(DOMAIN, RANKS, values, sizes)
        return Calibration({(TABLE, DOMAIN): quiet}, {TABLE: DOMAIN_RATE}, windows=self.called)

    def to_frames(self) -> dict[str, pl.DataFrame]:
        """As frames, from which `from_frames` makes it again."""
        places = {f"places:{name}": one.places for name, one in self.encodings.items() if one.places is not None}
        about = {"rows_of_a_window": self.rows_of_a_window, "has_time": self.has_time, "called": self.called}
        quiet = pl.DataFrame(self.quiet, schema={"value": pl.Float64, "size": pl.Float64}, orient="row")
        return {"base": self.base, "quiet": quiet, "about": pl.DataFrame([about]), **places}

    @classmethod
    def from_frames(cls, frames: Mapping[str, pl.DataFrame], inputs: Sequence[str]) -> "OfBaseline":
        """What was made to frames, for the columns that take part."""
        known = {name: Encoding(frames.get(f"places:{name}")) for name in inputs}
        return cls(known, frames["base"], frames["quiet"].rows(), **frames["about"].row(0, named=True))


@dataclass(frozen=True)
class _Comparison:
    """Windows told from a baseline.

    Attributes:
        inputs: The columns to tell them by.
        profile: What is compared.
        rows: Its rows.
        newest: The starts of the windows that are compared, if there are windows.
        of_baseline: Gives what is known of the baseline.
    """

    inputs: list[str]
    profile: Profile
    rows: pl.LazyFrame
    newest: pl.Series
    of_baseline: Callable[[Sequence[str]], OfBaseline]

    @cached_property
    def _known(self) -> OfBaseline:
        return self.of_baseline(self.inputs)

    @property
    def calibration(self) -> Calibration:
        """The threshold."""
        return self._known.calibration

    def why_not(self, start: int | None) -> str | None:
        """Why a window is not compared."""
        if len(self.inputs) < 2:
            return "fewer than two columns are tested by their values"
        if self.profile.groups.every is not None and start is None:
            return "its rows have no time"
        known = self._known
        if known.has_time and len(known.quiet) < LEAST_WINDOWS:
            return f"the baseline has {len(known.quiet)} {known.called} with {LEAST_ROWS} rows, and {LEAST_WINDOWS} are needed"
        if start is not None and start not in self.newest:
            return f"only the newest {MOST_WINDOWS} windows are compared"
        return None if start in self.windows else f"there are fewer than {LEAST_ROWS} rows"

    @cached_property
    def windows(self) -> dict[int | None, Separation]:
        """Each window that has enough rows, told from the baseline."""
        groups, schema = self.profile.groups, self.rows.collect_schema()

        def in_windows(batch: pl.DataFrame) -> pl.DataFrame:
            if groups.every is None:
                return batch.with_columns(pl.lit(None, pl.Int64).alias(GROUP))
            start = pl.col(MOMENT).dt.truncate(groups.every).to_physical().alias(GROUP)
            return batch.with_columns(start).filter(pl.col(GROUP).is_in(self.newest.implode()))

        (sample,) = row_samples(self.rows, self.inputs, groups.moment(schema), [(in_windows, self._known.rows_of_a_window)])
        if sample.is_empty():
            return {}
        found = {start: self._known.separation(rows) for (start,), rows in sample.partition_by(GROUP, as_dict=True).items()}
        return {start: one for start, one in found.items() if one is not None}


@dataclass(frozen=True)
class _Samples:
    """Samples of the rows of a baseline.

    Attributes:
        inputs: The columns to tell rows by.
        baseline: The baseline.
        source: Its rows.
    """

    inputs: list[str]
    baseline: Profile
    source: pl.LazyFrame

    @cached_property
    def known(self) -> OfBaseline:
        """What is known by them."""
        whole, of_windows = self._samples
        sizes = of_windows.group_by(GROUP).len()["len"] if of_windows.height else pl.Series([MOST_ROWS])
        base = whole.drop(GROUP).rename({"block": GROUP}).with_columns(pl.col(GROUP).fill_null(-1))
        blocks, codes = self.baseline.blocks, encodings(base, self.inputs)

        def few(rows: pl.DataFrame) -> pl.DataFrame:
            return encoded(rows.head(MOST_ROWS).sort(MOMENT, maintain_order=True), codes)

        known = OfBaseline(
            encodings=codes,
            base=few(base),
            quiet=[],
            rows_of_a_window=max(int(sizes.median()), LEAST_ROWS),  # type: ignore[arg-type]
            has_time=blocks is not None,
            called="stretches of time" if blocks is None or blocks.every is None else f"windows of {blocks.every}",
        )
        windows = of_windows.partition_by(GROUP, as_dict=True).items() if of_windows.height else ()
        separated = (known.separation(rows, few(base.filter(pl.col(GROUP) != number))) for (number,), rows in windows)
        return replace(known, quiet=[one[:2] for one in separated if one is not None])

    @cached_property
    def _samples(self) -> list[pl.DataFrame]:
        """Rows of the whole baseline, with their windows in it, and rows of each of some windows."""
        groups, blocks = self.baseline.groups, self.baseline.blocks
        chosen = self._chosen()

        def numbered(batch: pl.DataFrame) -> pl.DataFrame:
            if blocks is None:
                return batch.with_columns(pl.lit(-1).alias("block"))
            marked = batch.with_columns(
                (pl.col(MOMENT).dt.truncate(blocks.every) if blocks.every else pl.col(MOMENT)).to_physical().alias("block")
            )
            return blocks.numbered(marked)

        def whole(batch: pl.DataFrame) -> pl.DataFrame:
            return numbered(batch).with_columns(pl.lit(_ALL).alias(GROUP))

        def in_blocks(batch: pl.DataFrame) -> pl.DataFrame:
            return numbered(batch).filter(pl.col("block").is_in(chosen)).rename({"block": GROUP})

        moment = groups.moment(self.source.collect_schema())
        return row_samples(self.source, self.inputs, moment, [(whole, _OF_BASELINE), (in_blocks, MOST_ROWS)])

    def _chosen(self) -> list[int]:
        """The numbers of the windows of the baseline that are told from the rest: evenly spread, of those with enough rows."""
        if self.baseline.blocks is None:
            return []
        keys = self.baseline.block_keys.with_row_index("at").filter(pl.col("slice_key").is_null()).sort("window_start")
        rows = next(iter(self.baseline.columns.values())).blocks[keys["at"].to_numpy()].sum(axis=1)
        numbers = keys["window_start"].to_numpy()[rows >= LEAST_ROWS]
        places = np.unique(np.linspace(0, len(numbers) - 1, min(len(numbers), MOST_BLOCKS)).astype(np.intp))
        return [int(number) for number in numbers[places]]

"""Statistics of events over windows of time: how often, how much, how many different, for each entity.

They are the same to the last bit wherever the rows that are read begin, and on any number of threads: sums are of whole numbers. How they
are declared as a feature set is in `recipes.windows`.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations.kind import moment_of_date
from lakehouse_assets.platform.features.rolling import LARGEST, unscaled
from lakehouse_assets.platform.storage.types import TIMESTAMP

_WINDOW = re.compile(r"([1-9]\d*)(m|h|d|w)")
_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_UNIT_NAMES: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_IS_STEP = "__is_step"
EVERY_EVENT: Final = "*"
"""In the place of a value: the events themselves, which can be counted."""


def duration_of(text: str) -> timedelta:
    """The length of a window as it is written: `15m`, `1h`, `30d`, `2w`.

    Raises:
        ValueError: It is none.
    """
    found = _WINDOW.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r} is no length of a window: write minutes, hours, days or weeks, as '15m', '1h', '30d' or '2w'")
    return int(found[1]) * _UNITS[found[2]]


def in_words(window: str) -> str:
    """The length of a window in words."""
    number, unit = window[:-1], _UNIT_NAMES[window[-1]]
    return f"{number} {unit if number != '1' else unit[:-1]}"


@dataclass(frozen=True)
class Windows:
    """What is worked out of events.

    Attributes:
        entity: The columns that identify what the events are about.
        time: The column of their time (UTC).
        windows: Lengths of windows, as `1h` or `30d`.
        values: By column, the statistics of it, of `STATISTICS`; `*` stands for the events themselves.
        every: None: a row at each event, over the events up to it, those of the same time included: (time - window, time]. Else the length
            of a step: a row at the end of each step, over the events before it: [end - window, end).
        decimals: Digits after the point that count in sums, means and deviations.
    """

    entity: tuple[str, ...]
    time: str
    windows: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]
    every: str | None = None
    decimals: int = 4

    @property
    def longest(self) -> timedelta:
        """The longest window."""
        return max(map(duration_of, self.windows))

    @property
    def lookback(self) -> timedelta:
        """How far before a row it depends on events."""
        return self.longest if self.every is None else self.longest + duration_of(self.every)

    def columns(self) -> dict[str, tuple[str, str, str]]:
        """The columns that are worked out, each with its value, statistic and window."""
        return {
            f"{statistic if value == EVERY_EVENT else f'{value}_{statistic}'}_{window}": (value, statistic, window)
            for window in self.windows
            for value, statistics in self.values.items()
            for statistic in statistics
        }

    def compute(self, events: pl.LazyFrame, where: pl.Expr | None = None) -> pl.LazyFrame:
        """The statistics.

        Events without an entity or a time are left out. So are values that are null or no finite number. Of events at one time, `first` is
        the smallest and `last` the largest, compared by the values in their order.

        A step counts as over when an event came that is not before its end, whether or not that one counts. An entity has a row for each
        step whose longest window has one of its events, and one more when that has run empty, so that old numbers do not stay.

        Args:
            events: All that came.
            where: Which of them count.

        Returns:
            One row for each entity and time, with `known_at`, which is that time. Counts and sums are 0 where a window has no event, the
            others are null; so are sums and means of amounts so large that no float holds them.

        Raises:
            ValueError: The time is a date.
        """
        used = [name for name in self.values if name != EVERY_EVENT]
        key = [*self.entity, self.time]
        schema = events.collect_schema()
        if schema[self.time] == pl.Date:
            raise ValueError(
                f"windows are of moments, and {self.time} is a date: give the table of events a column of moments and name it as time=, as "
                f"{moment_of_date(self.time)}, which is the end of the day; with every= its beginning, without the duration"
            )
        counted = events if where is None else events.filter(where)
        rows = counted.select(*key, *(_finite(name, schema) for name in used)).drop_nulls(key)
        closed = "right"
        if self.every is not None:
            closed = "left"
            rows = pl.concat([rows.with_columns(pl.lit(value=False).alias(_IS_STEP)), self._steps(rows, events)], how="diagonal")
        rows = rows.sort(*key, *used, nulls_last=True)
        numbers = [value for value, statistics in self.values.items() if {"sum", "mean"} & {*statistics}]

        def whole(frame: pl.DataFrame) -> pl.DataFrame:
            return self._rolled(frame.lazy(), closed, fit=_all_fit(frame, numbers, self.decimals)).collect()

        return rows.map_batches(whole, schema=self._rolled(rows, closed, fit=True).collect_schema())

    def _rolled(self, rows: pl.LazyFrame, closed: str, *, fit: bool) -> pl.LazyFrame:
        """The statistics of rows in their order.

        Args:
            rows: Sorted by entity, time and values.
            closed: Which ends belong to a window.
            fit: Whether the sum of all values of a column fits into 128 bits, so that none of a window has to be looked at.
        """
        key = [*self.entity, self.time]
        results = [rows.select(*key, *([] if self.every is None else [_IS_STEP]))]
        for window in self.windows:
            period = duration_of(window)
            rolled = rows.rolling(self.time, period=period, closed=closed, group_by=list(self.entity)).agg(  # type: ignore[arg-type]
                self._statistic(*what, fit=fit).alias(name) for name, what in self.columns().items() if what[2] == window
            )
            # Polars gives the groups in an order of its own: texts of different lengths by their length.
            results.append(rolled.sort(key, maintain_order=True).drop(key))
        # Each has the rows of the first, in its order: they are sorted by entity and time, and rows of one time have one window.
        wide = pl.concat(results, how="horizontal")
        wide = wide if self.every is None else wide.filter(_IS_STEP).drop(_IS_STEP)
        if not fit:  # a sum that no float holds is not known
            sums = [name for name, what in self.columns().items() if what[1] in {"sum", "mean"}]
            wide = wide.with_columns(pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in sums)
        return wide.unique(key, keep="first", maintain_order=True).with_columns(pl.col(self.time).alias("known_at"))

    def _steps(self, rows: pl.LazyFrame, events: pl.LazyFrame) -> pl.LazyFrame:
        """The ends of the steps that are over, of each entity that has events in its longest window, or had before the last step.

        Every event tells how late it is. If only those that count did, steps would become over without any of their rows having changed.
        """
        step = duration_of(self.every or "")
        following = pl.int_ranges(0, self.longest // step + 1)
        first = self._epoch_floor(step) + step
        newest = events.select(pl.col(self.time).max().alias("__newest"))
        return (
            rows.select(*self.entity, first.alias(self.time))
            .unique()
            .with_columns(following.alias("__step"))
            .explode("__step")
            .select(*self.entity, pl.col(self.time) + pl.col("__step") * step)
            .unique()
            .join(newest, how="cross")
            .filter(pl.col(self.time) <= pl.col("__newest"))
            .select(*self.entity, self.time, pl.lit(value=True).alias(_IS_STEP))
        )

    def _epoch_floor(self, step: timedelta) -> pl.Expr:
        micros = step // timedelta(microseconds=1)
        moment = pl.col(self.time)
        return (moment.dt.epoch("us") // micros * micros).cast(TIMESTAMP)

    def _statistic(self, value: str, statistic: str, window: str, *, fit: bool) -> pl.Expr:  # noqa: ARG002 the window is that of the group
        if value == EVERY_EVENT:
            return (pl.len() if self.every is None else (~pl.col(_IS_STEP)).sum()).cast(pl.Int64)
        return STATISTICS[statistic](pl.col(value), self.decimals, fit)


def _finite(name: str, schema: pl.Schema) -> pl.Expr:
    value = pl.col(name)
    return pl.when(value.is_finite()).then(value).alias(name) if schema.get(name, pl.Null()).is_float() else value


def _scaled(value: pl.Expr, decimals: int) -> pl.Expr:
    return (value.cast(pl.Float64) * 10.0**decimals).round()


def _whole(value: pl.Expr, decimals: int) -> pl.Expr:
    scaled = _scaled(value, decimals)
    return pl.when(scaled.abs() < LARGEST).then(scaled).cast(pl.Int128)


def _all_fit(rows: pl.DataFrame, numbers: Sequence[str], decimals: int) -> bool:
    """Whether the sum of all values of each column fits into 128 bits."""
    largest = rows.select(_scaled(pl.col(name), decimals).abs().max() for name in numbers).row(0) if numbers else ()
    return all((one or 0.0) * rows.height < LARGEST for one in largest)


def _sum(value: pl.Expr, decimals: int, fit: bool) -> pl.Expr:  # noqa: FBT001 as all statistics
    """Exact; of values that 128 bits do not hold it is the sum of floats, the smallest first.

    That one makes a list for each window, which for long ones is more than memory holds: it is left out where all values `fit`.
    """
    if fit:
        return unscaled(_whole(value, decimals).sum().cast(pl.Float64), decimals)
    fits = (_scaled(value, decimals).abs().max().fill_null(0) * value.count().cast(pl.Float64)) < LARGEST
    exact = unscaled(_whole(value, decimals).sum().cast(pl.Float64), decimals)
    # Polars leaves a sort before a sum out, and adds in an order that depends on the rows around.
    return pl.when(fits).then(exact).otherwise(value.cast(pl.Float64).sort().cum_sum().last())


def _mean(value: pl.Expr, decimals: int, fit: bool) -> pl.Expr:  # noqa: FBT001
    return pl.when(value.count() > 0).then(_sum(value, decimals, fit) / value.count())


def _std(value: pl.Expr, decimals: int, _: bool) -> pl.Expr:  # noqa: FBT001
    """Sample standard deviation; null with fewer than two values, and where squares would not fit into 128 bits."""
    whole, count = _whole(value, decimals), value.count().cast(pl.Int128)
    # count * sum of squares - square of the sum, in whole numbers: exact.
    spread = count * (whole * whole).sum() - whole.sum() * whole.sum()
    fits = _scaled(value, decimals).abs().max() * count.cast(pl.Float64) < math.sqrt(2.0**126)
    divisor = (count * (count - 1)).cast(pl.Float64)
    return pl.when((count > 1) & fits).then(unscaled((spread.cast(pl.Float64) / divisor).sqrt(), decimals))


STATISTICS: Final[Mapping[str, Callable[[pl.Expr, int, bool], pl.Expr]]] = {
    "count": lambda value, *_: value.count().cast(pl.Int64),
    "distinct": lambda value, *_: value.drop_nulls().n_unique().cast(pl.Int64),
    "sum": _sum,
    "mean": _mean,
    "std": _std,
    "min": lambda value, *_: value.min(),
    "max": lambda value, *_: value.max(),
    "first": lambda value, *_: value.drop_nulls().first(),
    "last": lambda value, *_: value.drop_nulls().last(),
}
"""The statistics of a value in a window, by their names; given the decimals that count, and whether the sum of all values fits."""

NUMERIC: Final = frozenset({"sum", "mean", "std"})
"""The statistics that need numbers."""


def type_of(statistic: str, value: Any) -> tuple[Any, bool]:
    """The type of a statistic of a value of some type, and whether it may be null."""
    if statistic in {"count", "distinct"}:
        return int, False
    return (float if statistic in NUMERIC else value), True

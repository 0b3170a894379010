"""The part of a table that a write recomputes and replaces: nothing, partitions, keys, a tail, everything.

A scope filters rows of the sources, of the result and of the stored table alike, so all three always mean the same rows. How it follows
from what changed belongs to the kinds of tables, how it is replaced to `replace`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, Self

import polars as pl

from lakehouse_assets.platform.storage import predicates
from lakehouse_assets.platform.wording import listed

# So many values of a key are worth a look-up for every row of a file.
_MOST_LISTED = 20_000


class Scope(Protocol):
    """A part of a table."""

    @property
    def is_empty(self) -> bool:
        """Whether no row can be in it."""

    def filter(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The rows that are in it."""

    def outside(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows that are not in it."""

    def looking_back(self, lookback: Any) -> "Scope":
        """The rows on which those of a tail depend; other scopes depend on themselves."""

    def __str__(self) -> str:
        """For messages."""


class _LooksAtItself:
    def looking_back(self, lookback: Any) -> Self:  # noqa: ARG002
        """See `Scope.looking_back`."""
        return self


@dataclass(frozen=True)
class Everything(_LooksAtItself):
    """The whole table."""

    is_empty: bool = field(default=False, init=False)

    def filter(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """See `Scope.filter`."""
        return rows

    def outside(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Scope.outside`."""
        return rows.clear()

    def __str__(self) -> str:
        """For messages."""
        return "the whole table"


@dataclass(frozen=True)
class Nothing(_LooksAtItself):
    """No row."""

    is_empty: bool = field(default=True, init=False)

    def filter(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """See `Scope.filter`."""
        return rows.limit(0)

    def outside(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Scope.outside`."""
        return rows

    def __str__(self) -> str:
        """For messages."""
        return "no row"


@dataclass(frozen=True)
class Partitions(_LooksAtItself):
    """The rows with one of some values in a column."""

    column: str
    values: Sequence[Any]

    @property
    def is_empty(self) -> bool:
        """See `Scope.is_empty`."""
        return not self.values

    def filter(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """See `Scope.filter`."""
        return rows.filter(predicates.expression({self.column: self.values})) if self.values else rows.limit(0)

    def outside(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Scope.outside`."""
        return rows.filter(~predicates.expression({self.column: self.values})) if self.values else rows

    def __str__(self) -> str:
        """For messages."""
        return f"{self.column} in {_some(self.values)}"


@dataclass(frozen=True)
class Keys(_LooksAtItself):
    """The rows whose values in the columns of `keys` stand in one of its rows.

    Attributes:
        keys: One row a key, each once, without nulls.
        with_nulls: Whether rows that lack a value of the key are in it too, as rejected rows may.
    """

    keys: pl.DataFrame
    with_nulls: bool = False

    @property
    def is_empty(self) -> bool:
        """See `Scope.is_empty`."""
        return not self.keys.height and not self.with_nulls

    def filter(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """See `Scope.filter`; files that cannot hold one of the keys are not read."""
        columns = self.keys.columns
        near = rows if self.with_nulls else rows.filter(self._near())
        there = near.join(self.keys.lazy(), on=columns, how="semi", maintain_order="left")
        if not self.with_nulls:
            return there
        return pl.concat([there, rows.filter(pl.any_horizontal(pl.col(name).is_null() for name in columns))])

    def _near(self) -> pl.Expr:
        """A condition that readers of files push down: other columns are decoded only for rows that meet it."""
        conditions = [pl.lit(value=True)]
        for name, dtype in self.keys.schema.items():
            values = self.keys[name].unique()
            if values.len() and (dtype.is_integer() or dtype.is_temporal() or dtype == pl.String):
                conditions.append(predicates.in_range(name, values))
            if 0 < values.len() <= _MOST_LISTED:
                conditions.append(pl.col(name).is_in(values.implode()))
        return pl.all_horizontal(conditions)

    def outside(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Scope.outside`."""
        there = rows.join(self.keys, on=self.keys.columns, how="anti", maintain_order="left")
        if not self.with_nulls:
            return there
        return there.filter(pl.all_horizontal(pl.col(name).is_not_null() for name in self.keys.columns))

    def __str__(self) -> str:
        """For messages."""
        return f"{self.keys.height} keys of {', '.join(self.keys.columns)}"


@dataclass(frozen=True)
class Intervals:
    """The rows of some keys, each from one value of a column to another.

    Attributes:
        keys: One row a key, each once, without nulls, with the columns `FIRST` and `LAST`, both inclusive.
        column: A date, a timestamp or a whole number.
    """

    keys: pl.DataFrame
    column: str

    FIRST: ClassVar[str] = "__first"
    LAST: ClassVar[str] = "__last"

    @property
    def columns(self) -> list[str]:
        """The columns of the key."""
        return [name for name in self.keys.columns if name not in {self.FIRST, self.LAST}]

    @property
    def is_empty(self) -> bool:
        """See `Scope.is_empty`."""
        return not self.keys.height

    def filter(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """See `Scope.filter`; files that are outside of all intervals are not read."""
        return self._marked(self._near(rows)).filter(self._is_within).drop(self.FIRST, self.LAST)

    def outside(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Scope.outside`."""
        marked = self._marked(rows.lazy(), how="left").filter(~self._is_within.fill_null(value=False))
        return marked.drop(self.FIRST, self.LAST).collect()

    def looking_back(self, lookback: Any) -> "Intervals":
        """See `Scope.looking_back`."""
        return Intervals(self.keys.with_columns(pl.col(self.FIRST) - lookback), self.column)

    def _near(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        return Keys(self.keys.select(self.columns)).filter(
            rows.filter(pl.col(self.column).is_between(pl.lit(self.keys[self.FIRST].min()), pl.lit(self.keys[self.LAST].max())))
        )

    def _marked(self, rows: pl.LazyFrame, how: Literal["inner", "left"] = "inner") -> pl.LazyFrame:
        return rows.join(self.keys.lazy(), on=self.columns, how=how, maintain_order="left")

    @property
    def _is_within(self) -> pl.Expr:
        return pl.col(self.column).is_between(pl.col(self.FIRST), pl.col(self.LAST))

    def __str__(self) -> str:
        """For messages."""
        return f"{self.column} near the changes of {self.keys.height} keys of {', '.join(self.columns)}"


@dataclass(frozen=True)
class Tail:
    """The rows whose value of a column is after another, and those without a value, which belong to every tail."""

    column: str
    after: Any

    is_empty: bool = field(default=False, init=False)

    def filter(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """See `Scope.filter`."""
        return rows.filter((pl.col(self.column) > self.after) | pl.col(self.column).is_null())

    def outside(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Scope.outside`."""
        return rows.filter(pl.col(self.column) <= self.after)

    def __str__(self) -> str:
        """For messages."""
        return f"{self.column} after {self.after}"

    def looking_back(self, lookback: Any) -> Scope:
        """See `Scope.looking_back`."""
        earlier = earlier_by(self.after, lookback)
        return Everything() if earlier is None else Tail(self.column, earlier)


def earlier_by(value: Any, lookback: Any) -> Any | None:
    """The value so much earlier; None before the first date that there is."""
    try:
        return value - lookback
    except OverflowError:
        return None


def _some(values: Sequence[Any], most: int = 5) -> str:
    return listed(["null" if value is None else str(value) for value in values], most)

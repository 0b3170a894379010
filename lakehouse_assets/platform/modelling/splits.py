"""How examples are divided into folds of rows to learn from and rows to test on.

A row is never on both sides of a fold, and where a fold has a time, nothing trains whose label was known later. Which inputs an example may
see is for the training set to decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import polars as pl
import polars.selectors as cs

from lakehouse_assets.platform.declarations.learning import LABEL_KNOWN_AT, Fold, NotEnoughData
from lakehouse_assets.platform.wording import listed

_DAY: Final = timedelta(days=1)
_MOST_STRATA: Final = 100
_MOST_NAMED: Final = 5
_MOST_SETTLED: Final = 0.95
# With so many groups a fold, a hash divides them about equally.
_FEW: Final = 20


@dataclass(frozen=True, kw_only=True)
class RollingOrigins:
    """Forecasts from several origins, each by what was known at its end; the newest origin whose outcomes are all known is among them.

    The column of the time of prediction is a date, the origin. The folds slide with the data: the newest origin is the last fold, and each
    earlier one lies `step` days before the next, or more where the examples have no such origin. A fold is named by its origin.

    Attributes:
        horizon: Days that are forecast from an origin: outcomes of that many days have to be known.
        count: Most origins.
        step: Days between them; None: as many as `horizon`, so that no outcome is tested twice.
        least: Days up to an origin, itself included, that examples have to reach back for it to be a fold.
        ahead: Column with the number of days ahead. If the examples lack it, the times at which labels were known tell what is there.
    """

    horizon: int
    count: int = 13
    step: int | None = None
    least: int = 1
    ahead: str = "horizon"

    def __post_init__(self) -> None:
        _require_positive(horizon=self.horizon, count=self.count, step=self.step or self.horizon, least=self.least)

    def folds(self, examples: pl.DataFrame, *, at: str, also: Sequence[str] = ()) -> list[Fold]:
        """See `Split.folds`."""
        if examples.schema[at] != pl.Date:
            raise TypeError(f"origins are days: make the column {at!r} a date, or split by RollingTime; it is {examples.schema[at]}")
        if examples.is_empty():
            raise NotEnoughData(f"there is no example: {self._needed()}")
        usable = self._usable(examples, at)
        chosen: list[date] = []
        for origin in reversed(usable):
            if len(chosen) < self.count and (not chosen or (chosen[-1] - origin).days >= (self.step or self.horizon)):
                chosen.append(origin)
        if not chosen:
            first, last = examples.select(first=pl.col(at).min(), last=pl.col(at).max()).row(0)
            raise NotEnoughData(
                f"no origin can be tested with examples of {at} from {first} to {last} ({(last - first).days + 1} days): {self._needed()}"
            )
        wanted = set(also)
        return [_from_origin(at, origin) for origin in usable if origin in chosen or origin.isoformat() in wanted]

    def settled_after(self, examples: pl.DataFrame, *, at: str) -> timedelta:  # noqa: ARG002
        """See `Split.settled_after`: when the horizon is over. What is revised afterwards was known before."""
        return _DAY * self.horizon

    def _needed(self) -> str:
        return f"a test needs {self.least} days up to an origin, with labels that were known by its end, and {self.horizon} days after it"

    def _usable(self, examples: pl.DataFrame, at: str) -> list[date]:
        """The origins whose outcomes are all known, and that have something to learn from, in order."""
        end = moment(at, pl.Date())
        if self.ahead in examples.columns:
            complete = pl.col(self.ahead).max() >= self.horizon
        else:
            complete = pl.col(LABEL_KNOWN_AT).max() >= end.max() + _DAY * self.horizon
        known_first = examples.group_by(at).agg(complete=complete, known=pl.col(LABEL_KNOWN_AT).min()).sort(at)
        first = known_first[at].min()
        learnt = pl.col("known").cum_min().shift(1) <= end
        usable: list[date] = known_first.filter("complete", learnt, pl.col(at) >= pl.lit(first) + _DAY * (self.least - 1))[at].to_list()
        return usable


@dataclass(frozen=True, kw_only=True)
class RollingTime:
    """Tests on consecutive periods, each by a predictor that learnt from what was known when its period began.

    The folds slide with the data: the last period ends with the newest example. A fold is named by the time (UTC) at which its period
    begins: the examples after it are tested, those at it are not.

    Attributes:
        every: How long a period is.
        count: Most periods. Those without examples, or with nothing to learn from, are left out.
        gap: Examples of so long before a period are not learnt from, because their labels were not settled by then.
    """

    every: timedelta
    count: int = 13
    gap: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        _require_positive(every=self.every.total_seconds(), count=self.count)
        if self.gap < timedelta(0):
            raise ValueError(f"gap must not be negative: {self.gap}")

    def folds(self, examples: pl.DataFrame, *, at: str, also: Sequence[str] = ()) -> list[Fold]:
        """See `Split.folds`."""
        return _periods(examples, at, self.every, self.count, self.gap, also)

    def settled_after(self, examples: pl.DataFrame, *, at: str) -> timedelta:
        """See `Split.settled_after`."""
        return most_are_known_after(examples, at)


@dataclass(frozen=True, kw_only=True)
class TimeHoldout:
    """A test on the newest examples alone; see `RollingTime`.

    Attributes:
        test: How long the period is that is tested.
        gap: Examples of so long before it are not learnt from, because their labels were not settled by then.
    """

    test: timedelta
    gap: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        _require_positive(test=self.test.total_seconds())
        if self.gap < timedelta(0):
            raise ValueError(f"gap must not be negative: {self.gap}")

    def folds(self, examples: pl.DataFrame, *, at: str, also: Sequence[str] = ()) -> list[Fold]:
        """See `Split.folds`."""
        return _periods(examples, at, self.test, 1, self.gap, also)

    def settled_after(self, examples: pl.DataFrame, *, at: str) -> timedelta:
        """See `Split.settled_after`."""
        return most_are_known_after(examples, at)


@dataclass(frozen=True)
class GroupSplit:
    """Folds in which the rows of a group stay together, for a model that has to serve groups it has not seen.

    Rows that come move no other row. Many groups are divided by a hash of their values, so that new groups move no other one either. Few
    groups are dealt out in the order of their hashes, so that each fold has about as many, and a new group may move some. It does not
    heed time. Null is a group.

    Attributes:
        column: Tells the groups apart; a column of the key or a slice.
        count: Most folds; fewer groups make a fold each.
    """

    column: str
    count: int = 5

    def __post_init__(self) -> None:
        _require_two(self.count)

    def folds(self, examples: pl.DataFrame, *, at: str, also: Sequence[str] = ()) -> list[Fold]:  # noqa: ARG002
        """See `Split.folds`; the folds stay, so `also` has no meaning."""
        _require_column(examples, self.column)
        groups = examples[self.column].n_unique()
        if groups < 2:
            raise NotEnoughData(f"the examples have {groups} value(s) of {self.column!r}, and folds by group need at least 2")
        drawn = _Drawn.of(examples, [self.column], self.count)
        if groups < _FEW * self.count:
            drawn = drawn.dealt(examples)
        used = examples.select(drawn.number.unique().sort()).to_series().to_list()
        return [drawn.fold(number) for number in used]

    def settled_after(self, examples: pl.DataFrame, *, at: str) -> timedelta:
        """See `Split.settled_after`."""
        return most_are_known_after(examples, at)


@dataclass(frozen=True)
class StratifiedSplit:
    """Folds by chance, each with every value of a column, for examples that have no order in time.

    A row's fold follows from what identifies it alone, so it does not move when rows come or go. The values have about the same shares in
    each fold where they have many rows.

    Attributes:
        column: The target of a classifier, usually.
        count: Number of folds; those that lack a value of the column are not tested, and at least two have to have all. The rarest value
            needs some times as many rows as there are folds.
    """

    column: str
    count: int = 5

    def __post_init__(self) -> None:
        _require_two(self.count)

    def folds(self, examples: pl.DataFrame, *, at: str, also: Sequence[str] = ()) -> list[Fold]:  # noqa: ARG002
        """See `Split.folds`; the folds stay, so `also` has no meaning."""
        _require_column(examples, self.column)
        identity = [name for name in examples.columns if name not in {self.column, LABEL_KNOWN_AT}]
        if not identity:
            raise ValueError("the examples have no column besides the stratified one by which rows could be told apart")
        drawn = _Drawn.of(examples, identity, self.count)
        strata = self._strata(examples, drawn)
        if strata.height > _MOST_STRATA:
            raise ValueError(
                f"{self.column!r} has {strata.height} different values, and rows are stratified by at most {_MOST_STRATA}: split by time"
            )
        complete = _complete(strata, self.count)
        if len(complete) < 2:
            fewer = [_Drawn.of(examples, identity, count) for count in range(self.count - 1, 1, -1)]
            works = next((one.count for one in fewer if len(_complete(self._strata(examples, one), one.count)) > 1), None)
            scarce = [
                f"{value!r} has {rows}, in {len(folds)} of them" for value, rows, folds in strata.iter_rows() if len(folds) < self.count
            ]
            raise NotEnoughData(
                f"each value of {self.column!r} needs rows in at least two of {self.count} folds, the same for all, and "
                f"{listed(scarce, _MOST_NAMED) or 'there is no row'}: {'' if works is None else f'count={works} divides them, or '}"
                "more rows are needed"
            )
        return [drawn.fold(number) for number in complete]

    def _strata(self, examples: pl.DataFrame, drawn: "_Drawn") -> pl.DataFrame:
        """Each value with its number of rows and the folds that these fall into, the rarest first."""
        found = examples.select(stratum=self.column, fold=drawn.number).group_by("stratum")
        return found.agg(pl.len().alias("rows"), pl.col("fold").unique()).sort("rows", "stratum")

    def settled_after(self, examples: pl.DataFrame, *, at: str) -> timedelta:
        """See `Split.settled_after`."""
        return most_are_known_after(examples, at)


@dataclass(frozen=True)
class _Drawn:
    """Folds by a hash.

    Attributes:
        values: That say into which fold a row falls.
        count: Of the folds.
        order: The hashes that are dealt out, in order; others go by their remainder.
    """

    values: Sequence[pl.Expr]
    count: int
    order: Sequence[int] = ()

    @classmethod
    def of(cls, examples: pl.DataFrame, columns: Sequence[str], count: int) -> "_Drawn":
        """Folds by the values of columns. Texts and whole numbers count as texts: the order of an Enum and the width of a number do not."""
        as_texts = cs.expand_selector(examples, cs.integer() | cs.string() | cs.categorical() | cs.enum())
        return cls([pl.col(name).cast(pl.String) if name in as_texts else pl.col(name) for name in columns], count)

    def dealt(self, examples: pl.DataFrame) -> "_Drawn":
        """The same with the hashes of the examples dealt out, so that folds are about equally large."""
        return replace(self, order=examples.select(self._hash.unique().sort()).to_series().to_list())

    @property
    def _hash(self) -> pl.Expr:
        return pl.struct(self.values).hash()

    @property
    def number(self) -> pl.Expr:
        """Of the fold that a row is tested in, from 0."""
        by_hash = self._hash % self.count
        folds = [place % self.count for place in range(len(self.order))]
        return self._hash.replace_strict(self.order, folds, default=by_hash, return_dtype=pl.UInt64) if self.order else by_hash

    def fold(self, number: int) -> Fold:
        """The fold with a number."""
        return Fold(f"{number + 1:0{len(str(self.count))}}", train=self.number != number, test=self.number == number)


def _complete(strata: pl.DataFrame, count: int) -> list[int]:
    """The folds that all strata have rows in."""
    return [number for number in range(count) if all(number in folds for folds in strata["fold"])] if strata.height else []


def most_are_known_after(examples: pl.DataFrame, at: str) -> timedelta:
    """How long after the time of a prediction most outcomes are known, and so are those that come late as a rule; 0 without examples."""
    delay = pl.col(LABEL_KNOWN_AT) - moment(at, examples.schema[at])
    found: timedelta | None = examples.select(delay.quantile(_MOST_SETTLED, "higher")).item()
    return max(found or timedelta(0), timedelta(0))


def _from_origin(at: str, origin: date) -> Fold:
    end = datetime.combine(origin, time(), UTC) + _DAY
    train = (pl.col(at) < origin) & (pl.col(LABEL_KNOWN_AT) <= end)
    return Fold(origin.isoformat(), train=train, test=pl.col(at) == origin, known_until=end)


def _periods(  # noqa: PLR0917
    examples: pl.DataFrame, at: str, every: timedelta, count: int, gap: timedelta, also: Sequence[str]
) -> list[Fold]:
    """Folds by consecutive periods, the last of which ends with the newest example. Times are whole seconds, as the names tell them."""
    when = moment(at, examples.schema[at])
    first, last = examples.select(first=when.min(), last=when.max()).row(0)
    if last is None:
        raise NotEnoughData(f"there is no example: a test needs examples of more than {every + gap}")
    last += timedelta(microseconds=-last.microsecond % 1_000_000)
    starts = {last - every * back for back in range(1, count + 1)}
    starts |= {start for start in map(_start, also) if start is not None and first <= start <= last - every}
    usable = []
    for start in sorted(starts):
        fold = Fold(
            _name(start),
            train=(when <= start - gap) & (pl.col(LABEL_KNOWN_AT) <= start),
            test=when.is_between(start, start + every, closed="right"),
            known_until=start,
        )
        if all(examples.select(train=fold.train.any(), test=fold.test.any()).row(0)):
            usable.append(fold)
    if not usable:
        raise NotEnoughData(
            f"the examples reach from {_name(first)} to {_name(last)} (UTC): a test on the last {every} with a gap of {gap} leaves none to "
            f"learn from whose label was known by {_name(last - every)}"
        )
    return usable


def moment(at: str, dtype: pl.DataType) -> pl.Expr:
    """The time (UTC) of a time of prediction: the end of a date."""
    if dtype == pl.Date:
        return pl.col(at).cast(pl.Datetime("us")).dt.replace_time_zone("UTC") + _DAY
    if not isinstance(dtype, pl.Datetime):
        raise TypeError(f"{at!r} tells no time: a split by time needs a date or a UTC time, and it is {dtype}")
    column = pl.col(at).cast(pl.Datetime("us", dtype.time_zone))
    return column.dt.convert_time_zone("UTC") if dtype.time_zone else column.dt.replace_time_zone("UTC")


def _name(moment: datetime) -> str:
    """A time as people write it, and so that names sort as times do: without the time of day at midnight."""
    return f"{moment:%Y-%m-%d}" if moment.time() == time() else f"{moment:%Y-%m-%dT%H:%M:%S}"


def _start(name: str) -> datetime | None:
    """The time that `_name` wrote; None if another split made the name."""
    try:
        return datetime.fromisoformat(name).replace(tzinfo=UTC)
    except ValueError:
        return None


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"{name} must be more than 0")


def _require_two(count: int) -> None:
    if count < 2:
        raise ValueError(f"count must be at least 2, so that there are rows to learn from, and it is {count}")


def _require_column(examples: pl.DataFrame, column: str) -> None:
    if column not in examples.columns:
        raise ValueError(
            f"the examples have no column {column!r} to split by: add it to the slices. They have {', '.join(examples.columns)}"
        )

"""Counting of rows: what is kept of each column while the batches of one pass go by, in all groups at once.

What is made of the counts is in `statistics`; which rows belong together is in `groups`.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from lakehouse_assets.platform.monitoring.cells import Cells, Counts, Numbers, Texts
from lakehouse_assets.platform.monitoring.groups import WINDOW, Directory, Groups, Marked
from lakehouse_assets.platform.monitoring.sketches import Distinct, Frequent, Tails, grown

BATCH = 200_000
_BLOCK = "block"
# Sums of so many numbers, each so much smaller, cannot overflow.
_SMALLER, _LARGE = 2.0**-64, 2.0**900

Floats = npt.NDArray[np.float64]


@dataclass
class Moments:
    """Mean, spread and range of the finite numbers of each group, added up over batches (Chan's way, so that nothing cancels out)."""

    count: Floats
    mean: Floats
    squares: Floats
    low: Floats
    high: Floats
    zeros: Floats

    @classmethod
    def none(cls) -> "Moments":
        """Of one group without rows."""
        return cls(np.zeros(1), np.zeros(1), np.zeros(1), np.full(1, np.inf), np.full(1, -np.inf), np.zeros(1))

    def make_room(self, size: int) -> None:
        """For so many groups."""
        self.count, self.mean, self.squares, self.zeros = (grown(part, size) for part in (self.count, self.mean, self.squares, self.zeros))
        self.low, self.high = grown(self.low, size, np.inf), grown(self.high, size, -np.inf)

    def add(self, at: npt.NDArray[np.intp], count: Floats, mean: Floats, squares: Floats) -> None:
        """Add counts, means and sums of squared differences of some groups."""
        has = count > 0
        at, count, mean, squares = at[has], count[has], mean[has], squares[has]
        together = self.count[at] + count
        with np.errstate(over="ignore", invalid="ignore"):
            apart, share = mean - self.mean[at], count / together
            self.squares[at] += squares + apart * apart * self.count[at] * share
            self.mean[at] = self.mean[at] * (1 - share) + mean * share
        self.count[at] = together


class Column:
    """What is counted of one column.

    Attributes:
        name: Of the column.
        dtype: Of the column.
        cells: In which values are counted.
        counts: Of each group in the cells; nulls and NaN are the last two.
        blocks: The same of each block.
        distinct: Of the values that have no cell of their own.
        frequent: Of texts that have none.
        unseen: Of texts the rows of each group that the baseline does not know.
        tails: Of numbers.
        moments: Of numbers, and of the lengths of texts.
    """

    def __init__(self, number: int, name: str, dtype: pl.DataType, cells: Cells) -> None:
        self.name, self.dtype, self.cells = name, dtype, cells
        self.view, self._hashes = f"v{number}", f"h{number}"
        self._number = f"l{number}" if isinstance(cells, Texts) else self.view
        # Values that a float would make equal are told apart by themselves.
        is_fine = isinstance(dtype, pl.Datetime | pl.Duration) and dtype.time_unit == "ns"
        self._is_long = isinstance(cells, Numbers) and (dtype.is_integer() or dtype.is_decimal() or is_fine)
        width = cells.size + 2
        self.counts, self.blocks = np.zeros((1, width), dtype=np.int64), np.zeros((0, width), dtype=np.int64)
        self._shared = np.arange(width) < cells.size
        self._shared[[at for at, _ in cells.items()]] = False
        self._no_others = not self._shared.any() or cells.test is None
        self.distinct, self.frequent, self.moments = Distinct(), Frequent(), Moments.none()
        self.unseen = np.zeros(1, dtype=np.int64)
        self.tails = Tails(*cells.ends) if isinstance(cells, Numbers) else Tails(0, 0)

    def views(self) -> Iterator[pl.Expr]:
        """What is read of the column."""
        yield self.cells.view(self.name, self.dtype).alias(self.view)
        if isinstance(self.cells, Texts):
            yield self.cells.view(self.name, self.dtype).str.len_chars().cast(pl.Float64).alias(self._number)
        if self._is_long:
            yield pl.col(self.name).hash().alias(self._hashes)

    def sums(self) -> Iterator[pl.Expr]:
        """What is added up over batches, each under its own name."""
        if not self.has_numbers:
            return
        value = pl.col(self._number)
        number = pl.when(value.is_finite()).then(value)
        yield (value == 0).sum().alias(f"{self.view}_zeros")
        yield number.count().alias(f"{self.view}_count")
        yield (number * _SMALLER).mean().alias(f"{self.view}_mean")
        yield number.var(ddof=0).alias(f"{self.view}_var")
        yield number.min().alias(f"{self.view}_low")
        yield number.max().alias(f"{self.view}_high")

    @property
    def has_numbers(self) -> bool:
        """Whether there is something to add up: the numbers, or the lengths of texts."""
        return isinstance(self.cells, Numbers | Texts)

    def add_numbers(self, batch: pl.DataFrame, group: int, size: int) -> None:
        """Take the sums of a batch of numbers that are all of one group."""
        numbers = batch[self._number].to_numpy()  # nulls are NaN
        finite = np.isfinite(numbers)
        if not finite.all():
            numbers = numbers[finite]
        self.moments.make_room(size)
        if not len(numbers):
            return
        with np.errstate(invalid="ignore", over="ignore"):
            mean = (
                numbers.mean()
                if np.abs(ends := np.array([numbers.min(), numbers.max()])).max() < _LARGE
                else (numbers * _SMALLER).mean() / _SMALLER
            )
            apart = numbers - mean
            squares = np.array([float(apart @ apart)])
            self.moments.add(np.array([group]), np.array([float(len(numbers))]), np.array([mean]), squares)
        self.moments.low[group] = min(self.moments.low[group], ends[0])
        self.moments.high[group] = max(self.moments.high[group], ends[1])
        self.moments.zeros[group] += len(numbers) - np.count_nonzero(numbers)

    def add_sums(self, sums: pl.DataFrame, marked: Marked, size: int) -> None:
        """Take the sums of a batch, a row for each group that is present."""
        if self.has_numbers:
            self.moments.make_room(size)
            count, mean, var, low, high = (self._sum(sums, name) for name in ("count", "mean", "var", "low", "high"))
            at, has = marked.present, count > 0
            with np.errstate(invalid="ignore", over="ignore"):
                self.moments.add(at, count, mean / _SMALLER, var * count)
            self.moments.low[at[has]] = np.minimum(self.moments.low[at[has]], low[has])
            self.moments.high[at[has]] = np.maximum(self.moments.high[at[has]], high[has])
            self.moments.zeros[at] += self._sum(sums, "zeros")

    def add(self, batch: pl.DataFrame, groups: Sequence[Marked], size: int, blocks: Sequence[Marked], block_size: int) -> None:
        """Count a batch, given the group and the block of each row, and how many of them there are by now."""
        values = batch[self.view]
        cells = self.cells.codes(values)
        self.counts = grown(self.counts, size)
        for marked in groups:
            _count(self.counts, marked, cells)
        self.blocks = grown(self.blocks, block_size)
        for marked in blocks:
            _count(self.blocks, marked, cells)
        if isinstance(self.cells, Numbers):
            first, last = self.cells.inner
            out = np.flatnonzero((cells < first) | ((cells >= last) & (cells < self.cells.size)))
            if len(out):
                numbers = values.to_numpy()[out]
                finite = np.isfinite(numbers)
                for marked in groups:
                    self.tails.add(marked.present[marked.local[out[finite]]], numbers[finite])
        if self._no_others:
            return
        others = np.flatnonzero(self._shared[cells])
        if len(others):
            self._add_others(batch, values, others, groups, size)

    def _add_others(
        self, batch: pl.DataFrame, values: pl.Series, others: npt.NDArray[np.intp], groups: Sequence[Marked], size: int
    ) -> None:
        chosen = values if len(others) == len(values) else values.gather(others)
        hashes = (batch[self._hashes].gather(others) if self._is_long else chosen.hash()).to_numpy()
        unseen = None
        if isinstance(self.cells, Texts) and self.cells.rare is not None:
            self.unseen = grown(self.unseen, size)
            rare = pl.Series(self.cells.rare, dtype=pl.String)
            unseen = ~chosen.is_in(rare.implode()).to_numpy() if len(rare) else np.ones(len(others), dtype=bool)
        for marked in groups:
            codes = marked.present[marked.local[others]]
            self.distinct.add(codes, hashes, size)
            if isinstance(self.cells, Texts):
                self.frequent.add(codes, chosen, hashes, size)
            if unseen is not None:
                self.unseen[marked.present] += np.bincount(marked.local[others][unseen], minlength=len(marked.present))

    def close(self, groups: int, blocks: int) -> None:
        """Cut what is kept to the groups that there are."""
        self.counts, self.blocks = grown(self.counts, groups)[:groups], grown(self.blocks, blocks)[:blocks]
        self.unseen = grown(self.unseen, groups)[:groups]
        self.moments.make_room(groups)

    def shared(self, groups: npt.NDArray[np.intp]) -> Counts:
        """How many values of groups have no cell of their own."""
        found: Counts = self.counts[groups][:, self._shared].sum(axis=1)
        return found

    def rare(self, whole: npt.NDArray[np.intp]) -> tuple[str, ...] | None:
        """The texts of some groups that have no cell of their own; None if they are too many to know."""
        found = self.frequent.counted().filter(pl.col("group").is_in(whole.tolist()))
        return tuple(found["item"].unique().to_list()) if int(found["count"].sum()) == self.shared(whole).sum() else None

    def _sum(self, sums: pl.DataFrame, name: str) -> Floats:
        return sums[f"{self.view}_{name}"].cast(pl.Float64).fill_null(0).to_numpy()


def _count(counts: Counts, marked: Marked, cells: npt.NDArray[np.intp]) -> None:
    width, groups = counts.shape[1], len(marked.present)
    chosen = cells if marked.rows is None else cells[marked.rows]
    codes = chosen if groups == 1 else marked.local * width + chosen
    counts[marked.present] += np.bincount(codes, minlength=groups * width).reshape(groups, width)


@dataclass(frozen=True)
class Blocks:
    """The stretches of a baseline that are counted each by itself: its windows, or stretches with about as many rows each.

    Attributes:
        bounds: Starts of the windows; of stretches the moments between them, as microseconds since 1970.
        follows: Whether each block is the next one after that before it.
        every: The length of the windows; None: stretches.
    """

    bounds: npt.NDArray[np.int64]
    follows: npt.NDArray[np.bool_]
    every: str | None

    def mark(self, groups: Groups, schema: pl.Schema) -> pl.Expr:
        """What tells the block of a row."""
        moment = groups.moment(schema)
        return (moment.dt.truncate(self.every) if self.every else moment).to_physical().alias(_BLOCK)

    def numbered(self, batch: pl.DataFrame) -> pl.DataFrame:
        """A batch with the number of each row's block; null if it has none, as rows without a time do."""
        moments = batch[_BLOCK].fill_null(0).to_numpy()
        number = np.searchsorted(self.bounds, moments, side="left" if self.every else "right")
        inside = batch[_BLOCK].is_not_null().to_numpy()
        if self.every:
            inside &= np.append(self.bounds, -1)[number] == moments
            inside &= number < len(self.bounds)
        return batch.with_columns(pl.Series(_BLOCK, number.astype(np.int64)).set(pl.Series(~inside), None))


def count(rows: pl.LazyFrame, groups: Groups, columns: Sequence[Column], blocks: Blocks | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Count rows in one pass: batch by batch, each by threads, a column each.

    Returns:
        The keys of the groups, and those of the blocks (`window_start` is the number of the block).

    Raises:
        CannotProfile: There are too many groups.
    """
    schema = rows.collect_schema()
    marks = groups.marks(schema) + ([] if blocks is None else [blocks.mark(groups, schema)])
    views = rows.select(*marks, *(part for column in columns for part in column.views()))
    directory = Directory(groups, WINDOW if groups.every else None)
    of_blocks = _BlockDirectory(groups)
    with ThreadPoolExecutor(pl.thread_pool_size()) as threads:
        for batch in views.collect_batches(chunk_size=BATCH, maintain_order=False, engine="streaming"):
            if not batch.height:
                continue
            marked = directory.mark(batch)
            in_blocks = [] if blocks is None else of_blocks.mark(blocks.numbered(batch))
            sizes = directory.size, of_blocks.size
            list(threads.map(lambda column: column.add(batch, marked, sizes[0], in_blocks, sizes[1]), columns))  # noqa: B023 all are done here
            for one in marked:
                if len(one.present) == 1:
                    numbers = [column for column in columns if column.has_numbers]
                    list(threads.map(lambda column: column.add_numbers(batch, int(one.present[0]), sizes[0]), numbers))  # noqa: B023
                else:
                    _add_sums(batch, one, columns, sizes[0])
    for column in columns:
        column.close(directory.size, of_blocks.size)
    return directory.keys, of_blocks.keys


def _add_sums(batch: pl.DataFrame, marked: Marked, columns: Sequence[Column], size: int) -> None:
    sums = [expression for column in columns for expression in column.sums()]
    if not sums:
        return
    added = batch.with_columns(group=pl.Series(marked.local)).group_by("group").agg(sums).sort("group")
    for column in columns:
        column.add_sums(added, marked, size)


class _BlockDirectory(Directory):
    """Numbers blocks and their slices; rows in no block are left out."""

    def __init__(self, groups: Groups) -> None:
        super().__init__(groups, _BLOCK, most=1 << 31, of=pl.Int64())

    def mark(self, batch: pl.DataFrame, rows: npt.NDArray[np.intp] | None = None) -> list[Marked]:
        inside = batch[_BLOCK].is_not_null()
        if inside.all():
            return super().mark(batch, rows)
        chosen = np.flatnonzero(inside.to_numpy())
        return super().mark(batch.filter(inside), chosen) if len(chosen) else []

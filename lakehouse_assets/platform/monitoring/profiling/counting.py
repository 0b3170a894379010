"""Counting of rows: what is kept of each column while the batches of one pass go by, in all groups at once.

What is made of the counts is in `statistics`; which rows belong together is in `groups`.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from lakehouse_assets.platform.monitoring.profiling.cells import PART, Cells, Counts, Numbers, Texts, floats
from lakehouse_assets.platform.monitoring.profiling.groups import WINDOW, Directory, Groups, Marked
from lakehouse_assets.platform.monitoring.profiling.moments import Floats, Moments
from lakehouse_assets.platform.monitoring.profiling.sketches import Distinct, Frequent, Tails, grown, once
from lakehouse_assets.platform.monitoring.profiling.text_lookup import TextLookup

BATCH = 200_000
_BLOCK = "block"
_GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)


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
        self.view, self._whole = f"v{number}", f"w{number}"
        # Values that a float would make equal are told apart by themselves.
        is_fine = isinstance(dtype, pl.Datetime | pl.Duration) and dtype.time_unit == "ns"
        self._is_long = isinstance(cells, Numbers) and (dtype.is_integer() or dtype.is_decimal() or is_fine)
        width = cells.size + 2
        self.counts, self.blocks = np.zeros((1, width), dtype=np.int64), np.zeros((0, width), dtype=np.int64)
        self._shared = np.arange(width) < cells.size
        self._shared[[at for at, _ in cells.items()]] = False
        self._no_others = not self._shared.any() or cells.test is None
        self._tail = np.zeros(width, dtype=bool)
        self._lengths: Floats = np.empty(0)
        self._rare: TextLookup | None = None
        if isinstance(cells, Numbers):
            first, last = cells.inner
            self._tail[:first] = self._tail[last : cells.size] = True
        elif isinstance(cells, Texts):
            self._lengths = pl.Series(cells.values, dtype=pl.String).str.len_chars().cast(pl.Float64).to_numpy()
            self._rare = None if cells.rare is None else TextLookup(cells.rare)
        self.distinct, self.frequent, self.moments = Distinct(), Frequent(), Moments.none()
        self.unseen = np.zeros(1, dtype=np.int64)
        self.tails = Tails(*cells.ends) if isinstance(cells, Numbers) else Tails(0, 0)

    def views(self) -> Iterator[pl.Expr]:
        """What is read of the column."""
        yield self.cells.view(self.name, self.dtype).alias(self.view)
        if self._is_long:
            yield pl.col(self.name).alias(self._whole)

    def add(self, batch: pl.DataFrame, groups: Sequence[Marked], size: int, blocks: Sequence[Marked], block_size: int) -> None:
        """Count a batch, given the group and the block of each row, and how many of them there are by now."""
        values = batch[self.view]
        cells = self.cells.codes(values)
        self.counts, self.blocks = grown(self.counts, size), grown(self.blocks, block_size)
        for marked in blocks:
            self.blocks[marked.present] += _counted(marked, cells, self.blocks.shape[1])
        for marked in groups:
            counts = _counted(marked, cells, self.counts.shape[1])
            self.counts[marked.present] += counts
            if isinstance(self.cells, Texts):
                self.moments.add_counted(marked.present, counts[:, : len(self._lengths)], self._lengths, size)
        if isinstance(self.cells, Numbers):
            numbers = floats(values)
            out = np.flatnonzero(self._tail.take(cells))
            out = out[np.isfinite(numbers[out])]
            for marked in groups:
                self.moments.add_numbers(marked, numbers, size)
                self.tails.add(marked.present[marked.local[out]], numbers[out])
            if not self._no_others:
                self._add_other_numbers(batch[self._whole] if self._is_long else values, cells, groups, size)
        elif isinstance(self.cells, Texts):
            others = np.flatnonzero(self._shared.take(cells))
            if len(others):
                texts = values.cast(pl.String)
                for marked in groups:
                    self._add_other_texts(texts, others, marked, size)

    def _add_other_numbers(self, values: pl.Series, cells: npt.NDArray[np.intp], groups: Sequence[Marked], size: int) -> None:
        """Those whose cells have more than one value."""
        shared = self._shared.take(cells)
        are_most = np.count_nonzero(shared) * 2 > len(cells)
        places = np.empty(0, dtype=np.intp) if are_most else np.flatnonzero(shared)
        hashes = (values if are_most else values.gather(places)).hash().to_numpy()
        for start in range(0, len(hashes), PART):
            telling = self.distinct.telling(hashes[start : start + PART], size) + start
            telling = telling[shared.take(telling)] if are_most else telling
            rows = telling if are_most else places[telling]
            for marked in groups:
                self.distinct.add(marked.present[marked.local[rows]], hashes[telling], size)

    def _add_other_texts(self, values: pl.Series, others: npt.NDArray[np.intp], marked: Marked, size: int) -> None:
        """Those that have no cell of their own; of a text that a batch often has only one is looked at."""
        hashes = values.hash().to_numpy()[others]
        keys = hashes if len(marked.present) == 1 else hashes + marked.local[others].astype(np.uint64) * _GOLDEN
        places, counts = once(keys)
        if are_few := len(places) * 2 < len(others):
            hashes, others = hashes[places], others[places]
        else:
            counts = np.ones(len(others), dtype=np.int64)
        texts = values if len(others) == len(values) else values.gather(others)
        local = marked.local[others]
        codes = marked.present[local]
        lengths = texts.str.len_chars().cast(pl.Float64).to_numpy()
        self.moments.add_numbers(replace(marked, local=local), lengths, size, counts if are_few else None)
        telling = self.distinct.telling(hashes, size)
        self.distinct.add(codes[telling], hashes[telling], size)
        self.frequent.add(codes, texts, hashes, counts, size)
        if self._rare is not None:
            self.unseen = grown(self.unseen, size)
            unseen = self._rare.find(hashes) == self._rare.size
            np.add.at(self.unseen, codes[unseen], counts[unseen])

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


def _counted(marked: Marked, cells: npt.NDArray[np.intp], width: int) -> Counts:
    """How many values each cell has, a row for each group that is present."""
    groups = len(marked.present)
    chosen = cells if marked.rows is None else cells[marked.rows]
    codes = chosen if groups == 1 else marked.local * width + chosen
    return np.bincount(codes, minlength=groups * width).reshape(groups, width)


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
    views = [*marks, *(part for column in columns for part in column.views())]
    directory = Directory(groups, WINDOW if groups.every else None)
    of_blocks = _BlockDirectory(groups)
    with ThreadPoolExecutor(pl.thread_pool_size()) as threads:
        # Views in the query would be made of all rows ahead of the counting, which is slower: a reader alone waits.
        for read in rows.collect_batches(chunk_size=BATCH, maintain_order=False, engine="streaming"):
            if not read.height:
                continue
            batch = read.select(views)
            marked = directory.mark(batch)
            in_blocks = [] if blocks is None else of_blocks.mark(blocks.numbered(batch))
            sizes = directory.size, of_blocks.size
            list(threads.map(lambda column: column.add(batch, marked, sizes[0], in_blocks, sizes[1]), columns))  # noqa: B023 all are done here
    for column in columns:
        column.close(directory.size, of_blocks.size)
    return directory.keys, of_blocks.keys


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

"""Samples of rows by group in one pass.

Rows with the smallest hashes are chosen, so it matters neither in which order rows are read nor which other groups there are, nor how
rows came: columns that the platform adds have no part in the hash. What is done with the rows is in `domain`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from lakehouse_assets.platform.monitoring.profiling.counting import BATCH
from lakehouse_assets.platform.storage.known_at import KNOWN_AT, OWN_COLUMNS

GROUP, MOMENT, KEY = "__group", "__moment", "__key"
"""What a sample has next to the columns: the group, the time, and the hash by which a row was chosen."""
_SEED = 20_260_101
_STEP = np.uint64(0x9E37_79B9_7F4A_7C15)


def row_samples(
    rows: pl.LazyFrame, names: Sequence[str], moment: pl.Expr, groupings: Sequence[tuple[Callable[[pl.DataFrame], pl.DataFrame], int]]
) -> list[pl.DataFrame]:
    """Some rows of each group, for several ways to group them.

    Args:
        rows: A table, or some of it; read once.
        names: The columns that are wanted.
        moment: The time of a row.
        groupings: Each with what gives rows their group in `GROUP` and leaves out those without one, and the most rows of a group.

    Returns:
        Of each grouping the rows, ordered by group and hash.
    """
    hashed = [name for name, dtype in rows.collect_schema().items() if not dtype.is_nested() and (name in names or not _is_added(name))]
    key = pl.struct(hashed).hash(_SEED) if hashed else pl.lit(0, pl.UInt64)
    wanted = rows.select(*names, moment.alias(MOMENT), key.alias(KEY))
    samples = [pl.DataFrame() for _ in groupings]
    for batch in wanted.collect_batches(chunk_size=BATCH, maintain_order=True, engine="streaming"):
        apart = _apart(batch)
        for number, (grouped, most) in enumerate(groupings):
            samples[number] = _smallest(pl.concat([samples[number], grouped(apart)], how="diagonal"), most)
    return samples


def _is_added(name: str) -> bool:
    """Whether a column says how and when a row came: in another root, or after a run that died, equal rows have others."""
    return name.startswith("_") or name == KNOWN_AT or name in OWN_COLUMNS


def _apart(batch: pl.DataFrame) -> pl.DataFrame:
    """Rows that are alike get hashes of their own, or of few kinds of rows one kind alone would be chosen."""
    number = batch.select(pl.int_range(pl.len()).over(KEY)).to_series().to_numpy().astype(np.uint64)
    return batch.with_columns(pl.Series(KEY, batch[KEY].to_numpy() + number * _STEP))


def _smallest(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    return rows.sort(GROUP, KEY, maintain_order=True).group_by(GROUP, maintain_order=True).head(most) if rows.height else rows

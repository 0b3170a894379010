"""How the values of a partition column are written as text, and which of them a table has.

As a folder has them, so has Dagster's web UI, and so does a person type them. Which rows a run may touch is determined above.
"""

from dataclasses import dataclass

import polars as pl

from lakehouse_assets.platform.storage.predicates import Value
from lakehouse_assets.platform.storage.table import Table

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""As a folder of rows without a value is called."""


@dataclass(frozen=True)
class StoredPartition:
    """A partition as a table has it.

    Attributes:
        rows: How many there are.
        files: Their paths below the table.
    """

    rows: int
    files: frozenset[str]


def key(value: Value) -> str:
    """A value as text."""
    if value is None:
        return NO_VALUE
    return str(value).lower() if isinstance(value, bool) else str(value)


def values(keys: pl.Series, dtype: pl.DataType) -> pl.Series:
    """The values of texts; null where a text is no value of the type."""
    if dtype == pl.Boolean:
        return keys.replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
    if dtype == pl.Date:
        return keys.str.to_date("%Y-%m-%d", strict=False)
    return keys.cast(dtype, strict=False)


def value(text: str, dtype: pl.DataType) -> Value:
    """The value of a text; a month stands for its first day.

    Raises:
        ValueError: It is no value of the type.
    """
    if text == NO_VALUE:
        return None
    spellings = pl.Series([text, f"{text}-01"] if dtype == pl.Date else [text], dtype=pl.String)
    found = values(spellings, dtype).drop_nulls()
    if not found.len():
        example = "2026-01-31" if dtype == pl.Date else "true" if dtype == pl.Boolean else "7"
        raise ValueError(f"{text!r} is no {dtype}, as {example} is")
    first: Value = found[0]
    return first


def existing(table: Table, column: str) -> dict[str, StoredPartition]:
    """The partitions of a table by their keys, from its log alone; none if there is no table."""
    if not table.exists():
        return {}
    files = pl.DataFrame(table.now().get_add_actions(flatten=True))
    if not files.height:
        return {}
    by_value = files.group_by(f"partition.{column}").agg(pl.col("num_records").sum(), pl.col("path")).sort(f"partition.{column}")
    return {key(value): StoredPartition(int(rows or 0), frozenset(paths)) for value, rows, paths in by_value.iter_rows()}

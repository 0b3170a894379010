"""Which rejected rows a replay takes and what it changes in their source rows, in SQL; what a person writes is checked here.

What becomes of the rows is in `replay`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl


class ReplayRefused(ValueError):
    """A replay that cannot be done, with what to do instead."""


@dataclass(frozen=True)
class Selection:
    """Which rows are put through, and what is changed in their source rows before.

    Attributes:
        where: A condition in SQL on the columns of the quarantine and of the source (`source.…` where both have one); None for all rows.
        sets: By column of the source, an expression in SQL over the source row.
    """

    where: str | None = None
    sets: Mapping[str, str] = field(default_factory=dict)

    def chosen(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The rows that meet the condition.

        Raises:
            ReplayRefused: It cannot be understood.
        """
        return rows if self.where is None else rows.filter(_expression(self.where, rows, "--where"))


def changed(rows: pl.LazyFrame, sets: Mapping[str, str]) -> pl.LazyFrame:
    """Source rows with changes.

    Raises:
        ReplayRefused: A change cannot be understood, or is one of a column that cannot be changed.
    """
    schema = rows.collect_schema()
    return rows.with_columns(_set(column, text, rows, schema) for column, text in sets.items())


def _set(column: str, text: str, rows: pl.LazyFrame, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    if column not in schema or column.startswith("_"):
        known = ", ".join(name for name in schema if not name.startswith("_"))
        raise ReplayRefused(f"--set {column}={text}: {column!r} is not a column of the source that can be set. There are: {known}")
    return _expression(text, rows, f"--set {column}").cast(schema[column], strict=True).alias(column)


def _expression(text: str, rows: pl.LazyFrame, option: str) -> pl.Expr:
    """An expression in SQL over the columns of the rows."""
    try:
        found = pl.sql_expr(text)
        rows.select(found).collect_schema()
    except pl.exceptions.PolarsError as error:
        columns = ", ".join(rows.collect_schema().names())
        raise ReplayRefused(
            f"{option} {text!r} cannot be understood: {str(error).splitlines()[0]}. There are the columns {columns}"
        ) from error
    return found

"""Conditions on columns, spelled for delta-rs (SQL with literal values) and for Polars.

A scope that cannot be spelled with literals is an error here, never a wider scope.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

import polars as pl

from lakehouse_assets.platform.storage.errors import ScopeError

Value = str | int | bool | date | None
ColumnValues = Mapping[str, Sequence[Value]]
"""Per column, the values of the rows that a write may touch; all columns together."""

_NO_COLUMNS = "a scope needs at least one column"


def identifier(name: str) -> str:
    """A column's name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: Value) -> str:
    """A partition's value for SQL.

    Raises:
        ScopeError: The value is not a string, integer, boolean or date.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if type(value) is date:
        return f"'{value.isoformat()}'"
    raise ScopeError(f"{value!r} is a {type(value).__name__}: a scope is made of strings, integers, booleans and dates")


def check(scope: ColumnValues, schema: Mapping[str, pl.DataType], table: str) -> None:
    """Refuse values that a column cannot have, as the text "7" in a column of numbers.

    Raises:
        ScopeError: So it is.
    """
    for name, values in scope.items():
        wanted = schema[name].to_python()
        for value in values:
            if value is not None and type(value) is not wanted:
                raise ScopeError(f"{table}: the scope has {value!r} for {name!r}, whose values are of type {wanted.__name__}")


def sql(scope: ColumnValues, alias: str | None = None) -> str:
    """The scope as SQL; delta-rs needs the literal values to let writers of other partitions run at once.

    Raises:
        ScopeError: A column has no values, or the scope no columns.
    """
    if not scope:
        raise ScopeError(_NO_COLUMNS)
    return " AND ".join(_one_of(name, values, alias) for name, values in scope.items())


def _one_of(name: str, values: Sequence[Value], alias: str | None) -> str:
    column = f"{alias}.{identifier(name)}" if alias else identifier(name)
    known = [literal(value) for value in values if value is not None]
    parts = [f"{column} IN ({', '.join(known)})"] * bool(known) + [f"{column} IS NULL"] * (None in values)
    if not parts:
        raise ScopeError(f"the scope names no value of {name!r}")
    return f"({' OR '.join(parts)})"


def expression(scope: ColumnValues) -> pl.Expr:
    """The scope as a Polars condition, never null. A column without values lets no row through.

    Raises:
        ScopeError: The scope has no columns.
    """
    if not scope:
        raise ScopeError(_NO_COLUMNS)
    return pl.all_horizontal(
        pl.col(name).is_in([v for v in values if v is not None]).fill_null(None in values) for name, values in scope.items()
    )


def in_range(name: str, values: pl.Series) -> pl.Expr:
    """Whether a column is between the least and the greatest of some values, or null like one of them: by it, statistics rule files out.

    Bounds are literals: Polars takes a plain text for the name of a column.
    """
    # Nulls leave bounds that are null, by which nothing is in range.
    low, high = (pl.lit(bound, values.dtype) for bound in (values.min(), values.max()))
    between = pl.col(name).is_between(low, high)
    return between | pl.col(name).is_null() if values.null_count() else between


def values_of(frame: pl.DataFrame, columns: Iterable[str]) -> dict[str, list[Value]]:
    """The scope that a frame's own rows span, sorted."""
    return {name: frame[name].unique().sort().to_list() for name in columns}

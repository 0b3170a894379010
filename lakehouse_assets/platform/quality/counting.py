"""How many of a table's stored rows break the rules of a contract, without holding the rows in memory.

Rows on their way into a table are split in `split`; here nothing is changed and nothing stopped.
"""

from collections.abc import Callable, Collection, Mapping

import polars as pl

from lakehouse_assets.platform.quality.contract import Contract, key_columns, schema_of
from lakehouse_assets.platform.quality.rules import KEY_UNIQUE, BoundRule, bound_rules

Referenced = Callable[[BoundRule], pl.LazyFrame | None]
"""Gives the values of the column that a rule references, as a frame of one column; None if there is nothing to hold the rows against."""


def broken_counts(contract: type[Contract], rows: pl.LazyFrame, names: Collection[str], referenced: Referenced) -> dict[str, int]:
    """How many rows break each of the named rules; a rule whose columns the rows lack, or hold in another type, is left out.

    Args:
        contract: The contract with the rules.
        rows: Stored rows; columns may be missing.
        names: Of the rules, `key_unique` among them.
        referenced: For the rules that reference another table.
    """
    stored = rows.collect_schema()
    fitting = {name for name, dtype in schema_of(contract).items() if stored.get(name) == dtype}
    counts: dict[str, int] = {}
    if KEY_UNIQUE in names and (key := key_columns(contract)) and set(key) <= fitting:
        total, distinct = rows.select(pl.len(), pl.struct(key).n_unique().alias("distinct")).collect(engine="streaming").row(0)
        counts[KEY_UNIQUE] = total - distinct
    for bound in bound_rules(contract):
        if bound.rule.name not in names or (bound.rule.column or next(iter(fitting), None)) not in fitting:
            continue
        try:
            count = _count(bound, rows.select(sorted(fitting)), stored, referenced)
        except pl.exceptions.ColumnNotFoundError:  # a rule that compares columns, one of which is not stored
            continue
        if count is not None:
            counts[bound.rule.name] = count
    return counts


def _count(bound: BoundRule, rows: pl.LazyFrame, stored: Mapping[str, pl.DataType], referenced: Referenced) -> int | None:
    column = bound.rule.column
    if bound.check is not None:
        answers = bound.check(rows, column).check_output
        return _number(answers.select((~pl.nth(0)).sum()))
    if column is None:
        return None  # whether a text could be read is known only when it is read
    if bound.reference is None:
        missing = pl.col(column).is_null()
        return _number(rows.select((missing | pl.col(column).is_nan() if stored[column].is_float() else missing).sum()))
    values = referenced(bound)
    if values is None:
        return None
    known = values.select(pl.nth(0).alias(column)).unique()
    return _number(rows.select(column).drop_nulls().join(known, on=column, how="anti").select(pl.len()))


def _number(counted: pl.LazyFrame) -> int:
    return int(counted.collect(engine="streaming").item() or 0)

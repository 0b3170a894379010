"""Which rows a run may touch: from Dagster's partition keys and the types of a table's columns to a condition on rows.

A key says nothing about rows until it is known for which column it stands and of which type that column is. That is determined
here or refused; reading and writing the rows is the business of `io_manager`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time
from typing import Any, NamedTuple

import dagster as dg
import polars as pl

from lakehouse_assets.platform.storage import partition_keys, predicates, types
from lakehouse_assets.platform.storage.errors import ScopeError


class Condition(NamedTuple):
    """One condition on rows, for delta-rs and for Polars. A row for which it is null lies outside."""

    sql: str
    expression: pl.Expr


class RowScope(NamedTuple):
    """The rows of some partitions, and the columns that tell them from others."""

    columns: tuple[str, ...]
    condition: Condition


def row_scope(
    asset: str, partitions: dg.PartitionsDefinition, partition_expr: Any, keys: Iterable[str], schema: Mapping[str, pl.DataType]
) -> RowScope:
    """The rows of the partitions `keys`.

    A time window is the half-open range of its days or moments, whatever the step of the column's values. Any other key stands for
    the one value that is written like it.

    Args:
        asset: Named in errors.
        partitions: How the asset is partitioned.
        partition_expr: The column that the partitions stand for; for several dimensions, the column of each.
        keys: Partition keys, of all dimensions at once.
        schema: The table's columns under their stored types.

    Raises:
        ScopeError: There is no saying which rows are meant: `partition_expr` does not name a column for each dimension, there are no
            keys, a key is not a value of its column, or a time window starts or ends within a day of a column of days.
        TypeNotStorable: A column has a type that cannot hold partition keys.
    """
    columns = _columns(asset, partitions, partition_expr)
    missing = [column for column in columns if column not in schema]
    if missing:
        raise ScopeError(f"{asset}: partition_expr names {missing[0]!r}, which is not a column of the table: {', '.join(schema)}")
    blocks = _blocks({_by_dimension(partitions, key) for key in keys})
    if not blocks:
        raise ScopeError(f"{asset}: no partition is asked for, so there is no saying which rows are meant")
    condition = _any(
        _all(_column(asset, name, schema[name], columns[name], same) for name, same in zip(columns, block, strict=True)) for block in blocks
    )
    return RowScope(tuple(columns), condition)


def _columns(asset: str, partitions: dg.PartitionsDefinition, partition_expr: Any) -> dict[str, dg.PartitionsDefinition]:
    """For each named column the partitions that its values belong to, in the order of the dimensions."""
    if not isinstance(partitions, dg.MultiPartitionsDefinition):
        if not isinstance(partition_expr, str):
            raise ScopeError(
                f"{asset} has partitions, but it does not say which column they stand for: "
                f'write metadata={{"partition_expr": "<column>"}}, not {partition_expr!r}'
            )
        return {partition_expr: partitions}
    dimensions = {dimension.name: dimension.partitions_def for dimension in partitions.partitions_defs}
    columns = partition_expr if isinstance(partition_expr, Mapping) else {}
    if set(columns) != set(dimensions) or len(set(columns.values())) != len(dimensions):
        wanted = ", ".join(f'"{name}": "<column>"' for name in dimensions)
        raise ScopeError(
            f"{asset} has partitions of several dimensions, but it does not say which column each stands for: "
            f'write metadata={{"partition_expr": {{{wanted}}}}}, not {partition_expr!r}'
        )
    return {columns[name]: dimension for name, dimension in dimensions.items()}


def _by_dimension(partitions: dg.PartitionsDefinition, key: str) -> tuple[str, ...]:
    if not isinstance(partitions, dg.MultiPartitionsDefinition):
        return (key,)
    keys = partitions.get_partition_key_from_str(key).keys_by_dimension
    return tuple(keys[dimension.name] for dimension in partitions.partitions_defs)


def _blocks(cells: AbstractSet[tuple[str, ...]]) -> list[tuple[frozenset[str], ...]]:
    """The cells as few products: for each, the keys of every dimension."""
    if () in cells:
        return [()]
    rests: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for cell in cells:
        rests[cell[0]].add(cell[1:])
    heads: dict[frozenset[tuple[str, ...]], set[str]] = defaultdict(set)
    for head, rest in rests.items():
        heads[frozenset(rest)].add(head)
    return [(frozenset(same), *tail) for rest, same in heads.items() for tail in _blocks(rest)]


def _column(asset: str, name: str, dtype: pl.DataType, partitions: dg.PartitionsDefinition, keys: frozenset[str]) -> Condition:
    if isinstance(partitions, dg.TimeWindowPartitionsDefinition) and isinstance(dtype, pl.Date | pl.Datetime):
        windows = partitions.time_windows_for_partition_keys(keys, validate=False)
        bounds = [(_bound(asset, name, dtype, window.start), _bound(asset, name, dtype, window.end)) for window in windows]
        return _any(_between(name, start, end) for start, end in _joined(bounds))
    types.check_partition_columns({name: dtype}, (name,))
    return _one_of(asset, name, dtype, keys)


def _bound(asset: str, name: str, dtype: pl.DataType, moment: datetime) -> date:
    if isinstance(dtype, pl.Datetime):
        return moment.astimezone(UTC)
    if moment.time() != time.min:
        raise ScopeError(
            f"{asset}: a partition starts or ends at {moment.isoformat()}, within a day, but {name!r} holds whole days: "
            "partition by a timestamp column, or from midnight to midnight"
        )
    return moment.date()


def _joined(bounds: Iterable[tuple[date, date]]) -> list[tuple[date, date]]:
    """The half-open ranges, those that touch made one."""
    joined: list[tuple[date, date]] = []
    for start, end in sorted(bounds):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _between(name: str, start: date, end: date) -> Condition:
    column = predicates.identifier(name)
    return Condition(
        f"({column} >= '{start.isoformat()}' AND {column} < '{end.isoformat()}')",
        (pl.col(name) >= start) & (pl.col(name) < end),
    )


def _one_of(asset: str, name: str, dtype: pl.DataType, keys: frozenset[str]) -> Condition:
    spelled = pl.Series(sorted(keys))
    values = partition_keys.values(spelled, dtype)
    # Were "1" and "01" both the number 1, a run of the one would replace the rows of the other.
    wrong = spelled.filter(values.cast(pl.String).ne_missing(spelled))
    if wrong.len():
        raise ScopeError(
            f"{asset}: partition {wrong[0]!r} is not written as a value of {name!r} ({dtype}) is: rename it, or store it as String"
        )
    return Condition(predicates.sql({name: values.to_list()}), pl.col(name).is_in(values.to_list()))


def _all(conditions: Iterable[Condition]) -> Condition:
    parts = list(conditions)
    return Condition(" AND ".join(part.sql for part in parts), pl.all_horizontal(part.expression for part in parts))


def _any(conditions: Iterable[Condition]) -> Condition:
    parts = list(conditions)
    return Condition(f"({' OR '.join(part.sql for part in parts)})", pl.any_horizontal(part.expression for part in parts))

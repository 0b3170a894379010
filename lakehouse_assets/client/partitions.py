"""Partitions of tables as a person names them. Which rows one has, and how it is computed again, is in `pipeline`."""

from collections.abc import Iterable

from lakehouse_assets.client.context import Context
from lakehouse_assets.platform.declarations.base import nearest_or_all


def stored_key(context: Context, names: Iterable[str], partition: str) -> str:
    """The key under which tables have a partition: a month also names its first day.

    Of names that are no tables with partitions of their own nothing is known here: the key is returned as it is.

    Raises:
        ValueError: It is no value of a table's partition column, or a table has no such partition.
    """
    from lakehouse_assets.platform.storage import partition_keys

    key = partition
    for table in context.tables:
        column = table.kind.recomputed_by
        if table.name not in names or not column:
            continue
        try:
            key = partition_keys.key(partition_keys.value(partition, table.schema[column]))
        except ValueError as error:
            raise ValueError(f"{table.name} has partitions by {column}: {error}") from None
        known = partition_keys.existing(context.root.lakehouse.table(table.name), column)
        if key not in known:
            raise ValueError(f"{table.name} has no partition {partition!r}{nearest_or_all(partition, list(known)[-20:])}")
    return key

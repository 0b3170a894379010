"""Paths of a table's files: what the name of a folder can carry, and where delta-rs spells a path so that Polars does not find the file.

Which values a column may have for other reasons is the contract's business.
"""

import os
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote, unquote

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.storage.errors import ScopeError, StorageError

_LOCAL = "file://"
# `=` looks like a partition to Polars, `*` and `?` like a pattern; delta-rs decodes `%` twice, ends an address at `#`, and does not take
# the others. The addresses of databases, as MLflow has them, end at `?` and `#` too, and `%` is decoded in them.
NOT_IN_A_ROOT: Final = frozenset("=*?%[]^|\\#")
# Delta reads both as null, so a row would come back with another value than it was written with.
_READ_AS_NULL = ("", "__HIVE_DEFAULT_PARTITION__")
_LONGEST_FOLDER = 255


def check_root(root: str) -> None:
    """Refuse a folder below which tables or databases could be written but not read again.

    Raises:
        StorageError: Its whole path, with the folder of the process before it, has one of `NOT_IN_A_ROOT`.
    """
    place = root if "://" in root else os.path.abspath(root)  # noqa: PTH100 the path as it stands, links are not followed
    wrong = sorted(NOT_IN_A_ROOT.intersection(place))
    if wrong:
        raise StorageError(f"tables cannot live in {place!r} because of {' '.join(wrong)} in its path: choose another folder")


def check_partition_values(frame: pl.DataFrame, columns: Sequence[str], table: str) -> None:
    """Refuse rows whose partition could not be named by a folder.

    Raises:
        ScopeError: A partition value is empty, stands for null in paths, or is too long for a folder's name.
    """
    for name in columns:
        if frame.schema[name] != pl.String:
            continue
        for value in frame[name].unique().drop_nulls():
            if value in _READ_AS_NULL:
                raise ScopeError(f"{table}: partition column {name!r} has the value {value!r}, which readers take for null: write null")
            if len(quote(name, safe="")) + 1 + len(quote(value, safe="")) > _LONGEST_FOLDER:
                raise ScopeError(f"{table}: partition column {name!r} has the value {value[:40]!r}…, too long for the name of a folder")


def folder(table: DeltaTable) -> str:
    """The table's folder or object prefix as the file system or the store knows it, with a slash at its end."""
    return unquote(table.table_uri.rstrip("/") + "/").removeprefix(_LOCAL)


class OpenedTable(DeltaTable):
    """A table as delta-rs opens it, with the paths of its files spelled as the file system or the store knows them.

    delta-rs encodes the table's own folder (a space becomes `%20`), and `pl.scan_delta` takes that for the folder's name. It also reads
    the whole log for every cursor that it is asked for, so those of a version are kept.
    """

    def transaction_version(self, app_id: str) -> int | None:
        """As `DeltaTable.transaction_version`."""
        known: dict[tuple[int, str], int | None] = self.__dict__.setdefault("_known_transactions", {})
        asked = (self.version(), app_id)
        if asked not in known:
            known[asked] = super().transaction_version(app_id)
        return known[asked]

    def file_uris(self, *args: Any, **kwargs: Any) -> list[str]:
        """As `DeltaTable.file_uris`."""
        encoded = self.table_uri.removeprefix(_LOCAL)
        return [unquote(encoded) + uri.removeprefix(encoded) for uri in super().file_uris(*args, **kwargs)]

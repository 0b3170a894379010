"""Tables that this process has opened, cached until their log has a newer commit.

Opening a table reads every commit since its last checkpoint, and in a bucket each is a request; seeing that nothing came costs one. So
what a reader pays does not depend on how long ago the last checkpoint was. A table is cached by its address, its options and the
credentials of the environment (`bucket.access_key`): who opens it with others gets an object of their own.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from lakehouse_assets.platform.storage.bucket import access_key, is_bucket, open_store, split_address

_NAME_LENGTH = len(f"{0:020d}.json")
_PAGE = 1000
_IN_LOG = re.compile(r"\d{20}\.(json|checkpoint\..*parquet)")
_LARGEST_CACHE = 500


@dataclass(frozen=True)
class _Commit:
    """A commit's file as the store or the disk has it: a table that was deleted and created again has another one at that version."""

    version: int
    marks: tuple[Any, ...]


@dataclass(frozen=True)
class _Entry:
    table: DeltaTable
    newest: _Commit


_cache: dict[str, _Entry] = {}


def latest(uri: str, options: Mapping[str, str], open_table: Callable[[], DeltaTable]) -> DeltaTable:
    """The table at its newest version, for reading only: the object is shared.

    Args:
        uri: Of the table.
        options: As delta-rs takes them.
        open_table: Opens the table at its newest version if the cached one is outdated.
    """
    entry = _cache.get(access_key(uri, options))
    newest = _newest(uri, options, entry.newest.version) if entry is not None else None
    if entry is not None and entry.newest == newest:
        return entry.table
    table = open_table()
    put(uri, options, table, newest)
    return table


def has_newest(uri: str, options: Mapping[str, str]) -> bool:
    """Whether this process has the table open at its newest version: then it exists, and that costs a look at one commit."""
    entry = _cache.get(access_key(uri, options))
    return entry is not None and _newest(uri, options, entry.newest.version) == entry.newest


def is_table(uri: str, options: Mapping[str, str]) -> bool:
    """Whether there is the log of a table."""
    if not is_bucket(uri):
        return DeltaTable.is_deltatable(uri, dict(options))
    # delta-rs keeps the lock of the interpreter while it waits for the bucket: if that answers nothing, all threads would stand still.
    pages: Iterable[Iterable[Any]] = open_store(uri, options).list(f"{split_address(uri)[1]}/_delta_log")
    return any(_IN_LOG.fullmatch(entry["path"].rsplit("/", 1)[1]) for page in pages for entry in page)


def put(uri: str, options: Mapping[str, str], table: DeltaTable, newest: _Commit | None = None) -> None:
    """Cache a table for the next reader. From here on nobody may write with this object.

    Args:
        uri: Of the table.
        options: As the table was opened with.
        table: Opened, or just written.
        newest: Its newest commit, if it is known.
    """
    key = access_key(uri, options)
    if newest is None or newest.version != table.version():
        newest = _newest(uri, options, table.version())
    if newest is not None and newest.version == table.version():
        if len(_cache) >= _LARGEST_CACHE:
            _cache.clear()
        _cache[key] = _Entry(table, newest)
    else:  # another writer has committed in the meantime
        _cache.pop(key, None)


def clear() -> None:
    """Open every table again when it is asked for next."""
    _cache.clear()


def _newest(uri: str, options: Mapping[str, str], version: int) -> _Commit | None:
    """The newest commit from a version on; None if there is none any more, or too many to go through."""
    if not is_bucket(uri):
        return _newest_in_folder(Path(uri, "_delta_log"), version)
    log = f"{split_address(uri)[1]}/_delta_log"
    # Listings are sorted: this offset comes right before the commit itself, and after everything older.
    page: Iterable[Any] = next(iter(open_store(uri, options).list(log, offset=f"{log}/{version:020d}.j")), ())
    commits = {entry["path"].rsplit("/", 1)[1]: entry for entry in page}
    numbers = [int(name.removesuffix(".json")) for name in commits if len(name) == _NAME_LENGTH and name.endswith(".json")]
    if not numbers or min(numbers) != version or len(commits) >= _PAGE:
        return None
    entry = commits[f"{max(numbers):020d}.json"]
    return _Commit(max(numbers), (entry["e_tag"], entry["size"], entry["last_modified"]))


def _newest_in_folder(log: Path, version: int) -> _Commit | None:
    """The commit of a version if it is the newest; None if it is not, or not there any more."""
    if (log / f"{version + 1:020d}.json").exists():
        return None
    try:
        file = (log / f"{version:020d}.json").stat()
    except FileNotFoundError:
        return None
    return _Commit(version, (file.st_ino, file.st_size, file.st_mtime_ns))

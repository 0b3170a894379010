"""Tables that this process has opened, held until their log has a newer commit.

To open a table costs a look at every commit since its last checkpoint, and in a bucket a request for each; to see that nothing came costs
one. So what a reader pays does not depend on how long ago the last checkpoint was.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from lakehouse_assets.platform.storage.bucket import is_bucket, open_store, split_address

_NAME_LENGTH = len(f"{0:020d}.json")
_PAGE = 1000
_MOST_HELD = 500


@dataclass(frozen=True)
class _Commit:
    """A commit's file as the store or the disk has it: a table that was deleted and made anew has another one under the same number."""

    version: int
    marks: tuple[Any, ...]


@dataclass(frozen=True)
class _Held:
    table: DeltaTable
    newest: _Commit


_held: dict[str, _Held] = {}


def latest(uri: str, options: Mapping[str, str], open_table: Callable[[], DeltaTable]) -> DeltaTable:
    """The table at its newest version, for reading only: others may hold the same object."""
    held = _held.get(uri)
    newest = _newest(uri, options, held.newest.version) if held is not None else None
    if held is not None and held.newest == newest:
        return held.table
    table = open_table()
    hold(uri, options, table, newest)
    return table


def hold(uri: str, options: Mapping[str, str], table: DeltaTable, newest: _Commit | None = None) -> None:
    """Keep a table for the next reader. From here on nobody may write with this object.

    Args:
        uri: Of the table.
        options: As the table was opened with.
        table: Opened, or just written.
        newest: Its newest commit, if that has just been looked at.
    """
    if newest is None or newest.version != table.version():
        newest = _newest(uri, options, table.version())
    if newest is not None and newest.version == table.version():
        if len(_held) >= _MOST_HELD:
            _held.clear()
        _held[uri] = _Held(table, newest)
    else:  # it has moved on already
        _held.pop(uri, None)


def forget() -> None:
    """Open every table anew when it is asked for next."""
    _held.clear()


def _newest(uri: str, options: Mapping[str, str], version: int) -> _Commit | None:
    """The newest commit from a version on; None if there is none any more, or too many to go through."""
    if not is_bucket(uri):
        return _newest_in_folder(Path(uri, "_delta_log"), version)
    log = f"{split_address(uri)[1]}/_delta_log"
    # Listings are sorted: this comes right before the commit itself, and after everything older.
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

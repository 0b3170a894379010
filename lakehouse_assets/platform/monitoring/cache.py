"""What was worked out of tables and costs much to work out again: frames, under a key that says all that they were made of.

Nothing depends on them: what is not here, or cannot be read, is worked out again, so rows may be deleted at any time, and what cannot be
written fails nobody. A table that cannot be read is deleted, and rebuilt by the next write. What is cached, and what its key is made of,
is said by who asks.

It is read by Arrow: of a file that is no Parquet, Polars says so by a panic, which writes a stack of Rust to the terminal.
"""

import logging
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from io import BytesIO
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.monitoring.reasons import TROUBLE, reason
from lakehouse_assets.platform.storage import evolution, platform_tables
from lakehouse_assets.platform.storage.commit import Commit
from lakehouse_assets.platform.storage.errors import CommitConflict, CursorMoved, TableDamaged
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.types import TIMESTAMP

_LOGGER = logging.getLogger(__name__)
TABLE: Final = platform_tables.CACHE
SCHEMA: Final = pl.Schema(
    {"key": pl.String(), "part": pl.String(), "about": pl.String(), "content": pl.Binary(), "cached_at": TIMESTAMP},
)
"""The content is a frame as Arrow IPC."""
_DAMAGED: Final = (TableDamaged, FileNotFoundError, ValueError, pl.exceptions.PanicException)
"""Errors of what is stored, and not of the way to it: those of Arrow about a file are ValueErrors."""
_DESCRIPTION: Final = "Results of monitors that can be worked out again at any time, as Arrow IPC."


def digest(*what: Any) -> str:
    """A key, another one for whatever differs in its representation."""
    return blake2b(repr(what).encode(), digest_size=16).hexdigest()


@cache
def source_of(*packages: str) -> str:
    """A digest of the code of packages and modules: what other code worked out is not taken for what this would."""
    found = []
    for name in packages:
        package, _, module = name.rpartition(".")
        file = files(package).joinpath(f"{module}.py")
        parts = [file] if file.is_file() else [one for one in files(name).iterdir() if one.name.endswith(".py")]
        found += [(one.name, one.read_bytes()) for one in sorted(parts, key=lambda one: one.name)]
    return digest(found)


def read(lakehouse: Lakehouse, key: str) -> dict[str, pl.DataFrame] | None:
    """The frames under a key; None if there are none, or they cannot be read."""
    try:
        rows = _rows(lakehouse, key)
        return {part: pl.read_ipc(BytesIO(content)) for part, content in rows} or None
    except _DAMAGED as error:
        _delete(lakehouse, error)
    except TROUBLE as error:  # the bucket is away, or another release of Polars wrote it
        _LOGGER.warning("%s cannot be read: %s", TABLE, reason(error))
    return None


def _rows(lakehouse: Lakehouse, key: str) -> list[tuple[str, bytes]]:
    table = lakehouse.table(TABLE)
    if not table.exists():
        return []
    rows = table.now().to_pyarrow_table(columns=["part", "content"], filters=[("key", "=", key)]).to_pydict()
    return list(zip(rows["part"], rows["content"], strict=True))


def delete_if_damaged(lakehouse: Lakehouse) -> bool:
    """Delete the table if it, or one of its files, cannot be read because of what is stored; whether it was so."""
    table = lakehouse.table(TABLE)
    try:
        if table.exists():
            table.now().to_pyarrow_dataset().count_rows()
    except _DAMAGED as error:
        _delete(lakehouse, error)
        return True
    except TROUBLE as error:
        _LOGGER.warning("%s cannot be read: %s", TABLE, reason(error))
    return False


def _delete(lakehouse: Lakehouse, why: BaseException) -> None:
    """Delete the table and nothing else: what is in it is worked out again."""
    _LOGGER.warning("%s cannot be read, and is rebuilt: %s", TABLE, reason(why))
    try:
        evolution.drop(lakehouse.table(TABLE))
    except TROUBLE as error:
        _LOGGER.warning("%s cannot be deleted: %s", TABLE, reason(error))


def write(  # noqa: PLR0917 all that a row has
    lakehouse: Lakehouse, key: str, about: str, frames: Mapping[str, pl.DataFrame], now: datetime, commit: Commit | None = None
) -> None:
    """Put frames under a key, in the place of those about the same, whose values, as of a column that was not personal then, are gone.

    If that cannot be done they are worked out again by who asks next.

    Args:
        lakehouse: Gets the table.
        key: As `digest` makes it.
        about: What they are about: of each there is one result.
        frames: The frames.
        now: The moment (UTC).
        commit: What the commit carries.
    """
    rows = pl.DataFrame([(key, part, about, _content(frame), now) for part, frame in frames.items()], schema=SCHEMA, orient="row")

    def put() -> None:
        table = lakehouse.table(TABLE)
        table.create(SCHEMA, ("about",), _DESCRIPTION)
        table.replace(rows, {"about": [about]}, commit)

    why: BaseException
    for _ in range(2):
        try:
            put()
        except (CommitConflict, CursorMoved):  # another process was faster
            return
        except TROUBLE as error:  # no room, or the bucket is away
            why = error
            if not delete_if_damaged(lakehouse):
                break
        else:
            return
    _LOGGER.warning("%s cannot be written: %s", TABLE, reason(why))


def _content(frame: pl.DataFrame) -> bytes:
    written = BytesIO()
    frame.write_ipc(written, compression="zstd")
    return written.getvalue()

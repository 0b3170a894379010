"""What was worked out of tables and costs much to work out again: frames, under a key that says all that they were made of.

Nothing depends on them: what is not here, or cannot be read, is worked out again, so rows may be deleted at any time. What is cached, and
what its key is made of, is said by who asks.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from io import BytesIO
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.commit import Commit
from lakehouse_assets.platform.storage.errors import CommitConflict
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.types import TIMESTAMP

TABLE: Final = platform_tables.CACHE
SCHEMA: Final = pl.Schema(
    {"key": pl.String(), "part": pl.String(), "about": pl.String(), "content": pl.Binary(), "cached_at": TIMESTAMP},
)
"""The content is a frame as Arrow IPC."""
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
    """The frames under a key; None if there are none."""
    table = lakehouse.table(TABLE)
    if not table.exists():
        return None
    try:
        rows = table.scan().filter(pl.col("key") == key).select("part", "content").collect()
        return {part: pl.read_ipc(BytesIO(content)) for part, content in rows.iter_rows()} or None
    except (pl.exceptions.PolarsError, OSError):  # another release of Polars wrote it, or a file is gone
        return None


def write(  # noqa: PLR0917 all that a row has
    lakehouse: Lakehouse, key: str, about: str, frames: Mapping[str, pl.DataFrame], now: datetime, commit: Commit | None = None
) -> None:
    """Put frames under a key, in the place of those that were there.

    Args:
        lakehouse: Gets the table.
        key: As `digest` makes it.
        about: What they are about, for people.
        frames: The frames.
        now: The moment (UTC).
        commit: What the commit carries.

    Raises:
        CursorMoved: As `Commit.done`.
    """
    table = lakehouse.table(TABLE)
    table.create(SCHEMA, ("key",), _DESCRIPTION)
    rows = [(key, part, about, _content(frame), now) for part, frame in frames.items()]
    try:
        table.replace(pl.DataFrame(rows, schema=SCHEMA, orient="row"), {"key": [key]}, commit)
    except CommitConflict:  # others write: whoever asks next works it out again
        return


def _content(frame: pl.DataFrame) -> bytes:
    written = BytesIO()
    frame.write_ipc(written, compression="zstd")
    return written.getvalue()

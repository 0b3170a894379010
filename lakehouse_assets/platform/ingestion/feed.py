"""What a feed is: the folder where a source system drops files, which of them are read, and what happens when they change.

How a file is read is in `parse`, which files there are in `landing`.
"""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

import polars as pl

from lakehouse_assets.platform.ingestion.parse import Format, ReadOptions
from lakehouse_assets.platform.quality.masking import RESCUED
from lakehouse_assets.platform.storage.types import TIMESTAMP

# Bronze is text as it came, plus where it came from.
LINEAGE = pl.Schema(
    {
        "_file": pl.String(),
        "_row": pl.Int64(),
        "_sequence": pl.Int64(),
        "_ingested_at": TIMESTAMP,
        "_run_id": pl.String(),
        RESCUED: pl.String(),
    }
)

_ALL = "**"
_LONGEST_SETTLE = 600

NewColumns = Literal["evolve", "rescue", "refuse"]
Changed = Literal["refuse", "reread", "ignore"]
Identity = Literal["content", "name"]


@dataclass(frozen=True)
class Feed:
    """A stream of files under `landing/<name>/`.

    Attributes:
        name: The folder.
        headers: The headers that files of this feed come with, each a tuple of columns. A file needs all columns of one of them; bronze
            keeps the columns of all.
        optional: Columns that a file may have or lack.
        encoding: Of text files, as `cp1252`; None: UTF-8, or what a byte order mark tells.
        separator: Of CSV files, one character; None: the one of `,` `;` tab and `|` with which the header fits.
        has_header: Whether CSV and XLSX files have a header; without one their columns are those of the first of `headers`, in its order.
        sheets: Of XLSX files: the names of the sheets to read, or patterns (`20*`). None: all visible sheets, which must have the header.
        format: Of all files; None: each by the end of its name.
        pattern: Which files belong to the feed: `*.csv` (at any depth), `2026/*.csv`, `**/daily/*.csv`; several, any of which may fit. A
            file that none fits is not seen.
        new_columns: What happens to columns that bronze does not have: `evolve` adds them to bronze, `rescue` puts their values into
            `_rescued`, `refuse` refuses the file.
        changed: What happens to a file that changed after it was read: `refuse` says so and leaves its rows as they are, `reread` puts its
            new rows in the place of its old ones, `ignore` only notes it.
        batch_files: Most files that go into one commit; None: as the settings say.
        batch_megabytes: Most megabytes of text that go into one commit; a larger file goes alone. A compressed, parquet or XLSX file counts
            ten times its size. None: as the settings say.
        archive: Whether files are moved to the archive, under the same path, once their rows are in bronze.
        snapshot: Whether each file is the whole of what it tells of. A file without rows is then refused, and a content that was seen
            before is read again unless it is that of the newest file.
        identity: What makes a file a delivery of its own. `content`: a content that was read under another name is a duplicate, which the
            landing log notes and which is not read. `name`: each name is one, as where the day stands in the name and the rest may be
            the same from day to day.
        settle_seconds: How long a file must not have been modified before it is read: for a source that writes files in place. Until then
            it starts no run; a run that finds one waits so long for it, once, and leaves it for the next run if it was modified again. So a
            file that somebody landed a moment ago is not skipped by `lakehouse run`. 0 is for sources that write under a name that is not
            seen (`.tmp`, `.part`, or with a leading `.` or `_`) and then rename, as `lakehouse land` does, and for buckets, whose objects
            are whole; with it, a file that changes while it is read is read again by the next run.
        personal: Columns that hold personal data, a frozenset; the reader masks them.
        row_id: The column that tells rows apart which are pushed to `POST /ingest/<feed>`: each value is taken once. None: whoever pushes
            sends an `Idempotency-Key`.
    """

    name: str
    headers: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()
    encoding: str | None = None
    separator: str | None = None
    has_header: bool = True
    sheets: tuple[str, ...] = ()
    format: Format | None = None
    pattern: str | tuple[str, ...] = _ALL
    new_columns: NewColumns = "evolve"
    changed: Changed = "refuse"
    batch_files: int | None = None
    batch_megabytes: int | None = None
    archive: bool = False
    snapshot: bool = False
    identity: Identity = "content"
    settle_seconds: float = 0.0
    personal: Collection[str] = frozenset()
    row_id: str | None = None

    def __post_init__(self) -> None:
        chosen = (("new_columns", self.new_columns, NewColumns), ("changed", self.changed, Changed), ("identity", self.identity, Identity))
        for name, value, known in chosen:
            if value not in get_args(known):
                raise ValueError(f"feed {self.name}: {name}={value!r}: choose one of {', '.join(get_args(known))}")
        self._check_read_options()
        for name, limit in (("batch_files", self.batch_files), ("batch_megabytes", self.batch_megabytes)):
            if limit is not None and limit < 1:
                raise ValueError(f"feed {self.name}: {name}={limit}: at least 1, or None for what the settings say")
        if not 0 <= self.settle_seconds <= _LONGEST_SETTLE:
            raise ValueError(f"feed {self.name}: settle_seconds={self.settle_seconds}: from 0 to {_LONGEST_SETTLE}; a run waits so long")
        if isinstance(self.personal, str):
            raise TypeError(f"feed {self.name}: personal={self.personal!r}: a tuple of columns, as in personal=({self.personal!r},)")
        for argument, columns in (("personal", self.personal), ("row_id", [] if self.row_id is None else [self.row_id])):
            for column in columns:
                if column not in self.columns:
                    near = difflib.get_close_matches(column, self.columns, 1)
                    hint = f": did you mean {near[0]!r}?" if near else f"; it has {', '.join(map(repr, self.columns))}."
                    raise ValueError(f"feed {self.name}: {argument}: no header and no optional column is named {column!r}{hint}")
        object.__setattr__(self, "personal", frozenset(self.personal))

    def _check_read_options(self) -> None:
        sheets: Any = self.sheets
        if isinstance(sheets, str):
            raise TypeError(f"feed {self.name}: sheets={self.sheets!r}: a tuple of names, as in sheets=({self.sheets!r},)")
        if self.separator is not None and (len(self.separator) != 1 or not self.separator.isascii() or self.separator in '"\r\n'):
            raise ValueError(f"feed {self.name}: separator={self.separator!r}: one ASCII character, as ';', and no quote or line end")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are declared, in the order in which the headers name them."""
        return tuple(dict.fromkeys([column for header in self.headers for column in header] + list(self.optional)))

    @property
    def read_options(self) -> ReadOptions:
        """How its files are written."""
        return ReadOptions(self.encoding, self.separator, self.has_header, tuple(self.sheets))

    def schema(self) -> pl.Schema:
        """The columns with which the bronze table begins; it may gain others."""
        return pl.Schema({**dict.fromkeys(self.columns, pl.String()), **LINEAGE})

    def takes(self, path: str) -> bool:
        """Whether a path below the feed's folder fits the pattern."""
        patterns = (self.pattern,) if isinstance(self.pattern, str) else self.pattern
        if _ALL in patterns:
            return True
        parts = PurePosixPath(path).parts
        return any(_fits(parts, (pattern if "/" in pattern else f"**/{pattern}").split("/")) for pattern in patterns)


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return (bool(parts) and len(pattern) == 1) or any(_fits(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def is_seen(path: PurePosixPath) -> bool:
    """Whether a file below a feed's folder is meant to be read: names of hidden and unfinished files are not."""
    return all(is_seen_name(part) for part in path.parts)


def is_seen_name(name: str) -> bool:
    """Whether a file or folder of this name is listed."""
    return not name.startswith((".", "_")) and not name.endswith((".tmp", ".part"))

"""What a feed is: the folder where a source system drops files, and which columns bronze keeps of them.

How a file is read is in `parse`, which files there are in `landing`.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

import polars as pl

from lakehouse_assets.platform.storage.types import TIMESTAMP

# Bronze is text as it came, plus where it came from.
LINEAGE = pl.Schema(
    {
        "_file": pl.String(),
        "_row": pl.Int64(),
        "_sequence": pl.Int64(),
        "_ingested_at": TIMESTAMP,
        "_run_id": pl.String(),
        "_rescued": pl.String(),
    }
)


@dataclass(frozen=True)
class Feed:
    """A stream of files under `landing/<name>/`.

    Attributes:
        name: The folder.
        headers: The headers that files of this feed come with, each a tuple of columns. A file needs all columns of one of them; bronze
            keeps
            the columns of all, and what a file has beyond them goes to `_rescued`.
        optional: Columns that a file may have or lack.
        encoding: Of text files.
    """

    name: str
    headers: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()
    encoding: str = "utf-8"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that bronze keeps, in the order in which the headers name them."""
        return tuple(dict.fromkeys([column for header in self.headers for column in header] + list(self.optional)))

    def schema(self) -> pl.Schema:
        """The columns of the bronze table."""
        return pl.Schema({**dict.fromkeys(self.columns, pl.String()), **LINEAGE})


def is_seen(path: PurePosixPath) -> bool:
    """Whether a file below a feed's folder is meant to be read: names of hidden and unfinished files are not."""
    return not any(part.startswith((".", "_")) for part in path.parts) and path.suffix not in {".tmp", ".part"}

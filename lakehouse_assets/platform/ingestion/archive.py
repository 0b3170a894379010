"""Moves files that are in bronze out of the landing zone.

That a file is moved stands in the log first, so a move that a death prevented is made by the next run.
"""

from pathlib import PurePosixPath

import polars as pl

from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.file_state import ARCHIVED, READ
from lakehouse_assets.platform.ingestion.zone import Zone
from lakehouse_assets.platform.storage.table import Table

_AS_IT_LIES = ("path", "size", "modified")


def move_read_files(log: Table, zone: Zone, feed: Feed, cursor: int | None, run_id: str) -> list[tuple[str, int, str]]:
    """Move the files up to `cursor` that were read and lie there as they were read; gives those that cannot be moved, with the reason.

    They keep their path in the archive. Where a file of that name was archived before, the later one gets its number before its ending.
    """
    seen = landing.look(log, feed.name)
    lying = {(file.path, file.size, file.modified) for file in landing.files_of(zone, feed)}
    read = seen.copies().filter((pl.col("outcome") == READ) & (pl.col("sequence") <= (cursor or 0)))
    # It may have been touched since: how it lies there now is in the last event of its path.
    latest = seen.files.unique("path", keep="last", maintain_order=True).select(*_AS_IT_LIES, "content_hash")
    as_read = read.drop("size", "modified").join(latest, on=["path", "content_hash"]).sort("sequence")
    moving = [row for row in as_read.iter_rows(named=True) if tuple(row[name] for name in _AS_IT_LIES) in lying]
    new = [{"path": row["path"], "sequence": row["sequence"], "event": ARCHIVED} for row in moving if not row["archived"]]
    landing.record(log, feed.name, new, run_id)
    before = dict(seen.files.filter("archived").group_by("path").agg(pl.col("sequence").min()).iter_rows())
    stuck = []
    for row in moving:
        path, sequence = row["path"], row["sequence"]
        try:
            _move(zone, path, sequence, numbered=before.get(path, sequence) < sequence)
        except OSError as error:
            stuck.append((path, sequence, f"{path} was read, but cannot be moved to the archive ({error.strerror or error}). Mend that."))
    return stuck


def _move(zone: Zone, path: str, sequence: int, *, numbered: bool) -> None:
    name = PurePosixPath(path)
    other = str(name.with_name(f"{name.stem}.{sequence}{name.suffix}"))
    if not numbered:
        try:
            zone.archive(path, path)
        except FileExistsError:  # somebody else put a file there
            zone.archive(path, other)
    else:
        zone.archive(path, other)

"""Moves files that are in bronze out of the landing zone.

The log records that a file is moved before it is, so a move that a crash prevented is made by the next run.
"""

from pathlib import PurePosixPath

import polars as pl

from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.file_state import ARCHIVED, READ
from lakehouse_assets.platform.ingestion.zone import LISTED, Zone
from lakehouse_assets.platform.storage.table import Table


def move_read_files(log: Table, zone: Zone, feed: Feed, cursor: int | None, run_id: str) -> list[tuple[str, int, str]]:
    """Move the files up to `cursor` that were read and are still listed as they were read; those that cannot be moved, with the reason.

    They keep their path in the archive. Where a file of that name was archived before, the later one gets its number before its ending.
    """
    state = landing.state(log, feed.name)
    listed = landing.listed(zone, feed)
    read = state.copies.filter((pl.col("outcome") == READ) & (pl.col("sequence") <= (cursor or 0)))
    # It may have been touched since: how it is listed now is in the last discovery of its path.
    latest = state.discoveries.unique("path", keep="last", maintain_order=True).select(*LISTED, "content_hash")
    as_read = read.drop("size", "modified").join(latest, on=["path", "content_hash"]).join(listed, on=LISTED.names(), how="semi")
    moving = as_read.sort("sequence").to_dicts()
    new = [{"path": row["path"], "sequence": row["sequence"], "event": ARCHIVED} for row in moving if not row["archived"]]
    landing.record(log, feed.name, new, run_id)
    before = dict(state.discoveries.filter("archived").group_by("path").agg(pl.col("sequence").min()).iter_rows())
    stuck = []
    for row in moving:
        path, sequence = row["path"], row["sequence"]
        try:
            _move(zone, path, sequence, numbered=before.get(path, sequence) < sequence)
        except OSError as error:
            stuck.append(
                (
                    path,
                    sequence,
                    f"{path} was read, but cannot be moved to the archive ({error.strerror or error}). Correct that, then run again.",
                )
            )
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

"""Which snapshots are not to be believed, because they would retire too much at once: a cut file, an export that failed.

Only the verdict belongs here; what becomes of the rows of a refused snapshot is decided by whoever writes. What snapshots mean is in
`snapshots`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from lakehouse_assets.platform.storage.merge import check_key
from lakehouse_assets.platform.storage.scd2 import IS_DELETED, VALID_FROM, check_made_for
from lakehouse_assets.platform.storage.snapshots import ASSUMED, Snapshots, earliest, known_snapshots, rows_since
from lakehouse_assets.platform.storage.table import Table

# Of fewer keys a share says little.
SHARE_COUNTS_FROM_KEYS = 20


@dataclass(frozen=True)
class RefusedSnapshot:
    """A snapshot that is not to be written.

    Attributes:
        number: Which one, by the table's `sequence_by`.
        reason: What is wrong with it, for people.
    """

    number: Any
    reason: str


def judge(
    how: Snapshots, existing: pl.DataFrame, rows: pl.DataFrame, retire_at_most: float, assumed: pl.DataFrame | None = None
) -> tuple[RefusedSnapshot, ...]:
    """The snapshots in `rows` that are not to be written, oldest first; each is compared with the last one before it that is.

    A snapshot is refused if it lacks more than the share `retire_at_most` of the keys that were current just before it, where these are at
    least `SHARE_COUNTS_FROM_KEYS`, or if no row of it is there. One that the table knows already, or (without history) one older than that,
    retires no current key and is not refused for what it lacks.

    Args:
        how: What the rows mean.
        existing: Rows of the table, as `snapshots.rows_since` gives them for the first of the snapshots.
        rows: Whole snapshots.
        retire_at_most: A share between 0 and 1.
        assumed: Keys and numbers of rows that were rejected: these keys are not lacking.
    """
    known = known_snapshots(existing)[how.sequence_by]
    remembered = existing.select(*how.on, ASSUMED).drop_nulls().explode(ASSUMED).rename({ASSUMED: how.sequence_by})
    assumed = remembered if assumed is None else pl.concat([remembered, assumed.select(how.identity)])
    taken: dict[Any, pl.DataFrame] = {}
    refused = []
    for (number,), snapshot in rows.sort(how.sequence_by).group_by(how.sequence_by, maintain_order=True):
        there = snapshot.filter(~pl.col(IS_DELETED)).select(how.on).unique()
        if not there.height:
            refused.append(RefusedSnapshot(number, "no row of it is there"))
            continue
        rejected = assumed.filter(pl.col(how.sequence_by) == number).select(how.on)
        before = _current_before(how, existing, known, taken, number)
        lacking = before.join(there, on=how.on, how="anti").join(rejected, on=how.on, how="anti")
        is_known = (known == number).any()
        is_newest = how.history or not known.len() or number > known.max()
        too_many = before.height >= SHARE_COUNTS_FROM_KEYS and lacking.height > retire_at_most * before.height
        if too_many and is_newest and not is_known:
            refused.append(
                RefusedSnapshot(number, f"it lacks {lacking.height:,} of the {before.height:,} keys that were current before it")
            )
            continue
        still = before.join(rejected, on=how.on, how="semi")
        taken[number] = pl.concat([there, still]).unique()
    return tuple(refused)


def _current_before(
    how: Snapshots, existing: pl.DataFrame, known: pl.Series, taken: Mapping[Any, pl.DataFrame], number: Any
) -> pl.DataFrame:
    """The keys that were current just before a snapshot."""
    last_known = known.filter(known < number).max()
    last_taken = max((other for other in taken if other < number), default=None)
    if last_taken is not None and (last_known is None or last_taken >= last_known):
        return taken[last_taken]
    if last_known is None:
        return existing.select(how.on).clear()
    states = existing.filter(pl.col(how.sequence_by) <= last_known).sort(how.sequence_by).unique(how.on, keep="last")
    return states.filter(~pl.col(IS_DELETED)).select(how.on)


def refused_snapshots(
    table: Table,
    rows: pl.DataFrame,
    how: Snapshots,
    retire_at_most: float,
    *,
    assumed: pl.DataFrame | None = None,
    full_refresh: bool = False,
) -> tuple[RefusedSnapshot, ...]:
    """The verdict on snapshots that are to be written to a table; the same until the table's next version.

    Args:
        table: Where to.
        rows: Whole snapshots.
        how: What they mean.
        retire_at_most: The largest share of the current keys that one snapshot may retire.
        assumed: Keys and numbers of rows that were rejected.
        full_refresh: Whether the rows replace all that the table has, which then does not count.

    Raises:
        ScopeError: A key, a number or `is_deleted` is null or missing.
        SchemaMismatch: The table was made under another declaration.
    """
    check_key(table.name, rows, [*how.identity, VALID_FROM, IS_DELETED])
    scanned = table.scan()
    schema = scanned.collect_schema()
    check_made_for(table.name, schema, how.schema(rows.schema))
    if not rows.height:
        return ()
    existing = pl.DataFrame(schema=schema) if full_refresh else rows_since(how, scanned, earliest(how, rows, None))
    return tuple(
        RefusedSnapshot(refused.number, _refusal(table.name, how, rows, refused, retire_at_most))
        for refused in judge(how, existing, rows, retire_at_most, assumed)
    )


def _refusal(name: str, how: Snapshots, rows: pl.DataFrame, refused: RefusedSnapshot, retire_at_most: float) -> str:
    of_it = rows.filter(pl.col(how.sequence_by) == refused.number)
    return (
        f"{name}: the snapshot with {how.sequence_by} {refused.number} (valid from {of_it[VALID_FROM].dt.max()}) is not taken: "
        f"{refused.reason}, and at most {retire_at_most:.1%} may be retired at once. Its {of_it.height:,} rows are in the quarantine. If "
        "it was cut off, land it whole; if it is right, raise retire_at_most in the table's declaration, then "
        f"`lakehouse run {name} --full-refresh`."
    )

"""Rows of change feeds and snapshots on their way into a table that is declared as `SCD1` or `SCD2`.

What rows mean is in the storage room (`scd1`, `scd2`, `snapshots`); here is what `refresh` and `replay` do for such tables alone: which
snapshots are set aside as a whole, and which way the others are written.
"""

from dataclasses import replace

import polars as pl

from lakehouse_assets.platform.declarations.declare import SCD1, SCD2, TableAsset
from lakehouse_assets.platform.quality.rules import Rule
from lakehouse_assets.platform.quality.split import BROKEN, UNPARSED, Evidence, Split
from lakehouse_assets.platform.storage import scd1, scd2, snapshots
from lakehouse_assets.platform.storage.commit import Commit, Written
from lakehouse_assets.platform.storage.retirements import refused_snapshots
from lakehouse_assets.platform.storage.scd1 import Latest
from lakehouse_assets.platform.storage.scd2 import VALID_FROM, History
from lakehouse_assets.platform.storage.snapshots import Snapshots
from lakehouse_assets.platform.storage.table import Table

SNAPSHOT_COMPLETE = "snapshot_complete"
_SNAPSHOTS_SHOWN = 5


def snapshot_rules(asset: TableAsset) -> list[Rule]:
    """The rule that the snapshots of a table are held against, as wholes."""
    write = asset.write
    if not isinstance(write, SCD1 | SCD2) or not write.snapshot:
        return []
    text = f"a snapshot retires at most {write.retire_at_most:.1%} of the keys that are current before it"
    return [Rule(SNAPSHOT_COMPLETE, None, "error", text, f"retire at most {write.retire_at_most}")]


def whole_snapshots(asset: TableAsset, target: Table, parts: Split, *, anew: bool) -> Split:
    """The rows with those of refused snapshots set aside too; the evidence says in words why each was refused.

    The verdict follows from the rows and the table alone, so it is the same when a batch is done again.
    """
    rules = snapshot_rules(asset)
    if not rules:
        return parts
    write = asset.write
    assert isinstance(write, SCD1 | SCD2) and isinstance(write.storage, Snapshots)  # noqa: S101, PT018 else there are no such rules
    rows = parts.good.drop([name for name in parts.good.columns if name not in target.schema()])
    refused = refused_snapshots(target, rows, write.storage, write.retire_at_most, assumed=_rejected(write.storage, parts.bad), anew=anew)
    of_them = parts.good[write.sequence_by].is_in([found.number for found in refused])
    aside = parts.good.filter(of_them).with_columns(pl.lit([SNAPSHOT_COMPLETE], dtype=pl.List(pl.String)).alias(BROKEN))
    if UNPARSED in parts.bad.columns:
        aside = aside.with_columns(pl.lit(None, dtype=pl.String).alias(UNPARSED))
    rule = replace(rules[0], text=" ".join(found.reason for found in refused)) if refused else rules[0]
    sample = tuple(aside.select(write.sequence_by, VALID_FROM).unique(maintain_order=True).head(_SNAPSHOTS_SHOWN).to_dicts())
    evidence = Evidence(rule, parts.good.height, aside.height, sample)
    return Split(parts.good.filter(~of_them), pl.concat([parts.bad, aside.select(parts.bad.columns)]), (*parts.evidence, evidence))


def write(
    target: Table, how: SCD1 | SCD2, rows: pl.DataFrame, commit: Commit, *, bad: pl.DataFrame | None = None, anew: bool = False
) -> Written:
    """Write rows of a change feed, or snapshots.

    Args:
        target: Where to.
        how: The declaration.
        rows: What the contract lets through.
        commit: What the write carries.
        bad: The rejected rows of the same batch: a key that stands in one of them is not missing from its snapshot.
        anew: Whether the rows take the place of all that the table holds.

    Raises:
        ScopeError, SchemaMismatch, CommitConflict: As the writes of the storage room.
    """
    match how.storage:
        case Latest() as latest:
            return scd1.write(target, rows, latest, commit, full_refresh=anew)
        case History() as history:
            return scd2.write(target, rows, history, commit, full_refresh=anew)
        case Snapshots() as whole:
            assumed = None if bad is None else _rejected(whole, bad)
            return snapshots.write(target, rows, whole, commit, assumed=assumed, full_refresh=anew)


def _rejected(how: Snapshots, bad: pl.DataFrame) -> pl.DataFrame:
    """Keys and numbers of rows that a rule rejected by themselves and whose key could be read."""
    by_itself = ~pl.col(BROKEN).list.contains(SNAPSHOT_COMPLETE)
    return bad.filter(by_itself).select(how.identity).drop_nulls().unique()

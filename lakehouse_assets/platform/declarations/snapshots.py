"""Which snapshots are not believed: one that would retire too many keys goes into quarantine as a whole.

How snapshots are folded belongs to storage, in which batch they are judged, to the pipeline.
"""

from dataclasses import replace

import polars as pl

from lakehouse_assets.platform.quality.rules import Rule
from lakehouse_assets.platform.quality.split import BROKEN, HINT, UNPARSED, Evidence, Split
from lakehouse_assets.platform.storage.retirements import refused_snapshots
from lakehouse_assets.platform.storage.scd2 import VALID_FROM
from lakehouse_assets.platform.storage.snapshots import Snapshots
from lakehouse_assets.platform.storage.table import Table

SNAPSHOT_COMPLETE = "snapshot_complete"
_SNAPSHOTS_SHOWN = 5


def snapshot_rules(retire_at_most: float) -> list[Rule]:
    """The rule that snapshots are judged by as wholes."""
    text = f"a snapshot retires at most {retire_at_most:.1%} of the keys that are current before it"
    return [Rule(SNAPSHOT_COMPLETE, None, "error", text, f"retire at most {retire_at_most}")]


def whole_snapshots(how: Snapshots, retire_at_most: float, stored: Table, parts: Split, *, replaces_all: bool) -> Split:
    """The rows with those of refused snapshots moved to the bad ones; the evidence says why each was refused.

    The verdict follows from the rows and the table alone, so it is the same when a batch is done again.
    """
    rule = snapshot_rules(retire_at_most)[0]
    rows = parts.good.drop([name for name in parts.good.columns if name not in stored.schema()])
    refused = refused_snapshots(stored, rows, how, retire_at_most, assumed=rejected_rows(how, parts.bad), full_refresh=replaces_all)
    is_refused = parts.good[how.sequence_by].is_in([snapshot.number for snapshot in refused])
    rejected = parts.good.filter(is_refused).with_columns(pl.lit([SNAPSHOT_COMPLETE], dtype=pl.List(pl.String)).alias(BROKEN))
    unread = [name for name in (UNPARSED, HINT) if name in parts.bad.columns]
    rejected = rejected.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in unread)
    if refused:
        rule = replace(rule, text=" ".join(snapshot.reason for snapshot in refused))
    sample = tuple(rejected.select(how.sequence_by, VALID_FROM).unique(maintain_order=True).head(_SNAPSHOTS_SHOWN).to_dicts())
    evidence = Evidence(rule, parts.good.height, rejected.height, sample)
    return Split(parts.good.filter(~is_refused), pl.concat([parts.bad, rejected.select(parts.bad.columns)]), (*parts.evidence, evidence))


def rejected_rows(how: Snapshots, bad: pl.DataFrame) -> pl.DataFrame:
    """Keys and numbers of rows that a rule rejected by themselves and whose key could be read: they are not missing from their snapshot."""
    by_itself = ~pl.col(BROKEN).list.contains(SNAPSHOT_COMPLETE)
    return bad.filter(by_itself).select(how.identity).drop_nulls().unique()

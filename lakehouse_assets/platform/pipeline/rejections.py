"""Which rejected rows of a batch are new.

Where a scope is computed again, as after a file was read again, its rejected rows come again: those that the table had rejected before,
unchanged, are no news. What a quarantine holds is in `quarantine`, how rows are judged in `contracts`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import polars as pl

from lakehouse_assets.platform.pipeline import quarantine
from lakehouse_assets.platform.quality.split import BROKEN, Evidence, Split
from lakehouse_assets.platform.storage.lineage import LINEAGE
from lakehouse_assets.platform.storage.maintenance import readable_from
from lakehouse_assets.platform.storage.scopes import Scope
from lakehouse_assets.platform.storage.table import Table

VERSION = "lakehouse.quarantine"
"""In a commit of a table: the version of its quarantine that the row accounts are about so far."""

_POSITION = "__position"
_TIMES = "__times"


class Judge(Protocol):
    """Splits rows by all that their table demands; `limited` says whether the contract's limits stop the write."""

    def __call__(self, rows: pl.DataFrame, *, limited: bool) -> Split:
        """The rows in their two parts."""


@dataclass(frozen=True)
class Judged:
    """The rows of a batch after the verdicts.

    Attributes:
        parts: All rows; the evidence is of those that were not rejected before.
        repeated: How many of the bad ones were rejected before.
    """

    parts: Split
    repeated: int = 0


def accounted(stored: Table, rejected: Table, scope: Scope | None) -> pl.DataFrame | None:
    """The rows of a scope that a table had rejected when it was last written; None if there are none, or they cannot be known.

    Not those that the quarantine has now: a run that died between its two commits has put rows there which no account is about.
    """
    if scope is None or scope.is_empty or not stored.exists():
        return None
    version = accounted_version(stored, rejected)
    if version is None or not readable_from(rejected) <= version <= rejected.version() or not rejected.count(version):
        return None
    rows = scope.filter(rejected.scan(version)).collect(engine="streaming")
    return rows if rows.height else None


def accounted_version(stored: Table, rejected: Table) -> int | None:
    """The version of the quarantine that the row accounts are about so far; None if it has no rows, or that is not known.

    A commit that judges no rows repeats it, so that the newest commit that has it is near.
    """
    if not rejected.exists() or not rejected.count():
        return None
    return next((int(commit["info"]["quarantine"]) for commit in stored.commits() if "quarantine" in commit["info"]), None)


def judge(rows: pl.DataFrame, before: pl.DataFrame | None, judge_rows: Judge, settle: Callable[[Split], Split], *, mixes: bool) -> Judged:
    """The verdicts on the rows of a batch.

    Args:
        rows: What the table's function returned.
        before: What `accounted` gives.
        judge_rows: Splits rows.
        settle: Passes the verdicts on more than one row at once.
        mixes: Whether rows that came before are judged together with new ones: the limits are about the new ones then.

    Raises:
        ContractBroken: As `contracts.judge`.
    """
    if before is None:
        return Judged(settle(judge_rows(rows, limited=True)))
    parts = settle(judge_rows(rows, limited=not mixes))
    is_repeated = _is_among(parts.bad, before)
    again, new = parts.bad.filter(is_repeated), parts.bad.filter(~is_repeated)
    rest = pl.concat([parts.good, new.drop(BROKEN)], how="diagonal") if again.height else rows
    # Of rows with one key the first is good, and the good ones are in front: the verdicts are the same.
    evidence = judge_rows(rest, limited=mixes).evidence if mixes or again.height else parts.evidence
    known = {one.rule.name for one in evidence}
    settled = tuple(_without(one, again) for one in parts.evidence if one.rule.name not in known)
    return Judged(Split(parts.good, parts.bad, (*evidence, *settled)), again.height)


def _is_among(bad: pl.DataFrame, before: pl.DataFrame) -> pl.Series:
    """Whether a rejected row is among those before, as often as it is there: its file does not matter, nor whether it was released."""
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in before.schema.items() if name not in bad.columns]
    names = [name for name in before.columns if name not in {*LINEAGE, *quarantine.RELEASED}]
    if not set(bad.columns) <= set(before.columns):
        return pl.repeat(value=False, n=bad.height, eager=True)
    now = bad.with_columns(missing).select(names)
    # A type may have been widened since: what does not fit the narrower one was not there.
    then = before.select(names).cast(dict(now.schema), strict=False)  # type: ignore[arg-type]
    numbered = [rows.with_columns(pl.int_range(pl.len()).over(names).alias(_TIMES)) for rows in (now, then)]
    common = numbered[0].with_row_index(_POSITION).join(numbered[1], on=[*names, _TIMES], how="semi", nulls_equal=True)
    return pl.int_range(bad.height, eager=True).is_in(common[_POSITION].cast(pl.Int64).implode())


def _without(evidence: Evidence, again: pl.DataFrame) -> Evidence:
    """The evidence of a rule about several rows at once, without the rows that were rejected before."""
    broken = evidence.broken - int(again[BROKEN].list.contains(evidence.rule.name).sum())
    return replace(evidence, broken=broken, sample=evidence.sample if broken else ())

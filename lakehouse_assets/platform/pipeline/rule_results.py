"""The results of a table's rules when no row is new: those that its last commits recorded, and those of the stored rows now.

Rows on their way into a table are judged in `contracts`. Nothing here changes a table.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline import contracts
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.quality.contract import ContractBroken
from lakehouse_assets.platform.quality.counting import broken_counts
from lakehouse_assets.platform.quality.rules import BoundRule, Rule
from lakehouse_assets.platform.quality.split import BROKEN, Evidence, combined
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table

EVIDENCE = "lakehouse.evidence"
"""In a commit: how many rows the rules were applied to, and how many broke each. Never a value of a row: the log is not masked."""


@dataclass(frozen=True)
class Recorded:
    """The results of the last run that wrote a table.

    Attributes:
        version: The table's, after that run.
        account: Its row account.
        evidence: The results of those rules that demand the same as they did then; without sample rows.
    """

    version: int
    account: RowAccount
    evidence: tuple[Evidence, ...]


def info(evidence: Collection[Evidence]) -> dict[str, str]:
    """What a commit says of the rules that its rows were checked by."""
    content = {
        "rows": max((one.rows_in for one in evidence), default=0),
        "broken": {one.rule.name: one.broken for one in evidence if one.broken},
        "not_applied": {one.rule.name: one.not_applied for one in evidence if one.not_applied},
    }
    return {EVIDENCE: json.dumps(content, separators=(",", ":"))}


def recorded(declaration: TableDeclaration, lakehouse: Lakehouse) -> Recorded | None:
    """The results that the last run recorded in the table's commits; None if there are none."""
    table = lakehouse.table(declaration.name)
    found: Recorded | None = None
    for commit in _of_last_run(table) if table.exists() else ():
        account = RowAccount.from_json(commit["info"]["account"])
        evidence = _evidence(declaration, commit["info"])
        if found is None:
            found = Recorded(commit["version"], account, evidence)
        else:
            found = Recorded(found.version, account + found.account, combined(evidence, found.evidence))
    return found


def all_recorded(declaration: TableDeclaration, table: Table) -> tuple[Evidence, ...]:
    """The results of all commits of a table together, as of one that was computed as a whole."""
    found: tuple[Evidence, ...] = ()
    for commit in table.commits():
        if _has_results(commit):
            found = combined(_evidence(declaration, commit["info"]), found)
    return found


def stored(declaration: TableDeclaration, lakehouse: Lakehouse, names: Collection[str]) -> tuple[Evidence, ...]:
    """The results of the named rules over the rows that the table has now, in a streaming pass for each; without sample rows.

    Raises:
        NoSuchTable: The table does not exist.
    """
    if not names:
        return ()
    table = lakehouse.table(declaration.name)
    counts = broken_counts(declaration.contract, table.scan(), names, lambda bound: referenced(bound, lakehouse))
    rows = table.count()
    return tuple(
        Evidence(rule, rows, counts[rule.name], ()) if rule.name in counts else Evidence(rule, 0, 0, (), _why_not(rule))
        for rule in declaration.rules
        if rule.name in names
    )


def quarantined(declaration: TableDeclaration, lakehouse: Lakehouse) -> dict[str, int]:
    """How many rows are in quarantine because of each rule."""
    table = lakehouse.table(declaration.quarantine)
    if not table.exists():
        return {}
    broken = table.scan().select(pl.col(BROKEN).explode().drop_nulls().alias("rule"))
    return dict(broken.group_by("rule").len().collect(engine="streaming").iter_rows())


def referenced(bound: BoundRule, lakehouse: Lakehouse) -> pl.LazyFrame | None:
    """The values of the column that a rule references; None if there are none to compare with."""
    if bound.reference is None or not lakehouse.table(bound.reference.table).exists():
        return None
    try:
        values = contracts.reference_values(lakehouse, bound.reference)
    except ContractBroken:  # a refresh says so; here there is nothing to compare with
        return None
    return values if values.limit(1).collect().height else None


def _has_results(commit: Mapping[str, Any]) -> bool:
    return {"account", "evidence"} <= set(commit["info"])


def _of_last_run(table: Table) -> Iterator[Mapping[str, Any]]:
    """The commits of the last run that computed rows, newest first; maintenance and releases in between are passed over."""
    run_id = None
    for commit in table.commits():
        if not _has_results(commit):
            continue
        if run_id is not None and commit["info"].get("run_id") != run_id:
            return
        run_id = commit["info"].get("run_id")
        yield commit


def _evidence(declaration: TableDeclaration, info: Mapping[str, str]) -> tuple[Evidence, ...]:
    content, rules = json.loads(info["evidence"]), json.loads(info["rules"])
    return tuple(
        Evidence(rule, content["rows"], content["broken"].get(rule.name, 0), (), content["not_applied"].get(rule.name, ""))
        for rule in declaration.rules
        if rules.get(rule.name) == rule.fingerprint
    )


def _why_not(rule: Rule) -> str:
    if rule.column is None:
        return "not applied: it is about rows on their way into the table, and says nothing of rows that are stored"
    return "not applied: its column, or the column that it references, has no rows to compare with"

"""The checks of assets in Dagster: what each demands, and a result for every check that a run planned. Nothing here changes a table.

Rows are judged in `pipeline`; here its results are put into the words and colours of the web UI.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import dagster as dg

from lakehouse_assets.platform.declarations.check_names import (
    ACCOUNT_CHECK,
    CONTRACT_CHECK,
    FILES_CHECK,
    GATE_CHECK,
    LEAKAGE_CHECK,
    NOT_EVALUATED,
    NOT_NULL_CHECK,
)
from lakehouse_assets.platform.declarations.gates import DIFFERS
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.ingestion.bronze import Ingestion
from lakehouse_assets.platform.operations.landed_files import with_path
from lakehouse_assets.platform.orchestration import describe
from lakehouse_assets.platform.pipeline import rule_results
from lakehouse_assets.platform.pipeline.model_step import ModelStepResult
from lakehouse_assets.platform.pipeline.refresh import Refreshed
from lakehouse_assets.platform.quality.account import RowAccount, RowsLost
from lakehouse_assets.platform.quality.contract import ContractBroken, key_columns
from lakehouse_assets.platform.quality.rules import Rule
from lakehouse_assets.platform.quality.samples import sample_table
from lakehouse_assets.platform.quality.split import Evidence, misfits
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.wording import counted, listed

# What becomes of rows that break a rule, by the rule's level: what a check of it says beforehand and afterwards.
_FATE = {
    "error": "A row that breaks it goes into quarantine; the rest is written.",
    "warn": "A row that breaks it is written all the same, and counted.",
    "fail": "One row that breaks it stops the write; the table stays as it was.",
}
_WENT = {"error": "in quarantine", "warn": "in the table", "fail": "the write was stopped"}
_FILES_SHOWN, _REASONS_SHOWN = 20, 3
_ROWS_SHOWN = 5


def not_evaluated(check: dg.AssetCheckKey, why: str) -> dg.AssetCheckResult:
    """The result of a check that could not be evaluated: a warning, so that it is not taken for a broken rule."""
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"not evaluated: {why}",
        metadata={NOT_EVALUATED: True},
    )


# --- tables


def of_table(asset: TableDeclaration, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """One check a rule; that no column of the contract lacks a value is one check for all columns."""
    blocking = [
        dg.AssetCheckSpec(
            CONTRACT_CHECK,
            asset=key,
            blocking=True,
            description=f"Columns and types are those of {asset.contract.__name__}, no fail rule is broken, and few enough rows are bad; "
            "else nothing was written.",
        ),
        dg.AssetCheckSpec(
            ACCOUNT_CHECK,
            asset=key,
            blocking=True,
            description="Rows in = written + updated + duplicates + quarantined, in the last run that had rows.",
        ),
    ]
    checks = _checks(asset.rules)
    rules = [dg.AssetCheckSpec(name, asset=key, description=f"{_text(name, of)} {_FATE[of[0].level]}") for name, of in checks.items()]
    return [*blocking, *rules]


def refreshed(asset: TableDeclaration, key: dg.AssetKey, done: Refreshed, lakehouse: Lakehouse) -> Iterator[dg.AssetCheckResult]:
    """The results of a refresh: bad rows are in quarantine and rows that a rule warns of in the table, so neither stops what comes after.

    Where nothing was new, the results of the last run that had rows are given again.
    """
    yield _contract(asset, key, passed=True)
    if done.batches:
        yield _account(key, done.account)
        yield from _rules(asset, key, done.evidence)
    else:
        yield from _last_results(asset, key, lakehouse)


def broken(asset: TableDeclaration, key: dg.AssetKey, error: ContractBroken) -> Iterator[dg.AssetCheckResult]:
    """The failed check of a contract that was broken, and the results of the rules as far as they were applied: nothing was written."""
    yield _contract(asset, key, passed=False, description=str(error))
    for name, of in _checks(asset.rules).items():
        results = [evidence for evidence in error.evidence if _check_name(evidence.rule) == name]
        if results:
            yield _rule(asset, key, name, of, results, went="nothing of the batch was written")


def rows_lost(key: dg.AssetKey, error: RowsLost) -> dg.AssetCheckResult:
    """The failed check of a row account that is not balanced: nothing was written."""
    return dg.AssetCheckResult(asset_key=key, check_name=ACCOUNT_CHECK, passed=False, description=str(error))


def stored(asset: TableDeclaration, key: dg.AssetKey, lakehouse: Lakehouse, wanted: Collection[str]) -> Iterator[dg.AssetCheckResult]:
    """The results of the wanted checks over the rows that the table has now. The table is not refreshed.

    Raises:
        NoSuchTable: The table does not exist.
    """
    table = lakehouse.table(asset.name)
    if CONTRACT_CHECK in wanted:
        columns = {name: dtype for name, dtype in table.schema().items() if name in asset.contract.to_schema().columns}
        problems = misfits(asset.contract, columns)
        text = "; ".join(problems)
        yield _contract(
            asset, key, passed=not problems, description=f"the stored table is not as the contract says: {text}" if text else None
        )
    if ACCOUNT_CHECK in wanted and (recorded := rule_results.recorded(asset, lakehouse)) is not None:
        yield _account(key, recorded.account, f"of the run that wrote version {recorded.version}")
    checks = {name: of for name, of in _checks(asset.rules).items() if name in wanted}
    results = rule_results.stored(asset, lakehouse, [rule.name for of in checks.values() for rule in of])
    rejected = rule_results.quarantined(asset, lakehouse) if checks else {}
    for name, of in checks.items():
        own = [evidence for evidence in results if _check_name(evidence.rule) == name]
        more = {
            "delta_version": dg.MetadataValue.text(str(table.version())),
            "rows_in_quarantine": sum(rejected.get(rule.name, 0) for rule in of),
        }
        yield _rule(asset, key, name, of, own, went="in the table", more=more)


def _last_results(asset: TableDeclaration, key: dg.AssetKey, lakehouse: Lakehouse) -> Iterator[dg.AssetCheckResult]:
    recorded = rule_results.recorded(asset, lakehouse)
    yield _account(key, RowAccount() if recorded is None else recorded.account)
    evidence = () if recorded is None else recorded.evidence
    known = {one.rule.name for one in evidence}
    since = "" if recorded is None else f"; nothing was new since version {recorded.version}"
    new = rule_results.stored(asset, lakehouse, [rule.name for rule in asset.rules if rule.name not in known])
    yield from _rules(asset, key, (*evidence, *new), since, {one.rule.name for one in new})


def _rules(
    asset: TableDeclaration, key: dg.AssetKey, evidence: Collection[Evidence], since: str = "", changed: Collection[str] = ()
) -> Iterator[dg.AssetCheckResult]:
    """One result a check.

    Args:
        asset: The table.
        key: Its asset.
        evidence: What the rules found.
        since: What is said of when that was.
        changed: Rules that the stored rows were not checked by when they were written: those that break one are in the table.
    """
    for name, of in _checks(asset.rules).items():
        results = [one for one in evidence if _check_name(one.rule) == name]
        is_stored = any(one.broken and one.rule.name in changed for one in results)
        went = "in the table since before the rule was as it is; a full refresh applies it to them" if is_stored else None
        yield _rule(asset, key, name, of, results, went=went or _WENT[of[0].level] + since)


def _contract(asset: TableDeclaration, key: dg.AssetKey, *, passed: bool, description: str | None = None) -> dg.AssetCheckResult:
    metadata = {"contract": asset.contract.__name__}
    return dg.AssetCheckResult(asset_key=key, check_name=CONTRACT_CHECK, passed=passed, description=description, metadata=metadata)


def _account(key: dg.AssetKey, account: RowAccount, description: str | None = None) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=ACCOUNT_CHECK,
        passed=account.balanced,
        description=description,
        metadata=describe.account(account),
    )


def _rule(
    asset: TableDeclaration,
    key: dg.AssetKey,
    name: str,
    rules: list[Rule],
    results: list[Evidence],
    *,
    went: str,
    more: Mapping[str, Any] | None = None,
) -> dg.AssetCheckResult:
    """The result of the check of one or more rules; `went` says where the rows are that broke them."""
    broken = [evidence for evidence in results if evidence.broken]
    count = sum(evidence.broken for evidence in broken)
    # One row may lack several values, and each is counted by the rule of its column.
    unit, noun = ("values_missing", "missing value") if name == NOT_NULL_CHECK else ("rows_broken", "row")
    metadata: dict[str, Any] = {
        "rule": _text(name, rules),
        "level": rules[0].level,
        "rows_checked": max((evidence.rows_in for evidence in results), default=0),
        unit: count,
    }
    if broken:
        metadata["broken_by_rule"] = {evidence.rule.text: evidence.broken for evidence in broken}
        keyed = key_columns(asset.contract)
        sample = [row for evidence in broken for row in sample_table(evidence.rule, evidence.sample, keyed)]
        if sample:
            metadata["sample"] = dg.MetadataValue.md(describe.markdown(sample[:_ROWS_SHOWN]))
    not_applied = next((evidence.not_applied for evidence in results if evidence.not_applied), None)
    what = counted(count, f"{noun} breaks", f"{noun}s break")
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=not broken,
        severity=dg.AssetCheckSeverity.ERROR if rules[0].level == "fail" else dg.AssetCheckSeverity.WARN,
        metadata=metadata | dict(more or {}),
        description=f"{what} this rule: {went}." if broken else not_applied,
    )


def _checks(rules: list[Rule]) -> dict[str, list[Rule]]:
    """The checks by name, each with its rules."""
    checks: dict[str, list[Rule]] = {}
    for rule in rules:
        checks.setdefault(_check_name(rule), []).append(rule)
    return checks


def _check_name(rule: Rule) -> str:
    return NOT_NULL_CHECK if rule.name == f"{rule.column}_not_null" and rule.level == "error" else rule.name


def _text(name: str, rules: list[Rule]) -> str:
    if name == NOT_NULL_CHECK:
        return f"No nulls in {', '.join(rule.text.split(':')[0] for rule in rules)}."
    text = rules[0].text.rstrip(".") + "."
    return text if rules[0].column else text[:1].upper() + text[1:]  # one about a column begins with its name


# --- feeds and models


def of_feed(key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """That all files could be read."""
    text = "Every file that landed could be read; one that could not is refused and stays where it is."
    return [dg.AssetCheckSpec(FILES_CHECK, asset=key, description=text)]


def feed(key: dg.AssetKey, ingestion: Ingestion, stuck: Mapping[str, str]) -> Iterator[dg.AssetCheckResult]:
    """The files that are refused now, whichever run refused them.

    Args:
        key: Of the bronze table.
        ingestion: The ingestion of its feed.
        stuck: By path, why something besides reading failed in this run.
    """
    rows = ingestion.state().last_events(["refused"]).sort("path").select("path", "reason") if ingestion.log.exists() else None
    refused = (dict(rows.iter_rows()) if rows is not None else {}) | dict(stuck)
    shown = dict(list(refused.items())[:_FILES_SHOWN])
    reasons = listed([with_path(path, reason or "") for path, reason in refused.items()], _REASONS_SHOWN, "; ")
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=FILES_CHECK,
        passed=not refused,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{counted(len(refused), 'file')} refused: {reasons.rstrip('.')}. See `lakehouse files list --refused`"
        if refused
        else None,
        metadata={"refused": len(refused)} | {path: reason or "" for path, reason in shown.items()},
    )


def of_model(key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """That the newest version passed the gate, and that nothing gives the target away in what it learnt from."""
    gate = "The newest version passed the gate: better than baselines and champion, or, trained again on newer data, not worse."
    leakage = "No column of the training set is the target, or names rows or times. Above its limit the gate refuses the model."
    return [dg.AssetCheckSpec(name, asset=key, description=text) for name, text in ((GATE_CHECK, gate), (LEAKAGE_CHECK, leakage))]


def model(key: dg.AssetKey, result: ModelStepResult) -> Iterator[dg.AssetCheckResult]:
    """The gate's last decision, and what the leakage report said then."""
    refused = [leak for leak in result.leaks if not leak.passed]
    # In a first year the season makes the newest rows others: that is said, and fails only above a limit.
    failed = [leak for leak in result.leaks if not (leak.passed and leak.name.startswith(DIFFERS))]
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=LEAKAGE_CHECK,
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR if refused else dg.AssetCheckSeverity.WARN,
        description="; ".join(leak.meaning for leak in result.leaks) or "Nothing was found that gives the target away.",
        metadata={leak.name: leak.value for leak in result.leaks if leak.value is not None},
    )
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=GATE_CHECK,
        passed=result.promoted,
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join(result.reasons),
        metadata={
            "champion": f"version {result.champion}" if result.champion else "no champion yet",
            "newest_decision": f"version {result.version}" if result.version else "nothing was decided yet",
            "reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in result.reasons)),
        },
    )

"""What people see of a table in Dagster: columns, counts, versions, the evidence of checks, pictures. Nothing here changes a table."""

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline import contracts
from lakehouse_assets.platform.pipeline.model_step import ModelStepResult
from lakehouse_assets.platform.pipeline.refresh import Refreshed
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.quality.contract import ContractBroken, columns_of, fingerprint, rules_of
from lakehouse_assets.platform.quality.monitors import Verdict
from lakehouse_assets.platform.quality.rules import Rule
from lakehouse_assets.platform.quality.split import Evidence
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table

CONTRACT_CHECK, ACCOUNT_CHECK, NOT_NULL_CHECK, GATE_CHECK = "contract", "row_account", "not_null", "gate"
# What becomes of rows that break a rule, by the rule's level: what a check of it says beforehand and afterwards.
_FATE = {
    "error": "A row that breaks it goes into quarantine; the rest is written.",
    "warn": "A row that breaks it is written all the same, and counted.",
    "fail": "One row that breaks it stops the write; the table stays as it was.",
}
_WENT = {"error": "are in quarantine", "warn": "stay in the table", "fail": "stopped the write"}


def columns(schema: Mapping[str, pl.DataType]) -> dict[str, Any]:
    """The columns of a table without a contract."""
    return {"dagster/column_schema": dg.TableSchema([dg.TableColumn(name, str(dtype)) for name, dtype in schema.items()])}


def contract_columns(asset: TableDeclaration) -> dict[str, Any]:
    """The columns of a table with what its contract says of them; those that the write adds come last."""
    promised = [
        dg.TableColumn(
            info.name,
            str(info.dtype),
            description=info.description + (" Personal data." if info.personal else ""),
            constraints=dg.TableColumnConstraints(
                nullable=info.nullable, other=[text for text in info.rules if not text.endswith(": not null")]
            ),
            tags={"key": ""} if info.key else {},
        )
        for info in columns_of(asset.contract)
    ]
    added = [dg.TableColumn(name, str(dtype)) for name, dtype in asset.schema.items() if name not in {c.name for c in promised}]
    constraints = dg.TableConstraints(other=[rule.text for rule in rules_of(asset.contract) if rule.column is None])
    return {"dagster/column_schema": dg.TableSchema([*promised, *added], constraints=constraints)}


def table(table: Table) -> dict[str, Any]:
    """Rows, version and place."""
    return {"dagster/row_count": table.count(), "dagster/uri": table.uri, "delta_version": table.version()}


def version(table: Table) -> dg.DataVersion:
    """The Delta version as Dagster's data version."""
    return dg.DataVersion(str(table.version()))


def account(account: RowAccount) -> dict[str, Any]:
    """Where the rows of this run went."""
    return {
        "rows_in": "not counted" if account.rows_in is None else account.rows_in,
        "rows_written": account.written,
        "rows_updated": account.updated,
        "rows_duplicate": account.duplicates,
        "rows_quarantined": account.quarantined,
    }


def picture(name: str, png: bytes, reports: str, file: str) -> dict[str, Any]:
    """A picture for the web UI, which is also put into the folder of reports."""
    path = Path(reports) / f"{file}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png)
    return {
        name: dg.MetadataValue.md(f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"),
        f"{name}_file": dg.MetadataValue.path(str(path)),
    }


def pictures(asset: TableDeclaration, lakehouse: Lakehouse, reports: str) -> dict[str, Any]:
    """The picture that a table's declaration asks for, if it does and the table has rows."""
    if asset.picture is None or not lakehouse.table(asset.name).count():
        return {}
    png = asset.picture(lambda name: lakehouse.table(name).scan())
    return picture("plot", png, reports, asset.name)


# --- checks


def check_specs(asset: TableDeclaration, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """One check a rule; that no column of the contract lacks a value is one check for all columns. Monitors come last."""
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
            description="Rows in = written + updated + duplicates + quarantined, in this run.",
        ),
    ]
    checks = _checks(asset.rules)
    rules = [dg.AssetCheckSpec(name, asset=key, description=f"{_text(name, of)} {_FATE[of[0].level]}") for name, of in checks.items()]
    return [*blocking, *rules, *monitor_specs(key, contracts.monitored(asset))]


def monitor_specs(key: dg.AssetKey, monitors: Mapping[str, str]) -> list[dg.AssetCheckSpec]:
    """A check for each monitor."""
    return [dg.AssetCheckSpec(name, asset=key, description=text) for name, text in monitors.items()]


def monitor_results(key: dg.AssetKey, verdicts: Mapping[str, Verdict]) -> Iterator[dg.AssetCheckResult]:
    """What the monitors say; they warn and never stop anything."""
    for name, verdict in verdicts.items():
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=name,
            passed=verdict.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=verdict.text,
            metadata=dict(verdict.numbers),
        )


def check_results(asset: TableDeclaration, key: dg.AssetKey, done: Refreshed) -> Iterator[dg.AssetCheckResult]:
    """What the rules found: bad rows are in quarantine and rows that a rule warns of in the table, so neither stops what comes after.

    Where nothing was new the rules were not applied, and what they found last stays on show.
    """
    yield dg.AssetCheckResult(asset_key=key, check_name=CONTRACT_CHECK, passed=True, metadata=_contract(asset))
    yield dg.AssetCheckResult(asset_key=key, check_name=ACCOUNT_CHECK, passed=done.account.balanced, metadata=account(done.account))
    for name, of in _checks(asset.rules).items() if done.batches else ():
        found = [evidence for evidence in done.evidence if _check_name(evidence.rule) == name]
        yield _check_result(key, name, of, found)


def broken(asset: TableDeclaration, key: dg.AssetKey, error: ContractBroken) -> Iterator[dg.AssetCheckResult]:
    """The failed check of a contract that was broken, and of each broken rule: nothing was written, and what depends on the table stops."""
    yield dg.AssetCheckResult(asset_key=key, check_name=CONTRACT_CHECK, passed=False, description=str(error), metadata=_contract(asset))
    for name, of in _checks(asset.rules).items():
        found = [evidence for evidence in error.evidence if _check_name(evidence.rule) == name]
        if any(evidence.broken for evidence in found):
            yield _check_result(key, name, of, found, written=False)


def _contract(asset: TableDeclaration) -> dict[str, Any]:
    return {"contract": asset.contract.__name__, "fingerprint": fingerprint(asset.contract)}


def _checks(rules: list[Rule]) -> dict[str, list[Rule]]:
    """The checks by name, each with its rules."""
    checks: dict[str, list[Rule]] = {}
    for rule in rules:
        checks.setdefault(_check_name(rule), []).append(rule)
    return checks


def _text(name: str, rules: list[Rule]) -> str:
    if name == NOT_NULL_CHECK:
        return f"No nulls in {', '.join(rule.text.split(':')[0] for rule in rules)}."
    return rules[0].text.rstrip(".") + "."


def _check_name(rule: Rule) -> str:
    return NOT_NULL_CHECK if rule.name == f"{rule.column}_not_null" and rule.level == "error" else rule.name


def _check_result(key: dg.AssetKey, name: str, rules: list[Rule], found: list[Evidence], *, written: bool = True) -> dg.AssetCheckResult:
    broken = [evidence for evidence in found if evidence.broken]
    level = rules[0].level
    metadata: dict[str, Any] = {
        "rule": _text(name, rules),
        "level": level,
        "fingerprint": rules[0].fingerprint if len(rules) == 1 else {rule.name: rule.fingerprint for rule in rules},
        "rows_checked": max((evidence.rows_in for evidence in found), default=0),
        "rows_broken": sum(evidence.broken for evidence in found),
    }
    if broken:
        metadata["broken_by_rule"] = {evidence.rule.text: evidence.broken for evidence in broken}
        metadata["sample"] = dg.MetadataValue.md(_as_table(broken[0].sample))
    went = _WENT[level] if written else "were seen; nothing of the batch was written"
    not_applied = next((evidence.not_applied for evidence in found if evidence.not_applied), None)
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=not broken,
        severity=dg.AssetCheckSeverity.ERROR if level == "fail" else dg.AssetCheckSeverity.WARN,
        metadata=metadata,
        description=f"{metadata['rows_broken']:,} rows break this rule and {went}." if broken else not_applied,
    )


def _as_table(sample: tuple[Mapping[str, Any], ...]) -> str:
    names = [name for name in sample[0] if any(row[name] is not None for row in sample)]
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in sample]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


# --- models


def model(key: dg.AssetKey, ledger: Table, result: ModelStepResult, reports: str) -> Iterator[Any]:
    """The gate's verdict and the newest version with its scores and plots."""
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=GATE_CHECK,
        passed=result.promoted,
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join(result.reasons),
        metadata={"champion": result.champion or 0, "version": result.version or 0},
    )
    metadata = (
        table(ledger)
        | columns(ledger.schema())
        | {"champion": result.champion or 0, "version": result.version or 0, "reasons": "\n\n".join(result.reasons)}
    )
    for name, value in result.metrics.items():
        metadata[name] = value
    for name, png in result.plots.items():
        metadata |= picture(name, png, reports, f"{ledger.name}.{name}")
    yield dg.MaterializeResult(key, metadata=metadata, data_version=version(ledger))

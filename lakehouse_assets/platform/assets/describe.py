"""What people see of a table in Dagster: columns, counts, versions, the evidence of checks, pictures. Nothing here changes a table."""

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from lakehouse_assets.platform.assets.declare import TableAsset
from lakehouse_assets.platform.assets.models import Trained
from lakehouse_assets.platform.assets.refresh import Refreshed
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.quality.contract import ContractBroken, columns_of, rules_of
from lakehouse_assets.platform.quality.rules import Rule
from lakehouse_assets.platform.quality.split import Evidence
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table

CONTRACT_CHECK, ACCOUNT_CHECK, NOT_NULL_CHECK, GATE_CHECK = "contract", "row_account", "not_null", "gate"


def columns(schema: Mapping[str, pl.DataType]) -> dict[str, Any]:
    """The columns of a table without a contract."""
    return {"dagster/column_schema": dg.TableSchema([dg.TableColumn(name, str(dtype)) for name, dtype in schema.items()])}


def contract_columns(asset: TableAsset) -> dict[str, Any]:
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
        "rows_in": account.rows_in,
        "rows_written": account.written,
        "rows_merged": account.merged,
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


def pictures(asset: TableAsset, lakehouse: Lakehouse, reports: str) -> dict[str, Any]:
    """The picture that a table's declaration asks for, if it does and the table has rows."""
    if asset.picture is None or not lakehouse.table(asset.name).count():
        return {}
    png = asset.picture(lambda name: lakehouse.table(name).scan())
    return picture("plot", png, reports, asset.name)


# --- checks


def check_specs(asset: TableAsset, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """One check a rule; that no column of the contract lacks a value is one check for all columns."""
    blocking = [
        dg.AssetCheckSpec(
            CONTRACT_CHECK,
            asset=key,
            blocking=True,
            description=f"Columns and types are those of {asset.contract.__name__}, and few enough rows are bad; else nothing was written.",
        ),
        dg.AssetCheckSpec(
            ACCOUNT_CHECK,
            asset=key,
            blocking=True,
            description="Rows in = written + merged into an existing row + duplicates + quarantined, in this run.",
        ),
    ]
    rules = [dg.AssetCheckSpec(name, asset=key, description=text) for name, text in _checks(rules_of(asset.contract)).items()]
    return blocking + rules


def check_results(asset: TableAsset, key: dg.AssetKey, done: Refreshed) -> Iterator[dg.AssetCheckResult]:
    """What the rules found: bad rows are in quarantine and rows that a rule warns of in the table, so neither stops what comes after.

    Where nothing was new the rules were not applied, and what they found last stays on show.
    """
    yield dg.AssetCheckResult(asset_key=key, check_name=CONTRACT_CHECK, passed=True, metadata={"contract": asset.contract.__name__})
    yield dg.AssetCheckResult(asset_key=key, check_name=ACCOUNT_CHECK, passed=done.account.balanced, metadata=account(done.account))
    for name, text in _checks(rules_of(asset.contract)).items() if done.batches else ():
        found = [evidence for evidence in done.evidence if _check_name(evidence.rule) == name]
        yield _check_result(key, name, text, found)


def broken(asset: TableAsset, key: dg.AssetKey, error: ContractBroken) -> Iterator[dg.AssetCheckResult]:
    """The failed check of a contract that was broken: nothing was written, and what depends on the table stops."""
    yield dg.AssetCheckResult(
        asset_key=key, check_name=CONTRACT_CHECK, passed=False, description=str(error), metadata={"contract": asset.contract.__name__}
    )


def _checks(rules: list[Rule]) -> dict[str, str]:
    texts: dict[str, list[str]] = {}
    for rule in rules:
        texts.setdefault(_check_name(rule), []).append(rule.text)
    return {
        name: f"No nulls in {', '.join(t.split(':')[0] for t in found)}." if name == NOT_NULL_CHECK else found[0]
        for name, found in texts.items()
    }


def _check_name(rule: Rule) -> str:
    return NOT_NULL_CHECK if rule.name == f"{rule.column}_not_null" else rule.name


def _check_result(key: dg.AssetKey, name: str, text: str, found: list[Evidence]) -> dg.AssetCheckResult:
    broken = [evidence for evidence in found if evidence.broken]
    metadata: dict[str, Any] = {
        "rule": text,
        "rows_checked": max((evidence.rows_in for evidence in found), default=0),
        "rows_broken": sum(evidence.broken for evidence in found),
    }
    if broken:
        metadata["broken_by_rule"] = {evidence.rule.text: evidence.broken for evidence in broken}
        metadata["sample"] = dg.MetadataValue.md(_as_table(broken[0].sample))
    warns = bool(found) and found[0].rule.level == "warn"
    what = "stay in the table" if warns else "are in quarantine"
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=not broken,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=metadata,
        description=f"{metadata['rows_broken']:,} rows break this rule and {what}." if broken else None,
    )


def _as_table(sample: tuple[Mapping[str, Any], ...]) -> str:
    names = [name for name in sample[0] if any(row[name] is not None for row in sample)]
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in sample]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


# --- models


def model(key: dg.AssetKey, ledger: Table, trained: Trained, reports: str) -> Iterator[Any]:
    """The gate's verdict and the newest version with its scores and plots."""
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=GATE_CHECK,
        passed=trained.promoted,
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join(trained.reasons),
        metadata={"champion": trained.champion or 0, "version": trained.version or 0},
    )
    metadata = (
        table(ledger)
        | columns(ledger.schema())
        | {"champion": trained.champion or 0, "version": trained.version or 0, "reasons": "\n\n".join(trained.reasons)}
    )
    for name, value in trained.metrics.items():
        metadata[name] = value
    for name, png in trained.plots.items():
        metadata |= picture(name, png, reports, f"{ledger.name}.{name}")
    yield dg.MaterializeResult(key, metadata=metadata, data_version=version(ledger))

"""The metadata of assets in Dagster: columns, counts, places, pictures. Checks are in `checks`. Nothing here changes a table."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline.model_step import ModelStepResult
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.quality.contract import columns_of, rules_of
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table


def columns(schema: Mapping[str, pl.DataType]) -> dict[str, Any]:
    """The columns of a table without a contract."""
    return {"dagster/column_schema": dg.TableSchema([dg.TableColumn(name, _type(dtype)) for name, dtype in schema.items()])}


def contract_columns(asset: TableDeclaration) -> dict[str, Any]:
    """The columns of a table with what its contract says of them; those that the write adds come last."""
    promised = [
        dg.TableColumn(
            info.name,
            _type(info.dtype),
            description=info.description + (" Personal data." if info.personal else ""),
            constraints=dg.TableColumnConstraints(
                nullable=info.nullable, other=[text for text in info.rules if not text.endswith(": not null")]
            ),
            tags={"key": ""} if info.key else {},
        )
        for info in columns_of(asset.contract)
    ]
    added = [dg.TableColumn(name, _type(dtype)) for name, dtype in asset.schema.items() if name not in {c.name for c in promised}]
    constraints = dg.TableConstraints(other=[rule.text for rule in rules_of(asset.contract) if rule.column is None])
    return {"dagster/column_schema": dg.TableSchema([*promised, *added], constraints=constraints)}


def table(table: Table) -> dict[str, Any]:
    """Rows, version and place."""
    return {"dagster/row_count": table.count(), "dagster/uri": table.uri, "delta_version": table.version()}


def _type(dtype: pl.DataType) -> str:
    """A type as people write it: a moment's time zone and not its unit, which is the same everywhere."""
    return f"Datetime ({dtype.time_zone or 'no time zone'})" if isinstance(dtype, pl.Datetime) else str(dtype)


def column_lineage(asset: TableDeclaration) -> dict[str, Any]:  # noqa: ARG001 its place
    """The columns that each column was computed from, as `dagster/column_lineage`: none yet.

    A column that has the name of a column of an input need not be that column: the plan of the function has to be read first.
    """
    return {}


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


def model(ledger: Table, result: ModelStepResult, reports: str) -> dict[str, Any]:
    """The newest version with its scores and plots, and the reasons of the last decision."""
    metadata = (
        table(ledger)
        | columns(ledger.schema())
        | {"champion": result.champion or 0, "version": result.version or 0, "reasons": "\n\n".join(result.reasons)}
    )
    for name, value in result.metrics.items():
        metadata[name] = value
    for name, png in result.plots.items():
        metadata |= picture(name, png, reports, f"{ledger.name}.{name}")
    return metadata

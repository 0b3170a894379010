"""The metadata of assets in Dagster: counts, places, pictures, links. Columns are in `columns`, checks in `checks`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline.model_step import ModelStepResult
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.registry.model_card import model_page
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table


def named(name: str, tables: str) -> dict[str, Any]:
    """What is known of a table before it exists: its name and where it will be.

    Args:
        name: Of the table.
        tables: Root of the tables; empty if it is not known.
    """
    return {"dagster/table_name": name} | ({"dagster/uri": Lakehouse(tables).table(name).uri} if tables else {})


def tags_of(declaration: Declaration) -> dict[str, str]:
    """By what assets can be filtered and selected: `tag:layer=gold`, `tag:pii=true`."""
    return {"product": declaration.product, "layer": declaration.layer} | ({"pii": "true"} if declaration.personal else {})


def table(table: Table) -> dict[str, Any]:
    """Rows, bytes, version and time of the last commit. The version is a text: Dagster plots numbers, and this one only ever grows."""
    delta = table.now()
    sizes = pl.DataFrame(delta.get_add_actions())["size_bytes"]
    return {
        "dagster/row_count": table.count(),
        "dagster/size_bytes": int(sizes.sum()),
        "dagster/uri": table.uri,
        "delta_version": dg.MetadataValue.text(str(delta.version())),
    }


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
    """A picture in the folder of reports, and its path. It is not put into the event: Dagster's databases would keep it for every run."""
    path = Path(reports) / f"{file}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png)
    return {name: dg.MetadataValue.path(str(path))}


def pictures(asset: TableDeclaration, lakehouse: Lakehouse, reports: str) -> dict[str, Any]:
    """The picture that a table's declaration asks for, if it does and the table has rows."""
    if asset.picture is None or not lakehouse.table(asset.name).count():
        return {}
    png = asset.picture(lambda name: lakehouse.table(name).scan())
    return picture("plot", png, reports, asset.name)


def model(asset: ModelDeclaration, ledger: Table, result: ModelStepResult, reports: str, mlflow: str) -> dict[str, Any]:
    """The newest decision in words, with its scores, plots and links.

    Args:
        asset: The model.
        ledger: The table of decisions about it.
        result: What the step did.
        reports: Folder for pictures.
        mlflow: Address of MLflow's web UI.
    """
    metadata: dict[str, Any] = {
        "champion": f"version {result.champion}" if result.champion else "no champion yet",
        "newest_decision": f"version {result.version}" if result.version else "nothing was decided yet",
        "reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in result.reasons)),
    }
    if result.in_short:
        metadata["in_short"] = result.in_short
    if result.table:
        metadata["gate"] = dg.MetadataValue.md(result.table)
    if result.metrics:
        metadata["scores"] = dg.MetadataValue.md(markdown([{"score": name, "value": number(v)} for name, v in result.metrics.items()]))
    for name, png in result.plots.items():
        metadata |= picture(name, png, reports, f"{ledger.name}.{name}")
    pages = {"mlflow_model": model_page(asset.name)} | (
        {"mlflow_version": model_page(asset.name, result.version)} if result.version else {}
    )
    metadata |= {name: dg.MetadataValue.url(mlflow + page) for name, page in pages.items()}
    return metadata | table(ledger)


def number(value: float) -> str:
    """A score as people read it."""
    return f"{value:,.4g}"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a table; the columns are those of the first."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")

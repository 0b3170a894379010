"""What the commands tell about a lakehouse: gathered as plain values, so that `--json` and the tables for people say the same."""

import json
from datetime import UTC, datetime
from typing import Any

import polars as pl
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from rich.console import Console
from rich.table import Column
from rich.table import Table as Grid

from lakehouse_assets.commands.workspace import Workspace
from lakehouse_assets.platform.declarations.declare import QUARANTINE_SUFFIX
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.pipeline.quarantine import unreleased
from lakehouse_assets.platform.registry.ledger import last_decision

_SHOWN_WIDTH = 40


def status(workspace: Workspace) -> dict[str, Any]:
    """Tables with rows, versions, freshness, checks and quarantine; waiting and refused files; champions."""
    workspace.sync_champions()
    tables = [table.name for table in workspace.lakehouse.tables() if not table.name.endswith(QUARANTINE_SUFFIX)]
    failed = _failed_checks(workspace)
    refused = landing.latest(workspace.log).filter(pl.col("event").is_in([landing.REFUSED, landing.CHANGED]))
    return {
        "root": str(workspace.settings.root),
        "tables": [_table(workspace, name, failed.get(name, [])) for name in tables],
        "pending": workspace.pending(),
        "waiting_files": workspace.waiting(),
        "refused_files": refused.select("feed", "path", "event", "reason").to_dicts(),
        "champions": [_champion(workspace, model.name, model.registered_name) for model in workspace.products.models],
    }


def _table(workspace: Workspace, name: str, failed: list[str]) -> dict[str, Any]:
    table = workspace.lakehouse.table(name)
    quarantine = workspace.lakehouse.table(name + QUARANTINE_SUFFIX)
    last = table.history(1)[0]
    return {
        "table": name,
        "rows": table.count(),
        "version": last["version"],
        "changed_at": last["at"],
        "quarantined": unreleased(quarantine).select(pl.len()).collect().item() if quarantine.exists() else None,
        "failed_checks": failed,
    }


def _failed_checks(workspace: Workspace) -> dict[str, list[str]]:
    """The checks of each table whose last evaluation failed."""
    keys = [key for asset in workspace.products.assets() for key in asset.check_keys]
    failed: dict[str, list[str]] = {}
    with workspace.instance() as instance:
        for key, record in instance.event_log_storage.get_latest_asset_check_execution_by_key(keys).items():
            if record.status == AssetCheckExecutionRecordStatus.FAILED:
                failed.setdefault(".".join(key.asset_key.path), []).append(key.name)
    return failed


def _champion(workspace: Workspace, ledger_name: str, registered: str) -> dict[str, Any]:
    ledger = workspace.lakehouse.table(ledger_name)
    last = last_decision(ledger.scan()) if ledger.exists() else None
    if last is None:
        return {"model": registered, "champion": None, "last_decision": None}
    decision = {name: last[name] for name in ("sequence", "decided_at", "version", "decision")} | {"reasons": last["reasons"].split("\n")}
    return {"model": registered, "champion": last["champion"], "last_decision": decision}


def models(workspace: Workspace) -> list[dict[str, Any]]:
    """Every registered version with its aliases, scores and the tables that it was trained on."""
    workspace.sync_champions()
    registry = workspace.mlflow.open()
    return [
        {
            "model": version.model_name,
            "version": version.version,
            "aliases": list(version.aliases),
            "created_at": version.created_at,
            "metrics": registry.metrics(version),
            "tables": version.tables,
            "run_id": version.run_id,
        }
        for model in workspace.products.models
        for version in registry.versions(model.registered_name)
    ]


# --- for people


def print_status(status: dict[str, Any], console: Console) -> None:
    """The status as tables."""
    grid = Grid("table", *(right(name) for name in ("rows", "version")), "changed", right("quarantined"), "failed checks", box=None)
    for row in status["tables"]:
        checks = ", ".join(row["failed_checks"])
        quarantined = "" if row["quarantined"] is None else f"{row['quarantined']:,}"
        grid.add_row(row["table"], f"{row['rows']:,}", str(row["version"]), ago(row["changed_at"]), quarantined, checks)
    console.print(grid if status["tables"] else "No table yet: land files with `lakehouse land FEED FILE`, then `lakehouse run`.")
    for feed, count in status["waiting_files"].items():
        console.print(f"\n{count} files of [bold]{feed}[/] wait: `lakehouse run` takes them.")
    for file in status["refused_files"]:
        console.print(f"\n[red]{file['event']}[/] {file['feed']}/{file['path']}: {file['reason']}", highlight=False)
    for champion in status["champions"]:
        print_champion(champion, console)
    if status["pending"] and not status["waiting_files"]:
        console.print(f"\nSomething to do for {', '.join(status['pending'])}: `lakehouse run`.")


def print_champion(champion: dict[str, Any], console: Console) -> None:
    """Which version of a model is champion, and why."""
    if champion["last_decision"] is None:
        console.print(f"\nModel [bold]{champion['model']}[/]: not trained yet.")
        return
    last = champion["last_decision"]
    who = f"version {champion['champion']} is champion" if champion["champion"] else "there is no champion, so nothing is scored"
    console.print(f"\nModel [bold]{champion['model']}[/]: {who}. Last decision: version {last['version']} {last['decision']}.")
    for reason in last["reasons"]:
        console.print(f"  {reason}", highlight=False)


def print_frame(frame: pl.DataFrame, console: Console) -> None:
    """A frame as a grid."""
    grid = Grid(*(right(name) if dtype.is_numeric() else name for name, dtype in frame.schema.items()), box=None)
    for row in frame.iter_rows():
        grid.add_row(*(_text(value) for value in row))
    console.print(grid)


def ago(moment: datetime) -> str:
    """How long ago, in the largest unit that says enough."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} seconds ago"


def right(name: str) -> Column:
    """A column of numbers."""
    return Column(name, justify="right")


def _text(value: Any) -> str:
    if value is None:
        return "[dim]null"
    if isinstance(value, float):
        return f"{value:,.2f}"
    text = str(value).replace("[", "\\[")
    return text if len(text) <= _SHOWN_WIDTH else text[: _SHOWN_WIDTH - 1] + "…"


def print_history(commits: list[dict[str, Any]], console: Console) -> None:
    """The commits of a table, newest first."""
    grid = Grid(right("version"), "at (UTC)", "operation", "run", "rows", box=None)
    for commit in commits:
        account = json.loads(commit["info"].get("account", "{}"))
        rows = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in account.items() if count)
        run = commit["info"].get("run_id", "")[:8]
        grid.add_row(str(commit["version"]), f"{commit['at']:%Y-%m-%d %H:%M:%S}", commit["operation"].lower(), run, rows)
    console.print(grid)


def print_models(versions: list[dict[str, Any]], console: Console) -> None:
    """The versions of all models, newest first."""
    if not versions:
        console.print("No model yet: `lakehouse run` trains one once there is enough history.")
        return
    grid = Grid("model", right("version"), "aliases", "created", "scores", "trained on", box=None)
    for version in versions:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in version["metrics"].items() if "/" not in name)
        tables = ", ".join(f"{name}@{number}" for name, number in version["tables"].items())
        grid.add_row(version["model"], str(version["version"]), ", ".join(version["aliases"]), ago(version["created_at"]), scores, tables)
    console.print(grid)

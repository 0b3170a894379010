"""Maintenance by hand, table by table: what is needed, what was done. What it does is in `platform.operations.maintenance`."""

import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from lakehouse_assets.commands.report import right
from lakehouse_assets.commands.workspace import Workspace
from lakehouse_assets.platform.operations.maintenance import Maintenance

_UNITS = ("B", "kB", "MB", "GB", "TB")


def of(workspace: Workspace) -> Maintenance:
    """The maintenance of a root."""
    retention, log_retention = (timedelta(days=days) for days in (workspace.settings.retention_days, workspace.settings.log_retention_days))
    return Maintenance(workspace.lakehouse, workspace.products.declarations, workspace.mlflow.open, retention, log_retention)


def needs(workspace: Workspace, names: Iterable[str], console: Console) -> list[dict[str, Any]]:
    """What maintenance would do, as plain values."""
    with console.status("Looking through the tables") as status:
        found = []
        for table, need in of(workspace).states(names):
            status.update(f"Looked at {table.name}")
            counts = {
                name: getattr(need, name) for name in ("files", "small_files", "bytes", "partitions", "log_entries", "unneeded_bytes")
            }
            found.append({"table": table.name, "would_do": list(need.due), **counts, "why_not": need.unknown_why})
        return found


def maintain(workspace: Workspace, names: Sequence[str], console: Console) -> list[dict[str, Any]]:
    """Maintain the tables; what was done, as plain values."""
    with console.status("Maintenance") as status:
        found = []
        for maintained in of(workspace).run(str(uuid.uuid4()), names):
            status.update(f"Maintained {maintained.table}")
            found.append({**vars(maintained), "done": list(maintained.done), "seconds": round(maintained.seconds, 3)})
        return found


def print_needs(found: list[dict[str, Any]], console: Console) -> None:
    """The needs as a grid."""
    columns = ("files", "small", "partitions", "size", "log entries", "to be freed")
    grid = Grid("table", *(right(name) for name in columns), "maintenance would", box=None)
    for row in found:
        numbers = (row["files"], row["small_files"], row["partitions"], size(row["bytes"]), row["log_entries"], size(row["unneeded_bytes"]))
        said = ", ".join(_VERBS[name] for name in row["would_do"]) or "do nothing"
        grid.add_row(row["table"], *map(str, numbers), row["why_not"] or said)
    console.print(grid if found else "No table yet.")


_VERBS = {"compacted": "compact", "checkpointed": "checkpoint", "vacuumed": "vacuum", "log cleaned up": "clean the log up"}


def print_maintained(found: list[dict[str, Any]], console: Console) -> None:
    """What was done as a grid, of the tables where something was."""
    grid = Grid("table", "done", right("files"), right("freed"), right("seconds"), box=None)
    busy = [row for row in found if row["done"] or row["why_not"]]
    for row in busy:
        files = f"{row['files_before']} → {row['files_after']}"
        done = "; ".join(filter(None, [", ".join(row["done"]), row["why_not"]]))
        grid.add_row(row["table"], done, files, size(row["bytes_freed"]), f"{row['seconds']:.1f}")
    if busy:
        console.print(grid)
    console.print(f"{len(found)} tables checked, {len(busy)} maintained, {size(sum(row['bytes_freed'] for row in found))} freed.")


def size(count: float) -> str:
    """Bytes in the largest unit that says enough."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"

"""The doctor at the command line: what the checks of `platform.operations.doctor` find, worst first."""

from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from rich.console import Console
from rich.markup import escape

from lakehouse_assets.commands import upkeep
from lakehouse_assets.commands.restore import under_way
from lakehouse_assets.commands.run import name_of
from lakehouse_assets.commands.workspace import Workspace
from lakehouse_assets.platform.operations.doctor import SEVERITIES, Checkup

_COLOURS = {"error": "red", "warning": "yellow", "note": "blue"}


def examine(workspace: Workspace, console: Console) -> list[dict[str, Any]]:
    """All findings as plain values, worst first."""
    plain = [asset for asset in workspace.products.plain.assets or () if isinstance(asset, dg.AssetsDefinition | dg.AssetSpec)]
    keys = [key for asset in plain for key in (asset.keys if isinstance(asset, dg.AssetsDefinition) else [asset.key])]
    checkup = Checkup(
        lakehouse=workspace.lakehouse,
        declarations=workspace.products.declarations,
        known=frozenset(map(name_of, keys)),
        maintenance=upkeep.of(workspace),
        is_running=bool(under_way(workspace)),
        now=datetime.now(UTC),
    )
    with console.status("Looking through the lakehouse") as status:
        found = []
        for finding in checkup.examine():
            status.update(f"Looked at {finding.table}")
            found.append(asdict(finding))
    return sorted(found, key=lambda finding: (SEVERITIES.index(finding["severity"]), finding["table"]))


def print_findings(found: list[dict[str, Any]], console: Console) -> None:
    """The findings, each with its way out."""
    for finding in found:
        colour = _COLOURS[finding["severity"]]
        console.print(f"[{colour}]{finding['severity']:8}[/]{finding['table']}: {escape(finding['what'])}")
        if finding["mend"]:
            console.print(f"        → {escape(finding['mend'])}", soft_wrap=True)
    counts = Counter(finding["severity"] for finding in found)
    wrong = ", ".join(f"{counts[name]} {name}s" for name in SEVERITIES[:2] if counts[name])
    console.print(wrong or "Nothing is wrong.")

"""What `lakehouse contract` does: shows a contract, finds what a change breaks, and speaks the Open Data Contract Standard."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from lakehouse_assets.commands.workspace import Workspace
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.operations.contract_changes import contract_changes
from lakehouse_assets.platform.pipeline import contracts
from lakehouse_assets.platform.quality.document import document
from lakehouse_assets.platform.quality.odcs import Described, odcs
from lakehouse_assets.platform.quality.odcs_check import compare, read_document

FILE_ENDING = ".odcs.yaml"
_CONSEQUENCES = {
    "error": "rows that break it go into quarantine",
    "warn": "rows that break it are counted and written",
    "fail": "one row that breaks it stops the write",
}


def table_asset(workspace: Workspace, name: str) -> TableDeclaration:
    """A declared table by its name.

    Raises:
        LookupError: No product declares a table of that name with a contract.
    """
    found = {asset.name: asset for asset in workspace.products.tables}
    if name not in found:
        raise LookupError(f"no product declares a table {name!r} with a contract. There are: {', '.join(sorted(found)) or 'none'}")
    return found[name]


# --- show


def show(workspace: Workspace, name: str) -> dict[str, Any]:
    """The contract of a table, and how the platform keeps it."""
    asset = table_asset(workspace, name)
    return {
        "table": asset.name,
        "owner": asset.owner,
        "key_kept_by": "rule key_unique" if asset.keeps_key_by_rule else type(asset.kind).__name__,
        "monitors": contracts.monitored(asset),
        **document(asset.contract),
    }


def print_contract(found: dict[str, Any], console: Console) -> None:
    """A contract for people."""
    console.print(f"[bold]{found['table']}[/]  contract {found['contract']} {found['fingerprint']}, {found['owner']}")
    console.print(f"{found['description']}\n", highlight=False, markup=False)
    grid = Grid("column", "type", "nulls", "", "description", box=None)
    for column in found["columns"]:
        marks = [name for name in ("key", "personal") if column[name]] + ([f"in {column['references']}"] if column["references"] else [])
        cells = (column["name"], column["type"], "may be" if column["nullable"] else "", ", ".join(marks), column["description"])
        grid.add_row(*map(escape, cells))
    console.print(grid)
    console.print()
    grid = Grid("level", "rule", "demands", box=None)
    for rule in found["rules"]:
        grid.add_row(rule["level"], rule["name"], escape(rule["text"]))
    console.print(grid)
    for level, text in _CONSEQUENCES.items():
        if any(rule["level"] == level for rule in found["rules"]):
            console.print(f"[dim]{level}: {text}.[/]")
    limits = found["thresholds"]
    rows = "" if limits["max_bad_rows"] is None else f" or {limits['max_bad_rows']:,} rows"
    share = f"{limits['max_bad_share']:.1%} of the rows (from {limits['share_counts_from']} rows on)"
    console.print(f"\nThe write stops if more than {share}{rows} are bad.")
    if found["key"]:
        console.print(f"The key is {', '.join(found['key'])}, kept unique by {found['key_kept_by']}.")
    for monitor, text in found["monitors"].items():
        console.print(f"{monitor}: {text}")


# --- diff


def diff(workspace: Workspace, name: str | None) -> list[dict[str, Any]]:
    """What changed in the contract of one table, or of each, since the table was last written, and what breaks."""
    assets = [table_asset(workspace, name)] if name else workspace.products.tables
    declared = workspace.products.declarations
    return [asdict(contract_changes(asset, declared, workspace.lakehouse)) for asset in assets]


def print_diff(found: Iterable[dict[str, Any]], console: Console) -> None:
    """The differences for people; tables without any are counted."""
    same = 0
    for table in found:
        if not table["changes"] and not table["breaks"] and (table["before"] or not table["notes"]):
            same += 1
            continue
        console.print(f"[bold]{table['table']}[/]  {table['before'] or 'none'} -> {table['after']}")
        for change in table["changes"]:
            console.print(f"  {change['kind']}: [bold]{escape(change['subject'])}[/]: {escape(change['text'])}", highlight=False)
        for broken in table["breaks"]:
            console.print(f"  [red]breaks {broken['whom']}[/] ({broken['owner']}): {escape(broken['text'])}", highlight=False)
        for note in table["notes"]:
            console.print(f"  [dim]{escape(note)}[/]", highlight=False)
    if same:
        console.print(f"{same} {'contract is' if same == 1 else 'contracts are'} as the tables were written under.")


# --- the open standard


def standard(workspace: Workspace, asset: TableDeclaration) -> dict[str, Any]:
    """The contract of a table as a document of the Open Data Contract Standard."""
    description = asset.description or " ".join((asset.contract.__doc__ or "").split())
    location = workspace.lakehouse.table(asset.name).uri
    told = Described(asset.name, description, asset.owner, asset.schema, asset.identity, asset.partitions, location)
    return odcs(asset.contract, told)


def export(workspace: Workspace, name: str) -> str:
    """The YAML of one table."""
    return as_yaml(standard(workspace, table_asset(workspace, name)))


def export_all(workspace: Workspace, folder: Path) -> list[Path]:
    """Write the YAML of every table into a folder; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for asset in workspace.products.tables:
        path = folder / f"{asset.name}{FILE_ENDING}"
        path.write_text(as_yaml(standard(workspace, asset)), encoding="utf-8")
        paths.append(path)
    return paths


def as_yaml(document: dict[str, Any]) -> str:
    """A document of the standard as text."""
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120))


def check(workspace: Workspace, path: Path) -> list[dict[str, Any]]:
    """How each table that a document of the standard names keeps what it promises.

    Raises:
        ValueError: The file is no such document.
        LookupError: It names no declared table.
    """
    promised = read_document(path.read_text(encoding="utf-8"), str(path))
    found = []
    for part in promised["schema"]:
        asset = _named(workspace, part, promised)
        ours = standard(workspace, asset)
        findings = compare(part, ours["schema"][0], promised, ours)
        found.append({"table": asset.name, "kept": not any(f.broken for f in findings), "findings": [asdict(f) for f in findings]})
    return found


def _named(workspace: Workspace, part: dict[str, Any], document: dict[str, Any]) -> TableDeclaration:
    """The declared table that a part of a document is about: by its full name, else by a last word that only one table has."""
    tables = {asset.name: asset for asset in workspace.products.tables}
    names = [str(name) for name in (part.get("physicalName"), part.get("name"), document.get("id"), document.get("name")) if name]
    for name in names:
        if name in tables:
            return tables[name]
    for name in names[:2]:
        ending = [asset for asset in tables.values() if asset.name.rsplit(".", maxsplit=1)[-1] == name.rsplit(".", maxsplit=1)[-1]]
        if len(ending) == 1:
            return ending[0]
    raise LookupError(
        f"the document names {', '.join(dict.fromkeys(names)) or 'no table'}, which is no declared table: say product.layer.name as "
        f"physicalName. There are: {', '.join(sorted(tables)) or 'none'}"
    )


def print_check(found: Iterable[dict[str, Any]], console: Console) -> None:
    """The findings for people."""
    for table in found:
        kept = "[green]keeps what is promised[/]" if table["kept"] else "[red]does not keep what is promised[/]"
        console.print(f"[bold]{table['table']}[/] {kept}")
        for finding in table["findings"]:
            mark = "[red]broken[/]" if finding["broken"] else "[dim]to know[/]"
            console.print(f"  {mark} {escape(finding['where'])} {escape(finding['text'])}", highlight=False)

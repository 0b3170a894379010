"""What the commands on quarantines find and tell: rejected rows with their reasons and their source, and what a replay did with them.

How rows are released is in `platform.pipeline.replay`.
"""

import json
from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from lakehouse_assets.commands.report import right
from lakehouse_assets.commands.workspace import Workspace
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline.quarantine import RELEASED, SOURCE, unreleased, with_marks, with_source
from lakehouse_assets.platform.pipeline.replay import Replayed, Replays
from lakehouse_assets.platform.pipeline.selection import Selection
from lakehouse_assets.platform.quality.account import RowsLost
from lakehouse_assets.platform.quality.contract import ContractBroken, columns_of, rules_of
from lakehouse_assets.platform.quality.split import BROKEN, MASK, UNPARSED
from lakehouse_assets.platform.storage.errors import NoSuchTable

_SHOWN = 200


def replays_of(workspace: Workspace, table: str) -> Replays:
    """The quarantine of a table.

    Raises:
        LookupError: No product declares a table of that name with a quarantine.
    """
    tables = {asset.name: asset for asset in workspace.products.declarations if isinstance(asset, TableDeclaration)}
    asset = tables.get(table) or tables.get(table.removesuffix("__quarantine"))
    if asset is None:
        raise LookupError(f"no product declares a table {table!r} with a quarantine. There are: {', '.join(sorted(tables))}")
    return Replays(asset, workspace.lakehouse, "by hand")


def rejected(replays: Replays, *, rows: int, rule: str | None, released: bool) -> dict[str, Any]:
    """The rules that rows in quarantine broke, and the rows, newest file first, as plain values with personal data masked.

    Args:
        replays: The quarantine.
        rows: How many rows at most.
        rule: Only rows that broke this rule.
        released: Also the rows that were released.

    Raises:
        NoSuchTable: The table was never made.
        LookupError: The contract has no such rule, and no row broke it.
    """
    asset, quarantine = replays.declaration, replays.lakehouse.table(replays.declaration.quarantine)
    if not quarantine.exists():
        raise NoSuchTable(f"{asset.name} has no quarantine yet: `lakehouse run {asset.name}` makes it")
    counts = _rules(unreleased(quarantine))
    held = _rules(quarantine.scan()) if released else counts
    texts = {known.name: known.text for known in rules_of(asset.contract)}
    if rule is not None and rule not in texts and rule not in held:
        raise LookupError(f"{asset.name} has no rule {rule!r}. There are: {', '.join(texts)}")
    waiting = unreleased(quarantine).select(pl.len()).collect().item()
    all_rows = with_source(asset, replays.lakehouse, released=released)
    if rule is not None:
        all_rows = all_rows.filter(pl.col(BROKEN).list.contains(rule))
    order = [name for name in ("_sequence", "_row") if name in all_rows.collect_schema()]
    if order:
        all_rows = all_rows.sort(order, descending=[True, *[False] * (len(order) - 1)], nulls_last=True)
    return {
        "table": asset.name,
        "waiting": waiting,
        "released": with_marks(quarantine.scan()).select(pl.len()).collect().item() - waiting,
        "rules": [
            {"rule": name, "text": texts.get(name, "no rule of the contract any more"), "rows": count} for name, count in held.items()
        ],
        "rows": [_row(asset, row) for row in all_rows.head(rows).collect().iter_rows(named=True)],
    }


def _rules(rows: pl.LazyFrame) -> dict[str, int]:
    broken = rows.select(pl.col(BROKEN).explode().alias("rule")).drop_nulls()
    counts = broken.group_by("rule").len().sort("len", "rule", descending=[True, False]).collect()
    return dict(counts.iter_rows())


def _row(asset: TableDeclaration, row: dict[str, Any]) -> dict[str, Any]:
    columns = columns_of(asset.contract)
    open_to_all = {column.name for column in columns if not column.personal}
    source = {name: value for name, value in (row[SOURCE] or {}).items() if not name.startswith("_")}
    # Which column of the source a personal column is made of is not known: without the same name, none of them is shown.
    hidden = source.keys() - open_to_all if len(open_to_all) < len(columns) else set()
    unparsed = json.loads(row.get(UNPARSED) or "{}")
    found = {
        "rules": row[BROKEN],
        "file": row.get("_file"),
        "row": row.get("_row"),
        "unparsed": _masked(unparsed, unparsed.keys() - open_to_all),
        "source": _masked(source, hidden),
    }
    return found | {name.removeprefix("_"): row[name] for name in RELEASED if row[name] is not None}


def _masked(values: Mapping[str, Any], hidden: Any) -> dict[str, Any]:
    return {name: MASK if name in hidden and value is not None else value for name, value in values.items()}


def replay(replays: Replays, selection: Selection, *, dry_run: bool) -> Replayed:
    """Put rows through the contract again.

    Raises:
        ValueError: It cannot be done; the text says why and what to do.
    """
    try:
        return replays.run(selection, dry_run=dry_run)
    except (ContractBroken, RowsLost) as error:
        raise ValueError(str(error)) from error


def selection_of(where: str | None, sets: tuple[str, ...]) -> Selection:
    """The selection that the options `--where` and `--set COLUMN=EXPRESSION` name.

    Raises:
        ValueError: A `--set` has no `=`, or names a column that another one names.
    """
    changes: dict[str, str] = {}
    for text in sets:
        column, separator, expression = text.partition("=")
        column = column.strip().strip('"')
        if not separator or not column or not expression.strip():
            raise ValueError(
                f"--set {text!r} cannot be understood: write COLUMN=EXPRESSION, as in --set \"Quantity=replace(Quantity, ',', '.')\""
            )
        if column in changes:
            raise ValueError(f"--set names {column!r} twice: write one expression for it")
        changes[column] = expression.strip()
    return Selection(where, changes)


def plain(replayed: Replayed, *, dry_run: bool) -> dict[str, Any]:
    """What a replay did, for programs."""
    account = replayed.account
    return {
        "dry_run": dry_run,
        "replay": replayed.number,
        "selected": replayed.selected,
        "released": replayed.released,
        "rejected": replayed.selected - replayed.released,
        "rejected_by": dict(replayed.rejected),
        "source_gone": replayed.gone,
        "written": account.written if account else None,
        "updated": account.updated if account else None,
        "duplicates": account.duplicates if account else None,
        "finished_before": replayed.finished,
    }


# --- for people


def print_rejected(found: Mapping[str, Any], console: Console) -> None:
    """Rules and rows of a quarantine."""
    released = f", {found['released']:,} were released" if found["released"] else ""
    console.print(f"[bold]{found['table']}[/]: {found['waiting']:,} rows wait in quarantine{released}.")
    if not found["rules"]:
        return
    grid = Grid("rule", right("rows"), "what it demands", box=None)
    for rule in found["rules"]:
        grid.add_row(rule["rule"], f"{rule['rows']:,}", escape(rule["text"]))
    console.print(grid)
    for row in found["rows"]:
        at = f"{row['file']}, row {row['row']}" if row["file"] else "a row without a file"
        mark = f" [green]released {row['released_at']:%Y-%m-%d %H:%M}[/]" if "released_at" in row else ""
        console.print(f"\n[bold]{escape(at)}[/]{mark}: {escape(', '.join(row['rules']))}", soft_wrap=True)
        for name, text in row["unparsed"].items():
            console.print(f"  {escape(name)} could not be read from [red]{escape(_short(text))}[/]", soft_wrap=True)
        source = ", ".join(f"{name}={_short(value)}" for name, value in row["source"].items() if value is not None)
        console.print(f"  [dim]{escape(source) or 'its source row is not there any more'}[/]", soft_wrap=True)
    if found["waiting"]:
        console.print("\nMend the contract, the function or the rows, then [bold]lakehouse quarantine replay[/] " + found["table"])


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def print_replayed(table: str, replayed: Replayed, console: Console, *, dry_run: bool) -> None:
    """What a replay did."""
    if replayed.finished:
        console.print(f"{replayed.finished} replays that had been interrupted were brought to their end first.")
    if not replayed.selected and not replayed.gone:
        console.print(f"No row in the quarantine of {table} is selected: nothing to do.")
        return
    account = replayed.account
    if dry_run:
        console.print(f"{replayed.selected:,} rows selected, {replayed.released:,} would be released (nothing was written).")
    elif account is not None and replayed.number is not None:
        went = f"{account.written:,} written, {account.updated:,} merged into a row of the table, {account.duplicates:,} duplicates"
        console.print(
            f"{replayed.selected:,} rows selected, {replayed.released:,} released into {table} by replay {replayed.number}: {went}."
        )
    else:
        console.print(f"{replayed.selected:,} rows selected, {replayed.released:,} released into {table}.")
    still = replayed.selected - replayed.released
    if still:
        reasons = ", ".join(f"{rule} ({count:,})" for rule, count in replayed.rejected.items())
        console.print(f"{still:,} {'would stay' if dry_run else 'stay'} in quarantine, still rejected by: {escape(reasons)}.")
    if replayed.gone:
        console.print(
            f"{replayed.gone:,} rows are not in the source any more and stay as they are: a later reading of their file replaced them."
        )
    if not dry_run and account is not None and account.written + account.updated:
        console.print("Next: [bold]lakehouse run[/] takes them on into the tables made of this one")

"""What a changed contract breaks, and whom: the stored table, its stored rows, the tables that read it, the contracts that reference it.

Nothing is written. The contract that counted before is the one that the table was last written under; see `contracts.record`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration, Predictions
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline import contracts, layout, quarantine, rule_results
from lakehouse_assets.platform.quality.contract import key_columns, references_of
from lakehouse_assets.platform.quality.counting import broken_counts
from lakehouse_assets.platform.quality.difference import Change, difference
from lakehouse_assets.platform.quality.document import document
from lakehouse_assets.platform.quality.rules import KEY_UNIQUE
from lakehouse_assets.platform.quality.split import misfits
from lakehouse_assets.platform.storage.evolution import schema_changes
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


@dataclass(frozen=True)
class Break:
    """Something that does not go on as before: `whom` it hits, who answers for that, and what to know about it."""

    whom: str
    owner: str
    text: str


@dataclass(frozen=True)
class ContractChanges:
    """A contract compared with the one that its table was last written under.

    Attributes:
        table: The table.
        before: Fingerprint of the contract that counted before; None if none is known.
        after: Fingerprint of the contract now.
        changes: What is different.
        breaks: What that breaks.
        notes: What else to know, as what could not be tried.
    """

    table: str
    before: str | None
    after: str
    changes: tuple[Change, ...]
    breaks: tuple[Break, ...]
    notes: tuple[str, ...]


def contract_changes(asset: TableDeclaration, declared: Iterable[Declaration], lakehouse: Lakehouse) -> ContractChanges:
    """Compare a table's contract with the last one that the table was written under, and find what breaks."""
    before, after = contracts.recorded(asset, lakehouse), document(asset.contract)
    changes = difference(before, after) if before else []
    breaks, notes = [], []
    if not lakehouse.table(asset.name).exists():
        notes.append("The table was not written yet: there is nothing to break.")
    else:
        if before is None:
            notes.append("The contract that the table was written under is not known: only the stored columns are compared.")
        unfit = _stored_table(asset, lakehouse)
        notes += [] if unfit else list(_evolves(asset, lakehouse))
        breaks += [*unfit, *_stored_rows(asset, changes, lakehouse, notes)]
        if changes or unfit:
            breaks += _readers(asset, list(declared), lakehouse, notes)
    return ContractChanges(
        asset.name, before["fingerprint"] if before else None, after["fingerprint"], tuple(changes), tuple(breaks), tuple(notes)
    )


# --- what is stored


def _stored_table(asset: TableDeclaration, lakehouse: Lakehouse) -> list[Break]:
    """How the stored table cannot follow the declaration."""
    needed = layout.needs_full_refresh(asset, lakehouse)
    return [Break("stored table", asset.owner, f"{problem}: `lakehouse run {asset.name} --full-refresh` is needed") for problem in needed]


def _evolves(asset: TableDeclaration, lakehouse: Lakehouse) -> Iterator[str]:
    """What the next run changes in the stored table by itself."""
    changes = schema_changes(lakehouse.table(asset.name).schema(), asset.schema)
    for name, dtype in changes.new.items():
        yield f"The next run adds the column {name} ({dtype}); it is null in the rows that exist."
    for name, dtype in changes.wider.items():
        yield f"The next run widens the column {name} to {dtype}."


def _stored_rows(asset: TableDeclaration, changes: Iterable[Change], lakehouse: Lakehouse, notes: list[str]) -> Iterator[Break]:
    """How many stored rows break the rules that are new or demand more than before."""
    rules = {rule.name: rule for rule in asset.rules}
    asked = {change.subject for change in changes if change.kind in {"rule added", "rule tightened", "rule changed", "level changed"}}
    if any(change.kind == "key changed" for change in changes) and set(asset.identity) == set(key_columns(asset.contract)):
        asked.add(KEY_UNIQUE)
    if not asked:
        return
    rows = lakehouse.table(asset.name).scan()
    for name, count in broken_counts(asset.contract, rows, asked, lambda bound: rule_results.referenced(bound, lakehouse)).items():
        rule = rules.get(name)
        text = f"{count:,} stored rows break {name} ({rule.text if rule else 'the key is unique'})"
        if count and (rule is None or rule.rejects):
            yield Break("stored rows", asset.owner, text)
        elif count:
            notes.append(f"{text}; it only warns.")


# --- who reads it


def _readers(asset: TableDeclaration, declared: list[Declaration], lakehouse: Lakehouse, notes: list[str]) -> Iterator[Break]:
    """The declarations that do not go on with the new columns."""
    schemas = _schemas(declared, lakehouse)
    existing = lakehouse.table(asset.name).schema()
    lineage = {name: dtype for name, dtype in existing.items() if name.startswith("_")}
    new = {**schemas, asset.name: pl.Schema({**asset.schema, **lineage})}
    for reader in declared:
        if isinstance(reader, ModelDeclaration) and asset.name in reader.sources():
            notes.append(f"{reader.name} ({reader.owner}) learns from it; its training was not tried.")
        if not isinstance(reader, TableDeclaration):
            continue
        if asset.name in reader.sources():
            if isinstance(reader, Predictions):
                notes.append(f"{reader.name} ({reader.owner}) scores it; that needs a champion and was not tried.")
            elif problem := _problem(reader, new):
                if _problem(reader, {**schemas, asset.name: existing}):
                    notes.append(f"{reader.name} ({reader.owner}) cannot be tried without rows, with the stored columns either: {problem}")
                else:
                    yield Break(reader.name, reader.owner, problem)
        for column, target in references_of(reader.contract).items():
            if target.table == asset.name and new[asset.name].get(target.column) != reader.schema[column]:
                yield Break(reader.name, reader.owner, f"its column {column} references {target}, which is no column of that type any more")


def _schemas(declared: list[Declaration], lakehouse: Lakehouse) -> dict[str, pl.Schema]:
    """The columns of all tables and quarantines: as they are stored, or as they are declared where one does not exist yet."""
    found = {}
    for asset in declared:
        for name in asset.outputs():
            table = lakehouse.table(name)
            if table.exists():
                found[name] = table.schema()
            else:
                found[name] = asset.schema if name == asset.name else pl.Schema(quarantine.schema_of(asset.schema))
    return found


def _problem(reader: TableDeclaration, schemas: Mapping[str, pl.Schema]) -> str:
    """Why a table's function, or its contract, does not take sources of these columns; empty if they do."""
    try:
        tables = dict(reader.inputs) | {name: dimension.table for name, dimension in reader.dimensions.items()}
        rows = reader(**{name: pl.LazyFrame(schema=schemas[table]) for name, table in tables.items()})
        found = rows.collect_schema()
    except Exception as error:  # noqa: BLE001 whatever the author's function raises is the answer
        return next(iter(str(error).splitlines()), "") or type(error).__name__
    return "; ".join(misfits(reader.contract, found))

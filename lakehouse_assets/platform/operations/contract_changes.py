"""What a changed contract breaks, and whom: the stored table, its stored rows, the tables that read it, the contracts that reference it.

Nothing is written. The contract that counted before is the one that the table was last written under; see `contracts.record`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.declare import Champion, FeedAsset, ModelAsset, Revise, Snapshot, TableAsset
from lakehouse_assets.platform.pipeline import contracts
from lakehouse_assets.platform.quality.contract import ContractBroken, key_columns, references_of
from lakehouse_assets.platform.quality.counting import broken_counts
from lakehouse_assets.platform.quality.difference import Change, difference
from lakehouse_assets.platform.quality.document import document
from lakehouse_assets.platform.quality.rules import KEY_UNIQUE, BoundRule
from lakehouse_assets.platform.quality.split import misfits
from lakehouse_assets.platform.storage.known_at import KNOWN_AT
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.types import TIMESTAMP, stored_schema

Declared = FeedAsset | TableAsset | ModelAsset


@dataclass(frozen=True)
class Break:
    """Something that does not go on as before: `whom` it hits, who answers for that, and what to know about it."""

    whom: str
    owner: str
    text: str


@dataclass(frozen=True)
class ContractChanges:
    """A contract held against the one that its table was last written under.

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


def contract_changes(asset: TableAsset, declared: Iterable[Declared], lakehouse: Lakehouse) -> ContractChanges:
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
        breaks += [*unfit, *_stored_rows(asset, changes, lakehouse, notes)]
        if changes or unfit:
            breaks += _readers(asset, list(declared), lakehouse, notes)
    return ContractChanges(
        asset.name, before["fingerprint"] if before else None, after["fingerprint"], tuple(changes), tuple(breaks), tuple(notes)
    )


# --- what is stored


def _stored_table(asset: TableAsset, lakehouse: Lakehouse) -> list[Break]:
    """How the stored table does not fit the contract."""
    delta = lakehouse.table(asset.name).delta()
    held, wanted = pl.scan_delta(delta).collect_schema(), stored_schema(asset.schema)
    problems = [f"column {name} ({dtype}) is not stored" for name, dtype in wanted.items() if name not in held]
    problems += [f"column {name} is stored and not in the contract" for name in held if name not in wanted and not name.startswith("_")]
    problems += [
        f"column {name} is stored as {held[name]} and not as {dtype}"
        for name, dtype in wanted.items()
        if name in held and held[name] != dtype
    ]
    if (partitions := tuple(delta.metadata().partition_columns)) != asset.partition_by:
        problems.append(
            f"it is partitioned by {', '.join(partitions) or 'nothing'} and not by {', '.join(asset.partition_by) or 'nothing'}"
        )
    return [Break("stored table", asset.owner, f"{problem}: the table has to be made anew") for problem in problems]


def _stored_rows(asset: TableAsset, changes: Iterable[Change], lakehouse: Lakehouse, notes: list[str]) -> Iterator[Break]:
    """How many stored rows break the rules that are new or demand more than before."""
    rules = {rule.name: rule for rule in contracts.rules(asset)}
    asked = {change.subject for change in changes if change.kind in {"rule added", "rule tightened", "rule changed", "level changed"}}
    # The rows of a table of revisions have their key once for each time at which it was known.
    tells_apart = not isinstance(asset.write, Revise) or KNOWN_AT in key_columns(asset.contract)
    if any(change.kind == "key changed" for change in changes) and tells_apart:
        asked.add(KEY_UNIQUE)
    if not asked:
        return
    rows = lakehouse.table(asset.name).scan()
    for name, count in broken_counts(asset.contract, rows, asked, lambda bound: _referenced(bound, lakehouse)).items():
        rule = rules.get(name)
        text = f"{count:,} stored rows break {name} ({rule.text if rule else 'the key is unique'})"
        if count and (rule is None or rule.rejects):
            yield Break("stored rows", asset.owner, text)
        elif count:
            notes.append(f"{text}; it only warns.")


def _referenced(bound: BoundRule, lakehouse: Lakehouse) -> pl.LazyFrame | None:
    if bound.reference is None or not lakehouse.table(bound.reference.table).exists():
        return None
    try:
        values = contracts.reference_values(lakehouse, bound.reference)
    except ContractBroken:  # that the column is not there is said where the other table is compared
        return None
    return values if values.limit(1).collect().height else None


# --- who reads it


def _readers(asset: TableAsset, declared: list[Declared], lakehouse: Lakehouse, notes: list[str]) -> Iterator[Break]:
    """The declarations that do not go on with the new columns."""
    schemas = _schemas(declared, lakehouse)
    held = lakehouse.table(asset.name).schema()
    lineage = {name: dtype for name, dtype in held.items() if name.startswith("_")}
    new = {**schemas, asset.name: pl.Schema({**asset.schema, **lineage})}
    for reader in declared:
        if isinstance(reader, ModelAsset) and reader.features == asset.name:
            notes.append(f"{reader.name} ({reader.owner}) learns from it; its training was not tried.")
        if not isinstance(reader, TableAsset):
            continue
        if asset.name in [read.table for read in reader.reads.values()]:
            if any(isinstance(read, Champion) for read in reader.reads.values()):
                notes.append(f"{reader.name} ({reader.owner}) scores it; that needs a champion and was not tried.")
            elif problem := _problem(reader, new):
                if _problem(reader, {**schemas, asset.name: held}):
                    notes.append(f"{reader.name} ({reader.owner}) cannot be tried without rows, with the stored columns either: {problem}")
                else:
                    yield Break(reader.name, reader.owner, problem)
        for column, target in references_of(reader.contract).items():
            if target.table == asset.name and new[asset.name].get(target.column) != reader.schema[column]:
                yield Break(reader.name, reader.owner, f"its column {column} references {target}, which is no column of that type any more")


def _schemas(declared: list[Declared], lakehouse: Lakehouse) -> dict[str, pl.Schema]:
    """The columns of all tables: as they are stored, or as they are declared where a table does not exist yet."""
    found = {}
    for asset in declared:
        table = lakehouse.table(asset.name)
        if table.exists():
            found[asset.name] = table.schema()
        elif not isinstance(asset, ModelAsset):
            found[asset.name] = asset.feed.schema() if isinstance(asset, FeedAsset) else asset.schema
    return found


def _problem(reader: TableAsset, schemas: Mapping[str, pl.Schema]) -> str:
    """Why a table's function, or its contract, does not take sources of these columns; empty if they do."""
    try:
        rows = reader(**{name: _empty(read, schemas[read.table]) for name, read in reader.reads.items()})
        found = rows.collect_schema()
    except Exception as error:  # noqa: BLE001 whatever the author's function raises is the answer
        return next(iter(str(error).splitlines()), "") or type(error).__name__
    if reader.stamped_at:
        found = pl.Schema({**found, reader.stamped_at: TIMESTAMP})
    return "; ".join(misfits(reader.contract, found))


def _empty(read: Any, schema: pl.Schema) -> pl.LazyFrame:
    rows = pl.LazyFrame(schema=schema)
    return rows.with_columns(pl.lit(0, dtype=pl.Int64).alias(read.version_as)) if isinstance(read, Snapshot) and read.version_as else rows

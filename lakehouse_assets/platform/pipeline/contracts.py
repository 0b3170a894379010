"""Contracts of declared tables at work: rows checked against keys and references, contracts recorded.

What a contract says by itself is in `quality`; which rows a refresh writes is in `refresh`, what a changed contract breaks in
`contract_changes`, and what is watched about a table in `monitoring`.
"""

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.quality.contract import (
    Contract,
    ContractBroken,
    fingerprint,
    key_columns,
    references_of,
    schema_of,
)
from lakehouse_assets.platform.quality.document import document
from lakehouse_assets.platform.quality.rules import Reference
from lakehouse_assets.platform.quality.split import Split, split
from lakehouse_assets.platform.storage import platform_tables, predicates
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.scd2 import IS_CURRENT
from lakehouse_assets.platform.storage.scopes import Scope
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

LOG = platform_tables.CONTRACTS
SCHEMA = pl.Schema(
    {"table": pl.String(), "fingerprint": pl.String(), "contract": pl.String(), "recorded_at": TIMESTAMP, "run_id": pl.String()}
)
DESCRIPTION = "Every contract that a table was ever written under, once."

REBUILD = "lakehouse.rebuild"
"""Marks a commit whose rows had all come before."""

# Watermarks of a quarantine on tables that its rows were checked against, so that a batch that is done again comes to the same verdicts.
_CHECKED_AGAINST = "lakehouse.checked-against:"
# Types whose smallest and largest values stand whole in the statistics of files; moments are cut to milliseconds there, texts may be.
_ORDERED = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Date)


# --- rows against keys and references


def references_now(declaration: TableDeclaration, lakehouse: Lakehouse) -> dict[str, int]:
    """The tables that rows of this one are checked against, with the versions that they have now; those that exist."""
    names = [*declaration.references(), *([declaration.name] if declaration.keeps_key_by_rule else [])]
    tables = {name: lakehouse.table(name) for name in names}
    return {name: table.version() for name, table in tables.items() if table.exists()}


def references_before(declaration: TableDeclaration, quarantine: Table) -> dict[str, int]:
    """The versions that the last rejected rows of a table were checked against."""
    names = [*declaration.references(), declaration.name]
    versions = {name: quarantine.cursor(_CHECKED_AGAINST + name) for name in names}
    return {name: version for name, version in versions.items() if version is not None}


def reference_cursors(references: Mapping[str, int], quarantine: Table) -> tuple[Cursor, ...]:
    """What a commit of rejected rows says about the versions that they were checked against."""
    return tuple(
        Cursor(_CHECKED_AGAINST + name, quarantine.cursor(_CHECKED_AGAINST + name), version) for name, version in references.items()
    )


def judge(
    declaration: TableDeclaration,
    lakehouse: Lakehouse,
    rows: pl.DataFrame,
    references: Mapping[str, int],
    *,
    scope: Scope | None = None,
    limited: bool = True,
) -> Split:
    """Split rows by all that a table demands of them: its contract, its key and the tables that it references.

    Args:
        declaration: The table.
        lakehouse: Where the other tables are.
        rows: What the table's function returned.
        references: The versions to check the rows against, as `references_now` gives them.
        scope: What the rows replace; None: they are added to the table, whose keys count then.
        limited: As in `split`.

    Raises:
        ContractBroken: As `split`.
    """
    contract = declaration.contract
    known = None
    if declaration.keeps_key_by_rule:
        version = references.get(declaration.name) if scope is None else None
        known = _known_keys(contract, lakehouse.table(declaration.name), rows, version)
    values = {name: _values(lakehouse, target, rows, name, references) for name, target in references_of(contract).items()}
    there = {name: series for name, series in values.items() if series is not None}
    return split(contract, rows, declaration.name, known_keys=known, referenced=there, limited=limited)


def reference_values(lakehouse: Lakehouse, target: Reference, version: int | None = None) -> pl.LazyFrame:
    """The column that is referenced, of the current rows where the table has a history.

    Raises:
        ContractBroken: The table has no such column.
    """
    rows = lakehouse.table(target.table).scan(version)
    schema = rows.collect_schema()
    if target.column not in schema:
        raise ContractBroken(f"{target} is referenced, but the table has no such column. Rebuild it, or change the contract.")
    return (rows.filter(pl.col(IS_CURRENT)) if IS_CURRENT in schema else rows).select(target.column)


def _values(lakehouse: Lakehouse, target: Reference, rows: pl.DataFrame, column: str, references: Mapping[str, int]) -> pl.Series | None:
    """Those values of a batch that stand in the referenced column; None if nothing stands there."""
    if target.table not in references or column not in rows.columns:
        return None
    there = reference_values(lakehouse, target, references[target.table])
    dtype = there.collect_schema()[target.column]
    if dtype == rows.schema[column]:
        asked = rows.lazy().select(pl.col(column).alias(target.column)).drop_nulls().unique()
        values = there.join(asked, on=target.column, how="semi").unique().collect(engine="streaming")[target.column]
        if values.len():
            return values
    return pl.Series(dtype=dtype) if there.limit(1).collect().height else None


def _known_keys(contract: type[Contract], table: Table, rows: pl.DataFrame, version: int | None) -> pl.DataFrame:
    """Those keys of a batch that stand in the table; only files that may hold one are read."""
    key = key_columns(contract)
    none = pl.DataFrame(schema={name: schema_of(contract)[name] for name in key})
    if version is None or not rows.height or any(rows.schema.get(name) != dtype for name, dtype in none.schema.items()):
        return none
    delta = table.delta(version)
    existing = pl.scan_delta(delta)
    if partitions := [name for name in delta.metadata().partition_columns if name in key]:
        existing = existing.filter(predicates.expression(predicates.values_of(rows, partitions)))
    for name in key:
        if none.schema[name].base_type() in _ORDERED:
            existing = existing.filter(predicates.in_range(name, rows[name]))
    existing = existing.select(key)
    wanted = rows.lazy().select(key).unique().cast(existing.collect_schema())  # a table may store a key's type as another
    return existing.join(wanted, on=list(key), how="semi").cast(none.schema).collect(engine="streaming")


# --- contracts written down


def info(declaration: TableDeclaration, references: Mapping[str, int]) -> dict[str, str]:
    """What a commit says of the contract that its rows were checked by."""
    recorded = {
        "lakehouse.contract": fingerprint(declaration.contract),
        "lakehouse.rules": json.dumps({rule.name: rule.fingerprint for rule in declaration.rules}, separators=(",", ":")),
    }
    referenced = {name: version for name, version in references.items() if name != declaration.name}
    return recorded | ({"lakehouse.references": json.dumps(referenced)} if referenced else {})


def record(declaration: TableDeclaration, lakehouse: Lakehouse, run_id: str) -> None:
    """Write down the contract that a table is about to be written under, once however often it is written.

    A column that is personal from now on is written down too, though rows are checked as before: it tells what to mask when nothing
    declares the table any more.
    """
    log = lakehouse.table(LOG)
    name = fingerprint(declaration.contract)
    personal = "".join(f"/{column}" for column in sorted(declaration.personal))
    cursor = Cursor(f"{declaration.declared_name}/{name}{personal}", None, 0)
    if log.cursor(cursor.source) is not None:
        return
    log.create(SCHEMA, description=DESCRIPTION)
    row = {
        "table": declaration.declared_name,
        "fingerprint": name,
        "contract": json.dumps(document(declaration.contract)),
        "recorded_at": clock.now(),
        "run_id": run_id,
    }
    log.append(pl.DataFrame([row], schema=SCHEMA), Commit((cursor,)))


def recorded(declaration: TableDeclaration, lakehouse: Lakehouse) -> dict[str, Any] | None:
    """The contract that a table was last written under, as a document; None if it never was."""
    log, table = lakehouse.table(LOG), lakehouse.table(declaration.name)
    if not log.exists() or not table.exists():
        return None
    written = log.scan().filter(pl.col("table") == declaration.name).sort("recorded_at").collect()
    last = next((commit["info"]["contract"] for commit in table.commits() if "contract" in commit["info"]), None)
    found = written.filter(pl.col("fingerprint") == last) if last else written
    return dict(json.loads(found["contract"][-1])) if found.height else None

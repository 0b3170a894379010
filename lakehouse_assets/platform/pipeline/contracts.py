"""Contracts of declared tables at work: rows held against keys and references, contracts written down, tables watched.

What a contract says by itself is in `quality`; which rows a refresh writes is in `refresh`, what a changed contract breaks in
`contract_changes`.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.declare import Append, Changes, FeedAsset, Replace, TableAsset
from lakehouse_assets.platform.pipeline import commit_statistics
from lakehouse_assets.platform.pipeline.dimensions import snapshot_rules
from lakehouse_assets.platform.quality.contract import (
    Contract,
    ContractBroken,
    fingerprint,
    freshness_of,
    key_columns,
    references_of,
    rules_of,
    schema_of,
)
from lakehouse_assets.platform.quality.document import document
from lakehouse_assets.platform.quality.monitors import WEEKS, Arrival, Verdict, freshness, newest_value, volume
from lakehouse_assets.platform.quality.rules import Reference, Rule, key_rule
from lakehouse_assets.platform.quality.split import Split, split
from lakehouse_assets.platform.storage import predicates
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.scd2 import IS_CURRENT
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

LOG = "platform.contracts.log"
SCHEMA = pl.Schema(
    {"table": pl.String(), "fingerprint": pl.String(), "contract": pl.String(), "recorded_at": TIMESTAMP, "run_id": pl.String()}
)
DESCRIPTION = "Every contract that a table was ever written under, once."
FRESHNESS, VOLUME = "freshness", "volume"
MONITORS_OF_A_FEED = {VOLUME: "About as many rows came today as on the same weekdays before. It only warns; no row is touched."}

REBUILD = "lakehouse.rebuild"
"""Marks a commit whose rows had all come before."""

# Cursors of a quarantine on tables that its rows were held against, so that a batch that is done again comes to the same verdicts.
_HELD_AGAINST = "lakehouse.held-against:"
# Types whose smallest and largest values stand whole in the statistics of files; moments are cut to milliseconds there, texts may be.
_ORDERED = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Date)


# --- which rules there are


def keeps_keys_by_rule(asset: TableAsset) -> bool:
    """Whether the key of a table is kept unique by the rule `key_unique`: the other writes see to it themselves."""
    return isinstance(asset.write, Append | Replace) and bool(key_columns(asset.contract))


def rules(asset: TableAsset) -> list[Rule]:
    """The rules that the rows of a table are held against: the contract's, its key's, and that of whole snapshots."""
    unique = key_rule(asset.contract) if keeps_keys_by_rule(asset) else None
    return [*rules_of(asset.contract), *([unique] if unique else []), *snapshot_rules(asset)]


def check_references(declared: Iterable[FeedAsset | TableAsset]) -> None:
    """Refuse references that no row could keep.

    Raises:
        TypeError: A column references its own table, a column that the other table does not have, or one of another type.
    """
    schemas = {asset.name: asset.feed.schema() if isinstance(asset, FeedAsset) else asset.schema for asset in declared}
    for asset in declared:
        if not isinstance(asset, TableAsset):
            continue
        for column, target in references_of(asset.contract).items():
            where = f"{asset.name}: column {column} references {target}"
            if target.table == asset.name:
                raise TypeError(f"{where}, a column of its own table, whose rows are only being written: compare them in the function")
            if target.table not in schemas:
                continue  # nobody here declares it: it may come from elsewhere, and the rule waits for it
            found = schemas[target.table].get(target.column)
            if found != asset.schema[column]:
                what = "which that table does not have" if found is None else f"which is {found} and not {asset.schema[column]}"
                raise TypeError(f"{where}, {what}")


# --- rows against keys and references


def held_against(asset: TableAsset, lakehouse: Lakehouse) -> dict[str, int]:
    """The tables that rows of this one are held against, with the versions at which they stand now; those that exist."""
    names = [target.table for target in references_of(asset.contract).values()]
    if keeps_keys_by_rule(asset) and isinstance(asset.write, Append):
        names.append(asset.name)
    tables = {name: lakehouse.table(name) for name in dict.fromkeys(names)}
    return {name: table.version() for name, table in tables.items() if table.exists()}


def held_before(asset: TableAsset, quarantine: Table) -> dict[str, int]:
    """The versions that the last rejected rows of a table were held against."""
    names = [*(target.table for target in references_of(asset.contract).values()), asset.name]
    found = {name: quarantine.cursor(_HELD_AGAINST + name) for name in dict.fromkeys(names)}
    return {name: version for name, version in found.items() if version is not None}


def held_cursors(held: Mapping[str, int], quarantine: Table) -> tuple[Cursor, ...]:
    """What a commit of rejected rows says about the versions that they were held against."""
    return tuple(Cursor(_HELD_AGAINST + name, quarantine.cursor(_HELD_AGAINST + name), version) for name, version in held.items())


def judge(
    asset: TableAsset, lakehouse: Lakehouse, rows: pl.DataFrame, held: Mapping[str, int], *, anew: bool = False, limited: bool = True
) -> Split:
    """Split rows by all that a table demands of them: its contract, its key and the tables that it references.

    Args:
        asset: The table.
        lakehouse: Where the other tables are.
        rows: What the table's function returned.
        held: The versions to hold the rows against, as `held_against` gives them.
        anew: Whether the rows take the place of all that the table holds.
        limited: As in `split`.

    Raises:
        ContractBroken: As `split`.
    """
    contract = asset.contract
    known = None
    if keeps_keys_by_rule(asset):
        version = None if anew or not isinstance(asset.write, Append) else held.get(asset.name)
        known = _known_keys(contract, lakehouse.table(asset.name), rows, version)
    found = {name: _found(lakehouse, target, rows, name, held) for name, target in references_of(contract).items()}
    there = {name: values for name, values in found.items() if values is not None}
    return split(contract, rows, asset.name, known_keys=known, referenced=there, limited=limited)


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


def _found(lakehouse: Lakehouse, target: Reference, rows: pl.DataFrame, column: str, held: Mapping[str, int]) -> pl.Series | None:
    """Those values of a batch that stand in the referenced column; None if nothing stands there."""
    if target.table not in held or column not in rows.columns:
        return None
    there = reference_values(lakehouse, target, held[target.table])
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
    held = pl.scan_delta(delta)
    if partitions := [name for name in delta.metadata().partition_columns if name in key]:
        held = held.filter(predicates.expression(predicates.values_of(rows, partitions)))
    for name in key:
        low, high = rows[name].min(), rows[name].max()
        if none.schema[name].base_type() in _ORDERED and low is not None:
            held = held.filter(pl.col(name).is_between(low, high))
    return held.select(key).join(rows.lazy().select(key).unique(), on=list(key), how="semi").collect(engine="streaming")


# --- contracts written down


def info(asset: TableAsset, held: Mapping[str, int]) -> dict[str, str]:
    """What a commit says of the contract that its rows were held against."""
    said = {
        "lakehouse.contract": fingerprint(asset.contract),
        "lakehouse.rules": json.dumps({rule.name: rule.fingerprint for rule in rules(asset)}, separators=(",", ":")),
    }
    referenced = {name: version for name, version in held.items() if name != asset.name}
    return said | ({"lakehouse.references": json.dumps(referenced)} if referenced else {})


def record(asset: TableAsset, lakehouse: Lakehouse, run_id: str) -> None:
    """Write down the contract that a table is about to be written under, once however often it is written."""
    log = lakehouse.table(LOG)
    name = fingerprint(asset.contract)
    cursor = Cursor(f"{asset.name}/{name}", None, 0)
    if log.cursor(cursor.source) is not None:
        return
    log.create(SCHEMA, description=DESCRIPTION)
    row = {
        "table": asset.name,
        "fingerprint": name,
        "contract": json.dumps(document(asset.contract)),
        "recorded_at": datetime.now(UTC),
        "run_id": run_id,
    }
    log.append(pl.DataFrame([row], schema=SCHEMA), Commit((cursor,)))


def recorded(asset: TableAsset, lakehouse: Lakehouse) -> dict[str, Any] | None:
    """The contract that a table was last written under, as a document; None if it never was."""
    log, table = lakehouse.table(LOG), lakehouse.table(asset.name)
    if not log.exists() or not table.exists():
        return None
    written = log.scan().filter(pl.col("table") == asset.name).sort("recorded_at").collect()
    last = next((commit["info"]["contract"] for commit in table.commits() if "contract" in commit["info"]), None)
    found = written.filter(pl.col("fingerprint") == last) if last else written
    return dict(json.loads(found["contract"][-1])) if found.height else None


# --- tables watched


def monitored(asset: TableAsset) -> dict[str, str]:
    """The monitors of a table, with what each says to people."""
    found = {}
    if fresh := freshness_of(asset.contract):
        found[FRESHNESS] = f"The newest {fresh.column} is at most {fresh.within} old. It only warns; no row is touched."
    if sum(isinstance(read, Changes) for read in asset.reads.values()) == 1 and asset.row_for_row:
        found |= MONITORS_OF_A_FEED
    return found


def watch(asset: TableAsset, lakehouse: Lakehouse, now: datetime) -> dict[str, Verdict]:
    """What the monitors of a table say at a moment (UTC)."""
    table, wanted = lakehouse.table(asset.name), monitored(asset)
    found = {}
    if FRESHNESS in wanted and (fresh := freshness_of(asset.contract)):
        found[FRESHNESS] = freshness(fresh, newest_value(table, fresh.column), now)
    if VOLUME in wanted:
        found[VOLUME] = usual_volume(table, lakehouse, now)
    return found


def usual_volume(table: Table, lakehouse: Lakehouse, now: datetime) -> Verdict:
    """Whether as many rows came to a table today as on the same weekdays before, from the row accounts of its commits.

    Args:
        table: The table.
        lakehouse: Has the statistics of its commits.
        now: The moment to judge at (UTC).
    """
    begin = now - timedelta(weeks=WEEKS + 1)
    if not table.exists():
        return volume([], now, now)
    commits = commit_statistics.commits_since(lakehouse, table, begin)
    came = commits.rows.filter(pl.col("rows_in").is_not_null() & ~pl.col("repeated"))
    arrivals = [Arrival(at, rows) for at, rows in came.select("at", "rows_in").iter_rows()]
    since = min(commits.rows["at"], default=now)
    why = (
        ""
        if commits.missing is None
        else f"the commits of {table.name} up to version {commits.missing} are in neither its log nor the statistics"
    )
    return volume(arrivals, since, now, why)

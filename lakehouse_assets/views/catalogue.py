"""The page of the catalogue: every table with its columns, what they mean, which are personal, who answers, and the feature sets."""

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from lakehouse_assets.client import Client
from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX, Declaration
from lakehouse_assets.platform.quality.contract import ColumnInfo, columns_of
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.wording import counted
from lakehouse_assets.views.blocks import Block, Figure, Figures, Note, Page, Rows, Text, number, short
from lakehouse_assets.views.declared_models import has_rows
from lakehouse_assets.views.listed import PAGES

NAME: Final = "catalogue"
_PLATFORM: Final = "platform."
_LONGEST_TYPE: Final = 24
SENTENCE: Final = "What tables and columns there are, what they mean, which hold personal data, and who answers for them."


def page(lake: Client) -> Page:
    """All tables, columns and feature sets."""
    return Page(NAME, PAGES[NAME], SENTENCE, search(lake, ""))


def names(lake: Client) -> list[str]:
    """The declared tables, and those that exist besides, without quarantines."""
    declared = [one.name for one in lake.context.declarations if len(one.schema)]
    others = [name for name in lake.tables() if not name.endswith(QUARANTINE_SUFFIX) and name not in declared]
    return sorted(declared) + sorted(others)


def search(lake: Client, words: str) -> list[Block]:
    """The tables and columns that have all of these words in their name, description or owner; without words, all."""
    declared = [one for one in lake.context.declarations if len(one.schema)]
    if not declared:
        return [Note("No product declares a table yet. `lakehouse new` writes a product from sample files.", "warn")]
    wanted = words.lower().split()
    told = {one.name: _columns(lake, one) for one in declared}
    tables, columns = [], []
    for one in declared:
        about = f"{one.name} {one.description} {one.owner}"
        if _has(about, wanted):
            tables.append(_summary(one, told[one.name]))
        columns += [
            {"table": one.name, **row}
            for row in told[one.name]
            if _has(f"{one.name} {row['column']} {row['meaning']} {row['personal']}", wanted)
        ]
    sets = [
        {
            "feature set": one.name,
            "of each": ", ".join(one.entity),
            "time": one.event_time,
            "columns": len(one.schema),
            "meaning": one.description,
            "owner": one.owner,
        }
        for one in lake.context.loaded.catalog.feature_sets
        if _has(f"{one.name} {one.description} {one.owner} {' '.join(one.schema)}", wanted)
    ]
    personal = sum(1 for row in columns if row["personal"])
    none = f"Nothing has {' and '.join(map(repr, wanted))} in it." if wanted else "There is none."
    return [
        Figures(
            (
                Figure("Tables", number(len(tables)), "found" if wanted else "declared by products"),
                Figure("Columns", number(len(columns)), f"{counted(personal, 'column')} with personal data, which is masked"),
                Figure("Feature sets", number(len(sets)), "inputs of models"),
            )
        ),
        Rows("Tables", _frame(tables), none),
        Rows("Columns", _frame(columns), none),
        Rows("Feature sets", _frame(sets), none),
        *_of_the_platform(lake, wanted),
    ]


def _of_the_platform(lake: Client, wanted: list[str]) -> list[Block]:
    """The tables that the platform writes for itself."""
    lakehouse = lake.context.root.lakehouse
    rows = [
        {"table": name, "meaning": _stored_meaning(lakehouse.table(name))} for name in sorted(lake.tables()) if name.startswith(_PLATFORM)
    ]
    found = [row for row in rows if _has(f"{row['table']} {row['meaning']}", wanted)]
    return [Rows("The platform's own tables", _frame(found))] if found else []


def _stored_meaning(table: Table) -> str:
    """What is stored with a table; of a view, which is worked out when it is read, nothing is."""
    return (table.now().metadata().description or "") if table.exists() else "worked out when it is read"


def one_table(lake: Client, name: str) -> list[Block]:
    """What there is to know of one table."""
    one = lake.context.loaded.catalog.get(name)
    if one is None:
        schema = lake.table(name).schema
        rows = [{"column": column, "type": _type(kind)} for column, kind in schema.items()]
        return [Text(f"## {name}\n\nNo product declares it: the platform or a program writes it."), Rows("Columns", _frame(rows))]
    read_by = [reader.name for reader in lake.context.loaded.catalog.readers(name)]
    rows_now = number(lake.table(name).count()) if has_rows(lake, name) else "none yet"
    lineage = f"Made of: {', '.join(one.sources()) or 'landed files'}.\n\nRead by: {', '.join(read_by) or 'no other table'}."
    return [
        Text(f"## {name}\n\n{one.description}"),
        Figures((Figure("Rows", rows_now), Figure("Owner", one.owner), Figure("Columns", number(len(one.schema))))),
        Rows("Columns", _frame(_columns(lake, one))),
        Text(lineage),
    ]


def _summary(one: Declaration, columns: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "table": one.name,
        "meaning": one.description,
        "columns": len(columns),
        "personal": sum(1 for row in columns if row["personal"]),
        "owner": one.owner,
    }


def _columns(lake: Client, one: Declaration) -> list[dict[str, Any]]:
    contract = next((table.contract for table in lake.context.tables if table.name == one.name), None)
    said: Mapping[str, ColumnInfo] = {} if contract is None else {column.name: column for column in columns_of(contract)}
    return [
        {
            "column": name,
            "meaning": said[name].description if name in said else "",
            "type": _type(kind),
            "key": "key" if name in said and said[name].key else "",
            "personal": "personal" if name in one.personal else "",
        }
        for name, kind in one.schema.items()
    ]


def _type(kind: pl.DataType) -> str:
    return {
        "String": "text",
        "Int64": "whole number",
        "Float64": "number",
        "Boolean": "yes or no",
        "Date": "date",
        "Datetime": "moment",
        "List": "list",
        "Struct": "record",
    }.get(str(kind).split("(")[0], short(str(kind), most=_LONGEST_TYPE))


def _has(text: str, wanted: list[str]) -> bool:
    return all(word in text.lower() for word in wanted)


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None)

"""The test of a new product: a few invented rows of each feed through its functions. No value of a file is in it."""

import ast
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from lakehouse_assets.scaffold.dates import as_texts
from lakehouse_assets.scaffold.names import plain
from lakehouse_assets.scaffold.render import Product
from lakehouse_assets.scaffold.source import TAB, literal, module
from lakehouse_assets.scaffold.tables import Column, Gold, Table

_FROM_FILES = '''def from_files(rows: list[dict[str, str]]) -> pl.LazyFrame:
    """Invented rows as bronze has them: texts, and where they came from."""
    return pl.LazyFrame(rows).with_columns(_file=pl.lit("invented.csv"), _row=pl.int_range(1, pl.len() + 1), _sequence=pl.lit(1, pl.Int64))
'''
# Two rows of one day and group, and one of the next.
_DAYS = (15, 15, 16)
_GROUPS = (1, 1, 2)


def test_module(product: Product) -> str:
    """The module `test_PRODUCT`."""
    golds = [(table, table.gold) for table in product.tables if table.gold]
    own = {"silver": [table.name for table in product.tables], "gold": [gold.name for _, gold in golds]}
    bodies = [_lists(product), _FROM_FILES, *(_silver_test(table) for table in product.tables)]
    bodies += [_gold_test(table, gold) for table, gold in golds]
    used = "\n".join(bodies)
    named = {node.id for node in ast.walk(ast.parse(used)) if isinstance(node, ast.Name)}
    dates = [name for name in ("UTC", "date", "datetime") if name in named]
    standard = [f"from datetime import {', '.join(dates)}"] if dates else []
    said = f"Invented rows of {product.name}: what the tables make of what the files say. Add the cases that matter to you."
    return module(said, product.imports(standard, ["import polars as pl"], [], own), bodies)


def _lists(product: Product) -> str:
    return "\n".join(
        f"{table.name.upper()} = {literal([_texts(table, row) for row in range(len(_DAYS))], 0, 999)}" for table in product.tables
    )


def _texts(table: Table, row: int) -> dict[str, str]:
    return {column.source: _text(column, _value(table, column, row)) for column in table.columns.values()}


def _value(table: Table, column: Column, row: int) -> Any:
    """What silver makes of an invented text."""
    number = _GROUPS[row] if table.gold and column is table.gold.by else row + 1
    texts = f"person{number}@example.org" if "mail" in column.name else f"{plain(column.name).replace('_', ' ')} {number}"
    values = {
        "whole_number": 10 * number,
        "number": 10 * number + 0.5,
        "day": date(2024, 1, _DAYS[row]),
        "timestamp": datetime(2024, 1, _DAYS[row], 8 + number, 30, tzinfo=UTC),
        "choice": number % 2 == 1,
        "code": f"{number:03d}",
        "text": texts,
    }
    return values[column.reading.reader]


def _text(column: Column, value: Any) -> str:
    options = column.reading.options
    match column.reading.reader:
        case "day" | "timestamp":
            return str(as_texts(pl.Series([value]), options["formats"][0])[0])
        case "whole_number" | "number":
            sign = options.get("currency", "")
            per_cent = "%" if options.get("percent") else ""
            return f"{sign}{str(value * 100 if per_cent else value).replace('.', options.get('decimal', '.'))}{per_cent}"
        case "choice":
            return str(next(word for word, meant in options["options"].items() if meant == value))
        case _:
            return str(value)


def _silver_test(table: Table) -> str:
    expected = {column.name: _value(table, column, 0) for column in table.columns.values()}
    lines = [
        f"def test_{table.name}_have_their_values() -> None:",
        f"{TAB}rows = {table.name}(from_files({table.name.upper()})).collect()",
        f'{TAB}assert rows["_unparsed"].null_count() == len({table.name.upper()})',
        f"{TAB}expected = {literal(expected, 1, len('expected = '))}",
        f"{TAB}assert rows.select(list(expected)).row(0, named=True) == expected",
    ]
    return "\n".join(lines)


def _gold_test(table: Table, gold: Gold) -> str:
    groups = [*(["day"] if table.time else []), *([gold.by.name] if gold.by else [])]
    names = [*groups, gold.count, *(name for name, *_ in gold.measures)]
    rows = [_gold_row(table, gold, members) for members in ((0, 1), (2,))]
    lines = [
        f"def test_{gold.name}_add_up() -> None:",
        f"{TAB}rows = {gold.name}({table.name}(from_files({table.name.upper()}))).collect()",
        f"{TAB}expected = {literal(rows, 1, len('expected = '))}",
        f"{TAB}columns = {literal(names, 1, len('columns = '))}",
        f"{TAB}assert rows.select(columns).sort(columns).rows() == expected",
    ]
    return "\n".join(lines)


def _gold_row(table: Table, gold: Gold, members: Sequence[int]) -> tuple[Any, ...]:
    first = members[0]
    groups = [*([date(2024, 1, _DAYS[first])] if table.time else []), *([_value(table, gold.by, first)] if gold.by else [])]
    sums = [sum(_value(table, column, row) for row in members) / (len(members) if how == "mean" else 1) for _, column, how in gold.measures]
    whole = [how == "sum" and column.reading.annotation == "int" for _, column, how in gold.measures]
    return (*groups, len(members), *(int(value) if is_whole else float(value) for value, is_whole in zip(sums, whole, strict=True)))

"""What a person wants to have forecast, found among the daily sums of gold. How it is written down is in `render`."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from lakehouse_assets.scaffold.tables import Column, Forecast, Gold, Table, named, unknown


def with_forecast(tables: Sequence[Table], wanted: str, gold_by: Callable[[Table, Column | None, str], Gold | None]) -> list[Table]:
    """The tables, one of them with a forecast.

    A count of rows is not forecast where each day, or each day of a group, has one row: then it is the only number that is added up.

    Args:
        tables: With their gold.
        wanted: `VALUE` or `VALUE,BY`: a sum or the count of a daily table of gold, or the column that is added up, and the column of
            groups.
        gold_by: Gives the gold of a table by another group, with the evidence for it.

    Raises:
        ValueError: No table of gold has it by day, or not as a sum, or it is a count that is always one.
    """
    value, _, group = (word.strip() for word in wanted.partition(","))
    said = f"--forecast {wanted}"
    table = next((table for table in tables if table.gold and _sums(table.gold, value)), None)
    if table is None or table.gold is None:
        raise ValueError(f"{said}: {_why_not(tables, value)}")
    if table.time is None:
        raise ValueError(f"{said}: the rows of {table.name} have no time: name the column that says when, as in --time COLUMN")
    gold: Gold | None = table.gold
    if group:
        by = table.columns.get(named(table, group) or "")
        if by is None:
            raise ValueError(f"{said}: {unknown([table], [group])}")
        if by.personal or by.reading.is_time or by.name == value:
            raise ValueError(
                f"{said}: {by.name} is no column of groups: it holds {'personal data' if by.personal else 'times or the value'}"
            )
        gold = gold if by == table.gold.by else gold_by(table, by, "declared")
    if gold is None or not (sums := _sums(gold, value)):
        raise ValueError(f"{said}: {value} is not added up in gold by {group}")
    groups = (gold.by.name,) if group and gold.by else ()
    chosen, why = sums[0], ""
    if chosen == gold.count and _is_one_a_day(table, groups):
        each = f"one row a day{' of each ' + groups[0] if groups else ''}"
        others = [name for name, _, how in gold.measures if how == "sum"]
        if len(others) != 1:
            choices = f"name a sum: {', '.join(others)}" if others else "and no number is added up"
            raise ValueError(f"{said}: {chosen} is the count of rows, and {table.name} has {each}: {choices}")
        chosen, why = others[0], f"Not {gold.count}, the count of rows: {table.name} has {each}"
    found = replace(table, gold=gold, forecast=Forecast(chosen, groups, why))
    if why:
        found = found.doubting(f"{chosen} is forecast. {why}")
    return [found if one is table else one for one in tables]


def _is_one_a_day(table: Table, by: Sequence[str]) -> bool:
    """Whether no day, or no day of a group, has two rows, so that their count says nothing."""
    # A row with a number of its own is one of many, even if few came as yet.
    if table.time is None or table.time.reading.reader != "day" or (table.key and table.time.name not in table.key):
        return False
    days = table.sample.rows.select(table.time.source, *(table.columns[name].source for name in by)).drop_nulls()
    return days.height > 1 and days.n_unique() == days.height


def _sums(gold: Gold, word: str) -> list[str]:
    """The column of gold that a person calls by its own name or by that of what is added up."""
    sums = {name: {name, column.name, column.source} for name, column, how in gold.measures if how == "sum"}
    return [name for name, words in ({gold.count: {gold.count}} | sums).items() if word in words]


def _why_not(tables: Sequence[Table], value: str) -> str:
    golds = [table.gold for table in tables if table.gold and table.time]
    if any(value in {name, column.name, column.source} for gold in golds for name, column, how in gold.measures if how == "mean"):
        return f"{value} is averaged in gold, and a forecast adds up the values of a day: forecast a sum or a count"
    known = [name for gold in golds for name in (gold.count, *(name for name, _, how in gold.measures if how == "sum"))]
    return f"gold does not add it up by day. There are: {', '.join(known)}" if known else "no file has a column that says when: see --time"

"""SQL over all tables of a root, by Polars. Names with dots need no quotes here."""

import re

import polars as pl

from lakehouse_assets.platform.storage.lakehouse import Lakehouse

# Strings and quoted names first, so that a table's name inside of them is left alone.
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*""")


def run_sql(lakehouse: Lakehouse, query: str) -> pl.DataFrame:
    """The rows of a query over tables by their names, as in `select * from sales.gold.daily_revenue limit 5`.

    Raises:
        ValueError: The query is wrong, or names a table that does not exist.
    """
    tables = {table.name: table for table in lakehouse.tables()}
    used: set[str] = set()

    def quoted(token: re.Match[str]) -> str:
        name = token[0]
        table = ".".join(name.split(".")[:3])
        if table not in tables:
            return name
        used.add(table)
        return f'"{table}"{name.removeprefix(table)}'

    prepared = _TOKEN.sub(quoted, query)
    try:
        return pl.SQLContext({name: tables[name].scan() for name in used}).execute(prepared).collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{error}. Tables: {', '.join(tables) or 'none yet'}") from error

"""`lakehouse show`, `export`, `history` and `sql`: the rows of tables, and what became of them."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from lakehouse_assets.cli.complete import TABLES
from lakehouse_assets.cli.shared import JSON, client, command, is_quiet
from lakehouse_assets.cli.terminal import (
    add_row,
    folds,
    grid,
    line,
    optional,
    print_json,
    print_markdown,
    print_paged,
    print_rows,
    right,
    say,
)
from lakehouse_assets.platform.wording import counted

MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])
_ROWS, _COMMITS = 20, 20
_FORMATS = ("table", "csv", "json", "markdown")


class _Names(click.ParamType[tuple[str, ...]]):
    """Names, parted by commas."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:  # noqa: ARG002
        """The names of `a,b`."""
        return value if isinstance(value, tuple) else tuple(name.strip() for name in value.split(",") if name.strip())


_COLUMNS = click.option("--columns", type=_Names(), metavar="A,B", help="Only these columns.")
_WHERE = click.option("--where", help="Which rows: a condition in SQL. It sees personal data masked.")
_VERSION = click.option("--version", type=click.IntRange(0), help="At this version.")
_AT = click.option("--at", type=MOMENT, help="At this moment, in UTC.")


def _moment(version: int | None, at: datetime | None) -> datetime | None:
    if version is not None and at is not None:
        raise click.UsageError("give --version or --at, not both")
    return at.replace(tzinfo=UTC) if at else None


@command()
@click.argument("table", shell_complete=TABLES)
@_COLUMNS
@_WHERE
@click.option("--limit", type=click.IntRange(1), default=_ROWS, show_default=True, help="How many rows.")
@_VERSION
@_AT
@JSON
def show(
    table: str, columns: tuple[str, ...] | None, *, where: str | None, limit: int, version: int | None, at: datetime | None, as_json: bool
) -> None:
    """Rows of TABLE, now or at a version or a moment. Personal data is masked; see LAKEHOUSE_SHOW_PERSONAL.

    Rows that are wider than the terminal are printed down the page, one column a line.

    \b
    Examples:
      lakehouse show sales.gold.daily_revenue
      lakehouse show customer_360 --columns customer,country,net --where "net > 1000"
      lakehouse show sales.gold.daily_revenue --version 3
    """
    moment = _moment(version, at)
    handle = client().table(table)
    rows = handle.select(columns or (), where, version=version, at=moment).head(limit + 1).collect(engine="streaming")
    if as_json or rows.height <= limit:
        print_rows(rows.head(limit), as_json=as_json)
        return
    of = f" of {handle.count(version):,}" if where is None and moment is None else ""
    print_rows(rows.head(limit), as_json=False, total=f"{limit:,}{of} rows; --limit shows more")


@command()
@click.argument("table", shell_complete=TABLES)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_COLUMNS
@_WHERE
@_VERSION
@_AT
def export(table: str, file: Path, columns: tuple[str, ...] | None, *, where: str | None, version: int | None, at: datetime | None) -> None:
    """Write rows of TABLE to FILE, which may exist: .csv, .parquet or .xlsx. Personal data is masked; see LAKEHOUSE_SHOW_PERSONAL.

    \b
    Examples:
      lakehouse export sales.gold.daily_revenue revenue.xlsx
      lakehouse export sales.silver.invoice_lines lines.csv --columns invoice,amount --where "amount < 0"
    """
    moment, before = _moment(version, at), file.exists()
    client().table(table).export(file, columns or (), where, version=version, at=moment)
    _say_written(file, before=before)


def _say_written(file: Path, *, before: bool) -> None:
    """Say that a file is there, and whether it took the place of another."""
    if not is_quiet():
        say(f"{file} is written" + (", in the place of the file that was there." if before else "."))


@command()
@click.argument("table", shell_complete=TABLES)
@click.option("--limit", type=click.IntRange(1), default=_COMMITS, show_default=True, help="How many commits, the newest first.")
@JSON
def history(table: str, limit: int, as_json: bool) -> None:
    """The commits of TABLE: when, by which run, and what became of the rows."""
    commits = client().table(table).history(limit)
    if as_json:
        print_json(commits)
        return
    shown = grid(right("version"), "at (UTC)", "operation", optional("run"), folds("rows"))
    for commit in commits:
        account = commit["info"].get("account", {})
        rows = ", ".join(
            f"{counted(count, 'row')} {name.removeprefix('rows_').replace('_', ' ')}" for name, count in account.items() if count
        )
        run = commit["info"].get("run_id", "")[:8]
        add_row(shown, commit["version"], f"{commit['at']:%Y-%m-%d %H:%M:%S}", commit["operation"].lower(), run, rows)
    older = "--limit shows more" if len(commits) == limit else "maintenance has removed older ones from the log"
    more = f"; {older}" if commits[-1]["version"] > 0 else ""
    print_paged(shown, line((f"{counted(len(commits), 'commit')}{more}", "dim")))


@command()
@click.argument("query", required=False)
@click.option("--file", "source", type=click.File(encoding="utf-8"), help="Read the queries from this file; - is the standard input.")
@click.option("--format", "form", type=click.Choice(_FORMATS), default="table", show_default=True, help="How rows are printed.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the rows to this .csv, .parquet or .xlsx.")
@JSON
def sql(query: str | None, source: Any, form: str, output: Path | None, as_json: bool) -> None:
    """Run QUERY over tables by their names. It only reads; personal data is masked before the query sees it.

    A query is one SELECT; several, parted by semicolons, are run one after the other. Without QUERY they are read from the standard input.

    \b
    Examples:
      lakehouse sql 'select product_group, sum(net) as net from sales.gold.daily_revenue group by product_group'
      lakehouse sql --file queries.sql --format markdown
      lakehouse sql 'select * from sales.gold.daily_revenue' -o revenue.xlsx
    """
    opened = client()
    queries = opened.statements(_text(query, source))
    if output is None:
        _print_answers([opened.sql(one) for one in queries], "json" if as_json else form, opened.as_csv)
        return
    if len(queries) > 1:
        raise click.UsageError(f"-o takes the rows of one query, and these are {len(queries)}")
    before = output.exists()
    opened.export_sql(queries[0], output)
    _say_written(output, before=before)


def _text(query: str | None, source: Any) -> str:
    if query is not None and source is not None:
        raise click.UsageError("give a query or --file, not both")
    if query is None and source is None and sys.stdin.isatty():
        raise click.UsageError("give a query, or --file")
    return str(query if query is not None else (source or sys.stdin).read())


def _print_answers(answers: list[Any], form: str, as_csv: Callable[[Any], str]) -> None:
    """The rows of each query; as JSON one array, or one of arrays where there are several queries."""
    if form == "json":
        from lakehouse_assets.platform.far_times import as_python_holds

        values = [as_python_holds(answer).to_dicts() for answer in answers]
        print_json(values[0] if len(values) == 1 else values)
        return
    for number, answer in enumerate(answers):
        if number:
            click.echo()
        if form == "table":
            print_rows(answer, as_json=False)
        elif form == "markdown":
            print_markdown(answer)
        else:
            click.echo(as_csv(answer), nl=False)

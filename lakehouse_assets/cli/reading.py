"""`lakehouse status`, `show`, `history` and `sql`: what there is, printed."""

from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from lakehouse_assets.cli.shared import CONSOLE, JSON, add_row, ago, client, grid, plural, print_json, print_rows, right


@click.command()
@JSON
def status(as_json: bool) -> None:
    """Tables, freshness, failed checks, quarantine, waiting files, champions."""
    values = client().status()
    if as_json:
        print_json(values)
        return
    shown = grid("table", right("rows"), right("version"), "changed", right("quarantined"), "failed checks")
    for row in values["tables"]:
        quarantined = "" if row["quarantined"] is None else f"{row['quarantined']:,}"
        add_row(
            shown, row["table"], f"{row['rows']:,}", row["version"], ago(row["changed_at"]), quarantined, ", ".join(row["failed_checks"])
        )
    CONSOLE.print(shown if values["tables"] else "There are no tables yet: `lakehouse land FEED FILE`, then `lakehouse run`.")
    for feed, count in values["waiting_files"].items():
        CONSOLE.print(
            f"\n{plural(count, 'file')} of [bold]{escape(feed)}[/] {'waits' if count == 1 else 'wait'}: `lakehouse run` reads them."
        )
    for file in values["refused_files"]:
        CONSOLE.print(f"\n[red]{file['event']}[/] {escape(file['feed'] + '/' + file['path'])}: {escape(file['reason'] or '')}")
    for champion in values["champions"]:
        print_champion(champion)
    if values["pending"] and values["tables"] and not values["waiting_files"]:
        CONSOLE.print(f"\n`lakehouse run` would bring up to date: {', '.join(values['pending'])}.")


def print_champion(champion: dict[str, Any], console: Console = CONSOLE) -> None:
    """Who is champion of a model, and why."""
    if champion["last_decision"] is None:
        console.print(
            f"\nModel [bold]{champion['model']}[/]: not trained yet. [bold]lakehouse train[/] trains it once there is enough history."
        )
        return
    last = champion["last_decision"]
    who = f"version {champion['champion']} is champion" if champion["champion"] else "there is no champion, so nothing is scored"
    console.print(f"\nModel [bold]{champion['model']}[/]: {who}. Last decision: version {last['version']} {last['decision']}.")
    for reason in champion["last_decision"]["reasons"]:
        console.print(f"  {escape(reason)}")


@click.command()
@click.argument("table")
@click.option("--version", type=click.IntRange(0), help="At this version.")
@click.option("--at", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="At this moment, in UTC.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many rows.")
@JSON
def show(table: str, version: int | None, at: datetime | None, limit: int, as_json: bool) -> None:
    """Rows of TABLE, now or at a version or a moment. Personal data is masked; see LAKEHOUSE_SHOW_PERSONAL.

    \b
    Examples:
      lakehouse show sales.gold.daily_revenue
      lakehouse show sales.gold.daily_revenue --version 3
    """
    if version is not None and at is not None:
        raise click.UsageError("give --version or --at, not both")
    moment = at.replace(tzinfo=UTC) if at else None
    print_rows(client().table(table).scan(version=version, at=moment).head(limit).collect(), as_json=as_json)


@click.command()
@click.argument("table")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="How many commits, the newest first.")
@JSON
def history(table: str, limit: int, as_json: bool) -> None:
    """The commits of TABLE: when, by which run, and what became of the rows."""
    commits = client().table(table).history(limit)
    if as_json:
        print_json(commits)
        return
    shown = grid(right("version"), "at (UTC)", "operation", "run", "rows")
    for commit in commits:
        account = commit["info"].get("account", {})
        rows = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in account.items() if count)
        run = commit["info"].get("run_id", "")[:8]
        add_row(shown, commit["version"], f"{commit['at']:%Y-%m-%d %H:%M:%S}", commit["operation"].lower(), run, rows)
    CONSOLE.print(shown)
    if commits[-1]["version"] > 0:
        older = "--limit shows more" if len(commits) == limit else "maintenance has removed older ones from the log"
        CONSOLE.print(f"{len(commits)} commits are shown: {older}.")


@click.command()
@click.argument("query")
@JSON
def sql(query: str, as_json: bool) -> None:
    """Run QUERY, one SELECT, over tables by their names. It only reads; personal data is masked before the query sees it.

    \b
    Example:
      lakehouse sql 'select product_group, sum(net) as net from sales.gold.daily_revenue group by product_group'
    """
    print_rows(client().sql(query), as_json=as_json)

"""The `lakehouse` command: what can be asked for, and how it is said. What is done is in `commands` and below.

Exit codes: 0 all went well, 1 something failed and was said, 2 the command was not understood.
"""

import sys
from datetime import UTC, datetime

import click
from rich.console import Console

from lakehouse_assets.cli.contract import contract
from lakehouse_assets.cli.files import files, land
from lakehouse_assets.cli.quarantine import quarantine
from lakehouse_assets.cli.shared import CONSOLE, JSON, Commands, print_json, print_rows, workspace
from lakehouse_assets.cli.upkeep import doctor, maintenance, restore
from lakehouse_assets.platform.compute.memory import limit_memory
from lakehouse_assets.settings import Settings, variable


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="lakehouse-assets")
def main() -> None:
    """An open lakehouse ML platform: files land and become tables, features, models and predictions.

    \b
    First steps:
      lakehouse demo                        simulate a shop and run everything
      lakehouse land invoices my.csv        put a file of your own into the landing zone
      lakehouse run                         bring everything up to date
      lakehouse status                      see what there is
      lakehouse dev                         open the web UI

    Everything is kept under one folder, `data` by default: LAKEHOUSE_ROOT names another one or a bucket, as s3://bucket/prefix.
    """
    settings = Settings.load()
    limit_memory(settings.memory_megabytes, settings.processes_at_once)


@main.command()
@click.option("--days", type=click.IntRange(1), required=True, help="How many days.")
@click.option(
    "--orders-per-day", type=click.FloatRange(1, 10_000), default=10, show_default=True, help="Mean number of orders on an open day."
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Which shop: the same seed writes the same bytes.")
@click.option("--start", type=click.DateTime(["%Y-%m-%d"]), required=True, help="The first day.")
@JSON
def simulate(days: int, orders_per_day: float, seed: int, start: datetime, as_json: bool) -> None:
    """Write the feeds of a simulated shop into the landing zone.

    What really happened in the shop is written to simulator/ beside the landing zone (for a bucket, in LAKEHOUSE_HOME), so that tables
    can be held against it.

    \b
    Example: one more month of the shop of `lakehouse demo`
      lakehouse simulate --days 31 --start 2026-02-01
    """
    from lakehouse_assets.commands.demo import simulate_shop

    truth = simulate_shop(workspace(), CONSOLE, days=days, orders_per_day=orders_per_day, seed=seed, start=start.date())
    if as_json:
        print_json(truth)
    else:
        rows = truth["invoices"]["rows"]
        CONSOLE.print(f"{rows:,} invoice lines have landed. Next: [bold]lakehouse run[/]")


@main.command()
@click.argument("selection", nargs=-1)
@click.option("--rebuild", is_flag=True, help="Work the selected tables out anew from all that their sources hold.")
@JSON
def run(selection: tuple[str, ...], rebuild: bool, as_json: bool) -> None:
    """Bring everything, or a SELECTION, up to date.

    What is up to date is left alone. A run that failed or was killed is taken up by the next one, nothing is done twice.

    \b
    Examples:
      lakehouse run
      lakehouse run sales.silver.invoice_lines       one table
      lakehouse run 'sales.silver.invoice_lines+'    and what is made of it directly
      lakehouse run '+sales.gold.daily_revenue'      and what it is made of directly
      lakehouse run group:sales                      a product
    """
    from lakehouse_assets.commands.run import run_and_report

    sys.exit(
        run_and_report(
            workspace(),
            selection,
            Console(stderr=True, highlight=False) if as_json else CONSOLE,
            print_json if as_json else None,
            rebuild=rebuild,
        )
    )


@main.command()
@JSON
def status(as_json: bool) -> None:
    """Tables, freshness, failed checks, quarantine, waiting files, champions."""
    from lakehouse_assets.commands import report

    found = report.status(workspace())
    if as_json:
        print_json(found)
    else:
        report.print_status(found, CONSOLE)


@main.command()
@click.argument("table")
@click.option("--version", type=int, help="As of this version.")
@click.option("--at", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="As of this moment, in UTC.")
@click.option("--rows", type=click.IntRange(1), default=20, show_default=True, help="How many rows.")
@JSON
def show(table: str, version: int | None, at: datetime | None, rows: int, as_json: bool) -> None:
    """Rows of TABLE, now or as they were.

    \b
    Examples:
      lakehouse show sales.gold.daily_revenue
      lakehouse show sales.gold.daily_revenue --version 3
    """
    if version is not None and at is not None:
        raise click.UsageError("name a version or a moment, not both")
    moment = at.replace(tzinfo=UTC) if at else None
    print_rows(workspace().lakehouse.table(table).scan(version, moment).head(rows).collect(), as_json=as_json)


@main.command()
@click.argument("table")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="How many commits, the newest first.")
@JSON
def history(table: str, limit: int, as_json: bool) -> None:
    """The commits of TABLE: when, by which run, and where its rows went."""
    from lakehouse_assets.commands.report import print_history

    commits = workspace().lakehouse.table(table).history(limit)
    if as_json:
        print_json(commits)
        return
    print_history(commits, CONSOLE)
    if commits[-1]["version"] > 0:
        older = "there are older ones: --limit shows more" if len(commits) == limit else "maintenance has removed older ones from its log"
        CONSOLE.print(f"{len(commits)} commits are shown, {older}.")


@main.command()
@click.argument("query")
@JSON
def sql(query: str, as_json: bool) -> None:
    """Run a QUERY over all tables.

    \b
    Example:
      lakehouse sql 'select product_group, sum(net) as net from sales.gold.daily_revenue group by product_group'
    """
    from lakehouse_assets.commands.query import run_sql

    print_rows(run_sql(workspace().lakehouse, query), as_json=as_json)


@main.command()
@JSON
def models(as_json: bool) -> None:
    """Every model version: who is champion, with which scores, trained on what."""
    from lakehouse_assets.commands import report

    found = report.models(workspace())
    if as_json:
        print_json(found)
    else:
        report.print_models(found, CONSOLE)


@main.command()
@click.argument("model")
def rollback(model: str) -> None:
    """Make the previous champion of MODEL the champion again.

    \b
    Example:
      lakehouse rollback revenue_forecast.daily_revenue
    """
    change = workspace().model_step(model).rollback()
    CONSOLE.print(f"Version {change.champion} of {model} is champion again instead of {change.champion_before}.")
    CONSOLE.print("Next: [bold]lakehouse run[/] scores with it")


@main.command()
@JSON
def settings(as_json: bool) -> None:
    """Every setting with its value, its variable and what it does."""
    from dataclasses import fields

    loaded = Settings.load()
    rows = [
        {
            "variable": variable(field.name),
            "value": str(getattr(loaded, field.name)),
            "default": str(field.default),
            "meaning": field.metadata["doc"],
        }
        for field in fields(Settings)
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        changed = "" if row["value"] == row["default"] else f"  [dim](default: {row['default'] or 'empty'})[/]"
        CONSOLE.print(f"[bold]{row['variable']}[/]={row['value']}{changed}\n    {row['meaning']}")


@main.command()
def dev() -> None:
    """Open the Dagster web UI with its daemon, and the MLflow UI, on this machine."""
    from lakehouse_assets.commands.serve import serve

    sys.exit(serve(workspace(), CONSOLE.print))


@main.command()
def demo() -> None:
    """Simulate a shop, land its files, run everything and say what came out (`make run`)."""
    from lakehouse_assets.commands.demo import demo as run_demo

    sys.exit(run_demo(workspace(), CONSOLE))


main.add_command(maintenance)
main.add_command(doctor)
main.add_command(restore)
main.add_command(quarantine)
main.add_command(contract)
main.add_command(land)
main.add_command(files)

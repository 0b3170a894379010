"""The first thing that a newcomer sees: a simulated shop, everything run on it, and what came out in words and numbers."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.progress import Progress
from rich.table import Table as Grid

from lakehouse_assets.commands import report, run
from lakehouse_assets.commands.land import land_feeds
from lakehouse_assets.commands.workspace import Workspace
from lakehouse_assets.products.revenue_forecast.predictions import FORECAST, newest_forecast
from lakehouse_assets.simulator.shop import simulate

_SHOP: dict[str, Any] = {"days": 760, "orders_per_day": 13, "seed": 1, "start": date(2024, 1, 1)}


def simulate_shop(workspace: Workspace, console: Console, *, days: int, orders_per_day: float, seed: int, start: date) -> dict[str, Any]:
    """Write the feeds of a simulated shop into the landing zone, with a bar; the truth about them, as it is also kept in a file."""
    landing = workspace.settings.landing
    folder = workspace.settings.home_folder / "simulator"
    truth = folder / f"truth_{start}_{days}_days_seed_{seed}.json"
    # The shop goes on where its files end, so those of a bucket are kept here as well.
    written_to = landing if isinstance(landing, Path) else folder / "landing"
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(f"Simulating {days} days", total=days)
        simulate(
            written_to,
            truth,
            days=days,
            orders_per_day=orders_per_day,
            seed=seed,
            start=start,
            on_progress=lambda done, _: progress.update(bar, completed=done),
        )
    if written_to != landing:
        land_feeds(written_to, workspace.zone)
    written: dict[str, Any] = json.loads(truth.read_text(encoding="utf-8"))
    return written


def demo(workspace: Workspace, console: Console) -> int:
    """Simulate, run, report; the exit code."""
    if not any(workspace.zone(asset.feed.name).files() for asset in workspace.products.feeds):
        truth = simulate_shop(workspace, console, **_SHOP)
        console.print(f"A shop over {_SHOP['days']} days: {truth['invoices']['rows']:,} invoice lines in {workspace.settings.landing}/\n")
    code = run.run_and_report(workspace, (), console, None, rebuild=False)
    if code:
        return code
    _rows(workspace, console)
    _forecast(workspace, console)
    _next(workspace.settings.reports, console)
    return 0


def _rows(workspace: Workspace, console: Console) -> None:
    """Where the invoice lines went, over all commits."""
    table = workspace.lakehouse.table("sales.silver.invoice_lines")
    accounts = [json.loads(c["info"]["account"]) for c in table.commits() if "account" in c["info"]]
    total = {name: sum(account[name] for account in accounts) for name in accounts[0]} if accounts else {}
    console.print("\n[bold]Rows[/]")
    said = {
        "rows_in": "invoice lines came in",
        "written": "are in sales.silver.invoice_lines",
        "duplicates": "stood in two files and count once",
        "quarantined": "broke a rule and are in sales.silver.invoice_lines__quarantine",
    }
    for name, meaning in said.items():
        console.print(f"{total.get(name, 0):>12,}  {meaning}")


def _forecast(workspace: Workspace, console: Console) -> None:
    scored = workspace.lakehouse.table(FORECAST)
    for champion in report.status(workspace)["champions"]:
        report.print_champion(champion, console)
    if not scored.exists() or not scored.count():
        return
    latest = newest_forecast(lambda name: workspace.lakehouse.table(name).scan()).collect()
    if latest.is_empty():
        return
    weeks = (
        latest.with_columns(week=(pl.col("horizon") - 1) // 7)
        .group_by("week")
        .agg(pl.col("day").min().alias("from"), pl.col("day").max().alias("to"), pl.col("p50").sum())
        .sort("week")
    )
    console.print(f"\n[bold]Revenue forecast[/] from {latest['as_of'][0]} on, all product groups together")
    grid = Grid("week", "from", "to", report.right("expected revenue"), box=None)
    for week, start, end, expected in weeks.iter_rows():
        grid.add_row(str(week + 1), str(start), str(end), f"{expected:,.0f}")
    console.print(grid)


def _next(reports: Path, console: Console) -> None:
    pictures = sorted(reports.glob("*.png"))
    console.print("\n[bold]Pictures[/]")
    for picture in pictures:
        console.print(f"  {picture}")
    console.print("\n[bold]Next[/]")
    next_month = f"lakehouse simulate --days 31 --start {_day_after()} --orders-per-day {_SHOP['orders_per_day']}"
    for command, what in {
        "make dev": "open the web UI and look at the graph",
        "lakehouse status": "tables, checks, quarantine, champion",
        "lakehouse sql 'select * from sales.gold.daily_revenue limit 5'": "ask the tables",
        next_month: "the shop's next month; then lakehouse run",
    }.items():
        console.print(f"  [bold]{command}[/]   {what}")
    console.print("  (the commands are in .venv/bin)")


def _day_after() -> date:
    start: date = _SHOP["start"]
    return date.fromordinal(start.toordinal() + int(_SHOP["days"]))

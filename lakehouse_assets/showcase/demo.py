"""The first thing that a newcomer sees: a simulated shop, everything run on it, and what came out in words and numbers."""

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse_assets.cli.run import run_and_print, train_and_print
from lakehouse_assets.cli.status import print_champion
from lakehouse_assets.cli.terminal import add_row, console, grid, print_grid, right, say
from lakehouse_assets.client import Client
from lakehouse_assets.platform.wording import counted
from lakehouse_assets.products.order_fraud.contracts import REVIEW
from lakehouse_assets.products.order_fraud.fraud import scored_orders
from lakehouse_assets.products.revenue_forecast.forecast import revenue
from lakehouse_assets.showcase.simulate import simulate_shop

_ORDERS = 3
_SHOP: dict[str, Any] = {"days": 760, "orders_per_day": 13, "seed": 2, "start": date(2024, 1, 1)}


def demo(lakehouse: Client) -> int:
    """Simulate, run, report; the exit code."""
    if not any(lakehouse.context.root.zone(feed).files() for feed in lakehouse.context.policy.feeds()):
        truth = simulate_shop(lakehouse, console(), **_SHOP)
        lines = counted(truth["invoices"]["rows"], "invoice line")
        say(f"A shop over {_SHOP['days']} days: {lines} in {lakehouse.settings.landing}/\n")
    if code := run_and_print(lakehouse, hints=False):
        return code
    if not lakehouse.without_champion():
        for champion in lakehouse.champions():
            print_champion(champion)
    elif code := train_and_print(lakehouse):  # which prints them as well
        return code
    _rows(lakehouse)
    _forecast(lakehouse)
    _orders(lakehouse)
    _next(lakehouse.settings.reports)
    return 0


def _rows(lakehouse: Client) -> None:
    """Where the invoice lines went, over all commits."""
    table = lakehouse.table("sales.silver.invoice_lines")
    accounts = [commit["info"]["account"] for commit in table.history(10_000) if "account" in commit["info"]]
    total = {name: sum(account[name] or 0 for account in accounts) for name in accounts[0]} if accounts else {}
    say(("\nRows", "bold"))
    meanings = {
        "rows_in": "invoice lines came in",
        "written": "are in sales.silver.invoice_lines",
        "duplicates": "were in two files and count once",
        "quarantined": "broke a rule and are in sales.silver.invoice_lines__quarantine",
    }
    for name, meaning in meanings.items():
        say(f"{total.get(name, 0):>12,}  {meaning}")


def _forecast(lakehouse: Client) -> None:
    scored = lakehouse.table(revenue.predictions.name)
    if not scored.exists() or not scored.count():
        return
    latest = revenue.newest(lambda name: lakehouse.table(name).scan()).collect()
    if latest.is_empty():
        return
    weeks = (
        latest.with_columns(week=(pl.col("horizon") - 1) // 7)
        .group_by("week")
        .agg(pl.col("day").min().alias("from"), pl.col("day").max().alias("to"), pl.col("mean").sum())
        .sort("week")
    )
    say(("\nRevenue forecast", "bold"), f" from {latest['as_of'][0]} on, all product groups together")
    shown = grid("week", "from", "to", right("expected revenue"))
    for week, start, end, expected in weeks.iter_rows():
        add_row(shown, week + 1, start, end, f"{expected:,.0f}")
    print_grid(shown)


def _orders(lakehouse: Client) -> None:
    """The newest orders, and the newest that are to be reviewed, with what the champion says of them."""
    scored = lakehouse.table(scored_orders.name)
    if not scored.exists() or not scored.count():
        return
    rows = scored.scan().filter(pl.col("model_version") == pl.col("model_version").max()).sort("paid_at", "invoice").collect()
    held = rows["decision"] == REVIEW
    share = f"{held.sum():,} of {rows.height:,} are to be reviewed"
    say(("\nOrder fraud", "bold"), f" {share}; the last ones, and the last orders of all")
    shown = grid("order", "paid at", right("pounds"), right("probability"), "decision", "reasons")
    last = (
        pl.concat([rows.filter(held).tail(_ORDERS), rows.tail(_ORDERS)])
        .unique("invoice")
        .sort("decision", "paid_at", descending=[True, False])
    )
    for order, paid_at, amount, probability, decision, reasons in last.select(
        "invoice", "paid_at", "amount", "probability", "decision", "reasons"
    ).iter_rows():
        add_row(shown, order, f"{paid_at:%Y-%m-%d %H:%M}", f"{amount:,.2f}", f"{probability:.1%}", decision, reasons or "")
    print_grid(shown)


def _next(reports: Path) -> None:
    pictures = sorted(reports.glob("*.png"))
    say(("\nPictures", "bold"))
    for picture in pictures:
        say(f"  {picture}")
    say(("\nNext", "bold"))
    next_month = f"lakehouse simulate --days 31 --start {_day_after()} --orders-per-day {_SHOP['orders_per_day']} --seed {_SHOP['seed']}"
    for command, what in {
        "make dev": "open the web UI with the asset graph",
        "lakehouse status": "tables, checks, quarantine, champion",
        "lakehouse sql 'select * from sales.gold.daily_revenue limit 5'": "query the tables",
        next_month: "the shop's next month; then lakehouse run",
    }.items():
        say("  ", (command, "bold"), f"   {what}")
    say("  (the commands are in .venv/bin)")


def _day_after() -> date:
    start: date = _SHOP["start"]
    return date.fromordinal(start.toordinal() + int(_SHOP["days"]))

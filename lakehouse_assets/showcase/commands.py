"""`lakehouse demo` and `lakehouse simulate`: commands of the showcase, there if this folder is."""

import sys
from datetime import datetime

import click

from lakehouse_assets.cli.shared import JSON, client, command, progress_console
from lakehouse_assets.cli.terminal import print_json, say
from lakehouse_assets.platform.wording import counted


@command()
@click.option("--days", type=click.IntRange(1), required=True, help="How many days.")
@click.option(
    "--orders-per-day", type=click.FloatRange(1, 10_000), default=10, show_default=True, help="Mean number of orders on an open day."
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Which shop: the same seed writes the same bytes.")
@click.option("--start", type=click.DateTime(["%Y-%m-%d"]), required=True, help="The first day.")
@click.option(
    "--fraud-changes",
    type=click.DateTime(["%Y-%m-%d"]),
    help="From this day on other orders are fraud; give it for later days too. By default the patterns stay.",
)
@JSON
def simulate(  # noqa: PLR0917 the options
    days: int, orders_per_day: float, seed: int, start: datetime, fraud_changes: datetime | None, as_json: bool
) -> None:
    """Write the feeds of a simulated shop into the landing zone.

    What really happened in the shop is written to simulator/ next to the landing zone (for a bucket, in LAKEHOUSE_HOME), so that tables
    and models can be compared with it: counts and sums as JSON, and each order, with its true probability of fraud, as parquet.

    \b
    Example: one more month of the shop of `lakehouse demo`
      lakehouse simulate --days 31 --start 2026-02-01
    """
    from lakehouse_assets.showcase.simulate import simulate_shop

    console = progress_console(as_json=as_json)
    changes = None if fraud_changes is None else fraud_changes.date()
    truth = simulate_shop(client(), console, days=days, orders_per_day=orders_per_day, seed=seed, start=start.date(), fraud_changes=changes)
    if as_json:
        print_json(truth)
    else:
        lines, payments = counted(truth["invoices"]["rows"], "invoice line"), counted(truth["payments"]["rows"], "payment")
        say(f"{lines} and {payments} landed. Next: ", ("lakehouse run", "bold"))


@command(interrupted="Nothing is lost: the same command resumes where this run stopped.")
def demo() -> None:
    """Simulate a shop, land its files, run everything and show what came out (`make run`)."""
    from lakehouse_assets.showcase.demo import demo as run_demo

    sys.exit(run_demo(client()))


COMMANDS = (demo, simulate)

"""`lakehouse monitors`: what is watched about tables, and what it said."""

import sys
from datetime import time
from typing import Any

import click
from rich.text import Text

from lakehouse_assets.cli.progress import working_on
from lakehouse_assets.cli.shared import JSON, Noun, client, command, progress_console
from lakehouse_assets.cli.terminal import add_row, ago, folds, grid, optional, print_grid, print_json, say
from lakehouse_assets.platform.wording import counted, slice_in_words

_STYLES = {"passed": "green", "failed": "red", "error": "red", "not evaluated": "dim"}


@click.group(cls=Noun, argument_command="show")
def monitors() -> None:
    """What is watched about tables: list it with what it said last, show one, evaluate now.

    \b
    Examples:
      lakehouse monitors
      lakehouse monitors list --failed
      lakehouse monitors show sales.monitors.payments_come
      lakehouse monitors run sales.silver.payments
    """


@monitors.command("list")
@click.option("--failed", is_flag=True, help="Only those that failed, or could not be evaluated because of an error.")
@JSON
def list_monitors(failed: bool, as_json: bool) -> None:
    """The monitors, and what each said last.

    \b
    Example:
      lakehouse monitors list --failed
    """
    opened = client().monitors
    values = opened.failed() if failed else opened.list()
    if as_json:
        print_json(values)
    elif values:
        _print(values)
    else:
        say("No monitor failed." if failed else "No product declares a monitor, and no table implies one.")


@monitors.command()
@click.argument("monitor")
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="How many verdicts.")
@JSON
def show(monitor: str, limit: int, as_json: bool) -> None:
    """What MONITOR demands, and its newest verdicts. Those of all are in the table platform.monitoring.verdicts.

    \b
    Examples:
      lakehouse monitors show sales.gold.daily_revenue.freshness
      lakehouse sql "SELECT * FROM platform.monitoring.verdicts WHERE NOT passed"
    """
    values = client().monitors.show(monitor, rows=limit)
    if as_json:
        print_json(values)
        return
    place = f", declared at {values['declared_at']}" if values["declared_at"] else ""
    say((values["monitor"], "bold"), f"  {values['kind']} of {values['table']}, {values['owner']}, severity {values['severity']}{place}")
    say(values["description"])
    if not values["verdicts"]:
        say("It was not evaluated yet: `lakehouse run` does, and `lakehouse monitors run` at once.")
        return
    shown = grid("when", "version", "verdict", optional("column"), optional("slice"), optional("window"), folds("it says"))
    for row in values["verdicts"]:
        verdict = _verdict(row)
        part = slice_in_words(row["slice_key"], row["slice_value"]) if row["slice_key"] else ""
        window = f"{row['window_start']:%Y-%m-%d %H:%M}" if row["window_start"] else ""
        version = "" if row["table_version"] is None else row["table_version"]
        likely = f" Most likely: {row['why']}." if row.get("why") else ""
        add_row(shown, ago(row["evaluated_at"]), version, verdict, row["column_name"] or "", part, window, row["text"] + likely)
    print_grid(shown)


@monitors.command(interrupted="Verdicts are stored when all monitors were evaluated; those of this command are not.")
@click.argument("names", nargs=-1)
@JSON
def run(names: tuple[str, ...], as_json: bool) -> None:
    """Evaluate monitors now: all, or NAMES of monitors or of tables. No table is refreshed.

    Ends with 1 if one of severity "error" failed, or one could not be evaluated because of an error.

    \b
    Examples:
      lakehouse monitors run
      lakehouse monitors run sales.gold.daily_revenue
    """
    values = client().monitors.run(names)
    if as_json:
        print_json(values)
    else:
        _print(values)
    sys.exit(any(row["state"] == "error" or (row["state"] == "failed" and row["severity"] == "error") for row in values))


@command()
@click.argument("monitor")
@click.option(
    "--window", metavar="BEGIN", help="Begin of a window that failed, as 2026-02-03; by default the first one of the newest failure."
)
@JSON
def why(monitor: str, window: str | None, as_json: bool) -> None:
    """Where the newest failure of MONITOR most likely comes from: columns by importance, followed to file, commit or function.

    \b
    Examples:
      lakehouse why order_fraud.monitors.orders_drift
      lakehouse why orders_drift --window 2026-02-03
    """
    with working_on("reading what failed", progress_console(as_json=True)):
        values = client().monitors.why(monitor, window=window)
    if as_json:
        print_json(values)
    elif not values["failed"]:
        say(f"{values['monitor']} has not failed.")
    elif not values["causes"]:
        _print_now(values)
        say(f"{values['monitor']} failed, and where that comes from is not known:")
        for row in values["failed"]:
            say(f"  {row['text']}")
    else:
        _print_now(values)
        _print_causes(values)


def _print_now(values: dict[str, Any]) -> None:
    if values["now"]:
        say((values["now"], "green"))


def _print_causes(values: dict[str, Any]) -> None:
    windows = {cause["window"] for cause in values["causes"]}
    first = values["causes"][0]["window"]
    when = "" if first is None or len(windows) > 1 else f" in the window from {first:%Y-%m-%d %H:%M} UTC"
    say((values["monitor"], "bold"), f"  {values['table']}{when}")
    for number, cause in enumerate(values["causes"], 1):
        share = "" if cause["importance"] is None else f", importance {cause['importance']:.0%}"
        weight = f"  (weight {cause['weight']:,.4g}{share})" if cause["column"] else ""
        since = f" since the window from {cause['window']:%Y-%m-%d %H:%M} UTC" if len(windows) > 1 and cause["window"] else ""
        say((f"{number}. {cause['column'] or cause['text']}{since}", "bold"), (weight, "dim"))
        for step in cause["steps"]:
            say(f"   → {step}")
        if cause["column"] and not cause["steps"]:
            say(("   not followed: it matters less, or its rows do not differ from those before", "dim"))
    newest = values["newest"]
    if newest is not None and newest not in windows:
        begin = f"{newest:%Y-%m-%d}" if newest.time() == time() else f"{newest:%Y-%m-%dT%H:%M}"
        say((f"It began there; the newest window that failed: `lakehouse why {values['monitor']} --window {begin}`", "dim"))


def _print(values: list[dict[str, Any]]) -> None:
    shown = grid("monitor", optional("table"), "state", optional("since"), folds("it says"))
    for row in values:
        state = row["state"] or "never evaluated"
        since = ago(row["evaluated_at"]) if row["evaluated_at"] else ""
        add_row(shown, row["monitor"], row["table"], Text(state, _STYLES.get(state, "dim")), since, row["text"] or "")
    print_grid(shown)
    bad = sum(row["state"] in {"failed", "error"} for row in values)
    say((f"{counted(len(values), 'monitor')}, {bad:,} failed", "dim"))


def _verdict(row: dict[str, Any]) -> Text:
    if row["error"]:
        return Text("error", "red")
    word = {True: "passed", False: "failed", None: "not evaluated"}[row["passed"]]
    return Text(word, _STYLES[word])

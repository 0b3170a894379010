"""`lakehouse alerts`: what is wrong and was told, telling it once without the daemon, and a test of the sinks."""

import sys
from typing import Any

import click

from lakehouse_assets.cli.shared import JSON, Noun, client
from lakehouse_assets.cli.terminal import add_row, ago, folds, grid, print_grid, print_json, right, say

_STYLES = {"error": "red", "warn": "yellow"}


@click.group(cls=Noun, argument_command="show")
def alerts() -> None:
    """What is wrong and was told: `list` shows the alerts, `show` one, `send` tells what is new, `test` tries the sinks, `close` ends one.

    The daemon (`lakehouse dev`) makes and delivers them, or `send`, as from cron. The settings that begin with LAKEHOUSE_ALERT say to whom.

    \b
    Examples:
      lakehouse alerts --open
      lakehouse alerts show 4f4ecb05
      lakehouse alerts send
      lakehouse alerts test
    """


@alerts.command("list")
@click.option("--open", "open_only", is_flag=True, help="Only those that are open.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many, those that were opened last first.")
@JSON
def list_alerts(open_only: bool, limit: int, as_json: bool) -> None:
    """The alerts, those that were opened last first.

    \b
    Example:
      lakehouse alerts list --open
    """
    rows = client().alerts.list(open_only=open_only, limit=limit)
    if as_json:
        print_json(rows)
    elif not rows:
        say("No alert is open." if open_only else "There was no alert yet.")
    else:
        print_alerts(rows)


def print_alerts(rows: list[dict[str, Any]]) -> None:
    """A line for each alert."""
    shown = grid("alert", "state", "severity", "opened", right("events"), folds("what"))
    for row in rows:
        add_row(shown, row["alert_id"], _state(row), row["severity"], ago(row["opened_at"]), f"{row['number']:,}", row["key"])
    print_grid(shown)


@alerts.command()
@click.argument("alert")
@JSON
def show(alert: str, as_json: bool) -> None:
    """ALERT, by its id or the first characters of it: its events, and what came of telling each sink.

    \b
    Example:
      lakehouse alerts show 4f4ecb05
    """
    found = client().alerts.show(alert)
    if as_json:
        print_json(found)
        return
    say(
        "Alert ",
        (found["alert_id"], "bold"),
        f", {_state(found)}: ",
        (found["severity"], _STYLES.get(found["severity"], "")),
        f" {found['key']}",
    )
    if found["owner"]:
        say(f"Owner: {found['owner']}")
    for event in found["events"]:
        run = f", run {event['run_id'][:8]}" if event["run_id"] else ""
        say(f"\n{event['number']}. {event['event']} {event['at']:%Y-%m-%d %H:%M:%S} UTC{run}")
        say(f"   {event['text']}")
        for sink, done in event["deliveries"].items():
            say((f"   {sink}: {_outcome(done)}", "dim"))


def _state(alert: dict[str, Any]) -> str:
    """Whether it is open, and of one that recovers how far it is from being resolved."""
    if not alert["is_open"]:
        return "resolved"
    return f"open, {alert['good_windows']} of {alert['resolve_after']} windows good" if alert["resolve_after"] else "open"


def _outcome(done: dict[str, Any]) -> str:
    tries = f" after {done['attempt']} tries" if done["attempt"] > 1 else ""
    return f"{done['outcome']}{tries}" + (f" ({done['reason']})" if done["reason"] else "")


@alerts.command()
@JSON
def test(as_json: bool) -> None:
    """Send a test alert to every sink of the settings, and say what came of each. It ends with 1 if one was not delivered.

    \b
    Example:
      lakehouse alerts test
    """
    rows = client().alerts.test()
    if as_json:
        print_json(rows)
    elif not rows:
        say("No sink is set: alerts are written into the daemon's log alone. Set LAKEHOUSE_ALERT_WEBHOOK, _SLACK or _MAIL_TO.")
    for row in () if as_json else rows:
        style = "green" if row["outcome"] == "delivered" else "red"
        say((f"{row['outcome']} ", style), f"{row['sink']}, {row['place']}", f": {row['reason']}" if row["reason"] else "")
    sys.exit(any(row["outcome"] != "delivered" for row in rows))


@alerts.command()
@JSON
def send(as_json: bool) -> None:
    """Look once at what has happened since the last time, and tell the sinks. It ends with 1 if something could not be read or delivered.

    So it does while events wait for a sink that did not take them: it is tried again later and later, at most an hour apart.

    It does what the sensor `alerts` does where `lakehouse dev` runs. What could not be read or delivered is tried again by the next one.

    \b
    Examples:
      lakehouse alerts send
      */5 * * * * lakehouse alerts send        in a crontab
    """
    done = client().alerts.send()
    if as_json:
        print_json(done)
    else:
        say(done["text"])
        for why in (*done["unread"].values(), *(f"{sink}: {why}" for sink, why in done["failed"].items())):
            say((why, "red"))
    sys.exit(bool(done["unread"] or done["failed"] or done["waiting"]))


@alerts.command()
@click.argument("alert")
@click.option("--reason", required=True, help="Why: people are told.")
def close(alert: str, reason: str) -> None:
    """Close ALERT by hand, as of a table that is gone. If it is bad again, it opens again.

    \b
    Example:
      lakehouse alerts close 4f4ecb05 --reason "the table was deleted"
    """
    closed = client().alerts.close(alert, reason)
    say(f"Alert {closed['alert_id']} is resolved. The daemon, or `lakehouse alerts send`, tells the sinks.")

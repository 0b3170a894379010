"""`lakehouse status`: what there is, what is wrong, and what to do next."""

from typing import Any

from rich.text import Text

from lakehouse_assets.cli.progress import working_on
from lakehouse_assets.cli.shared import JSON, client, command, progress_console
from lakehouse_assets.cli.terminal import add_row, ago, grid, optional, print_grid, print_json, right, say, say_remedy
from lakehouse_assets.platform.wording import counted

_ENDED = {"SUCCESS": ("succeeded", "green"), "FAILURE": ("failed", "red"), "CANCELED": ("was interrupted", "yellow")}
_SHOWN = 10


@command()
@JSON
def status(as_json: bool) -> None:
    """The last run, tables, failed checks, quarantine, files that wait or were refused, champions, and what to do next.

    \b
    Example:
      lakehouse status
    """
    opened = client()
    with working_on("reading what there is", progress_console(as_json=True)):
        values = opened.status()
    if as_json:
        print_json(values)
        return
    if not values["tables"]:
        say("There are no tables yet: `lakehouse land FEED FILE`, then `lakehouse run`; for data of your own, `lakehouse new` first.")
    else:
        _print_last_run(values["last_run"])
        _print_tables(values["tables"])
    _print_monitors(values["failed_monitors"])
    _print_files(values)
    _print_alerts(values["open_alerts"])
    for champion in values["champions"]:
        if champion["model"] in values["untrained"] or champion["last_decision"] is not None:
            print_champion(champion)
    if forgotten := opened.forgotten_products():
        say("\n", ("warning ", "yellow"), forgotten)
    else:
        _print_next(values)


def _print_last_run(run: dict[str, Any] | None) -> None:
    if run is None:
        return
    ended, style = _ENDED.get(run["status"], ("is under way, or its process is gone: `lakehouse runs list`,", "yellow"))
    when = run["ended_at"] or run["started_at"]
    say("Last run ", (run["run_id"][:8], "bold"), " ", (ended, style), f" {ago(when)}\n" if when else "\n")


def _print_tables(tables: list[dict[str, Any]]) -> None:
    shown = grid("table", right("rows"), optional("version", right=True), optional("changed"), right("quarantined"), "failed")
    for row in tables:
        quarantined = "" if row["quarantined"] is None else f"{row['quarantined']:,}"
        kinds = {"check": row["failed_checks"], "monitor": row["failed_monitors"]}
        failed = Text(", ".join(counted(len(one), kind) for kind, one in kinds.items() if one), "red" if row["stopped_by"] else "yellow")
        add_row(shown, row["table"], f"{row['rows']:,}", row["version"], ago(row["changed_at"]), quarantined, failed)
    print_grid(shown)
    total = sum(row["quarantined"] or 0 for row in tables)
    failing, watched = (sum(bool(row[kind]) for row in tables) for kind in ("failed_checks", "failed_monitors"))
    parts = [counted(len(tables), "table"), f"{counted(total, 'row')} in quarantine", f"{failing:,} with failed checks"]
    parts += [f"{watched:,} with failed monitors"] if watched else []
    say((", ".join(parts), "dim"))
    for row in tables:
        if row["failed_checks"]:
            mark = ("stopped", "red") if row["stopped_by"] else ("failed", "yellow")
            say("\n", mark, f" {row['table']}: {', '.join(row['stopped_by'] or row['failed_checks'])}")


def _print_monitors(failed: list[dict[str, Any]]) -> None:
    for row in failed[:_SHOWN]:
        mark = (row["state"], "red" if row["severity"] == "error" else "yellow")
        say("\nmonitor ", mark, f" {row['monitor']}, {ago(row['evaluated_at'])}: {row['text']}")
    if len(failed) > _SHOWN:
        say(f"\n{len(failed) - _SHOWN:,} more: `lakehouse monitors list --failed`")


def _print_files(values: dict[str, Any]) -> None:
    for feed, count in values["waiting_files"].items():
        say(
            "\n",
            counted(count, "file"),
            " of ",
            (feed, "bold"),
            " waits: `lakehouse run` reads it." if count == 1 else " wait: `lakehouse run` reads them.",
        )
    refused = values["refused_files"]
    for file in refused[:_SHOWN]:
        say("\n", (f"{file['event']} ", "red"), f"{file['feed']}: {file['reason'] or file['path']}")
    if refused:
        say_remedy(*(refused[0][name] for name in ("feed", "path", "event")))
    if len(refused) > _SHOWN:
        say(f"\n{len(refused) - _SHOWN:,} more: `lakehouse files list --refused`")


def _print_alerts(rows: list[dict[str, Any]]) -> None:
    for row in rows[:_SHOWN]:
        style = "red" if row["severity"] == "error" else "yellow"
        first = (row["text"].splitlines() or [""])[0]
        say("\n", ("alert ", style), (row["alert_id"], "bold"), f" {row['key']}, opened {ago(row['opened_at'])}: {first}")
    if len(rows) > _SHOWN:
        say(f"\n{counted(len(rows) - _SHOWN, 'more alert')}: `lakehouse alerts list --open`")


def print_champion(champion: dict[str, Any]) -> None:
    """Who is champion of a model, and why."""
    last = champion["last_decision"]
    if last is None:
        say("\nModel ", (champion["model"], "bold"), ": not trained yet.")
        return
    what = "" if champion["candidate"] in {None, "model"} else f", the baseline {champion['candidate']}: no model has passed the gate yet"
    who = f"version {champion['champion']} is champion{what}" if champion["champion"] else "there is no champion, so nothing is scored"
    decision = f"Last decision: version {last['version']} {last['decision']}."
    say("\nModel ", (champion["model"], "bold"), f": {who}. {decision}")
    for reason in last["reasons"]:
        say(f"  {reason}")


def _print_next(values: dict[str, Any]) -> None:
    """One line: the command that brings this root further."""
    from lakehouse_assets.client.status import next_step  # late: `--help` answers at once

    step = next_step(values)
    if step is not None:
        say("\nNext: ", (step[0], "bold"), f" ({step[1]})")

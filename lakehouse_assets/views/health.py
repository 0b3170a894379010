"""The page of table health: how fresh tables are, how many rows they have, what was rejected, and what became of rows by commit."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl

from lakehouse_assets.client import Client
from lakehouse_assets.platform import clock
from lakehouse_assets.platform.monitoring.verdicts import BAD, is_bad
from lakehouse_assets.platform.quality.contract import freshness_of
from lakehouse_assets.platform.storage.platform_tables import own_first
from lakehouse_assets.platform.wording import counted
from lakehouse_assets.views.blocks import Bars, Block, Curves, Figure, Figures, Note, Page, Rows, Text, Tone, number, short
from lakehouse_assets.views.listed import PAGES

NAME: Final = "health"
SENTENCE: Final = "Whether tables are fresh and whole: rows, rejected rows, failed checks, and what became of the rows of each commit."
_READ: Final = "page: health"
_COMMITS: Final = 200
_BARS: Final = 20
_SAMPLES: Final = 3
_DAY: Final = timedelta(days=1)
_PARTS: Final[dict[str, Tone]] = {"written": "good", "updated": "plain", "quarantined": "bad"}
_ACCOUNT: Final = ("written", "updated", "duplicates", "quarantined", "removed")
_ALWAYS_SHOWN: Final = ("monitor", "table", "severity", "what it says")
_STATES: Final = {None: "not evaluated", "error": "failed"}
SEVERITIES: Final = {"warn": "warning", "error": "error"}
"""How bad a failure is, in words."""


def page(lake: Client) -> Page:
    """All tables."""
    return Page(NAME, PAGES[NAME], SENTENCE, tables(lake))


def names(lake: Client) -> list[str]:
    """The declared tables that exist."""
    return [one.name for one in lake.context.declarations if lake.table(one.name).exists()]


def tables(lake: Client, status: dict[str, Any] | None = None) -> list[Block]:
    """All tables in short."""
    values = lake.status() if status is None else status
    if not values["tables"]:
        return [nothing()]
    now = clock.now()
    rows = [
        {
            "table": row["table"],
            "rows": row["rows"],
            "changed": ago(row["changed_at"], now),
            "rejected rows": row["quarantined"] or 0,
            "failed checks": ", ".join(row["failed_checks"]),
        }
        for row in sorted(values["tables"], key=lambda row: (not row["failed_checks"], own_first(row["table"])))
    ]
    rejected = sum(row["quarantined"] or 0 for row in values["tables"])
    failing = sum(bool(row["failed_checks"]) for row in values["tables"])
    stopped = sum(bool(row["stopped_by"]) for row in values["tables"])
    return [
        Figures(
            (
                Figure("Tables", number(len(rows)), f"{number(sum(row['rows'] for row in values['tables']))} rows in all"),
                Figure(
                    "With failed checks", number(failing), f"{stopped} of them stopped", "bad" if stopped else "warn" if failing else "good"
                ),
                Figure("Rows in quarantine", number(rejected), "they broke a rule and are kept apart", "warn" if rejected else "good"),
                Figure("Files refused", number(len(values["refused_files"])), "", "bad" if values["refused_files"] else "good"),
            )
        ),
        Rows("Tables", pl.DataFrame(rows, infer_schema_length=None)),
        *_verdicts(lake),
    ]


def nothing() -> Note:
    """What to say where there is no table."""
    return Note(
        "There are no tables yet. Land files with `lakehouse land FEED FILE`, then run `lakehouse run`. To see how it works with a "
        "simulated shop: `lakehouse demo`. For data of your own: `lakehouse new`.",
        "warn",
    )


def one_table(lake: Client, name: str) -> list[Block]:
    """One table: freshness, rows over time, the account of its commits, its quarantine."""
    table = lake.table(name)
    if not table.exists():
        return [Note(f"**{name}** does not exist yet. Run `lakehouse run {name}`.", "warn")]
    commits, rows = table.history(_COMMITS), table.count()
    accounts = [(commit, commit["info"]["account"]) for commit in commits if isinstance(commit["info"].get("account"), dict)]
    now = clock.now()
    blocks: list[Block] = [
        Text(f"## {name}"),
        Figures(
            (
                Figure("Rows", number(rows), f"version {commits[0]['version']}"),
                _freshness(lake, name, now),
                Figure("Last commit", ago(commits[0]["at"], now), f"{commits[0]['at']:%Y-%m-%d %H:%M} UTC"),
            )
        ),
    ]
    if accounts:
        # One commit is a point and no line.
        blocks += [*([_over_time(accounts, rows)] if len(accounts) > 1 else []), _by_commit(accounts)]
    return [*blocks, *_quarantine(lake, name)]


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago a moment was."""
    if moment is None:
        return ""
    age = now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    hours = age / timedelta(hours=1)
    if hours < 1:
        return f"{counted(max(age, timedelta()) // timedelta(minutes=1), 'minute')} ago"
    return f"{counted(round(hours), 'hour')} ago" if hours < 48 else f"{counted(age.days, 'day')} ago"


def _freshness(lake: Client, name: str, now: datetime) -> Figure:
    """How old the newest row is, by the contract's own column, or by the first of dates or moments that may not be in the future."""
    declared = next((one for one in lake.context.tables if one.name == name), None)
    fresh = None if declared is None else freshness_of(declared.contract)
    if fresh is None:
        return Figure("Freshness", "no promise", "the contract does not say how fresh it is to be")
    newest = lake.table(name).select((fresh.column,), what=_READ).select(pl.col(fresh.column).max()).collect().item()
    if newest is None:
        return Figure("Newest row", "none", fresh.column)
    moment = newest if isinstance(newest, datetime) else datetime.combine(newest + _DAY, datetime.min.time(), UTC)
    late = now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) > fresh.within
    within = f"{fresh.within / _DAY:.0f} days" if fresh.within >= 2 * _DAY else f"{fresh.within / timedelta(hours=1):.0f} hours"
    return Figure(f"Newest {fresh.column}", str(newest)[:16], f"may be {within} old", "bad" if late else "good")


def _over_time(accounts: list[tuple[dict[str, Any], dict[str, Any]]], rows: int) -> Curves:
    """Rows after each commit: counted back from now."""
    points = []
    for commit, account in accounts:
        points.append({"at": commit["at"], "value": float(rows), "line": "rows"})
        rows -= (account.get("written") or 0) - (account.get("removed") or 0)
    return Curves("Rows over time", pl.DataFrame(points[::-1]), "rows in the table", time="time of the commit (UTC)")


def _by_commit(accounts: list[tuple[dict[str, Any], dict[str, Any]]]) -> Bars:
    newest = accounts[:_BARS]
    bars = [
        {"name": f"{commit['at']:%Y-%m-%d %H:%M} (version {commit['version']})", "value": account.get(part) or 0, "part": part}
        for commit, account in newest
        for part in _ACCOUNT
    ]
    frame = pl.DataFrame(bars, schema={"name": pl.String, "value": pl.Int64, "part": pl.String})
    there = frame.group_by("part").agg(pl.col("value").sum()).filter(pl.col("value") > 0)["part"].to_list()
    kept = frame.filter(pl.col("part").is_in(there)) if there else frame.filter(pl.col("part") == "written")
    return Bars(f"What became of the rows of the last {counted(len(newest), 'commit')}", kept, "rows", "commit (UTC)", _PARTS)


def _quarantine(lake: Client, name: str) -> list[Block]:
    declared = next((one for one in lake.context.tables if one.name == name), None)
    if declared is None or not lake.table(declared.quarantine).exists():
        return []
    found = lake.quarantine(name).show(rows=_SAMPLES)
    if not found["waiting"]:
        return [Note("No row waits in the quarantine.", "good")]
    rules = pl.DataFrame(
        [{"rule": one["text"] or one["rule"], "rows that broke it": one["rows"]} for one in found["rules"]], infer_schema_length=None
    )
    how = f"`lakehouse quarantine show {name}` shows the rows; fixed ones are put in again by `lakehouse quarantine replay {name}`."
    waiting = f"Quarantine: {counted(found['waiting'], 'row')} {'waits' if found['waiting'] == 1 else 'wait'}"
    return [Rows(waiting, rules), Note(how, "warn")]


def _verdicts(lake: Client) -> list[Block]:
    """What the monitors say now: how many passed, failed, or were not evaluated, and each failed verdict, the newest windows first."""
    every = lake.monitors.list()
    if not any(one["state"] for one in every):
        return []
    states = Counter(_STATES.get(one["state"], one["state"]) for one in every)
    counts = ", ".join(f"{states[state]} {state}" for state in ("passed", "failed", "not evaluated") if states[state])
    failed = {one["monitor"]: one for one in every if one["state"] in BAD}
    rows = [_verdict_row(row, failed[name]) for name, last in lake.monitors.latest(failed).items() for row in last if is_bad(row)]
    rows.sort(key=lambda row: (row["window"], row["evaluated (UTC)"]), reverse=True)
    shown = pl.DataFrame(rows, infer_schema_length=None)
    there = [name for name in shown.columns if name in _ALWAYS_SHOWN or (shown[name] != "").any()]
    return [Rows(f"Monitors: {counts}", shown.select(there), "No monitor fails.")]


def _verdict_row(row: dict[str, Any], monitor: dict[str, Any]) -> dict[str, Any]:
    window = "" if row["window_start"] is None else f"{row['window_start']:%Y-%m-%d %H:%M}".removesuffix(" 00:00")
    return {
        "monitor": row["monitor"],
        "table": row["table"],
        "severity": SEVERITIES[monitor["severity"]],
        "window": window,
        "column": row["column_name"] or "",
        "slice": "" if row["slice_key"] is None else f"{row['slice_key']}: {row['slice_value']}",
        "what it says": short(row["text"], f"lakehouse monitors show {row['monitor']}"),
        "owner": row["owner"] or "",
        "evaluated (UTC)": f"{row['evaluated_at']:%Y-%m-%d %H:%M}",
    }

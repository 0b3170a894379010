"""The first page: what is expected next week, whether anything is wrong, what was done about it, and where to go on."""

from datetime import timedelta
from typing import Any, Final

import polars as pl

from lakehouse_assets.client import Client
from lakehouse_assets.client.status import next_step
from lakehouse_assets.platform import clock
from lakehouse_assets.platform.wording import counted
from lakehouse_assets.views.blocks import Block, Figure, Figures, Note, Page, Rows, Text, Tone, number
from lakehouse_assets.views.forecasts import in_short
from lakehouse_assets.views.found import classifiers, forecasts, has_rows, rule_texts
from lakehouse_assets.views.health import VERDICTS, ago
from lakehouse_assets.views.listed import PAGES

NAME: Final = "overview"
SENTENCE: Final = "What is expected, whether anything is wrong, and what was done about it."
ALERTS: Final = "platform.alerts.log"
_READ: Final = "page: overview"
_ENDED: Final[dict[str, tuple[str, Tone]]] = {
    "SUCCESS": ("succeeded", "good"),
    "FAILURE": ("failed", "bad"),
    "CANCELED": ("was interrupted", "warn"),
}
_CHECKS: Final = {
    "gate": "the newest model did not become champion",
    "not_null": "values are missing",
    "freshness": "the newest row is too old",
    "volume": "more or fewer rows came than usual",
    "files_read": "a file could not be read",
    "has_champion": "no model predicts",
}
"""What checks that are no rules of a contract say."""
_DECISIONS: Final = 8
_CHARTS: Final = 2
_PERIOD: Final = timedelta(days=7)


def page(lake: Client) -> Page:
    """The whole page."""
    values = lake.status()
    if not values["tables"]:
        return Page(NAME, PAGES[NAME], SENTENCE, [_empty(values), _links(lake)])
    alerts = _alerts(lake)
    blocks: list[Block] = [
        Figures(tuple(_state(lake, values, alerts))),
        *_expected(lake),
        *_wrong(lake, values, alerts),
        *_to_do(values),
        *_done(lake, alerts),
        _links(lake),
    ]
    return Page(NAME, PAGES[NAME], SENTENCE, blocks)


def _empty(values: dict[str, Any]) -> Note:
    step = next_step(values)
    text = (
        "**There is nothing here yet.** Three ways to begin:\n\n"
        "1. `lakehouse demo` simulates a shop and runs everything on it.\n"
        "2. `lakehouse new PRODUCT --from FILE.csv` writes a product for data of your own.\n"
        "3. `lakehouse land FEED FILE`, then `lakehouse run`, for a product that is declared already.\n\n"
        "This page then shows what is expected, whether anything is wrong, and what was done about it."
    )
    return Note(f"{text}\n\nNow: `{step[0]}` {step[1]}." if step else text)


def _state(lake: Client, values: dict[str, Any], alerts: pl.DataFrame | None) -> list[Figure]:
    now, run = clock.now(), values["last_run"]
    if run is None:
        last = Figure("Last run", "none recorded")
    else:
        said, tone = _ENDED.get(run["status"], ("is under way", "plain"))
        last = Figure("Last run", said, ago(run["ended_at"] or run["started_at"], now), tone)
    failing = [row["table"] for row in values["tables"] if row["failed_checks"]]
    stopped = any(row["stopped_by"] for row in values["tables"])
    checks = Figure("Tables with failed checks", number(len(failing)), f"of {len(values['tables'])}", _tone(failing, stopped))
    found = [last, checks]
    if alerts is not None:
        count = _open(alerts).height
        found.append(Figure("Open alerts", number(count), "", "bad" if count else "good"))
    elif has_rows(lake, VERDICTS):
        found.append(Figure("Alerts", "none yet", "monitors are watching"))
    files = sum(values["waiting_files"].values())
    rejected = sum(row["quarantined"] or 0 for row in values["tables"])
    return [
        *found,
        Figure("Rows in quarantine", number(rejected), "broke a rule", "warn" if rejected else "good"),
        Figure("Files that wait", number(files), "for the next run", "warn" if files else "good"),
    ]


def _tone(failing: list[str], stopped: bool) -> Tone:  # noqa: FBT001
    return "bad" if stopped else "warn" if failing else "good"


def _expected(lake: Client) -> list[Block]:
    """What forecasts and classifiers say of the days around now."""
    figures, charts = [], []
    for one in forecasts(lake):
        found = in_short(lake, one)
        if found is None:
            figures.append(Figure(one.predictions.model.name, "no forecast yet", "see the page Forecasts", "warn"))
            continue
        figures.append(found[0])
        charts.append(found[1])
    for scores in classifiers(lake):
        if not has_rows(lake, scores.name) or scores.decision is None:
            continue
        time = pl.col(scores.time)
        rows = lake.table(scores.name).select((scores.time, scores.decision), what=_READ)
        until = rows.select(time.max()).collect().item()
        if until is None:
            continue
        recent = rows.filter(time > until - _PERIOD).group_by(pl.col(scores.decision).cast(pl.String)).len().collect()
        counts = dict(recent.sort("len").iter_rows())
        if counts:
            rare = next(iter(counts))
            label = f"{scores.predictions.model.name.rsplit('.', 1)[-1]}: decision {rare}"
            figures.append(Figure(label, number(counts[rare]), f"of {number(sum(counts.values()))} in the 7 days until {str(until)[:10]}"))
    return [Text("## What is expected"), Figures(tuple(figures)), *charts[:_CHARTS]] if figures else []


def _check(lake: Client, table: str, name: str) -> str:
    text = rule_texts(lake, table).get(name) or _CHECKS.get(name)
    return f"check {name}" if text is None or text == name else f"check {name}: {text}"


def _remedy(lake: Client, row: dict[str, Any]) -> str:
    if row["quarantined"]:
        return f"lakehouse quarantine show {row['table']}"
    is_model = any(model.name == row["table"] for model in lake.context.models)
    return f"lakehouse models show {row['table']}" if is_model else f"lakehouse show {row['table']}"


def _wrong(lake: Client, values: dict[str, Any], alerts: pl.DataFrame | None) -> list[Block]:
    rows = [
        {
            "what": row["table"],
            "why": "; ".join(_check(lake, row["table"], name) for name in row["failed_checks"]),
            "how bad": "stopped" if row["stopped_by"] else "warns",
            "what to do": _remedy(lake, row),
        }
        for row in values["tables"]
        if row["failed_checks"]
    ]
    rows += [
        {
            "what": file["feed"],
            "why": file["reason"] or file["path"],
            "how bad": "file refused",
            "what to do": "lakehouse files list --refused",
        }
        for file in values["refused_files"]
    ]
    if alerts is not None:
        rows += [
            {"what": one["key"], "why": one["text"], "how bad": one["severity"], "what to do": f"ask {one['owner'] or 'the owner'}"}
            for one in _open(alerts).to_dicts()
        ]
    if not rows:
        return [Note("Nothing is wrong: no check fails, no file was refused, and no alert is open.", "good")]
    return [Rows("What is wrong", pl.DataFrame(rows, infer_schema_length=None))]


def _to_do(values: dict[str, Any]) -> list[Block]:
    step = next_step(values)
    return [] if step is None else [Note(f"**To do:** `{step[0]}` {step[1]}.", "warn")]


def _done(lake: Client, alerts: pl.DataFrame | None) -> list[Block]:
    """What was decided and resolved, the newest first."""
    rows = []
    for model in lake.context.models:
        ledger = lake.table(model.name)
        if not ledger.exists():
            continue
        last = ledger.select(("decided_at", "version", "decision", "decided_by", "reasons"), what=_READ)
        for one in last.top_k(_DECISIONS, by="decided_at").collect().to_dicts():
            by, why = one["decided_by"] or "the gate", one["reasons"].split("\n")[0]
            rows.append(
                {"at": one["decided_at"], "what": model.name, "done": f"version {one['version']} {one['decision']} by {by}", "why": why}
            )
    if alerts is not None:
        resolved = alerts.filter(pl.col("event") == "resolved")
        rows += [{"at": one["at"], "what": one["key"], "done": "alert resolved", "why": one["text"]} for one in resolved.to_dicts()]
    if not rows:
        return []
    newest = sorted(rows, key=lambda row: row["at"], reverse=True)[:_DECISIONS]
    frame = pl.DataFrame([{**row, "at": f"{row['at']:%Y-%m-%d %H:%M}"} for row in newest]).rename({"at": "when (UTC)"})
    return [Rows(f"What was done last: {counted(len(newest), 'decision')}", frame)]


def _alerts(lake: Client) -> pl.DataFrame | None:
    """The log of alerts in its order; None if there is none."""
    if not lake.table(ALERTS).exists():
        return None
    columns = ("sequence", "key", "event", "alert_id", "at", "severity", "owner", "text")
    return lake.table(ALERTS).select(columns, what=_READ).sort("sequence").collect()


def _open(alerts: pl.DataFrame) -> pl.DataFrame:
    """The alerts that were opened and not resolved, as they were told last."""
    last = alerts.filter(pl.col("alert_id") != "").unique("alert_id", keep="last", maintain_order=True)
    return last.filter(pl.col("event").is_in(["opened", "repeated"]))


def _links(lake: Client) -> Text:
    settings = lake.settings
    at = f"http://{settings.host}"
    return Text(
        f"**More:** runs and checks in [Dagster]({at}:{settings.web_port}), trainings in [MLflow]({at}:{settings.mlflow_port}). "
        "Both answer while `lakehouse dev` runs."
    )

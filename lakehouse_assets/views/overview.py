"""The first page: what is expected next week, whether anything is wrong, what was done about it, and where to go on."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import polars as pl

from lakehouse_assets.client import Client
from lakehouse_assets.client.status import next_step
from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.check_names import FILES_CHECK, LEAKAGE_CHECK, NOT_NULL_CHECK
from lakehouse_assets.platform.registry.ledger import by_whom
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.wording import counted
from lakehouse_assets.views.accuracy import newest_accuracy
from lakehouse_assets.views.blocks import Block, Curves, Figure, Figures, Note, Page, Rows, Text, Tone, filled, number, short
from lakehouse_assets.views.declared_models import classifiers, forecasts, has_rows, predictions_of, rule_texts
from lakehouse_assets.views.forecasts import in_short, origins
from lakehouse_assets.views.health import SEVERITIES, ago
from lakehouse_assets.views.listed import PAGES
from lakehouse_assets.views.models import decisive

NAME: Final = "overview"
SENTENCE: Final = "What is expected, whether anything is wrong, and what was done about it."
ALERTS: Final = platform_tables.ALERTS
REQUESTS: Final = platform_tables.TRAINING_REQUESTS
_READ: Final = "page: overview"
_ENDED: Final[dict[str, tuple[str, Tone]]] = {
    "SUCCESS": ("succeeded", "good"),
    "FAILURE": ("failed", "bad"),
    "CANCELED": ("was interrupted", "warn"),
}
_CHECKS: Final = {
    NOT_NULL_CHECK: "values are missing",
    FILES_CHECK: "a file could not be read",
}
"""What checks are about that are no rules of a contract and whose own text does not say it."""
_REMEDIES: Final = {FILES_CHECK: "lakehouse files list --refused", LEAKAGE_CHECK: "lakehouse models show {}"}
"""Commands that show why checks fail that are not about rows."""
_TRAINED: Final = frozenset({"has_champion", "features_of_champion"})
"""Kinds of monitors that are content again after a training."""
_TRACED: Final = frozenset({"drift", "residual_drift", "accuracy"})
"""Kinds of monitors of which it is known where a failure comes from."""
_CAUSE: Final = 160
"""Characters of the cause of a failure; the files come first in it."""
_DECISIONS: Final = 8
_CHARTS: Final = 2
_PERIOD: Final = timedelta(days=7)
_OLD: Final = timedelta(days=7)


def page(lake: Client) -> Page:
    """The whole page."""
    values = lake.status()
    if not values["tables"]:
        return Page(NAME, PAGES[NAME], SENTENCE, [_empty(values), _links(lake)])
    alerts = _alerts(lake)
    blocks: list[Block] = [
        Figures(tuple(_state(lake, values, alerts))),
        *_expected(lake),
        *_wrong(lake, values),
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
    found = [last, checks, *_watched(lake, values)]
    if alerts is not None:
        count = len(values["open_alerts"])
        found.append(Figure("Open alerts", number(count), "", "bad" if count else "good"))
    files = sum(values["waiting_files"].values())
    rejected = sum(row["quarantined"] or 0 for row in values["tables"])
    return [
        *found,
        Figure("Rows in quarantine", number(rejected), "broke a rule", "warn" if rejected else "good"),
        Figure("Files that wait", number(files), "for the next run", "warn" if files else "good"),
    ]


def _watched(lake: Client, values: dict[str, Any]) -> list[Figure]:
    """How many monitors failed, where there are any that ever judged."""
    judged = [one for one in lake.monitors.list() if one["state"] is not None]
    if not judged:
        return []
    failed = len(values["failed_monitors"])
    passed = sum(one["state"] == "passed" for one in judged)
    return [Figure("Failed monitors", number(failed), f"{passed} passed", "warn" if failed else "good")]


def _tone(failing: list[str], stopped: bool) -> Tone:  # noqa: FBT001
    return "bad" if stopped else "warn" if failing else "good"


def _expected(lake: Client) -> list[Block]:
    """What forecasts and classifiers say of the days around now."""
    figures, charts, days = list[Figure](), list[Curves](), list[date]()
    for one in forecasts(lake):
        found = in_short(lake, one)
        if found is None:
            figures.append(Figure(one.predictions.model.name, "no forecast yet", "see the page Forecasts", "warn"))
            continue
        figures.append(found[0])
        charts.append(found[1])
        days += origins(lake, one)[:1]
    for scores in classifiers(lake):
        if not has_rows(lake, scores.name) or scores.decision is None:
            continue
        moment = pl.col(scores.time)
        rows = lake.table(scores.name).select((scores.time, scores.decision), what=_READ)
        until = rows.select(moment.max()).collect().item()
        if until is None:
            continue
        days.append(date.fromisoformat(str(until)[:10]))
        recent = rows.filter(moment > until - _PERIOD).group_by(scores.decided).len().collect()
        counts = dict(recent.sort("len").iter_rows())
        if counts:
            rare = next(iter(counts))
            label = f"{scores.predictions.model.name.rsplit('.', 1)[-1]}: decision {rare}"
            figures.append(Figure(label, number(counts[rare]), f"of {number(sum(counts.values()))} in the 7 days until {str(until)[:10]}"))
    figures += [known for model in lake.context.models if (known := newest_accuracy(lake, model.name)) is not None]
    return [Text("## What is expected"), *_age(days), Figures(tuple(figures)), *charts[:_CHARTS]] if figures else []


def _age(days: list[date]) -> list[Block]:
    """Of when the newest data is, if that is long ago: what is expected is of the days after it."""
    if not days or clock.now().date() - max(days) <= _OLD:
        return []
    old = ago(datetime.combine(max(days), time.min, UTC), clock.now())
    return [Note(f"The newest data is of {max(days)}, {old}: what follows is of that time. `lakehouse land` takes newer files.", "warn")]


def _check(lake: Client, table: str, name: str, said: str, more: str) -> str:
    """What a failed check is about, and what it said."""
    about = rule_texts(lake, table).get(name) or _CHECKS.get(name) or ""
    parts = [part for part in (about if about != name else "", short(said, more)) if part]
    return f"check {name}" + (f": {'. '.join(parts)}" if parts else "")


def _wrong(lake: Client, values: dict[str, Any]) -> list[Block]:
    """Every thing that is wrong once: failed checks, failed monitors, files, and the alerts that are about none of them."""
    alerts = {one["key"]: one for one in values["open_alerts"]}
    rows = [*_failed_checks(lake, values, alerts), *_failed_monitors(lake, values, alerts)]
    for file in values["refused_files"]:
        since = _since(alerts, f"files:{file['feed']}")
        why = short(file["reason"] or file["path"], "lakehouse files list --refused")
        rows.append(_row(file["feed"], why, "file refused", "lakehouse files list --refused", since))
    rows += [
        _row(
            one["key"],
            short(one["text"], shows),
            SEVERITIES.get(one["severity"], one["severity"]),
            shows,
            f"{one['opened_at']:%Y-%m-%d %H:%M}",
        )
        for one in alerts.values()
        if (shows := f"lakehouse alerts show {one['alert_id']}") and "told" not in one
    ]
    if not rows:
        return [Note("Nothing is wrong: no check or monitor fails, no file was refused, and no alert is open.", "good")]
    return [Rows("What is wrong", filled(pl.DataFrame(rows, infer_schema_length=None)))]


def _row(what: str, why: str, how_bad: str, to_do: str, since: str | None) -> dict[str, Any]:
    return {"what": what, "why": why, "how bad": how_bad, "what to do": to_do, "alert since (UTC)": since}


def _since(alerts: dict[str, dict[str, Any]], *keys: str) -> str | None:
    """Since when an alert of these keys, or of a part of them, is open; such alerts are then told."""
    about = [one for key, one in alerts.items() if any(key == wanted or key.startswith(f"{wanted}:") for wanted in keys)]
    for one in about:
        one["told"] = True
    return min((f"{one['opened_at']:%Y-%m-%d %H:%M}" for one in about), default=None)


def _failed_checks(lake: Client, values: dict[str, Any], alerts: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in values["tables"]:
        table = row["table"]
        for name in row["failed_checks"]:
            stops = name in row["stopped_by"]
            shows = "lakehouse quarantine show {}" if row["quarantined"] else "lakehouse show {}"
            remedy = _REMEDIES.get(name, shows).format(table)
            since = _since(alerts, f"check:{table}:{name}", *([f"quarantine:{table}"] if row["quarantined"] else []))
            yield _row(
                table,
                _check(lake, table, name, row["check_texts"].get(name, ""), remedy),
                "stopped" if stops else SEVERITIES["warn"],
                remedy,
                since,
            )


def _failed_monitors(lake: Client, values: dict[str, Any], alerts: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    models = {one.name: one.model.name for one in predictions_of(lake)}
    for one in values["failed_monitors"]:
        name, table = one["monitor"], one["table"]
        shows = f"lakehouse {'why' if one['kind'] in _TRACED else 'monitors show'} {name}"
        trains = one["kind"] in _TRAINED and table in models
        remedy = f"lakehouse train {models[table]}" if trains else shows
        how_bad = SEVERITIES.get(one["severity"], one["severity"]) + (", could not be evaluated" if one["state"] == "error" else "")
        likely = f" Most likely: {short(one['why'], shows, _CAUSE)}" if one.get("why") else ""
        why = f"monitor {name.removeprefix(f'{table}.')}: {short(one['text'] or '', shows)}{likely}"
        yield _row(table, why, how_bad, remedy, _since(alerts, f"monitor:{name}", f"evaluation:{name}"))


def _to_do(values: dict[str, Any]) -> list[Block]:
    step = next_step(values)
    return [] if step is None else [Note(f"**To do:** `{step[0]}` {step[1]}.", "warn")]


def _done(lake: Client, alerts: pl.DataFrame | None) -> list[Block]:
    """What was decided, asked for and resolved, the newest first."""
    rows = [*_decided(lake), *_asked(lake), *([] if alerts is None else _resolved(alerts))]
    if not rows:
        return []
    newest = sorted(rows, key=lambda row: row["at"], reverse=True)[:_DECISIONS]
    frame = pl.DataFrame([{**row, "at": f"{row['at']:%Y-%m-%d %H:%M}"} for row in newest]).rename({"at": "when (UTC)"})
    return [Rows("What was done last", frame)]


def _did(at: datetime, what: str, done: str, why: str) -> dict[str, Any]:
    return {"at": at, "what": what, "done": done, "why": why}


def _decided(lake: Client) -> Iterator[dict[str, Any]]:
    """The decisions about versions of models."""
    for model in lake.context.models:
        ledger = lake.table(model.name)
        if not ledger.exists():
            continue
        last = ledger.select(("decided_at", "version", "decision", "decided_by", "question", "reasons"), what=_READ)
        for one in last.top_k(_DECISIONS, by="decided_at").collect().to_dicts():
            done = f"version {one['version']} {one['decision']}, by {by_whom(one)}"
            yield _did(one["decided_at"], model.name, done, short(decisive(one["reasons"]), f"lakehouse models show {model.name}"))


def _asked(lake: Client) -> Iterator[dict[str, Any]]:
    """The trainings that were asked for because of a reason."""
    if not lake.table(REQUESTS).exists():
        return
    asked = lake.table(REQUESTS).select(("requested_at", "model", "reason"), what=_READ)
    for one in asked.top_k(_DECISIONS, by="requested_at").collect().to_dicts():
        yield _did(one["requested_at"], one["model"], "training asked for", short(one["reason"], "lakehouse models retraining"))


def _resolved(alerts: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """What is well again, once for each monitor, check or table, however many columns and slices it was: the newest with its text."""
    last = alerts.unique("key", keep="last", maintain_order=True).filter(pl.col("event") == "resolved")
    about = pl.col("key").str.split(":").list.head(2).list.join(":")
    for _, of_one in last.group_by(about, maintain_order=True):
        newest, count = of_one.row(-1, named=True), of_one.height
        done = "alert resolved" if count == 1 else f"{counted(count, 'alert')} resolved"
        yield _did(newest["at"], newest["key"], done, short(newest["text"], f"lakehouse alerts show {newest['alert_id']}"))


def _alerts(lake: Client) -> pl.DataFrame | None:
    """The log of alerts in its order; None if there is none."""
    if not lake.table(ALERTS).exists():
        return None
    columns = ("sequence", "key", "event", "alert_id", "at", "severity", "owner", "text")
    return lake.table(ALERTS).select(columns, what=_READ).sort("sequence").collect()


def _links(lake: Client) -> Text:
    settings = lake.settings
    at = f"http://{settings.host}"
    return Text(
        f"**More:** runs and checks in [Dagster]({at}:{settings.web_port}), trainings in [MLflow]({at}:{settings.mlflow_port}). "
        "Both answer while `lakehouse dev` runs."
    )

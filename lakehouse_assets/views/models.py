"""The page of models: who is champion, who decided what when and why, how good it is in each part of the rows, and its card."""

from typing import Any, Final

import polars as pl

from lakehouse_assets.client import Client
from lakehouse_assets.platform.modelling.gate.verdict import Decision
from lakehouse_assets.platform.registry.ledger import by_whom
from lakehouse_assets.platform.wording import counted
from lakehouse_assets.views.accuracy import live
from lakehouse_assets.views.blocks import Bars, Block, Figure, Figures, Note, Page, Rows, Text, rounded, short
from lakehouse_assets.views.listed import PAGES

NAME: Final = "models"
SENTENCE: Final = "Which version of each model is in use, who decided that and why, and how good it is in each part of the rows."
_READ: Final = "page: models"
_SLICES: Final = 15
_SENTENCE: Final = 600


def page(lake: Client) -> Page:
    """Every model."""
    blocks: list[Block] = [*champions(lake)]
    for name in names(lake):
        blocks += one_model(lake, name)
    return Page(NAME, PAGES[NAME], SENTENCE, blocks)


def names(lake: Client) -> list[str]:
    """The declared models."""
    return [model.name for model in lake.context.models]


def champions(lake: Client) -> list[Block]:
    """All models in short."""
    if not lake.context.models:
        return [
            Note("No product declares a model yet. `forecast(...)`, `classifier(...)` or `model(...)` declares one: see docs/models.md.")
        ]
    rows = []
    for one in lake.champions():
        last = one["last_decision"] or {}
        rows.append(
            {
                "model": one["model"],
                "champion": "none" if one["champion"] is None else f"version {one['champion']}",
                "it is": {None: "", "model": "the trained model"}.get(one["candidate"], f"the baseline {one['candidate']}"),
                "last decision": f"version {last['version']} {last['decision']}" if last else "never trained",
                "on": f"{last['decided_at']:%Y-%m-%d %H:%M}" if last else "",
            }
        )
    untrained = [row["model"] for row in rows if row["last decision"] == "never trained"]
    hint = [Note(f"Never trained: {', '.join(untrained)}. Run `lakehouse train`.", "warn")] if untrained else []
    return [Rows("Champions", pl.DataFrame(rows)), *hint]


def decisions(lake: Client, name: str) -> list[dict[str, Any]]:
    """The rows of a ledger, the newest first."""
    ledger = lake.table(name)
    return ledger.select(what=_READ).sort("sequence", descending=True).collect().to_dicts() if ledger.exists() else []


def one_model(lake: Client, name: str) -> list[Block]:
    """One model: its champion, the comparison that made it one, slices, ledger and card."""
    declared = lake.context.model(name)
    made = decisions(lake, name)
    heading = Text(f"## {name}\n\n{declared.description}")
    if not made:
        return [heading, Note(f"**{name}** was never trained. Run `lakehouse train {name}`.", "warn")]
    champion = made[0]["champion"]
    judged = [one for one in made if one["numbers"]]
    # By what the champion was made one, and what was compared last: often about another version.
    about = {one["version"]: one for one in (*judged[:1], *(one for one in judged if one["version"] == champion))}
    return [
        heading,
        Figures(tuple(_figures(made, judged, declared.owner))),
        *(block for one in about.values() for block in _evaluation(one, champion)),
        *live(lake, name),
        Rows("Ledger: who decided what, when and why", _ledger(made)),
        *_card(lake, name, champion or made[0]["version"]),
    ]


def _figures(made: list[dict[str, Any]], judged: list[dict[str, Any]], owner: str) -> list[Figure]:
    last = made[0]
    champion = last["champion"]
    since = next((one["decided_at"] for one in made if one["champion"] == champion and one["champion_before"] != champion), None)
    found = [
        Figure(
            "Champion",
            "none" if champion is None else f"version {champion}",
            f"since {since:%Y-%m-%d %H:%M} UTC" if since and champion else "nothing is predicted",
            "warn" if champion is None else "good",
        ),
        *_score(made, judged, champion),
    ]
    decided = f"version {last['version']} {last['decision']}"
    return [*found, Figure("Newest decision", decided, f"by {by_whom(last)}, {last['decided_at']:%Y-%m-%d}"), Figure("Owner", owner)]


def _score(made: list[dict[str, Any]], judged: list[dict[str, Any]], champion: int | None) -> list[Figure]:
    """How good the champion was when it was compared: as the one that was judged, or, of a baseline, as the one that was compared with."""
    own = next((one for one in judged if one["version"] == champion), None)
    compared = None if own is None else Decision.from_json(own["numbers"]).decisive
    if compared is not None:
        than = f"{compared.opponent}: {compared.opponent_score:.4g}, in {counted(compared.folds, 'test')}"
        return [Figure(f"{compared.metric} of the champion", f"{compared.score:.4g}", than)]
    candidate = next((one["candidate"] for one in made if one["version"] == champion), None)
    for one in judged:
        for against in Decision.from_json(one["numbers"]).comparisons:
            if candidate is not None and against.opponent == candidate:
                versus = f"{candidate}, against version {one['version']}: {against.score:.4g}, in {counted(against.folds, 'test')}"
                return [Figure(f"{against.metric} of the champion", f"{against.opponent_score:.4g}", versus)]
    return []


def _evaluation(judged: dict[str, Any], champion: int | None) -> list[Block]:
    """What the gate compared of one version: with whom, and in which parts of the rows."""
    compared, version = Decision.from_json(judged["numbers"]), f"Version {judged['version']}"
    is_champion = ", the champion" if judged["version"] == champion else ""
    decided = f"### {version}{is_champion}: {judged['decision']} on {judged['decided_at']:%Y-%m-%d %H:%M} UTC"
    rows = [
        {
            "against": one.opponent,
            "metric": one.metric,
            f"version {judged['version']}": rounded(one.score),
            "the other": rounded(one.opponent_score),
            "lower loss (%)": round(100 * one.gain, 1),
            "better in": f"{one.better} of {one.folds} tests",
            "passed": "yes" if one.passed else "no",
        }
        for one in compared.comparisons
    ]
    none = "It was not compared: there was too little history."
    blocks: list[Block] = [
        Text(f"{decided}\n\n{short(decisive(judged['reasons']), most=_SENTENCE)}"),
        Rows(f"{version} compared on the same unseen rows", pl.DataFrame(rows, infer_schema_length=None), none),
    ]
    slices = sorted(compared.slices, key=lambda one: -one.rows)[:_SLICES]
    if slices:
        bars = [
            {"name": f"{one.slice}: {one.value}", "value": 100 * one.gain, "part": "better" if one.gain >= 0 else "worse"} for one in slices
        ]
        unit = f"lower loss than {slices[0].opponent} (%; below 0: higher)"
        names = "part of the rows, the largest first"
        blocks.append(
            Bars(f"Evaluation of version {judged['version']} by slice", pl.DataFrame(bars), unit, names, {"better": "good", "worse": "bad"})
        )
    blocks += [Note(f"**{one.name}**: {one.meaning}", "plain" if one.passed else "warn") for one in compared.leaks if one.meaning]
    if compared.guards:
        guards = [
            {
                "guard": one.name,
                "value": None if one.value is None else rounded(one.value),
                "limits": one.limits,
                "passed": "yes" if one.passed else "no",
            }
            for one in compared.guards
        ]
        blocks.append(Rows(f"Guards of version {judged['version']}", pl.DataFrame(guards, infer_schema_length=None)))
    return blocks


def decisive(reasons: str) -> str:
    """Of the reasons of a decision the lines that decide: what refused it, or as what it passed; else the first one."""
    lines = [line for line in reasons.split("\n") if line]
    refused = [line for line in lines if line.startswith("Refused:")]
    passed = [line for line in lines if line.startswith("Passed")]
    return " ".join(refused or passed or lines[:1])


def _ledger(made: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "when (UTC)": f"{one['decided_at']:%Y-%m-%d %H:%M}",
                "version": one["version"],
                "decision": one["decision"],
                "by": by_whom(one),
                "champion since then": "none" if one["champion"] is None else f"version {one['champion']}",
                "reasons": short(decisive(one["reasons"]), f"lakehouse models show {one['model_name']}", _SENTENCE),
            }
            for one in made
        ]
    )


def _card(lake: Client, name: str, version: int) -> list[Block]:
    card = lake.models.card(name, version)
    if not card:
        return [Note("MLflow has no card of this version.")]
    return [Text(f"### Model card of version {version}\n\n{card.replace('&nbsp;', '')}")]

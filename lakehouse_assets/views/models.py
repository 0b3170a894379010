"""The page of models: who is champion, who decided what when and why, how good it is in each part of the rows, and its card."""

from typing import Any, Final

import polars as pl

from lakehouse_assets.client import Client
from lakehouse_assets.platform.modelling.gate.verdict import Decision
from lakehouse_assets.platform.wording import counted
from lakehouse_assets.views.blocks import Bars, Block, Figure, Figures, Note, Page, Rows, Text
from lakehouse_assets.views.listed import PAGES

NAME: Final = "models"
SENTENCE: Final = "Which version of each model is in use, who decided that and why, and how good it is in each part of the rows."
_READ: Final = "page: models"
_SLICES: Final = 15
_GATE: Final = "the gate"


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
    # By what the champion was made one; without that, what was compared last.
    chosen = next((one for one in judged if one["version"] == champion), judged[0] if judged else None)
    compared = None if chosen is None else Decision.from_json(chosen["numbers"])
    return [
        heading,
        Figures(tuple(_figures(made, compared, declared.owner))),
        *([] if compared is None else _evaluation(compared)),
        Rows("Ledger: who decided what, when and why", _ledger(made)),
        *_card(lake, name, champion or made[0]["version"]),
    ]


def _figures(made: list[dict[str, Any]], compared: Decision | None, owner: str) -> list[Figure]:
    last = made[0]
    champion = last["champion"]
    since = next((one["decided_at"] for one in made if one["champion"] == champion and one["champion_before"] != champion), None)
    found = [
        Figure(
            "Champion",
            "none" if champion is None else f"version {champion}",
            f"since {since:%Y-%m-%d %H:%M} UTC" if since and champion else "nothing is predicted",
            "warn" if champion is None else "good",
        )
    ]
    if compared is not None and compared.comparisons:
        first = compared.comparisons[0]
        than = f"{first.opponent}: {first.opponent_score:.4g}, in {counted(first.folds, 'test')}"
        found.append(Figure(first.metric, f"{first.score:.4g}", than))
    by = last["decided_by"] or _GATE
    return [*found, Figure("Last decision", last["decision"], f"by {by}, {last['decided_at']:%Y-%m-%d}"), Figure("Owner", owner)]


def _evaluation(compared: Decision) -> list[Block]:
    """What the gate compared: with whom, and in which parts of the rows."""
    rows = [
        {
            "against": one.opponent,
            "metric": one.metric,
            "this model": _rounded(one.score),
            "the other": _rounded(one.opponent_score),
            "lower loss (%)": round(100 * one.gain, 1),
            "better in": f"{one.better} of {one.folds} tests",
            "passed": "yes" if one.passed else "no",
        }
        for one in compared.comparisons
    ]
    none = "It was not compared: there was too little history."
    blocks: list[Block] = [Rows("Compared on the same unseen rows", pl.DataFrame(rows, infer_schema_length=None), none)]
    slices = sorted(compared.slices, key=lambda one: -one.rows)[:_SLICES]
    if slices:
        bars = [
            {"name": f"{one.slice}: {one.value}", "value": 100 * one.gain, "part": "better" if one.gain >= 0 else "worse"} for one in slices
        ]
        unit = f"lower loss than {slices[0].opponent} (%; below 0: higher)"
        names = "part of the rows, the largest first"
        blocks.append(Bars("Evaluation by slice", pl.DataFrame(bars), unit, names, {"better": "good", "worse": "bad"}))
    if compared.guards:
        guards = [
            {
                "guard": one.name,
                "value": None if one.value is None else _rounded(one.value),
                "limits": one.limits,
                "passed": "yes" if one.passed else "no",
            }
            for one in compared.guards
        ]
        blocks.append(Rows("Guards", pl.DataFrame(guards, infer_schema_length=None)))
    return blocks


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _ledger(made: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "when (UTC)": f"{one['decided_at']:%Y-%m-%d %H:%M}",
                "version": one["version"],
                "decision": one["decision"],
                "by": one["decided_by"] or (_GATE if one["question"] else "a person"),
                "champion since then": "none" if one["champion"] is None else f"version {one['champion']}",
                "reasons": " ".join(one["reasons"].split("\n")),
            }
            for one in made
        ]
    )


def _card(lake: Client, name: str, version: int) -> list[Block]:
    card = lake.models.card(name, version)
    if not card:
        return [Note("MLflow has no card of this version.")]
    return [Text(f"### Model card of version {version}\n\n{card.replace('&nbsp;', '')}")]

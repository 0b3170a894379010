"""The page of a review queue: the newest rows that a classifier has scored, with what is to be done, what is at stake, and why."""

import re
from datetime import timedelta
from typing import Final

import polars as pl

from lakehouse_assets.client import Client
from lakehouse_assets.platform.declarations.models import MODEL_VERSION
from lakehouse_assets.platform.modelling.targets import PROBABILITY
from lakehouse_assets.platform.wording import counted
from lakehouse_assets.views.blocks import Bars, Block, Figure, Figures, Note, Page, Rows, filled, number
from lakehouse_assets.views.declared_models import REASONS, Scores, classifiers, has_rows
from lakehouse_assets.views.listed import PAGES

NAME: Final = "review"
SENTENCE: Final = "The newest rows that a model has scored: what is to be done about each, how likely it is, and why."
ANY: Final = "all"
NEWEST, LIKELIEST = "newest first", "likeliest first"
_READ: Final = "page: review"
MOST: Final = 500
_REPORTED: Final = 20
_PERIOD: Final = timedelta(days=7)
_STEPS: Final = 10
_LARGE: Final = re.compile(r"(?<=: )\d{4,}(?=(\.\d+)?(;|$))")


def page(lake: Client) -> Page:
    """The newest rows of every classifier."""
    blocks: list[Block] = []
    for one in classifiers(lake):
        blocks += queue(lake, one, most_urgent(lake, one), most=_REPORTED)
    return Page(NAME, PAGES[NAME], SENTENCE, blocks or [nothing()])


def nothing() -> Note:
    """What to say where no classifier is declared."""
    return Note("No product declares a classifier yet. `classifier(...)` in a module of a product declares one: see docs/models.md.")


def decisions(lake: Client, one: Scores) -> list[str]:
    """The decisions that rows have, after all of them together."""
    if one.decision is None or not has_rows(lake, one.name):
        return [ANY]
    found = lake.table(one.name).select((one.decision,), what=_READ).select(one.decided).unique().collect().to_series().drop_nulls()
    return [ANY, *found.sort().to_list()]


def most_urgent(lake: Client, one: Scores) -> str:
    """The decision whose rows are the likeliest, which is what is looked at first; without decisions, all."""
    if one.decision is None or not has_rows(lake, one.name):
        return ANY
    rows = lake.table(one.name).select((one.decision, PROBABILITY), what=_READ).drop_nulls()
    means = rows.group_by(one.decided).agg(pl.col(PROBABILITY).mean()).collect().sort(PROBABILITY)
    return str(means[one.decision][-1]) if means.height else ANY


def orders(one: Scores) -> list[str]:
    """How rows can be ordered: by time, by probability, or by what is expected to be lost, which is a probability times a number."""
    return [NEWEST, LIKELIEST, *(_at_stake(weight) for weight in one.weights)]


def queue(  # noqa: PLR0917 a page passes what its widgets say
    lake: Client, one: Scores, decision: str = ANY, at_least: float = 0.0, order: str = NEWEST, most: int = MOST, *, settled: bool = False
) -> list[Block]:
    """The queue of one classifier.

    Args:
        lake: Where it is stored.
        one: The classifier.
        decision: One of `decisions`.
        at_least: The least probability, from 0 to 1.
        order: One of `orders`.
        most: So many rows at most.
        settled: Also rows whose outcome is known already.
    """
    if not has_rows(lake, one.name):
        return [_not_scored(lake, one)]
    table = lake.table(one.name)
    newest = _champion(lake, one)
    scored = table.select(what=_READ) if newest is None else table.select(what=_READ).filter(pl.col(MODEL_VERSION) == newest)
    waiting = scored if settled else _waiting(lake, one, scored)
    left_out = 0 if settled else scored.select(pl.len()).collect().item() - waiting.select(pl.len()).collect().item()
    chosen = waiting.filter(pl.col(PROBABILITY) >= at_least)
    if decision != ANY and one.decision is not None:
        chosen = chosen.filter(one.decided == decision)
    weight = next((name for name in one.weights if _at_stake(name) == order), None)
    if weight is not None:
        chosen = chosen.with_columns((pl.col(PROBABILITY) * pl.col(weight)).alias(order))
    by = {NEWEST: one.time, LIKELIEST: PROBABILITY}.get(order, order)
    count = chosen.select(pl.len()).collect().item()
    rows = chosen.top_k(most, by=by).sort(by, descending=True, nulls_last=True).collect()
    shown = rows.select(
        *(one.decided if name == one.decision else _readable(name, rows.schema[name]) for name in one.columns if name != REASONS),
        *([pl.col(order).round(2)] if weight is not None else []),
        *([pl.col(REASONS).map_elements(_with_commas, pl.String)] if REASONS in rows.schema and rows.schema[REASONS] == pl.String else []),
    )
    known = (
        [Note(f"{counted(left_out, 'row')} whose outcome is known already {'is' if left_out == 1 else 'are'} left out.")]
        if left_out
        else []
    )
    heading = counted(count, "row") + (f", the first {most} of them" if count > most else "")
    return [
        Figures(tuple(_figures(one, scored))),
        *_only_one(chosen),
        *known,
        Rows(
            f"{_title(one)}: {heading}, {order}", filled(shown), "No row meets the filter: lower the probability, or choose all decisions."
        ),
        Bars("How likely the chosen rows are", _histogram(chosen), "rows", f"{PROBABILITY} (%)"),
    ]


def _waiting(lake: Client, one: Scores, scored: pl.LazyFrame) -> pl.LazyFrame:
    """The rows whose outcome is not known yet."""
    labels = one.labels
    schema = one.predictions.schema
    if labels is None or not has_rows(lake, labels.table) or not set(labels.entity) <= set(schema):
        return scored
    told, waiting = lake.table(labels.table).select(what=_READ), scored
    if labels.known_at is not None:
        known = told.filter(pl.col(labels.target).is_not_null()).select(labels.entity).unique()
        waiting = waiting.join(known, on=list(labels.entity), how="anti")
    if labels.settled is not None and labels.at in schema:
        # After so long a row counts as what it is then.
        newest = told.select(pl.col(labels.at).max()).collect().item()
        waiting = waiting.filter(pl.col(labels.at) > newest - labels.settled)
    return waiting


def _only_one(chosen: pl.LazyFrame) -> list[Block]:
    """What to say where all chosen rows have one probability: then it tells none from another."""
    of = (pl.len(), pl.col(PROBABILITY).n_unique().alias("different"), pl.col(PROBABILITY).first())
    rows, different, first = chosen.select(of).collect().row(0)
    if rows < 2 or different > 1 or first is None:
        return []
    text = f"All {number(rows)} chosen rows have the same probability, {first:.1%}, as a baseline may give it"
    return [Note(f"{text}: no row is more urgent than another. The page Models says who is champion.", "warn")]


def _title(one: Scores) -> str:
    return one.predictions.model.name


def _at_stake(weight: str) -> str:
    return f"{PROBABILITY} * {weight}"


def _champion(lake: Client, one: Scores) -> int | None:
    """The version whose scores count: that of the rows that were scored last."""
    rows = lake.table(one.name).select((MODEL_VERSION, "scored_at"), what=_READ)
    found: int | None = rows.select(pl.col(MODEL_VERSION).sort_by("scored_at").last()).collect().item()
    return found


def _figures(one: Scores, scored: pl.LazyFrame) -> list[Figure]:
    time = pl.col(one.time)
    until = scored.select(time.max()).collect().item()
    if until is None:
        return [Figure("Rows", "0")]
    recent = scored.filter(time > until - _PERIOD)
    of = [pl.len().alias("rows"), pl.col(PROBABILITY).sum().alias("expected")]
    counts = recent.select(of).collect().row(0, named=True)
    last = str(until)[:16]
    found = [
        Figure("Rows scored in the last 7 days", number(counts["rows"]), f"until {last}"),
        Figure(f"Expected: {one.target}", number(counts["expected"], 1), f"of these rows, by the sum of their {PROBABILITY}"),
    ]
    if one.decision is not None:
        by = recent.group_by(one.decided).len().sort("len").collect()
        found += [Figure(f"Decision: {name}", number(rows), f"{rows / counts['rows']:.1%} of them") for name, rows in by.iter_rows()]
    return found


def _readable(name: str, kind: pl.DataType) -> pl.Expr:
    if name == PROBABILITY:
        return (pl.col(name) * 100).round(1).alias(f"{name} (%)")
    if isinstance(kind, pl.Datetime):
        return pl.col(name).dt.strftime("%Y-%m-%d %H:%M")
    return pl.col(name).round(2) if kind.is_float() else pl.col(name)


def _with_commas(reasons: str) -> str:
    """The numbers of reasons as columns show theirs."""
    return _LARGE.sub(lambda found: f"{int(found[0]):,}", reasons)


def _histogram(rows: pl.LazyFrame) -> pl.DataFrame:
    step = (pl.col(PROBABILITY) * _STEPS).floor().clip(0, _STEPS - 1).cast(pl.Int64)
    counts = rows.group_by(step.alias("step")).agg(pl.len().cast(pl.Int64).alias("value"))
    steps = pl.LazyFrame({"step": range(_STEPS)}, schema={"step": pl.Int64})
    width = 100 // _STEPS
    name = pl.concat_str(pl.col("step") * width, pl.lit(" to "), (pl.col("step") + 1) * width)
    full = steps.join(counts, on="step", how="left").sort("step", descending=True)
    return full.select(name.alias("name"), pl.col("value").fill_null(0), pl.lit("rows").alias("part")).collect()


def _not_scored(lake: Client, one: Scores) -> Note:
    model = one.predictions.model.name
    if not has_rows(lake, one.predictions.features):
        return Note(f"**{one.name}** has nothing to score yet. Land the files of its sources, then run `lakehouse run`.", "warn")
    if not lake.table(model).exists():
        return Note(f"**{one.name}** is empty: its model was never trained. Run `lakehouse train {model}`.", "warn")
    return Note(f"**{one.name}** is empty. Run `lakehouse run {one.name}`; the page Models says who is champion.", "warn")

"""The gate: whether a challenger becomes champion, by losses on the same unseen folds, guards and the rule of the model.

A pure function of numbers. Two questions are kept apart: a refresh has to be no worse than the champion, a change has to be better. What is
decided is kept by `registry`, which moves the aliases.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import polars as pl

from lakehouse_assets.platform.declarations.gates import Gate
from lakehouse_assets.platform.modelling.gate.comparison import Comparison, Kind, Test, compare
from lakehouse_assets.platform.modelling.gate.guards import Guard, within
from lakehouse_assets.platform.modelling.gate.losses import Losses
from lakehouse_assets.platform.modelling.gate.newest import NewestWindow
from lakehouse_assets.platform.modelling.gate.slices import SliceComparison, compare_slices
from lakehouse_assets.platform.modelling.gate.verdict import Decision, Question, Verdict
from lakehouse_assets.platform.wording import counted, listed

_MOST_SLICES = 3
_BY_HAND = "A person can decide instead: `lakehouse models promote MODEL VERSION --reason TEXT`."


@dataclass(frozen=True, kw_only=True)
class _Evidence:
    """Everything that was compared and measured, before a verdict."""

    question: Question
    comparisons: tuple[Comparison, ...]
    slices: tuple[SliceComparison, ...]
    guards: tuple[Guard, ...]
    unscored: tuple[str, ...]
    untested_newest: bool


def decide(
    losses: pl.DataFrame,
    rule: Gate,
    *,
    challenger: str,
    champion: str | None = None,
    beside_champion: str | None = None,
    baselines: Sequence[str] = (),
    one_line_rules: Sequence[str] = (),
    same_recipe: bool = False,
    metric: str = "loss",
    measured: dict[str, float] | None = None,
    guards: Sequence[Guard] = (),
    newest: NewestWindow | None = None,
) -> Decision:
    """Decide whether the challenger becomes champion.

    - **first**: there is no champion, or it is a baseline. The challenger has to be better than every baseline and every one-line rule.
    - **change**: other features, learner, parameters or code. It has to be better than the champion as well.
    - **refresh**: the same recipe on newer data. It has to be no worse than the champion by more than `rule.margin`, better than every
      baseline on average, and sound on the newest rows.

    Each comparison is a test at `rule.error_rate`. All of them have to pass, as do all slices and guards.

    Args:
        losses: Columns `fold`, `slice`, `value`, `candidate`, `score`, `loss` and `rows`; `slice` and `value` are null for all rows of a
            fold. A loss is at least 0, lower is better; null or NaN: the fold does not allow one.
        rule: Of the model.
        challenger: Name of the candidate that is judged.
        champion: Name of the champion among the candidates; None: there is none. It may be one of the baselines. Without losses it is not
            compared, and the answer is "not enough history" at best.
        beside_champion: Name of the candidate with the challenger's losses on the rows that the champion has losses for; None: those that
            it is compared with all others by.
        baselines: Names of the baselines.
        one_line_rules: Names of the best one-line rules.
        same_recipe: Whether the challenger has the champion's features, learner, parameters and code.
        metric: As people call the score.
        measured: Values for the guards of the rule.
        guards: More guards, with their limits, as that of a leakage report.
        newest: What is known of the newest rows.

    Raises:
        ValueError: The frame is not as described.
    """
    known: dict[str, Kind] = {**dict.fromkeys(baselines, "baseline"), **dict.fromkeys(one_line_rules, "one-line rule")}
    question = question_of(champion, known, same_recipe=same_recipe)
    if rule.mode == "off":
        return without_a_test(question)
    table = Losses.of(losses)

    def mine(other: str) -> str:
        return beside_champion if other == champion and question != "first" and beside_champion is not None else challenger

    pairs: list[tuple[str, Kind, Test]] = [
        (name, kind, "on average" if question == "refresh" else "superiority") for name, kind in known.items()
    ]
    if question != "first" and champion is not None:
        pairs.insert(0, (champion, "champion", "non-inferiority" if question == "refresh" else "superiority"))
    comparisons = tuple(
        compare(
            table.overall(mine(name)),
            table.overall(name),
            kind=kind,
            name=name,
            metric=metric,
            test=test,
            error_rate=rule.error_rate,
            needed=rule.folds,
            margin=rule.margin if test == "non-inferiority" else 0.0,
            least_gain=rule.least_gain if test == "superiority" else 0.0,
        )
        for name, kind, test in pairs
    )
    replaced = _replaced(comparisons)
    evidence = _Evidence(
        question=question,
        comparisons=comparisons,
        slices=()
        if replaced is None
        else compare_slices(
            table.slices(mine(replaced.opponent)),
            table.slices(replaced.opponent),
            name=replaced.name,
            margins=rule.slices,
            worst=rule.worst_slice,
            error_rate=rule.error_rate,
            needed=rule.folds,
        ),
        guards=(
            *within(rule.guards, measured or {}),
            *guards,
            *(newest.guards(rule.newest) if newest is not None and rule.newest is not None else ()),
        ),
        unscored=tuple(
            sorted(
                {
                    fold
                    for one in comparisons
                    for fold in one.missing
                    if fold not in table.scored(mine(one.opponent)) and fold in table.scored(one.opponent)
                }
            )
        ),
        untested_newest=question == "refresh" and rule.newest is not None and newest is None,
    )
    return _in_mode(_judge(evidence, rule), rule)


def question_of(champion: str | None, baselines: Collection[str], *, same_recipe: bool) -> Question:
    """What is asked of a challenger: see `decide`."""
    if champion is None or champion in baselines:
        return "first"
    return "refresh" if same_recipe else "change"


def without_a_test(question: Question) -> Decision:
    """The decision of a gate that is off."""
    return Decision(promote=True, question=question, verdict="promoted", reasons=("The gate is off: it becomes champion without a test.",))


def _replaced(comparisons: Sequence[Comparison]) -> Comparison | None:
    """What the challenger would take the place of: the champion, or else the best of what it is compared with."""
    champion = next((one for one in comparisons if one.kind == "champion"), None)
    best = min((one for one in comparisons if one.folds), key=lambda one: one.opponent_loss, default=None)
    return champion if champion is not None and champion.folds else best


def _judge(found: _Evidence, rule: Gate) -> Decision:
    """The verdict: everything has to pass, and what cannot be tested yet is told apart from what failed."""
    refusals = [*_refusals_by_losses(found), *_refusals_by_slices(found), *(str(guard) for guard in found.guards if not guard.passed)]
    if found.untested_newest:
        refusals.append("It was not tried on the newest rows, and a refresh has to be: its backtests end before them.")
    short = [one for one in found.comparisons if not one.enough]
    sentences = [str(one) for one in found.comparisons]
    if refusals:
        verdict: Verdict = "refused"
        sentences += [f"Refused: {text}" for text in refusals]
    elif short:
        verdict = "not enough history"
        sentences += [
            f"Not enough history to replace {one.name}: {counted(one.folds, 'shared fold')}, and {rule.folds} are needed." for one in short
        ]
        sentences.append(_BY_HAND)
    else:
        verdict = "promoted"
        sentences.append(_accepted(found, rule))
    return Decision(
        promote=verdict == "promoted",
        question=found.question,
        verdict=verdict,
        reasons=tuple(sentences),
        comparisons=found.comparisons,
        slices=found.slices,
        guards=found.guards,
    )


def _refusals_by_losses(found: _Evidence) -> list[str]:
    if not found.comparisons:
        return [f"there is nothing to compare it with, not even a baseline. {_BY_HAND}"]
    refusals = [_refusal(one) for one in found.comparisons if one.enough and not one.passed]
    if found.unscored:
        refusals.append(f"it has no loss in {counted(len(found.unscored), 'fold')} where others have one: {listed(found.unscored, 3)}.")
    return refusals


def _refusal(one: Comparison) -> str:
    # A test by fold may pass where one large loss makes the mean worse: then the mean decides, and the sentence says so.
    means = f"the mean loss decides, {one.loss:.4g} against {one.opponent_loss:.4g}"
    if one.test == "non-inferiority":
        may = f"it may be worse than {one.name} by more than {one.margin:.0%}: the same recipe on newer data has to be no worse than that."
        by_fold = f"by fold it is no worse than {one.name}, but {means}, and {one.margin:.0%} more is allowed."
        return by_fold if one.chance <= one.error_rate else may
    if one.test == "on average":
        return f"its recipe is no better than {one.name} any more" + (f": by fold it is, but {means}." if one.gain > 0 else ".")
    return _not_better(one, means)


def _not_better(one: Comparison, means: str) -> str:
    if one.equal:
        return f"it has the same losses as {one.name}, so it adds nothing to it."
    if one.chance <= one.error_rate and one.gain >= 0:
        if one.loss >= one.opponent_loss:
            return f"by fold it is better than {one.name}, but {means}."
        return f"it is better than {one.name} by {one.gain:.1%}, and less than {one.least_gain:.0%} is not worth another model."
    if one.kind == "one-line rule":
        return f"it is no better than {one.name} beyond chance: the rule does as well and needs no model."
    return f"it is not better than {one.name} beyond chance." if one.gain > 0 else f"it is not better than {one.name}."


def _refusals_by_slices(found: _Evidence) -> list[str]:
    failed = [one for one in found.slices if not one.passed]
    count = len(failed) - _MOST_SLICES
    more = f"and {counted(count, 'more slice')} {'is' if count == 1 else 'are'} worse than allowed."
    return [*(str(one) for one in failed[:_MOST_SLICES]), *([more] if count > 0 else [])]


def _accepted(found: _Evidence, rule: Gate) -> str:
    if found.question == "refresh":
        equal = next((one.equal for one in found.comparisons if one.kind == "champion"), False)
        how = "the same losses" if equal else f"no more than {rule.margin:.0%} worse at an error rate of {rule.error_rate:.0%}"
        newest = "" if rule.newest is None else ", and sound on the newest rows"
        return f"Passed as a refresh (the same recipe, newer data): {how}{newest}."
    if found.question == "change":
        return f"Passed as a change: better than champion, baselines and one-line rules at an error rate of {rule.error_rate:.0%}."
    return f"Passed as the first model: better than every baseline and one-line rule at an error rate of {rule.error_rate:.0%}."


def _in_mode(decision: Decision, rule: Gate) -> Decision:
    """The same decision where only a dry run, or an approval, stands between it and the aliases."""
    if rule.mode == "dry run":
        told = "it would become champion" if decision.promote else "it would not become champion"
        verdict: Verdict = "would be promoted" if decision.promote else decision.verdict
        return replace(decision, promote=False, verdict=verdict, reasons=(*decision.reasons, f"A dry run: {told}; nothing is changed."))
    if decision.promote and rule.approval:
        waits = "It waits for the approval of a person: `lakehouse models approve MODEL VERSION --by NAME`."
        return replace(decision, promote=False, verdict="awaits approval", reasons=(*decision.reasons, waits))
    return decision

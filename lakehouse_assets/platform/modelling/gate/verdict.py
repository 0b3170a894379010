"""What a gate decided: for people in sentences and a table, for the ledger as JSON.

How it is decided is in `decision`.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lakehouse_assets.platform.declarations.gates import LEAKAGE
from lakehouse_assets.platform.modelling.gate.comparison import Comparison
from lakehouse_assets.platform.modelling.gate.guards import Guard
from lakehouse_assets.platform.modelling.gate.slices import SliceComparison

Question = Literal["first", "change", "refresh"]
Verdict = Literal["promoted", "refused", "not enough history", "awaits approval", "would be promoted"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a challenger becomes champion, and why.

    Attributes:
        promote: Whether the aliases move now.
        question: `first`: it replaces nothing, or a baseline. `change`: another recipe than the champion's. `refresh`: the same recipe.
        verdict: What came out. With `awaits approval` and `would be promoted` (a dry run) it passed, and the aliases do not move.
        reasons: Sentences, with numbers.
        comparisons: With the champion first, then with every baseline and one-line rule.
        slices: With what it would replace, by slice, worst first.
        guards: Values and their limits.
    """

    promote: bool
    question: Question
    verdict: Verdict
    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...] = ()
    slices: tuple[SliceComparison, ...] = ()
    guards: tuple[Guard, ...] = ()

    @property
    def worst_slice(self) -> SliceComparison | None:
        """The slice with the largest loss against what the challenger would replace."""
        return self.slices[0] if self.slices else None

    @property
    def decisive(self) -> Comparison | None:
        """The comparison that decided: of those that did not pass, or else of all, the one in which the challenger did worst."""
        tested = [one for one in self.comparisons if math.isfinite(one.score)]
        return min(tested, key=lambda one: (one.passed, one.gain if math.isfinite(one.gain) else -math.inf), default=None)

    @property
    def in_short(self) -> str:
        """What decided, in few words: two scores, or the first refusal where all comparisons passed."""
        one, refused = self.decisive, [reason for reason in self.reasons if reason.startswith("Refused: ")]
        if one is None or (one.passed and refused):
            return next(iter(refused or self.reasons), "").rstrip(".")
        return one.scores

    @property
    def leaks(self) -> tuple[Guard, ...]:
        """What the leakage report warned of, or refused."""
        return tuple(guard for guard in self.guards if guard.name.startswith(LEAKAGE))

    @property
    def is_leaking(self) -> bool:
        """Whether the leakage report refused the training set."""
        return not all(leak.passed for leak in self.leaks)

    def to_json(self) -> str:
        """Everything as one line of JSON. Numbers that are not finite are null."""
        return json.dumps(_finite(asdict(self)), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Decision":
        """Read what `to_json` wrote; what was not finite is NaN."""
        from lakehouse_assets.platform.modelling.gate.comparison import PairedFold

        parts = json.loads(text)
        comparisons = tuple(
            Comparison(
                **_numbers(one, ("by_fold", "missing")),
                missing=tuple(one["missing"]),
                by_fold=tuple(PairedFold(**_numbers(fold)) for fold in one["by_fold"]),
            )
            for one in parts["comparisons"]
        )
        return cls(
            **{name: parts[name] for name in ("promote", "question", "verdict")},
            reasons=tuple(parts["reasons"]),
            comparisons=comparisons,
            slices=tuple(SliceComparison(**one) for one in parts["slices"]),
            guards=tuple(Guard(**one) for one in parts["guards"]),
        )

    @property
    def digest(self) -> str:
        """SHA-256 of `to_json`: an approval is of exactly this decision."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def table(self) -> str:
        """Comparisons, the worst slices and guards as Markdown, for a model card."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"**{self.verdict.capitalize()}** ({self.question})"
        if self.comparisons:
            yield ""
            yield f"| against | {self.comparisons[0].metric} | theirs | lower loss | interval | chance | folds | |"
            yield "| --- | --: | --: | --: | --: | --: | --: | --- |"
            for one in self.comparisons:
                yield (
                    f"| {_cell(one.name)} | {one.score:.4g} | {one.opponent_score:.4g} | {one.gain:+.1%} "
                    f"| {one.low:+.1%} to {one.high:+.1%} | {one.chance:.1%} | {one.better} of {one.folds} | {_passed(one.passed)} |"
                )
        if self.slices:
            yield ""
            yield "| worst slices | loss | theirs | lower loss | chance | folds | |"
            yield "| --- | --: | --: | --: | --: | --: | --- |"
            for part in self.slices[:5]:
                yield (
                    f"| {_cell(part.slice)}: {_cell(part.value)} | {part.loss:.4g} | {part.opponent_loss:.4g} | {part.gain:+.1%} "
                    f"| {part.chance:.1%} | {part.folds} | {_passed(part.passed)} |"
                )
        if self.guards:
            yield ""
            yield "| guard | value | limits | |"
            yield "| --- | --: | --- | --- |"
            for guard in self.guards:
                value = "not measured" if guard.value is None else f"{guard.value:.4g}"
                yield f"| {_cell(guard.name)} | {value} | {guard.limits} | {_passed(guard.passed)} |"


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _finite(part) for key, part in value.items()}
        case list() | tuple():
            return [_finite(part) for part in value]
        case _:
            return value


def _numbers(parts: dict[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in parts.items() if name not in without}


def _passed(passed: bool) -> str:  # noqa: FBT001
    return "passed" if passed else "**not passed**"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")

"""Whether a training set tells a learner more than it will know when it predicts: findings with numbers and sentences, and a verdict.

The as-of join keeps what came later out (`point_in_time`). What is looked for here comes in by other doors: a column that is the answer,
one that names single rows or counts time, times that are only assumed, and rows of another kind in the test than in the training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.gates import LeakageLimits
from lakehouse_assets.platform.declarations.learning import LABEL_KNOWN_AT, Read
from lakehouse_assets.platform.features.drift import drift
from lakehouse_assets.platform.features.event_rows import until
from lakehouse_assets.platform.features.one_column_rules import MEASURES, Floats, Rule, Task, numbers, places, ranks, search
from lakehouse_assets.platform.features.point_in_time import naive_known_at
from lakehouse_assets.platform.features.training_set import TrainingSet
from lakehouse_assets.platform.wording import counted

Level = Literal["note", "warn", "error"]
_RANK: Final[Mapping[Level, int]] = {"note": 0, "warn": 1, "error": 2}
_LEAST_ROWS: Final = 40
_LEAST_TIMES: Final = 10
_PERFECT: Final = 0.999
_LEAVE_OUT: Final = "Leave it out (without=, or a feature set that lacks it)"
_CALENDAR: Final = ("month", "quarter", "week", "weekday", "day", "ordinal_day", "hour")


@dataclass(frozen=True)
class Finding:
    """One thing that was seen.

    Attributes:
        kind: The limit that it is held against; `future` for joins by event time alone, `late` for events that came late, and `rows` where
            there are too few.
        level: A note is a number to know; a warning, or an error, is beyond its limit.
        column: The input, or the feature set, that it is about; empty if it is about the rows.
        number: What was measured.
        sentence: What it means, for a person.
    """

    kind: str
    level: Level
    column: str
    number: float
    sentence: str


@dataclass(frozen=True)
class LeakageReport:
    """What was found in a training set.

    Attributes:
        rows: Of the training set.
        looked_at: Of them, chosen by a digest of their key.
        findings: Errors first, then warnings, then notes.
        inputs: For each input `input`, `score` and `strength` of its best rule, `equal`, `clock`, `identifier` and `drift` (its share in
            telling test rows from training rows).
        measure: What `score` is: R², AUC or accuracy.
    """

    rows: int
    looked_at: int
    findings: tuple[Finding, ...]
    inputs: pl.DataFrame
    measure: str

    @property
    def level(self) -> Level:
        """The worst level among the findings."""
        return max((finding.level for finding in self.findings), key=_RANK.__getitem__, default="note")

    @property
    def passed(self) -> bool:
        """Whether there is no error."""
        return self.level != "error"

    @property
    def numbers(self) -> dict[str, float]:
        """The largest number of each kind of finding, for metrics and metadata."""
        found: dict[str, float] = {}
        for finding in self.findings:
            found[finding.kind] = max(found.get(finding.kind, 0.0), finding.number)
        return found

    def sentences(self, least: Level = "warn") -> list[str]:
        """What was found, from a level on."""
        return [finding.sentence for finding in self.findings if _RANK[finding.level] >= _RANK[least]]


@dataclass(frozen=True)
class Leakage:
    """How a training set is looked at.

    Attributes:
        limits: From which numbers on something is a warning, or an error.
        most_rows: How many rows are looked at.
        test: Share of the rows, the newest, that counts as the test where it is compared with the rest.
    """

    limits: LeakageLimits = field(default_factory=LeakageLimits)
    most_rows: int = 50_000
    test: float = 0.2

    def report(self, training: TrainingSet, read: Read, *, seed: int, compute: Compute) -> LeakageReport:
        """Look at a training set; the naive joins are made with the tables that `read` gives."""
        examples, rows = training.examples, training.rows
        report = self.report_rows(
            rows, key=examples.key, at=examples.at, target=examples.target, inputs=examples.inputs, seed=seed, compute=compute
        )
        assumed = [self._assumed(features.name, features.assumed) for features in training.manifest.features]
        late = [self._late(features.name, features.late, examples.at) for features in training.manifest.features if features.late]
        findings = _ordered([*report.findings, *assumed, *late, *self._future(training, read)])
        return LeakageReport(report.rows, report.looked_at, findings, report.inputs, report.measure)

    def report_rows(
        self, rows: pl.DataFrame, *, key: Sequence[str], at: str, target: str, inputs: Sequence[str], seed: int, compute: Compute
    ) -> LeakageReport:
        """Look at examples of any kind, as `Examples.rows` gives them."""
        taken = sample(rows, tuple(dict.fromkeys([*key, at])), self.most_rows)
        # Halves by the key alone: what one row of a customer tells about another one is no proof that a column is the answer.
        apart = list(key) if key and taken.select(key).n_unique() >= _LEAST_ROWS else list(dict.fromkeys([*key, at]))
        held_out = (taken.select(pl.struct(apart).hash(11)).to_series() % 2 == 1).to_numpy()
        findings = [*self._early(rows, at)]
        if taken.height < _LEAST_ROWS:
            said = f"{counted(taken.height, 'row')}: too few to tell whether a column gives the answer away (it takes {_LEAST_ROWS})"
            findings.append(Finding("rows", "note", "", float(taken.height), said))
            return LeakageReport(rows.height, taken.height, _ordered(findings), _columns(inputs, {}, {}, {}, {}), "")
        task, rules = search(taken, inputs, target, held_out)
        clocks = _clocks(taken, inputs, at)
        own = {name: _own_values(taken[name]) for name in inputs}
        known = {*self.limits.known, *_of_calendar(taken, inputs, at)}
        asked = [name for name in inputs if name not in known]
        findings += [*self._answers(rules, task), *self._clocks({name: clocks[name] for name in asked}, own)]
        timeless = [name for name in asked if clocks[name] < self.limits.clock[0] and own[name] < self.limits.identifier[0]]
        shares: Mapping[str, float] = {}
        if self.limits.drift[0] < np.inf:
            area, shares = drift(taken, timeless, at, self.test, held_out, seed=seed, compute=compute)
            findings.append(self._drift(area, shares, at))
        by_name = {rule.input: rule for rule in rules}
        return LeakageReport(rows.height, taken.height, _ordered(findings), _columns(inputs, by_name, clocks, own, shares), MEASURES[task])

    def _future(self, training: TrainingSet, read: Read) -> list[Finding]:
        """What a join by event time alone would have done, on a sample of the rows."""
        examples, at = training.examples, training.examples.at
        late = {features.name for features in training.manifest.features if features.late}
        rows, findings = sample(training.entities, tuple(dict.fromkeys([*examples.key, at])), self.most_rows), []
        for feature in examples.features:
            known = naive_known_at(rows, examples.feature_rows(feature, read), at=at)
            share = int((known > until(rows[at])).sum()) / max(rows.height, 1)
            said = (
                f"{feature.name}: a join by event time alone would have given {share:.1%} of the rows a value that became known "
                f"after their {at}. The join as of then has none of them"
                f"{', but for the rows of events that came late themselves' if feature.name in late else ''}"
            )
            findings.append(Finding("future", "note", feature.name, share, said))
        return findings

    def _assumed(self, name: str, share: float) -> Finding:
        said = (
            f"{name}: of {share:.1%} of the rows it is only assumed when their values became known (history that was loaded in order). "
            "If its sources came late then, the model will be worse than its test says"
        )
        return Finding("assumed", _level(share, self.limits.assumed), name, share, said)

    def _late(self, name: str, share: float, at: str) -> Finding:
        said = (
            f"{name}: {share:.1%} of the rows are about an event that came after its {at}. They have the row of the event as it was known "
            "first, as a prediction about it has; later revisions are not seen"
        )
        return Finding("late", "note", name, share, said)

    def _early(self, rows: pl.DataFrame, at: str) -> list[Finding]:
        if LABEL_KNOWN_AT not in rows.columns or not rows.height:
            return []
        early = int((rows[LABEL_KNOWN_AT] < until(rows[at])).sum())
        said = f"no target was known before {at}, when it is predicted"
        if early:
            when = f"was known before {at}, when it is predicted"
            said = f"the target of {counted(early, 'row')} {when}: there is nothing to predict, or {at} is wrong. Correct at= or "
            said += "known_at= of the labels, or leave such rows out of their table"
        return [Finding("early", _level(early / rows.height, self.limits.early), "", early / rows.height, said)]

    def _answers(self, rules: list[Rule], task: Task) -> list[Finding]:
        """Columns that are the target, or that predict it far better than the others."""
        limits, findings = self.limits, []
        suspects = [rule for rule in rules if rule.strength >= limits.determines[0]]
        for rule in rules:
            if rule.input in limits.known:
                continue
            # Two copies of the answer must not excuse one another; two good averages of the past do.
            others = max((other.strength for other in rules if other is not rule and other.strength < _PERFECT), default=0.0)
            equal = _level(rule.equal, limits.equals)
            beyond = (1 - others) >= limits.beyond * (1 - rule.strength)
            if equal != "note" and rule in suspects:
                said = f"{rule.input} equals the target in {rule.equal:.2%} of the rows: it is the answer. {_LEAVE_OUT}"
                findings.append(Finding("equals", equal, rule.input, rule.equal, said))
            elif rule in suspects and beyond:
                times = (1 - others) / max(1 - rule.strength, 1e-9)
                said = (
                    f"{rule.input} alone predicts the target of held-out rows with {MEASURES[task]} {rule.score:.4f}; the best other "
                    f"column leaves {times:,.0f} times as much unexplained: it may be made from the answer. Look how. "
                    f"{_LEAVE_OUT}, or, if it is known in time, say so: {_declared(rule.input)}"
                )
                findings.append(Finding("determines", _level(rule.strength, limits.determines), rule.input, rule.strength, said))
        if rules and not findings:
            best = rules[0]
            said = f"no column gives the answer away: {best.input}, the strongest, has {MEASURES[task]} {best.score:.3f} alone"
            findings.append(Finding("determines", "note", best.input, best.strength, said))
        return findings

    def _clocks(self, clocks: Mapping[str, float], own: Mapping[str, float]) -> list[Finding]:
        findings = []
        for name, correlation in clocks.items():
            if (level := _level(correlation, self.limits.clock)) != "note":
                said = (
                    f"{name} goes with time (rank correlation {correlation:.4f}): a model learns dates by it, which do not come again. "
                    f"{_LEAVE_OUT}, or take its difference to the time of the prediction, or, if it is meant so, say so: {_declared(name)}"
                )
                findings.append(Finding("clock", level, name, correlation, said))
            elif (level := _level(own[name], self.limits.identifier)) != "note":
                said = f"{name} has a value of its own in {own[name]:.1%} of the rows: it names rows, and tells nothing about "
                said += f"new ones. {_LEAVE_OUT}, or, if it is meant so, say so: {_declared(name)}"
                findings.append(Finding("identifier", level, name, own[name], said))
        return findings

    def _drift(self, area: float, shares: Mapping[str, float], at: str) -> Finding:
        top = ", ".join(f"{name} ({share:.0%})" for name, share in list(shares.items())[:3] if share > 0)
        level = _level(area, self.limits.drift)
        said = f"the newest {self.test:.0%} of the rows are told from the others with AUC {area:.3f}"
        if level != "note" and top:
            first = next(iter(shares))
            said += (
                f", mostly by {top}. This gives no answer away, but a test on them says little of other times. A column that goes with "
                "the season tells them apart until the rows go back more than a year before the test: test on several periods "
                f"(TimeFolds), or, if {first} is as it should be at each {at}, say so: {_declared(first)}"
            )
        return Finding("drift", level, next(iter(shares), ""), area, said)


def sample(rows: pl.DataFrame, key: Sequence[str], most: int) -> pl.DataFrame:
    """At most `most` rows, the same whatever their order, in an order of their own."""
    drawn = rows.with_columns(pl.struct(key).hash(7).alias("__drawn"))
    if rows.height > most:
        limit = drawn["__drawn"].bottom_k(most).max()
        drawn = drawn.filter(pl.col("__drawn") <= limit)
    return drawn.sort("__drawn", *key).drop("__drawn").head(most)


def _level(number: float, limits: tuple[float, float]) -> Level:
    return "error" if number >= limits[1] else "warn" if number >= limits[0] else "note"


def _ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: (-_RANK[finding.level], finding.kind, -finding.number, finding.column)))


def _clocks(rows: pl.DataFrame, inputs: Sequence[str], at: str) -> dict[str, float]:
    """The rank correlation of each column with time, without its sign; 0 where there is none."""
    if rows[at].n_unique() < _LEAST_TIMES:
        return dict.fromkeys(inputs, 0.0)
    time: Floats = ranks(rows[at]).astype(np.float64)
    order = places(time)
    return {name: _clock(rows[name], time, order) for name in inputs}


def _clock(values: pl.Series, time: Floats, order: Floats) -> float:
    """The correlation of one column; `order` are the places of all times."""
    own = numbers(values)
    given = own if own is not None else ranks(values).astype(np.float64)
    known = ~np.isnan(given)
    if known.sum() < _LEAST_ROWS or values.n_unique() < _LEAST_TIMES:
        return 0.0
    first, second = places(given[known]), order if known.all() else places(time[known])
    if not np.ptp(first) or not np.ptp(second):
        return 0.0
    return abs(float(np.corrcoef(first, second)[0, 1]))


def _of_calendar(rows: pl.DataFrame, inputs: Sequence[str], at: str) -> list[str]:
    """The columns that are a part of the time itself, as its month: each is known, and comes again next year."""
    if not rows.schema[at].is_temporal() or rows.is_empty():
        return []
    moment = pl.col(at).cast(pl.Datetime("us"))
    parts = [getattr(moment.dt, part)().cast(pl.Float64) for part in _CALENDAR]
    names = [name for name in inputs if rows.schema[name].is_numeric()]
    is_part = [pl.any_horizontal((pl.col(name).cast(pl.Float64) - part == 0).all() for part in parts).alias(name) for name in names]
    found = rows.select(is_part).row(0, named=True) if names else {}
    return [name for name, is_one in found.items() if is_one]


def _declared(name: str) -> str:
    """What to write where an input is meant to be as it is."""
    return f"Gate(leakage=LeakageLimits(known=({name!r},)))"


def _own_values(values: pl.Series) -> float:
    """Of texts and whole numbers, the share of rows whose value no other row has."""
    if not (values.dtype.is_integer() or values.dtype in (pl.String, pl.Categorical) or isinstance(values.dtype, pl.Enum)):
        return 0.0
    return int(values.is_unique().sum()) / max(len(values), 1)


def _columns(
    inputs: Sequence[str], rules: Mapping[str, Rule], clocks: Mapping[str, float], own: Mapping[str, float], shares: Mapping[str, float]
) -> pl.DataFrame:
    measured = {
        "input": list(inputs),
        "score": [rules[name].score if name in rules else None for name in inputs],
        "strength": [rules[name].strength if name in rules else None for name in inputs],
        "equal": [rules[name].equal if name in rules else None for name in inputs],
        "clock": [clocks.get(name) for name in inputs],
        "identifier": [own.get(name) for name in inputs],
        "drift": [shares.get(name) for name in inputs],
    }
    numeric = {name: pl.Float64 for name in measured if name != "input"}
    return pl.DataFrame(measured, schema={"input": pl.String, **numeric}).sort(
        "strength", "input", descending=[True, False], nulls_last=True
    )

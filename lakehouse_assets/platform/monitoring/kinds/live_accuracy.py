"""The monitor of accuracy: whether a model does as well on what it predicts as it did in its evaluation, or as it has to.

What it judges is in the table `platform.monitoring.accuracy`, which it brings up to date first. How chance is told is in
`accuracy.judging`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar, Final, Literal

import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError, nearest
from lakehouse_assets.platform.declarations.learning import ACTUAL, Metric
from lakehouse_assets.platform.declarations.models import MODEL_VERSION
from lakehouse_assets.platform.declarations.monitors import Cause, Monitor, MonitorKind, Verdict, Watched
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.monitoring.accuracy import judging
from lakehouse_assets.platform.monitoring.accuracy.judging import Judged
from lakehouse_assets.platform.monitoring.accuracy.predicted import Predicted
from lakehouse_assets.platform.monitoring.accuracy.step import AccuracyStep, Baseline
from lakehouse_assets.platform.monitoring.accuracy.table import accuracy_table
from lakehouse_assets.platform.monitoring.accuracy.watched import problems_with_watched, watched_predictions
from lakehouse_assets.platform.monitoring.accuracy.windowed import Question, without_predictions
from lakehouse_assets.platform.monitoring.accuracy.windows import COMPLETE, GRANULARITIES, Granularity, part_of
from lakehouse_assets.platform.monitoring.why.less_accurate import LessAccurate
from lakehouse_assets.platform.pipeline.compared_version import ComparedVersion
from lakehouse_assets.platform.registry.ledger import last_decision
from lakehouse_assets.platform.storage.platform_tables import VERDICTS
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.platform.wording import slice_in_words

Against = Literal["evaluation", "baseline"]
_AGAINST: Final = ("evaluation", "baseline")
_SEED: Final = 0
_RECENT: Final = timedelta(days=120)
"""So far back verdicts are looked for first."""
_ONE: Final = ("window_start", "slice_key", "slice_value")
_CELLS: Final = "_cells"
_FIRST: Final = "_first"
_IS_NEWEST: Final = pl.col("window_start") == pl.col("window_start").max()


@dataclass(frozen=True)
class LiveAccuracy(MonitorKind):
    """A model does as well on what it predicts as it should, as labels arrive.

    A window is judged once all its outcomes are known, of the version of the model that is champion.

    Attributes:
        metric: What is judged; None: the metric by which the gate decides.
        every: How long windows are: "1d", "1w" (from Monday) or "1mo".
        against: "evaluation": what the version did in the evaluation of the gate; "baseline": the first baseline of the model on the same
            rows. By default, and without a floor, its evaluation.
        floor: Or instead of it, the score that it has to have.
        slices: Columns by whose values it is judged too: of the predictions, the labels or the feature set that is scored.
        false_alarms: The share of windows in which all is well and an alarm is given nevertheless; slices share it.
        positive: Column and value of a row that is decided as positive, as ("decision", "review"): right and wrong decisions are counted.
            None: as the other monitors of the predictions, else rows of a probability of a half or more.

    Raises:
        DeclarationError: It cannot be meant.
    """

    metric: Metric | None = None
    every: str = "1w"
    against: Against | None = None
    floor: float | None = None
    slices: tuple[str, ...] = ()
    false_alarms: float = 0.01
    positive: tuple[str, str] | None = None

    word: ClassVar[str] = "accuracy"
    judges_changes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.every not in GRANULARITIES:
            raise DeclarationError(f"LiveAccuracy: every={self.every!r}: write one of {', '.join(GRANULARITIES)}")
        if self.against is not None and self.against not in _AGAINST:
            said = nearest(str(self.against), _AGAINST)
            raise DeclarationError(f"LiveAccuracy: against={self.against!r}: write one of {', '.join(_AGAINST)}.{said}")
        if self.against is not None and self.floor is not None:
            raise DeclarationError(
                f"LiveAccuracy: give either against={self.against!r} or floor={self.floor!r}: a second monitor has the other"
            )
        if not 0 < self.false_alarms < 0.5:
            raise DeclarationError(f"LiveAccuracy: false_alarms={self.false_alarms!r} is a share of windows, as 0.01")

    @property
    def demands(self) -> str:
        """See `MonitorKind.demands`."""
        metric = "The metric of the gate" if self.metric is None else self.metric.name
        than = f"{self.floor:g}" if self.floor is not None else "the baseline's" if self.against == "baseline" else "in its evaluation"
        return f"{metric} of what was predicted is no worse than {than}, beyond chance."

    def problems_with(self, monitor: Monitor, declared: Mapping[str, Declaration]) -> Iterator[str]:
        """See `MonitorKind.problems_with`."""
        return problems_with_watched(monitor, declared, self.slices, partial(self._problems_with_positive, monitor, declared))

    def _problems_with_positive(self, monitor: Monitor, declared: Mapping[str, Declaration], predicted: Predicted) -> Iterator[str]:
        if self.positive is not None and self.positive[0] not in predicted.predictions.schema:
            yield f"{monitor.name}: positive names {self.positive[0]!r}, which {predicted.predictions.name} has not"
        for name, kind in _kinds_of(monitor.of, declared):
            # Decisions are counted once for all of them.
            if name < monitor.name and None not in {self.positive, kind.positive} and kind.positive != self.positive:
                yield f"{monitor.name}: positive={self.positive!r}, but of {name} it is {kind.positive!r}: give both the same"

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        declared = {one.name: one for one in watched.catalog.declarations}
        kinds = [kind for _, kind in _kinds_of(watched.monitor.of, declared)] or [self]
        slices = tuple(dict.fromkeys(column for kind in kinds for column in kind.slices))
        predicted = watched_predictions(watched.monitor.of, declared, watched.lakehouse, slices)
        question = question_of(predicted, kinds)
        AccuracyStep(predicted, question, watched.now, _SEED).run()
        return _Judging(self, predicted, question, watched).verdicts()

    def watches(self, slice_key: str | None, column: str | None) -> bool:
        """See `MonitorKind.watches`."""
        return column is None and (slice_key is None or slice_key in self.slices)

    def why(self, watched: Watched, bad: Sequence[Mapping[str, Any]]) -> Sequence[Cause]:
        """See `MonitorKind.why`."""
        return LessAccurate.of(watched, bad).causes()

    @property
    def granularity(self) -> Granularity:
        """How long windows are."""
        return GRANULARITIES[self.every]


def _kinds_of(of: str, declared: Mapping[str, Declaration]) -> list[tuple[str, LiveAccuracy]]:
    """All monitors of accuracy of some predictions, by name: they share the rows of one table."""
    monitors = [one for one in declared.values() if isinstance(one, Monitor) and one.of == of]
    return sorted((one.name, one.kind) for one in monitors if isinstance(one.kind, LiveAccuracy))


def question_of(predicted: Predicted, kinds: Sequence[LiveAccuracy]) -> Question:
    """What is worked out of predictions for all monitors of them."""
    metrics = {one.name: one for one in (predicted.model.metric, *predicted.model.metrics)}
    metrics |= {kind.metric.name: kind.metric for kind in kinds if kind.metric is not None}
    every = {kind.every for kind in kinds}
    positive = next((pl.col(kind.positive[0]).cast(pl.String) == kind.positive[1] for kind in kinds if kind.positive is not None), None)
    question = Question(
        predicted.model.name,
        predicted.name,
        tuple(metrics.values()),
        tuple(one for name, one in GRANULARITIES.items() if name in every),
        predicted.slices,
        horizon=predicted.horizon,
        settled=predicted.outcomes.settled,
        usual=predicted.outcomes.usual,
    )
    return question if positive is None else replace(question, positive=positive)


@dataclass(frozen=True)
class _Judging:
    kind: LiveAccuracy
    predicted: Predicted
    question: Question
    watched: Watched

    @property
    def metric(self) -> Metric:
        return self.kind.metric or self.predicted.model.metric

    def verdicts(self) -> list[Verdict]:
        version = self._version()
        if version is None:
            return [Verdict(None, f"Not evaluated: {self.predicted.model.name} has no champion.", metric=self.metric.name)]
        rows = (
            accuracy_table(self.watched.lakehouse)
            .scan()
            .filter(
                pl.col("predictions") == self.predicted.name,
                pl.col("granularity") == self.kind.granularity.name,
                pl.col("metric") == self.metric.name,
                pl.col(MODEL_VERSION) == version,
                ~pl.col("is_estimate"),
                pl.col("horizon").is_null(),
                pl.col("slice_key").is_null() | pl.col("slice_key").is_in(list(self.kind.slices)),
            )
        )
        found = rows.collect(engine="streaming")
        final = found.filter(~pl.col("provisional"))
        if final.is_empty():
            return [Verdict(None, self._nothing_yet(version, found), metric=self.metric.name, model_version=version)]
        cells = final.with_columns(pl.len().over("window_start").alias(_CELLS))
        chosen = self._to_judge(cells, version).sort("window_start", "slice_key", "slice_value", nulls_last=False)
        said = [self._verdict(row, self.kind.false_alarms / row[_CELLS]) for row in chosen.iter_rows(named=True)]
        return [*said, *self._not_in(chosen.filter(_IS_NEWEST))]

    def _to_judge(self, final: pl.DataFrame, version: int) -> pl.DataFrame:
        """What is judged: what became final since the last evaluation, however long ago that was, and the newest window again.

        A version, metric or slice that was not judged yet begins with the newest window that was: older ones are no news.
        """
        judged = self._judged()
        own = judged.filter(pl.col(MODEL_VERSION) == version, pl.col("metric") == self.metric.name)
        begun = own.group_by("slice_key").agg(pl.col("window_start").min().alias(_FIRST))
        newest = pl.lit(judged["window_start"].max(), final.schema["window_start"])
        start = pl.col("window_start")
        is_due = pl.when(pl.col(_FIRST).is_null()).then(start >= newest).otherwise(start > pl.col(_FIRST))
        due = final.join(begun, on="slice_key", how="left", nulls_equal=True).filter(is_due).drop(_FIRST)
        since = due.join(own, on=_ONE, how="anti", nulls_equal=True)
        return pl.concat([since, final.filter(_IS_NEWEST)]).unique(_ONE)

    def _judged(self) -> pl.DataFrame:
        """What the monitor has said something of: in the last months, or if that is nothing, ever."""
        table = self.watched.lakehouse.table(VERDICTS)
        rows = table.scan() if table.exists() else pl.LazyFrame(schema=verdicts.SCHEMA)
        name, every = self.watched.monitor.name, self.kind.granularity.name
        said = rows.filter(pl.col("monitor") == name, pl.col("granularity") == every, pl.col("window_start").is_not_null())
        said = said.select(*_ONE, MODEL_VERSION, "metric", DATE)
        recent = said.filter(pl.col(DATE) >= (self.watched.now - _RECENT).date()).collect()
        return (said.collect() if recent.is_empty() else recent).drop(DATE).unique()

    def _not_in(self, newest: pl.DataFrame) -> Iterator[Verdict]:
        """What is not known any more of slices that failed in an earlier window, and that the newest window has not."""
        row = newest.row(0, named=True)
        there = set(newest.select("slice_key", "slice_value").iter_rows())
        monitor, nothing = self.watched.monitor, Judged(None, why="there is no prediction")
        for before in verdicts.latest(self.watched.lakehouse, [monitor]).get(monitor.name, []):
            key, value = before["slice_key"], before["slice_value"]
            if before["passed"] is False and key in self.kind.slices and (key, value) not in there:
                about = {name: row[name] for name in ("window_start", "window_end", "granularity", MODEL_VERSION)}
                text = self._text({**row, "slice_key": key, "slice_value": value}, nothing, self.kind.false_alarms)
                yield Verdict(None, text, metric=self.metric.name, slice_key=key, slice_value=value, **about)

    def _version(self) -> int | None:
        ledger = self.watched.lakehouse.table(self.predicted.model.name)
        last = last_decision(ledger.scan()) if ledger.exists() else None
        return None if last is None else last["champion"]

    def _nothing_yet(self, version: int, found: pl.DataFrame) -> str:
        if found.is_empty():
            return f"Not evaluated: there is no prediction of version {version} yet about what it had not learnt from."
        wait, first = self.question.settled, found["window_end"].min()
        when = "" if wait is None or not isinstance(first, datetime) else f"; those of the first window are on {first + wait:%Y-%m-%d}"
        return f"Not evaluated: the outcomes of no window of version {version} are all known yet{when}."

    def _verdict(self, row: Mapping[str, Any], rate: float) -> Verdict:
        judged = self._unjudged(row) or self._judge(row, rate)
        numbers = {name: row[name] for name in ("low", "high", "coverage", "labelled", "baseline", "estimate") if row[name] is not None}
        return Verdict(
            judged.passed,
            self._text(row, judged, rate),
            numbers if judged.usual is None else numbers | {"usual": judged.usual},
            metric=self.metric.name,
            value=row["value"],
            threshold=judged.threshold,
            false_alarm_rate=None if judged.threshold is None else rate,
            rows=row["labelled"],
            window_start=row["window_start"],
            window_end=row["window_end"],
            granularity=row["granularity"],
            slice_key=row["slice_key"] or "",
            slice_value=row["slice_value"],
            model_version=row[MODEL_VERSION],
        )

    def _text(self, row: Mapping[str, Any], judged: Judged, rate: float) -> str:
        where = "" if row["slice_key"] is None else f" where {slice_in_words(row['slice_key'], row['slice_value'])}"
        window = f"the {row['granularity'].removeprefix('1 ')} from {row['window_start']:%Y-%m-%d}{where}"
        if judged.passed is None:
            return f"Not evaluated: of {window}, {judged.why}."
        than = "the baseline has" if self.kind.against == "baseline" else "in its evaluation it was"
        than = "the floor is" if self.kind.floor is not None else than
        was = f"{self.metric.name} of version {row[MODEL_VERSION]} was {row['value']:.3g} in {window}"
        said = f"{was} ({row['labelled']:,} outcomes); {than} "
        assert judged.usual is not None  # noqa: S101 it was judged
        if judged.threshold is None:
            return f"{said}{judged.usual:.3g}: no worse."
        side = "below" if judged.threshold < judged.usual else "above"
        limit = f"{judged.usual:.3g}, and {side} {judged.threshold:.3g} it is worse by more than chance (once in {1 / rate:,.0f} windows)"
        return f"{said}{limit}."

    def _unjudged(self, row: Mapping[str, Any]) -> Judged | None:
        """Why a window is not judged although it is final; None: it is."""
        if self.question.settled is None and row["coverage"] < COMPLETE:
            # Those that came first are not like the others: a rate of false alarms that was stated for all would not hold.
            share = f"only {row['coverage']:.0%} of its predictions have outcomes".replace("%", " %")
            return Judged(None, why=f"{share}; declare how long they take (settled=) if no more will come")
        return Judged(None, why="its outcomes allow no score") if row["value"] is None else None

    def _judge(self, row: Mapping[str, Any], rate: float) -> Judged:
        if self.kind.floor is None and self.kind.against != "baseline":
            return self._by_evaluation(row, rate)
        rows = self._rows(row)
        part = part_of(row["window_start"], row["window_end"], self.kind.granularity.parts)
        if self.kind.floor is not None:
            return judging.against_floor(self.metric, rows, self.kind.floor, part, rate)
        plain = Baseline(self.predicted, _SEED).of(row[MODEL_VERSION], rows)
        if plain is None:
            return Judged(None, why="what the baseline had learnt from is gone, or it cannot predict these rows")
        return judging.against_baseline(self.metric, rows, without_predictions(rows).hstack(plain), part, rate)

    def _rows(self, row: Mapping[str, Any]) -> pl.DataFrame:
        """The predictions of a row of the table that have an outcome."""
        rows = self.predicted.rows([(row["window_start"], row["window_end"])], self.watched.now)
        rows = rows.filter(pl.col(MODEL_VERSION) == row[MODEL_VERSION], pl.col(ACTUAL).is_not_null())
        return rows if row["slice_key"] is None else rows.filter(_is(row["slice_key"], row["slice_value"]))

    def _by_evaluation(self, row: Mapping[str, Any], rate: float) -> Judged:
        tested = ComparedVersion.of(self.watched.registry(), self.predicted.model, row[MODEL_VERSION])
        evaluation = None if tested is None else tested.evaluation
        if evaluation is None:
            return Judged(None, why="its version was not tested, as a baseline that was the first champion")
        rows = evaluation.own.rows
        if row["slice_key"] is not None:
            if row["slice_key"] not in rows.columns:
                return Judged(None, why=f"its evaluation has no {row['slice_key']}: name it in the slices of the model")
            rows = rows.filter(_is(row["slice_key"], row["slice_value"]))
        days = self.kind.granularity.days
        losses = judging.reference_losses(rows, self.predicted.outcomes.tested_about, self.metric, days, row["labelled"])
        return judging.against_evaluation(self.metric, row["value"], losses, rate)


def _is(column: str, value: str | None) -> pl.Expr:
    return pl.col(column).is_null() if value is None else pl.col(column).cast(pl.String) == value

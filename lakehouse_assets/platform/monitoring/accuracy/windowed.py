"""The rows of the accuracy table for some windows, from predictions that have met their outcomes. A pure function but for its baseline.

When windows are worked out again, and how they are stored, is in `step`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations.actual_outcomes import ABOUT
from lakehouse_assets.platform.declarations.learning import ACTUAL, Metric
from lakehouse_assets.platform.declarations.models import MODEL_VERSION
from lakehouse_assets.platform.modelling.targets import PROBABILITY
from lakehouse_assets.platform.monitoring.accuracy import scoring
from lakehouse_assets.platform.monitoring.accuracy.scoring import Scored
from lakehouse_assets.platform.monitoring.accuracy.table import ALL, IDENTITY, SCHEMA
from lakehouse_assets.platform.monitoring.accuracy.windows import COMPLETE, Cell, Granularity, cells, part_of

START: Final = "__start"
_ROW: Final = "__row"
_OLDEST: Final = timedelta(days=max(scoring.AGES))
"""Where nobody says how long outcomes take, so long after its end a window is final, whatever has come of it."""
PREDICTION: Final = r"^(probability(_.*)?|prediction|mean|p\d+(\.\d+)?)$"
"""The columns of predictions, by their names."""
Estimates = Mapping[tuple[Any, ...], Mapping[str, Any]]


@dataclass(frozen=True)
class Question:
    """What is worked out of predictions.

    Attributes:
        model: Its name.
        predictions: The table that they are in.
        metrics: Of the model, the one that decides first.
        every: How long windows are.
        slices: Columns that are told apart.
        positive: Whether a row is decided as positive, for a model of the probability of one class.
        horizon: The column of days ahead; None: there is none.
        settled: How long after their time outcomes are all known; None: not known.
        usual: The outcome of what nothing was said of; None: there is none.
    """

    model: str
    predictions: str
    metrics: tuple[Metric, ...]
    every: tuple[Granularity, ...]
    slices: tuple[str, ...] = ()
    positive: pl.Expr = field(default_factory=lambda: pl.col(PROBABILITY) >= 0.5)
    horizon: str | None = None
    settled: timedelta | None = None
    usual: Any = None

    @property
    def digest(self) -> int:
        """A number that is the same for the same question."""
        positive = self.positive.meta.serialize(format="json")
        what = (self.model, self.metrics, self.every, self.slices, positive, self.horizon, self.settled, self.usual)
        return _number(repr(what))


@dataclass(frozen=True)
class Now:
    """The moment, and what was stored before.

    Attributes:
        at: The moment (UTC).
        settled_until: The moment up to which outcomes may count as settled (`Outcomes.settled_until`); None: `at`.
        read_versions: JSON of the versions of the tables that were read.
        estimates: Rows of estimates by `IDENTITY`: they stay as they were once their window was over.
    """

    at: datetime
    read_versions: str = "{}"
    estimates: Estimates = field(default_factory=dict)
    settled_until: datetime | None = None


Baseline = Callable[[int, pl.DataFrame], pl.DataFrame | None]
"""What a baseline says of rows of a version of the model, in their order."""


def windowed(rows: pl.DataFrame, question: Question, windows: pl.DataFrame | None, now: Now, baseline: Baseline) -> pl.DataFrame:
    """The rows of the accuracy table.

    Args:
        rows: See `predicted.Predicted.rows`.
        question: What is worked out.
        windows: Those alone, as `granularity` and `window_start`; None: all that have rows.
        now: The moment.
        baseline: Of the same rows.
    """
    found = [row for one in _windows(rows, question, windows, now, baseline) for row in one.rows()]
    return pl.DataFrame(found, schema=SCHEMA).sort(*IDENTITY)


def _windows(rows: pl.DataFrame, question: Question, windows: pl.DataFrame | None, now: Now, baseline: Baseline) -> Iterator["_Window"]:
    for (version,), of_version in rows.group_by(MODEL_VERSION, maintain_order=True):
        numbered = of_version.with_row_index(_ROW)
        plain = _with_baseline(numbered, baseline(int(version), of_version))
        for every in question.every:
            begun = numbered.with_columns(every.start(pl.col(ABOUT)).alias(START), every.end(every.start(pl.col(ABOUT))).alias("__end"))
            if windows is not None:
                wanted = windows.filter(pl.col("granularity") == every.name).select(pl.col("window_start").alias(START))
                begun = begun.join(wanted, on=START, how="semi", maintain_order="left")
            for (start, end), part in begun.group_by(START, "__end", maintain_order=True):
                yield _Window(question, every, start, end, int(version), part.drop(START, "__end"), plain, now)


def _with_baseline(rows: pl.DataFrame, said: pl.DataFrame | None) -> pl.DataFrame | None:
    return None if said is None else without_predictions(rows).hstack(said)


def without_predictions(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows without the columns of a prediction, which a baseline has others in the place of."""
    return rows.drop(pl.selectors.matches(PREDICTION))


@dataclass(frozen=True)
class _Window:
    """The rows of one version in one window."""

    question: Question
    every: Granularity
    start: datetime
    end: datetime
    version: int
    part: pl.DataFrame
    plain: pl.DataFrame | None
    now: Now

    def rows(self) -> Iterator[dict[str, Any]]:
        """Of the accuracy table."""
        for cell in cells(self.part, self.question.slices, self.question.horizon):
            about = self._about(cell)
            stretch = part_of(self.start, self.end, self.every.parts)
            plain = None if self.plain is None else self.plain[cell.rows[_ROW].to_list()]
            for metric in self.question.metrics:
                expected = self._estimate(about, metric, cell)
                plain_score = None if plain is None else scoring.score(metric, plain)
                yield from _both(about, metric.name, scoring.measure(metric, cell.rows, stretch), expected, plain_score)
            yield from self._decisions(about, cell)
            if cell.name == ALL:
                for name, share in scoring.coverage_by_age(cell.rows, self.end, self.now.at, self.question.usual):
                    yield {**about, "metric": name, "value": share, "provisional": False}

    def _about(self, cell: Cell) -> dict[str, Any]:
        labelled = cell.rows.height - cell.rows[ACTUAL].null_count()
        coverage, question = labelled / cell.rows.height, self.question
        settled = question.settled
        is_open = self.end > self.now.at
        may_come = coverage < COMPLETE and self.end + _OLDEST > self.now.at
        waits = may_come if settled is None else self.end + settled > (self.now.settled_until or self.now.at)
        return {
            "model": question.model,
            "predictions": question.predictions,
            "granularity": self.every.name,
            "window_start": self.start,
            "window_end": self.end,
            "model_version": self.version,
            "cell": cell.name,
            "slice_key": cell.slice_key,
            "slice_value": cell.slice_value,
            "horizon": cell.horizon,
            "is_estimate": False,
            "rows": cell.rows.height,
            "labelled": labelled,
            "coverage": coverage,
            "provisional": is_open or waits,
            "evaluated_at": self.now.at,
            "read_versions": self.now.read_versions,
        }

    def _estimate(self, about: Mapping[str, Any], metric: Metric, cell: Cell) -> Mapping[str, Any] | None:
        """The row of an estimate: the one that was made when the window was over, or made now."""
        if not scoring.has_probabilities(cell.rows):
            return None
        row = {**about, "metric": metric.name, "is_estimate": True}
        return self._kept(row) or self._made(row, scoring.estimate(metric, cell.rows, _number(repr(_identity(row)))))

    def _kept(self, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        stored = self.now.estimates.get(_identity(row))
        return stored if stored is not None and stored["evaluated_at"] >= self.end else None

    def _made(self, row: Mapping[str, Any], scored: Scored) -> dict[str, Any]:
        # An estimate needs no outcomes: it is provisional only while the window is not over.
        return {**row, **_numbers(scored), "provisional": self.end > self.now.at}

    def _decisions(self, about: Mapping[str, Any], cell: Cell) -> Iterator[dict[str, Any]]:
        if PROBABILITY not in cell.rows.columns:
            return
        positive = self.question.positive
        came, expected = scoring.confusion(cell.rows, positive), scoring.expected_confusion(cell.rows, positive)
        for name in scoring.CONFUSION:
            row = {**about, "metric": name, "is_estimate": True}
            yield from _both(about, name, came.get(name, Scored(None)), self._kept(row) or self._made(row, expected[name]), None)


def _both(
    about: Mapping[str, Any], metric: str, scored: Scored, expected: Mapping[str, Any] | None, baseline: float | None
) -> Iterator[dict[str, Any]]:
    """What came true, and what was estimated."""
    estimated = None if expected is None else expected["value"]
    difference = None if scored.value is None or estimated is None else scored.value - estimated
    found = {**about, "metric": metric, **_numbers(scored), "baseline": baseline, "estimate": estimated, "difference": difference}
    yield found
    if expected is not None and estimated is not None:
        yield dict(expected)


def _numbers(scored: Scored) -> dict[str, float | None]:
    return {"value": scored.value, "low": scored.low, "high": scored.high}


def _identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in IDENTITY)


def estimates_of(stored: pl.DataFrame) -> Estimates:
    """Estimates among rows of the accuracy table, by `IDENTITY`."""
    return {_identity(row): row for row in stored.filter("is_estimate").iter_rows(named=True)}


def _number(text: str) -> int:
    """A positive whole number of some text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 2

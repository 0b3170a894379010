"""Candidates on the same unseen rows: every fold trains each of them on its own rows and keeps what they predict of the others.

The result is one long frame, which scores, slices, pictures and the gate are worked out of. What is good enough is for the gate to decide.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol

import polars as pl

from lakehouse_assets.platform.compute.progress import telling
from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import (
    ACTUAL,
    CANDIDATE,
    FOLD,
    LABEL_KNOWN_AT,
    WEIGHT,
    Examples,
    Fold,
    Learner,
    Metric,
    NotEnoughData,
    Predictor,
    Read,
    Split,
    TrainingRows,
)

SLICE, VALUE, SCORE, LOSS, ROWS = "slice", "value", "score", "loss", "rows"


@dataclass(frozen=True)
class Evaluation:
    """What candidates predicted of rows that they had not seen.

    Attributes:
        rows: One row for each candidate and tested example: `candidate`, `fold`, the example's key, time and slices, `actual`, perhaps
            `weight`, and the columns of a prediction.
        slices: The columns by which scores are told apart.
        grid: The names of the folds that the split makes of the examples; None: all that there are. Others were tested for a champion.
    """

    rows: pl.DataFrame
    slices: tuple[str, ...] = ()
    grid: tuple[str, ...] | None = None
    _known: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Scores and losses that were worked out already: they are asked for by gate, card, pictures and MLflow."""

    @property
    def folds(self) -> tuple[str, ...]:
        """The names of the folds, in order."""
        return tuple(self.rows[FOLD].unique().sort())

    @property
    def candidates(self) -> tuple[str, ...]:
        """The names of the candidates, in the order in which they were tested."""
        return tuple(self.rows[CANDIDATE].unique(maintain_order=True))

    @property
    def own(self) -> "Evaluation":
        """The folds of the split's own grid alone: those of a champion lie across them, and a row that is tested twice is no new proof."""
        grid = self.grid
        if grid is None or {*self.folds} <= {*grid}:
            return self
        own: Evaluation = self._once("own", lambda: Evaluation(self.rows.filter(pl.col(FOLD).is_in(grid)), self.slices, grid))
        return own

    def of(self, candidate: str) -> pl.DataFrame:
        """The rows of one candidate, without the columns that others alone predict."""
        return _predicting(self.rows.filter(pl.col(CANDIDATE) == candidate), self.slices)

    def losses(self, metric: Metric) -> pl.DataFrame:
        """The losses that the gate compares.

        Returns:
            `fold`, `slice` (the column; null: all rows of the fold), `value` (of that column, as text), `candidate`, `score`, `loss` and
            `rows`. What the metric gives no score for is left out.
        """

        def score() -> pl.DataFrame:
            parts = [_scored(self.rows, metric, name, self.slices) for name in (None, *self.slices)]
            return pl.concat(parts).filter(pl.col(SCORE).is_finite()).sort(SLICE, VALUE, FOLD, CANDIDATE, nulls_last=False)

        losses: pl.DataFrame = self._once(f"losses {metric!r}", score)
        return losses

    def scores(self, metrics: Sequence[Metric]) -> pl.DataFrame:
        """`candidate` and a column for each metric: its mean over the folds that have one."""
        found = {metric.name: self._once(f"score {metric!r}", partial(self._score, metric)) for metric in metrics}
        return pl.DataFrame({CANDIDATE: list(self.candidates), **found}, schema={CANDIDATE: pl.String, **dict.fromkeys(found, pl.Float64)})

    def _score(self, metric: Metric) -> list[float]:
        """Of each candidate."""
        return [
            _mean([metric.score(_predicting(fold, self.slices)) for _, fold in self.of(candidate).group_by(FOLD)])
            for candidate in self.candidates
        ]

    def _once(self, what: str, work: Callable[[], Any]) -> Any:
        if what not in self._known:
            self._known[what] = work()
        return self._known[what]


@dataclass(frozen=True)
class Candidates:
    """Learners that are tested on the same folds of the same examples.

    Attributes:
        learners: By name; `model` is the one that asks for promotion.
        examples: Where the rows come from.
        read: Gives their tables.
        seed: Of every training.
        compute: Where work runs.
    """

    learners: Mapping[str, Learner]
    examples: Examples
    read: Read
    seed: int
    compute: Compute

    @cached_property
    def all(self) -> pl.LazyFrame:
        """All examples, as their targets are known now."""
        return self.examples.rows(self.read)

    @cached_property
    def index(self) -> pl.DataFrame:
        """Of all examples what folds are made of: key, time, slices, target and when it was known."""
        names = dict.fromkeys((*self.examples.key, self.examples.at, *self.examples.slices, self.examples.target, LABEL_KNOWN_AT))
        return self.all.select(*names).collect()

    def training_rows(self, fold: Fold | None = None) -> TrainingRows:
        """The rows to learn from in a fold; None: all."""
        return self._whole if fold is None else self._training(self.examples.rows(self.read, fold.known_until).filter(fold.train))

    @cached_property
    def _whole(self) -> TrainingRows:
        """Kept, because the model and perhaps a baseline in its place are fitted to them."""
        return self._training(self.all)

    def _training(self, rows: pl.LazyFrame) -> TrainingRows:
        of = self.examples
        return TrainingRows(rows, tuple(of.key), of.at, of.target, tuple(of.inputs))

    def fit(self, name: str) -> Predictor:
        """One candidate, fitted to all rows.

        Raises:
            NotEnoughData: The rows do not suffice.
        """
        return self.learners[name].fit(self.training_rows(), seed=self.seed, compute=self.compute)

    def evaluate(self, split: Split, also: Sequence[str] = ()) -> Evaluation:
        """Test all candidates on all folds. A fold for which one of them has not enough data is left out for all.

        Args:
            split: Makes the folds.
            also: Names of folds that have to be among them: those that the champion was tested on.

        Raises:
            NotEnoughData: There is no fold, or none of the split's own for which all candidates have enough data.
        """
        folds = split.folds(self.index, at=self.examples.at, also=also)
        grid = tuple(fold.name for fold in (split.folds(self.index, at=self.examples.at) if also else folds))
        with telling() as tell:
            tell(f"{len(folds)} folds, {len(self.learners)} candidates")
            test = partial(_tested, self.learners, self.seed, self.compute)
            results = self.compute.map(test, [_FoldToRead(self, fold) for fold in folds])
        short = {fold.name: result for fold, result in zip(folds, results, strict=True) if isinstance(result, NotEnoughData)}
        if {*grid} <= {*short}:
            raise short[grid[-1]]
        tested = [result for result in results if isinstance(result, pl.DataFrame)]
        return Evaluation(pl.concat(tested, how="diagonal_relaxed"), tuple(self.examples.slices), grid)


class _Named(Protocol):
    """What says which columns of examples are which: see `Examples`."""

    @property
    def key(self) -> tuple[str, ...]: ...

    @property
    def at(self) -> str: ...

    @property
    def target(self) -> str: ...

    @property
    def slices(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class _FoldRows:
    """What a test of one fold needs, in memory: what is learnt from, and what is predicted."""

    name: str
    training: TrainingRows
    tested: pl.DataFrame
    key: tuple[str, ...]
    at: str
    target: str
    slices: tuple[str, ...]

    def read(self) -> "_FoldRows":
        """Nothing is left to read."""
        return self


@dataclass(frozen=True)
class _FoldToRead:
    """A fold whose rows are read when it is its turn. It travels as these rows, so that what makes examples stays here."""

    candidates: Candidates
    fold: Fold

    def read(self) -> _FoldRows:
        """The rows."""
        of, examples = self.candidates, self.candidates.examples
        tested = of.all.filter(self.fold.test).sort(examples.at, *examples.key).collect()
        names = (tuple(examples.key), examples.at, examples.target, tuple(examples.slices))
        return _FoldRows(self.fold.name, of.training_rows(self.fold), tested, *names)

    def __reduce__(self) -> tuple[Callable[[_FoldRows], _FoldRows], tuple[_FoldRows]]:
        return _FoldRows.read, (self.read(),)


def _tested(learners: Mapping[str, Learner], seed: int, compute: Compute, fold: _FoldRows | _FoldToRead) -> pl.DataFrame | NotEnoughData:
    """What all candidates predict of the rows of a fold; or why one of them cannot be fitted."""
    rows = fold.read()
    try:
        predictors = {name: learner.fit(rows.training, seed=seed, compute=compute) for name, learner in learners.items()}
    except NotEnoughData as short:
        return short
    return pl.concat(
        [predicted(name, rows.name, predictor, rows.tested, rows) for name, predictor in predictors.items()], how="diagonal_relaxed"
    )


def row_of(examples: Examples) -> list[str]:
    """The columns of an evaluation that tell the rows of a candidate apart."""
    return list(dict.fromkeys((FOLD, examples.at, *examples.key)))


def predicted(candidate: str, fold: str, predictor: Predictor, rows: pl.DataFrame, examples: _Named) -> pl.DataFrame:
    """What a predictor says of examples, with their outcome, as a part of an evaluation.

    Raises:
        ValueError: It gives another number of rows, or no number for some of them.
    """
    found = predictor.predict(rows.select(predictor.inputs))
    if found.height != rows.height:
        raise ValueError(f"{candidate} predicts {found.height:,} rows of {rows.height:,}: a predictor gives one row for each")
    empty = found.select(pl.all().cast(pl.Float64, strict=False).is_finite().fill_null(value=False).not_().sum())
    for column, count in empty.row(0, named=True).items():
        if count:
            raise ValueError(f"{candidate} gives no finite {column} for {count:,} of {rows.height:,} rows of fold {fold}")
    names = dict.fromkeys((*examples.key, examples.at, *examples.slices))
    weight = [WEIGHT] if WEIGHT in rows.columns else []
    about = rows.select(
        pl.lit(candidate).alias(CANDIDATE), pl.lit(fold).alias(FOLD), *names, pl.col(examples.target).alias(ACTUAL), *weight
    )
    if clash := sorted(set(about.columns) & set(found.columns)):
        raise ValueError(f"{candidate} predicts a column {clash[0]!r}, which examples have already: rename that of the examples")
    return about.hstack(found)


def _predicting(rows: pl.DataFrame, slices: Sequence[str]) -> pl.DataFrame:
    """Without the prediction columns that are all null: another candidate, or another fold, has them. A prediction is never null."""
    kept = {CANDIDATE, FOLD, ACTUAL, WEIGHT, *slices}
    return rows.drop([name for name in rows.columns if rows.height and name not in kept and rows[name].null_count() == rows.height])


def _scored(rows: pl.DataFrame, metric: Metric, column: str | None, slices: Sequence[str]) -> pl.DataFrame:
    by = [FOLD, CANDIDATE, *([] if column is None else [column])]
    found: list[dict[str, Any]] = []
    for names, part in rows.group_by(by, maintain_order=True):
        score = metric.score(_predicting(part, slices))
        found.append(
            {
                FOLD: names[0],
                SLICE: column,
                VALUE: None if column is None or names[2] is None else str(names[2]),
                CANDIDATE: names[1],
                SCORE: score,
                LOSS: metric.loss(score),
                ROWS: part.height,
            }
        )
    text = dict.fromkeys((FOLD, SLICE, VALUE, CANDIDATE), pl.String)
    return pl.DataFrame(found, schema={**text, SCORE: pl.Float64, LOSS: pl.Float64, ROWS: pl.Int64})


def _mean(scores: Sequence[float]) -> float:
    known = sorted(score for score in scores if score == score)  # noqa: PLR0124 NaN alone is not itself
    return sum(known) / len(known) if known else float("nan")

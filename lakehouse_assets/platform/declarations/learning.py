"""What a model is made of, as protocols: examples, learner, predictor, split and metric.

A model is declared with one of each, and the platform does the rest: point in time, folds, baselines, gate, tracking, reproduction. The
learners, splits and metrics themselves are in `modelling`, examples from labels and feature sets in `features`; what comes true of
predictions is in `actual_outcomes`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.actual_outcomes import Outcomes

LABEL_KNOWN_AT: Final = "label_known_at"
"""Column of examples: from when on their target was known (UTC)."""
ACTUAL, FOLD, CANDIDATE, WEIGHT = "actual", "fold", "candidate", "weight"
"""Columns of an evaluation: the outcome, the fold it belongs to, whose prediction it is, and how much the row counts."""

CONTRIBUTIONS: Final = pl.Schema(
    {"row": pl.Int64(), "rank": pl.Int32(), "input": pl.String(), "value": pl.String(), "contribution": pl.Float64()}
)
"""Columns of `Predictor.contributions`."""

MODEL: Final = "model"
"""The candidate that asks for promotion; the other candidates are baselines."""

Read = Callable[[str], pl.LazyFrame]
"""Gives the rows of a table, at the version that a training is pinned to, by its name."""


class NotEnoughData(ValueError):
    """There is not enough data to train, or to test on unseen rows. It says how much is missing, in rows, days or classes."""


class Examples(Protocol):
    """Where the rows come from that a model learns from: each is one prediction to make, with what was known when it is made."""

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify an example."""
        ...

    @property
    def at(self) -> str:
        """The column with the time (UTC, or a date whose end counts) at which the prediction is made."""
        ...

    @property
    def target(self) -> str:
        """The column that is predicted."""
        ...

    @property
    def outcome(self) -> tuple[pl.Expr, ...]:
        """What tells outcomes apart, of `key` and `at`: a day that several forecasts are about is one outcome."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that predictors may read, in a fixed order."""
        ...

    @property
    def slices(self) -> tuple[str, ...]:
        """Columns by whose values the scores are told apart; the gate has floors for them."""
        ...

    def sources(self) -> tuple[str, ...]:
        """The tables that are read, by their names."""
        ...

    def identity(self) -> str:
        """What says which rows and values these are, besides the data: a change of it is a change of the model."""
        ...

    def rows(self, read: Read, known_until: datetime | None = None) -> pl.LazyFrame:
        """The examples: `key`, `at`, `inputs`, `slices`, `target` and `label_known_at`; perhaps `weight`.

        Inputs are what was known at the example's own time, whatever `known_until` says (law 5).

        Args:
            read: Gives the tables of `sources`.
            known_until: Targets are the values as they were known then, and those that were not known yet are left out. None: as now.
        """
        ...

    def joined_to(self, features: str) -> tuple[str, ...]:
        """The feature sets that are joined to the rows of one, the driving feature set, when these are scored; by their names.

        Raises:
            DeclarationError: Rows of that table cannot be scored.
        """
        ...

    def scored_columns(self, features: str) -> pl.Schema | None:
        """What `to_score` gives of a driving feature set: columns in their order, with types. None: its rows as they are stored."""
        ...

    def to_score(self, features: str, rows: pl.LazyFrame, read: Read, versions: Mapping[str, int]) -> pl.LazyFrame:
        """What the function of a prediction table is given.

        Args:
            features: The driving feature set.
            rows: Those of its rows that are to be scored, of one version, with all revisions.
            read: Gives the tables of `joined_to`.
            versions: By name, the versions of joined feature sets that are read in place of the newest, because they mean what the champion
                has learnt. They get no new rows, so rows after their newest one are left out.
        """
        ...

    def described(self) -> Mapping[str, str]:
        """What the inputs mean, by their names; those that nobody described are left out."""
        ...

    def outcomes(self) -> "Outcomes | None":
        """What comes true of predictions, and how they meet it; None: nobody says."""
        ...


class ScoredAsStored:
    """The part of `Examples` that is about scoring, for a model whose function makes its inputs from the rows of one table itself."""

    @property
    def outcome(self) -> tuple[pl.Expr, ...]:
        """See `Examples.outcome`: each example has its own."""
        of: Any = self
        return tuple(pl.col(name) for name in dict.fromkeys((*of.key, of.at)))

    def joined_to(self, features: str) -> tuple[str, ...]:  # noqa: ARG002
        """See `Examples.joined_to`."""
        return ()

    def scored_columns(self, features: str) -> pl.Schema | None:  # noqa: ARG002
        """See `Examples.scored_columns`."""
        return None

    def to_score(self, features: str, rows: pl.LazyFrame, read: Read, versions: Mapping[str, int]) -> pl.LazyFrame:  # noqa: ARG002
        """See `Examples.to_score`."""
        return rows

    def described(self) -> Mapping[str, str]:
        """See `Examples.described`."""
        return {}

    def outcomes(self) -> "Outcomes | None":
        """See `Examples.outcomes`."""
        return None


class Labelled(Protocol):
    """What is predicted, of whom and when: labels that feature sets are joined to."""

    def examples(self, features: tuple[Any, ...], prefixes: Mapping[str, str], without: tuple[str, ...] = ()) -> Examples:
        """The examples of these labels with the values of feature sets as they were known at the label's time.

        `prefixes` says, by the name of a feature set, what stands before the names of its columns; `without` names columns, with their
        prefixes, that are not learnt from.
        """
        ...


@dataclass(frozen=True)
class TrainingRows:
    """The examples of one training. To other processes they travel as rows in memory, whatever they are read from.

    Attributes:
        rows: As `Examples.rows` gives them, those of one training alone.
        key: See `Examples`; so are the next three.
        at: Column of the time of prediction.
        target: Column that is learnt.
        inputs: Columns to learn from.
    """

    rows: pl.LazyFrame
    key: tuple[str, ...]
    at: str
    target: str
    inputs: tuple[str, ...]

    def collect(self) -> pl.DataFrame:
        """The rows in a fixed order, so that equal rows give equal models."""
        return self._ordered

    @cached_property
    def _ordered(self) -> pl.DataFrame:
        """Made once for all learners that are fitted to these rows."""
        return self.rows.sort(self.at, *self.key, maintain_order=True).collect()

    def __getstate__(self) -> dict[str, Any]:
        return {**{field.name: getattr(self, field.name) for field in fields(self) if field.name != "rows"}, "_ordered": self.collect()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state, rows=state["_ordered"].lazy())


class Predictor(ABC):
    """A fitted model: it predicts from the input columns alone, in the unit of the prediction table.

    A class of predictors has a stable `word`, which stored models name instead of a module path, and a line in
    `modelling.predictors.PREDICTORS`.
    """

    word: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ("polars",)
    """The packages that are needed to load and to predict."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The columns that `predict` reads, by name and in any order."""

    @abstractmethod
    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """One row of predictions for each of `rows`, in the same order.

        The columns say what is predicted: `prediction` (a mean, a number), `p10`, `p50`, `p90` … (quantiles) with `mean`, `probability` (of
        the positive class), or `probability_<class>` for each class.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write everything into an existing empty folder. Equal predictors write equal bytes."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> "Predictor":
        """Read what `save` wrote. Nothing in the folder is executed."""

    def compiled(self) -> "Predictor":
        """A predictor that says the same, to the bit, and is fast for the few rows of a request. It cannot be saved."""
        return self

    def importance(self) -> pl.DataFrame | None:
        """`input` and `importance` (a share; they add up to 1), largest first; None if there is none."""
        return None

    def contributions(self, rows: pl.DataFrame, top: int = 3, *, raising: bool = False) -> pl.DataFrame:  # noqa: ARG002
        """What each row's prediction owes to its inputs: the largest contributions, largest first.

        Args:
            rows: As for `predict`.
            top: Contributions for each row; those of 0 are left out.
            raising: Only those that raise the prediction.

        Returns:
            The columns of `CONTRIBUTIONS`: `row` (position among `rows`), `rank` (from 1), `input`, `value` (as text) and `contribution`,
            in the unit of a number, in log odds of a probability, before calibration. Of quantiles it is the mean, of classes the most
            probable one. No rows of a predictor that does not depend on its inputs, or cannot say how.
        """
        return pl.DataFrame(schema=CONTRIBUTIONS)

    def learning_curve(self) -> pl.DataFrame | None:
        """`round` and one column for each curve; None if there is none. It is not saved."""
        return None

    def trials(self) -> pl.DataFrame | None:
        """Of a search, best first: `trial`, `candidate`, `state`, `loss` and `parameters` (JSON); None of anything else.

        The state is `complete`, `pruned` or `baseline`; a baseline has no number as `trial`.
        """
        return None

    def settings(self) -> Mapping[str, object]:
        """What was chosen while fitting, as the best parameters of a search or a threshold: they are logged as parameters."""
        return {}


class Learner(Protocol):
    """What makes a predictor from examples. A frozen dataclass: its fields are its parameters, and its repr is part of the recipe."""

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> Predictor:
        """Fit to the rows: the same rows, seed and versions of packages give the same predictor, byte for byte, on any number of threads.

        Raises:
            NotEnoughData: The rows do not suffice.
        """
        ...


@dataclass(frozen=True)
class Fold:
    """A test on rows that the tested predictor has not seen.

    Attributes:
        name: Sorts as the folds do: a date, or a number with leading zeros.
        train: Which examples are learnt from.
        test: Which examples are predicted; none of them is in `train`.
        known_until: Targets are learnt as they were known then; None: as now.
    """

    name: str
    train: pl.Expr
    test: pl.Expr
    known_until: datetime | None = None


class Split(Protocol):
    """How examples are divided into folds."""

    def folds(self, examples: pl.DataFrame, *, at: str, also: Sequence[str] = ()) -> list[Fold]:
        """The folds, in order; the last one has the newest rows.

        Args:
            examples: `key`, `at`, target, slices and `label_known_at` of all examples.
            at: Column of the time of prediction.
            also: Names of earlier folds that have to be among them, where the examples still allow it: those of the champion.

        Raises:
            NotEnoughData: There is no fold; it says what is missing.
        """
        ...

    def settled_after(self, examples: pl.DataFrame, *, at: str) -> timedelta:
        """How long after the time of a prediction its outcomes are all known."""
        ...


class Metric(Protocol):
    """How good predictions are."""

    @property
    def name(self) -> str:
        """As people call it, for example `WAPE`."""
        ...

    @property
    def lower_is_better(self) -> bool:
        """Whether a smaller score is a better one."""
        ...

    def score(self, rows: pl.DataFrame) -> float:
        """The score of some rows: `actual`, the columns of a prediction, and perhaps `weight`. NaN where the rows do not allow one."""
        ...

    def loss(self, score: float) -> float:
        """The score as a loss: at least 0, lower is better, 0 is perfect. The gate compares losses by their ratio."""
        ...

    @property
    def worst_loss(self) -> float:
        """The largest loss that a score can have; infinite if there is no such."""
        ...

"""What comes true of the predictions of a model, and how rows of predictions meet it: a table of outcomes with its key and times.

Outcomes of labels are in `features`, those of a series in `modelling.forecasting`. How good predictions were is up to `monitoring`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import Learner, Read

ABOUT: Final = "__about"
"""Column of predictions that meet outcomes: the time (UTC) that a prediction is about."""
FROM_SILENCE: Final = "from_silence"
"""Column of outcomes: whether one only follows from silence."""
REPORTED_AT: Final = "reported_at"
"""Column of outcomes: when one that is not the usual one was said (UTC)."""


class Outcomes(ABC):
    """What comes true of the predictions of a model: the table that says it, and how rows of predictions meet its rows.

    Names of columns are those of prediction tables; the columns of the key have the same names in both.
    """

    horizon: ClassVar[str | None] = None
    """The column with the number of days from a prediction to what it is about; None: there is none."""

    @property
    @abstractmethod
    def table(self) -> str:
        """The table that says what came true."""

    @property
    @abstractmethod
    def key(self) -> tuple[str, ...]:
        """The columns by which predictions meet outcomes."""

    @property
    @abstractmethod
    def times(self) -> tuple[str, ...]:
        """Columns that may say what time a prediction is about; the first that a table of predictions has does."""

    def keyed(self, key: Sequence[str]) -> "Outcomes":  # noqa: ARG002
        """These outcomes for a table of predictions whose rows are told apart by some columns."""
        return self

    @property
    def settled(self) -> timedelta | None:
        """How long after that time the outcomes are all known; None: that is not known beforehand."""
        return None

    @property
    def rhythm(self) -> int | None:
        """Days between the forecasts of one series in a test, whose days ahead `horizon` has; None: nothing is forecast so."""
        return None

    def as_far_as(self, rows: pl.LazyFrame) -> "Outcomes":  # noqa: ARG002 most have no need
        """These outcomes, settled only as far as the rows of the table go: where none come any more, silence says nothing.

        Args:
            rows: Of the whole table.
        """
        return self

    def settled_until(self, now: datetime) -> datetime:
        """The moment up to which what nothing was said of may count as settled; not after now."""
        return now

    @property
    def usual(self) -> Any:
        """The outcome of what nothing was said of until it was settled; None: there is none."""
        return None

    @abstractmethod
    def known(self, rows: pl.LazyFrame, until: datetime) -> pl.DataFrame:
        """What was known at a moment: the key, `actual`, `label_known_at` and `reported_at`, each key once.

        `reported_at` is when an outcome other than the usual one was said; null where none was.

        Args:
            rows: Of the table, perhaps only those of some keys.
            until: The moment (UTC).
        """

    @property
    def target(self) -> str | None:
        """What labels that are sent back call the outcome; None: none are sent."""
        return None

    def known_by(self, rows: pl.LazyFrame, until: datetime) -> pl.DataFrame:
        """The key, the target as the table has it and `label_known_at`, of what was known at a moment; `reported_at` and `from_silence`.

        What is from silence has the outcome of a row of which nothing was said until it was settled.
        """
        raise NotImplementedError

    def learnt(self, said: pl.DataFrame) -> pl.DataFrame:
        """The target of such rows as a model learns it."""
        return said

    @abstractmethod
    def became_known(self, rows: pl.LazyFrame, after: datetime, until: datetime) -> pl.LazyFrame:
        """The keys of rows of the table that say that they became known after one moment and until another."""

    @abstractmethod
    def about(self, rows: pl.LazyFrame, columns: Sequence[str]) -> pl.LazyFrame:
        """The key and other columns of the table, each key once, whether or not an outcome is known."""

    @property
    @abstractmethod
    def tested_about(self) -> pl.Expr:
        """The time (UTC) that a row of an evaluation of the model is about."""

    @abstractmethod
    def learnt_until(self, rows: pl.LazyFrame) -> datetime | None:
        """The newest time of an outcome in the table, as it was when a model learnt from it; None if there was none."""

    @abstractmethod
    def is_unseen(self, learnt_until: datetime) -> pl.Expr:
        """Whether a row of predictions, which has `__about`, is about something that the model had not seen."""

    @abstractmethod
    def baseline(self, learner: Learner, then: Read, now: Read, asked: pl.DataFrame, *, seed: int, compute: Compute) -> pl.DataFrame | None:
        """What a plain learner says of the same rows, in their order; None if it cannot.

        Args:
            learner: The baseline.
            then: Gives tables as they were when the model was trained: the baseline learns from these.
            now: Gives tables as they are.
            asked: Rows of predictions.
            seed: Of the fit.
            compute: Where it runs.
        """

"""Test periods whose number and length follow from how long the history is, for models that are declared without a split.

How periods become folds is in `splits`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import polars as pl

from lakehouse_assets.platform.declarations.learning import LABEL_KNOWN_AT, Fold, NotEnoughData
from lakehouse_assets.platform.modelling.splits import RollingTime, moment, most_are_known_after
from lakehouse_assets.platform.wording import counted

_LENGTHS: Final = tuple(
    timedelta(minutes=minutes) for minutes in (1, 5, 15, 30, 60, 180, 360, 720)
) + tuple(timedelta(days=days) for days in (1, 2, 4, 7, 14, 28, 56, 112, 182, 364))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TimeFolds:
    """Consecutive test periods over the newer half of the history, each predicted by what was known when it began.

    The length of a period is one of a few (a day, a week, four weeks …): the longest of which the newer half holds `least`. So it stays the
    same while the history grows, and a new model is tested on the periods of the champion.

    Attributes:
        least: Fewest periods.
        most: Most periods, the newest ones.
        rows: Fewest examples with a known label.
    """

    least: int = 6
    most: int = 13
    rows: int = 100

    def folds(self, examples: pl.DataFrame, *, at: str, also: Sequence[str] = ()) -> list[Fold]:
        """See `Split.folds`."""
        if (missing := self.rows - examples.height) > 0:
            raise NotEnoughData(
                f"{counted(examples.height, 'row')} with a known outcome, and a test on unseen rows needs {self.rows}: {missing} more are "
                "missing"
            )
        first, last = examples.select(first=pl.col(LABEL_KNOWN_AT).min(), last=moment(at, examples.schema[at]).max()).row(0)
        tested = (last - first) / 2
        fitting = [length for length in _LENGTHS if length * self.least <= tested]
        if not fitting:
            raise NotEnoughData(
                f"the newest row is of {last:%Y-%m-%d %H:%M} and the first outcome was known at {first:%Y-%m-%d %H:%M} (UTC): a test on "
                f"{self.least} periods needs at least {2 * self.least * _LENGTHS[0]} between the two"
            )
        return RollingTime(every=fitting[-1], count=self.most).folds(examples, at=at, also=also)

    def settled_after(self, examples: pl.DataFrame, *, at: str) -> timedelta:
        """See `Split.settled_after`."""
        return most_are_known_after(examples, at)

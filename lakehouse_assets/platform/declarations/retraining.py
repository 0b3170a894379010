"""The word `Retrain`: what makes a new training of a model worth while, and how often there may be one.

It is declared with the model. Whether a training is to start now is worked out in `monitoring/retraining`; what a training does with its
reason, in `pipeline/model_step`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError, nearest_or_all, require_once
from lakehouse_assets.platform.declarations.monitors import Monitor


@dataclass(frozen=True)
class Retrain:
    """What starts a training of a model besides people and the weekly schedule, and how often it may.

    Nothing starts where nothing has changed that the model learns from. Each training ends in the gate.

    Example:
        `Retrain(on=("shop.monitors.card_drift", "shop.monitors.accuracy"), new_labels=500, cool_down=timedelta(days=7))`

    Attributes:
        on: Monitors, or their names: a failed verdict since the last training read its tables is a reason. As for an alert, as many
            windows in a row have to fail, of as many rows, as the monitor's `alert=` says. What is said of another version than the
            champion does not count.
        important: A verdict about one column counts if the champion's predictions owe at least this share to it.
        new_labels: So many labels that the last training had not are a reason. Each outcome counts once: a day of a forecast's series,
            however many origins lie before it. None: they are none.
        every: So long after the last training the next one is due, if there is anything new. The weekly schedule leaves the model out
            then. None: the weekly schedule trains it.
        cool_down: For so long after a training none starts.
        trainings: At most so many are started for reasons in any span of length `per`; those of people and schedules do not count.
        per: See `trainings`.

    Raises:
        DeclarationError: It cannot be meant.
    """

    on: tuple[str, ...] = ()
    important: float = 0.05
    new_labels: int | None = None
    every: timedelta | None = None
    cool_down: timedelta = timedelta(days=7)
    trainings: int = 4
    per: timedelta = timedelta(days=30)

    def __post_init__(self) -> None:
        given: Any = self.on
        monitors = (given,) if isinstance(given, Monitor | str) else tuple(given)
        object.__setattr__(self, "on", tuple(one.name if isinstance(one, Monitor) else one for one in monitors))
        require_once("Retrain", "on", self.on)
        if not self.on and self.new_labels is None and self.every is None:
            raise DeclarationError("Retrain: nothing would ever start a training: give on=, new_labels= or every=")
        if not 0 <= self.important <= 1:
            raise DeclarationError(f"Retrain: important={self.important!r} is a share of the importance: write 0 to 1, as in 0.05 for 5 %")
        for name, number in {"new_labels": self.new_labels, "trainings": self.trainings}.items():
            if number is not None and number < 1:
                raise DeclarationError(f"Retrain: {name}={number!r} is a number from 1 on; leave {name} out if it does not matter")
        for name, span in {"every": self.every, "per": self.per}.items():
            if span is not None and span <= timedelta(0):
                raise DeclarationError(f"Retrain: {name}={span!r} is no span of time: write it as in timedelta(days=30)")
        if self.cool_down < timedelta(0):
            raise DeclarationError(f"Retrain: cool_down={self.cool_down!r} is negative: write timedelta(0) for none")

    def problems_of(self, model: str, declared: Mapping[str, Declaration]) -> Iterator[str]:
        """Why it cannot be meant for a model.

        Args:
            model: Its name.
            declared: All declarations by name.
        """
        for name in self.on:
            if not isinstance(declared.get(name), Monitor):
                known = [one.name for one in declared.values() if isinstance(one, Monitor)]
                yield f"{model}: retrain: on={name!r} is no monitor{nearest_or_all(name, known)}"


@dataclass(frozen=True)
class TrainingReason:
    """Why a training was asked for: it stands on the runs of Dagster and MLflow, and in the ledger.

    Attributes:
        text: Sentences.
        number: Of the request among those that were made for reasons, from 1; None: a person asked.
    """

    text: str
    number: int | None = None

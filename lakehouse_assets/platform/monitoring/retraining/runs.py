"""The runs that train models, as Dagster keeps them: by which tags they say why, and how they are found without importing Dagster."""

import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lakehouse_assets.platform.declarations.retraining import TrainingReason
from lakehouse_assets.platform.monitoring.retraining.decision import Request, State, number_of
from lakehouse_assets.platform.operations import run_records

TRAIN: Final = "train"
"""The job that trains models."""
REASON_TAG: Final = "lakehouse/training_reason"
"""On a run: why its models are trained."""
REQUEST_TAG: Final = "lakehouse/training_request"
"""On a run that was asked for: the key of the request."""

_ENDED: Final[Mapping[str, State]] = {"SUCCESS": "done", "FAILURE": "failed", "CANCELED": "failed"}


@dataclass(frozen=True)
class RunOfModels:
    """A run.

    Attributes:
        run_id: Its id.
        status: As Dagster calls it: SUCCESS, FAILURE, CANCELED, STARTED, QUEUED, …
        job: Its job.
        chosen: The tables that it was asked for; None: all of its job.
        request: The key of the request that it was started for; None: it was for none.
    """

    run_id: str
    status: str
    job: str
    chosen: frozenset[str] | None = None
    request: str | None = None

    @property
    def state(self) -> State:
        """What became of it."""
        return _ENDED.get(self.status, "under way")

    def trains(self, model: str) -> bool:
        """Whether the model is trained by it."""
        return self.job == TRAIN if self.chosen is None else model in self.chosen


Runs = Callable[[str | None], Sequence[RunOfModels]]
"""Gives all runs that have not ended, and those that were started for a request, by the request's key."""


def tags_of(request: Request) -> dict[str, str]:
    """What a run that does a request is tagged with."""
    return {REASON_TAG: request.text, REQUEST_TAG: request.key}


def reason_in(tags: Mapping[str, str], model: str) -> TrainingReason | None:
    """Why a run trains a model, by the run's tags; None if they do not say."""
    text = tags.get(REASON_TAG)
    return None if text is None else TrainingReason(text, number_of(tags.get(REQUEST_TAG, ""), model))


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Wait until no other process of this machine asks for trainings and runs them: whoever sees a request without a run starts it.

    The operating system gives the lock back however the process ends.

    Args:
        home: The root's DAGSTER_HOME.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".train_due.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def recorded(home: Path) -> Runs:
    """The runs by the databases of Dagster; a run whose process is gone counts as under way until somebody has ended it.

    Args:
        home: The root's DAGSTER_HOME.
    """

    def runs(request: str | None) -> list[RunOfModels]:
        found = run_records.unfinished_or_tagged(home, REQUEST_TAG, request)
        return [RunOfModels(run.run_id, run.status, run.job, run.chosen, run.tags.get(REQUEST_TAG)) for run in found]

    return runs

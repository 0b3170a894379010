"""Whether a model is to be trained now, and why, or why not: a pure function of what is known. What is known is gathered in `standing`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import NAMESPACE_URL, uuid5

from lakehouse_assets.platform.declarations.retraining import Retrain
from lakehouse_assets.platform.wording import counted, span

State = Literal["open", "under way", "done", "failed"]
Door = Literal["sensor", "command"]
"""Who asks for a training and starts its run: the sensor under Dagster's daemon, or `lakehouse train --due`."""
SENSOR: Final = "sensor"
COMMAND: Final = "command"
SCHEDULE: Final = "schedule"
NEW_LABELS: Final = "new labels"

_FIRST_PAUSE: Final = timedelta(hours=1)
_LONGEST_PAUSE: Final = timedelta(days=1)
_MOST_TOLD: Final = 3
_DOORS: Final[Mapping[str, str]] = {SENSOR: "The sensor `retraining`", COMMAND: "`lakehouse train --due`"}
_SHORT: Final = 8


@dataclass(frozen=True)
class Reason:
    """Something that speaks for a training, by what can be looked up.

    Attributes:
        cause: `schedule`, `new labels`, or the kind of the monitor, as `drift` or `accuracy`.
        text: A sentence without its full stop.
        monitor: Its name, in the table of verdicts; None: it is no monitor.
        evaluated_at: When the monitor said so.
        window_start: Begin of what was judged; None: the whole table.
        window_end: Its end, exclusive.
        slice_key: Column by whose values rows were judged apart.
        slice_value: The value of that column.
        column_name: The column that was judged.
        metric: What was measured.
        value: What it was.
        threshold: Where it begins to be bad, or is a reason.
        importance: Share that the champion's predictions owe to the column; None: not known, or no column.
    """

    cause: str
    text: str
    monitor: str | None = None
    evaluated_at: datetime | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None
    slice_key: str | None = None
    slice_value: str | None = None
    column_name: str | None = None
    metric: str | None = None
    value: float | None = None
    threshold: float | None = None
    importance: float | None = None


@dataclass(frozen=True)
class Request:
    """A training that was asked for because of a reason.

    Attributes:
        model: Name of the model.
        number: Counts from 1 for each model.
        at: When it was asked for (UTC).
        text: Why.
        state: `open`: no run has taken it up yet. A run that failed, or was killed or canceled, makes it `failed`.
        door: Who asked for it. Nobody else starts its run, so two of them never start one each.
    """

    model: str
    number: int
    at: datetime
    text: str
    state: State = "open"
    door: Door = SENSOR

    @property
    def key(self) -> str:
        """By which its run is known, and known again."""
        return key_of(self.model, self.number)

    @property
    def run_id(self) -> str:
        """Id of the run that `lakehouse train --due` starts for it: storage takes each once, whatever machines start it at once."""
        return str(uuid5(NAMESPACE_URL, f"lakehouse:training-request:{self.key}:{self.at.isoformat()}"))


@dataclass(frozen=True)
class History:
    """What was done about a model so far, and what there is to learn.

    Attributes:
        requests: All of them, in order.
        under_way: Ids of the runs that train the model now.
        trained_at: End of the last training, whoever asked for it (UTC); None: there was none, or it is not known.
        blocked: Why a training would come to nothing, as where nothing new is there to learn; empty: it would not.
    """

    requests: tuple[Request, ...] = ()
    under_way: tuple[str, ...] = ()
    trained_at: datetime | None = None
    blocked: str = ""


@dataclass(frozen=True)
class Decision:
    """What is to be done now.

    Attributes:
        reasons: What speaks for a training, the heaviest first; they were not looked for where `why_not` is said without them.
        why_not: Why none starts; empty: one does.
        again: A request that was made and that no run has taken up: it is the one that starts.
    """

    reasons: tuple[Reason, ...] = ()
    why_not: str = ""
    again: Request | None = None

    @property
    def starts(self) -> bool:
        """Whether a training is to start."""
        return not self.why_not


def key_of(model: str, number: int) -> str:
    """The key of a request."""
    return f"{model}:{number}"


def number_of(key: str, model: str) -> int | None:
    """The number of a request of a model by its key; None if it is one of another model, or none."""
    name, _, number = key.rpartition(":")
    return int(number) if name == model and number.isdigit() else None


def decide(retrain: Retrain, history: History, reasons: Callable[[], Sequence[Reason]], now: datetime, door: Door = SENSOR) -> Decision:
    """Whether to train now.

    Never two at once, none in the cool-down, never more than the budget. After a run that failed the next one waits an hour, then two, four
    and so on, a day at most, and counts in the budget. A request without a run is started by the door that made it; the other one waits as
    if it had failed, and then makes one of its own. Times that are later than now are those of a clock that stepped back: they hold up
    nothing.

    Args:
        retrain: What is declared.
        history: Of the model.
        reasons: Looks for what speaks for a training, the heaviest first: called only where nothing is in the way.
        now: The moment to decide at (UTC).
        door: Who decides.
    """
    last = history.requests[-1] if history.requests else None
    if history.under_way or (last is not None and last.state == "under way"):
        runs = f" (run {', '.join(run[:_SHORT] for run in history.under_way)})" if history.under_way else ""
        return Decision(why_not=f"A training is under way{runs}.")
    if last is not None and last.state == "open":
        if last.door == door:
            return Decision(again=last)
        if why_not := _is_on_its_way(last, now):
            return Decision(why_not=why_not)
        history = replace(history, requests=(*history.requests[:-1], replace(last, state="failed")))
    if why_not := _too_early(retrain, history, now) or history.blocked:
        return Decision(why_not=why_not)
    found = tuple(reasons())
    return Decision(found, "" if found else "Nothing asks for a training.")


def text_of(reasons: Sequence[Reason]) -> str:
    """Reasons as they are kept with a training: the heaviest in full, how many there are besides."""
    told = [f"{one.text}." for one in reasons[:_MOST_TOLD]]
    more = len(reasons) - len(told)
    return " ".join([*told, *([f"And {counted(more, 'more reason')}."] if more else [])])


def _is_on_its_way(request: Request, now: datetime) -> str:
    """Why a request of the other door is left to it; empty once it has had time enough. Clocks of machines may differ a little."""
    if abs(now - request.at) >= _FIRST_PAUSE:
        return ""
    return f"{_DOORS[request.door]} asked for a training at {_moment(request.at)}, and is to start its run."


def _too_early(retrain: Retrain, history: History, now: datetime) -> str:
    """Why the clock is in the way; empty if it is not."""
    requests = [one for one in history.requests if one.at <= now]
    failed = _failed_last(requests)
    if failed:
        pause = min(_FIRST_PAUSE * 2 ** min(len(failed) - 1, 10), _LONGEST_PAUSE)
        if now < (until := failed[-1].at + pause):
            return f"The training that was asked for at {_moment(failed[-1].at)} failed: the next try starts after {_moment(until)}."
    ends = [one.at for one in requests if one.state == "done"] + ([history.trained_at] if history.trained_at is not None else [])
    last = max((end for end in ends if end <= now), default=None)
    if last is not None and now < (until := last + retrain.cool_down):
        return f"It was trained at {_moment(last)}: the cool-down lasts until {_moment(until)}."
    counting = [one.at for one in requests if now - one.at < retrain.per]
    if len(counting) >= retrain.trainings:
        until = counting[-retrain.trainings] + retrain.per
        spent = f"{counted(len(counting), 'training')} in {span(retrain.per)}"
        return f"The budget is spent ({spent}): the next one may start after {_moment(until)}."
    return ""


def _failed_last(requests: Sequence[Request]) -> list[Request]:
    """The failed requests since the last one that was done."""
    failed: list[Request] = []
    for one in reversed(requests):
        if one.state != "failed":
            break
        failed.insert(0, one)
    return failed


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"

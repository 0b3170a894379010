"""The trials of a search with Optuna: what is proposed, judged, given up early, stored and taken up again.

How rows are divided and what is done with the best trials is in `search`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lakehouse_assets.platform.compute import deadline
from lakehouse_assets.platform.declarations.learning import Learner, NotEnoughData
from lakehouse_assets.platform.modelling.metric_inputs import NAN

if TYPE_CHECKING:
    import optuna

Range = tuple[float, float] | tuple[float, float, str] | list[Any]
"""From and to (whole numbers if both are), with `"log"` if the size matters and not the difference; or a list of choices."""
_NUMBER, _LOSS = "number", "loss"


@dataclass(frozen=True)
class Candidate:
    """A learner of which parameters are searched.

    Attributes:
        name: As the leaderboard has it.
        learner: With the parameters that are tried first.
        space: What else they may be. `estimator.max_depth` is a parameter of a part.
    """

    name: str
    learner: Learner
    space: Mapping[str, Range] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """A trial that is over.

    Attributes:
        number: From 0.
        candidate: Name of what was tried.
        learner: With its parameters.
        parameters: Those that were proposed; none of a candidate as it is.
        loss: The mean over the parts that it was judged on; NaN if there were none.
        pruned: It was given up before the last part.
    """

    number: int
    candidate: str
    learner: Learner = field(compare=False)
    parameters: Mapping[str, Any] = field(compare=False)
    loss: float
    pruned: bool

    @property
    def title(self) -> str:
        """As people call it."""
        return f"{self.candidate} {self.number}"


@dataclass
class Board:
    """The trials of a search. What is tried next depends on earlier results and the seed alone, so a search goes on as it would.

    Attributes:
        candidates: What is tried, each as it is at first.
        judge: Tells the loss of a learner on each part of the rows, and None where a part does not suffice.
        parts: Number of parts.
        seed: Of the search.
        storage: Of Optuna; with what an interrupted search had in it.
        study: Name of the search in the storage; another one for other rows.
    """

    candidates: Sequence[Candidate]
    judge: Callable[[Learner, int], float]
    parts: int
    seed: int
    storage: Any
    study: str
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._studies = {
            candidate.name: optuna.create_study(
                study_name=f"{self.study} {candidate.name}",
                storage=self.storage,
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
            )
            for candidate in self.candidates
        }

    def run(self, trials: int, end: float | None, tell: Callable[[str], None]) -> None:
        """Try until the budget is used up; what the storage has counts as tried.

        Args:
            trials: Most of them.
            end: When the clock of `deadline` is there, it is over: the trial that is in work is given up, as if it had never begun. Only
                the first candidate that can be judged is tried as it is however long it takes. None: `trials` alone count.
            tell: Is told where the search is.
        """
        self._take_up(trials)
        while len(self.trials) < trials:
            candidate = self._next()
            if candidate is None:
                return
            best = f", best {self.best.loss:.5g} by {self.best.title}" if self.ranked() else ""
            tell(f"trial {len(self.trials) + 1} of at most {trials}{best}")
            needed = not self.ranked() and len(self.trials) < len(self.candidates)
            with deadline.stopping_at(None if needed else end):
                trial = None if deadline.has_passed() else self._tried(candidate)
            if trial is None:
                return
            self.trials.append(trial)

    def ranked(self) -> list[Trial]:
        """The trials that were judged on all parts, best first."""
        judged = [trial for trial in self.trials if not trial.pruned and not math.isnan(trial.loss)]
        return sorted(judged, key=lambda trial: (trial.loss, trial.number))

    @property
    def best(self) -> Trial:
        """The best trial.

        Raises:
            NotEnoughData: There is none.
        """
        ranked = self.ranked()
        if not ranked:
            raise NotEnoughData("no trial could be judged: the rows of each part are too few, or of one class. Bring more rows")
        return ranked[0]

    def _take_up(self, trials: int) -> None:
        """Trials that an earlier run finished; the one that it was in the middle of is tried again."""
        import optuna

        states, found = optuna.trial.TrialState, []
        for candidate in self.candidates:
            study = self._studies[candidate.name]
            for stored in study.get_trials(deepcopy=False):
                if stored.state == states.RUNNING:
                    study.tell(stored.number, state=states.FAIL)
                elif stored.state in {states.COMPLETE, states.PRUNED}:
                    loss = stored.user_attrs[_LOSS]
                    number, pruned = stored.user_attrs[_NUMBER], stored.state == states.PRUNED
                    found.append(self._trial(number, candidate, stored.params, NAN if loss is None else loss, pruned=pruned))
        self.trials += sorted(found, key=lambda trial: trial.number)[:trials]

    def _next(self) -> Candidate | None:
        """Every candidate as it is; then the best one and, in turn, all others with something to search."""
        number = len(self.trials)
        if number < len(self.candidates):
            return self.candidates[number]
        open_ones = [candidate for candidate in self.candidates if candidate.space]
        if not open_ones:
            return None
        losses = {trial.candidate: trial.loss for trial in reversed(self.ranked())}
        leader = min(open_ones, key=lambda candidate: losses.get(candidate.name, math.inf))
        return leader if number % 2 == 0 else open_ones[number // 2 % len(open_ones)]

    def _tried(self, candidate: Candidate) -> Trial | None:
        """A trial; None if its time was over before it was."""
        import optuna

        number, study = len(self.trials), self._studies[candidate.name]
        first = not any(trial.candidate == candidate.name for trial in self.trials)
        # A sampler of its own for each trial: one that was resumed draws what it would have drawn.
        study.sampler = optuna.samplers.TPESampler(seed=self.seed * 10_007 + number, multivariate=True, n_startup_trials=5)
        trial = study.ask()
        trial.set_user_attr(_NUMBER, number)
        parameters = {} if first else {name: _suggested(trial, name, values) for name, values in candidate.space.items()}
        learner = with_parameters(candidate.learner, parameters)
        losses: list[float] = []
        pruned, states = False, optuna.trial.TrialState
        for part in range(self.parts):
            try:
                deadline.check()
                losses.append(self.judge(learner, part))
            except deadline.OutOfTime:
                study.tell(trial, state=states.FAIL)
                return None
            so_far = _mean(losses)
            if not math.isnan(so_far):
                trial.report(so_far, part)
                pruned = not first and part < self.parts - 1 and trial.should_prune()
            if pruned:
                break
        loss = _mean(losses)
        trial.set_user_attr(_LOSS, None if math.isnan(loss) else loss)
        if pruned or math.isnan(loss):
            study.tell(trial, state=states.PRUNED)
        else:
            study.tell(trial, loss)
        return self._trial(number, candidate, parameters, loss, pruned=pruned)

    @staticmethod
    def _trial(number: int, candidate: Candidate, parameters: Mapping[str, Any], loss: float, *, pruned: bool) -> Trial:
        return Trial(number, candidate.name, with_parameters(candidate.learner, parameters), dict(parameters), loss, pruned)


def with_parameters(learner: Any, parameters: Mapping[str, Any]) -> Any:
    """A learner with other parameters; those of a part are named with a dot, such as `estimator.max_depth`."""
    own = {name: value for name, value in parameters.items() if "." not in name}
    parts: dict[str, dict[str, Any]] = {}
    for name, value in parameters.items():
        head, dot, rest = name.partition(".")
        if dot:
            parts.setdefault(head, {})[rest] = value
    return replace(learner, **own, **{head: _part(getattr(learner, head), inside) for head, inside in parts.items()})


def _part(part: Any, parameters: Mapping[str, Any]) -> Any:
    if not hasattr(part, "set_params"):
        return with_parameters(part, parameters)
    from sklearn.base import clone

    return clone(part).set_params(**parameters)


def _suggested(trial: "optuna.Trial", name: str, values: Range) -> Any:
    if isinstance(values, list):
        return trial.suggest_categorical(name, values)
    low, high, log = values[0], values[1], "log" in values[2:]
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return trial.suggest_float(name, low, high, log=log)


def _mean(losses: Sequence[float]) -> float:
    known = [loss for loss in losses if not math.isnan(loss)]
    return sum(known) / len(known) if known else NAN

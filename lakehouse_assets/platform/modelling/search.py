"""The search for the best learner and its parameters: itself a learner, seeded, pruned, with a budget, and resumed after a crash.

Each trial is judged on rows that it did not learn from, within the training rows. How trials are proposed and kept is in `trials`, and
which learners are worth trying in `automatic`.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import polars as pl
import xxhash

from lakehouse_assets.platform.compute import deadline
from lakehouse_assets.platform.compute.progress import telling
from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import ACTUAL, LABEL_KNOWN_AT, Learner, Metric, NotEnoughData, Split, TrainingRows
from lakehouse_assets.platform.modelling.learners.blend import Blend, Blended, mean_of
from lakehouse_assets.platform.modelling.learners.searched import Searched
from lakehouse_assets.platform.modelling.metric_inputs import NAN
from lakehouse_assets.platform.modelling.trials import Board, Candidate, Range, Trial, with_parameters

_TESTS: Final = 3
_TESTED: Final = 0.5
_STEPS: Final = 20
_BLENDING: Final = 0.1
"""The share of the time that is left for the choice of a blend."""
_MOST_BLENDED: Final = 8
_MOST_KEPT: Final = 20_000_000
"""So many predicted numbers of trials are kept in memory for the blend; others are predicted again."""
_SCHEMA: Final = {
    "rank": pl.Int64,
    "trial": pl.Int64,
    "candidate": pl.String,
    "state": pl.String,
    "loss": pl.Float64,
    "parameters": pl.String,
    "weight": pl.Float64,
}


@dataclass(frozen=True)
class Search:
    """The best of some learners and parameters, fitted to all rows.

    Trials follow each other in one process, wherever other work goes: each is proposed from what all before it came to, and several at once
    would be other trials. What is trained within a trial uses the cores.

    Equal rows, seed and number of trials give the same predictor. A budget of time ends a search after another number of trials each time:
    that number is the setting `trials` of the predictor, and `replace(search, trials=..., seconds=None)` makes the same one, unless the
    time was over before the blend was chosen.

    Attributes:
        learner: With the parameters that are tried first.
        space: What else its parameters may be.
        metric: What decides.
        trials: Most trials, the learners as they are among them.
        seconds: Of the whole search: baselines, trials and the choice of a blend. Then a trial that is in work is given up: boosting at
            once, others after the fit that they are at. Baselines count but are never given up, nor is `learner` as it is, however long
            they take, and the final fit to all rows comes on top. None: `trials` alone count.
        folds: How training rows are divided to judge a trial; None: three periods of equally many rows, the newest half of all.
        others: More learners.
        baselines: Learners that are judged but never chosen, for the leaderboard.
        blend: Several trials predict together, where that is better than the best one alone.
        members: Most trials that do.
        folder: Where trials are kept, so that a search that was interrupted goes on; None: in memory.
    """

    learner: Learner
    space: Mapping[str, Range]
    metric: Metric
    trials: int = 30
    seconds: float | None = None
    folds: Split | None = None
    others: tuple[Candidate, ...] = ()
    baselines: Mapping[str, Learner] = field(default_factory=dict)
    blend: bool = False
    members: int = _MOST_BLENDED
    folder: Path | None = field(default=None, repr=False, compare=False)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All that is tried."""
        return (Candidate(type(self.learner).__name__, self.learner, self.space), *self.others)

    def __post_init__(self) -> None:
        names = [*(candidate.name for candidate in self.candidates), *self.baselines]
        if len(set(names)) < len(names):
            raise ValueError(f"candidates and baselines need names of their own: {', '.join(names)}")
        if self.trials < 1:
            raise ValueError(f"a search needs at least 1 trial, and it has {self.trials}")

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> Searched:
        """See `Learner.fit`.

        Raises:
            NotEnoughData: No learner could be judged, or the best one not fitted to all rows.
        """
        with telling() as tell:
            board, weights, table = self._searched(training, seed, compute, tell)
            tell(f"fitting the best of {len(board.trials)} trials to all rows")
            members = {trial.title: trial.learner.fit(training, seed=seed, compute=compute) for trial in weights}
        predictor = next(iter(members.values())) if len(members) == 1 else Blended(members, tuple(weights.values()))
        settings = {"trials": len(board.trials), "best_trial": board.best.title, **board.best.parameters}
        return Searched(predictor, settings, table)

    def leaderboard(self, training: TrainingRows, *, seed: int, compute: Compute) -> pl.DataFrame:
        """The search alone: see `Searched.trials`. Nothing is fitted to all rows.

        Raises:
            NotEnoughData: No learner could be judged.
        """
        with telling() as tell:
            return self._searched(training, seed, compute, tell)[2]

    def learner_of(self, board: pl.DataFrame) -> Learner:
        """What a leaderboard of this search found to be the best: a learner with its parameters, or a blend of some."""
        candidates = {candidate.name: candidate.learner for candidate in self.candidates}
        chosen = board.filter(pl.col("weight") > 0)
        found = [with_parameters(candidates[row["candidate"]], json.loads(row["parameters"])) for row in chosen.iter_rows(named=True)]
        return found[0] if len(found) == 1 else Blend(tuple(found), tuple(chosen["weight"]))

    def _searched(
        self, training: TrainingRows, seed: int, compute: Compute, tell: Callable[[str], None]
    ) -> tuple[Board, dict[Trial, float], pl.DataFrame]:
        """The trials, those that predict with their weights, and the leaderboard."""
        trials_end, end = self._ends()
        judge = _Judge(training, self.metric, self.folds, seed, compute, keep=self.blend)
        baselines = {name: judge.losses(learner) for name, learner in self.baselines.items()}
        board = Board(self.candidates, judge.loss, len(judge.parts), seed, self._storage(), self._study(judge.rows, seed))
        board.run(self.trials, trials_end, tell)
        with deadline.stopping_at(end):
            chosen, loss = judge.blended(board.ranked(), self.members) if self.blend and board.ranked() else ([board.best], NAN)
        weights = {trial: chosen.count(trial) / len(chosen) for trial in sorted(set(chosen), key=lambda trial: trial.number)}
        return board, weights, _leaderboard(board, baselines, weights, loss)

    def _ends(self) -> tuple[float | None, float | None]:
        """When the trials have to be over, and when all."""
        if self.seconds is None:
            return None, None
        now = deadline.clock()
        return now + self.seconds * (1 - _BLENDING if self.blend else 1), now + self.seconds

    def _storage(self) -> Any:
        if self.folder is None:
            return None
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        self.folder.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(self.folder / "trials.jsonl")))

    def _study(self, rows: pl.DataFrame, seed: int) -> str:
        """A name that only the same search of the same rows has; the budget may differ."""
        recipe = repr((self.candidates, self.metric, self.folds, seed))
        digest = xxhash.xxh3_128(recipe.encode())
        digest.update(rows.write_ipc_stream(None).getvalue())
        return digest.hexdigest()


class _Judge:
    """The rows that trials are judged on."""

    def __init__(self, training: TrainingRows, metric: Metric, folds: Split | None, seed: int, compute: Compute, *, keep: bool) -> None:
        self.rows = training.collect()
        self._kept: dict[tuple[str, int], pl.DataFrame] = {}
        self._space = _MOST_KEPT if keep else 0
        self._training, self._metric, self._seed, self._compute = training, metric, seed, compute
        known = self.rows.filter(pl.col(training.target).is_not_null())
        divided = _divided(known, training, folds)
        self.parts = [
            (TrainingRows(train.lazy(), training.key, training.at, training.target, training.inputs), test)
            for train, test in divided
            if not train.is_empty() and not test.is_empty()
        ]
        if not self.parts:
            raise NotEnoughData(
                f"{known.height} rows with a known {training.target!r} are too few to learn from some and to judge on others"
            )

    def predicted(self, learner: Learner, part: int) -> pl.DataFrame | None:
        """Predictions of the rows of a part by a predictor that did not learn from them; None if the others do not suffice."""
        name = (repr(learner), part)
        if name in self._kept:
            return self._kept[name]
        train, test = self.parts[part]
        try:
            found = learner.fit(train, seed=self._seed, compute=self._compute).predict(test)
        except NotEnoughData:
            return None
        self._space -= found.height * found.width
        if self._space >= 0:
            self._kept[name] = found
        return found

    def score(self, predictions: pl.DataFrame | None, part: int) -> float:
        """The loss of predictions of a part."""
        if predictions is None:
            return NAN
        test = self.parts[part][1].rename({self._training.target: ACTUAL})
        return self._metric.loss(
            self._metric.score(pl.concat([predictions, test.drop(predictions.columns, strict=False)], how="horizontal"))
        )

    def loss(self, learner: Learner, part: int) -> float:
        """The loss of a learner on a part."""
        return self.score(self.predicted(learner, part), part)

    def losses(self, learner: Learner) -> float:
        """The mean of the losses on all parts; NaN without one."""
        return _mean([self.loss(learner, part) for part in range(len(self.parts))])

    def blended(self, ranked: list[Trial], members: int) -> tuple[list[Trial], float]:
        """Trials whose mean is better than the best one alone: the best is taken first, then what helps most, some several times.

        When the deadline passes, what has been chosen so far is it.
        """
        found: dict[Trial, list[pl.DataFrame | None]] = {}
        try:
            for trial in ranked[:_MOST_BLENDED]:
                found[trial] = [self.predicted(trial.learner, part) for part in range(len(self.parts))]
        except deadline.OutOfTime:  # of trials whose predictions were not kept
            if not found:
                return ranked[:1], ranked[0].loss
        pool = list(found)

        def loss(chosen: list[Trial]) -> float:
            losses = []
            for part in range(len(self.parts)):
                known = [own for trial in chosen if (own := found[trial][part]) is not None]
                losses.append(self.score(mean_of(known, (1 / len(known),) * len(known)) if known else None, part))
            return _mean(losses)

        chosen, least = [pool[0]], loss([pool[0]])
        for _ in range(_STEPS):
            allowed = pool if len(set(chosen)) < members else [trial for trial in pool if trial in chosen]
            losses = [loss([*chosen, trial]) for trial in allowed]
            if deadline.has_passed() or not min(losses) < least * (1 - 1e-6):
                break
            least = min(losses)
            chosen.append(allowed[losses.index(least)])
        return chosen, least


def _divided(rows: pl.DataFrame, training: TrainingRows, folds: Split | None) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    if folds is None:
        edges = [round(rows.height * (1 - _TESTED * part / _TESTS)) for part in range(_TESTS, -1, -1)]
        return [(rows[:start], rows[start:end]) for start, end in pairwise(edges)]
    if LABEL_KNOWN_AT not in rows.columns:
        raise ValueError(f"the training rows lack {LABEL_KNOWN_AT}, by which folds know what was known: leave `folds` out")
    return [(rows.filter(fold.train), rows.filter(fold.test)) for fold in folds.folds(rows, at=training.at)]


def _leaderboard(board: Board, baselines: Mapping[str, float], weights: Mapping[Trial, float], blended: float) -> pl.DataFrame:
    ranked = board.ranked()
    rest = [trial for trial in board.trials if trial not in ranked]
    rows: list[dict[str, Any]] = [
        {
            "rank": rank + 1 if rank < len(ranked) else None,
            "trial": trial.number,
            "candidate": trial.candidate,
            "state": "pruned" if trial in rest else "complete",
            "loss": None if math.isnan(trial.loss) else trial.loss,
            "parameters": json.dumps(trial.parameters),
            "weight": weights.get(trial, 0.0),
        }
        for rank, trial in enumerate([*ranked, *rest])
    ]
    rows += [
        {"candidate": name, "state": "baseline", "loss": None if math.isnan(loss) else loss, "parameters": "{}"}
        for name, loss in baselines.items()
    ]
    if len(weights) > 1:
        names = " and ".join(dict.fromkeys(trial.candidate for trial in sorted(weights, key=lambda trial: -weights[trial])))
        rows.append({"candidate": f"blend of {len(weights)}: {names}", "state": "blend", "loss": blended, "parameters": "{}"})
    return pl.DataFrame(rows, schema=_SCHEMA).sort("loss", "trial", nulls_last=True, maintain_order=True)


def _mean(losses: list[float]) -> float:
    known = [loss for loss in losses if not math.isnan(loss)]
    return sum(known) / len(known) if known else NAN

"""What the gate is given: the losses of all candidates and the champion on the same rows, the newest window, and measured guards.

It reads predictions and files; the rule itself is in `modelling.gate`, the ledger in `registry`.
"""

import math
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import polars as pl

from lakehouse_assets.platform.declarations.gates import LEAKAGE
from lakehouse_assets.platform.declarations.learning import ACTUAL, CANDIDATE, FOLD, LABEL_KNOWN_AT, MODEL, WEIGHT, Fold, Predictor
from lakehouse_assets.platform.declarations.models import CHAMPION, ONE_LINE_RULE, ModelDeclaration
from lakehouse_assets.platform.modelling.evaluation import LOSS, SLICE, Evaluation, predicted, row_of
from lakehouse_assets.platform.modelling.gate.decision import decide, question_of, without_a_test
from lakehouse_assets.platform.modelling.gate.guards import Guard, plain_name
from lakehouse_assets.platform.modelling.gate.newest import NewestWindow, newest_window
from lakehouse_assets.platform.modelling.gate.verdict import Decision
from lakehouse_assets.platform.modelling.metric_inputs import MEANS
from lakehouse_assets.platform.modelling.metrics import Bias
from lakehouse_assets.platform.modelling.predictors import save_predictor
from lakehouse_assets.platform.pipeline.compared_version import ComparedVersion
from lakehouse_assets.platform.pipeline.model_training import Challenger, ModelTraining, scores_of
from lakehouse_assets.platform.pipeline.shadow import CalledBack

_MOST_PROFILED: Final = 100_000
_LATENCY_CALLS: Final = 20
_QUANTILE: Final = r"^p\d+(\.\d+)?$"
_BESIDE_CHAMPION: Final = "model on the champion's rows"


@dataclass(frozen=True)
class GateStep:
    """A challenger before the gate.

    Attributes:
        asset: The model.
        challenger: As it was trained.
        champion: If there is one.
        called_back: The version that the champion took the place of, if it lost on live data.
    """

    asset: ModelDeclaration
    challenger: Challenger
    champion: ComparedVersion | None
    called_back: CalledBack | None = None

    @property
    def training(self) -> ModelTraining:
        """Of the challenger."""
        return self.challenger.training

    @property
    def evaluation(self) -> Evaluation:
        """Of all candidates on unseen rows, those of the split's own folds."""
        return self.challenger.evaluation.own

    @property
    def predictor(self) -> Predictor:
        """The challenger, fitted on all examples."""
        return self.challenger.predictor

    def decide(self) -> Decision:
        """Whether the challenger becomes champion, and why."""
        same_recipe = self.champion is not None and self.champion.recipe == self.training.recipe()
        if self.asset.gate.mode == "off":
            return without_a_test(question_of(self._champion_name, self.training.baselines, same_recipe=same_recipe))
        rules = [name for name in self.training.baselines if name == ONE_LINE_RULE]
        decision = decide(
            self.losses,
            # Where folds have no time there are no newest rows either, and a refresh is judged by its folds alone.
            self.asset.gate if self._newest_fold.known_until is not None else replace(self.asset.gate, newest=None),
            challenger=MODEL,
            champion=self._champion_name,
            beside_champion=_BESIDE_CHAMPION,
            baselines=[name for name in self.training.baselines if name != ONE_LINE_RULE],
            one_line_rules=rules,
            same_recipe=same_recipe,
            metric=self.asset.metric.name,
            measured=self.measured(),
            guards=[*self._columns(), *self._leaks()],
            newest=self.newest(),
        )
        if self.champion is not None and not self.champion.is_a_baseline and self._beside_champion is None:
            number = self.champion.version.version
            said = f"The champion so far, version {number}, was tested on too few of the same rows in any fold, so it is not compared."
            decision = replace(decision, reasons=(said, *decision.reasons))
        again = self.called_back
        if again is None or again.recipe != self.training.recipe():
            return decision
        # Its backtests have been believed once already, and what came since said otherwise.
        refused = f"Refused: {again}"
        return replace(decision, promote=False, verdict="refused", reasons=(*decision.reasons, refused))

    @cached_property
    def losses(self) -> pl.DataFrame:
        """The losses of all candidates in the folds of this split, and of champion and challenger in the folds of the champion's.

        Two grids of folds lie across each other, so each comparison is made in one of them.
        """
        own = self.evaluation.losses(self.asset.metric)
        return own if self._beside_champion is None else pl.concat([own, self._beside_champion.losses(self.asset.metric)])

    @cached_property
    def _beside_champion(self) -> Evaluation | None:
        """Champion and challenger on the rows that both were tested on, with the outcomes as they are known now.

        A fold counts if these are at least half of its rows.
        """
        theirs = None if self.champion is None or self.champion.is_a_baseline else self.champion.evaluation
        if theirs is None:
            return None
        row, tested = row_of(self.training.asset.examples), self.challenger.evaluation
        mine = tested.of(MODEL)
        known = dict.fromkeys((*row, ACTUAL, *tested.slices, *((WEIGHT,) if WEIGHT in mine.columns else ())))
        champion = theirs.own.of(CHAMPION)
        predictions = [name for name in champion.columns if name not in {*known, WEIGHT, CANDIDATE}]
        shared = mine.select(*known).join(champion.select(*row, *predictions), on=row, how="inner", maintain_order="left")
        counts = shared.group_by(FOLD).len("both").join(mine.group_by(FOLD).len(), on=FOLD)
        shared = shared.join(counts.filter(pl.col("both") * 2 >= pl.col("len")), on=FOLD, how="semi", maintain_order="left")
        if shared.is_empty():
            return None
        same = mine.join(shared.select(row), on=row, how="semi", maintain_order="left")
        named = [shared.with_columns(pl.lit(CHAMPION).alias(CANDIDATE)), same.with_columns(pl.lit(_BESIDE_CHAMPION).alias(CANDIDATE))]
        return Evaluation(pl.concat(named, how="diagonal_relaxed"), tested.slices)

    @property
    def _champion_name(self) -> str | None:
        if self.champion is None:
            return None
        if self.champion.is_a_baseline:
            return self.champion.candidate if self.champion.candidate in self.training.baselines else None
        return CHAMPION

    def measured(self) -> dict[str, float]:
        """Values for the guards that the rule names; what cannot be measured is left out, and does not pass."""
        rows, wanted = self.evaluation.of(MODEL), {plain_name(name) for name in self.asset.gate.guards}
        found = dict(scores_of(self.evaluation, self.asset, MODEL))
        quantiles = sorted(rows.select(pl.col(_QUANTILE)).columns, key=lambda name: float(name[1:]))
        if not {*MEANS}.isdisjoint(rows.columns):
            found["bias"] = Bias().score(rows)
        if len(quantiles) > 1:
            found["coverage"] = rows.select(pl.col(ACTUAL).is_between(quantiles[0], quantiles[-1]).mean()).item()
        if plain_name("size_mb") in wanted:
            found["size_mb"] = _megabytes(self.predictor)
        if plain_name("latency_ms") in wanted:
            found["latency_ms"] = _latency(self.predictor, self._newest_rows.head(1))
        return found

    def newest(self) -> NewestWindow | None:
        """What the model that was trained without the newest fold, the new one and the champion say of it; None if folds have no time."""
        if self.asset.gate.newest is None or self._newest_fold.known_until is None or self._newest_rows.is_empty():
            return None
        examples, fold = self.asset.examples, self._newest_fold
        overall = self.evaluation.losses(self.asset.metric).filter(pl.col(SLICE).is_null())
        of_fold = dict(overall.filter(pl.col(FOLD) == fold.name).select(CANDIDATE, LOSS).iter_rows())
        usual = overall.filter(pl.col(FOLD) != fold.name, pl.col(CANDIDATE) == MODEL)[LOSS].to_list()
        held_out = self.evaluation.of(MODEL).filter(pl.col(FOLD) == fold.name)
        champion = self._champion_predictions()
        return newest_window(
            self._profiled,
            at=examples.at,
            known_at=LABEL_KNOWN_AT,
            target=examples.target,
            inputs=[name for name in examples.inputs if name in self._profiled.columns],
            challenger=self.predictor.predict(self._newest_rows.select(self.predictor.inputs)),
            held_out=held_out.select(pl.exclude(ACTUAL, FOLD, CANDIDATE)),
            champion=champion,
            loss=of_fold.get(MODEL),
            usual_losses=usual,
            baseline_losses=[of_fold[name] for name in self.training.baselines if name in of_fold],
            champion_loss=self._champion_loss(),
            days=self.asset.gate.newest.days,
        )

    @cached_property
    def _newest_fold(self) -> Fold:
        return self.asset.split.folds(self.training.candidates.index, at=self.asset.examples.at)[-1]

    @cached_property
    def _newest_rows(self) -> pl.DataFrame:
        examples = self.asset.examples
        rows = self.training.candidates.all.filter(self._newest_fold.test).sort(examples.at, *examples.key).collect()
        # The split may know a newer fold than those for which every candidate had enough data.
        return rows if self._newest_fold.name in self.evaluation.folds else rows.clear()

    @cached_property
    def _profiled(self) -> pl.DataFrame:
        """All examples, or a part of them that is always the same."""
        examples, rows = self.asset.examples, self.training.candidates.index.height
        part = -(-rows // _MOST_PROFILED)
        kept = (
            self.training.candidates.all if part == 1 else self.training.candidates.all.filter(pl.struct(examples.key).hash() % part == 0)
        )
        names = dict.fromkeys((examples.at, LABEL_KNOWN_AT, examples.target, *examples.inputs))
        return kept.select(*names).collect()

    @property
    def _champion_predictor(self) -> Predictor | None:
        """The champion's; None if the features have another meaning since: what it says of them means nothing."""
        return self.champion.predictor if self.champion is not None and self.champion.reads(self.training) else None

    def _champion_predictions(self) -> pl.DataFrame | None:
        return self._predictions_of(self._champion_predictor)

    def _predictions_of(self, predictor: Predictor | None) -> pl.DataFrame | None:
        if predictor is None or not {*predictor.inputs} <= {*self._newest_rows.columns}:
            return None
        return predictor.predict(self._newest_rows.select(predictor.inputs))

    def _champion_loss(self) -> float | None:
        """In the newest fold; None if the champion may have learnt from it."""
        known, predictor = self._newest_fold.known_until, self._champion_predictor
        if predictor is None or known is None or self.champion is None or self.champion.version.created_at > known:
            return None
        if not {*predictor.inputs} <= {*self._newest_rows.columns}:
            return None
        found = Evaluation(predicted(CHAMPION, self._newest_fold.name, predictor, self._newest_rows, self.asset.examples))
        return next(iter(found.losses(self.asset.metric)[LOSS]), None)

    def _columns(self) -> list[Guard]:
        """That the challenger predicts what the champion does: whoever reads the predictions relies on it."""
        if self.champion is None:
            return []
        # Whatever its features mean now: columns are asked for, not values.
        theirs, mine = self._predictions_of(self.champion.predictor), self.evaluation.of(MODEL)
        if theirs is None:
            return []
        gone = sorted(set(theirs.columns) - {name for name in mine.columns if mine[name].null_count() < mine.height})
        return [Guard(name="columns that the champion predicts and it does not", value=float(len(gone)), high=0.0, meaning=", ".join(gone))]

    def _leaks(self) -> list[Guard]:
        """What the leakage report warns of, or refuses."""
        limits, examined = self.asset.gate.leakage, self.training.examined
        if limits is None or examined is None:
            return []
        found = [finding for finding in examined.leakage.findings if finding.level != "note"]
        return [
            Guard(
                name=f"{LEAKAGE}: {finding.kind}" + (f" {finding.column}" if finding.column else ""),
                value=finding.number,
                # From the limit on it is refused; what only warns passes.
                high=math.nextafter(getattr(limits, finding.kind)[1], 0) if finding.level == "error" else max(1.0, finding.number),
                meaning=finding.sentence,
            )
            for finding in found
        ]


def _megabytes(predictor: Predictor) -> float:
    with TemporaryDirectory() as folder:
        save_predictor(predictor, Path(folder))
        return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 1e6


def _latency(predictor: Predictor, row: pl.DataFrame) -> float:
    """Median of some predictions of one row, milliseconds."""
    inputs, seconds = row.select(predictor.inputs), []
    for _ in range(_LATENCY_CALLS):
        started = time.perf_counter()
        predictor.predict(inputs)
        seconds.append(time.perf_counter() - started)
    return 1000 * median(seconds)

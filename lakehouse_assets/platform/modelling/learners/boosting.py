"""Gradient boosting with LightGBM: numbers, means, quantiles, one of two values, classes.

How many rounds are trained, and how far predictions can be trusted, is found on the newest rows, by boosters that did not learn from them.
What comes out is in `boosted`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import TrainingRows
from lakehouse_assets.platform.modelling.boosting import REPRODUCIBLE, binned, fit_until, load_lightgbm
from lakehouse_assets.platform.modelling.calibration import calibration_curve, conformal_quantile
from lakehouse_assets.platform.modelling.costs import Costs, cheapest_threshold
from lakehouse_assets.platform.modelling.encoding import Encoding, encoding_of
from lakehouse_assets.platform.modelling.learners.boosted import MEAN, Band, Boosted
from lakehouse_assets.platform.modelling.learners.prepared import Prepared, prepare
from lakehouse_assets.platform.modelling.quantile import quantile_name
from lakehouse_assets.platform.modelling.targets import PREDICTION, PROBABILITY, Kind

if TYPE_CHECKING:
    import lightgbm

Objective = Literal["regression", "mean", "quantiles", "binary", "multiclass"]
_KINDS: Final[Mapping[str, Kind]] = {
    "regression": "number", "mean": "number", "quantiles": "number", "binary": "binary", "multiclass": "classes"
}  # fmt: skip
_LEAST_TAIL: Final = 20
_FEW: Final = 200_000
"""So many numbers are trained on faster by one thread than by several. The trees are the same."""


@dataclass(frozen=True)
class GradientBoosting:
    """Gradient boosting of decision trees.

    Attributes:
        objective: `regression` (the mean of a number), `mean` (the same for amounts that are never negative and sometimes very large),
            `quantiles` (with the mean), `binary` or `multiclass`.
        calibrated: Probabilities are made honest by isotonic regression where that helps, quantiles by conformal prediction, on the newest
            rows. Of a regression, `quantiles` are predicted too.
        quantiles: Which ones, ascending.
        positive: Of a binary target with texts, the value that counts.
        costs: Of a binary target, what wrong decisions cost: the cheapest threshold is among the predictor's settings.
        learning_rate: How much each round counts.
        num_leaves: Most leaves of a tree.
        min_data_in_leaf: Least rows of a leaf.
        feature_fraction: Share of the inputs that each tree sees.
        bagging_fraction: Share of the rows that each tree sees.
        lambda_l2: How much leaves are drawn towards 0.
        extra_trees: Split points are drawn, so trees differ more.
        rounds: Most rounds.
        early_stopping: Rounds without gain on the newest rows after which it stops; None: `rounds` are trained.
        holdout: Share of the rows, the newest ones, that choose the rounds and calibrate. The final boosters learn from them too.
        parameters: More parameters of LightGBM.
    """

    objective: Objective = "regression"
    calibrated: bool = False
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    positive: str | None = None
    costs: Costs | None = None
    learning_rate: float = 0.05
    num_leaves: int = 15
    min_data_in_leaf: int = 20
    feature_fraction: float = 0.8
    bagging_fraction: float = 1.0
    lambda_l2: float = 1.0
    extra_trees: bool = False
    rounds: int = 1000
    early_stopping: int | None = 50
    holdout: float = 0.2
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.objective not in _KINDS:
            raise ValueError(f"objective must be one of {', '.join(_KINDS)}, and it is {self.objective!r}")
        if list(self.quantiles) != sorted(set(self.quantiles)) or not all(0 < quantile < 1 for quantile in self.quantiles):
            raise ValueError(f"quantiles must ascend between 0 and 1: {self.quantiles}")

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> Boosted:
        """See `Learner.fit`. The rounds are chosen in this process, and the final boosters trained where `compute` says."""
        prepared = prepare(training, _KINDS[self.objective], self.positive)
        encoding = encoding_of(prepared.rows, prepared.inputs)
        parameters = self._parameters(prepared, seed)
        parts = prepared.tail(self.holdout, _LEAST_TAIL) if self.early_stopping or self.calibrated or self.costs else None
        trial, losses = self._trial(*parts, encoding, parameters, seed) if parts else ({}, None)
        data = encoding.encode(prepared.rows)

        def dataset(part: int, count: int) -> "lightgbm.Dataset":
            own = prepared if count == 1 else prepared.part(slice(part, None, count))
            return _binned(own, data.gather_every(count, part), encoding, seed)

        boosters = {
            name: compute.fit(dataset, own, trial[name].current_iteration() if name in trial else self._rounds_without_trial)
            for name, own in parameters.items()
        }
        bands = tuple(self._bands())
        final = Boosted(encoding, prepared.target, boosters, tuple(Band(name, base, 0.0) for name, base, _ in bands), losses=losses)
        return self._calibrated(final, replace(final, boosters=trial), parts[1]) if parts else self._with_threshold(final, final, prepared)

    @property
    def _rounds_without_trial(self) -> int:
        """Rounds that are not chosen: of few rows a hundred, as more of them learn them by heart."""
        return min(self.rounds, 100) if self.early_stopping else self.rounds

    def _bands(self) -> Iterator[tuple[str, str, float]]:
        """The quantiles that are predicted: column, booster, share of outcomes below."""
        if self.objective == "quantiles":
            yield from ((quantile_name(quantile), quantile_name(quantile), quantile) for quantile in self.quantiles)
        elif self.calibrated and _KINDS[self.objective] == "number":
            yield from ((quantile_name(quantile), MEAN, quantile) for quantile in self.quantiles)

    def _parameters(self, prepared: Prepared, seed: int) -> dict[str, dict[str, Any]]:
        """The parameters of LightGBM for each booster."""
        common = {
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.min_data_in_leaf,
            "feature_fraction": self.feature_fraction,
            "bagging_fraction": self.bagging_fraction,
            "bagging_freq": 1 if self.bagging_fraction < 1 else 0,
            "lambda_l2": self.lambda_l2,
            "extra_trees": self.extra_trees,
            **self.parameters,
            **REPRODUCIBLE,
            **({"num_threads": 1} if len(prepared.rows) * len(prepared.inputs) < _FEW else {}),
            "seed": seed,
        }
        if prepared.target.kind == "binary":
            return {PROBABILITY: {**common, "objective": "binary"}}
        if prepared.target.kind == "classes":
            return {"classes": {**common, "objective": "multiclass", "num_class": len(prepared.target.classes)}}
        amounts = self.objective == "mean" and float(np.min(prepared.codes)) >= 0 < float(np.max(prepared.codes))
        mean: dict[str, Any] = {**common, **({"objective": "tweedie", "tweedie_variance_power": 1.3} if amounts else {"objective": "l2"})}
        of_quantiles = {name: {**common, "objective": "quantile", "alpha": share} for name, base, share in self._bands() if base != MEAN}
        return {**of_quantiles, (MEAN if any(self._bands()) else PREDICTION): mean}

    def _trial(
        self, head: Prepared, tail: Prepared, encoding: Encoding, parameters: Mapping[str, dict[str, Any]], seed: int
    ) -> tuple[dict[str, "lightgbm.Booster"], pl.DataFrame]:
        """Boosters of the older rows, with as many rounds as are best for the newest ones, and their losses on those."""
        learnt = _binned(head, encoding.encode(head.rows), encoding, seed)
        unseen = _binned(tail, encoding.encode(tail.rows), encoding, seed, like=learnt)
        boosters, losses = {}, []
        for name, own in parameters.items():
            booster, curve = fit_until(learnt, unseen, own, rounds=self.rounds, patience=self.early_stopping or self.rounds)
            rounds = booster.best_iteration if self.early_stopping else self.rounds
            boosters[name] = load_lightgbm().Booster(model_str=booster.model_to_string(num_iteration=rounds))
            losses.append(pl.DataFrame({"round": np.arange(1, len(curve) + 1), name: curve}))
        longest = max(losses, key=len).select("round")
        for table in losses:
            longest = longest.join(table, on="round", how="left", maintain_order="left")
        return boosters, longest

    def _calibrated(self, final: Boosted, trial: Boosted, tail: Prepared) -> Boosted:
        """The final predictor, made honest by what boosters that had not seen the newest rows predicted for them."""
        if self.calibrated and final.bands:
            values = trial.values(tail.rows)
            shares = {name: share for name, _, share in self._bands()}
            shifted = (
                replace(band, shift=conformal_quantile(tail.codes - values[band.booster], shares[band.name])) for band in final.bands
            )
            return replace(final, bands=tuple(shifted))
        if self.calibrated:
            found = trial.predict(tail.rows).to_numpy()
            came = [tail.codes] if final.target.kind == "binary" else [tail.codes == code for code in range(len(final.target.classes))]
            curves = tuple(calibration_curve(found[:, number], np.asarray(one, float), tail.weight) for number, one in enumerate(came))
            final, trial = replace(final, curves=curves), replace(trial, curves=curves)
        return self._with_threshold(final, trial, tail)

    def _with_threshold(self, final: Boosted, judged: Boosted, rows: Prepared) -> Boosted:
        if self.costs is None or final.target.kind != "binary":
            return final
        probability = judged.predict(rows.rows)[PROBABILITY].to_numpy()
        return replace(final, threshold=cheapest_threshold(probability, rows.codes, *self.costs.of(rows.rows)))


def _binned(
    rows: Prepared, encoded: pl.DataFrame, encoding: Encoding, seed: int, like: "lightgbm.Dataset | None" = None
) -> "lightgbm.Dataset":
    weight = rows.weight if rows.weighted else None
    return binned(encoded, rows.codes, weight, categorical=encoding.categorical, seed=seed, like=like)

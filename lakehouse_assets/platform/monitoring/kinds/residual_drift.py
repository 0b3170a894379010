"""The monitor of a forecast's residuals: whether what comes is as far from what was predicted as it was in the tests of the champion.

The values of a forecast move with the season, so their own drift says nothing; residuals of a model that knows the season do not. Which
residuals count is in `accuracy.residuals`, how windows are compared in `profile_tables`, as for every monitor of drift.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError
from lakehouse_assets.platform.declarations.monitors import Cause, Monitor, MonitorKind, Verdict, Watched
from lakehouse_assets.platform.modelling.metric_inputs import MEANS
from lakehouse_assets.platform.monitoring.accuracy.predicted import Predicted
from lakehouse_assets.platform.monitoring.accuracy.residuals import RESIDUAL, TIME, ResidualRows, lacking, of_tests
from lakehouse_assets.platform.monitoring.accuracy.watched import problems_with_watched, watched_predictions
from lakehouse_assets.platform.monitoring.accuracy.windows import GRANULARITIES
from lakehouse_assets.platform.monitoring.drift.drift_verdicts import judged
from lakehouse_assets.platform.monitoring.drift.profile_tables import Profiled
from lakehouse_assets.platform.monitoring.profiling.groups import Groups
from lakehouse_assets.platform.monitoring.why.less_accurate import LessAccurate
from lakehouse_assets.platform.pipeline.champions import champion_by_ledger
from lakehouse_assets.platform.pipeline.compared_version import ComparedVersion

_NUMBERS: Final = frozenset(MEANS)


@dataclass(frozen=True)
class ResidualDrift(MonitorKind):
    """What comes of the predictions of a number is as far from them as in the tests of the champion, and as in the window before.

    A window is judged once it is over and its outcomes are known. What is compared is `residual_share`: the outcome less the prediction, as
    a share of the prediction, so that a season which the model knows moves nothing.

    Attributes:
        every: How long windows are: "1d", "1w" (from Monday) or "1mo".
        slices: Columns by whose values residuals are compared too, of the champion's tests: those that tell series apart, slices of the
            model, or `horizon`, whose days ahead are taken together as 1 to 7, 8 to 14, 15 to 28.

    Raises:
        DeclarationError: They cannot be meant.
    """

    every: str = "1w"
    slices: tuple[str, ...] = ()

    word: ClassVar[str] = "residual_drift"
    judges_changes: ClassVar[bool] = True
    resolve_after: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if self.every not in GRANULARITIES:
            raise DeclarationError(f"ResidualDrift: every={self.every!r}: write one of {', '.join(GRANULARITIES)}")

    @property
    def demands(self) -> str:
        """See `MonitorKind.demands`."""
        return f"What comes is as far from what was predicted as in the champion's tests, by windows of {self.every}."

    def problems_with(self, monitor: Monitor, declared: Mapping[str, Declaration]) -> Iterator[str]:
        """See `MonitorKind.problems_with`."""

        def of_numbers(predicted: Predicted) -> Iterator[str]:
            if not _NUMBERS & {*predicted.predictions.schema}:
                yield (
                    f"{monitor.name}: {predicted.predictions.name} predicts no number, so there are no residuals: it has none of the "
                    f"columns {', '.join(MEANS)}"
                )

        return problems_with_watched(monitor, declared, self.slices, of_numbers)

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        declared = {one.name: one for one in watched.catalog.declarations}
        predicted = watched_predictions(watched.monitor.of, declared, watched.lakehouse, self.slices).pinned()
        model, version = predicted.model, champion_by_ledger(watched.lakehouse, predicted.model)
        tested = ComparedVersion.of(watched.registry(), model, version)
        if tested is None:
            return [Verdict(None, f"Not evaluated: {model.name} has no champion.")]
        evaluation = tested.evaluation
        if evaluation is None:
            return [
                Verdict(None, f"Not evaluated: version {version} of {model.name} was not tested, so its usual residuals are not known.")
            ]
        if names := lacking(evaluation, predicted):
            text = f"Not evaluated: the tests of version {version} have no {', '.join(names)}: name it in the slices of the model."
            return [Verdict(None, text)]
        rows = ResidualRows(predicted, GRANULARITIES[self.every], watched.now)
        ledger = watched.lakehouse.table(model.name).now().metadata().id
        profiled = Profiled(
            monitor=watched.monitor.name,
            watched=rows,
            groups=self.groups,
            baseline=lambda: of_tests(evaluation, predicted).lazy(),
            baseline_name=f"tests of version {version} of {model.name}",
            baseline_made_of=repr((model.name, version, ledger, predicted.horizon, str(predicted.outcomes.tested_about))),
            untested=(RESIDUAL, *self.slices),
        )
        return judged(watched, profiled)

    @property
    def groups(self) -> Groups:
        """The windows and slices."""
        return Groups(TIME, self.every, self.slices)

    def why(self, watched: Watched, bad: Sequence[Mapping[str, Any]]) -> Sequence[Cause]:
        """See `MonitorKind.why`: what makes a model less accurate makes its residuals others."""
        return [replace(one, column="") for one in LessAccurate.of(watched, bad).causes()]

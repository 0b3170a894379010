"""The newest rows: whether a challenger that learnt from them is still sound. Backtests end before them and cannot tell.

Here are the numbers of a newest window, how they are computed from frames, and the guards that are made of them. Which models predict what
is for the caller: a model that was trained without the window, the new one, the champion.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import polars as pl

from lakehouse_assets.platform.declarations.gates import NewestLimits
from lakehouse_assets.platform.modelling.gate.guards import Guard
from lakehouse_assets.platform.modelling.metric_inputs import MEANS
from lakehouse_assets.platform.modelling.targets import PROBABILITY

_CENTRES = (*MEANS, PROBABILITY)
_CLASS = "probability_"
_QUANTILE = r"^p\d+(\.\d+)?$"
_MOST_NULLS = 0.1
"""How much the share of nulls in an input may rise above that of all earlier windows."""


@dataclass(frozen=True)
class Shift:
    """The mean of a column in the newest window, and the range of its means in earlier windows of the same length.

    Attributes:
        value: In the newest window; NaN: there is none.
        low: Lowest mean of an earlier window.
        high: Highest mean of an earlier window.
        nulls: By how much the share of nulls is above the highest of an earlier window.
    """

    value: float
    low: float
    high: float
    nulls: float = 0.0

    def limits(self, share: float) -> tuple[float, float]:
        """The range, widened by a share of its ends."""
        return self.low - share * abs(self.low), self.high + share * abs(self.high)

    def outside(self, share: float) -> bool:
        """Whether the value lies outside of the widened range, or is missing much more often."""
        low, high = self.limits(share)
        return not low <= self.value <= high or self.nulls > _MOST_NULLS


@dataclass(frozen=True, kw_only=True)
class NewestWindow:
    """What is known of a challenger on the newest rows. What does not apply is None, and is not judged.

    Attributes:
        loss: In the window, of the model that was trained without it.
        usual_loss: Median of the losses of the same recipe over earlier folds.
        baseline_loss: In the window, of the best baseline.
        champion_loss: In the window, of the champion, unless it was trained on the window.
        target: Means of the target, by when it was known.
        predicted: Mean of the new model's newest predictions, against the range of the means of the target.
        sums_to_champion: Sum of the new model's newest predictions over the sum of the champion's for the same rows.
        sums_to_held_out: The same over the sum of the model that was trained without the window.
        band_to_held_out: Width of its band over the width of the band of the model without the window.
        inputs: Means of the inputs.
    """

    loss: float | None = None
    usual_loss: float | None = None
    baseline_loss: float | None = None
    champion_loss: float | None = None
    target: Shift | None = None
    predicted: Shift | None = None
    sums_to_champion: float | None = None
    sums_to_held_out: float | None = None
    band_to_held_out: float | None = None
    inputs: Mapping[str, Shift] = field(default_factory=dict)

    def guards(self, limits: NewestLimits) -> tuple[Guard, ...]:
        """What is known, with the limits of the rule."""
        return tuple(
            guard
            for guard in (
                *self._losses(limits),
                _range("newest targets, mean", self.target, limits, "the newest targets are unlike all that came before"),
                _range("newest predictions, mean", self.predicted, limits, "the training data do not allow predictions like these"),
                _limited(
                    "newest sum over champion's", self.sums_to_champion, limits.sums, "new model and champion disagree about the same rows"
                ),
                _limited(
                    "newest sum over sum without the newest rows",
                    self.sums_to_held_out,
                    limits.sums,
                    "the newest rows changed what it predicts",
                ),
                _limited(
                    "band over band without the newest rows", self.band_to_held_out, limits.band, "the newest rows changed how sure it is"
                ),
                self._profile(limits),
            )
            if guard is not None
        )

    def _losses(self, limits: NewestLimits) -> list[Guard | None]:
        others = {
            "usual loss": (self.usual_loss, limits.against_usual, "it fails on the newest rows, or they are wrong"),
            "best baseline's": (self.baseline_loss, limits.against_baseline, "on the newest rows a baseline does better"),
            "champion's": (self.champion_loss, limits.against_champion, "on the newest rows the champion does better"),
        }
        return [
            None
            if self.loss is None or other is None
            else Guard(name=f"newest loss over {name}", value=_over(self.loss, other), high=most, meaning=text)
            for name, (other, most, text) in others.items()
        ]

    def _profile(self, limits: NewestLimits) -> Guard | None:
        if not self.inputs:
            return None
        outside = sorted(name for name, shift in self.inputs.items() if shift.outside(limits.history))
        meaning = f"unlike all that came before: {', '.join(outside[:5])}" + (f" and {len(outside) - 5} more" if len(outside) > 5 else "")
        return Guard(name="share of inputs out of range", value=len(outside) / len(self.inputs), high=limits.inputs, meaning=meaning)


def newest_window(
    examples: pl.DataFrame,
    *,
    at: str,
    known_at: str,
    target: str,
    inputs: Sequence[str],
    challenger: pl.DataFrame,
    held_out: pl.DataFrame | None = None,
    champion: pl.DataFrame | None = None,
    loss: float | None = None,
    usual_losses: Sequence[float] = (),
    baseline_losses: Sequence[float] = (),
    champion_loss: float | None = None,
    days: int = 28,
) -> NewestWindow:
    """The numbers of a newest window from frames.

    Args:
        examples: All examples, newest ones and those without a target included.
        at: Their time, a date or a datetime: windows of inputs are counted back from the newest.
        known_at: When the target was known, of the same types: windows of targets are counted back from the newest.
        target: A number; anything else is not profiled.
        inputs: Columns to profile; those that are no numbers and not Boolean are left out.
        challenger: The new model's predictions of the newest rows, as `Predictor.predict` gives them.
        held_out: Those of the model that was trained without the window, for the same rows.
        champion: Those of the champion, for the same rows.
        loss: Of the model without the window, in the window.
        usual_losses: Of the same recipe, in earlier folds.
        baseline_losses: Of the baselines, in the window.
        champion_loss: Of the champion, in the window.
        days: Length of a window.
    """
    targets = profile(examples.filter(pl.col(target).is_not_null()), known_at, [target], days).get(target)
    centre = next((name for name in _CENTRES if name in challenger.columns), None)
    predicted = None
    if targets is not None and centre is not None and challenger.height:
        # Until there is an earlier window the newest targets are all that is known.
        values = [value for value in (targets.low, targets.high, targets.value) if math.isfinite(value)]
        predicted = Shift(float(challenger[centre].mean()), min(values[:2]), max(values[:2])) if values else None  # type: ignore[arg-type]
    return NewestWindow(
        loss=loss,
        usual_loss=statistics.median(usual_losses) if usual_losses else None,
        baseline_loss=min(baseline_losses, default=None),
        champion_loss=champion_loss,
        target=targets,
        predicted=predicted,
        sums_to_champion=None if champion is None else sums_ratio(challenger, champion),
        sums_to_held_out=None if held_out is None else sums_ratio(challenger, held_out),
        band_to_held_out=None if held_out is None else band_ratio(challenger, held_out),
        inputs=profile(examples, at, inputs, days),
    )


def profile(rows: pl.DataFrame, at: str, columns: Sequence[str], days: int = 28) -> dict[str, Shift]:
    """For each column of numbers its mean in the newest window and the range of its means in earlier ones; none with a single window.

    Args:
        rows: Any.
        at: A date or datetime without nulls.
        columns: To profile; what is neither number nor Boolean is left out.
        days: Length of a window.
    """
    usable = [name for name in columns if rows.schema[name].is_numeric() or rows.schema[name] == pl.Boolean]
    time = pl.col(at).cast(pl.Datetime("us"))
    length = timedelta(days=days) // timedelta(microseconds=1)
    back = ((time.max() - time).dt.total_microseconds() // length).alias("__window")
    windows = (
        rows.with_columns(back)
        .group_by("__window")
        .agg(
            # Sorted, so that equal rows give equal sums whatever their order.
            *(pl.col(name).cast(pl.Float64).drop_nulls().sort().mean() for name in usable),
            *(pl.col(name).is_null().mean().alias(f"{name}__nulls") for name in usable),
        )
        .sort("__window")
    )
    if windows.height < 2:
        return {}
    newest, earlier = windows.row(0, named=True), windows[1:]
    found = {}
    for name in usable:
        means = earlier[name].drop_nulls().drop_nans()
        if not means.is_empty():
            low, high = float(means.min()), float(means.max())  # type: ignore[arg-type]
            value = math.nan if newest[name] is None else float(newest[name])
            found[name] = Shift(value, low, high, newest[f"{name}__nulls"] - float(earlier[f"{name}__nulls"].max()))  # type: ignore[arg-type]
    return found


def sums_ratio(predictions: pl.DataFrame, others: pl.DataFrame) -> float | None:
    """The sum of predictions over the sum of others for the same rows; of several classes, the ratio that is farthest from 1."""
    shared = [name for name in predictions.columns if name in others.columns]
    centres = [name for name in _CENTRES if name in shared][:1] or [name for name in shared if name.startswith(_CLASS)]
    ratios = [_over(_total(predictions[name]), _total(others[name])) for name in centres]
    return max(ratios, key=lambda ratio: abs(math.log(ratio)) if 0 < ratio < math.inf else math.inf, default=None)


def band_ratio(predictions: pl.DataFrame, others: pl.DataFrame) -> float | None:
    """The mean width between the outer quantiles over that of others for the same rows; None without quantiles."""
    widths = [_width(frame) for frame in (predictions, others)]
    return None if widths[0] is None or widths[1] is None else _over(widths[0], widths[1])


def _width(predictions: pl.DataFrame) -> float | None:
    quantiles = sorted(predictions.select(pl.col(_QUANTILE)).columns, key=lambda name: float(name[1:]))
    if len(quantiles) < 2:
        return None
    return _total(predictions[quantiles[-1]] - predictions[quantiles[0]])


def _total(values: pl.Series) -> float:
    return math.fsum(values.cast(pl.Float64).to_list())


def _over(value: float, other: float) -> float:
    if other:
        return value / other
    return 1.0 if not value else math.copysign(math.inf, value)


def _limited(name: str, value: float | None, limits: tuple[float | None, float | None], meaning: str) -> Guard | None:
    return None if value is None else Guard(name=name, value=value, low=limits[0], high=limits[1], meaning=meaning)


def _range(name: str, shift: Shift | None, limits: NewestLimits, meaning: str) -> Guard | None:
    if shift is None:
        return None
    low, high = shift.limits(limits.history)
    return Guard(name=name, value=shift.value, low=low, high=high, meaning=meaning)

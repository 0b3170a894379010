"""How good the predictions of a model were, by window, as the table `platform.monitoring.accuracy` has it; read through the reader."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import polars as pl

from lakehouse_assets.client.context import Context

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.models import ModelDeclaration

Every = Literal["1d", "1w", "1mo"]
By = Literal["horizon"]
_NAMES: Final = {"1d": "1 day", "1w": "1 week", "1mo": "1 month"}
_COLUMNS: Final = (
    "predictions",
    "window_start",
    "window_end",
    "model_version",
    "slice_value",
    "horizon",
    "metric",
    "value",
    "low",
    "high",
    "baseline",
    "estimate",
    "difference",
    "rows",
    "labelled",
    "coverage",
    "provisional",
    "evaluated_at",
)


@dataclass(frozen=True)
class LiveAccuracyOf:
    """What is known of the accuracy of one model.

    Attributes:
        model: Its name.
        every: How long windows are.
        metric: What is told.
        lower_is_better: Of the metric; None: it is no score, as a share of labelled rows.
        rows: A row for each window, version, and slice or range of the horizon, by time: `window_start`, `window_end`, `value` with
            `low` and `high`, `baseline`, `estimate`, `rows`, `labelled`, `provisional` and others.
    """

    model: str
    every: str
    metric: str
    lower_is_better: bool | None
    rows: pl.DataFrame

    def plot(self) -> bytes:
        """A picture of it, as PNG."""
        from lakehouse_assets.platform.monitoring.accuracy.picture import accuracy_plot

        return accuracy_plot(self.rows, metric=self.metric, model=self.model)


def accuracy(
    context: Context,
    model: "ModelDeclaration",
    *,
    every: str | None = None,
    by_slice: str | None = None,
    by: By | None = None,
    metric: str | None = None,
) -> LiveAccuracyOf:
    """How good the predictions of a model were.

    Args:
        context: The root.
        model: The model.
        every: How long windows are: `1d`, `1w` or `1mo`; None: weeks, or else what there is.
        by_slice: A column: each of its values by itself.
        by: `horizon`: each range of days ahead by itself.
        metric: One of the model's; None: the one by which the gate decides.

    Raises:
        LookupError: Nothing is known, for a reason that is told.
    """
    from lakehouse_assets.platform.declarations.base import nearest_or_all
    from lakehouse_assets.platform.storage.platform_tables import ACCURACY

    if every is not None and every not in _NAMES:
        raise LookupError(f"every {every!r}: windows are of {', '.join(_NAMES)}")
    if not context.root.lakehouse.table(ACCURACY).exists():
        raise LookupError(_nothing(model.name))
    mine = context.reader.scan(ACCURACY, what="accuracy").filter(pl.col("model") == model.name, ~pl.col("is_estimate"))
    named = metric or model.metric.name
    known = mine.select("granularity", "metric", "slice_key").unique().collect()
    if known.is_empty():
        raise LookupError(_nothing(model.name))
    there = [name for name, said in _NAMES.items() if said in known["granularity"].to_list()]
    every = every or ("1w" if "1w" in there else there[0])
    if every not in there:
        raise LookupError(f"{model.name} is not watched by {_NAMES[every]}, but by {', '.join(there)}: a monitor with every={every!r} does")
    if named not in known["metric"].to_list():
        raise LookupError(f"{model.name} has no metric {named!r}{nearest_or_all(named, known['metric'].to_list())}")
    slices = known["slice_key"].drop_nulls().unique().to_list()
    if by_slice is not None and by_slice not in slices:
        told = nearest_or_all(by_slice, slices)
        raise LookupError(f"{model.name} is not watched by {by_slice!r}{told}. A monitor LiveAccuracy(slices=({by_slice!r},)) does it")
    wanted = mine.filter(
        pl.col("granularity") == _NAMES[every],
        pl.col("metric") == named,
        pl.col("slice_key").is_null() if by_slice is None else pl.col("slice_key") == by_slice,
        pl.col("horizon").is_not_null() if by == "horizon" else pl.col("horizon").is_null(),
    )
    rows = wanted.select(_COLUMNS).collect().sort("window_start", "predictions", "model_version", "slice_value", _days(pl.col("horizon")))
    lower = {one.name: one.lower_is_better for one in (model.metric, *model.metrics)}
    return LiveAccuracyOf(model.name, every, named, lower.get(named), rows)


def _days(horizon: pl.Expr) -> pl.Expr:
    return horizon.str.extract(r"^(\d+)").cast(pl.Int64)


def _nothing(model: str) -> str:
    return (
        f"nothing is known of the accuracy of {model} yet: declare a monitor(…, of=PREDICTIONS, kind=LiveAccuracy()), and `lakehouse run` "
        "works it out after the predictions"
    )

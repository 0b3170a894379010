"""Residuals of forecasts: how far each outcome was from what was predicted. They are what a forecast's drift is watched by.

Values themselves move with the season; residuals of a model that knows the season do not.
"""

from datetime import datetime

import polars as pl

from lakehouse_assets.platform.declarations.learning import ABOUT, ACTUAL
from lakehouse_assets.platform.declarations.models import MODEL_VERSION
from lakehouse_assets.platform.modelling.metric_inputs import MEANS, first_of
from lakehouse_assets.platform.monitoring.accuracy.predicted import Predicted, Spans


def residuals(predicted: Predicted, now: datetime, spans: Spans | None = None) -> pl.DataFrame:
    """The residuals of predictions of numbers whose outcomes were known at a moment.

    Args:
        predicted: The predictions.
        now: The moment (UTC).
        spans: The times that they are about; None: all until now.

    Returns:
        `about` (the time, UTC), `model_version`, the key and horizon of the predictions, `predicted`, `actual`, `residual` (outcome less
        prediction) and `residual_share` (of the prediction; null where that is 0).
    """
    rows = predicted.rows(spans, now).filter(pl.col(ACTUAL).is_not_null())
    said, came = pl.col(first_of(rows, MEANS)).cast(pl.Float64), pl.col(ACTUAL).cast(pl.Float64)
    horizon = [] if predicted.horizon is None else [predicted.horizon]
    return rows.select(
        pl.col(ABOUT).alias("about"),
        MODEL_VERSION,
        *predicted.outcomes.key,
        *horizon,
        said.alias("predicted"),
        came.alias(ACTUAL),
        (came - said).alias("residual"),
        pl.when(said != 0).then((came - said) / said.abs()).alias("residual_share"),
    )

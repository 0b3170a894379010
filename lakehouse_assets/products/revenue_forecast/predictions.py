"""What the champion expects: the next 28 days of every product group, scored again when the champion or the features change."""

from collections.abc import Callable

import polars as pl

from lakehouse_assets import predictions
from lakehouse_assets.platform.modelling import plots
from lakehouse_assets.platform.pipeline.model_step import Scorer
from lakehouse_assets.platform.registry.ledger import last_decision
from lakehouse_assets.platform.storage.known_at import as_known
from lakehouse_assets.products.revenue_forecast.contracts import RevenueForecast
from lakehouse_assets.products.revenue_forecast.features import KEY
from lakehouse_assets.products.revenue_forecast.tables import FEATURES, daily_revenue_model, score

FORECAST = "revenue_forecast.predictions.daily_revenue"


def draw(read: Callable[[str], pl.LazyFrame]) -> bytes:
    """The champion's newest forecast, and what came before it."""
    newest = newest_forecast(read).collect()
    history = as_known(read(FEATURES), KEY).select(*KEY, "net").collect()
    return plots.forecast_plot(history, newest, value="net", by="product_group")


def newest_forecast(read: Callable[[str], pl.LazyFrame]) -> pl.LazyFrame:
    """The rows of the champion's newest forecast, none without a champion; `read` gives the rows of a table by its name."""
    decision = last_decision(read(daily_revenue_model.name))
    champion = pl.lit(decision["champion"] if decision else None, dtype=pl.Int64)
    forecasts = read(FORECAST).filter(pl.col("model_version") == champion)
    # Not the one of the latest day: that may be a day which its source took back.
    return forecasts.filter(pl.col("as_of") == pl.col("as_of").sort_by("scored_at", "as_of").last())


@predictions(
    FORECAST,
    contract=RevenueForecast,
    model=daily_revenue_model,
    features=FEATURES,
    key=("as_of", "horizon", "product_group", "model_version"),
    picture=draw,
)
def daily_revenue(champion: Scorer, features: pl.LazyFrame) -> pl.LazyFrame:
    """Net revenue by day and product group, 28 days ahead, with the band in which it lies eight times in ten."""
    return score(champion.model, features).lazy().with_columns(pl.col("horizon").cast(pl.Int64))

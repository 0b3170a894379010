"""The model whose training is measured by `training`, declared as a product does: from public names, in a module of its own."""

from datetime import timedelta

import polars as pl

from lakehouse_assets import (
    AveragePrecision,
    ByKey,
    ClassPrior,
    Contract,
    GradientBoosting,
    Labels,
    LogLoss,
    TimeHoldout,
    Timestamp,
    column,
    feature_set,
    model,
)

INPUTS, ROUNDS = 20, 300
SOURCE = "shop.silver.orders"
NAMES = tuple(f"x{number}" for number in range(INPUTS))
Known = type(
    "Known",
    (Contract,),
    {
        "__doc__": "What was known of an order.",
        "__annotations__": {"order": int, "at": Timestamp, "known_at": Timestamp, **dict.fromkeys(NAMES, float)},
        "order": column(key=True),
        "at": column(key=True),
    },
)


@feature_set("shop.features.orders", contract=Known, entity=("order",), event_time="at", kind=ByKey("order"), inputs={"rows": SOURCE})
def features(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What was known of an order when it came."""
    return rows.select("order", "at", pl.col("at").alias("known_at"), *NAMES)


fraud = model(
    "shop.models.fraud",
    description="Whether an order is charged back.",
    labels=Labels(SOURCE, entity=("order",), at="at", target="charged_back", settled=timedelta(days=14)),
    features=(features,),
    learner=GradientBoosting(objective="binary", rounds=ROUNDS, early_stopping=None, num_leaves=31),
    split=TimeHoldout(test=timedelta(days=56), gap=timedelta(days=14)),
    metric=LogLoss(),
    metrics=(AveragePrecision(),),
    baselines={"class_share": ClassPrior()},
)

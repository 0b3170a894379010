"""Feature values as they were known at a moment, so that no training row sees what came later (law 5).

A feature set has a row for each entity and event time, and one more for each time that its values were revised; `known_at` says from when
on each was known. How such tables are written is in `storage.known_at`, what the values mean in the products.
"""

from collections.abc import Sequence

import polars as pl

from lakehouse_assets.platform.storage.known_at import IS_RETRACTED, KNOWN_AT, without_retracted


def join_as_known(labels: pl.LazyFrame, features: pl.LazyFrame, *, entity: Sequence[str], event_time: str, at: str) -> pl.LazyFrame:
    """Give each label the newest feature row of its entity that was known at the label's time.

    Args:
        labels: One row a label, with the columns of `entity` and `at` (UTC).
        features: The feature set with all revisions: `entity`, `event_time`, `known_at` (UTC) and values. Nothing is known before
            it happens: `event_time` is not after `known_at`.
        entity: Columns that name the entity.
        event_time: Column of the features: when the values applied.
        at: Column of the labels: no value is taken whose event time or known-at is after it.

    Returns:
        The labels in the order of `at`, with the columns of the features; null where nothing was known yet, or where the newest row was
        retracted.
    """
    in_order = features.sort(KNOWN_AT, event_time)
    # At the moment at which a row becomes known it is the newest, unless one of a later event time was known before.
    newest = in_order.filter(pl.col(event_time) >= pl.col(event_time).cum_max().over(entity))
    joined = labels.sort(at).join_asof(
        newest, left_on=at, right_on=KNOWN_AT, by=list(entity), strategy="backward", coalesce=False, check_sortedness=False
    )
    columns = features.collect_schema().names()
    if IS_RETRACTED not in columns:
        return joined
    told = [name for name in columns if name not in {*entity, IS_RETRACTED}]
    gone = pl.col(IS_RETRACTED).fill_null(value=False)
    return joined.with_columns(pl.when(~gone).then(name).alias(name) for name in told).drop(IS_RETRACTED)


def as_first_known(features: pl.LazyFrame, on: Sequence[str]) -> pl.LazyFrame:
    """Of each key the values that were known first: what a model could see on the day itself. Keys that were retracted are left out."""
    return without_retracted(features, on).sort(KNOWN_AT).unique(list(on), keep="first", maintain_order=True)

"""What the series had on earlier days, as it was known at each origin, or as it is known now.

A feature set keeps every value with the time from which on it was known. From an origin, an earlier day looks as it did at the origin's
end: revisions that came until then are seen, and those that came later are not. Which days are looked at is for `inputs` to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from lakehouse_assets.platform.modelling.forecasting.series import DAY, Series
from lakehouse_assets.platform.modelling.horizons import join_day
from lakehouse_assets.platform.storage.known_at import IS_RETRACTED, KNOWN_AT, as_known, of_version

_SEEN, _END, _ROW = "_seen", "_end", ("origin", "horizon")


@dataclass(frozen=True)
class KnownDays:
    """Rows of a feature set by series and day.

    Attributes:
        origins: One row for each series and day from which can be forecast.
        first: One row for each series and day; `_seen` says from when on it was known, null: always.
        revisions: What became known later, with `_seen`; None: nothing did.
        by: Columns that tell the series apart.
    """

    origins: pl.LazyFrame
    first: pl.LazyFrame
    revisions: pl.LazyFrame | None
    by: tuple[str, ...]

    def join(self, rows: pl.LazyFrame, day: pl.Expr, columns: Sequence[str], *, prefix: str) -> pl.LazyFrame:
        """Add what the same series had on another day, as the origin of each row knew it; null where it knew nothing.

        Args:
            rows: Has the columns of `by`, `origin` and `horizon`, and those that `day` reads.
            day: The day to read, worked out of `rows`.
            columns: Columns of the feature set to add.
            prefix: Stands before the names of the added columns.
        """
        names, end = [prefix + name for name in columns], _end_of("origin")
        seen = prefix + _SEEN
        joined = join_day(rows, self.first, day, [*columns, _SEEN], by=self.by, prefix=prefix)
        unseen = pl.col(seen) > end
        joined = joined.with_columns(pl.when(~unseen.fill_null(value=False)).then(name).alias(name) for name in names).drop(seen)
        if self.revisions is None:
            return joined
        key = [*self.by, *_ROW]
        later = self.revisions.select(*self.by, pl.col(DAY).alias("_other_day"), _SEEN, pl.col(columns).name.prefix("_later_"))
        known = (
            rows.select(*key, _other_day=day, _end=end)
            .join(later, on=[*self.by, "_other_day"])
            .filter(pl.col(_SEEN) <= pl.col(_END))
            .sort(_SEEN)
            .unique(key, keep="last", maintain_order=True)
        )
        added = known.select(*key, _SEEN, pl.col("^_later_.*$"))
        chosen = [
            pl.when(pl.col(_SEEN).is_not_null()).then(f"_later_{column}").otherwise(name).alias(name)
            for column, name in zip(columns, names, strict=True)
        ]
        return joined.join(added, on=key, how="left").with_columns(chosen).drop(_SEEN, *(f"_later_{column}" for column in columns))


def at_each_origin(features: pl.DataFrame, series: Series) -> KnownDays:
    """As it was known at the end of each origin. A retraction is a revision that leaves nothing: what was known before it stays so.

    Args:
        features: Rows of `daily_features` with all revisions.
        series: What they are.
    """
    key, opened = list(series.key), of_version(series.opened(features.lazy()))
    if IS_RETRACTED not in opened.collect_schema():
        opened = opened.with_columns(pl.lit(value=False).alias(IS_RETRACTED))
    values = pl.exclude(*key, KNOWN_AT, IS_RETRACTED)
    rows = opened.with_columns(pl.when(~pl.col(IS_RETRACTED)).then(values).name.keep()).sort(KNOWN_AT).collect()
    first = rows.unique(key, keep="first", maintain_order=True).drop(IS_RETRACTED).rename({KNOWN_AT: _SEEN})
    in_time = rows.filter(pl.col(KNOWN_AT) <= _end_of(DAY)).unique(key, keep="last", maintain_order=True)
    origins = in_time.filter(~pl.col(IS_RETRACTED)).drop(IS_RETRACTED).lazy()
    revisions = None
    if rows.height > first.height:
        later = rows.lazy().join(first.lazy().select(*key, _SEEN), on=key).filter(pl.col(KNOWN_AT) > pl.col(_SEEN))
        revisions = later.drop(_SEEN, IS_RETRACTED).rename({KNOWN_AT: _SEEN}).collect().lazy()
    return KnownDays(origins, first.lazy(), revisions, series.by)


def as_known_now(features: pl.LazyFrame, series: Series) -> KnownDays:
    """As it is known now, whenever that was learnt: what a forecast from the newest day is made of."""
    newest = as_known(series.opened(features), list(series.key)).collect().lazy()
    return KnownDays(newest, newest.with_columns(pl.lit(None, dtype=pl.Datetime("us", "UTC")).alias(_SEEN)), None, series.by)


def _end_of(day: str) -> pl.Expr:
    return pl.col(day).cast(pl.Datetime("us", "UTC")) + pl.duration(days=1)

"""What a model learns to predict: the labels of a table, as they were known at a moment.

What was known of an entity when its prediction is made comes from feature sets: see `training_set`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from lakehouse_assets.platform.declarations.base import DeclarationError, require_once
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.learning import LABEL_KNOWN_AT, Examples
from lakehouse_assets.platform.storage.known_at import IS_RETRACTED
from lakehouse_assets.platform.wording import counted

_UTC = pl.Datetime("us", "UTC")


class TrainingSetError(ValueError):
    """Labels from which no training set can be made. The message names the table, the column and what to do."""


@dataclass(frozen=True)
class Labels:
    """What a model learns to predict, of what, and at which time.

    Attributes:
        table: Its name: one row for each prediction to make. With `known_at` it may have several, of which the newest counts.
        entity: The columns that name what is predicted.
        at: When the prediction is made: a time (UTC), or a date, whose end counts.
        target: The column that is predicted. Rows without a value are left out.
        known_at: The column that says when the target became known.
        settled: Instead of it, how long after `at` the target is known. A row counts once the table has newer ones by so much: no clock is
            read, so that equal tables give equal labels. A row with a wrong time in the future therefore makes the others count too early:
            let the contract of the table hold it back, as by `future_within=timedelta(days=1)`.
        slices: Columns, of the table or of a feature set, by whose values scores are told apart.

    Raises:
        DeclarationError: It cannot be meant.
    """

    table: str
    entity: tuple[str, ...]
    at: str
    target: str
    known_at: str | None = None
    settled: timedelta | None = None
    slices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"Labels({self.table})"
        if not self.entity:
            raise DeclarationError(f'{where}: entity has to be a tuple of columns, as in entity=("invoice",)')
        require_once(where, "entity with at and target", (*self.entity, self.at, self.target))
        if (self.known_at is None) == (self.settled is None):
            raise DeclarationError(
                f"{where}: say when the target is known, by known_at= (a column) or settled= (a timedelta after {self.at}), and not by both"
            )
        if self.settled is not None and self.settled < timedelta(0):
            raise DeclarationError(
                f"{where}: settled={self.settled} would know the target before it is predicted: give it as timedelta(days=60)"
            )

    def examples(self, features: tuple[FeatureSet, ...], prefixes: Mapping[str, str]) -> Examples:
        """These labels with the values of feature sets as they were known at the label's time.

        Args:
            features: Are joined in this order.
            prefixes: By the name of a feature set what stands before the names of its columns.
        """
        from lakehouse_assets.platform.features.training_set import LabelledExamples  # which is made of labels

        return LabelledExamples(self, features, prefixes)

    def rows(self, table: pl.LazyFrame, also: Sequence[str] = (), known_until: datetime | None = None) -> pl.DataFrame:
        """One row for each entity and time, sorted by time: entity, `at`, the columns `also`, target and `label_known_at`.

        Args:
            table: The rows of the table.
            also: More columns of it.
            known_until: Targets are as they were known then, and those that were not known yet are left out (naive: UTC). None: as now.

        Raises:
            TrainingSetError: Rows lack entity, time or when they were known, or several are for one entity and time.
        """
        schema = table.collect_schema()
        wanted = dict.fromkeys([*self.entity, self.at, *also, self.target])
        missing = [name for name in (*wanted, *([self.known_at] if self.known_at else [])) if name not in schema]
        if missing:
            raise TrainingSetError(f"{self.table} has no column {', '.join(missing)}: it has {', '.join(schema)}")
        known = self._known_at(schema)
        gone = pl.col(IS_RETRACTED).fill_null(value=False) if IS_RETRACTED in schema else pl.lit(value=False)
        taken = table.select(*wanted, known.alias(LABEL_KNOWN_AT), gone.alias("__gone"))
        if schema[self.target].is_float():
            taken = taken.with_columns(pl.col(self.target).fill_nan(None))
        taken = taken.filter(pl.col(self.target).is_not_null() | pl.col(LABEL_KNOWN_AT).is_not_null())  # the rest is not settled yet
        if known_until is not None:
            taken = taken.filter(pl.col(LABEL_KNOWN_AT) <= (known_until if known_until.tzinfo else known_until.replace(tzinfo=UTC)))
        found = taken.collect(engine="streaming")
        key = [*self.entity, self.at]
        self._check_nulls(found, key)
        if self.known_at is not None:
            # Of revisions the newest counts; of those that tie, the one with the largest values, and never the order of rows.
            others = sorted(set(found.columns) - set(key) - {LABEL_KNOWN_AT})
            found = found.sort(LABEL_KNOWN_AT, *others).unique(key, keep="last", maintain_order=True)
        elif (several := found.select(key).is_duplicated()).any():
            first = found.filter(several).sort(key).row(0, named=True)
            raise TrainingSetError(
                f"{self.table} has {counted(int(several.sum()), 'row')} that share {', '.join(key)} with another one, the first "
                f"{', '.join(f'{name} = {first[name]}' for name in key)}: one row is one prediction, so name all columns of its entity"
            )
        if self.settled is not None and known_until is None:
            # No clock is read: the newest row says until when a target can have become known.
            found = found.filter(pl.col(LABEL_KNOWN_AT) <= pl.col(LABEL_KNOWN_AT).max() - self.settled)
        return found.filter(~pl.col("__gone") & pl.col(self.target).is_not_null()).drop("__gone").sort(self.at, *self.entity)

    def _known_at(self, schema: pl.Schema) -> pl.Expr:
        column = self.known_at or self.at
        dtype = schema[column]
        if dtype == pl.Date:  # its end counts
            known = (pl.col(column).cast(pl.Datetime("us")) + pl.duration(days=1)).dt.replace_time_zone("UTC")
        elif isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
            known = pl.col(column).cast(_UTC)
        else:
            raise TrainingSetError(f"{self.table}: {column} has to be a date or a time with a time zone, and is {dtype}")
        return known if self.settled is None else known + self.settled

    def _check_nulls(self, found: pl.DataFrame, key: list[str]) -> None:
        for name in (*key, LABEL_KNOWN_AT):
            if nulls := found[name].null_count():
                column = (self.known_at or self.at) if name == LABEL_KNOWN_AT else name
                raise TrainingSetError(
                    f"{self.table}: {counted(nulls, 'row')} without {column}: a label has an entity, a time and when it was known. "
                    "Leave such rows out of the table, or let its contract reject them"
                )

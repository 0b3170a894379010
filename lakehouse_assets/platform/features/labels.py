"""What a model learns to predict: the labels of a table, as they were known at a moment.

What was known of an entity when its prediction is made comes from feature sets: see `training_set`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

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
        otherwise: With `known_at` and `settled`: the target of rows that have none when they are settled, as an order without a charge back
            by then is honest. No row counts earlier, else the newest ones would all be those that are known soon. A target that comes
            later is a revision: it counts from `known_at` on, and before that the row counted as `otherwise`.
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
    otherwise: Any = None

    def __post_init__(self) -> None:
        where = f"Labels({self.table})"
        if not self.entity:
            raise DeclarationError(f'{where}: entity has to be a tuple of columns, as in entity=("invoice",)')
        require_once(where, "entity with at and target", (*self.entity, self.at, self.target))
        if self.otherwise is not None and (self.known_at is None or self.settled is None):
            raise DeclarationError(
                f"{where}: otherwise={self.otherwise!r} is the target of rows that have none when they are settled: say when one became "
                "known by known_at= (a column), and how long it may take by settled=, as timedelta(days=70)"
            )
        if self.otherwise is None and (self.known_at is None) == (self.settled is None):
            raise DeclarationError(
                f"{where}: say when the target is known, by known_at= (a column) or settled= (a timedelta after {self.at}), and not by "
                "both unless otherwise= says what a row is that has no target by then"
            )
        if self.settled is not None and self.settled < timedelta(0):
            raise DeclarationError(
                f"{where}: settled={self.settled} would know the target before it is predicted: give it as timedelta(days=60)"
            )

    def examples(self, features: tuple[FeatureSet, ...], prefixes: Mapping[str, str], without: tuple[str, ...] = ()) -> Examples:
        """These labels with the values of feature sets as they were known at the label's time.

        Args:
            features: Are joined in this order.
            prefixes: By the name of a feature set what stands before the names of its columns.
            without: Columns of them, with their prefixes, that are not learnt from.
        """
        from lakehouse_assets.platform.features.training_set import LabelledExamples  # which is made of labels

        return LabelledExamples(self, features, prefixes, without)

    def rows(
        self,
        table: pl.LazyFrame,
        also: Sequence[str] = (),
        known_until: datetime | None = None,
        settled_until: datetime | None = None,
    ) -> pl.DataFrame:
        """One row for each entity and time, sorted by time: entity, `at`, the columns `also`, target and `label_known_at`.

        Args:
            table: The rows of the table.
            also: More columns of it.
            known_until: Targets are as they were known then, and those that were not known yet are left out (naive: UTC). None: as now.
            settled_until: Where targets are settled by time, only those that were so then; None: `known_until`.

        Raises:
            TrainingSetError: Rows lack entity, time or when they were known, or several are for one entity and time.
        """
        schema = table.collect_schema()
        wanted = dict.fromkeys([*self.entity, self.at, *also, self.target])
        missing = [name for name in (*wanted, *([self.known_at] if self.known_at else [])) if name not in schema]
        if missing:
            raise TrainingSetError(f"{self.table} has no column {', '.join(missing)}: it has {', '.join(schema)}")
        known = self._moment(self.known_at or self.at, schema)
        known = known if self.settled is None or self.otherwise is not None else known + self.settled
        gone = pl.col(IS_RETRACTED).fill_null(value=False) if IS_RETRACTED in schema else pl.lit(value=False)
        taken = table.select(*wanted, known.alias(LABEL_KNOWN_AT), gone.alias("__gone"))
        if schema[self.target].is_float():
            taken = taken.with_columns(pl.col(self.target).fill_nan(None))
        if self.otherwise is not None:
            return self._with_otherwise(taken, known_until, settled_until or known_until)
        taken = taken.filter(pl.col(self.target).is_not_null() | pl.col(LABEL_KNOWN_AT).is_not_null())  # the rest is not settled yet
        if known_until is not None:
            until = None if self.settled is None else settled_until
            taken = taken.filter(pl.col(LABEL_KNOWN_AT) <= _in_utc(until or known_until))
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

    def from_silence(self, schema: pl.Schema) -> pl.Expr:
        """Whether a row that `rows` gave has its target only because nothing else was said until it was settled.

        Args:
            schema: Of these rows.
        """
        if self.otherwise is None or self.settled is None:
            return pl.lit(value=False)
        is_silent: pl.Expr = (pl.col(self.target) == self.otherwise) & (
            pl.col(LABEL_KNOWN_AT) == self._moment(self.at, schema) + self.settled
        )
        return is_silent

    def data_until(self, table: pl.LazyFrame) -> datetime | None:
        """The newest time in the table of labels, where targets are settled by time; None: they are not, or there is no row.

        What is younger than this by less than `settled` is not settled: no clock is read, as rows may have stopped coming.
        """
        if self.settled is None:
            return None
        column = self.at if self.otherwise is not None else self.known_at or self.at
        newest: datetime | None = table.select(self._moment(column, table.collect_schema()).max()).collect(engine="streaming").item()
        return newest

    def _with_otherwise(self, taken: pl.LazyFrame, known_until: datetime | None, settled_until: datetime | None) -> pl.DataFrame:
        """The rows that are settled. A target that was not known yet is as if it were not there."""
        found = taken.collect(engine="streaming")
        key, known, target = [*self.entity, self.at], pl.col(LABEL_KNOWN_AT), pl.col(self.target)
        self._check_nulls(found, key, found.filter(target.is_not_null()))
        if known_until is not None:
            later = (known > _in_utc(known_until)).fill_null(value=False)
            hidden = {name: pl.when(~later).then(name) for name in (self.target, LABEL_KNOWN_AT)}
            found = found.with_columns(**hidden, __gone=pl.col("__gone") & ~later)
        others = sorted(set(found.columns) - set(key) - {LABEL_KNOWN_AT})
        newest = found.sort(LABEL_KNOWN_AT, *others, nulls_last=False).unique(key, keep="last", maintain_order=True)
        settled = self._moment(self.at, found.schema) + self.settled
        # No clock is read: the newest row says until when a target can have become known.
        over = settled <= (settled.max() - self.settled if settled_until is None else _in_utc(settled_until))
        filled = target.fill_null(pl.lit(self._otherwise(found.schema[self.target]), found.schema[self.target]))
        counted = newest.with_columns(filled, pl.max_horizontal(known, settled).alias(LABEL_KNOWN_AT), __over=over)
        return counted.filter("__over", ~pl.col("__gone")).drop("__over", "__gone").sort(self.at, *self.entity)

    def _otherwise(self, dtype: pl.DataType) -> Any:
        try:
            value = pl.Series([self.otherwise], strict=True).cast(dtype, strict=True).item()
        except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
            value = None
        if value != self.otherwise or isinstance(self.otherwise, bool) != (dtype == pl.Boolean()):
            raise TrainingSetError(
                f"{self.table}: otherwise={self.otherwise!r} is no {dtype}, which {self.target} is: give one of its type"
            )
        return value

    def _moment(self, column: str, schema: pl.Schema) -> pl.Expr:
        """The values of a column as moments (UTC)."""
        dtype = schema[column]
        if dtype == pl.Date:  # its end counts
            return (pl.col(column).cast(pl.Datetime("us")) + pl.duration(days=1)).dt.replace_time_zone("UTC")
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
            return pl.col(column).cast(_UTC)
        raise TrainingSetError(f"{self.table}: {column} has to be a date or a time with a time zone, and is {dtype}")

    def _check_nulls(self, found: pl.DataFrame, key: list[str], with_target: pl.DataFrame | None = None) -> None:
        """See that rows have a key, and those `with_target` (all by default) a time at which it was known."""
        for name in (*key, LABEL_KNOWN_AT):
            rows = found if with_target is None or name != LABEL_KNOWN_AT else with_target
            if nulls := rows[name].null_count():
                column = (self.known_at or self.at) if name == LABEL_KNOWN_AT else name
                raise TrainingSetError(
                    f"{self.table}: {counted(nulls, 'row')} without {column}: a label has an entity, a time and when it was known. "
                    "Leave such rows out of the table, or let its contract reject them"
                )


def _in_utc(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)

"""Examples whose inputs stand in the rows that are predicted: each row as it first came, with its outcome.

Examples that are joined from several feature sets are in `features.training_set`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import polars as pl

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.learning import LABEL_KNOWN_AT, NotEnoughData, Read
from lakehouse_assets.platform.features.label_outcomes import LabelOutcomes
from lakehouse_assets.platform.features.point_in_time import Joined
from lakehouse_assets.platform.features.training_set import LabelledExamples
from lakehouse_assets.platform.modelling.splits import moment
from lakehouse_assets.platform.quality.contract import schema_of
from lakehouse_assets.platform.storage.known_at import IS_RETRACTED, KNOWN_AT, KNOWN_AT_ASSUMED, of_version
from lakehouse_assets.platform.wording import listed

_MOST_SETTLED: Final = 0.95
"""The share of rows whose outcome has become known when a row counts as settled."""
_COMPLETE: Final = 0.9
"""The share of young rows with an outcome from which on the table is taken for complete."""
_MOST_NAMED: Final = 5
_MOST_CLASSES: Final = 50
"""Of more values it is likely that they are no classes."""


@dataclass(frozen=True)
class RowExamples(LabelledExamples):
    """Rows of a table that are predicted by their own columns, which a feature set keeps with the time at which each value became known.

    A prediction is made when a row comes, so its inputs are the values that came first: corrections are not seen. Rows that came when their
    outcome was known already are left out, as nothing was predicted of them.

    Some outcomes become known sooner than others: a charge back within days, that there is none after weeks. Among the newest rows with an
    outcome the soon known one is too frequent, so no row counts as known before the delay that covers most rows is over.

    What can have become known is told by the newest row, and not by a clock: see `Labels.settled` for rows with a time in the future.

    Attributes:
        positive: Of texts, the value that counts: the target becomes a Boolean. None: it is one, or a 0 or 1, or it has `classes`.
        classes: The values that there may be; none for a target of two.
    """

    positive: str | None = None
    classes: tuple[str, ...] = ()

    @property
    def feature(self) -> FeatureSet:
        """The feature set."""
        return self.features[0]

    def identity(self) -> str:
        """See `Examples`."""
        return super().identity() + repr((self.positive, self.classes))

    @property
    def targets_are_final(self) -> bool:
        """See `LabelledExamples.targets_are_final`: which rows are settled depends on all that are known."""
        return False

    def _with_targets_of(self, read: Read, known_until: datetime) -> pl.DataFrame | None:  # noqa: ARG002
        """See `LabelledExamples`: which rows there are depends on what was known."""
        return None

    def outcomes(self) -> LabelOutcomes:
        """See `LabelledExamples.outcomes`: targets as they are learnt."""
        return replace(super().outcomes(), as_learnt=lambda rows: self._with_target(rows, is_whole=False))

    def join(self, read: Read, known_until: datetime | None = None) -> Joined:
        """See `LabelledExamples.join`."""
        key = [*self.labels.entity, self.labels.at]
        first = self._first(read, key)
        labels = self._labels(read, first, key, known_until)
        rows = labels.join(first, on=key, how="inner", maintain_order="left")
        rows = rows.filter((pl.col(KNOWN_AT) <= pl.col(LABEL_KNOWN_AT)) | pl.col(KNOWN_AT_ASSUMED))
        found = rows.select(pl.col(self.at).alias("event_time"), KNOWN_AT, KNOWN_AT_ASSUMED)
        return Joined(self._with_target(rows, is_whole=known_until is None).drop(KNOWN_AT, KNOWN_AT_ASSUMED), {self.feature.name: found})

    def _first(self, read: Read, key: Sequence[str]) -> pl.DataFrame:
        """Each row of the feature set as it came first."""
        rows = of_version(read(self.feature.name)).filter(~pl.col(IS_RETRACTED))
        wanted = dict.fromkeys([*key, KNOWN_AT, KNOWN_AT_ASSUMED, *self.columns_of(self.feature)])
        return rows.select(*wanted).sort(KNOWN_AT).unique(list(key), keep="first", maintain_order=True).collect(engine="streaming")

    def _labels(self, read: Read, first: pl.DataFrame, key: Sequence[str], known_until: datetime | None) -> pl.DataFrame:
        """The labels of these rows that are settled: entity and time of the types of the feature set."""
        labels, types = self.labels, schema_of(self.feature.contract)
        table = read(labels.table)
        of_rows = table.with_columns(pl.col(name).cast(types[name]) for name in key).join(first.lazy().select(key), on=key, how="semi")
        also = [name for name in self.slices if name not in self.columns_of(self.feature)]
        rows = self._settled(labels.rows(of_rows, also, known_until))
        if known_until is not None:
            until = known_until if known_until.tzinfo else known_until.replace(tzinfo=UTC)
            return rows.filter(pl.col(LABEL_KNOWN_AT) <= until)
        # No clock is read: the newest row of the table says until when its outcomes can have become known.
        moments = of_rows.select(moment(self.at, types[self.at]).alias("moment")).collect(engine="streaming")["moment"]
        newest = moments.max()
        if newest is None:
            return rows
        waiting = rows.filter(pl.col(LABEL_KNOWN_AT) > newest)
        young = (
            moments.filter(moments > waiting.select(moment(self.at, types[self.at]).min()).item()) if waiting.height else moments.clear()
        )
        # Of a table that is complete nothing has to be waited for.
        complete = labels.settled is None and waiting.height >= _COMPLETE * len(young)
        return rows if complete else rows.filter(pl.col(LABEL_KNOWN_AT) <= newest)

    def _settled(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The labels, none of them known earlier than most are: of young rows only one outcome may have had the time to become known."""
        if self.labels.known_at is None or rows.is_empty():
            return rows
        at = moment(self.at, rows.schema[self.at])
        delay = rows.select((pl.col(LABEL_KNOWN_AT) - at).quantile(_MOST_SETTLED, "lower")).item()
        return rows.with_columns(pl.max_horizontal(pl.col(LABEL_KNOWN_AT), at + pl.lit(delay)).alias(LABEL_KNOWN_AT))

    def _with_target(self, rows: pl.DataFrame, *, is_whole: bool) -> pl.DataFrame:
        """The target as it is learnt.

        Args:
            rows: With the target as the table has it.
            is_whole: Whether they are all that there is: in a part of them, a value may not have come yet.

        Raises:
            NotEnoughData: It has values that were not declared, or lacks the one that counts.
        """
        target, name = self.labels.target, f"{self.labels.table}: {self.labels.target}"
        values = rows[target].cast(pl.String)
        if self.positive is None and not self.classes:
            if is_whole:
                self._check_undeclared(rows[target])
            return rows
        found = values.unique().drop_nulls().sort()
        if self.positive is not None:
            if is_whole and len(found) and self.positive not in found:
                raise NotEnoughData(
                    f"positive={self.positive!r} is not among the values {listed(found.to_list(), _MOST_NAMED)} of {name}: "
                    f"name the value that counts as the table has it, or wait until it has come"
                )
            return rows.with_columns((values == self.positive).alias(target))
        if unknown := [value for value in found if value not in self.classes]:
            raise NotEnoughData(
                f"{name} has the value(s) {listed(unknown, _MOST_NAMED)}, and classes= names "
                f"{', '.join(self.classes)}: name all values that are to be predicted, and leave rows of others out with where="
            )
        return rows.with_columns(values.alias(target))

    def _check_undeclared(self, values: pl.Series) -> None:
        """See that a target without `positive` and `classes` is a Boolean, or 0 or 1."""
        if values.dtype in {pl.Boolean, pl.Null} or (values.dtype.is_numeric() and values.cast(pl.Float64).is_in([0.0, 1.0]).all()):
            return
        name, found = f"{self.labels.table}: {self.labels.target}", values.cast(pl.String).unique().drop_nulls().sort().to_list()
        if not found:
            return
        if len(found) > _MOST_CLASSES:
            raise NotEnoughData(
                f"{name} has {len(found)} values, and a classifier tells few apart: of a number declare a model(…) whose learner "
                f"has objective='regression', or make a Boolean of it"
            )
        said = f"{name} has the value(s) {listed(found, _MOST_NAMED)}"
        if len(found) <= 2:
            raise NotEnoughData(f"{said}: say which one counts, as positive={found[-1]!r}, or make a Boolean of it")
        raise NotEnoughData(f"{said}: name all that are to be predicted in classes=(…), or the one that counts in positive=")

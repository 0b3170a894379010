"""Predictions that are not made row by row, as forecasts: the same function on the feature rows of the lake, kept in memory.

They are made again when another champion or other feature rows are there. An endpoint of them is asked by keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.serving.refused import FieldError, Refused
from lakehouse_assets.platform.serving.rows import Row
from lakehouse_assets.platform.serving.scorer import Loaded, NotTaken
from lakehouse_assets.platform.storage.feature_versions import version_to_read
from lakehouse_assets.platform.storage.known_at import of_version
from lakehouse_assets.platform.storage.table import Table

AS_OF: Final = "as_of"
"""The column of predictions that says when they were made, where several are kept side by side."""


@dataclass(frozen=True)
class Newest:
    """The newest predictions of one version.

    Attributes:
        rows: As the function gives them, without those that were made earlier than others of the same key.
        by: The columns that name what is predicted.
        features_version: The Delta version of the feature rows that they are made of.
    """

    rows: pl.DataFrame
    by: tuple[str, ...]
    features_version: int

    def of(self, keys: Sequence[Row]) -> list[list[Row]]:
        """The predictions of each key; a key that leaves columns out, or has null there, asks for all of them.

        Raises:
            Refused: Of a key nothing is predicted.
        """
        found, errors = [], []
        for number, key in enumerate(keys):
            wanted = tuple((name, value) for name, value in key.items() if value is not None)
            rows = self._by_key.get(wanted) if len(wanted) == len(self.by) else self._where(wanted)
            if not rows and wanted:
                said = ", ".join(f"{name}={value!r}" for name, value in wanted)
                errors.append(FieldError(f"nothing is predicted for {said}{self._known(wanted)}", wanted[0][0], number))
            found.append(rows or [])
        if errors:
            raise Refused(422, errors)
        return found

    def _where(self, wanted: Sequence[tuple[str, Any]]) -> list[Row]:
        return [row for row in self._all if all(row[name] == value for name, value in wanted)]

    @cached_property
    def _all(self) -> list[Row]:
        return self.rows.rows(named=True)

    @cached_property
    def _by_key(self) -> Mapping[tuple[tuple[str, Any], ...], list[Row]]:
        found: dict[tuple[tuple[str, Any], ...], list[Row]] = {}
        for row in self._all:
            found.setdefault(tuple((name, row[name]) for name in self.by), []).append(row)
        return found

    def _known(self, wanted: Sequence[tuple[str, Any]]) -> str:
        if len(wanted) != 1 or len(values := {row[wanted[0][0]] for row in self._all}) > 20:
            return ""
        return f"; there are {', '.join(sorted(map(str, values)))}"

    @property
    def as_of(self) -> date | datetime | None:
        """When the newest of them were made."""
        return self.rows[AS_OF].max() if AS_OF in self.rows.columns else None  # type: ignore[return-value]


def newest(loaded: Loaded, table: Table, entity: Sequence[str]) -> Newest:
    """Run the function of the prediction table on all feature rows.

    Args:
        loaded: The version.
        table: Of the driving feature set.
        entity: The columns that name what is predicted.

    Raises:
        NotTaken: There are no feature rows, or the function fails on them.
    """
    if not table.exists():
        raise NotTaken(f"{table.name} has no rows yet: `lakehouse run {table.name}`")
    version = table.version()
    read = version_to_read(table, loaded.learnt.get(table.name), version)
    if read is None:
        raise NotTaken(f"{loaded.endpoint.model.name} was trained on a version of {table.name} whose rows are gone: train it again")
    rows = of_version(table.scan(version), read.number)
    ((parameter, _),) = loaded.endpoint.predictions.inputs.items()
    try:
        found = loaded.endpoint.predictions(champion=loaded.champion, **{parameter: rows}).collect()
    except Exception as error:
        raise NotTaken(f"the function of {loaded.endpoint.predictions.name} fails on {table.name} version {version}: {error}") from error
    if AS_OF in found.columns and not found.is_empty():
        newest_of = pl.col(AS_OF) == (pl.col(AS_OF).max().over(list(entity)) if entity else pl.col(AS_OF).max())
        found = found.filter(newest_of)
    order = dict.fromkeys([*entity, *loaded.key])
    return Newest(found.sort(list(order)), tuple(entity), version)

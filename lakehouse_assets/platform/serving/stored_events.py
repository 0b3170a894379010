"""Stored events by their keys, with the features that batch has of them: what a request of keys is answered from.

All comes from the tables, by the join that the prediction table is filled with: what the online store has now does not matter, nor how old
the event is. Who scores these rows is in `engine`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.serving.refused import FieldError, Refused, refused
from lakehouse_assets.platform.serving.rows import Row, RowType, frame_of
from lakehouse_assets.platform.serving.scorer import Loaded
from lakehouse_assets.platform.serving.served import Served, Versions
from lakehouse_assets.platform.serving.variants import is_challenged
from lakehouse_assets.platform.storage.feature_versions import version_to_read
from lakehouse_assets.platform.storage.known_at import of_version
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.scopes import Keys

_NUMBER: Final = "__number"


class StoredEvents:
    """Reads full rows of features of stored events. It waits for the lake: ask it by an `Offload`.

    Args:
        served: The endpoint.
        lakehouse: The tables.
    """

    def __init__(self, served: Served, lakehouse: Lakehouse) -> None:
        self._served, self._lakehouse = served, lakehouse

    def rows(self, versions: Versions, keys: Sequence[Row]) -> list[Row]:
        """For each key the features of its event, in the versions of the feature sets that the model has learnt which answers it.

        Raises:
            Refused: An event is not stored, or has no features yet.
        """
        served, champion, challenger = self._served, versions.champion, versions.challenger
        named = self._named(self._events(keys))
        found = self._features(champion, named)
        share, entity = served.endpoint.challenger, served.roles.driving.entity
        if challenger is None or not share or challenger.learnt == champion.learnt:
            return found
        theirs = self._features(challenger, named)
        return [other if is_challenged(served.name, own, entity, share) else own for own, other in zip(found, theirs, strict=True)]

    def _events(self, keys: Sequence[Row]) -> pl.DataFrame:
        """The events, in the order of their keys."""
        served, event = self._served, self._served.roles.event
        assert event is not None  # noqa: S101 an endpoint without events is asked by keys alone
        kind: RowType = served.types["rows"]
        wanted = frame_of(keys, {name: kind.columns[name] for name in served.key}).with_row_index(_NUMBER)
        table = self._lakehouse.table(event.name)
        if not table.exists():
            raise _not_there(event.name)
        first = served.key[0]
        near = table.scan().filter(pl.col(first).is_in(wanted[first].implode())).select(list(kind.columns))
        found = wanted.lazy().join(near, on=list(served.key), how="left", maintain_order="left", coalesce=True)
        there = found.join(near.select(served.key), on=list(served.key), how="semi", maintain_order="left").collect()
        if there.height < len(keys):
            raise _lacking(event.name, served, sorted({*range(len(keys))} - {*there[_NUMBER]}))
        return there.select(list(kind.columns))

    def _named(self, events: pl.DataFrame) -> pl.DataFrame:
        """For each event what names its row of the driving feature set."""
        roles, key = self._served.roles, list(self._served.key)
        names = list(roles.identity)
        if roles.driving not in roles.computed:
            return events.select(names)
        ((parameter, _),) = roles.driving.inputs.items()
        rows = roles.driving(**{parameter: events.lazy()}).collect().unique(key, keep="last")
        return events.select(key).join(rows, on=key, how="left", maintain_order="left").select(names)

    def _features(self, loaded: Loaded, named: pl.DataFrame) -> list[Row]:
        """For each event the columns that the prediction table's function is given, as the tables have them."""
        served, driving, examples = self._served, self._served.roles.driving, self._served.endpoint.model.examples
        older: dict[str, int | None] = {}
        for one in served.roles.sets:
            if not self._lakehouse.table(one.name).exists():
                raise _not_there(one.name)
            read = version_to_read(self._lakehouse.table(one.name), loaded.learnt.get(one.name))
            if read is None:
                raise refused(
                    503, f"the rows of {one.name} that the model has learnt from are gone: /ready says what to do", retry_after="5"
                )
            older[one.name] = read.older
        stored = self._read(driving.name).filter(pl.col(driving.event_time).is_in(named[driving.event_time].unique().implode()))
        stored = of_version(Keys(named.select(driving.entity).drop_nulls().unique()).filter(stored), older.pop(driving.name))
        others: Mapping[str, int] = {name: number for name, number in older.items() if number is not None}
        rows = examples.to_score(driving.name, stored, self._read, others).collect()
        names = list(served.roles.identity)
        by_name: dict[tuple[Any, ...], Row] = {tuple(row[name] for name in names): row for row in rows.rows(named=True)}
        given = list(named.select(names).iter_rows())
        if missing := [number for number, name in enumerate(given) if name not in by_name]:
            there = {*stored.select(names).collect().iter_rows()}
            if all(given[number] in there for number in missing):
                text = (
                    f"version {loaded.champion.version} has learnt features that nobody computes any more for its time: train it again, or "
                    "promote a version that has learnt those of now"
                )
                raise Refused(422, [FieldError(text, served.key[0], number) for number in missing])
            raise _lacking(driving.name, served, missing)
        columns = served.types["features"].columns
        return [{column: by_name[name].get(column) for column in columns} for name in given]

    def _read(self, name: str) -> pl.LazyFrame:
        return self._lakehouse.table(name).scan()


def _not_there(table: str) -> Refused:
    return refused(503, f"{table} does not exist now: `lakehouse run {table}` makes it", retry_after="5")


def _lacking(table: str, served: Served, numbers: Sequence[int]) -> Refused:
    return Refused(422, [FieldError(f"{table} has no row for it", served.key[0], number) for number in numbers])

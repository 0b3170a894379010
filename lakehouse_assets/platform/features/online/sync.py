"""Brings sets of the online store up to date with the tables: by their change feeds, or from a scan where these do not reach.

A set agrees with the version of the table that its cursor names, which is written together with the items. So a sync may be killed
anywhere, run twice or run at once with another one. Which items a set has is in `kept`.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl
from msgspec import structs

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.online.codecs import MICROSECOND, moment
from lakehouse_assets.platform.features.online.forms import Needs, form_of
from lakehouse_assets.platform.features.online.kept import RETRACTED, TIME, Kept, entity_columns, trimmed
from lakehouse_assets.platform.features.online.readers import pointer_of
from lakehouse_assets.platform.features.online.store import Batch, OnlineStore, Put, Retention, SetState, TakenOver
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.source import Source

_ROWS_AT_ONCE: Final = 500_000
_ITEMS_AT_ONCE: Final = 20_000
"""So many items go into one transaction of a scan."""
_ENTITIES_AT_ONCE: Final = 100_000
"""If more entities than these have to be read again, all are."""
_UNFINISHED: Final = -1
_TIMES: Final = "__times"


@dataclass(frozen=True)
class Synced:
    """What a sync did to one set.

    Attributes:
        feature_set: The feature set.
        table: What the set is made from: the feature table, or the table of events.
        kept: `values` or `events`.
        feature_set_version: Of values; None: the table has none, or these are events.
        version: The version of the table that the set agrees with; None: there is no table.
        how: `changes`, `scan`, `nothing new`, `no table`, or `other process`: another sync of the set began, and goes on.
        why: Why all was scanned.
        rows: Items that were written.
        synced_at: Until when the store knows the table; None: it does not.
    """

    feature_set: str
    table: str
    kept: str
    feature_set_version: int | None
    version: int | None
    how: str
    why: str
    rows: int
    synced_at: datetime | None


def sync(store: OnlineStore, lakehouse: Lakehouse, feature: FeatureSet, needs: Needs, *, full: bool = False) -> list[Synced]:
    """Bring the store up to date with one feature set.

    Args:
        store: The online store.
        lakehouse: Has the tables.
        feature: The set.
        needs: What is kept of it.
        full: Whether everything is scanned, whatever the store has.

    Returns:
        What was done to each version of values that is kept, the newest first; of a set that is served by events one.

    Raises:
        NotServable: The set has a column or a time that the store does not keep.
        StoreUnavailable: The store cannot be reached.
    """
    kept = form_of(feature).kept(feature, lakehouse, needs)
    done = [_Sync(store, one).run(full=full) for one in kept]
    if kept[0].what == "values":
        names = {one.name for one in kept}
        for place, (one, its) in enumerate(zip(kept, done, strict=True)):
            pointers = [pointer_of(feature.name, meaning) for meaning in one.meanings] + ([feature.name] if place == 0 else [])
            names |= {*pointers}
            for pointer in pointers if its.version is not None else ():
                _point(store, pointer, one.state())
        if done[0].version is not None:
            for name in store.names():
                if name.startswith((f"{feature.name}@", f"{feature.name}~")) and name not in names:  # no model reads it any more
                    store.drop(name)
    return done


def _point(store: OnlineStore, pointer: str, state: SetState) -> None:
    """Say which version is read: readers are led to it once all of it is there."""
    known = SetState.read(store.read([], [pointer]).states[0])
    if known is None or known.version != state.version or known.made_of != state.made_of:
        store.write(pointer, store.begin(pointer), Batch(state=state.written()), Retention(0, one_before=False, now=0))


class _Sync:
    """One set, once."""

    def __init__(self, store: OnlineStore, kept: Kept) -> None:
        self._store, self._kept = store, kept
        self._now = time.time_ns() // 1000
        self._keep = kept.retention(self._now)
        self._pushed_until = self._now - kept.keep // MICROSECOND
        self._claim = 0
        self._written = 0

    def run(self, *, full: bool) -> Synced:
        kept = self._kept
        if not kept.table.exists():
            if kept.name in self._store.names():
                self._store.drop(kept.name)
            return Synced(kept.feature.name, kept.table.name, kept.what, None, None, "no table", "", 0, None)
        self._claim = self._store.begin(kept.name)
        known = SetState.read(self._store.read([], [kept.name]).states[0])
        until, wanted = kept.table.version(), kept.state()
        if known is not None and (known.made_of, known.table_id) != (wanted.made_of, wanted.table_id):
            # What is stored cannot be read by the state that comes now.
            self._store.drop(kept.name)
            self._claim = self._store.begin(kept.name)
        elif known is not None:
            wanted = structs.replace(wanted, pruned=known.pruned)  # until a scan has brought back what was removed
        try:
            why = "asked for" if full else self._why_scan(known, wanted, until)
            how = "scan" if why else "changes"
            if not why and known is not None:
                try:
                    how = self._changes(known, until)
                except _NotBySteps as error:
                    how, why = "scan", str(error)
                except (NoSuchVersion, FileNotFoundError, pl.exceptions.PolarsError):
                    how, why = "scan", "its changes cannot be read any more"
            if how == "scan":
                self._scan(wanted, until)
        except TakenOver:
            how, why = "other process", ""
        is_done = how != "other process"
        version, synced_at = (until, moment(self._now)) if is_done else (None, None)
        return Synced(kept.feature.name, kept.table.name, kept.what, wanted.version, version, how, why, self._written, synced_at)

    @staticmethod
    def _why_scan(known: SetState | None, wanted: SetState, until: int) -> str:
        """Why all has to be read; empty if changes are enough."""
        if known is None:
            return "it was never synced"
        if known.table_id != wanted.table_id or known.table != wanted.table:
            return "the table was made again"
        if known.made_of != wanted.made_of:
            return "the declaration or a setting changed"
        if known.cursor == _UNFINISHED:
            return "a sync did not end"
        return "the table is of an older version" if known.cursor > until else ""

    # --- by changes

    def _changes(self, known: SetState, until: int) -> str:
        """Apply what changed since the cursor, some commits at a time."""
        table, state = self._kept.table, known
        if table.changed_at(state.cursor) == state.cursor:
            done = structs.replace(state, cursor=until, synced_at=self._now)
            self._write(Batch(pushed_until=self._pushed_until, state=done.written()))
            return "nothing new"
        while state.cursor < until:
            source = Source(table, state.cursor, table.step(state.cursor, until, _ROWS_AT_ONCE))
            if source.is_new:
                raise _NotBySteps("columns or partitions of the table changed")
            state = self._step(source, state)
        return "changes"

    def _step(self, source: Source, state: SetState) -> SetState:
        kept = self._kept
        came, went = self._net(source)
        gone = pl.col(RETRACTED) if RETRACTED in came.columns else pl.lit(value=False)
        entity = entity_columns(came)
        again = pl.concat([went, came.filter(gone)], how="diagonal").select(entity).unique()
        if not entity and (went.height or came.filter(gone).height):
            raise _NotBySteps("rows went, and the set is about everything at once")
        if again.height > _ENTITIES_AT_ONCE:
            raise _NotBySteps("rows of very many entities went")
        added = came.join(again, on=entity, how="anti", nulls_equal=True) if entity else came
        replaced: dict[bytes, list[Put]] = {}
        if again.height:
            rows = kept.rows(source.rows()).join(again.lazy(), on=entity, how="semi").collect(engine="streaming")
            replaced = {one: [] for one in kept.entities(again)} | _by_entity(kept.puts(trimmed(kept.current(rows), self._keep)))
        newest = _newest(state.newest, came, self._now)
        puts = kept.puts(trimmed(kept.current(added), self._keep))
        before, state = state, structs.replace(state, cursor=source.after, synced_at=self._now, newest=newest, rows=state.rows + len(puts))
        over = kept.over(newest)
        expired = over if over is not None and (state.pruned is None or over - state.pruned > self._keep.back // 10) else None
        if expired is not None:
            # Told before they are removed: no reader takes what is left for all that there was.
            state = structs.replace(state, pruned=expired)
            self._write(Batch(state=structs.replace(before, pruned=expired).written()))
        if len(puts) > _ITEMS_AT_ONCE:
            # Not in one transaction, in which others would wait: a sync that is killed in between begins with a scan.
            self._write(Batch(state=structs.replace(state, cursor=_UNFINISHED).written()))
            while len(puts) > _ITEMS_AT_ONCE:
                some, puts = puts[:_ITEMS_AT_ONCE], puts[_ITEMS_AT_ONCE:]
                self._write(Batch(some))
        self._write(Batch(puts, replaced, expired=expired, pushed_until=self._pushed_until, state=state.written()))
        return state

    def _net(self, source: Source) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows that came and went, of those that matter, without what is there as before."""
        kept = self._kept
        came, went = (kept.rows(rows).collect(engine="streaming") for rows in (source.came(), source.went()))
        if not went.height:
            return came, went
        signed = [rows.with_columns(pl.lit(sign).alias(_TIMES)) for rows, sign in ((came, 1), (went, -1))]
        net = pl.concat(signed, how="vertical_relaxed").group_by(came.columns).agg(pl.col(_TIMES).sum())
        return net.filter(pl.col(_TIMES) > 0).drop(_TIMES), net.filter(pl.col(_TIMES) < 0).drop(_TIMES)

    # --- from a scan

    def _scan(self, state: SetState, until: int) -> None:
        """Put all items in the place of those that are there, some entities at a time, so that memory stays bounded."""
        kept = self._kept
        rows = kept.rows(kept.table.scan(until))
        newest = rows.filter(pl.col(TIME) <= self._now).select(pl.col(TIME).max()).collect(engine="streaming").item()
        over = kept.over(newest)
        pruned = max((one for one in (state.pruned, over) if one is not None), default=None)
        self._write(Batch(state=structs.replace(state, synced_at=self._now, newest=newest, pruned=pruned).written()))
        for part in _parts(rows, kept.table.count(until)):
            current = trimmed(kept.current(part), self._keep)
            entity = entity_columns(current)
            if over is not None and entity:
                current = current.filter(pl.col(TIME).max().over(entity) > over)
            puts = _by_entity(kept.puts(current))
            some: dict[bytes, list[Put]] = {}
            count = 0
            for one, its in puts.items():
                some[one] = its
                count += len(its)
                if count >= _ITEMS_AT_ONCE:
                    self._write(Batch(replaced=some))
                    some, count = {}, 0
            self._write(Batch(replaced=some))
        done = structs.replace(state, cursor=until, synced_at=self._now, newest=newest, pruned=over, rows=self._written)
        self._write(Batch(sweep=True, expired=over, pushed_until=self._pushed_until, state=done.written()))

    def _write(self, batch: Batch) -> None:
        self._store.write(self._kept.name, self._claim, batch, self._keep)
        self._written += len(batch.puts) + sum(map(len, batch.replaced.values()))


class _NotBySteps(Exception):
    """Changes cannot be applied one by one."""


def _parts(rows: pl.LazyFrame, count: int) -> Iterator[pl.DataFrame]:
    """The rows in parts of whole entities."""
    entity, parts = entity_columns(rows), count // _ROWS_AT_ONCE + 1
    if parts == 1 or not entity:
        yield rows.collect(engine="streaming")
        return
    part = pl.struct(entity).hash() % parts
    for number in range(parts):
        yield rows.filter(part == number).collect(engine="streaming")


def _by_entity(puts: Sequence[Put]) -> dict[bytes, list[Put]]:
    grouped: dict[bytes, list[Put]] = {}
    for put in puts:
        grouped.setdefault(put.entity, []).append(put)
    return grouped


def _newest(before: int | None, came: pl.DataFrame, now: int) -> int | None:
    found: int | None = came.filter(pl.col(TIME) <= now)[TIME].max()  # type: ignore[assignment]
    return max((one for one in (before, found) if one is not None), default=None)

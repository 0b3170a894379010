"""Brings sets of the online store up to date with the tables: by their change feeds, or from a scan where these do not reach.

A set agrees with the version of the table that its cursor names, which is written together with the items. So a sync may be killed
anywhere, run twice or run at once with another one. One at a time works on a set: it has a lease, and others stand back until that is over.
Which items a set has is in `kept`.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
from lakehouse_assets.platform.features.online.store import Batch, OnlineStore, Put, Retention, SetState, StoreUnavailable, TakenOver
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.source import Source

_ROWS_AT_ONCE: Final = 500_000
_ITEMS_AT_ONCE: Final = 20_000
"""So many items are written at once by a scan or a big step."""
_ENTITIES_AT_ONCE: Final = 100_000
"""If more entities than these have to be read again, all are."""
_UNFINISHED: Final = -1
_LEASE_SECONDS: Final = 15.0
"""Of a sync that was killed; one that works renews its lease."""
_ASK_AGAIN_SECONDS: Final = 0.1
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
        how: `changes`, `scan`, `nothing new`, `no table`, or `other process`: another sync of the set goes on.
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


def sync(
    store: OnlineStore, lakehouse: Lakehouse, feature: FeatureSet, needs: Needs, *, full: bool = False, wait: float = 0.0
) -> list[Synced]:
    """Bring the store up to date with one feature set.

    Args:
        store: The online store.
        lakehouse: Has the tables.
        feature: The set.
        needs: What is kept of it.
        full: Whether everything is scanned, whatever the store has.
        wait: For so many seconds another sync of the same set is waited for.

    Returns:
        What was done to each version of values that is kept, the newest first, then to events.

    Raises:
        NotServable: The set has a column or a time that the store does not keep.
        StoreUnavailable: The store cannot be reached.
    """
    kept = form_of(feature).kept(feature, lakehouse, needs)
    until = time.monotonic() + wait
    done = [_Sync(store, one).run(full=full, until=until) for one in kept]
    values = [(one, its) for one, its in zip(kept, done, strict=True) if one.what == "values"]
    if values:
        names = {one.name for one, _ in values}
        for place, (one, its) in enumerate(values):
            pointers = ([feature.name] if place == 0 else []) + [pointer_of(feature.name, meaning) for meaning in one.meanings]
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
        with suppress(TakenOver):  # by one that says the same
            store.write(pointer, store.begin(pointer), Batch(state=state.written()), Retention(0, one_before=False, now=0))


@contextmanager
def _leased(store: OnlineStore, name: str, until: float) -> Iterator[int]:
    """A claim whose lease is renewed as long as this process works, and over at the end.

    Args:
        store: The online store.
        name: The set.
        until: So long another sync is waited for, by `time.monotonic`.

    Raises:
        TakenOver: Another sync goes on.
    """
    while True:
        try:
            claim = store.begin(name, _LEASE_SECONDS)
            break
        except TakenOver:
            if time.monotonic() >= until:
                raise
        time.sleep(_ASK_AGAIN_SECONDS)
    over = threading.Event()

    def renew() -> None:
        with suppress(TakenOver):  # the next write says so
            while not over.wait(_LEASE_SECONDS / 3):
                with suppress(StoreUnavailable):  # it may be there again before the lease is over
                    store.renew(name, claim, _LEASE_SECONDS)

    renewing = threading.Thread(target=renew, name="lease", daemon=True)
    renewing.start()
    try:
        yield claim
    finally:
        over.set()
        renewing.join()
        with suppress(TakenOver, StoreUnavailable):
            store.renew(name, claim, 0)


class _Sync:
    """One set, once."""

    def __init__(self, store: OnlineStore, kept: Kept) -> None:
        self._store, self._kept = store, kept
        self._now = time.time_ns() // 1000
        self._keep = kept.retention(self._now)
        self._pushed_until = self._now - kept.keep // MICROSECOND
        self._claim = 0
        self._written = 0

    def run(self, *, full: bool, until: float) -> Synced:
        kept = self._kept
        if not kept.table.exists():
            if kept.name in self._store.names():
                self._store.drop(kept.name)
            return Synced(kept.feature.name, kept.table.name, kept.what, None, None, "no table", "", 0, None)
        version, wanted = kept.table.version(), kept.state()
        try:
            how, why = self._leased(wanted, version, full=full, until=until)
        except TakenOver:
            return Synced(kept.feature.name, kept.table.name, kept.what, wanted.version, None, "other process", "", self._written, None)
        synced_at = moment(self._now)
        return Synced(kept.feature.name, kept.table.name, kept.what, wanted.version, version, how, why, self._written, synced_at)

    def _leased(self, wanted: SetState, version: int, *, full: bool, until: float) -> tuple[str, str]:
        """How the set was brought to a version of the table, and why it was scanned."""
        store, name = self._store, self._kept.name
        with _leased(store, name, until) as self._claim:
            known = SetState.read(store.read([], [name]).states[0])
            if known is None or (known.made_of, known.table_id) == (wanted.made_of, wanted.table_id):
                return self._bring(known, wanted, version, full=full)
            # What is stored cannot be read by the state that comes now.
            store.drop(name)
        with _leased(store, name, until) as self._claim:
            return self._bring(known, wanted, version, full=full)

    def _bring(self, known: SetState | None, wanted: SetState, until: int, *, full: bool) -> tuple[str, str]:
        why = "asked for" if full else self._why_scan(known, wanted, until)
        if not why and known is not None:
            try:
                return self._changes(known, until), ""
            except _NotBySteps as error:
                why = str(error)
            except (NoSuchVersion, FileNotFoundError, pl.exceptions.PolarsError):
                why = "its changes cannot be read any more"
        before = 0
        if known is not None and (known.made_of, known.table_id) == (wanted.made_of, wanted.table_id):
            # Until the scan has brought back what was removed.
            before, wanted = known.synced_at, structs.replace(wanted, pruned=known.pruned)
        self._scan(wanted, until, before)
        return "scan", why

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
        previous, written = state, state.rows + len(puts)
        state = structs.replace(state, cursor=source.after, synced_at=self._now, newest=newest, rows=written)
        over = kept.over(newest)
        expired = over if over is not None and (state.pruned is None or over - state.pruned > self._keep.back // 10) else None
        if expired is not None:
            # Told before they are removed: no reader takes what is left for all that there was.
            state = structs.replace(state, pruned=expired)
            self._write(Batch(state=structs.replace(previous, pruned=expired).written()))
        if len(puts) + sum(max(len(its), 1) for its in replaced.values()) > min(_ITEMS_AT_ONCE, self._store.at_once):
            # Not in one transaction, in which others would wait: a sync that is killed in between begins with a scan.
            self._write(Batch(state=structs.replace(state, cursor=_UNFINISHED, synced_at=previous.synced_at).written()))
            for some in _batches(replaced):
                self._write(Batch(replaced=some))
            while len(puts) > _ITEMS_AT_ONCE:
                part, puts = puts[:_ITEMS_AT_ONCE], puts[_ITEMS_AT_ONCE:]
                self._write(Batch(part))
            replaced = {}
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

    def _scan(self, state: SetState, until: int, before: int) -> None:
        """Put all items in the place of those that are there, some entities at a time, so that memory stays bounded.

        Args:
            state: Of the set, once it is done.
            until: The version of the table.
            before: Until when the set agreed with the table before; 0: it did not.
        """
        kept = self._kept
        rows = kept.rows(kept.table.scan(until))
        newest = rows.filter(pl.col(TIME) <= self._now).select(pl.col(TIME).max()).collect(engine="streaming").item()
        over = kept.over(newest)
        pruned = max((one for one in (state.pruned, over) if one is not None), default=None)
        self._write(Batch(state=structs.replace(state, cursor=_UNFINISHED, synced_at=before, newest=newest, pruned=pruned).written()))
        for part in _parts(rows, kept.table.count(until)):
            current = trimmed(kept.current(part), self._keep)
            entity = entity_columns(current)
            if over is not None and entity:
                current = current.filter(pl.col(TIME).max().over(entity) > over)
            for some in _batches(_by_entity(kept.puts(current))):
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


def _batches(puts: Mapping[bytes, list[Put]]) -> Iterator[dict[bytes, list[Put]]]:
    """Whole entities, some items at a time; one without items counts as one."""
    some: dict[bytes, list[Put]] = {}
    count = 0
    for entity, its in puts.items():
        some[entity] = its
        count += max(len(its), 1)
        if count >= _ITEMS_AT_ONCE:
            yield some
            some, count = {}, 0
    if some:
        yield some


def _newest(before: int | None, came: pl.DataFrame, now: int) -> int | None:
    found: int | None = came.filter(pl.col(TIME) <= now)[TIME].max()  # type: ignore[assignment]
    return max((one for one in (before, found) if one is not None), default=None)

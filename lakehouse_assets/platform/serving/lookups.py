"""`POST /features`: the values of several feature sets for many keys, as of now, in one look-up.

Personal data is masked whatever this process may see, and each request is a line of the audit log before it is answered, as with every
other reader of rows. What is stored of one entity, row by row for people, is in `stored`; the look-up itself in `features.online.lookup`.
"""

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat
from typing import Any, Final

import msgspec
import polars as pl

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.online.codecs import moment
from lakehouse_assets.platform.features.online.forms import form_of
from lakehouse_assets.platform.features.online.lookup import Looked, OnlineFeatures, ServedSet
from lakehouse_assets.platform.features.online.store import OnlineStore
from lakehouse_assets.platform.governance.audit import Read
from lakehouse_assets.platform.governance.reader import Reader
from lakehouse_assets.platform.quality.masking import MASK
from lakehouse_assets.platform.serving.app import Post
from lakehouse_assets.platform.serving.door import Door, expire
from lakehouse_assets.platform.serving.http import Receive, Scope, parameters, read_body
from lakehouse_assets.platform.serving.refused import FieldError, Refused, refused
from lakehouse_assets.platform.serving.rows import Row, RowType, malformed

logger = logging.getLogger(__name__)
_REMEMBERED: Final = 16
"""Combinations of feature sets that are kept ready; an item of each that was read lately is kept for when the store is away."""
_CACHED_ITEMS: Final = 20_000


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    feature_sets: list[str]
    keys: msgspec.Raw


_READ: Final = msgspec.json.Decoder(_Body).decode
_SHOWN: Final = object()
_ENCODE: Final = msgspec.json.Encoder(enc_hook=str).encode


@dataclass(slots=True, eq=False)
class _Waiting:
    """A request that waits."""

    sets: "_Sets"
    keys: list[Row]
    principal: str
    deadline: float
    future: "asyncio.Future[bytes]"


class FeatureLookups:
    """Answers what is known of many entities. One thread takes all requests that wait, and asks the store once for those of the same sets.

    Args:
        door: Who may ask, and limits.
        sets: The feature sets, by name.
        events: By feature set, the tables of events that endpoints ask about with it: they decide in which form the store keeps it.
        store: Opens the online store.
        reader: What is personal, and where reads are written down.
    """

    def __init__(
        self,
        door: Door,
        sets: Mapping[str, FeatureSet],
        events: Mapping[str, Collection[str]],
        store: Callable[[], OnlineStore],
        reader: Reader,
    ) -> None:
        self._door, self._declared, self._events, self._open, self._reader = door, sets, events, store, reader
        self._known: OrderedDict[tuple[str, ...], _Sets] = OrderedDict()
        self._store: OnlineStore | None = None
        self._waiting: list[_Waiting] = []
        self._rows = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="look-ups", daemon=True)

    @property
    def posts(self) -> Mapping[str, Post]:
        """The path."""
        return {"/features": self._ask}

    def start(self) -> None:
        """Begin to look up."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Answer what waits, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)
        if self._store is not None and not self._thread.is_alive():
            self._store.close()

    # --- requests

    async def _ask(self, scope: Scope, receive: Receive) -> bytes:
        caller = self._door.caller(scope, "features")
        parameters(scope)
        sets, keys = self._question(await read_body(scope, receive, self._door.limits))
        loop, seconds = asyncio.get_running_loop(), self._door.limits.seconds
        future: asyncio.Future[bytes] = loop.create_future()
        self._put(_Waiting(sets, keys, caller.name or self._reader.principal.name, time.monotonic() + seconds, future))
        timer = loop.call_later(seconds, expire, future, seconds)
        try:
            return await future
        finally:
            timer.cancel()

    def _question(self, content: bytes) -> tuple["_Sets", list[Row]]:
        try:
            body = _READ(content)
        except msgspec.ValidationError as error:
            raise refused(422, f'send {{"feature_sets": ["…"], "keys": [{{…}}]}}: {error}') from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise malformed(error) from None
        sets = self._sets(tuple(sorted({*body.feature_sets})))
        keys = sets.keys.read(body.keys)
        if not keys:
            raise refused(422, "there are no keys: send at least one", "keys")
        if len(keys) > self._door.limits.request_rows:
            raise refused(413, f"{len(keys)} keys are more than {self._door.limits.request_rows}: send them in several requests")
        return sets, keys

    def _sets(self, names: tuple[str, ...]) -> "_Sets":
        """What answers some feature sets together, ready for the next request too."""
        if names in self._known:
            self._known.move_to_end(names)
            return self._known[names]
        if not names:
            raise refused(422, "there are no feature sets: name at least one", "feature_sets")
        if unknown := [name for name in names if name not in self._declared]:
            known = ", ".join(self._declared) or "none"
            raise refused(422, f"there is no feature set {unknown[0][:100]!r}: there are {known}", "feature_sets")
        if self._store is None:
            self._store = self._open()
        sets = self._known[names] = _Sets([self._declared[name] for name in names], self._event_of, self._store, self._reader)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return sets

    def _event_of(self, feature: FeatureSet) -> str | None:
        """The events that the store keeps a feature set for; None: any, as the sync has it."""
        events = self._events.get(feature.name, ())
        return None if not events or form_of(feature).events in {"", *events} else next(iter(events))

    def _put(self, asked: _Waiting) -> None:
        with self._changed:
            if self._closed:
                raise refused(503, "the service ends: ask another one", retry_after="1")
            if self._waiting and self._rows + len(asked.keys) > self._door.limits.queue_rows:
                raise refused(429, f"{self._rows} keys wait to be looked up already: ask again in a second", retry_after="1")
            self._waiting.append(asked)
            self._rows += len(asked.keys)
            self._changed.notify()

    # --- the thread

    def _run(self) -> None:
        while taken := self._take():
            together: dict[int, list[_Waiting]] = {}
            for one in taken:
                if not one.future.done() and one.deadline > time.monotonic():
                    together.setdefault(id(one.sets), []).append(one)
            for some in together.values():
                answers = self._answers(some)
                loop = some[0].future.get_loop()
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_resolve, list(zip(some, answers, strict=True)))

    def _take(self) -> list[_Waiting]:
        """All that waits; nothing once there is no more to come."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            taken, self._waiting, self._rows = self._waiting, [], 0
        return taken

    def _answers(self, some: Sequence[_Waiting]) -> Sequence[bytes | Refused]:
        """The bodies of answers to requests for the same sets, which are in the audit log by then."""
        sets = some[0].sets
        try:
            rows = sets.rows([key for one in some for key in one.keys])
            answers, start = [], 0
            for one in some:
                answers.append(_ENCODE({"rows": rows.found[start : start + len(one.keys)], "synced_at": rows.synced_at}))
                start += len(one.keys)
            self._reader.audit.add(*(sets.read_by(one.principal, len(one.keys), rows.tables) for one in some))
        except BaseException:  # a panic of Polars or delta-rs is no Exception
            logger.exception("features of %s cannot be looked up", ", ".join(sets.names))
            return [Refused(500, [FieldError("the service failed on this request; its log says why")])] * len(some)
        return answers


def _resolve(answered: Sequence[tuple[_Waiting, bytes | Refused]]) -> None:
    """Give the answers to those who wait, in the thread of the loop."""
    for asked, answer in answered:
        if asked.future.done():
            continue
        if isinstance(answer, Refused):
            asked.future.set_exception(answer)
        else:
            asked.future.set_result(answer)


class _Known(msgspec.Struct, gc=False):
    """What is said of an entity that one set has a row of."""

    status: str
    event_time: datetime
    known_at: datetime
    feature_set_version: int | None
    values: msgspec.Struct


class _Unknown(msgspec.Struct, gc=False):
    """What is said of an entity that it has none of."""

    status: str
    values: msgspec.Struct


@dataclass(frozen=True)
class _Rows:
    """What was looked up: an object for each key, until when the store knows each set, and the tables with their versions."""

    found: list[msgspec.Struct]
    synced_at: dict[str, datetime | None]
    tables: tuple[str, ...]


class _Sets:
    """Some feature sets that are asked for together.

    Args:
        features: The sets.
        event_of: Gives the events that the store keeps a set for.
        store: The online store.
        reader: What is personal.
    """

    def __init__(
        self, features: Sequence[FeatureSet], event_of: Callable[[FeatureSet], str | None], store: OnlineStore, reader: Reader
    ) -> None:
        self.names = [one.name for one in features]
        self.keys = _key_type(features)
        by_event: dict[str | None, list[ServedSet]] = {}
        for one in features:
            # With its name before its columns no two sets have the same ones, and none is taken for the entity of another one.
            by_event.setdefault(event_of(one), []).append(ServedSet(one, prefix=f"{one.name}/"))
        self._lookups = [OnlineFeatures(store, sets, event, cached_items=_CACHED_ITEMS) for event, sets in by_event.items()]
        hidden = {one.name: reader.personal(one.name).hides for one in features}
        # Where the values of each column are found, and what stands in place of one; `_SHOWN`: itself.
        self._columns = {
            one.name: [
                (f"{one.name}/{column}", (MASK if one.schema[column] == pl.String else None) if hidden[one.name](column) else _SHOWN)
                for column in one.columns
            ]
            for one in features
        }
        self._values = {one.name: _object(one.columns) for one in features}
        self._row = _object(self.names)
        self._all = tuple(dict.fromkeys(column for one in features for column in one.columns))
        self._masked = tuple(dict.fromkeys(column for one in features for column in one.columns if hidden[one.name](column)))

    def rows(self, keys: Sequence[Row]) -> _Rows:
        """What is known of some entities now."""
        now = clock.now()
        looked = [one.features(keys, [now] * len(keys)) for one in self._lookups]
        said = {name: self._answers_of(name, one) for one in looked for name in one.stamps}
        found = [*map(self._row, *(said[name] for name in self.names))]
        synced = {name: until for one in looked for name, until in one.synced_at.items()}
        return _Rows(found, synced, tuple(table for one in looked for table in one.tables.values()))

    def read_by(self, principal: str, rows: int, tables: tuple[str, ...]) -> Read:
        """The line of the audit log for a request."""
        return Read(principal, "online", tables, self._all, self._masked, (), rows)

    def _answers_of(self, name: str, looked: Looked) -> list[_Known | _Unknown]:
        """What one set says of each key."""
        stamps, columns = looked.stamps[name], [_shown(looked.columns[column], mask) for column, mask in self._columns[name]]
        values = map(self._values[name], *columns) if columns else repeat(self._values[name]())
        # Many rows became known at one moment.
        moments = {when: moment(when) for stamp in stamps if stamp is not None for when in stamp[:2]}
        return [
            _Unknown(status, its) if stamp is None else _Known(status, moments[stamp[0]], moments[stamp[1]], stamp[2], its)
            for stamp, status, its in zip(stamps, looked.status[name], values)  # noqa: B905 the values of a set without columns do not end
        ]


def _shown(values: list[Any], mask: Any) -> list[Any]:
    return values if mask is _SHOWN else [None if value is None else mask for value in values]


def _object(names: Sequence[str]) -> type[msgspec.Struct]:
    """The type of an object with these fields, in their order: it is made and written several times as fast as a dictionary."""
    fields = [(f"f{number}", Any, msgspec.field(name=name)) for number, name in enumerate(names)]
    return msgspec.defstruct("Object", fields, gc=False)


def _key_type(features: Sequence[FeatureSet]) -> RowType:
    """The fields of a key: the columns of all entities.

    Raises:
        Refused: One key cannot name the entities of all sets.
    """
    types: dict[str, pl.DataType] = {}
    for one in features:
        for name in one.entity:
            if types.setdefault(name, one.schema[name]) != one.schema[name]:
                raise refused(
                    422, f"{name} of {one.name} is {one.schema[name]}, and of another set {types[name]}: ask for them apart", name
                )
    try:
        return RowType("a key", types)
    except DeclarationError as error:
        raise refused(422, str(error), "feature_sets") from None

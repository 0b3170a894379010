"""The online store on a Redis server, which services on several machines share.

What is read together is one script, so it happens at once; what is written is one if it is not much, else several, between which others are
served. The address is a setting; a server that drops keys to save memory (`maxmemory-policy` other than `noeviction`) is no store. What is
kept and when it is written is not decided here.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit

from lakehouse_assets.platform.features.online.redis_scripts import APPLY, BEGIN, FORGET, READ, REMOVE, RENEW
from lakehouse_assets.platform.features.online.store import (
    EARLIEST,
    Batch,
    Item,
    Push,
    Put,
    Query,
    QueryResult,
    ReadResult,
    Retention,
    StoreUnavailable,
    TakenOver,
)

_READ_SECONDS, _WRITE_SECONDS = 0.2, 30.0
_AT_ONCE: Final = 500
"""Items and entities that one transaction works on: others are served in between, as the server does one thing at a time."""


class RedisStore:
    """See `OnlineStore`.

    Args:
        address: As `redis://host:6379/0`, with name and password where the server asks for them; `rediss://` for TLS.
        prefix: What the names of all keys begin with: that of the root, so that several share a server.

    Raises:
        StoreUnavailable: The client `redis` is not installed, or the address is none.
    """

    at_once = _AT_ONCE

    def __init__(self, address: str, prefix: str) -> None:
        parts = urlsplit(address)
        self._shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._address, self._prefix = address, prefix
        self._reading, self._writing = self._client(_READ_SECONDS), self._client(_WRITE_SECONDS)
        self._read, self._push = (self._reading.register_script(script) for script in (READ, APPLY))
        scripts = (BEGIN, APPLY, RENEW, FORGET, REMOVE)
        self._begin, self._apply, self._renew, self._forget, self._remove = map(self._writing.register_script, scripts)

    def read(self, asked: Sequence[Query], states: Sequence[str]) -> ReadResult:
        """See `OnlineStore.read`."""
        given: list[Any] = [self._prefix, sum(len(one.entities) for one in asked)]
        for name, entities, lows, highs, only_last in asked:
            start, last = name.encode() + b":", int(only_last)
            for entity, low, high in zip(entities, lows, highs, strict=True):
                given += (start + entity, "-inf" if low == EARLIEST else f"({low}", high, last)
        with self._errors():
            found, told = self._read(args=[*given, *states])
        answers = iter(found)
        return ReadResult([_query_result(one, answers) for one in asked], told)

    def begin(self, name: str, lease: float = 0.0) -> int:
        """See `OnlineStore.begin`."""
        with self._errors():
            # By the clock, so that a set that was dropped and made again does not give a number twice.
            claim = int(self._begin(args=self._lease(name, time.time_ns() // 1000, lease)))
        if not claim:
            raise TakenOver(f"another sync of {name} goes on")
        return claim

    def renew(self, name: str, claim: int, lease: float) -> None:
        """See `OnlineStore.renew`."""
        with self._errors():
            is_own = self._renew(args=self._lease(name, claim, lease))
        if not is_own:
            raise TakenOver(f"another sync of {name} began, and goes on in place of this one")

    def write(self, name: str, claim: int, batch: Batch, retention: Retention) -> None:
        """See `OnlineStore.write`. What is swept goes before the rest and what is over after it, some entities at a time.

        Of many items some are written at a time, and the state with the last ones.
        """
        if batch.sweep:
            self._sweep(name, claim, retention)
        if batch.pushed_until is not None:
            with self._errors():
                while self._forget(args=[self._prefix, name, batch.pushed_until, _AT_ONCE]):
                    pass
        *before, last = [*_operations(self._in_parts(name, batch), self.at_once)] or [[]]
        head = self._head(name, claim, retention, pushed=False)
        for given in before:
            with self._changing(name, claim) as pipe:
                self._apply(args=[*head, *given], client=pipe)
        with self._changing(name, claim) as pipe:
            if last:
                self._apply(args=[*head, *last], client=pipe)
            if batch.state is not None:
                pipe.hset(self._prefix + "states", name, batch.state)
        if batch.expired is not None:  # last: what came makes entities stay
            self._expire(name, claim, batch.expired)

    def push(self, pushes: Sequence[Push]) -> None:
        """See `OnlineStore.push`."""
        with self._errors():
            for name, puts, retention in pushes:
                for given in _operations(Batch(puts), self.at_once):
                    self._push(args=[*self._head(name, 0, retention, pushed=True), *given])

    def names(self) -> list[str]:
        """See `OnlineStore.names`."""
        start = self._key("claim", "")
        with self._errors():
            return sorted(key.decode().removeprefix(start) for key in self._writing.scan_iter(f"{start}*", count=1000))

    def items(self, name: str, entity: bytes | None = None) -> Iterator[tuple[bytes, Item]]:
        """See `OnlineStore.items`."""
        with self._errors():
            entities = sorted(self._writing.zrange(self._key("newest", name), 0, -1)) if entity is None else [entity]
            for one in entities:
                for item, _ in sorted(self._stored(name, one)):
                    yield one, item

    def drop(self, name: str) -> None:
        """See `OnlineStore.drop`."""
        with self._errors():
            self._writing.hdel(self._prefix + "states", name)
            self._writing.delete(*(self._key(what, name) for what in ("claim", "lease", "pushed", "copies")))
            while entities := self._writing.zrange(self._key("newest", name), 0, _AT_ONCE - 1):
                self._remove(args=[self._prefix, name, *entities])

    def close(self) -> None:
        """See `OnlineStore.close`."""
        self._reading.close()
        self._writing.close()

    def _in_parts(self, name: str, batch: Batch) -> Batch:
        """The same, where an entity has no more items replaced than one transaction works on.

        Of others, what is there and does not stay is removed first, and the items are added to what stays: at no time is all gone.
        """
        whole, puts = dict(batch.replaced), list[Put]()
        for entity, its in batch.replaced.items():
            if len(its) > self.at_once:
                stamps = {(put.id or put.time): put.stamp for put in its}
                known = self._stored(name, entity)
                gone = [(item, stamp) for item, stamp in known if not item.pushed and stamps.get(item.id or item.time, stamp - 1) < stamp]
                puts += [Put(entity, item.time, item.id, stamp, None) for item, stamp in gone]
                puts += whole.pop(entity)
        return replace(batch, puts=[*puts, *batch.puts], replaced=whole)

    def _sweep(self, name: str, claim: int, retention: Retention) -> None:
        """Take what earlier syncs stored from entities that this one did not name."""
        with self._errors():
            others = self._writing.zrangebyscore(self._key("claims", name), "-inf", f"({claim}")
        for some in _parts(others):
            with self._changing(name, claim) as pipe:
                given = [part for entity in some for part in (entity, 1, 0)]
                self._apply(args=[*self._head(name, claim, retention, pushed=False), *given], client=pipe)

    def _expire(self, name: str, claim: int, until: int) -> None:
        with self._errors():
            over = self._writing.zrangebyscore(self._key("newest", name), "-inf", until)
        for some in _parts(over):
            with self._changing(name, claim) as pipe:
                self._remove(args=[self._prefix, name, *some], client=pipe)

    def _stored(self, name: str, entity: bytes) -> list[tuple[Item, int]]:
        """The items of an entity, with their stamps."""
        with self._errors():
            found = self._writing.hgetall(self._prefix.encode() + b"h:" + name.encode() + b":" + entity)
        return [_item(*one) for one in found.items()]

    @contextmanager
    def _changing(self, name: str, claim: int) -> Iterator[Any]:
        """One transaction, if no other sync began."""
        from redis.exceptions import WatchError

        key, taken = self._key("claim", name), TakenOver(f"another sync of {name} began, and goes on in place of this one")
        with self._errors(), self._writing.pipeline(transaction=True) as pipe:
            pipe.watch(key)
            if int(pipe.get(key) or 0) != claim:
                raise taken
            pipe.multi()
            yield pipe
            try:
                pipe.execute()
            except WatchError as error:
                raise taken from error

    def _head(self, name: str, claim: int, keep: Retention, *, pushed: bool) -> list[Any]:
        return [self._prefix, name, claim, keep.now if pushed else 0, keep.back, int(keep.one_before), keep.now]

    def _lease(self, name: str, claim: int, seconds: float) -> list[Any]:
        return [self._key("claim", name), claim, self._key("lease", name), round(seconds * 1000)]

    def _key(self, what: str, name: str) -> str:
        return f"{self._prefix}{what}:{name}"

    def _client(self, seconds: float) -> Any:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise StoreUnavailable("LAKEHOUSE_ONLINE_STORE names a Redis server: `pip install 'lakehouse-assets[redis]'`") from error
        try:
            return redis.Redis.from_url(
                self._address,
                socket_timeout=seconds,
                socket_connect_timeout=_READ_SECONDS,
                retry=Retry(NoBackoff(), 1),
                client_name="lakehouse",
            )
        except ValueError as error:
            raise StoreUnavailable(f"LAKEHOUSE_ONLINE_STORE is no address of a Redis server: {error}") from error

    @cached_property
    def _failures(self) -> type[Exception]:
        from redis.exceptions import RedisError

        return RedisError

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            raise StoreUnavailable(f"the online store {self._shown} cannot be used: {error}") from error


def _query_result(asked: Query, answers: Iterator[Sequence[bytes]]) -> QueryResult:
    """The answers to the questions about one set, which come next."""
    items: list[Item] = []
    ends = []
    for low, high, fields in zip(asked.lows, asked.highs, answers, strict=False):
        # Scores are floats, which do not tell microseconds apart after the year 2255.
        items += [item for item in _items(fields) if low < item.time <= high]
        ends.append(len(items))
    return QueryResult.of(ends, items)


def _items(fields: Sequence[bytes]) -> list[Item]:
    return [_item(fields[place], fields[place + 1])[0] for place in range(0, len(fields), 2)]


def _item(field: bytes, written: bytes) -> tuple[Item, int]:
    """An item and its stamp. A field is "T" with the time of a value, or "I" with the id of an event."""
    when, stamp, pushed, payload = written.split(b":", 3)
    return Item(int(when), field[1:] if field[:1] == b"I" else b"", payload, int(pushed)), int(stamp)


def _operations(batch: Batch, at_once: int) -> Iterator[list[Any]]:
    """What the script is given, some items at a time; an entity without items counts as one."""
    given: list[Any] = []
    room = at_once
    for entity, replaces, puts in _changes(batch, at_once):
        if given and room < len(puts):
            yield given
            given, room = [], at_once
        given += (entity, replaces, len(puts))
        room -= max(len(puts), 1)
        for put in puts:
            field = b"I" + put.id if put.id else b"T%d" % put.time
            given += (put.time, field, put.stamp, put.payload or b"")
    if given:
        yield given


def _changes(batch: Batch, at_once: int) -> Iterator[tuple[bytes, int, Sequence[Put]]]:
    """Of each entity whether its items are replaced, and the new ones; many are several changes."""
    added: dict[bytes, list[Put]] = {}
    for put in batch.puts:
        added.setdefault(put.entity, []).append(put)
    for entity, puts in batch.replaced.items():
        yield entity, 1, puts
    for entity, puts in added.items():
        for place in range(0, len(puts), at_once):
            yield entity, 0, puts[place : place + at_once]


def _parts(entities: Sequence[bytes]) -> Iterator[list[bytes]]:
    for place in range(0, len(entities), _AT_ONCE):
        yield [*entities[place : place + _AT_ONCE]]

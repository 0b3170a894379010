"""The statements of the embedded store that work on many entities at once: they are given a table `asked` of what is asked.

One statement costs a good part of a microsecond for each row of it, one for each question several. What is kept is decided in `embedded`.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any, Final

from lakehouse_assets.platform.features.online.store import Query, QueryResult

Execute = Callable[..., sqlite3.Cursor]
_TOGETHER: Final = (256, 64, 16, 4)
"""So many questions are one statement, whose text is prepared once; fewer are faster one by one."""
_OF: Final = "set_id = (SELECT id FROM sets WHERE name = ?) AND entity = ? AND time > ? AND time <= ?"
_ONE: Final = {
    False: f"SELECT time, id, payload, pushed FROM items WHERE {_OF} ORDER BY time, id",
    True: f"SELECT time, id, payload, pushed FROM items WHERE {_OF} ORDER BY time DESC, id DESC LIMIT 1",
}
_SET: Final = "(SELECT id FROM sets WHERE name = ?0)"  # ?0 stands for the last parameter
_ASKED: Final = "WITH asked (number, entity, low, high) AS (VALUES) SELECT number, time, id, payload, pushed FROM asked CROSS JOIN items "
_ITEMS: Final = {
    False: f"{_ASKED} ON set_id = {_SET} AND items.entity = asked.entity AND time > low AND time <= high",
    True: f"{_ASKED} ON set_id = {_SET} AND items.entity = asked.entity AND time = (SELECT max(its.time) FROM items AS its "
    f"WHERE its.set_id = {_SET} AND its.entity = asked.entity AND its.time > low AND its.time <= high)",
}
_SAME: Final = "WITH asked (number, entity, same) AS (VALUES) SELECT number, time, id, stamp FROM asked CROSS JOIN items "
SAME: Final = {
    # Told by name: SQLite would search all items of the entity by the primary key.
    "id": f"{_SAME}INDEXED BY by_id ON set_id = ?0 AND items.entity = asked.entity AND items.id = same AND items.id <> x''",
    "time": f"{_SAME}ON set_id = ?0 AND items.entity = asked.entity AND items.time = same",
}
"""Items in whose place others come: with that id, or at that time."""
ENDS: Final = (
    "WITH asked (entity, now) AS (VALUES) SELECT entity, (SELECT min(time) FROM items WHERE set_id = ?0 AND items.entity = asked.entity), "
    "(SELECT max(time) FROM items WHERE set_id = ?0 AND items.entity = asked.entity AND time <= now) FROM asked"
)
"""Of each entity its oldest time, and its newest one up to now."""
INSERT: Final = (
    "WITH asked (entity, time, id, stamp, pushed, claim, payload) AS (VALUES) "
    "INSERT OR REPLACE INTO items SELECT ?0, entity, time, id, stamp, pushed, claim, payload FROM asked"
)
COPIES: Final = (
    "WITH asked (entity, id) AS (VALUES) DELETE FROM items INDEXED BY pushed_ids WHERE set_id = ?0 AND pushed > 0 "
    "AND id IN (SELECT id FROM asked) AND NOT EXISTS (SELECT 1 FROM asked WHERE asked.id = items.id AND asked.entity = items.entity)"
)
"""The table says whose an event is: what was pushed with its id under another entity goes."""


def found(execute: Execute, asked: Query) -> QueryResult:
    """The items that a set has for some questions."""
    name, entities, lows, highs, only_last = asked
    items: list[tuple[Any, ...]] = []
    ends: list[int] = []
    place = 0
    for size in _TOGETHER:
        while len(entities) - place >= size:
            given = zip(range(size), entities[place:], lows[place:], highs[place:])  # noqa: B905 so many
            _add(items, ends, _ask(execute, _ITEMS[only_last], list(given), name), size, only_last=only_last)
            place += size
    for entity, low, high in zip(entities[place:], lows[place:], highs[place:], strict=True):
        items += execute(_ONE[only_last], (name, entity, low, high)).fetchall()
        ends.append(len(items))
    return QueryResult.of(ends, items)


def _add(items: list[tuple[Any, ...]], ends: list[int], rows: list[tuple[Any, ...]], size: int, *, only_last: bool) -> None:
    """Add the answers to some questions, which begin with the number of the question."""
    rows.sort()  # as they come already
    if only_last:
        rows = list({row[0]: row for row in rows}.values())
    counts = [0] * size
    for row in rows:
        counts[row[0]] += 1
    ends += accumulate(counts[1:], initial=len(items) + counts[0])
    items += [row[1:] for row in rows]


def _ask(execute: Execute, text: str, given: Sequence[tuple[Any, ...]], of: Any) -> list[tuple[Any, ...]]:
    """The same of so many rows as one statement may have."""
    return execute(_statement(text, len(given), len(given[0])), [*chain.from_iterable(given), of]).fetchall()


def together(execute: Execute, text: str, given: Sequence[tuple[Any, ...]], of: Any) -> Iterator[tuple[Any, ...]]:
    """What a statement gives with any number of rows in its table `asked`, many at once; `of` says which set."""
    place = 0
    for size in (*_TOGETHER, 1):
        while len(given) - place >= size:
            yield from _ask(execute, text, given[place : place + size], of)
            place += size


@lru_cache(maxsize=64)
def _statement(text: str, rows: int, columns: int) -> str:
    values = ", ".join([f"({', '.join('?' * columns)})"] * rows)
    return text.replace("(VALUES)", f"(VALUES {values})").replace("?0", f"?{rows * columns + 1}")

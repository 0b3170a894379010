"""The statements of the embedded store that work on many entities at once: they are given a table `asked` of what is asked.

One statement costs a good part of a microsecond for each row of it, one for each question several. What is kept is decided in `embedded`.
"""

import sqlite3
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any, Final

from lakehouse_assets.platform.features.online.store import Query, QueryResult

Execute = Callable[..., sqlite3.Cursor]
_TOGETHER: Final = (256, 64, 16, 4)
"""So many questions are one statement, whose text is prepared once; fewer are faster one by one."""
_OF: Final = "set_id = ? AND entity = ? AND time > ? AND time <= ?"
_ONE: Final = {
    False: f"SELECT time, id, payload, pushed FROM items WHERE {_OF} ORDER BY time, id",
    True: f"SELECT time, id, payload, pushed FROM items WHERE {_OF} ORDER BY time DESC, id DESC LIMIT 1",
}
_ASKED: Final = "WITH asked (number, entity, low, high) AS (VALUES) SELECT number, time, id, payload, pushed FROM asked CROSS JOIN items "
_ITEMS: Final = {  # ?0 stands for the last parameter
    False: f"{_ASKED} ON set_id = ?0 AND items.entity = asked.entity AND time > low AND time <= high",
    True: f"{_ASKED} ON set_id = ?0 AND items.entity = asked.entity AND time = (SELECT max(its.time) FROM items AS its "
    "WHERE its.set_id = ?0 AND its.entity = asked.entity AND its.time > low AND its.time <= high)",
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


def query(execute: Execute, set_id: int, asked: Query) -> QueryResult:
    """The items that a set has for some questions."""
    _, entities, lows, highs, only_last = asked
    count = len(entities)
    if count < _TOGETHER[-1]:
        items: list[tuple[Any, ...]] = []
        ends: list[int] = []
        for entity, low, high in zip(entities, lows, highs, strict=True):
            items += execute(_ONE[only_last], (set_id, entity, low, high)).fetchall()
            ends.append(len(items))
        return QueryResult.of(ends, items)
    rows = together(execute, _ITEMS[only_last], [*zip(range(count), entities, lows, highs, strict=True)], set_id)
    rows.sort()  # as they come already
    if only_last and len(rows) > 1:  # of several at one time the last
        rows = [*{row[0]: row for row in rows}.values()]
    if not rows:
        return QueryResult.of([0] * count, [])
    numbers, *parts = zip(*rows, strict=True)
    return QueryResult(_ends(numbers, count), *parts)


def _ends(numbers: Sequence[int], count: int) -> Sequence[int]:
    """For each question the place after its last item, from the numbers of the questions that the items are for."""
    if len(numbers) == count and len({*numbers}) == count:
        return range(1, count + 1)
    counts = [0] * count
    for number in numbers:
        counts[number] += 1
    return [*accumulate(counts)]


def _ask(execute: Execute, text: str, given: Sequence[tuple[Any, ...]], of: Any) -> list[tuple[Any, ...]]:
    """The same of so many rows as one statement may have."""
    return execute(_statement(text, len(given), len(given[0])), [*chain.from_iterable(given), of]).fetchall()


def together(execute: Execute, text: str, given: Sequence[tuple[Any, ...]], of: Any) -> list[tuple[Any, ...]]:
    """What a statement gives with any number of rows in its table `asked`, many at once; `of` says which set."""
    found: list[tuple[Any, ...]] = []
    place = 0
    for size in (*_TOGETHER, 1):
        while len(given) - place >= size:
            found += _ask(execute, text, given[place : place + size], of)
            place += size
    return found


@lru_cache(maxsize=64)
def _statement(text: str, rows: int, columns: int) -> str:
    values = ", ".join([f"({', '.join('?' * columns)})"] * rows)
    return text.replace("(VALUES)", f"(VALUES {values})").replace("?0", f"?{rows * columns + 1}")

"""The events of a look-up as columns, which all sets that are looked up share. What is asked about them is in `readers`."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from lakehouse_assets.platform.features.online.codecs import DAY, codec, instant

Event = Mapping[str, Any]


class Events:
    """Some events.

    Args:
        rows: The columns of each: plain Python values, moments in UTC.
        at: The time of each as of which features are looked up; of a date its end, and its beginning for its time to live.
        requests: How many of them each request has, in their order; None: each is a request of its own.

    Attributes:
        until: Of each, in microseconds, the last moment that counts.
        ages_from: Of each the moment from which times to live count back.
        request: Of each the number of its request; None: each is a request of its own.
    """

    def __init__(self, rows: Sequence[Event], at: Sequence[datetime | date] = (), requests: Sequence[int] | None = None) -> None:
        self.rows = rows
        self.ages_from = [instant(one) or 0 for one in at]
        self.until = [begin if isinstance(one, datetime) else begin + DAY - 1 for begin, one in zip(self.ages_from, at, strict=True)]
        shared = requests is not None and any(count > 1 for count in requests)
        self.request = [number for number, count in enumerate(requests or ()) for _ in range(count)] if shared else None
        self._columns: dict[str, list[Any]] = {}
        self._instants: dict[str, list[int | None]] = {}
        self._encoded: dict[tuple[tuple[str, ...], tuple[str, ...]], list[bytes | None]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[Any]:
        """The values of a column; null where an event lacks it."""
        if (found := self._columns.get(name)) is None:
            found = self._columns[name] = [row.get(name) for row in self.rows]
        return found

    def instants(self, name: str) -> list[int | None]:
        """The values of a column of times, in microseconds; null for anything else."""
        if (found := self._instants.get(name)) is None:
            found = self._instants[name] = [instant(value) for value in self.column(name)]
        return found

    def encoded(self, names: tuple[str, ...], kinds: tuple[str, ...]) -> list[bytes | None]:
        """The values of some columns as the store has them; None where one is null, or is of another type than in the table."""
        if (found := self._encoded.get((names, kinds))) is None:
            found = self._encoded[names, kinds] = encoded([self.column(name) for name in names], kinds, len(self.rows))
        return found


def encoded(columns: Sequence[Sequence[Any]], kinds: tuple[str, ...], count: int) -> list[bytes | None]:
    """The values of columns as the store has them, row by row; None where one is null, or is of another type than in the table."""
    write = codec(kinds).encode
    try:
        if len(columns) == 1:
            return [None if value is None else write((value,)) for value in columns[0]]
        rows = list(zip(*columns, strict=True)) if columns else [()] * count
        return [None if None in row else write(row) for row in rows]
    except (TypeError, ValueError, AttributeError, OverflowError):
        if count > 1:  # it is one of them
            return [encoded([[column[place]] for column in columns], kinds, 1)[0] for place in range(count)]
        return [None]

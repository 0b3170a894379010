"""Which events with which runs ended were consumed: a watermark, and the numbers of the last ones above it.

In a database that several processes write to at once (PostgreSQL), an event gets its number before it can be seen, so one with a smaller
number may appear after one with a greater one. Whoever remembers the greatest number alone would never see it. Here the last numbers are
remembered one by one, and what is above the watermark and not among them is still to be consumed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from lakehouse_assets.platform.storage.commit import Cursor

CURSOR: Final = "dagster/runs"
"""The greatest number that was consumed."""
FLOOR: Final = f"{CURSOR}/floor"
"""What has this number or a smaller one is consumed."""
REMEMBERED: Final = 16
"""So many runs may end while the end of one is being written."""
_SLOTS: Final = tuple(f"{CURSOR}/{number}" for number in range(REMEMBERED))


@dataclass(frozen=True)
class Consumed:
    """What was consumed.

    Attributes:
        newest: The greatest number; None: none was.
        floor: The watermark.
        numbers: The last numbers above the watermark; 0: a place that is free.
    """

    newest: int | None
    floor: int
    numbers: tuple[int, ...]

    @classmethod
    def nothing(cls, floor: int = 0) -> "Consumed":
        """Before the first."""
        return cls(None, floor, (0,) * REMEMBERED)

    @classmethod
    def read(cls, watermark: Callable[[str], int | None]) -> "Consumed":
        """As it was committed last; an earlier release had committed the greatest number alone."""
        newest, floor = watermark(CURSOR), watermark(FLOOR)
        if newest is None:
            return cls.nothing()
        if floor is None:
            return replace(cls.nothing(newest), newest=newest)
        return cls(newest, floor, tuple(watermark(slot) or 0 for slot in _SLOTS))

    def has(self, number: int) -> bool:
        """Whether an event was consumed."""
        return number <= self.floor or number in self.numbers

    def with_all(self, numbers: Sequence[int]) -> "Consumed":
        """After these were consumed too; the smallest numbers give way to the watermark."""
        found = self
        for number in sorted(numbers):
            places = [*found.numbers, number]
            oldest = min(places)
            if oldest != number:
                places[places.index(oldest)] = number  # in its place, so that few places change
            found = Consumed(max(found.newest or 0, number), max(found.floor, oldest), tuple(places[:REMEMBERED]))
        return found

    def cursors(self, watermark: Callable[[str], int | None]) -> list[Cursor]:
        """What is committed, from what was committed before."""
        now = {CURSOR: self.newest or 0, FLOOR: self.floor, **dict(zip(_SLOTS, self.numbers, strict=True))}
        before = {name: watermark(name) for name in now}
        # A floor of 0 is written too: without one, an earlier release had committed the greatest number alone.
        return [Cursor(name, before[name], after) for name, after in now.items() if (before[name] or 0) != after or before[FLOOR] is None]

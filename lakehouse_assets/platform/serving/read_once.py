"""Rows of tables about logged rows, each table read once for all rows of a check, however many of them ask.

What is worked out of the rows is in `known_then`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from lakehouse_assets.platform.storage.scopes import Keys


@dataclass(frozen=True)
class Grouped:
    """Rows by the values of some columns.

    Attributes:
        rows: All of them.
        names: The columns.
    """

    rows: pl.DataFrame
    names: Sequence[str]
    _parts: dict[tuple[Any, ...], pl.DataFrame] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parts = self.rows.partition_by(self.names, as_dict=True) if self.names else {(): self.rows}
        object.__setattr__(self, "_parts", parts)

    def of(self, values: Mapping[str, Any]) -> pl.DataFrame:
        """The rows with these values."""
        found = self._parts.get(tuple(values[name] for name in self.names))
        return self.rows.clear() if found is None else found


class ReadOnce:
    """What was read for a check."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int | None, tuple[str, ...]], Grouped] = {}

    def rows(
        self,
        table: str,
        version: int | None,
        names: Sequence[str],
        wanted: Iterable[Mapping[str, Any]],
        scan: Callable[[], pl.LazyFrame],
    ) -> Grouped:
        """The rows of a table with any of some values in some columns; a null finds nothing.

        Args:
            table: Its name.
            version: Which one; None: of now.
            names: The columns.
            wanted: The values, of all logged rows that may ask for this.
            scan: Gives the rows of the table.
        """
        place = (table, version, tuple(names))
        if (known := self._known.get(place)) is None:
            rows = scan()
            if names:
                schema = rows.collect_schema()
                given = dict.fromkeys(tuple(one[name] for name in names) for one in wanted)
                keys = pl.DataFrame([dict(zip(names, one, strict=True)) for one in given], schema={name: schema[name] for name in names})
                rows = Keys(keys.drop_nulls().unique()).filter(rows)
            known = self._known[place] = Grouped(rows.collect(engine="streaming"), tuple(names))
        return known

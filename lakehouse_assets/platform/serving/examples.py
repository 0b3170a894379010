"""Rows that may be sent to an endpoint, for its OpenAPI document: the newest stored ones, with personal data masked, read now and then."""

import asyncio
import logging
import time
from functools import partial
from typing import Final

import msgspec
import polars as pl

from lakehouse_assets.platform.governance.reader import Reader
from lakehouse_assets.platform.quality.masking import MASK
from lakehouse_assets.platform.serving.offload import Offload
from lakehouse_assets.platform.serving.openapi import Examples
from lakehouse_assets.platform.serving.refused import Refused
from lakehouse_assets.platform.serving.rows import Row
from lakehouse_assets.platform.serving.served import Served

logger = logging.getLogger(__name__)
_ROWS: Final = 3
_READ_SECONDS, _FRESH_SECONDS = 2.0, 60.0


class StoredExamples:
    """The examples of one service, kept in memory.

    Args:
        reader: Through which they are read.
        offload: Where they are read.
    """

    def __init__(self, reader: Reader, offload: Offload) -> None:
        self._reader, self._offload = reader, offload
        self._kept: dict[str, tuple[float, Examples]] = {}
        self._reading = asyncio.Lock()

    async def of(self, served: Served) -> Examples:
        """Examples by form; those of a while ago, or none, where the tables cannot be read now."""
        async with self._reading:
            at, kept = self._kept.get(served.name, (float("-inf"), {}))
            if time.monotonic() - at < _FRESH_SECONDS:
                return kept
            found: Examples = kept
            try:
                found = await self._offload.run(lambda: self._read(served), _READ_SECONDS, "examples") or kept
            except Refused:
                self._kept[served.name] = (time.monotonic(), kept)
                return kept
            if found:
                self._kept[served.name] = (time.monotonic(), found)
            return found

    def _read(self, served: Served) -> Examples:
        found: dict[str, list[Row]] = {}
        for form, kind in served.types.items():
            source = served.roles.driving if form == "features" else served.roles.event or served.roles.driving
            try:
                newest = partial(_newest, served.roles.driving.event_time)
                rows = self._reader.scan(source.name, choose=newest, what="examples of an endpoint").collect(engine="streaming")
            except Exception:
                logger.debug("there are no rows of %s to show", source.name, exc_info=True)
                continue
            shown = rows.select(name for name in kind.columns if name in rows.columns).unique(maintain_order=True)
            nulls = dict.fromkeys(name for name in kind.columns if name not in _left_out(served, form))
            found[form] = [row for one in shown.rows(named=True) if _is_taken(served, form, row := nulls | one)]
        return found


def _newest(time: str, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The newest rows by a time of events; of a table without it, by the first column of times that it has.

    Of old ones some may be refused: the store knows nothing of that time any more.
    """
    schema = rows.collect_schema()
    times = [time] if time in schema else [name for name, dtype in schema.items() if dtype == pl.Date or isinstance(dtype, pl.Datetime)]
    return rows.top_k(_ROWS, by=times[0]).sort(times[0], descending=True) if times else rows.head(_ROWS)


def _left_out(served: Served, form: str) -> set[str]:
    """The fields that an example does better without: a null for a looked-up feature would be taken as its value."""
    if form != "features" or served.endpoint.missing == "refuse":
        return set()
    return {name for one in served.roles.looked_up for name in served.roles.columns_of(one)}


def _is_taken(served: Served, form: str, row: Row) -> bool:
    """Whether the service would take a row: personal data that is masked may break a rule, and a masked key is no key."""
    kind = served.types[form]
    if form == "keys" and MASK in row.values():
        return False
    try:
        rows = kind.read(msgspec.json.encode([row], enc_hook=str))
        if form != "rows":
            return True
        served.check("rows", rows)
    except Refused:
        return False
    return not (served.rules.needs_query and served.rules.broken_in(kind.frame(rows)))

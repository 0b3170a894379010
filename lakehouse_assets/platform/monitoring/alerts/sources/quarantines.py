"""Signals about quarantines: a commit that rejected a larger share of its rows than the commits before it did.

Counts are those of the row accounts that the commits carry. How rows are rejected is in `pipeline`.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from lakehouse_assets.platform.monitoring.alerts.signals import Reading, Signal
from lakehouse_assets.platform.pipeline import commit_statistics
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table

LEAST_COMMITS: Final = 5
"""With fewer commits before it, a commit is not judged."""
_MOST_COMMITS: Final = 50
_LEAST_ROWS: Final = 10
_DEVIATIONS: Final = 4.0
# What a standard deviation is for normally distributed values, in median absolute deviations.
_MAD_TO_DEVIATION: Final = 1.4826
_REACH: Final = timedelta(days=56)


@dataclass(frozen=True)
class Rejected:
    """What became of the rows of one commit: how many came, and how many of them were rejected."""

    came: int
    rejected: int

    @property
    def share(self) -> float:
        """The share of the rows that were rejected."""
        return self.rejected / self.came


def most_rejected(came: int, earlier: Sequence[Rejected]) -> int | None:
    """How many of so many rows may be rejected before it is more than usual; None with too few commits before.

    It is the median share of the earlier commits plus four standard deviations: of the shares, taken robustly (1.4826 times the median
    absolute deviation), or by chance for so many rows, whichever is more; at least 10 rows.

    Args:
        came: Rows of the commit.
        earlier: The commits before it, at least one row each.
    """
    if len(earlier) < LEAST_COMMITS:
        return None
    shares = [one.share for one in earlier[-_MOST_COMMITS:]]
    usual = statistics.median(shares)
    spread = _MAD_TO_DEVIATION * statistics.median(abs(share - usual) for share in shares)
    by_chance = math.sqrt(max(usual * (1 - usual), 1 / max(came, 1)) / max(came, 1))
    return max(math.floor(came * (usual + _DEVIATIONS * max(spread, by_chance))), _LEAST_ROWS)


@dataclass(frozen=True)
class QuarantineSpikes:
    """Judges each commit of the tables once.

    Attributes:
        lakehouse: The tables.
        owners: By table that has a quarantine, who answers for it.
    """

    lakehouse: Lakehouse
    owners: Mapping[str, str]

    name = "the row accounts"

    def read(self, watermark: Callable[[str], int | None], now: datetime) -> Reading:
        """See `Source.read`."""
        signals: list[Signal] = []
        cursors: list[Cursor] = []
        for name in self.owners:
            table = self.lakehouse.table(name)
            if not table.exists():
                continue
            opened = table.now()
            source = f"quarantine/{name}/{opened.metadata().id}"
            cursor = Cursor(source, watermark(source), opened.version())
            if cursor.before != cursor.after:
                cursors.append(cursor)
                signals += self._signals(table, cursor, now)
        return Reading(signals, cursors)

    def _signals(self, table: Table, cursor: Cursor, now: datetime) -> list[Signal]:
        """A signal for each commit with rows up to a version; where none was judged before, for the last one."""
        total = pl.coalesce("rows_in", pl.sum_horizontal("written", "updated", "duplicates", "quarantined"))
        rows = commit_statistics.commits_since(self.lakehouse, table, now - _REACH).rows
        rows = rows.with_columns(came=total).filter(
            (pl.col("came") > 0) & ~pl.col("repeated") & pl.col("quarantined").is_not_null() & (pl.col("version") <= cursor.after)
        )
        commits = [Rejected(*pair) for pair in rows.select("came", "quarantined").iter_rows()]
        new = [
            self._signal(table.name, row, commits[number], most_rejected(commits[number].came, commits[:number]))
            for number, row in enumerate(rows.iter_rows(named=True))
            if cursor.before is None or row["version"] > cursor.before
        ]
        return new[-1:] if cursor.before is None else new

    def _signal(self, table: str, row: Mapping[str, object], commit: Rejected, most: int | None) -> Signal:
        text = f"{commit.rejected:,} of {commit.came:,} rows of version {row['version']} were rejected"
        is_bad = None if most is None else commit.rejected > most
        if is_bad:
            text += f"; more than {most:,} is not usual. See `lakehouse quarantine show {table}`"
        at = row["at"]
        assert isinstance(at, datetime)  # noqa: S101 as the schema has it
        return Signal(
            key=f"quarantine:{table}",
            is_bad=is_bad,
            at=at,
            text=text + ".",
            severity="warn",
            owner=self.owners[table],
            value=float(commit.rejected),
            threshold=None if most is None else float(most),
            rows=commit.came,
            run_id=str(row["run_id"] or ""),
        )

"""Signals from monitors: each verdict of the table of verdicts, by monitor, column and slice. What monitors judge is not decided here."""

import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations.monitors import OVER, AlertRule, Monitor
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.monitoring.alerts.signals import MONITOR, Reading, Signal, removal
from lakehouse_assets.platform.monitoring.alerts.sources.newest_windows import NewestWindows, Window, matter_in_table
from lakehouse_assets.platform.monitoring.in_words import where
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.wording import counted, listed, slice_in_words

# What is older was said before anybody listened.
_REACH: Final = timedelta(days=30)
_BEGIN: Final = datetime(1, 1, 1, tzinfo=UTC)
_SLICES: Final = 5
"""So many slices that are bad too are named."""


@dataclass(frozen=True)
class Verdicts:
    """The verdicts of monitors, each once.

    Attributes:
        lakehouse: The tables.
        rules: By monitor, when a bad verdict is an alert; for all others the default.
        monitors: Those that are declared: of one whose alerts had ended as it was taken out, what holds now is told again.
    """

    lakehouse: Lakehouse
    rules: Mapping[str, AlertRule]
    monitors: Sequence[Monitor] = ()

    name = "the verdicts of monitors"

    def read(self, watermark: Callable[[str], int | None], now: datetime) -> Reading:
        """See `Source.read`."""
        table = self.lakehouse.table(platform_tables.VERDICTS)
        if not table.exists():
            return Reading()
        opened = table.now()
        source = f"{table.name}/{opened.metadata().id}"
        cursor = Cursor(source, watermark(source), opened.version())
        back = {one.name: (one, at) for one in self.monitors if (at := watermark(removal(one.name)) or 0) % 2}
        signals, is_first = list[Signal](), False
        if cursor.before != cursor.after:
            rows, is_first = self._new(table, cursor, now)
            rows = rows.filter(~pl.col("monitor").is_in(list(back)))
            signals = self._signals(rows, self._newest(rows, None if is_first else cursor.before))
        signals += self._as_they_are([one for one, _ in back.values()], now)
        cursors = [cursor, *(Cursor(removal(name), at, at + 1) for name, (_, at) in back.items())]
        return Reading(signals, cursors, is_first)

    def _as_they_are(self, monitors: Sequence[Monitor], now: datetime) -> list[Signal]:
        """What holds now of monitors that are back."""
        if not monitors:
            return []
        rows = [row for held in verdicts.latest(self.lakehouse, monitors).values() for row in held]
        told = self._signals(pl.DataFrame(rows, schema=verdicts.SCHEMA), NewestWindows(()))
        return [replace(signal, at=now, is_redeclared=True) for signal in told]

    def _new(self, table: Table, cursor: Cursor, now: datetime) -> tuple[pl.DataFrame, bool]:
        """The verdicts that were not consumed, and whether none ever was."""
        if cursor.before is not None:
            try:
                return table.changes(cursor.before, cursor.after).collect(), False
            except NoSuchVersion:  # it was restored
                pass
        log = verdicts.complete(table.scan(cursor.after)).collect()
        recent = log.filter(pl.col("evaluated_at") >= now - _REACH)
        # What was said long ago may hold still, as of a table that nobody has written since.
        holding = [row for rows in verdicts.holding(log.lazy(), self.monitors).values() for row in rows]
        long_ago = pl.DataFrame(holding, schema=log.schema).filter(pl.col("evaluated_at") < now - _REACH)
        return pl.concat([long_ago, recent]), True

    def _newest(self, rows: pl.DataFrame, before: int | None) -> NewestWindows:
        """What monitors had said of their newest windows when the log was read up to a commit; None: it was not read."""
        named = set(rows["monitor"].unique())
        monitors = [one for one in self.monitors if one.name in named]
        by_window = {one.name for one in monitors if one.kind.judges_changes}
        if before is None or not by_window:
            return NewestWindows(by_window)
        log = verdicts.counting_rows(self.lakehouse, before)
        held = [row for of in verdicts.holding(log, monitors).values() for row in of]
        slices, _ = verdicts.with_column(pl.LazyFrame(held, schema=verdicts.SCHEMA), log)
        return NewestWindows(by_window, held, slices.collect().iter_rows(named=True))

    def _signals(self, rows: pl.DataFrame, newest: NewestWindows) -> list[Signal]:
        """One signal for each window, column and slice of an evaluation: several metrics of them are one matter, bad if one is.

        Slices that are bad where the column is so in the same window are told with it, as one cause is one alert: their signals only
        count. And one for the evaluation itself: a monitor that ended with an error watches nothing. They are in the order of their
        commits. A window that is well tells nothing where a newer one is still bad.
        """
        ordered = verdicts.complete(rows.lazy()).with_columns(_ahead=verdicts.is_ahead()).collect()
        evaluations: dict[tuple[int, str, datetime], list[dict[str, Any]]] = {}
        for row in ordered.iter_rows(named=True):
            evaluations.setdefault((row["sequence"], row["monitor"], row["evaluated_at"]), []).append(row)
        in_order = sorted(evaluations.items(), key=lambda evaluation: (evaluation[0][0], evaluation[0][2]))
        return [signal for _, said in in_order for signal in self._of_evaluation(said, newest.take(said))]

    def _of_evaluation(self, said: list[dict[str, Any]], late: Container[Window]) -> Iterator[Signal]:
        matters: dict[tuple[datetime, bool, str], list[dict[str, Any]]] = {}
        for row in said:
            matters.setdefault((row["window_start"] or _BEGIN, not row["_ahead"], _key(row)), []).append(row)
        begun = {key for (_, has_begun, key) in matters if has_begun}
        in_slices = _in_slices(said)
        signals = []
        for (start, has_begun, key), of in sorted(matters.items(), key=lambda matter: matter[0][0]):
            if (matter_in_table(of[0]), start) in late:
                continue
            if has_begun or key not in begun:  # what is said of a window that has not begun, as of a wrong clock, counts least
                signals.append(self._signal(key, of, in_slices.get(_whole(of[0]))))
        yield from _followed(signals)
        error = next((row for row in said if row["error"]), None)
        shown = error or said[0]
        yield Signal(
            key=f"evaluation:{shown['monitor']}",
            # Where there is no table nothing was evaluated.
            is_bad=error is not None if error is not None or shown["table_id"] is not None else None,
            at=shown["evaluated_at"],
            text="It was evaluated." if error is None else error["text"],
            severity="warn",
            owner=shown["owner"] or "",
            run_id=shown["run_id"] or "",
        )

    def _signal(self, key: str, said: list[dict[str, Any]], slices: list[str] | None) -> Signal:
        """The signal of one matter.

        Args:
            key: Its name.
            said: Its verdicts.
            slices: The slices that are bad too, where the column is bad as a whole in the window; None: it is not.
        """
        bad = [row for row in said if row["passed"] is False]
        known = bad or [row for row in said if row["passed"] is not None]
        shown = (known or said)[0]
        more = f" ({counted(len(bad) - 1, 'other metric')} too)" if len(bad) > 1 else ""
        is_folded = bool(bad) and bool(shown["slice_key"]) and slices is not None
        if bad and slices and not is_folded:
            more += f" Also {'in the slice' if len(slices) == 1 else 'in slices'} {listed(slices, _SLICES)}."
        return Signal(
            key=key,
            is_bad=bool(bad) if known else None,
            at=shown["evaluated_at"],
            text=_likely(bad) + where(shown) + shown["text"] + more,
            severity=shown["severity"],
            owner=shown["owner"] or "",
            rule=self.rules.get(shown["monitor"], AlertRule()),
            value=shown["value"],
            threshold=shown["threshold"],
            rows=shown["rows"],
            window=None if shown["_ahead"] else shown["window_start"],
            run_id=shown["run_id"] or "",
            is_over=bool(known) and not bad and any(OVER in json.loads(row["numbers"] or "{}") for row in known),
            is_redeclared=shown["sequence"] == shown["declaration"],
            is_folded=is_folded,
        )


def _followed(signals: Sequence[Signal]) -> list[Signal]:
    """Signals of one evaluation; after another declaration windows are judged again, and those that a later one contradicts are marked."""
    later, marked = set[tuple[str, bool]](), list[Signal]()
    for signal in reversed(signals):
        marked.append(replace(signal, is_followed=signal.is_redeclared and (signal.key, not signal.is_bad) in later))
        if signal.is_known:
            later.add((signal.key, bool(signal.is_bad)))
    return marked[::-1]


def _whole(row: Mapping[str, Any]) -> tuple[datetime | None, str | None]:
    """The window and column of a verdict, without its slice."""
    return row["window_start"], row["column_name"]


def _in_slices(said: list[dict[str, Any]]) -> dict[tuple[datetime | None, str | None], list[str]]:
    """Of windows and columns that are bad as a whole, the slices that are bad too."""
    bad = [row for row in said if row["passed"] is False]
    found: dict[tuple[datetime | None, str | None], dict[str, None]] = {_whole(row): {} for row in bad if not row["slice_key"]}
    for row in bad:
        if row["slice_key"] and _whole(row) in found:
            found[_whole(row)][slice_in_words(row["slice_key"], row["slice_value"])] = None
    return {whole: list(slices) for whole, slices in found.items()}


def _likely(bad: list[dict[str, Any]]) -> str:
    """The first line of an alert, if it is known where the failure comes from."""
    why = next((row["why"] for row in bad if row["why"]), None)
    return "" if why is None else f"most likely: {why}\n"


def _key(row: Mapping[str, Any]) -> str:
    """The stable name of what a verdict is about. Not of the model's version: another one takes its place."""
    parts = [MONITOR + row["monitor"]]
    if row["column_name"]:
        parts.append(row["column_name"])
    if row["slice_key"]:
        parts.append(slice_in_words(row["slice_key"], row["slice_value"]))
    return ":".join(parts)

"""Brings the accuracy table up to date: the windows whose predictions or outcomes changed since the last time, in one commit.

The commit carries the versions of all tables that were read and the moment up to which they were (law 1). It runs after a refresh, as a
step of its own, so it never delays or fails a table.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import polars as pl

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.learning import Learner, Read
from lakehouse_assets.platform.monitoring.accuracy.changed import changed_times
from lakehouse_assets.platform.monitoring.accuracy.predicted import Predicted
from lakehouse_assets.platform.monitoring.accuracy.table import IDENTITY, NOTES, SCHEMA, WINDOW, accuracy_table
from lakehouse_assets.platform.monitoring.accuracy.windowed import Now, Question, estimates_of, windowed
from lakehouse_assets.platform.monitoring.profiling.groups import merged
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved, NoSuchTable, NoSuchVersion
from lakehouse_assets.platform.storage.replace import replace as replace_rows
from lakehouse_assets.platform.storage.scopes import Keys
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

_TRIES = 5
_DAYS_AT_ONCE = 184
_LONG_AGO = datetime(1, 1, 2, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WINDOWS = pl.Schema({"granularity": pl.String(), "window_start": TIMESTAMP})


@dataclass(frozen=True)
class AccuracyStep:
    """The accuracy of some predictions.

    Attributes:
        predicted: The predictions.
        question: What is worked out of them.
        now: The moment (UTC).
        seed: Of fits of the baseline.
    """

    predicted: Predicted
    question: Question
    now: datetime
    seed: int

    def run(self) -> int:
        """Bring the table up to date; how many windows were worked out again.

        Two at once: the one whose commit comes second begins again where the other left the table.

        Raises:
            CursorMoved: Others were faster again and again.
            CommitConflict: Other writers did not let this one through.
        """
        for _ in range(_TRIES - 1):
            with suppress(CursorMoved):
                return self._once()
        return self._once()

    def _once(self) -> int:
        table, predicted = accuracy_table(self.predicted.lakehouse), self.predicted.pinned()
        if predicted.name not in predicted.at:
            return 0
        batch = _Batch(predicted, self.question, table, self.now)
        windows = batch.windows
        if windows is not None and windows.is_empty():
            if batch.moved:
                table.append(pl.DataFrame(schema=SCHEMA), Commit(batch.cursors))
            return 0
        stored = batch.scope.filter(table.scan()).collect(engine="streaming")
        now = Now(
            self.now, json.dumps(dict(sorted(predicted.at.items()))), estimates_of(stored), predicted.outcomes.settled_until(self.now)
        )
        baseline = Baseline(predicted, self.seed)
        parts = [
            windowed(predicted.rows(batch.spans(some), self.now), self.question, some, now, baseline.of)
            for some in _stretches(batch.every_window if windows is None else windows)
        ]
        found = pl.concat(parts) if parts else pl.DataFrame(schema=SCHEMA)
        replace_rows(table, _with_notes(found, stored), batch.scope, IDENTITY, Commit(batch.cursors))
        return found.select(WINDOW).n_unique() if windows is None else windows.height


@dataclass(frozen=True)
class _Batch:
    """What has changed since the last time."""

    predicted: Predicted
    question: Question
    table: Table
    now: datetime

    @cached_property
    def cursors(self) -> tuple[Cursor, ...]:
        """The watermarks that the commit advances: the versions that were read, the question, the moment."""
        after = {**self.predicted.at, "question": self.question.digest, "now": (self.now - _EPOCH) // timedelta(microseconds=1)}
        return tuple(Cursor(name, self.table.cursor(name), to) for part, to in after.items() if (name := self._mark(part)))

    def _mark(self, part: str) -> str:
        return f"{self.predicted.name}:{part}"

    @cached_property
    def _before(self) -> Mapping[str, int | None]:
        return {cursor.source: cursor.before for cursor in self.cursors}

    @property
    def moved(self) -> bool:
        """Whether anything but the time is another than when the table was brought up to date last."""
        return any(cursor.before != cursor.after for cursor in self.cursors if cursor.source != self._mark("now"))

    @cached_property
    def windows(self) -> pl.DataFrame | None:
        """The windows to work out again; None: all."""
        if self._before[self._mark("question")] != self.question.digest:
            return None
        before = {name: self._before[self._mark(name)] for name in self.predicted.at}
        times = changed_times(self.predicted, before, self._last, self.now)
        if times is None:
            return None
        waiting = self.table.scan().filter(pl.col("predictions") == self.predicted.name, "provisional").select(list(_WINDOWS))
        return pl.concat([self._windows_of(times), waiting.collect(engine="streaming")]).unique().sort(list(_WINDOWS))

    @property
    def every_window(self) -> pl.DataFrame:
        """All windows that predictions lie in."""
        return self._windows_of(self.predicted.between(_LONG_AGO, self.now).rename("time")).sort(list(_WINDOWS))

    def _windows_of(self, times: pl.Series) -> pl.DataFrame:
        """The windows that times lie in."""
        about = times.to_frame().unique().filter(pl.col("time") <= self.now)
        found = [
            about.select(pl.lit(every.name).alias("granularity"), every.start(pl.col("time")).alias("window_start"))
            for every in self.question.every
        ]
        return pl.concat(found).unique()

    @property
    def _last(self) -> datetime | None:
        """The moment up to which the table is."""
        before = self._before[self._mark("now")]
        return None if before is None else _EPOCH + timedelta(microseconds=before)

    @cached_property
    def scope(self) -> Keys:
        """The rows that are replaced."""
        name = pl.lit(self.predicted.name).alias("predictions")
        return Keys(pl.select(name) if self.windows is None else self.windows.select(name, *_WINDOWS))

    def spans(self, windows: pl.DataFrame) -> list[tuple[datetime, datetime]]:
        """The times of some windows."""
        ends = {every.name: every.every for every in self.question.every}
        known = windows.filter(pl.col("granularity").is_in(list(ends)))
        every = pl.col("granularity").replace_strict(ends, return_dtype=pl.String)
        return merged(known.select("window_start", pl.col("window_start").dt.offset_by(every).alias("end")).iter_rows())


@dataclass(frozen=True)
class Baseline:
    """The first baseline of the model, as it was when each version was trained."""

    predicted: Predicted
    seed: int

    def of(self, version: int, rows: pl.DataFrame) -> pl.DataFrame | None:
        """What it says of rows; None if it cannot be told any more."""
        baselines, predicted = predicted_baselines(self.predicted), self.predicted
        if not baselines or predicted.outcomes.table not in predicted.learnt_from(version):
            return None
        now: Read = predicted.scan
        with suppress(NoSuchVersion, NoSuchTable):  # maintenance has taken what the version learnt from
            return predicted.outcomes.baseline(baselines[0], predicted.then(version), now, rows, seed=self.seed, compute=Local())
        return None


def _stretches(windows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Windows by stretches of time, so that the rows of one stretch alone are in memory."""
    since = (pl.col("window_start") - pl.col("window_start").min()).dt.total_days() // _DAYS_AT_ONCE
    for _, some in windows.sort("window_start").group_by(since, maintain_order=True):
        yield some


def predicted_baselines(predicted: Predicted) -> list[Learner]:
    """The plain learners of the model, the naive one first."""
    return list(predicted.model.baselines.values())


def _with_notes(found: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """Rows that are as they were keep when and from what they were made."""
    values = [name for name in SCHEMA if name not in {*IDENTITY, *NOTES}]
    before = stored.select(*IDENTITY, pl.struct(values).alias("__before"), *(pl.col(name).alias(f"__{name}") for name in NOTES))
    both = found.join(before, on=list(IDENTITY), how="left", maintain_order="left")
    same = pl.struct(values).eq_missing(pl.col("__before")).fill_null(value=False) & pl.col("__before").is_not_null()
    notes = [pl.when(same).then(f"__{name}").otherwise(name).alias(name) for name in NOTES]
    return both.with_columns(notes).select(list(SCHEMA))

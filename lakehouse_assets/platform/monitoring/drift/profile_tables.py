"""The tables of profiles and of drift, written window by window: windows that ended, or whose rows changed, since they were read last.

Both are logs, to which a window that changed is appended again; they are read in `drift_log`. Which rows are profiled is in `watched_rows`,
how a window is profiled in `profile`, how it is compared in `drift_metrics`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.monitoring.drift.baselines import CountedBaseline
from lakehouse_assets.platform.monitoring.drift.domain import with_domain_known
from lakehouse_assets.platform.monitoring.drift.drift_log import DRIFTS_SCHEMA, FOUND_SCHEMA, GONE, PROFILES_SCHEMA
from lakehouse_assets.platform.monitoring.drift.drift_metrics import drift
from lakehouse_assets.platform.monitoring.drift.watched_rows import WINDOW_START, WatchedRows, spans_of
from lakehouse_assets.platform.monitoring.profiling.groups import MOMENT, MOST_GROUPS, MOST_SLICES, Groups, Span
from lakehouse_assets.platform.monitoring.profiling.profile import TABLE, profile
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor, cursor_of
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

_ENDED: Final = "ended"
_REACHES: Final = (1, 4, 16, 64, 256, 1_024)
"""So many windows on both sides are looked at for the next one that has rows, before all are."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class Profiled:
    """What is profiled, and compared with what.

    Attributes:
        monitor: Its name in both tables.
        watched: The rows.
        groups: Windows and slices; with windows.
        baseline: Gives the rows of the baseline, masked; asked only if a window changed and they are not counted yet.
        baseline_name: The table and version of it: all windows are compared again with another one.
        baseline_made_of: Tells the rows of the baseline from all others, also from those of a table that was made again or is masked
            otherwise; empty: it is counted each time.
        untested: Columns that get no thresholds.
        keys: Columns whose values tell rows apart: how these are distributed is not tested.
        warn: Told what was left out, in a sentence.
    """

    monitor: str
    watched: WatchedRows
    groups: Groups
    baseline: Callable[[], pl.LazyFrame]
    baseline_name: str
    baseline_made_of: str = ""
    untested: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    warn: Callable[[str], None] = field(default=lambda _: None)

    def mark(self, part: str) -> str:
        """The watermark of a part of the rows: it is another one if windows, slices, baseline, table or what is tested are."""
        return f"profiled:{self.monitor}:{self._digest.hex()}" + (f":{part}" if part else "")

    @property
    def declared(self) -> Cursor:
        """The watermark that says by which of these marks the monitor was profiled last; before that it is not known."""
        return Cursor(f"profiled-as:{self.monitor}", None, int.from_bytes(self._digest) >> 2)

    @property
    def _digest(self) -> bytes:
        about = repr((self.groups, self.baseline_name, self.watched.identity, self.untested, self.keys))
        return blake2b(about.encode(), digest_size=8).digest()


def update_profiles(lakehouse: Lakehouse, profiled: Profiled, now: datetime) -> pl.DataFrame:
    """Profile the windows that ended, or whose rows changed, since the last time, and compare them and those that follow them.

    A window is read when it is over: thresholds are those of whole windows. Both commits carry the version that was read and the end of the
    newest window that is over. A run that died between them does the profiles once more.

    Args:
        lakehouse: Has both tables.
        profiled: What to profile.
        now: Windows that end later are not over. It stands in the rows (UTC).

    Returns:
        The drift of these windows, as `FOUND_SCHEMA` says; no rows if nothing changed.

    Raises:
        CannotProfile: The table cannot be profiled as is asked.
        CursorMoved: Another run was faster.
    """
    tables = [
        _created(lakehouse, name, schema)
        for name, schema in ((platform_tables.DRIFT, DRIFTS_SCHEMA), (platform_tables.PROFILES, PROFILES_SCHEMA))
    ]
    watched, groups = profiled.watched, profiled.groups
    drifts, profiles = tables
    marks = {**watched.marks, _ENDED: (groups.begin(now) - _EPOCH) // _TICK}
    opened = [table.now() for table in (profiles, drifts)]
    before, of_drifts = ({part: cursor_of(one, profiled.mark(part)) for part in marks} for one in opened)
    as_profiled, as_drifts = (cursor_of(one, profiled.declared.source) for one in opened)
    # After another declaration what came by this one before it is not the newest any more.
    is_same = {as_profiled, as_drifts} <= {None, profiled.declared.after}
    marks[_ENDED] = max(marks[_ENDED], before[_ENDED] or marks[_ENDED])  # a clock that went back ends no window again
    if is_same and all((had := before[part]) is not None and had >= to for part, to in marks.items()):
        return pl.DataFrame(schema=FOUND_SCHEMA)
    groups.check(watched.schema)
    changed, gone, here = _windows(profiled, drifts, before if is_same else dict.fromkeys(before), marks[_ENDED])
    if changed.is_empty() and gone.is_empty():
        # What was read need not be kept until some window is over.
        _add(drifts, pl.DataFrame(schema=DRIFTS_SCHEMA), _commit(profiled, of_drifts, marks, as_drifts))
        _add(profiles, pl.DataFrame(schema=PROFILES_SCHEMA), _commit(profiled, before, marks, as_profiled))
        return pl.DataFrame(schema=FOUND_SCHEMA)
    changed = pl.concat([changed, gone])
    compared, needed = _compared(changed, here)
    chosen = watched.rows(groups, needed)
    baseline = CountedBaseline(lakehouse, profiled.baseline, profiled.baseline_made_of, profiled.monitor, groups, now)
    known = baseline.profile
    found = profile(chosen, groups, known.cells)
    drifted = _only(drift(found, known, untested=profiled.untested, keys=profiled.keys), compared)
    drifted = with_domain_known(drifted, found, chosen, baseline.of_inputs)
    about = [
        pl.lit(profiled.monitor).alias("monitor"),
        pl.lit(watched.name).alias("table"),
        pl.lit(watched.identity).alias("table_id"),
        pl.lit(watched.version, pl.Int64).alias("table_version"),
        pl.lit(now).cast(TIMESTAMP).alias("evaluated_at"),
        pl.lit(now.date()).alias(DATE),
    ]
    where = [WINDOW_START, "slice_key", "slice_value"]
    rows_of = found.frame.filter(pl.col("column_name") == TABLE).select(*where, rows="count")
    measured = found.frame.filter(pl.col("column_name") != TABLE).select(*where, "column_name", "avg")
    with_rows = drifted.join(rows_of, on=where, how="left", nulls_equal=True, maintain_order="left")
    compared_rows = with_rows.join(measured, on=[*where, "column_name"], how="left", nulls_equal=True, maintain_order="left")
    # A window that never had rows, as one whose outcomes have not come, lost none.
    left = _known(drifts, profiled, _others(changed, found.frame[WINDOW_START].unique())).to_frame(WINDOW_START)
    left = left.with_columns(column_name=pl.lit(TABLE))
    end_of = pl.col(WINDOW_START).dt.offset_by(groups.every or "1d")
    without = left.with_columns(window_end=end_of, granularity=pl.lit(groups.every, pl.String), rows=pl.lit(0), not_tested=pl.lit(GONE))
    of_windows = pl.concat([_only(found.frame, changed), left.with_columns(count=pl.lit(0))], how="diagonal_relaxed")
    all_compared = pl.concat([compared_rows, without], how="diagonal_relaxed")
    _add(drifts, _fit(all_compared, about, DRIFTS_SCHEMA), _commit(profiled, of_drifts, marks, as_drifts))
    _add(profiles, _fit(of_windows, about, PROFILES_SCHEMA), _commit(profiled, before, marks, as_profiled))
    return compared_rows


def _windows(profiled: Profiled, drifts: Table, before: Mapping[str, int | None], ended: int) -> tuple[pl.Series, pl.Series, pl.Series]:
    """The windows that ended or whose rows changed, those whose rows went, and those that have rows around both.

    Args:
        profiled: What is profiled.
        drifts: The log of drift.
        before: The watermarks up to which the rows were read; one that is None: all windows count.
        ended: Until when windows are over, as microseconds since 1970.
    """
    watched, groups, over = profiled.watched, profiled.groups, _EPOCH + ended * _TICK
    moved = None if None in before.values() else watched.changed(groups, before)
    if moved is None:
        here = _chosen(watched.windows(groups), _before(over))
        return _within_limit(profiled, here), _others(_known(drifts, profiled), here), here
    moved, since = _chosen(moved, _before(over)), before[_ENDED] or 0
    there = _chosen(watched.windows(groups, [*spans_of(moved, groups), (since, ended)], nulls=moved.has_nulls()), _before(over))
    gone = _others(moved, there)
    new = _chosen(there, pl.col(WINDOW_START) >= pl.lit(_EPOCH + since * _TICK, MOMENT))
    changed = _within_limit(profiled, pl.concat([_others(moved, gone), new]).unique())
    return changed, gone, _chosen(_neighbourhood(watched, groups, pl.concat([changed, gone]), ended), _before(over))


def _known(drifts: Table, profiled: Profiled, of: pl.Series | None = None) -> pl.Series:
    """The windows of this length that a monitor compared before, whatever table and baseline were then; of these, or of all."""
    rows = drifts.scan().filter(pl.col("monitor") == profiled.monitor, pl.col("granularity") == pl.lit(profiled.groups.every, pl.String))
    if of is not None:
        if of.is_empty():
            return of
        rows = rows.filter(pl.col(WINDOW_START).is_in(of.cast(TIMESTAMP).implode(), nulls_equal=True))
    return rows.select(pl.col(WINDOW_START).unique()).collect(engine="streaming").to_series()


def _before(moment: datetime) -> pl.Expr:
    return pl.col(WINDOW_START).is_null() | (pl.col(WINDOW_START) < pl.lit(moment, MOMENT))


def _neighbourhood(watched: WatchedRows, groups: Groups, windows: pl.Series, end: int) -> pl.Series:
    """The windows that have rows around some windows: far enough that each has the one before it and the one after it, if there are such.

    Args:
        watched: The rows.
        groups: Tell the windows.
        windows: The windows.
        end: No window that begins from then on counts, as microseconds since 1970.
    """
    wanted = np.sort(windows.drop_nulls().cast(MOMENT).to_physical().to_numpy())
    for reach in _REACHES:
        spans = spans_of(windows, groups, reach)
        here = watched.windows(groups, spans, nulls=windows.has_nulls())
        starts = np.sort(here.drop_nulls().cast(MOMENT).to_physical().to_numpy())
        wider: list[Span] = [_with_neighbours(starts, wanted, span, end) for span in spans]
        if wider == spans:
            return here
    return watched.windows(groups, wider, nulls=windows.has_nulls())


def _with_neighbours(starts: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64], span: tuple[int, int], end: int) -> Span:
    """A span, without a bound where it has no window before the first of those that are wanted in it, or none after the last."""
    first, last = span
    inside, there = (part[(part >= first) & (part < last)] for part in (wanted, starts))
    return first if (there < inside[0]).any() else None, last if (there > inside[-1]).any() or last >= end else None


def _chosen(windows: pl.Series, which: pl.Expr) -> pl.Series:
    return windows.cast(MOMENT).alias(WINDOW_START).to_frame().filter(which).to_series()


def _others(windows: pl.Series, than: pl.Series) -> pl.Series:
    given = windows.cast(MOMENT).alias(WINDOW_START)
    return given.filter(~given.is_in(than.cast(MOMENT).implode(), nulls_equal=True))


def _created(lakehouse: Lakehouse, name: str, schema: pl.Schema) -> Table:
    table = lakehouse.table(name)
    table.create(schema, (DATE,), "Profiles of windows of tables." if schema is PROFILES_SCHEMA else "How windows of tables drifted.")
    table.add_columns(schema)
    return table


def _commit(profiled: Profiled, before: Mapping[str, int | None], marks: Mapping[str, int], declared: int | None) -> Commit:
    """Advances the watermarks from what they were to what was read."""
    cursors = tuple(Cursor(profiled.mark(part), before[part], to) for part, to in marks.items())
    return Commit((*cursors, replace(profiled.declared, before=declared)))


def _add(table: Table, rows: pl.DataFrame, commit: Commit) -> None:
    """Append rows with the number of their commit."""

    def attempt(delta: DeltaTable) -> Counts:
        counts = Counts(written=rows.height)
        numbered = rows.with_columns(sequence=pl.lit(delta.version() + 1, pl.Int64))
        properties = commit.properties(delta, counts, read_before_write=False)
        properties.max_commit_retries = 0  # not on another version than the next one, which is the number of the rows
        table.write_rows(delta, numbered, properties)
        return counts

    table.write(commit, attempt)


def _within_limit(profiled: Profiled, changed: pl.Series) -> pl.Series:
    """The windows that are profiled: all, or of too many the newest ones."""
    groups = profiled.groups
    if len(changed) * (1 + MOST_SLICES * len(groups.slices)) < MOST_GROUPS // 2:
        return changed
    rows = profiled.watched.rows(groups)
    start = groups.window(rows.collect_schema()).alias(WINDOW_START)
    slices = pl.sum_horizontal(pl.lit(1), *(pl.col(key).n_unique() for key in groups.slices))
    sizes = rows.group_by(start).agg(slices.alias("groups"))
    found = changed.to_frame(WINDOW_START).join(sizes.collect(engine="streaming"), on=WINDOW_START, how="left", nulls_equal=True)
    # Before a window that is compared another one is needed, which has about as many.
    newest = found.sort(WINDOW_START, descending=True, nulls_last=True).with_columns(pl.col("groups").fill_null(0).cum_sum())
    is_over = newest.filter(pl.col("groups") > MOST_GROUPS).height > 0
    kept = newest.filter(pl.col("groups") <= MOST_GROUPS // 2)[WINDOW_START] if is_over else changed
    if len(kept) < len(changed):
        profiled.warn(
            f"Only the newest {len(kept):,} of {len(changed):,} windows were profiled, since {MOST_GROUPS:,} windows and slices are "
            "the most at once; older ones follow if their rows change."
        )
    return kept


def _compared(changed: pl.Series, here: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The windows that are compared again: those that changed and those that follow them; and these with what is before them."""
    times = np.sort(here.drop_nulls().to_physical().to_numpy())
    moved = changed.drop_nulls().to_physical().to_numpy()
    after = np.searchsorted(times, moved, side="right")
    compared = np.unique(np.concatenate([moved, times[after[after < len(times)]]]))
    places = np.searchsorted(times, compared)
    needed = np.unique(np.concatenate([compared, times[places[places > 0] - 1]]))
    without_time = pl.Series([None] if changed.has_nulls() else [], dtype=MOMENT)
    of_compared, of_needed = (pl.Series(one, dtype=pl.Int64).cast(MOMENT).append(without_time) for one in (compared, needed))
    return of_compared, of_needed


def _only(rows: pl.DataFrame, windows: pl.Series) -> pl.DataFrame:
    return rows.filter(pl.col(WINDOW_START).is_in(windows.cast(MOMENT).implode(), nulls_equal=True))


def _fit(rows: pl.DataFrame, about: list[pl.Expr], schema: pl.Schema) -> pl.DataFrame:
    filled = rows.with_columns(about)
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in filled.columns]
    return filled.with_columns(missing).select(pl.col(name).cast(dtype) for name, dtype in schema.items())

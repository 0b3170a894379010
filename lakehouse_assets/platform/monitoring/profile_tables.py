"""The tables of profiles and of drift, written window by window: only windows whose rows changed since the version that was read last.

Both are logs. A window that changed is appended again, and `latest` gives the newest of each. Which rows are profiled is in `watched_rows`,
how a window is profiled in `profile`, how it is compared in `drift_metrics`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.monitoring.domain import with_domain
from lakehouse_assets.platform.monitoring.drift_metrics import BASELINE, DRIFT_SCHEMA, drift
from lakehouse_assets.platform.monitoring.groups import MOMENT, MOST_GROUPS, MOST_SLICES, Groups
from lakehouse_assets.platform.monitoring.profile import SCHEMA, TABLE, profile
from lakehouse_assets.platform.monitoring.watched_rows import WINDOW_START, WatchedRows
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

_ABOUT = {"monitor": pl.String(), "table": pl.String(), "table_version": pl.Int64(), "evaluated_at": TIMESTAMP}
PROFILES_SCHEMA: Final = pl.Schema({**_ABOUT, **{name: dtype for name, dtype in SCHEMA.items() if name != "cell_counts"}, DATE: pl.Date()})
FOUND_SCHEMA: Final = pl.Schema({**DRIFT_SCHEMA, "rows": pl.Int64(), "avg": pl.Float64()})
"""Drift, with the rows of the window and slice and the average of the column in them."""
DRIFTS_SCHEMA: Final = pl.Schema({**_ABOUT, **DRIFT_SCHEMA, DATE: pl.Date()})
_MATTER: Final = ("slice_key", "slice_value", "column_name")
Matter = tuple[str | None, str | None, str]
"""Slice key, slice value and column."""


@dataclass(frozen=True)
class Profiled:
    """What is profiled, and compared with what.

    Attributes:
        monitor: Its name in both tables.
        watched: The rows.
        groups: Windows and slices; with windows.
        baseline: Gives the rows of the baseline, masked; asked only if a window changed.
        baseline_name: The table and version of it: all windows are compared again with another one.
        untested: Columns that get no thresholds.
        keys: Columns whose values tell rows apart: how these are distributed is not tested.
        told: Told what was left out, in a sentence.
    """

    monitor: str
    watched: WatchedRows
    groups: Groups
    baseline: Callable[[], pl.LazyFrame]
    baseline_name: str
    untested: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    told: Callable[[str], None] = field(default=lambda _: None)

    def mark(self, part: str) -> str:
        """The watermark of a part of the rows: it is another one if windows, slices, baseline, table or what is tested are."""
        about = repr((self.groups, self.baseline_name, self.watched.identity, self.untested, self.keys))
        return f"profiled:{self.monitor}:{blake2b(about.encode(), digest_size=8).hexdigest()}" + (f":{part}" if part else "")


def update_profiles(lakehouse: Lakehouse, profiled: Profiled, now: datetime) -> pl.DataFrame:
    """Profile the windows whose rows changed since the last time, and compare them and those that follow them.

    Both commits carry the version that was read. A run that died between them does the drift once more.

    Args:
        lakehouse: Has both tables.
        profiled: What to profile.
        now: Stands in the rows (UTC).

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
    before = {part: profiles.cursor(profiled.mark(part)) for part in watched.marks}
    if all((had := before[part]) is not None and had >= to for part, to in watched.marks.items()):
        return pl.DataFrame(schema=FOUND_SCHEMA)
    groups.check(watched.schema)
    here = watched.windows(groups)
    known_before = None if None in before.values() else watched.changed(groups, before)
    changed = _within_limit(profiled, here if known_before is None else known_before)
    if changed.is_empty():
        # What was read need not be kept until some window changes.
        drifts.append(pl.DataFrame(schema=DRIFTS_SCHEMA), _commit(profiled, drifts))
        profiles.append(pl.DataFrame(schema=PROFILES_SCHEMA), _commit(profiled, profiles, before))
        return pl.DataFrame(schema=FOUND_SCHEMA)
    compared, needed = _compared(changed, here)
    chosen, base_rows = watched.rows(groups, needed), profiled.baseline()
    known = profile(base_rows, Groups(groups.time, None, groups.slices), blocks=True, every=groups.every)
    found = profile(chosen, groups, known.cells)
    drifted = _only(drift(found, known, untested=profiled.untested, keys=profiled.keys), compared)
    drifted = with_domain(drifted, found, known, (chosen, base_rows))
    about = [
        pl.lit(profiled.monitor).alias("monitor"),
        pl.lit(watched.name).alias("table"),
        pl.lit(watched.version, pl.Int64).alias("table_version"),
        pl.lit(now).cast(TIMESTAMP).alias("evaluated_at"),
        pl.lit(now.date()).alias(DATE),
    ]
    left = found.frame[WINDOW_START].unique()
    gone = pl.DataFrame({WINDOW_START: changed.filter(~changed.is_in(left.implode(), nulls_equal=True)), "column_name": TABLE, "count": 0})
    drifts.append(_fit(drifted, about, DRIFTS_SCHEMA), _commit(profiled, drifts))
    of_windows = pl.concat([_only(found.frame, changed), gone], how="diagonal_relaxed")
    profiles.append(_fit(of_windows, about, PROFILES_SCHEMA), _commit(profiled, profiles, before))
    where = [WINDOW_START, "slice_key", "slice_value"]
    rows_of = found.frame.filter(pl.col("column_name") == TABLE).select(*where, rows="count")
    measured = found.frame.filter(pl.col("column_name") != TABLE).select(*where, "column_name", "avg")
    with_rows = drifted.join(rows_of, on=where, how="left", nulls_equal=True, maintain_order="left")
    return with_rows.join(measured, on=[*where, "column_name"], how="left", nulls_equal=True, maintain_order="left")


def latest(lakehouse: Lakehouse, monitor: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The newest profile and the newest drift of each window of a monitor that has rows."""
    schemas = {platform_tables.PROFILES: PROFILES_SCHEMA, platform_tables.DRIFT: DRIFTS_SCHEMA}
    found = []
    for name, schema in schemas.items():
        table = lakehouse.table(name)
        rows = table.scan().filter(pl.col("monitor") == monitor).collect() if table.exists() else pl.DataFrame(schema=schema)
        for part in ("table_version", "evaluated_at"):
            rows = rows.filter(pl.col(part) == pl.col(part).max().over(WINDOW_START))
        found.append(rows)
    alive = (
        found[0].filter(pl.col("column_name") == TABLE, pl.col("slice_key").is_null(), pl.col("count") > 0).select(WINDOW_START).unique()
    )
    profiles, drifts = (frame.join(alive, on=WINDOW_START, how="semi", nulls_equal=True) for frame in found)
    return profiles, drifts


def failing(found: pl.DataFrame) -> pl.DataFrame:
    """Drift as monitors judge it: a window that agrees with the baseline came back to it, however unlike the window before it is.

    So one faulty day is one bad window, and not the day after it too.
    """
    agrees = ((pl.col("drift_type") == BASELINE) & ~pl.col("drifted")).any().over(WINDOW_START, *_MATTER)
    is_back = agrees & (pl.col("drift_type") != BASELINE) & pl.col("drifted")
    return found.with_columns(drifted=pl.when(is_back).then(pl.lit(value=False)).otherwise("drifted"))


def drifting(lakehouse: Lakehouse, monitor: str) -> dict[Matter, datetime | None]:
    """What drifted when it was compared last: columns of slices, each with the start of that window."""
    table = lakehouse.table(platform_tables.DRIFT)
    if not table.exists():
        return {}
    is_said = pl.col("schema_change").is_null() | pl.col("slice_key").is_null()
    rows = table.scan().filter(pl.col("monitor") == monitor, pl.col("data_type").is_not_null(), is_said)
    found = rows.select(*_MATTER, WINDOW_START, "table_version", "evaluated_at", "drift_type", "drifted").collect()
    for part in ("table_version", "evaluated_at"):
        found = found.filter(pl.col(part) == pl.col(part).max().over(WINDOW_START))
    windows = failing(found).drop_nulls("drifted").group_by(*_MATTER, WINDOW_START).agg(pl.col("drifted").any())
    last = windows.sort(WINDOW_START, nulls_last=False).group_by(*_MATTER).last().filter("drifted")
    return {(row[0], row[1], row[2]): row[3] for row in last.select(*_MATTER, WINDOW_START).iter_rows()}


def _created(lakehouse: Lakehouse, name: str, schema: pl.Schema) -> Table:
    table = lakehouse.table(name)
    table.create(schema, (DATE,), "Profiles of windows of tables." if schema is PROFILES_SCHEMA else "How windows of tables drifted.")
    table.add_columns(schema)
    return table


def _commit(profiled: Profiled, table: Table, before: Mapping[str, int | None] | None = None) -> Commit:
    """Advances the watermarks of one of both tables to what was read: from what they were then, or are now."""
    had = {part: table.cursor(profiled.mark(part)) for part in profiled.watched.marks} if before is None else before
    return Commit(tuple(Cursor(profiled.mark(part), had[part], to) for part, to in profiled.watched.marks.items()))


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
        profiled.told(
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

"""The tables of profiles and of drift, written window by window: only windows whose rows changed since the version that was read last.

Both are logs. A window that changed is appended again, and `latest` gives the newest of each. How a window is profiled is in `profile`, how
it is compared in `drift_metrics`.
"""

from collections.abc import Callable
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
from lakehouse_assets.platform.monitoring.verdicts import is_ahead
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

_ABOUT = {"monitor": pl.String(), "table": pl.String(), "table_version": pl.Int64(), "evaluated_at": TIMESTAMP}
PROFILES_SCHEMA: Final = pl.Schema({**_ABOUT, **{name: dtype for name, dtype in SCHEMA.items() if name != "cell_counts"}, DATE: pl.Date()})
FOUND_SCHEMA: Final = pl.Schema({**DRIFT_SCHEMA, "rows": pl.Int64(), "avg": pl.Float64()})
"""Drift, with the rows of the window and slice and the average of the column in them."""
DRIFTS_SCHEMA: Final = pl.Schema({**_ABOUT, **DRIFT_SCHEMA, DATE: pl.Date()})
_WINDOW = "window_start"
_MATTER: Final = ("slice_key", "slice_value", "column_name")
Matter = tuple[str | None, str | None, str]
"""Slice key, slice value and column."""


@dataclass(frozen=True)
class Profiled:
    """What is profiled, and compared with what.

    Attributes:
        monitor: Its name in both tables.
        table: The table.
        groups: Windows and slices; with windows.
        baseline: Gives the rows of the baseline, masked; asked only if a window changed.
        baseline_name: The table and version of it: all windows are compared again with another one.
        masked: Masks personal columns.
        untested: Columns that get no thresholds.
        told: Told what was left out, in a sentence.
    """

    monitor: str
    table: Table
    groups: Groups
    baseline: Callable[[], pl.LazyFrame]
    baseline_name: str
    masked: Callable[[pl.LazyFrame], pl.LazyFrame] = field(default=lambda rows: rows)
    untested: tuple[str, ...] = ()
    told: Callable[[str], None] = field(default=lambda _: None)

    @property
    def key(self) -> str:
        """The watermark: it is another one if windows, slices, baseline or table are."""
        about = repr((self.groups, self.baseline_name, str(self.table.now().metadata().id)))
        return f"profiled:{self.monitor}:{blake2b(about.encode(), digest_size=8).hexdigest()}"


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
    version, key = profiled.table.version(), profiled.key
    after = tables[1].cursor(key)
    if after is not None and after >= version:
        return pl.DataFrame(schema=FOUND_SCHEMA)
    rows = profiled.masked(profiled.table.scan(version))
    profiled.groups.check(rows.collect_schema())
    here = _windows(rows, profiled.groups)
    changed = _within_limit(profiled, rows, _changed(profiled, after, version, here))
    if changed.is_empty():
        return pl.DataFrame(schema=FOUND_SCHEMA)
    compared, needed = _compared(changed, here)
    start = profiled.groups.window(rows.collect_schema())
    chosen = rows.filter(start.is_in(needed.drop_nulls().implode()) | (start.is_null() & pl.lit(needed.has_nulls())))
    base_rows = profiled.baseline()
    groups = profiled.groups
    known = profile(base_rows, Groups(groups.time, None, groups.slices), blocks=True, every=groups.every)
    found = profile(chosen, groups, known.cells)
    drifted = _only(drift(found, known, untested=profiled.untested), compared)
    drifted = with_domain(drifted, found, known, (chosen, base_rows))
    about = [
        pl.lit(profiled.monitor).alias("monitor"),
        pl.lit(profiled.table.name).alias("table"),
        pl.lit(version, pl.Int64).alias("table_version"),
        pl.lit(now).cast(TIMESTAMP).alias("evaluated_at"),
        pl.lit(now.date()).alias(DATE),
    ]
    gone = pl.DataFrame({_WINDOW: changed.filter(~changed.is_in(here.implode(), nulls_equal=True)), "column_name": TABLE, "count": 0})
    profiles = pl.concat([_only(found.frame, changed), gone], how="diagonal_relaxed")
    commit = Commit((Cursor(key, tables[0].cursor(key), version),))
    tables[0].append(_fit(drifted, about, DRIFTS_SCHEMA), commit)
    tables[1].append(_fit(profiles, about, PROFILES_SCHEMA), Commit((Cursor(key, after, version),)))
    where = [_WINDOW, "slice_key", "slice_value"]
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
            rows = rows.filter(pl.col(part) == pl.col(part).max().over(_WINDOW))
        found.append(rows)
    alive = found[0].filter(pl.col("column_name") == TABLE, pl.col("slice_key").is_null(), pl.col("count") > 0).select(_WINDOW).unique()
    profiles, drifts = (frame.join(alive, on=_WINDOW, how="semi", nulls_equal=True) for frame in found)
    return profiles, drifts


def failing(found: pl.DataFrame) -> pl.DataFrame:
    """Drift as monitors judge it: a window that agrees with the baseline came back to it, however unlike the window before it is.

    So one faulty day is one bad window, and not the day after it too.
    """
    agrees = ((pl.col("drift_type") == BASELINE) & ~pl.col("drifted")).any().over(_WINDOW, *_MATTER)
    is_back = agrees & (pl.col("drift_type") != BASELINE) & pl.col("drifted")
    return found.with_columns(drifted=pl.when(is_back).then(pl.lit(value=False)).otherwise("drifted"))


def drifting(lakehouse: Lakehouse, monitor: str) -> dict[Matter, datetime | None]:
    """What drifted when it was compared last: columns of slices, each with the start of that window, which has begun."""
    table = lakehouse.table(platform_tables.DRIFT)
    if not table.exists():
        return {}
    is_said = pl.col("schema_change").is_null() | pl.col("slice_key").is_null()
    rows = table.scan().filter(pl.col("monitor") == monitor, pl.col("data_type").is_not_null(), is_said)
    found = rows.filter(~is_ahead()).select(*_MATTER, _WINDOW, "table_version", "evaluated_at", "drift_type", "drifted").collect()
    for part in ("table_version", "evaluated_at"):
        found = found.filter(pl.col(part) == pl.col(part).max().over(_WINDOW))
    windows = failing(found).drop_nulls("drifted").group_by(*_MATTER, _WINDOW).agg(pl.col("drifted").any())
    last = windows.sort(_WINDOW, nulls_last=False).group_by(*_MATTER).last().filter("drifted")
    return {(row[0], row[1], row[2]): row[3] for row in last.select(*_MATTER, _WINDOW).iter_rows()}


def _created(lakehouse: Lakehouse, name: str, schema: pl.Schema) -> Table:
    table = lakehouse.table(name)
    table.create(schema, (DATE,), "Profiles of windows of tables." if schema is PROFILES_SCHEMA else "How windows of tables drifted.")
    table.add_columns(schema)
    return table


def _windows(rows: pl.LazyFrame, groups: Groups) -> pl.Series:
    """The starts of all windows of rows."""
    start = groups.window(rows.collect_schema()).alias(_WINDOW)
    return rows.select(start.unique()).collect(engine="streaming").to_series()


def _changed(profiled: Profiled, after: int | None, version: int, here: pl.Series) -> pl.Series:
    """The windows in which rows came, changed or went; all if that is not known."""
    if after is None:
        return here
    try:
        if profiled.table.layout_changed(after, version):
            return here
        return _windows(profiled.table.change_feed(after, version), profiled.groups)
    except NoSuchVersion:
        return here


def _within_limit(profiled: Profiled, rows: pl.LazyFrame, changed: pl.Series) -> pl.Series:
    """The windows that are profiled: all, or of too many the newest ones."""
    groups = profiled.groups
    if len(changed) * (1 + MOST_SLICES * len(groups.slices)) < MOST_GROUPS // 2:
        return changed
    start = groups.window(rows.collect_schema()).alias(_WINDOW)
    slices = pl.sum_horizontal(pl.lit(1), *(pl.col(key).n_unique() for key in groups.slices))
    sizes = rows.group_by(start).agg(slices.alias("groups"))
    found = changed.to_frame(_WINDOW).join(sizes.collect(engine="streaming"), on=_WINDOW, how="left", nulls_equal=True)
    # Before a window that is compared another one is needed, which has about as many.
    newest = found.sort(_WINDOW, descending=True, nulls_last=True).with_columns(pl.col("groups").fill_null(0).cum_sum())
    is_over = newest.filter(pl.col("groups") > MOST_GROUPS).height > 0
    kept = newest.filter(pl.col("groups") <= MOST_GROUPS // 2)[_WINDOW] if is_over else changed
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
    return rows.filter(pl.col(_WINDOW).is_in(windows.cast(MOMENT).implode(), nulls_equal=True))


def _fit(rows: pl.DataFrame, about: list[pl.Expr], schema: pl.Schema) -> pl.DataFrame:
    filled = rows.with_columns(about)
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in filled.columns]
    return filled.with_columns(missing).select(pl.col(name).cast(dtype) for name, dtype in schema.items())

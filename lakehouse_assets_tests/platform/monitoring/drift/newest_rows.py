"""What the logs of profiles and of drift say now, for tests."""

import polars as pl

from lakehouse_assets.platform.monitoring.drift.drift_log import DRIFTS_SCHEMA, PROFILES_SCHEMA, newest
from lakehouse_assets.platform.monitoring.drift.watched_rows import WINDOW_START
from lakehouse_assets.platform.monitoring.profiling.profile import TABLE
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


def latest(lakehouse: Lakehouse, monitor: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The newest profile and the newest drift of each window of a monitor that has rows."""
    schemas = {platform_tables.PROFILES: PROFILES_SCHEMA, platform_tables.DRIFT: DRIFTS_SCHEMA}
    found = []
    for name, schema in schemas.items():
        table = lakehouse.table(name)
        rows = table.scan().filter(pl.col("monitor") == monitor).collect() if table.exists() else pl.DataFrame(schema=schema)
        found.append(newest(rows))
    alive = (
        found[0].filter(pl.col("column_name") == TABLE, pl.col("slice_key").is_null(), pl.col("count") > 0).select(WINDOW_START).unique()
    )
    profiles, drifts = (frame.join(alive, on=WINDOW_START, how="semi", nulls_equal=True) for frame in found)
    return profiles, drifts

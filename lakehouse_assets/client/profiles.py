"""Profiles of tables and their drift, on demand. What is read passes the reader, and each table is read at one version."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lakehouse_assets.client.context import Context
from lakehouse_assets.client.tables import TableHandle, full_name

if TYPE_CHECKING:
    from lakehouse_assets.platform.monitoring.profiling.profile import Profile


@dataclass(frozen=True)
class TableProfile:
    """The profile of a table, and how it drifted.

    Attributes:
        table: The table.
        version: Which was profiled.
        against: The table of the baseline; None if there is none.
        against_version: The version of it.
        profile: A row for each window, slice and column.
        drift: A row for each window, slice, column and what it is compared with; None if there is nothing to compare with.
    """

    table: str
    version: int
    against: str | None
    against_version: int | None
    profile: pl.DataFrame
    drift: pl.DataFrame | None

    def as_values(self) -> dict[str, Any]:
        """All of it as plain values."""
        from lakehouse_assets.platform.far_times import as_python_holds

        frames = {"profile": self.profile, "drift": self.drift}
        rows = {name: None if frame is None else as_python_holds(frame).to_dicts() for name, frame in frames.items()}
        return {name: getattr(self, name) for name in ("table", "version", "against", "against_version")} | rows

    def write(self, file: Path) -> list[Path]:
        """Write the profile to a file, and the drift to one next to it; the end of the name says the format, as for exports.

        Returns:
            The files: `NAME.parquet`, and `NAME.drift.parquet` if there is drift.

        Raises:
            ExportRefused: The name ends in no known format.
        """
        from lakehouse_assets.platform.governance import formats

        files = [(file, self.profile)]
        if self.drift is not None:
            files.append((file.with_suffix(f".drift{file.suffix}"), self.drift))
        for path, frame in files:
            formats.write(frame.lazy(), path)
        return [path for path, _ in files]


def profile_table(
    context: Context,
    table: str,
    *,
    time: str | None,
    every: str | None,
    slices: Sequence[str],
    against: str | None,
    where: str | None,
    p_values: bool,
) -> TableProfile:
    """As `Client.profile` says."""
    from lakehouse_assets.platform.monitoring.drift.domain import with_domain
    from lakehouse_assets.platform.monitoring.drift.drift_metrics import drift
    from lakehouse_assets.platform.monitoring.profiling.groups import Groups
    from lakehouse_assets.platform.monitoring.profiling.profile import profile

    groups = Groups(time, every, tuple(dict.fromkeys(slices)))
    handle, version = _at(context, table)
    rows = handle.select((), where, version=version, what="profile", as_text=True)
    groups.check(rows.collect_schema())
    lineage = [name for name in rows.collect_schema() if name.startswith("_")]
    if against is None:
        found = profile(rows, groups)
        return TableProfile(
            handle.name, version, None, None, found.frame, drift(found, untested=lineage, p_values=p_values) if every else None
        )
    base_handle, base_version = _at(context, against)
    base_rows = base_handle.select((), where, version=base_version, what="profile", as_text=True)
    baseline = _baseline(base_rows, groups)
    found = profile(rows, groups, baseline.cells)
    drifted = drift(found, baseline, untested=lineage, p_values=p_values)
    drifted = with_domain(drifted, found, baseline, (rows, base_rows))
    return TableProfile(handle.name, version, base_handle.name, base_version, found.frame, drifted)


def _baseline(rows: pl.LazyFrame, groups: Any) -> "Profile":
    """The profile of a baseline: with the same slices, and with blocks of the same length, if it has the columns."""
    from lakehouse_assets.platform.monitoring.profiling.groups import Groups, is_time
    from lakehouse_assets.platform.monitoring.profiling.profile import profile

    schema = rows.collect_schema()
    time = groups.time if groups.time is not None and is_time(schema.get(groups.time)) else None
    slices = tuple(key for key in groups.slices if key in schema)
    return profile(rows, Groups(time, None, slices), blocks=time is not None, every=groups.every)


def _at(context: Context, named: str) -> tuple[TableHandle, int]:
    """A table and its version, as `TABLE` or `TABLE@VERSION`.

    Raises:
        ValueError: What follows the @ is no version.
        NoSuchTable: There is no such table.
    """
    name, at, version = named.partition("@")
    if at and not version.isdecimal():
        raise ValueError(f"{named}: what follows the @ is a version, as {name}@3; `lakehouse history {name}` lists them")
    handle = TableHandle(context, full_name(context, name))
    return handle, int(version) if at else handle.version

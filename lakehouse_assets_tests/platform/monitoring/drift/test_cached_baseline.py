"""A new window costs what it has: neither the baseline nor older windows are read, and whatever changes the baseline counts it again.

What is read is told by files that are taken away: who needs them fails.
"""

import shutil
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse_assets import ByKey, Contract, Drift, Timestamp, column, monitor, table
from lakehouse_assets.platform.declarations.monitors import Monitor
from lakehouse_assets.platform.monitoring import cache
from lakehouse_assets.platform.monitoring.drift.drift_metrics import drift
from lakehouse_assets.platform.monitoring.profiling.groups import Groups
from lakehouse_assets.platform.monitoring.profiling.profile import profile
from lakehouse_assets.platform.monitoring.profiling.stored_profile import from_frames, to_frames
from lakehouse_assets.platform.storage import platform_tables, table_cache
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.monitoring.accuracy.judging import evaluation
from lakehouse_assets_tests.platform.monitoring.drift.newest_rows import latest
from lakehouse_assets_tests.platform.monitoring.drift.test_profile_tables import BASE, SCHEMA, START, rows

NAME = "shop.silver.orders"
DAY = timedelta(days=1)
WATCHED = monitor("shop.monitors.moved", of=NAME, kind=Drift("at", slices=("kind",), against=f"{NAME}@1"))


def shop(root: Path, partition_by: tuple[str, ...] = ("day",)) -> Lakehouse:
    """A table whose first version is the baseline."""
    lake = Lakehouse(str(root))
    lake.table(NAME).create(SCHEMA, partition_by)
    lake.table(NAME).append(BASE)
    return lake


def day_after(lake: Lakehouse, day: int, watched: Monitor = WATCHED, declarations: tuple = ()) -> None:
    """The rows of a day come, and are judged when it is over."""
    lake.table(NAME).append(rows([day], day + 1_000))
    evaluation(lake, START + (day + 1) * DAY, declarations).run([watched])


def found(lake: Lakehouse) -> list[pl.DataFrame]:
    """The newest profiles and drift of each window."""
    order = ["window_start", "slice_key", "slice_value", "column_name"]
    told = ("monitor", "table", "table_id", "table_version", "evaluated_at", "sequence", "date")
    return [one.drop(told).sort(order + (["drift_type"] if "drift_type" in one.columns else [])) for one in latest(lake, WATCHED.name)]


@pytest.mark.parametrize("partition_by", sweeps.of([("day",)], [("day",), ()]), ids=str)
def test_a_new_day_reads_neither_the_baseline_nor_older_days(tmp_path, partition_by):
    lake = shop(tmp_path / "one", partition_by)
    for day in range(5):
        day_after(lake, day)
    shutil.copytree(tmp_path / "one", tmp_path / "whole")
    before_last = sorted(Path(lake.table(NAME).uri).rglob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)[:-1]
    assert len(before_last) >= 5
    for file in before_last:
        file.unlink()
    whole = Lakehouse(str(tmp_path / "whole"))
    for one in (lake, whole):
        day_after(one, 5)
        day_after(one, 21)
    for cached, known in zip(found(lake), found(whole), strict=True):
        assert_frame_equal(cached, known)
    assert found(lake)[1]["window_start"].max() == START + 21 * DAY


class Orders(Contract):
    """Orders whose kind is personal."""

    at: Timestamp = column(key=True)
    day: str
    kind: str = column(personal=True)
    amount: float


@table(NAME, contract=Orders, kind=ByKey("at"), inputs={"rows": "shop.bronze.orders"})
def personal_orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Orders."""
    return rows


@dataclass(frozen=True)
class Change:
    """What is another baseline."""

    watched: Monitor = WATCHED
    declarations: tuple = field(default=())
    makes_again: bool = False


CHANGES = {
    "slices": Change(replace(WATCHED, kind=Drift("at", against=f"{NAME}@1"))),
    "length": Change(replace(WATCHED, kind=Drift("at", every="2d", slices=("kind",), against=f"{NAME}@1"))),
    "version": Change(replace(WATCHED, kind=Drift("at", slices=("kind",), against=f"{NAME}@2"))),
    "masks": Change(replace(WATCHED, kind=Drift("at", against=f"{NAME}@1")), (personal_orders,)),
    "made again": Change(makes_again=True),
}


@pytest.mark.parametrize("name", sweeps.of(["length", "masks", "made again"], CHANGES))
def test_another_baseline_is_counted_again(tmp_path, name):
    change = CHANGES[name]
    lake = shop(tmp_path / "one")
    day_after(lake, 1)
    day_after(lake, 2)
    if change.makes_again:
        shutil.rmtree(lake.table(NAME).uri)
        lake.table(NAME).create(SCHEMA, ("day",))
        lake.table(NAME).append(BASE.with_columns(pl.col("amount") * 3))
    shutil.copytree(tmp_path / "one", tmp_path / "without")
    without = Lakehouse(str(tmp_path / "without"))
    shutil.rmtree(without.table(platform_tables.CACHE).uri)
    for one in (lake, without):
        for day in (4, 5):
            day_after(one, day, change.watched, change.declarations)
    for cached, known in zip(found(lake), found(without), strict=True):
        assert_frame_equal(cached, known)
    of_each = lake.table(platform_tables.CACHE).scan().group_by("about").agg(pl.col("key").n_unique()).collect()
    assert set(of_each["key"]) == {1}, "what was counted before, perhaps without a mask, is gone"


def test_what_is_cached_can_go_at_any_time_and_what_cannot_be_read_is_counted_again(tmp_path):
    lake = shop(tmp_path)
    day_after(lake, 1)
    stored = lake.table(platform_tables.CACHE)
    parts = stored.scan().collect()
    assert set(parts["about"]) == {f"{part} of the baseline of {WATCHED.name}" for part in ("profile", "domain")}
    stored.replace(parts.with_columns(content=pl.lit(b"ARROW1 of another release")), None)
    day_after(lake, 2)
    again = stored.scan().collect()
    assert again.select("key", "part", "content").sort("key", "part").equals(parts.select("key", "part", "content").sort("key", "part"))
    assert cache.read(lake, "another") is None


def _garbage(files: list[Path]) -> None:
    for file in files:
        file.write_bytes(b"garbage")


def _cut(files: list[Path]) -> None:
    for file in files:
        file.write_bytes(file.read_bytes()[:-7])


DAMAGES = {
    "data files of garbage": ("**/*.parquet", _garbage),
    "data files that were cut": ("**/*.parquet", _cut),
    "data files that are gone": ("**/*.parquet", lambda files: [file.unlink() for file in files]),
    "a log of garbage": ("_delta_log/*.json", _garbage),
    "an empty commit": ("_delta_log/*.json", lambda files: max(files).write_bytes(b"")),
    "a log that begins late": ("_delta_log/*.json", lambda files: min(files).unlink()),
    "no log": ("_delta_log", lambda files: shutil.rmtree(files[0])),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_rebuilt_with_one_warning_and_nothing_else_is_deleted(tmp_path, damage, caplog, capfd):
    lake = shop(tmp_path / "one")
    day_after(lake, 1)
    shutil.copytree(tmp_path / "one", tmp_path / "whole")
    pattern, spoil = DAMAGES[damage]
    spoil(list(Path(lake.table(platform_tables.CACHE).uri).glob(pattern)))
    table_cache.clear()
    others = {path for path in Path(lake.root).rglob("*") if path.is_file() and "/cache/" not in str(path)}
    caplog.clear()
    day_after(lake, 2)
    assert len(caplog.records) == (damage != "no log"), [one.getMessage() for one in caplog.records]
    assert all("platform.monitoring.cache cannot be read, and is rebuilt: " in one.getMessage() for one in caplog.records)
    assert "panicked" not in capfd.readouterr().err
    assert all(path.exists() for path in others)
    caplog.clear()
    day_after(lake, 3)
    assert not caplog.records
    assert lake.table(platform_tables.CACHE).count() == lake.table(platform_tables.CACHE).scan().collect().height > 0
    whole = Lakehouse(str(tmp_path / "whole"))
    for day in (2, 3):
        day_after(whole, day)
    for known, expected in zip(found(lake), found(whole), strict=True):
        assert_frame_equal(known, expected)


def test_a_profile_from_frames_is_compared_as_the_one_that_was_counted():
    random, size = np.random.default_rng(3), 4_000

    def some(shift: float) -> pl.DataFrame:
        numbers = random.normal(shift, size=size)
        numbers[:5] = [np.nan, np.inf, -np.inf, 0.0, -0.0]
        return pl.DataFrame(
            {
                "at": [START + timedelta(hours=float(hour)) for hour in random.integers(0, 24 * 40, size)],
                "number": numbers,
                "single": pl.Series(numbers, dtype=pl.Float32),
                "long": random.integers(-(2**62), 2**62, size),
                "few": random.integers(0, 3, size),
                "text": [f"text {value}" for value in random.zipf(1.3, size) % 5_000],
                "names": pl.Series([f"{value}" for value in random.integers(0, 4, size)], dtype=pl.Enum(["0", "1", "2", "3"])),
                "yes": random.random(size) > 0.3,
                "day": pl.Series(random.integers(0, 900, size), dtype=pl.Int32).cast(pl.Date),
                "list": [[1]] * size,
                "null": pl.Series([None] * size, dtype=pl.String),
            }
        ).with_columns(pl.when(pl.int_range(pl.len()) % 7 > 0).then("text"))

    base, new = some(0), some(0.2)
    for groups, windows in ((Groups("at", None, ("few",)), Groups("at", "1d", ("few",))), (Groups(), Groups())):
        counted = profile(base.lazy(), groups, blocks=True, every=windows.every)
        read = from_frames(to_frames(counted), groups)
        assert_frame_equal(read.frame, counted.frame)
        one, other = (drift(profile(new.lazy(), windows, known.cells), known, p_values=True) for known in (counted, read))
        assert_frame_equal(one, other)
        assert one.height > 10

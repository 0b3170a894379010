"""Why plain assets are not stored by dagster-deltalake's own IO manager: what it does in the cases that ours gets right.

A test that fails here after an upgrade says that a case has changed, for the better or for the worse. Nothing else depends on it.
"""

from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from dagster_deltalake import DeltaLakePyarrowIOManager, LocalConfig
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

DAILY = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-15")
WEEKLY = dg.WeeklyPartitionsDefinition("2024-01-01", end_date="2024-01-29", day_offset=1)
STATIC = dg.StaticPartitionsDefinition(["1", "2", "3"])


def materialise(root: Path, partitions: dg.PartitionsDefinition, rows: pa.Table, first: str, last: str | None = None) -> None:
    @dg.asset(partitions_def=partitions, metadata={"partition_expr": "k"})
    def table() -> pa.Table:
        return rows

    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
    manager = DeltaLakePyarrowIOManager(root_uri=str(root), storage_options=LocalConfig())
    assert dg.materialize([table], resources={"io_manager": manager}, tags=tags).success


def rows(keys: list, of_type: pa.DataType, v: int) -> pa.Table:
    return pa.table({"k": pa.array(keys, of_type), "v": pa.array([v] * len(keys))})


def values(root: Path) -> list[int]:
    return sorted(DeltaTable(root / "public" / "table").to_pyarrow_table()["v"].to_pylist())


def test_a_day_of_naive_timestamps_destroys_the_days_before(tmp_path):
    for day in (1, 2):
        materialise(
            tmp_path, DAILY, rows([datetime(2024, 1, day, tzinfo=UTC).replace(tzinfo=None)], pa.timestamp("us"), v=day), f"2024-01-0{day}"
        )
    assert values(tmp_path) == [2]


def test_a_partition_of_integers_destroys_the_others(tmp_path):
    for key in (1, 2):
        materialise(tmp_path, STATIC, rows([key], pa.int64(), v=key), str(key))
    assert values(tmp_path) == [2]


def test_several_static_keys_in_one_run_destroy_the_others(tmp_path):
    materialise(tmp_path, STATIC, rows(["3"], pa.string(), v=3), "3")
    materialise(tmp_path, STATIC, rows(["1", "2"], pa.string(), v=1), "1", "2")
    assert values(tmp_path) == [1, 1]


@pytest.mark.parametrize("of_type", [pa.date32(), pa.timestamp("us", "UTC")], ids=str)
def test_a_range_of_days_fails_on_a_table_that_exists(tmp_path, of_type):
    days = [date(2024, 1, n) if of_type == pa.date32() else datetime(2024, 1, n, tzinfo=UTC) for n in (1, 2)]
    materialise(tmp_path, DAILY, rows(days[:1], of_type, v=0), "2024-01-01")
    with pytest.raises(DeltaError, match="failed validation check"):
        materialise(tmp_path, DAILY, rows(days, of_type, v=1), "2024-01-01", "2024-01-02")


def test_a_week_of_days_fails_on_a_table_that_exists(tmp_path):
    week = [date(2024, 1, n) for n in range(1, 8)]
    materialise(tmp_path, WEEKLY, rows(week, pa.date32(), v=0), "2024-01-01")
    with pytest.raises(DeltaError, match="failed validation check"):
        materialise(tmp_path, WEEKLY, rows(week, pa.date32(), v=1), "2024-01-01")

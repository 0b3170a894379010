"""A value or slice that a baseline always has and a window has not is named, and what is seldom there by chance alone is not."""

from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import polars as pl
import pytest

from lakehouse_assets import Drift, monitor
from lakehouse_assets.platform.monitoring.drift.drift_metrics import BASELINE, drift
from lakehouse_assets.platform.monitoring.drift.vanished import VANISHED
from lakehouse_assets.platform.monitoring.profiling.groups import Groups
from lakehouse_assets.platform.monitoring.profiling.profile import TABLE, profile
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.monitoring.accuracy.judging import evaluation

START = datetime(2026, 1, 1, tzinfo=UTC)
DAILY = Groups("at", "1d")
A_DAY = 2_000
RARE = (0.0005, 0.002, 0.005, 0.01, 0.02, 0.05)


def trips(days: int, shares: tuple[float, ...], seed: int, *, first: int = 0, spread: float = 0.0, batch: int = 1) -> pl.DataFrame:
    """Trips of stations with these shares, the rest of a large one.

    Args:
        days: How many.
        shares: By station.
        seed: Of chance.
        first: The first day.
        spread: By how much a share differs from day to day.
        batch: So many rows come at once.
    """
    random = np.random.default_rng(seed)
    frames = []
    for day in range(first, first + days):
        wanted = np.array(shares) * (random.gamma(1 / spread**2, spread**2, len(shares)) if spread else 1)
        counts = random.poisson(wanted * A_DAY / batch) * batch
        names = np.repeat([*(f"s{at}" for at in range(len(shares))), "central"], [*counts, A_DAY])
        moments = pl.Series([START + timedelta(days=day)]).extend_constant(START + timedelta(days=day), len(names) - 1)
        frames.append(pl.DataFrame({"at": moments, "station": names, "length": random.normal(size=len(names))}))
    return pl.concat(frames).with_columns(number=pl.col("station").str.replace("central", "s99").str.slice(1).cast(pl.Int64))


def vanished(rows: pl.DataFrame, base: pl.DataFrame, groups: Groups = DAILY) -> pl.DataFrame:
    """The drift of the columns in which something vanished."""
    known = profile(base.lazy(), Groups("at", None, groups.slices), blocks=True, every="1d")
    found = drift(profile(rows.lazy(), groups, known.cells), known)
    return found.filter(pl.col(VANISHED).is_not_null())


@pytest.mark.parametrize(("days", "spread"), sweeps.of([(10, 0.3), (60, 0.0)], [*product((10, 60), (0.0, 0.3))]))
def test_quiet_windows_lack_nothing_however_rare_values_are_and_however_much_days_vary(days, spread):
    """Of a thousand windows with six stations not one is told; by chance alone the rare ones are missing in a third of them."""
    base = trips(days, RARE, 1, spread=spread)
    for seed in range(5):
        rows = trips(200, RARE, 10 + seed, first=days, spread=spread)
        assert rows.filter(pl.col("station") == "s0")["at"].n_unique() < 180
        assert vanished(rows, base).is_empty()


@pytest.mark.parametrize(("days", "share", "batch"), [(60, 0.08, 20), (60, 0.03, 8)])
def test_rows_that_come_in_batches_are_missing_by_chance_far_more_often(days, share, batch):
    """Of twenty stations whose rows come in 7 or 8 batches a day, one has none on one of some 50 to 150 days."""
    shares = (share,) * 20
    base, rows = trips(days, shares, 1, batch=batch), trips(400, shares, 2, first=days, batch=batch)
    assert rows.group_by("at").agg(pl.col("station").n_unique())["station"].min() < 21
    assert vanished(rows, base).is_empty()
    gone = trips(3, (*shares, 0.0), 3, first=days, batch=batch)
    many = vanished(gone, trips(60, (*shares, 0.25), 4, batch=batch))
    named = {(row["column_name"], one["item"]) for row in many.iter_rows(named=True) for one in row[VANISHED]}
    assert named == {("station", "s20"), ("number", "20")}


def test_a_station_that_sends_no_rows_is_named_in_each_window_also_by_its_number():
    base, shares = trips(60, RARE, 1, spread=0.2), (*RARE[:5], 0.0)
    found = vanished(trips(20, shares, 2, first=60, spread=0.2), base)
    assert found.group_by("column_name").len().sort("column_name").rows() == [("number", 20), ("station", 20)]
    for row in found.iter_rows(named=True):
        [item] = row[VANISHED]
        assert item["item"] == ("s5" if row["column_name"] == "station" else "5")
        assert item["count"] == pytest.approx(0.05 * A_DAY, rel=0.2)
        assert row["percent_vanished"] == pytest.approx(100 * 0.05 / (1 + sum(RARE)), rel=0.2)
        test = next(one for one in row["thresholds"] if one["metric"] == VANISHED)
        assert test["exceeded"]
        assert test["value"] > test["threshold"] > 10
        assert row["drifted"]


def test_the_row_of_the_table_says_drifted_too_and_a_key_is_no_exception():
    base = trips(30, RARE, 1)
    known = profile(base.lazy(), Groups("at"), blocks=True, every="1d")
    rows = trips(2, (*RARE[:5], 0.0), 2, first=30)
    found = drift(profile(rows.lazy(), DAILY, known.cells), known, keys=("station", "number")).filter(drift_type=BASELINE)
    assert found.filter(pl.col("column_name").is_in([TABLE, "station"]))["drifted"].to_list() == [True] * 4


def test_what_is_missing_in_a_window_of_the_baseline_is_not_tested_but_what_came_later_is():
    base = trips(60, (0.05, 0.05), 1)
    day = (pl.col("at") - START).dt.total_days()
    sometimes = base.filter((pl.col("station") != "s0") | (day % 10 > 0))
    late = base.filter((pl.col("station") != "s1") | (day >= 40))
    gone = trips(3, (0.0, 0.0), 2, first=60).drop("number")
    assert vanished(gone, sometimes.drop("number"))[VANISHED].list.eval(pl.element().struct.field("item")).to_list() == [["s1"]] * 3
    assert vanished(gone, late.drop("number"))[VANISHED].list.len().to_list() == [2] * 3


def test_a_value_that_is_gone_in_one_slice_alone_is_named_there():
    cities = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("Lyon")).otherwise(pl.lit("Paris"))
    base = trips(60, (0.1, 0.1), 1).with_columns(city=cities)
    rows = trips(1, (0.1, 0.1), 2, first=60).with_columns(city=cities)
    rows = rows.filter((pl.col("city") != "Lyon") | (pl.col("station") != "s1"))
    found = vanished(rows.drop("number"), base.drop("number"), Groups("at", "1d", ("city",)))
    assert found.select("slice_key", "slice_value", "column_name").rows() == [("city", "Lyon", "station")]


def test_the_monitor_says_which_station_is_gone_and_since_when_and_that_it_is_back(tmp_path):
    lake = Lakehouse(str(tmp_path))
    table = lake.table("bikes.silver.trips")
    rows = trips(40, RARE, 1).select("at", "station")
    table.create(rows.schema)
    table.append(rows)
    kind = Drift("at", slices=("station",), against="bikes.silver.trips@1")
    watched = monitor("bikes.monitors.moved", of="bikes.silver.trips", kind=kind)
    judge = evaluation(lake, START + timedelta(days=60))
    judge.run([watched])
    table.append(trips(2, (*RARE[:4], 0.0, RARE[5]), 2, first=40).select("at", "station"))
    [shown] = judge.run([watched])
    [bad] = [one for one in shown.verdicts if one.passed is False]
    assert bad.column_name == "station"
    assert bad.text.startswith("station: there is no row of s4 (")
    assert "Each window of the baseline has some, and quiet windows lack a value with" in bad.text
    assert bad.metric == VANISHED
    assert bad.threshold < bad.value
    stored = [row for row in shown.rows if row["passed"] is False]
    [cause] = judge.causes(watched, stored)
    assert "no row of s4 since 2026-02-10" in " ".join(cause.steps)
    table.append(trips(1, RARE, 3, first=42).select("at", "station"))
    [shown] = judge.run([watched])
    assert not [one for one in shown.verdicts if one.passed is False]

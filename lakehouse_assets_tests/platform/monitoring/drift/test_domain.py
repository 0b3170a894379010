"""Drift of all columns together: a joint change is found that no column shows, and what is quiet stays so."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse_assets.platform.monitoring.drift.domain import with_domain
from lakehouse_assets.platform.monitoring.drift.drift_metrics import BASELINE, drift
from lakehouse_assets.platform.monitoring.profiling.groups import Groups
from lakehouse_assets.platform.monitoring.profiling.profile import TABLE, profile
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests import sweeps

START = datetime(2026, 1, 1, tzinfo=UTC)
DAILY = Groups("at", "1d")


def days(
    count: int, a_day: int, random: np.random.Generator, *, first: int = 0, together: float = 0.8, of_day: float = 0.0
) -> pl.DataFrame:
    """Rows by day with two columns that go together, others, a key, and a number that moves with time."""
    rows = count * a_day
    number, normal = np.arange(rows), random.normal(size=(4, rows))
    normal[1] = together * normal[0] + np.sqrt(1 - together**2) * normal[1]
    normal[2] += of_day * random.normal(size=count)[number // a_day]
    at = START.timestamp() * 1e6 + (first + number // a_day) * 86_400e6 + number % a_day * (86_400e6 // a_day)
    return pl.DataFrame(
        {
            "at": pl.Series(at).cast(pl.Int64).cast(pl.Datetime("us", "UTC")),
            "id": number + first * a_day,
            "height": normal[0],
            "weight": normal[1],
            "other": normal[2],
            "moving": first + number / a_day,
            "kind": pl.Series(random.integers(0, 4, rows)).cast(pl.String),
        }
    )


def told(new: pl.DataFrame, base: pl.DataFrame, groups: Groups = DAILY) -> pl.DataFrame:
    known = profile(base.lazy(), Groups(groups.time), blocks=groups.time is not None, every=groups.every)
    found = profile(new.lazy(), groups, known.cells)
    return with_domain(drift(found, known), found, known, (new.lazy(), base.lazy()))


def of_table(found: pl.DataFrame) -> pl.DataFrame:
    return found.filter(pl.col("column_name") == TABLE, pl.col("drift_type") == BASELINE)


def exceeded(found: pl.DataFrame) -> list[bool | None]:
    return [tests[0]["exceeded"] for tests in of_table(found)["thresholds"].to_list()]


def test_columns_that_no_longer_go_together_are_found_though_none_drifted():
    random = np.random.default_rng(1)
    found = told(days(100, 5_000, random, first=100, together=0.0), days(30, 2_000, random))
    assert sum(exceeded(found)) >= 95
    of_columns = found.filter(pl.col("data_type").is_not_null(), pl.col("drift_type") == BASELINE)
    assert of_columns["drifted"].mean() < 0.02
    for named in of_table(found)["domain_classifier_auc_columns"].to_list():
        shares = {one["column_name"]: one["share"] for one in named}
        assert set(shares) <= {"height", "weight", "other", "kind"}, "keys, times and what moves with time take no part"
    assert {named[0]["column_name"] for named in of_table(found)["domain_classifier_auc_columns"].to_list()} <= {"height", "weight"}


@pytest.mark.parametrize("of_day", sweeps.of([0.3], [0.0, 0.3]))
def test_a_quiet_stream_alarms_as_seldom_as_is_promised(of_day):
    random = np.random.default_rng(2)
    found = told(days(100, 300, random, first=100, of_day=of_day), days(40, 300, random, of_day=of_day))
    assert len(exceeded(found)) == 100
    assert sum(exceeded(found)) <= 3, "one is promised; more than three have a chance of 2 %"


def test_a_window_is_told_alike_whatever_others_there_are_and_however_rows_are_ordered():
    random = np.random.default_rng(3)
    base, new = days(10, 200, random), days(4, 200, random, first=20)
    whole = of_table(told(new, base))
    last = of_table(told(new.tail(200).sample(fraction=1, shuffle=True, seed=1), base.sample(fraction=1, shuffle=True, seed=2)))
    names = ["window_start", "domain_classifier_auc", "domain_classifier_auc_columns", "thresholds", "not_tested"]
    assert_frame_equal(last.select(names), whole.tail(1).select(names))


def test_equal_rows_of_two_roots_are_told_alike_however_they_came(tmp_path):
    """The same days as two roots have them: in other files and runs, at other times, in another order."""
    random = np.random.default_rng(3)
    data = days(10, 200, random), days(2, 600, random, first=20)
    found = []
    for number in range(2):
        lakehouse, sides = Lakehouse(str(tmp_path / str(number))), []
        for part, rows in enumerate(data):
            came = datetime(2026, 2, 1 + number, tzinfo=UTC)
            lineage = {"_file": f"{number}.csv", "_sequence": number, "_run_id": f"run {number}", "_ingested_at": came}
            added = {**lineage, "known_at": came, "known_at_assumed": bool(number), "feature_set_version": number}
            stored = lakehouse.table(f"shop.silver.side{part}")
            came_so = rows.sample(fraction=1, shuffle=True, seed=number).with_row_index("_row", offset=number).cast({"_row": pl.Int64})
            came_so = came_so.with_columns(pl.lit(value).alias(name) for name, value in added.items())
            stored.create(came_so.schema)
            stored.append(came_so)
            sides.append(stored.scan())
        base, new = sides
        inputs = ["height", "weight", "other", "kind"]
        known = profile(base.select("at", *inputs), Groups("at"), blocks=True, every="1d")
        compared = profile(new.select("at", *inputs), DAILY, known.cells)
        found.append(of_table(with_domain(drift(compared, known), compared, known, (new, base))))
    names = ["window_start", "domain_classifier_auc", "domain_classifier_auc_columns", "thresholds", "not_tested"]
    assert found[0]["domain_classifier_auc"].null_count() == 0
    assert_frame_equal(found[0].select(names), found[1].select(names))


@pytest.mark.parametrize(
    ("base_days", "a_day", "columns", "said"),
    [
        (4, 200, ["at", "height", "weight"], "fewer than two columns are tested"),
        (10, 40, ["at", "height", "weight"], "the baseline has 0 windows of 1d with 80 rows, and 8 are needed"),
        (10, 200, ["at", "height", "id"], "fewer than two columns are tested"),
    ],
)
def test_what_cannot_be_told_says_so(base_days, a_day, columns, said):
    random = np.random.default_rng(4)
    found = of_table(told(days(2, a_day, random, first=50).select(columns), days(base_days, a_day, random).select(columns)))
    assert found["domain_classifier_auc"].to_list() == [None, None]
    assert all(said in reason for reason in found["not_tested"])


def test_without_a_column_of_time_all_rows_are_compared_with_all():
    random = np.random.default_rng(5)
    names = ["height", "weight", "kind"]
    base = days(1, 4_000, random).select(names)
    for together, is_other in ((0.8, False), (0.0, True)):
        assert exceeded(told(days(1, 4_000, random, together=together).select(names), base, Groups())) == [is_other]


def test_rows_that_are_alike_are_sampled_as_often_as_they_are_there():
    """A table of few kinds of rows: by hash alone one kind would be all that is seen."""
    random = np.random.default_rng(6)
    base, new = (pl.DataFrame({"a": random.integers(0, 2, 20_000) > 0, "b": random.integers(0, 2, 20_000) > 0}) for _ in range(2))
    assert exceeded(told(new, base, Groups())) == [False]
    assert exceeded(told(new.with_columns(b="a"), base, Groups())) == [True]

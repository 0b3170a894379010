"""Of a feature set, which keeps every revision, what is told of its rows is told of those that are known now."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.monitoring.why.made_of import of_keys
from lakehouse_assets.platform.monitoring.why.trace import Trace
from lakehouse_assets_tests.platform.pipeline.test_feature_sets import FIRST, LEVELS, SALES, Shop, declared

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def test_a_row_that_was_corrected_counts_as_it_is_known_now(tmp_path):
    shop, features = Shop(tmp_path), declared()
    shop.put(s1=("a", 1, 5), s2=("b", 1, 500))
    shop.run(features)
    shop.put(s2=("b", 1, 7))
    shop.run(features)
    assert shop.rows.height == 3, "the former row is kept"
    day = datetime.combine(FIRST, datetime.min.time(), UTC)
    window, before = (day, day + timedelta(days=5)), (day - timedelta(days=5), day)
    trace = Trace(shop.lakehouse, Catalog((features,), frozenset({SALES})), "day", window, before)
    assert trace.when(LEVELS, "amount", ["500", "500.0"]).is_empty()
    found = trace.when(LEVELS, "amount", ["5", "7"])
    assert sorted(found["value"]) == ["5", "7"]
    assert found["moment"].unique().to_list() == [day + timedelta(days=1)]


@pytest.mark.parametrize("ask", ["when", "follow"])
@pytest.mark.parametrize("chosen", [{}, {"part": "a"}])
def test_files_of_other_times_than_the_windows_are_not_read(tmp_path, ask, chosen):
    shop, features = Shop(tmp_path), declared()
    for number, day in enumerate((1, 40, 41)):
        shop.put(**{f"s{number}": ("a", day, 5)})
        shop.run(features)
    shop.put(s2=("a", 41, 7))
    shop.run(features)
    table = shop.lakehouse.table(LEVELS)
    of_days = {name: pl.read_parquet(name)["day"].max() for name in table.now().file_uris()}
    (old,) = [name for name, day in of_days.items() if day == FIRST + timedelta(days=1)]
    Path(old).unlink()
    day = datetime.combine(FIRST, datetime.min.time(), UTC)
    before, window = ((day + timedelta(days=begin), day + timedelta(days=begin + 1)) for begin in (40, 41))
    trace = Trace(shop.lakehouse, Catalog((features,), frozenset({SALES})), "day", window, before, chosen, since=table.version() - 1)
    if ask == "when":
        assert trace.when(LEVELS, "amount", ["5", "7"])["value"].sort().to_list() == ["5", "7"]
    else:
        trace.follow(LEVELS, "amount")


@pytest.mark.parametrize("keys", [("part",), ("part", "day")])
def test_of_an_input_that_keeps_revisions_rows_of_the_keys_are_those_that_hold(tmp_path, keys):
    shop, features = Shop(tmp_path), declared()
    shop.put(s1=("a", 1, 5), s2=("b", 1, 500), s3=("b", 2, 9))
    shop.run(features)
    shop.put(s2=("b", 1, 7))
    shop.run(features)
    trace = Trace(shop.lakehouse, Catalog((features,), frozenset({SALES})), "day", (NOON, NOON), (NOON, NOON))
    below = shop.rows.lazy().filter(pl.col("part") == "b", pl.col("day") == FIRST + timedelta(days=1))
    rows = trace._counting(shop.lakehouse.table(LEVELS), [(keys, lambda rows: of_keys(rows, keys, below))]).collect()
    assert sorted(rows["amount"]) == ([7, 9] if keys == ("part",) else [7])

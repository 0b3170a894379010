"""Of a feature set, which keeps every revision, what is told of its rows is told of those that are known now."""

from datetime import UTC, datetime, timedelta

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.monitoring.why.trace import Trace
from lakehouse_assets_tests.platform.pipeline.test_feature_sets import FIRST, LEVELS, SALES, Shop, declared


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

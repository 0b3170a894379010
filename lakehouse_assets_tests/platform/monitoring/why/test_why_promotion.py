"""Of a loss of accuracy a promotion is the cause only if it brought the version that is judged, and the one before did better."""

from datetime import timedelta

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.monitors import Watched, monitor
from lakehouse_assets.platform.monitoring.kinds.live_accuracy import LiveAccuracy
from lakehouse_assets.platform.monitoring.why.less_accurate import LessAccurate
from lakehouse_assets_tests.platform.monitoring.accuracy.scored_shop import CATALOG, DAY, START, ScoredShop, fraud, made, scored

WEEK = timedelta(days=7)
JUDGED = START + 2 * WEEK
KIND = LiveAccuracy(every="1w", floor=0.5)


@pytest.fixture
def shop(tmp_path):
    return ScoredShop(tmp_path / "tables")


def causes(shop, now=JUDGED + 100 * DAY):
    """What is said of version 3 in the week that is judged."""
    row = shop.rows().filter(
        pl.col("model_version") == 3,
        pl.col("window_start") == JUDGED,
        pl.col("cell") == "all",
        pl.col("metric") == "average precision",
        ~pl.col("is_estimate"),
    )
    bad = {**row.row(0, named=True), "table": scored.name, "slice_key": "", "threshold": None}
    watched = monitor("fraud.monitors.accuracy", of=scored, kind=KIND)
    catalog = Catalog((*CATALOG.declarations, watched), CATALOG.external)
    of = Watched(watched, shop.lakehouse, catalog, now, "test", lambda: pytest.fail("MLflow is not asked"))
    return [one.text for one in LessAccurate(of, fraud, (), [bad]).causes()]


def scored_by_two(shop, *, before_is_better):
    """Version 1 scores a week, then version 3 the week after the next; one of both says the reverse of what it should."""
    old, new = made(7, 60, seed=1), made(7, 60, seed=2, first=5_000, start=JUDGED)
    turned = {"probability": 1 - pl.col("probability")}
    shop.score(old if before_is_better else old.with_columns(**turned))
    shop.score(new.with_columns(**turned) if before_is_better else new, version=3)
    later = made(7, 60, seed=3, first=9_000, start=JUDGED + 80 * DAY)
    for rows in (old, new, later):
        shop.label(rows)
    shop.step(JUDGED + 100 * DAY, KIND).run()


def test_a_promotion_that_made_it_worse_is_the_cause(shop):
    scored_by_two(shop, before_is_better=True)
    shop.decide(1, {})
    shop.decide(3, {}, JUDGED - DAY)
    shop.decide(5, {}, JUDGED + 20 * DAY)
    (said,) = causes(shop)
    assert said.startswith("version 3 of fraud.models.fraud took the place of version 1 on 2024-01-14, whose average precision was "), said


@pytest.mark.parametrize("promoted", [JUDGED - 2 * WEEK, JUDGED + WEEK], ids=["long before", "after the window"])
def test_a_promotion_of_another_time_is_none(shop, promoted):
    scored_by_two(shop, before_is_better=True)
    shop.decide(1, {})
    shop.decide(3, {}, promoted)
    assert causes(shop) == []


def test_nor_is_one_of_a_better_version_or_of_another_one(shop):
    scored_by_two(shop, before_is_better=False)
    shop.decide(1, {})
    shop.decide(3, {}, JUDGED)
    shop.decide(5, {}, JUDGED + 3 * DAY)
    assert causes(shop) == []


def test_that_the_version_before_is_not_known_is_said(shop):
    scored_by_two(shop, before_is_better=True)
    shop.decide(2, {})
    shop.decide(3, {}, JUDGED)
    (said,) = causes(shop)
    assert said.endswith("took the place of version 2 on 2024-01-15; how well version 2 did is not known"), said

"""Which rows of a table a monitor of drift looks at: of a feature set each as it is known now, and keys without their distribution."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from lakehouse_assets import ByKey, Contract, Drift, Timestamp, column, feature_set, monitor
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.monitoring.kinds.drift_kind import keys_of
from lakehouse_assets.platform.monitoring.profiling.profile import TABLE
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets_tests.platform.monitoring.accuracy.judging import evaluation
from lakehouse_assets_tests.platform.monitoring.drift.newest_rows import latest
from lakehouse_assets_tests.platform.monitoring.kiosk import BRONZE, SILVER, sales

START, DAY, A_DAY = datetime(2026, 3, 1, tzinfo=UTC), timedelta(days=1), 60
ORDERS, BASE = "shop.silver.orders", 30
NEWEST = START + BASE * DAY


class Known(Contract):
    """What is known of an order."""

    till: str = column(key=True)
    at: Timestamp = column(key=True)
    known_at: Timestamp
    amount: float


@feature_set("shop.features.orders", contract=Known, entity=("till",), event_time="at", kind=ByKey("till", "at"), inputs={"rows": ORDERS})
def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Orders as they are known."""
    return rows.select("till", "at", "amount", known_at=pl.col("at"))


def of_day(day: int, factor: float = 1.0) -> pl.DataFrame:
    """The orders of a day, each of a till of its own: tills are called by their day."""
    amount = np.random.default_rng([7, day]).lognormal(size=A_DAY)
    return pl.DataFrame(
        {
            "till": [f"till {day % 3} of {number % 2 + day // 5}" for number in range(A_DAY)],
            "at": [START + day * DAY + timedelta(minutes=20 * number) for number in range(A_DAY)],
            "day": day,
            "amount": amount * factor,
        },
        schema_overrides={"at": pl.Datetime("us", "UTC"), "day": pl.Int64},
    )


class Shop:
    """The orders of a month, and the monitor of their features."""

    def __init__(self, settings, **options) -> None:
        self.root = Root(settings)
        self.source, self.lake = self.root.lakehouse.table(ORDERS), self.root.lakehouse
        self.source.create(of_day(0).schema, ("day",))
        self.source.append(pl.concat([of_day(day) for day in range(BASE)]))
        self._run()
        version = self.lake.table(orders.name).version()
        self.watched = monitor("shop.monitors.moved", of=orders, kind=Drift("at", against=f"{orders.name}@{version}", **options))

    def day(self, day: int, rows: pl.DataFrame) -> None:
        """The orders of a day are these, whatever they were."""
        self.source.replace(rows, {"day": [day]})
        self._run()

    def _run(self) -> None:
        catalog = Catalog((orders,), frozenset({ORDERS}))
        Runner(catalog, self.lake, self.root.ingestion, self.root.registry, 1).run([orders.name], run_id="test")

    def bad(self) -> set[tuple[str, datetime]]:
        given = evaluation(self.lake, NEWEST + 9 * DAY, (orders,)).judge(self.watched).verdicts
        return {(one.column_name, one.window_start) for one in given if one.passed is False}

    def rows_of(self, start: datetime) -> int:
        profiles, _ = latest(self.lake, self.watched.name)
        return profiles.filter(pl.col("window_start") == start, pl.col("column_name") == TABLE)["count"].item()


def test_a_revised_row_counts_once_as_it_is_known_now(settings):
    shop = Shop(settings)
    shop.day(BASE, of_day(BASE, 100))
    assert shop.bad() == {("amount", NEWEST)}
    shop.day(BASE, of_day(BASE))
    assert shop.bad() == set(), "it was corrected"
    assert shop.rows_of(NEWEST) == A_DAY
    shop.day(BASE, of_day(BASE).head(40))
    assert shop.bad() == set()
    assert shop.rows_of(NEWEST) == 40, "what was taken back has left"
    stored = shop.lake.table(orders.name).scan().filter(pl.col("at") >= NEWEST).select(pl.len()).collect().item()
    assert stored == 2 * A_DAY + 20, "all revisions are stored"


def test_keys_are_profiled_and_their_distribution_is_not_tested_unless_it_is_asked_for(settings, tmp_path):
    assert keys_of(orders) == ("till", "at")
    assert keys_of(sales) == ("sale",)
    shop = Shop(settings)
    shop.day(BASE, of_day(BASE))
    assert shop.bad() == set()
    profiles, drifts = latest(shop.lake, shop.watched.name)
    of_tills = drifts.filter(pl.col("column_name") == "till", pl.col("window_start") == NEWEST)
    assert set(of_tills["not_tested"]) == {"it is a key"}
    assert of_tills.filter(drift_type="BASELINE")["js_distance"].item() > 0
    assert [test["metric"] for tests in of_tills["thresholds"].to_list() for test in tests] == ["percent_null_delta"] * of_tills.height
    assert profiles.filter(pl.col("column_name") == "till", pl.col("window_start") == NEWEST)["distinct_count"].item() == 2
    asked = monitor("shop.monitors.asked", of=orders, kind=Drift("at", against=shop.watched.kind.against, keys=("till",)))
    evaluation(shop.lake, NEWEST, (orders,)).judge(asked)
    of_tills = latest(shop.lake, asked.name)[1].filter(pl.col("column_name") == "till")
    assert "it is a key" not in of_tills["not_tested"].to_list()


def test_a_key_that_the_table_lacks_is_refused():
    wrong = monitor("kiosk.monitors.x", of=sales, kind=Drift("day", keys=("sales",)))
    assert "Did you mean sale?" in next(iter(wrong.problems_with({SILVER: sales, BRONZE: sales})))

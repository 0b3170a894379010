"""Order fraud on a simulated shop, from files to scores, against what is true of each order."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import pairwise

import polars as pl
import pytest

from lakehouse_assets import Gate, products
from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.monitors import Watched
from lakehouse_assets.platform.features.manifest import pin
from lakehouse_assets.platform.monitoring.evaluation import Evaluation
from lakehouse_assets.platform.monitoring.retraining.decision import History, Reason, Request, decide
from lakehouse_assets.platform.monitoring.retraining.standing import Standing
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.pipeline.model_step import ModelStep, ModelStepResult
from lakehouse_assets.platform.storage.platform_tables import ACCURACY
from lakehouse_assets.products.order_fraud.accuracy import scores
from lakehouse_assets.products.order_fraud.fraud import SETTLED, fraud, scored_orders
from lakehouse_assets.products.order_fraud.monitors import orders_drift
from lakehouse_assets.settings import Settings
from lakehouse_assets.simulator.shop import simulate
from lakehouse_assets.simulator.truth_of_orders import orders_file
from lakehouse_assets_tests.running import run_products, tables_of

START, DAYS, ORDERS, SEED = date(2024, 1, 1), 200, 10, 5
LATER = START + timedelta(days=DAYS)
TABLES = ["sales", "order_fraud.gold.orders", *fraud.examples.sources(), scored_orders.name]


@dataclass
class Shop:
    settings: Settings

    def open(self, start: date, days: int) -> pl.DataFrame:
        """Simulate, and run all tables; the truth about the orders."""
        truth = self.settings.home_folder / f"truth_{start}.json"
        simulate(self.settings.landing, truth, days=days, orders_per_day=ORDERS, seed=SEED, start=start)
        run_products(self.settings, TABLES)
        return pl.read_parquet(orders_file(truth))

    @cached_property
    def trained(self) -> ModelStepResult:
        root = Root(self.settings)
        return ModelStep(replace(fraud, gate=Gate(mode="off", leakage=None)), root.lakehouse, root.registry(), 1, "test").run(retrain=True)

    @cached_property
    def goes_on(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The scores of the first orders, and the truth about those of the month after, which are scored too."""
        assert self.trained.champion == 1
        run_products(self.settings, [scored_orders.name])
        return self.rows(scored_orders.name), self.open(LATER, 30)

    def rows(self, table: str) -> pl.DataFrame:
        return tables_of(self.settings).table(table).scan().collect()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    shop = Shop(Settings.load({"LAKEHOUSE_ROOT": str(tmp_path_factory.mktemp("shop") / "root")}))
    return shop, shop.open(START, DAYS)


def test_orders_say_what_an_observer_of_the_shop_sees(shop):
    made, truth = shop
    both = made.rows("order_fraud.gold.orders").join(truth, on="invoice", suffix="_true")
    assert both.height == truth.height == made.rows("order_fraud.gold.orders").height
    assert (both["paid_at"] == both["paid_at_true"]).all()
    with_account = both.filter(pl.col("customer_id").is_not_null())
    assert with_account.height > 0.5 * both.height
    assert (with_account["account_age"] <= with_account["age"] + 1).all(), "of older accounts the register has the newest state alone"
    joined = with_account.filter(pl.col("age") < (pl.col("paid_at").dt.date() - START).dt.total_days())
    assert joined.height > 50
    assert ((joined["account_age"] - joined["age"]).abs() <= 1).all()
    assert both.select(((pl.col("resale_share") - pl.col("resale")).abs() < 0.02).mean()).item() > 0.9


def test_windows_count_what_the_truth_counts(shop):
    made, truth = shop
    cards = made.rows("order_fraud.features.cards").select("paid_at", "card", "customer_id_distinct_1d")
    devices = made.rows("order_fraud.features.devices").select("paid_at", "device", "card_distinct_1d", "count_1h")
    orders = made.rows("order_fraud.gold.orders").select("invoice", "card", "device", "paid_at")
    both = truth.drop("paid_at").join(orders, on="invoice").join(cards, on=["card", "paid_at"]).join(devices, on=["device", "paid_at"])
    assert both.height > 0.8 * truth.height
    assert both.select((pl.col("orders_in_hour") == pl.col("count_1h")).mean()).item() > 0.995, "orders of one second share a row"
    assert both.select((pl.col("cards_on_device") == pl.col("card_distinct_1d").clip(1)).mean()).item() > 0.995
    assert both.select((pl.col("accounts_on_card") == pl.col("customer_id_distinct_1d").clip(1)).mean()).item() > 0.995


def test_labels_are_the_truth_once_they_are_settled(shop):
    made, truth = shop
    examples = fraud.examples
    learnt = examples.rows(pin(tables_of(made.settings), examples.sources()).read).collect()
    both = learnt.join(truth, on="invoice", suffix="_true")
    newest = truth["paid_at"].max()
    assert both.height == learnt.height == truth.filter(pl.col("paid_at") <= newest - SETTLED).height
    assert (both["is_fraud"] == both["is_fraud_true"]).all()
    assert both["is_fraud"].sum() >= 5


def test_new_orders_are_scored_with_their_reasons_and_old_ones_stay(shop):
    made, truth = shop
    before, later = made.goes_on
    assert before.height == truth.height
    after = made.rows(scored_orders.name)
    assert after.height == truth.height + later.height
    old = after.filter(pl.col("paid_at") < datetime(LATER.year, LATER.month, LATER.day, tzinfo=UTC))
    assert old.sort("invoice").equals(before.sort("invoice")), "they were not scored again"
    held = after.filter(decision="review")
    assert 0 < held.height < 0.2 * after.height
    assert held.filter(pl.col("probability") * pl.col("amount") <= (1 - pl.col("probability")) * 8.0).is_empty()
    assert after.filter(pl.col("decision") == "accept")["reasons"].null_count() == after.height - held.height


def test_scores_are_judged_as_chargebacks_come(shop):
    made, truth = shop
    assert made.goes_on
    root, catalog = Root(made.settings), load(products).catalog
    now = datetime(LATER.year, LATER.month, LATER.day, tzinfo=UTC)
    said = scores.kind.evaluate(Watched(scores, root.lakehouse, catalog, now, "test", root.registry))
    rows = made.rows(ACCURACY).filter(predictions=scored_orders.name, metric="average precision", cell="all", is_estimate=False)
    # It has learnt the orders of the first 130 days, and was scored on those of the last 70, of which those of some hours are settled.
    assert rows["labelled"].sum() <= 12
    assert rows["rows"].sum() == truth.filter(pl.col("paid_at") > truth["paid_at"].max() - SETTLED).height
    assert [one.passed for one in said] == [None]
    assert "are on 2024-08-10" in said[0].text, said
    # Orders go on, which says that those before are settled.
    labels = tables_of(made.settings).table("order_fraud.gold.labels")
    newest = labels.scan().filter(pl.col("paid_at") == pl.col("paid_at").max(), pl.col("is_fraud").is_null()).head(1).collect()
    labels.append(newest.with_columns(pl.col("paid_at").dt.offset_by("60d"), invoice=pl.lit("later")))
    later = now + timedelta(days=60)
    said = scores.kind.evaluate(Watched(scores, root.lakehouse, catalog, later, "test", root.registry))
    settled = truth.filter(pl.col("paid_at").is_between(datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC), closed="left"))
    assert said[0].rows in {None, settled.height}
    june = made.rows(ACCURACY).filter(predictions=scored_orders.name, window_start=datetime(2024, 6, 1, tzinfo=UTC), cell="all")
    counts = {row["metric"]: row["value"] for row in june.filter(~pl.col("is_estimate")).iter_rows(named=True)}
    assert counts["true positives"] + counts["false negatives"] == settled["is_fraud"].sum()
    assert counts["labelled after 70 days"] == 1.0
    assert set(made.rows(ACCURACY)["slice_value"].drop_nulls()) == set(made.rows("order_fraud.gold.orders")["method"])


def test_drift_of_what_matters_asks_for_a_training_and_never_without_end(shop):
    made, _ = shop
    assert made.goes_on
    root, catalog = Root(made.settings), load(products).catalog
    assert orders_drift.name in fraud.retrain.on

    def reasons() -> list[Reason]:
        now = clock.now()
        Evaluation(root.lakehouse, catalog, root.registry, now, "test", pytest.fail).run([orders_drift])
        standing = Standing(fraud, catalog, root.lakehouse, root.registry, lambda _: [], now, "sensor")
        return [one for one in standing.reasons if one.cause == "drift"]

    # The shop grows and its seasons move features: of what drifts, what matters is a reason, and nothing else.
    quiet = reasons()
    assert all(one.importance is not None and one.importance >= fraud.retrain.important for one in quiet), quiet
    table = tables_of(made.settings).table(orders_drift.of)
    newest = table.scan().filter(pl.col("paid_at") >= pl.col("paid_at").max() - timedelta(days=7)).collect()
    table.append(
        newest.with_columns(
            pl.col("amount") * 100,
            invoice=pl.col("invoice") + "again",
            paid_at=pl.col("paid_at").dt.offset_by("2w"),
            method=pl.lit("coins"),
        )
    )
    broken = reasons()
    assert "amount" in {one.column_name for one in broken}, broken
    assert all(one.importance is None or one.importance >= fraud.retrain.important for one in broken)

    # As if that were never over.
    start, asked = datetime(2026, 1, 1, tzinfo=UTC), []
    for hour in range(0, 24 * 200, 12):
        now = start + timedelta(hours=hour)
        if decide(fraud.retrain, History(tuple(asked), trained_at=asked[-1].at if asked else None), lambda: broken, now).starts:
            asked.append(Request(fraud.name, len(asked) + 1, now, "", "done"))
    times = [one.at for one in asked]
    assert all(later - earlier >= fraud.retrain.cool_down for earlier, later in pairwise(times))
    assert all(sum(at <= other < at + fraud.retrain.per for other in times) <= fraud.retrain.trainings for at in times)

"""The monitor of accuracy: what it says of a product that is run by the real commands, and when it says that something is wrong."""

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest
from click.testing import CliRunner

from lakehouse_assets import AlertRule, LiveAccuracy, Wape, monitor, open_lakehouse
from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.monitors import Watched
from lakehouse_assets.platform.features.labels import Labels
from lakehouse_assets.platform.modelling.metrics import LogLoss
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.sources.verdicts import Verdicts
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.monitoring.evaluation import Evaluation
from lakehouse_assets.platform.storage.platform_tables import ACCURACY, VERDICTS
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.features.shop import orders as features
from lakehouse_assets_tests.platform.monitoring.accuracy.scored_shop import (
    CATALOG,
    DAY,
    DECLARED,
    LABELS,
    SETTLED,
    START,
    ScoredShop,
    fraud,
    made,
    placed,
    scored,
)
from lakehouse_assets_tests.platform.recipes.shop_orders import PRODUCT, as_file, orders

MONITOR = """

from lakehouse_assets import AlertRule, LiveAccuracy, monitor

accuracy = monitor("shop.monitors.accuracy", of=fraud.predictions, kind=LiveAccuracy(slices=("country",)))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A product whose model was trained on most of its orders, and then scored the others; what a command says there."""
    folder = tmp_path_factory.mktemp("watched")
    product = folder / "watched_products" / "shop" / "orders.py"
    product.parent.mkdir(parents=True)
    product.write_text(PRODUCT + MONITOR, encoding="utf-8")
    environment = {
        "LAKEHOUSE_ROOT": str(folder / "root"),
        "LAKEHOUSE_PRODUCTS": str(product.parents[1]),
        "DAGSTER_HOME": "",
        "COLUMNS": "160",
    }

    def command(*words: str, code: int = 0) -> str:
        result = CliRunner(env=environment).invoke(main, list(words), catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.output

    rows = orders(3000).filter(pl.col("ordered_at") < datetime(2025, 10, 27, tzinfo=UTC))  # a Monday
    (folder / "orders.csv").write_text(as_file(rows.head(2250)), encoding="utf-8")
    command("land", "orders", str(folder / "orders.csv"))
    command("run")
    assert "nothing is known of the accuracy of shop.models.fraud yet" in command("accuracy", "fraud", code=1)
    command("train")
    (folder / "newest.csv").write_text(as_file(rows.tail(rows.height - 2250)), encoding="utf-8")
    command("land", "orders", str(folder / "newest.csv"))
    command("run")
    return command, folder


def test_the_refresh_judges_what_was_predicted_by_the_evaluation_of_the_gate(run):
    _, folder = run
    lake = open_lakehouse(settings=Settings.load({"LAKEHOUSE_ROOT": str(folder / "root")}), declarations=())
    said = lake.table(VERDICTS).scan().filter(monitor="shop.monitors.accuracy", kind="accuracy").collect()
    assert said["text"].str.contains("no champion").any(), "before it was trained"
    # The newest order is of the 26th of October: until 60 days before, what nothing was said of is settled.
    judged = said.filter(window_start=datetime(2025, 8, 18, tzinfo=UTC))
    assert set(judged["slice_value"]) == {None, "DE", "FR", "GB", "US"}
    last = judged.filter(pl.col("slice_key").is_null()).row(0, named=True)
    assert last["passed"], last
    assert last["value"] < last["threshold"]
    assert last["metric"] == "LogLoss"
    assert last["false_alarm_rate"] == pytest.approx(0.01 / 5)
    assert last["granularity"] == "1 week"
    assert "in its evaluation it was" in last["text"]
    assert json.loads(last["numbers"])["coverage"] == 1.0


def test_the_command_prints_windows_slices_and_a_picture(run):
    command, folder = run
    said = command("accuracy", "fraud", "--plot", str(folder / "accuracy.png"))
    lines = [line for line in said.splitlines() if line.strip().startswith("2025-")]
    # The version learnt from orders that were settled on the 225th day, up to the 165th.
    assert [line.split()[0] for line in lines][::19] == ["2025-06-09", "2025-10-20"]
    assert "lower is better" in said
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    by_country = command("accuracy", "fraud", "--slice", "country", "--metric", "AUC")
    assert sum("US" in line for line in by_country.splitlines()) >= 19
    assert "higher is better" in by_country
    rows = json.loads(command("accuracy", "fraud", "--json", "--limit", "2"))
    assert len({row["window_start"] for row in rows}) == 2
    assert {"value", "low", "high", "baseline", "estimate", "labelled", "provisional"} <= set(rows[0])
    assert all(row["provisional"] for row in rows), "their outcomes may still come"
    final = [row for row in json.loads(command("accuracy", "fraud", "--json")) if not row["provisional"]][-1]
    assert final["window_start"].startswith("2025-08-18")
    assert final["value"] < final["baseline"]
    assert "is not watched by 'method'" in command("accuracy", "fraud", "--slice", "method", code=1)
    assert "is not watched by 1 day" in command("accuracy", "fraud", "--every", "1d", code=1)


def test_it_is_read_through_the_reader(run):
    command, folder = run
    command("accuracy", "fraud")
    lake = open_lakehouse(settings=Settings.load({"LAKEHOUSE_ROOT": str(folder / "root")}), declarations=())
    audit = "".join(file.read_text() for file in lake.settings.audit.rglob("*") if file.is_file())
    assert ACCURACY in audit


# --- what is said of tables that are written by hand


@pytest.fixture
def shop(tmp_path):
    return ScoredShop(tmp_path / "tables")


def judged(shop, kind, now):
    watched = monitor("fraud.monitors.accuracy", of=scored, kind=kind)
    catalog = Catalog((*CATALOG.declarations, watched), CATALOG.external)
    return kind.evaluate(Watched(watched, shop.lakehouse, catalog, now, "test", lambda: pytest.fail("MLflow is not asked")))


def watched_for(shop, rows):
    shop.label(made(100, 20, seed=9, first=90_000, start=START - 100 * DAY))
    shop.decide(1, {LABELS: shop.lakehouse.table(LABELS).version()})
    shop.score(rows)
    shop.label(rows)


def test_only_windows_whose_labels_are_all_known_are_judged(shop):
    rows = made(14, 60, seed=1)
    watched_for(shop, rows)
    kind = LiveAccuracy(floor=0.5)
    (early,) = judged(shop, kind, START + 70 * DAY)
    assert early.passed is None
    assert "are on 2024-03-18" in early.text, early.text  # ten weeks after the end of the first window
    (verdict,) = judged(shop, kind, START + 14 * DAY + SETTLED)
    assert (verdict.passed, verdict.window_start, verdict.rows) == (True, START + 7 * DAY, 420)


class Dies(LiveAccuracy):
    """Cannot be evaluated."""

    def evaluate(self, watched: Watched) -> list:
        raise OSError("MLflow is away")


@pytest.mark.parametrize("error", sweeps.of([True], [False, True]))
def test_after_a_pause_every_window_that_became_final_is_judged_once(shop, error):
    """Else an alert that wants three windows in a row would wait for weeks; also where evaluations in between ended with errors."""
    rows = made(56, 60, seed=5)
    watched_for(shop, rows.with_columns(probability=1 - pl.col("probability")))
    kind = LiveAccuracy(floor=0.99, slices=("country",))
    watched = monitor("fraud.monitors.accuracy", of=scored, kind=kind, alert=AlertRule(consecutive=3))
    catalog = Catalog((*CATALOG.declarations, watched), CATALOG.external)
    log, source = AlertLog(shop.lakehouse), Verdicts(shop.lakehouse, {watched.name: watched.alert})

    def after(weeks: int, monitored=watched) -> list[tuple[str, str]]:
        now = START + 7 * weeks * DAY + SETTLED
        Evaluation(shop.lakehouse, catalog, lambda: pytest.fail("MLflow is not asked"), now, "test", pytest.fail).run([monitored])
        return [(entry.key, entry.event) for entry in take(log, [source], now, logging.getLogger("test")).entries]

    assert ("monitor:fraud.monitors.accuracy", "pending") in after(2)
    if error:
        assert ("evaluation:fraud.monitors.accuracy", "opened") in after(3, replace(watched, kind=Dies()))
    assert ("monitor:fraud.monitors.accuracy", "opened") in after(5)
    assert ("monitor:fraud.monitors.accuracy", "opened") not in after(8)
    said = shop.lakehouse.table(VERDICTS).scan().filter(pl.col("window_start").is_not_null()).sort("sequence").collect()
    whole = said.filter(pl.col("slice_key").is_null())
    assert [(at - START).days // 7 for at in whole["window_start"]] == [1, 2, 3, 4, 5, 6, 7]
    assert set(said.filter(pl.col("slice_key").is_not_null())["false_alarm_rate"]) == {0.01 / 4}
    (holds,) = (rows for rows in verdicts.latest(shop.lakehouse, [watched]).values())
    assert {(row["window_start"] - START).days // 7 for row in holds} == {7}


@pytest.mark.parametrize("change", [{"metric": LogLoss()}, {"slices": ("country",)}, {}], ids=["metric", "slices", "version"])
def test_what_is_judged_for_the_first_time_begins_with_the_newest_window_that_was_judged(shop, change):
    """What was said of another version or metric says nothing of it, and older windows are no news of a slice."""
    rows = made(42, 60, seed=5)
    watched_for(shop, rows)

    def after(weeks: int, **options) -> None:
        watched = monitor("fraud.monitors.accuracy", of=scored, kind=LiveAccuracy(floor=0.5, **options))
        catalog = Catalog((*CATALOG.declarations, watched), CATALOG.external)
        now = START + 7 * weeks * DAY + SETTLED
        Evaluation(shop.lakehouse, catalog, lambda: pytest.fail("MLflow is not asked"), now, "test", pytest.fail).run([watched])

    after(2)
    after(4)
    if not change:
        shop.score(rows, version=2)
        shop.decide(2, {LABELS: 1})
    after(6, **change)
    said = shop.lakehouse.table(VERDICTS).scan().filter(pl.col("window_start").is_not_null()).collect()
    new = said.filter((pl.col("metric") == "LogLoss") | pl.col("slice_key").is_not_null() | (pl.col("model_version") == 2))
    assert [(at - START).days // 7 for at in new["window_start"].unique().sort()] == [3, 4, 5]


def test_a_window_of_which_few_outcomes_have_come_is_not_judged_where_nobody_says_how_long_they_take(shop):
    rows = made(7, 60, seed=1)
    labels = Labels(LABELS, entity=("invoice",), at="placed_at", target="is_fraud", known_at="reported_at")
    model = replace(fraud, examples=replace(fraud.examples, labels=labels))
    watched_for(shop, rows.clear())
    shop.score(rows)
    known = [pl.when(pl.int_range(pl.len()) % 7 == 0).then(name).alias(name) for name in ("is_fraud", "reported_at")]
    shop.lakehouse.table(LABELS).append(rows.select("invoice", pl.col("at").alias("placed_at"), "country", *known))
    kind = LiveAccuracy(metric=LogLoss(), floor=0.1)
    watched = monitor("fraud.monitors.accuracy", of=scored, kind=kind)
    catalog = Catalog((placed, features, model, replace(scored, model=model), watched), CATALOG.external)
    now = START + 7 * DAY + SETTLED + DAY
    (verdict,) = kind.evaluate(Watched(watched, shop.lakehouse, catalog, now, "test", lambda: pytest.fail("MLflow is not asked")))
    assert (verdict.passed, verdict.window_start) == (None, START)
    assert "only 14 % of its predictions have outcomes; declare how long they take (settled=)" in verdict.text


def test_a_slice_that_is_not_there_any_more_does_not_fail_for_ever(shop):
    rows = made(14, 60, seed=6).with_columns(probability=1 - pl.col("probability"))
    watched_for(shop, rows.filter((pl.col("country") != "FR") | (pl.col("at") < START + 7 * DAY)))
    kind = LiveAccuracy(floor=0.99, slices=("country",))
    watched = monitor("fraud.monitors.accuracy", of=scored, kind=kind)
    catalog = Catalog((*CATALOG.declarations, watched), CATALOG.external)

    def after(weeks: int) -> dict[str | None, dict]:
        now = START + 7 * weeks * DAY + SETTLED
        Evaluation(shop.lakehouse, catalog, lambda: pytest.fail("MLflow is not asked"), now, "test", pytest.fail).run([watched])
        return {row["slice_value"]: row for row in verdicts.latest(shop.lakehouse, [watched])[watched.name]}

    assert after(1)["FR"]["passed"] is False
    found = after(2)
    assert {value: row["passed"] for value, row in found.items()} == {None: False, "DE": False, "GB": False, "FR": None}
    assert found["FR"]["text"] == "Not evaluated: of the week from 2024-01-08 where country=FR, there is no prediction."


def test_a_slice_without_predictions_is_watched_also_after_the_declaration_changed(shop):
    rows, is_bad = made(21, 60, seed=6), (pl.col("country") == "FR") & (pl.col("at") < START + 7 * DAY)
    rows = rows.with_columns(probability=pl.when(is_bad).then(1 - pl.col("probability")).otherwise("probability"))
    watched_for(shop, rows.filter((pl.col("country") != "FR") | (pl.col("at") < START + 14 * DAY)))
    kind = LiveAccuracy(metric=LogLoss(), floor=0.6, slices=("country",))
    first = monitor("fraud.monitors.accuracy", of=scored, kind=kind)

    def after(weeks: int, watched=first) -> list[tuple]:
        """What is said of the slice."""
        catalog, now = Catalog((*CATALOG.declarations, watched), CATALOG.external), START + 7 * weeks * DAY + SETTLED
        version = shop.lakehouse.table(VERDICTS).version() if weeks > 1 else -1
        Evaluation(shop.lakehouse, catalog, lambda: pytest.fail("MLflow is not asked"), now, "test", pytest.fail).run([watched])
        said = verdicts.scan(shop.lakehouse, version).filter(slice_value="FR")
        return said.select("passed", pl.col("text").str.contains("not watched")).collect().rows()

    assert [after(weeks) for weeks in (1, 2, 3)] == [[(False, False)], [(True, False)], []]
    assert after(3, replace(first, owner="team:other")) == [], "it is watched, and was well"
    assert after(3, replace(first, kind=replace(kind, slices=()))) == [(True, True)]


@pytest.mark.parametrize("against", [{"floor": 0.99}, {"against": "baseline"}])
def test_a_model_that_is_worse_than_it_has_to_be_fails_with_the_numbers(shop, against):
    rows = made(14, 60, seed=2)
    watched_for(shop, rows.with_columns(probability=1 - pl.col("probability")))
    now = START + 14 * DAY + SETTLED
    (verdict,) = judged(shop, LiveAccuracy(**against, metric=None), now)
    if "floor" in against:
        assert verdict.passed is False
        assert verdict.value < verdict.threshold < 0.99
        assert "once in 100 windows" in verdict.text
    else:
        assert verdict.passed is False, "the average precision of turned scores is less than the share of frauds"
        assert verdict.numbers["baseline"] == verdict.numbers["usual"]


def test_slices_share_the_rate_of_false_alarms(shop):
    rows = made(7, 90, seed=3)
    watched_for(shop, rows)
    verdicts = judged(shop, LiveAccuracy(floor=0.8, slices=("method", "country")), START + 7 * DAY + SETTLED)
    assert [(one.slice_key, one.slice_value) for one in verdicts] == [
        ("", None),
        *(("country", name) for name in ("DE", "FR", "GB")),
        *(("method", name) for name in ("card", "wallet")),
    ]
    assert {one.false_alarm_rate for one in verdicts} == {0.01 / 6}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"every": "1h"}, "write one of 1d, 1w, 1mo"),
        ({"against": "champion"}, "write one of evaluation, baseline"),
        ({"against": "baseline", "floor": 0.5}, "a second monitor has the other"),
        ({"false_alarms": 0.7}, "a share of windows"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, why):
    with pytest.raises(DeclarationError, match=why):
        LiveAccuracy(**options)


def test_what_does_not_fit_to_the_declarations_is_told():
    def problems(of, **options):
        return [*monitor("fraud.monitors.accuracy", of=of, kind=LiveAccuracy(**options)).problems_with(DECLARED)]

    assert problems(scored, metric=Wape(), slices=("method",)) == []
    assert "is neither a table of predictions nor the log of an endpoint" in problems("fraud.features.orders")[0]
    assert "which none of" in problems(scored, slices=("methods",))[0]
    assert "Did you mean method?" in problems(scored, slices=("methods",))[0]
    assert "which fraud.predictions.orders has not" in problems(scored, positive=("decision", "review"))[0]


def test_two_monitors_of_the_same_predictions_have_no_two_kinds_of_positive_rows():
    """Decisions are counted once: of the second one nobody would ever hear."""

    def problems(*positive):
        kinds = [LiveAccuracy(positive=one) for one in positive]
        monitors = [monitor(f"fraud.monitors.{word}", of=scored, kind=kind) for word, kind in zip("ab", kinds, strict=True)]
        declared = {**DECLARED, **{one.name: one for one in monitors}}
        return [problem for one in monitors for problem in one.problems_with(declared)]

    first, second = ("model_name", "a"), ("model_name", "b")
    (refused,) = problems(first, second)
    assert "fraud.monitors.b: positive=('model_name', 'b'), but of fraud.monitors.a it is ('model_name', 'a')" in refused
    assert [problems(*pair) for pair in ((first, first), (first, None), (None, second), (None, None))] == [[]] * 4


def test_nothing_of_the_future_is_read(shop):
    rows = made(7, 20, seed=4)
    watched_for(shop, rows)
    judged(shop, LiveAccuracy(floor=0.1), datetime(2023, 12, 1, tzinfo=UTC))
    assert shop.rows().is_empty()

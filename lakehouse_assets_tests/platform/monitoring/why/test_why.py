"""Why a table drifted: planted faults are followed from the watched table to the file, or the function, that they came in with."""

import shutil
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets import ByKey, Drift, LiveAccuracy, feature_set, monitor
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.monitors import Verdict
from lakehouse_assets.platform.monitoring import judgements, verdicts
from lakehouse_assets.platform.monitoring.evaluation import Evaluation
from lakehouse_assets.platform.monitoring.why.change import Change
from lakehouse_assets.platform.monitoring.why.origin import lacking_files, of_files
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.quality.contract import schema_of
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.features.shop import Order, orders
from lakehouse_assets_tests.platform.monitoring.accuracy.scored_shop import CATALOG, DAY, LABELS, SETTLED, START, ScoredShop, made, scored
from lakehouse_assets_tests.platform.monitoring.why import orders_of_two_tills as tills
from lakehouse_assets_tests.running import land_text, runner, tables_of


@pytest.fixture(scope="module")
def quiet(tmp_path_factory) -> Settings:
    """Two tills whose files were as they should be, and that were judged so."""
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path_factory.mktemp("tills") / "root")})
    for till in tills.TILLS:
        for day in range(tills.BASE):
            tills.land(settings, till, day)
    judgement = tills.judged(settings)
    assert not [one.text for one in judgement.verdicts if one.passed is False]
    return settings


@pytest.fixture
def settings(quiet, tmp_path) -> Settings:
    """The same, of its own."""
    shutil.copytree(quiet.root, tmp_path / "root")
    return Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "root")})


def whys(judgement) -> dict[str, str]:
    bad = [one for one in judgement.verdicts if one.passed is False]
    return {one.column_name: one.why for one in bad if one.why}


FAULTS = {
    "pence for pounds": (pl.col("Price") * 100, "gross", "Price", "times larger (the only file of that time, 7 files before not)"),
    "nulls": (pl.when(pl.int_range(pl.len()) % 2 == 0).then("Price").alias("Price"), "gross", "Price", "nulls 50.0% against 0.0%"),
    "a renamed category": (pl.col("country").replace({"GB": "UK"}), "country", "country", "'UK'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_one_file_of_two_feeds_is_traced_to_it(settings, fault):
    planted, column, raw, words = FAULTS[fault]
    tills.land(settings, "north", tills.BASE)
    name = tills.land(settings, "south", tills.BASE, planted)
    why = whys(tills.judged(settings))[column]
    assert why.startswith(f"{raw} of tills.bronze.south: file {name} (sequence {tills.BASE + 1}), version 2, run test: ")
    assert words in why


def test_two_files_since_and_one_file_among_others(settings):
    tills.land(settings, "north", tills.BASE)
    names = [tills.land(settings, "south", tills.BASE + day, pl.col("Price") * 100) for day in range(2)]
    why = whys(tills.judged(settings))["gross"]
    assert all(name in why for name in names)
    assert why.endswith("(seen in all 2 files since)")
    for day in range(2, 4):
        tills.land(settings, "south", tills.BASE + day)
    tills.land(settings, "south", tills.BASE + 4, pl.col("Price") * 100)
    assert f"file {'south_2026-02-08.csv'} " in whys(tills.judged(settings))["gross"], "what was wrong before is another change"


def test_the_files_that_lack_a_value_that_vanished_are_named(settings):
    """Not only those that show a change by themselves: what vanished is in no file."""
    for till in tills.TILLS:
        tills.land(settings, till, tills.BASE, pl.col("country").replace({"DE": "GB"}))
    tills.judged(settings)
    rows = verdicts.newest_failed(tables_of(settings), tills.watched.name)
    (cause,) = [one for one in tills.evaluation_of(settings).causes(tills.watched, rows) if one.column == "country"]
    gone, files = cause.steps[:2]
    assert gone == "country of tills.gold.orders: no row of DE since 2026-02-04"
    till = "north" if "bronze.north" in files or "silver.north" in files else "south"
    lacks = f"the file of that time, {till}_2026-02-04.csv (sequence {tills.BASE + 1}), has no row of 'DE'."
    assert files.endswith(f".{till}: {lacks} The last with one is {till}_2026-02-03.csv (sequence {tills.BASE})"), files


def test_of_a_feed_that_sends_no_files_the_last_one_is_named_and_few_of_many():
    def files(*numbers: int, value: str | None = "S7") -> pl.DataFrame:
        rows = [(value, f"day_{number}.csv", number) for number in numbers for _ in range(3)]
        return pl.DataFrame(rows, {"value": pl.String(), "_file": pl.String(), "_sequence": pl.Int64()}, orient="row")

    before = files(1, 2)
    said = lacking_files("shop.bronze.days", "station", ["S7"], before, files())
    assert said == "station of shop.bronze.days: there is no file of that time. The last with 'S7' is day_2.csv (sequence 2)"
    said = lacking_files("shop.bronze.days", "station", ["S7"], before, files(*range(3, 9), value="S1"))
    assert (
        "the 6 files of that time, day_3.csv (sequence 3), day_4.csv (sequence 4), day_5.csv (sequence 5) and 3 more, have no row" in said
    )
    assert lacking_files("shop.bronze.days", "station", ["S8"], before, files(3)) is None


def test_a_file_of_few_rows_that_carries_all_of_the_difference_is_named(settings):
    tills.land(settings, "north", tills.BASE)
    tills.land(settings, "south", tills.BASE)
    few = tills.rows_of("south", tills.BASE).head(18).with_columns("late-" + pl.col("sale"), Price=pl.lit(None, pl.Float64))
    land_text(settings, "south", name := "late.csv", few.write_csv())
    why = whys(tills.judged(settings))["gross"]
    assert f"file {name} (sequence {tills.BASE + 2})" in why, why
    assert "nulls 100.0% against 0.0%" in why
    assert why.endswith("(in 18 rows, seen in this file alone, 1 other file of the same time not)")


def causes_of(settings, failed) -> dict[str, tuple[str, ...]]:
    """By column, the steps, as `lakehouse why` tells them now of what failed."""
    return {one.column: one.steps for one in tills.evaluation_of(settings).causes(tills.watched, failed)}


def files_of(*files: tuple[str, int, list[float | None]]) -> pl.DataFrame:
    rows = [(value, name, number) for name, number, values in files for value in values]
    return pl.DataFrame(rows, {"value": pl.Float64(), "_file": pl.String(), "_sequence": pl.Int64()}, orient="row")


@pytest.fixture
def bronze(tmp_path):
    table = Lakehouse(str(tmp_path)).table("shop.bronze.days")
    table.create({"amount": pl.Float64()})
    return table


def said_of(bronze, before: pl.DataFrame, after: pl.DataFrame) -> str | None:
    return of_files(bronze, "amount", Change(before["value"], after["value"]), (before, after))


USUAL = [float(one % 7) for one in range(60)]


@pytest.mark.parametrize("wrong", [None, 99.0])
def test_of_few_rows_nulls_and_values_tell(bronze, wrong):
    before = files_of(*((f"day_{number}.csv", number, USUAL) for number in range(1, 8)))
    said = said_of(bronze, before, files_of(("day_8.csv", 8, USUAL[:40]), ("small.csv", 9, [wrong] * 19)))
    assert said is not None
    assert said.startswith("amount of shop.bronze.days: file small.csv (sequence 9): ")
    assert said.endswith("(in 19 rows, seen in this file alone, 1 other file of the same time not)")


def test_a_file_of_few_rows_is_not_accused_where_it_does_not_carry_the_difference(bronze):
    before = files_of(*((f"day_{number}.csv", number, USUAL) for number in range(1, 8)))
    # All have some of it, none alone enough: without the one that has nothing else the change is still there.
    many = [(f"part_{number}.csv", number, [None] * 2 + USUAL[:17]) for number in range(8, 20)]
    said = said_of(bronze, before, files_of(*many, ("small.csv", 20, [None] * 5)))
    assert said is not None
    assert "small.csv" not in said, said
    # No file is large enough, and none alone shows it: it is said that these are few rows, and not that nothing is known.
    spread = [(f"part_{number}.csv", number, [None, *USUAL[:4]]) for number in range(8, 20)]
    said = said_of(bronze, before, files_of(*spread))
    assert said == (
        "amount of shop.bronze.days came so: none of the 12 files of that time shows the change by itself; "
        "12 of them have fewer than 20 rows there"
    )


def test_how_sure_it_is_counts_no_file_that_was_not_judged(bronze):
    before = files_of(*((f"day_{number}.csv", number, USUAL) for number in range(1, 8)))
    after = files_of(("day_8.csv", 8, [None] * 30), ("few.csv", 9, USUAL[:3]))
    said = said_of(bronze, before, after)
    assert said == (
        "amount of shop.bronze.days: file day_8.csv (sequence 8): nulls 100.0% against 0.0% "
        "(the only file of that time that was judged, 7 files before not; 1 file with fewer rows does not tell)"
    )


def test_a_file_that_was_read_again_is_one_file_by_its_newest_number(bronze):
    before = files_of(*((f"day_{number}.csv", number, USUAL) for number in range(1, 8)))
    after = files_of(("day_8.csv", 8, [None] * 30), ("day_8.csv", 9, [None] * 30))
    said = "file day_8.csv (sequence 9): nulls 100.0% against 0.0% (the only file of that time, 7 files before not)"
    assert said_of(bronze, before, after) == f"amount of shop.bronze.days: {said}"


def test_a_file_that_was_replaced_is_not_accused_of_what_it_brought_before(settings):
    """Rows that it brought again as they were keep its first number in silver."""
    without = pl.col("country").replace({"DE": "GB"})
    tills.land(settings, "north", tills.BASE, without)
    name = tills.land(settings, "south", tills.BASE, without, pl.col("Price") * 100)
    tills.judged(settings)
    failed = verdicts.newest_failed(tables_of(settings), tills.watched.name)
    assert causes_of(settings, failed)["country"][0] == "country of tills.gold.orders: no row of DE since 2026-02-04"
    # The countries are as they should be now, the prices are wrong still.
    rows = tills.rows_of("south", tills.BASE).with_columns(pl.col("Price") * 100)
    land_text(settings, "south", name, rows.write_csv())
    Root(settings).ingestion(tills.south).request_read(name, reread=True, run_id="by hand")
    tills.judged(settings)
    numbers = tables_of(settings).table("tills.silver.south").scan().filter(pl.col("_file") == name).collect()["_sequence"]
    assert numbers.n_unique() == 2
    steps = causes_of(settings, failed)
    assert steps["country"][0] == "country of tills.gold.orders: there are rows of DE in this window now"
    assert "no row" not in str(steps["country"])
    assert f"Price of tills.bronze.south: file {name} (sequence {tills.BASE + 2})" in steps["gross"][-1], steps
    assert f"(sequence {tills.BASE + 1})" not in str(steps)


def test_two_faults_in_two_files_in_a_row_are_each_told_of_their_own_file(settings):
    tills.land(settings, "south", tills.BASE, pl.when(pl.col("country") != "FR").then("country").alias("country"))
    renamed = pl.when(pl.col("country") == "DE").then(pl.lit("Deutschland")).otherwise("country").alias("country")
    tills.land(settings, "south", tills.BASE + 1, renamed)
    why = whys(tills.judged(settings))["country"]
    first, second = why.split("; ")
    assert f"file south_2026-02-04.csv (sequence {tills.BASE + 1})" in first
    assert "nulls " in first
    assert f"file south_2026-02-05.csv (sequence {tills.BASE + 2})" in second
    assert "'Deutschland' " in second
    assert "nulls" not in second
    assert why.count("(seen in this file alone, 1 other file of the same time not)") == 2


def why_after(settings, orders, run_id: str, *, from_scratch: bool) -> dict[str, str]:
    """By column, why the monitor fails once a day has come and another function computes the orders."""
    for till in tills.TILLS:
        tills.land(settings, till, tills.BASE)
    run = runner(settings, tills.products(orders))
    run.run(["tills.bronze.north", "tills.bronze.south", "tills.silver.north", "tills.silver.south"], run_id=run_id)
    run.run(["tills.gold.orders"], run_id=run_id, from_scratch=from_scratch)
    (judgement,) = tills.evaluation_of(settings, orders).run([tills.watched])
    return whys(judgement)


def test_a_column_that_was_removed_is_said_to_be_gone_and_since_when(settings):
    why = why_after(settings, tills.orders_without_country, "removed", from_scratch=True)["country"]
    assert why.startswith("country of tills.gold.orders: the column is gone from version "), why
    assert why.endswith(", run removed, with which its function was changed")


def test_of_several_windows_that_failed_at_once_the_first_and_the_last_say_why(settings):
    names = [tills.land(settings, "south", tills.BASE, pl.col("Price") * 100)]
    tills.land(settings, "south", tills.BASE + 1)
    names.append(tills.land(settings, "south", tills.BASE + 2, pl.col("country").replace({"GB": "UK"})))
    tills.judged(settings)
    failed = tables_of(settings).table(verdicts.TABLE).scan().filter(~pl.col("passed")).collect()
    told = {(row["window_start"].date(), row["column_name"]): row["why"] for row in failed.iter_rows(named=True)}
    first, last = (tills.START + timedelta(days=tills.BASE + day) for day in (0, 2))
    assert names[0] in told[first, "gross"]
    assert names[1] in told[last, "country"]


@pytest.mark.parametrize("from_scratch", [False, True])
def test_a_changed_function_is_told_as_such(settings, from_scratch):
    why = why_after(settings, tills.orders_without_tax, "changed", from_scratch=from_scratch)["gross"]
    assert why.startswith("the function of tills.gold.orders was changed: from version "), why
    assert why.endswith(", run changed")


def test_no_personal_value_stands_in_a_text(settings):
    for till in tills.TILLS:
        tills.land(settings, till, tills.BASE, pl.lit("Eve Jones").alias("shopper"), pl.col("Price") * 100)
    found = [text for one in tills.judged(settings).verdicts for text in (one.why, one.text)]
    assert any(found)
    assert "Jones" not in str(found)
    assert "Smith" not in str(found)


# --- accuracy


def no_importances():
    raise LookupError("MLflow holds none")


def test_a_loss_of_accuracy_names_what_drifted_in_the_same_window(tmp_path):
    shop = ScoredShop(tmp_path / "tables")
    rows = made(14, 60, seed=2)
    shop.label(made(100, 20, seed=9, first=90_000, start=START - 100 * DAY))
    shop.decide(1, {LABELS: shop.lakehouse.table(LABELS).version()})
    shop.score(rows.with_columns(probability=1 - pl.col("probability")))
    shop.label(rows)
    now = START + 14 * DAY + SETTLED
    moved = monitor("fraud.monitors.moved", of="fraud.features.orders", kind=Drift("ordered_at", against="fraud.features.orders@0"))
    accuracy = monitor("fraud.monitors.accuracy", of=scored, kind=LiveAccuracy(floor=0.99, slices=("method",)))
    catalog = Catalog((*CATALOG.declarations, moved, accuracy), CATALOG.external)
    evaluation = Evaluation(shop.lakehouse, catalog, no_importances, now, "run", pytest.fail)

    alone = evaluation.judge(accuracy).verdicts
    assert {one.passed for one in alone} == {False}
    assert alone[0].why.startswith("predictions are worse where method="), alone[0].why

    def drifted(day: int, column: str, why: str) -> Verdict:
        window = {"window_start": START + day * DAY, "window_end": START + (day + 1) * DAY}
        return Verdict(False, f"{column} drifted.", metric="ks_test", value=0.9, threshold=0.1, column_name=column, why=why, **window)

    said = (drifted(1, "card", "of a week before"), drifted(9, "amount", "amount of fraud.bronze.orders: file x.csv"))
    judgements.add(shop.lakehouse, [judgements.Judgement(moved, None, 0, now, "run", said)])
    early = START - 5 * DAY
    judgements.add(shop.lakehouse, [judgements.Judgement(moved, None, 0, early, "run", [drifted(9, "amount", "before the window began")])])
    judged = evaluation.judge(accuracy)
    assert judged.verdicts[0].why == "amount of fraud.features.orders drifted: amount of fraud.bronze.orders: file x.csv"
    # Days before the window are not read, whatever was judged on them.
    shutil.rmtree(Path(shop.lakehouse.table(verdicts.TABLE).uri, f"date={early:%Y-%m-%d}"))
    assert [one.column for one in evaluation.causes(accuracy, judged.rows) if one.column] == ["amount"]


@feature_set(
    orders.name, contract=Order, entity=("invoice",), event_time="ordered_at", kind=ByKey("invoice"), inputs={"rows": "fraud.silver.orders"}
)
def orders_in_pence(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Orders in another unit."""
    return rows.with_columns(pl.col("amount") * 100)


def computed(shop: ScoredShop, declared: FeatureSet) -> FeatureVersion:
    """The version of the feature set once a function has computed it."""
    runner = Runner(Catalog((declared,), frozenset({"fraud.silver.orders"})), shop.lakehouse, pytest.fail, no_importances, 1)
    runner.run([declared.name], run_id="run", from_scratch=True)
    found = FeatureVersion.of(shop.lakehouse.table(declared.name))
    assert found is not None
    return found


def test_a_loss_of_accuracy_names_another_version_and_other_features_before_all_else(tmp_path):
    shop, accuracy = ScoredShop(tmp_path / "tables"), monitor("fraud.monitors.accuracy", of=scored, kind=LiveAccuracy(floor=0.99))
    placed = shop.lakehouse.table("fraud.silver.orders")
    placed.create(schema_of(Order))
    placed.append(
        pl.DataFrame(
            [{"invoice": 1, "ordered_at": START, "card": "c", "amount": 2.0, "country": "GB", "known_at": START}], schema=schema_of(Order)
        )
    )
    learnt = {orders.name: asdict(computed(shop, orders))}
    rows = made(14, 60, seed=2)
    shop.label(made(100, 20, seed=9, first=90_000, start=START - 100 * DAY))
    labels = {LABELS: shop.lakehouse.table(LABELS).version()}
    # A version that took its place before the window is not what changed.
    shop.decide(7, labels, at=START - 100 * DAY)
    shop.decide(1, labels, at=START - DAY, features=learnt)
    shop.score(rows, version=1)
    shop.score(rows.with_columns(probability=1 - pl.col("probability")), version=2)
    shop.label(rows)
    now = START + 14 * DAY + SETTLED
    evaluation = Evaluation(
        shop.lakehouse, Catalog((*CATALOG.declarations, accuracy), CATALOG.external), no_importances, now, "run", pytest.fail
    )

    def why() -> str:
        (verdict,) = evaluation.judge(accuracy).verdicts
        assert verdict.passed is False
        return verdict.why

    assert why() == "", "nothing was changed"
    shop.decide(2, labels, at=START + 8 * DAY, features=learnt)
    assert why().startswith("version 2 of fraud.models.fraud took the place of version 1 on 2024-01-09, whose average precision was ")
    assert evaluation.causes(accuracy, evaluation.judge(accuracy).rows)[0].steps == ("promoted: it is better",)
    computed(shop, orders_in_pence)
    assert why() == f"version 2 of {orders.name} has other values than version 1, which the champion learnt from"

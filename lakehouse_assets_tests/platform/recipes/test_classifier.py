"""The recipe `classifier`: from landing files to predictions by the real command, and an answer or a reason for labels of many sorts."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from lakehouse_assets import Contract, Full, Timestamp, classifier, column, open_lakehouse, table
from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.modelling.costs import Costs
from lakehouse_assets.platform.modelling.metrics import Auc
from lakehouse_assets.platform.modelling.predictors import load_predictor
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.model_step import ModelStep
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.recipes.shop_orders import FIRST, PRODUCT, as_file, orders

SOURCE = "shop.silver.orders"
INPUTS = {"amount": float, "country": str, "method": str}
COSTS = Costs(missed="amount", false_alarm=20.0)


def declared(**options):
    usual = {"target": "charged_back", "entity": ("order",), "time": "ordered_at", "inputs": INPUTS}
    if "known_at" not in options:
        usual["settled"] = timedelta(days=30)
    return classifier("shop.fraud", table=SOURCE, **(usual | options))


class Shop:
    """A root with a table of orders."""

    def __init__(self, settings: Settings, fraud) -> None:
        self.root, self.fraud = Root(settings), fraud
        self.catalog = Catalog(fraud.declarations, frozenset({SOURCE}))

    def land(self, rows: pl.DataFrame) -> None:
        source = self.root.lakehouse.table(SOURCE)
        if not source.exists():
            source.create(rows.schema)
        source.append(rows)
        self.bring_up_to_date(self.fraud.features.name)

    def bring_up_to_date(self, name: str) -> None:
        Runner(self.catalog, self.root.lakehouse, self.root.ingestion, self.root.registry, 1).run([name], run_id="test")

    def train(self):
        trained = ModelStep(self.fraud.model, self.root.lakehouse, self.root.registry(), 1, "test").run()
        self.bring_up_to_date(self.fraud.predictions.name)
        return trained

    @property
    def champion(self) -> str | None:
        """The name of the candidate that is champion."""
        registry = self.root.registry()
        number = registry.aliases(self.fraud.model.name).champion
        return None if number is None else registry.version(self.fraud.model.name, number).tags["candidate"]

    def rows(self, table: str) -> pl.DataFrame:
        return self.root.lakehouse.table(table).scan().collect()

    @property
    def predictions(self) -> pl.DataFrame:
        return self.rows(self.fraud.predictions.name).sort("ordered_at", "order")


@pytest.fixture
def shop(settings):
    return lambda rows, **options: _landed(settings, rows, declared(**options))


def _landed(settings, rows, fraud) -> Shop:
    shop = Shop(settings, fraud)
    shop.land(rows)
    return shop


# --- by the real command


def command(folder: Path, *words: str) -> str:
    environment = {"LAKEHOUSE_ROOT": str(folder / "root"), "LAKEHOUSE_PRODUCTS": str(folder / "classifier_products"), "DAGSTER_HOME": ""}
    result = CliRunner(env=environment).invoke(main, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_product_of_forty_lines_works_from_landing_files_to_predictions(tmp_path):
    assert len(PRODUCT.splitlines()) <= 40
    product = tmp_path / "classifier_products" / "shop" / "orders.py"
    product.parent.mkdir(parents=True)
    product.write_text(PRODUCT, encoding="utf-8")
    rows = orders(6000)
    (tmp_path / "orders.csv").write_text(as_file(rows.head(5900)), encoding="utf-8")
    command(tmp_path, "land", "orders", str(tmp_path / "orders.csv"))
    command(tmp_path, "run")
    said = command(tmp_path, "train")
    assert "trained version 1, champion: LogLoss" in said, said
    # What comes later is predicted by the next run, which leaves the other predictions alone.
    (tmp_path / "newest.csv").write_text(as_file(rows.tail(100)), encoding="utf-8")
    command(tmp_path, "land", "orders", str(tmp_path / "newest.csv"))
    command(tmp_path, "run")
    lake = open_lakehouse(settings=Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "root")}), declarations=())
    predicted = lake.context.root.lakehouse.table("shop.predictions.fraud").scan().collect()
    assert (predicted.height, predicted["order"].n_unique(), set(predicted["model_version"])) == (6000, 6000, {1})
    assert predicted["scored_at"].n_unique() == 2
    assert predicted["probability"].is_between(0, 1).all()
    newest = rows.tail(1000).join(predicted, on="order")
    assert Auc().score(newest.with_columns(actual="charged_back")) > 0.8
    assert newest["probability"].mean() == pytest.approx(newest["charged_back"].mean(), abs=0.04)
    # Held where it is expected to cost less than letting it pass.
    holding = newest["probability"] * newest["amount"] > (1 - newest["probability"]) * 20.0
    assert newest["decision"].to_list() == holding.to_list()
    assert 0 < holding.sum() < newest.height


# --- labels of many sorts


def test_what_is_registered_is_the_predictor_that_fills_the_prediction_table(shop):
    fraud = shop(orders(3000), costs=Costs(missed=100.0, false_alarm=10.0))
    trained = fraud.train()
    assert fraud.champion == "model", trained.reasons
    registry = fraud.root.registry()
    folder = registry.model_folder(registry.version("shop.models.fraud", trained.champion))
    inputs = fraud.rows("shop.features.fraud").sort("ordered_at", "order")
    assert load_predictor(folder).predict(inputs.select(*INPUTS))["probability"].equals(fraud.predictions["probability"])
    assert fraud.predictions["decision"].equals((fraud.predictions["probability"] > 10 / 110).alias("decision"))
    assert {"LogLoss", "average precision", "AUC", "calibration error", "Cost"} <= set(trained.metrics)


def test_a_label_that_one_column_explains_needs_no_model(shop):
    fraud = shop(orders(1500, chance=lambda amount, country, method: float(country == "US")))
    trained = fraud.train()
    assert any(reason.startswith("Refused: leakage: determines country") for reason in trained.reasons), trained.reasons
    assert fraud.champion != "model"
    assert fraud.predictions.height == 1500


def test_labels_of_pure_chance_are_predicted_by_a_baseline_and_it_is_said_why(shop):
    fraud = shop(orders(1500, chance=lambda *_: 0.2))
    trained = fraud.train()
    assert not trained.promoted
    assert any("it is not better than the baseline class_share" in reason for reason in trained.reasons), trained.reasons
    assert fraud.champion in {"class_share", "linear", "one_line_rule"}
    assert fraud.predictions["probability"].is_between(0.02, 0.5).all()


def test_labels_of_one_class_end_with_a_reason(shop):
    fraud = shop(orders(500, chance=lambda *_: 0.0))
    trained = fraud.train()
    assert trained.champion is None
    assert "a classifier needs rows of at least 2 classes" in trained.reasons[0], trained.reasons
    assert fraud.predictions.is_empty()


def test_ten_rows_are_too_few_and_it_is_said_how_many_are_missing(shop):
    fraud = shop(orders(10, chance=lambda amount, *_: float(amount > 50)), settled=timedelta(0))
    trained = fraud.train()
    assert trained.reasons[0].endswith("a test on unseen rows needs 100: 90 more are missing"), trained.reasons
    # The share of each class predicts until there is more.
    assert fraud.champion == "class_share"
    assert fraud.predictions["probability"].n_unique() == 1


def test_a_target_of_texts_with_several_classes_gets_a_probability_for_each(shop):
    def answer(rows: pl.DataFrame) -> pl.DataFrame:
        by_amount = pl.when(pl.col("amount") > 90).then(pl.lit("lost")).when(pl.col("country") == "US").then(pl.lit("late"))
        return rows.with_columns(charged_back=pl.when("charged_back").then(by_amount.otherwise(pl.lit("paid"))).otherwise(pl.lit("paid")))

    fraud = shop(answer(orders(3000, chance=lambda *_: 0.9)), classes=("paid", "late", "lost"), slices=("country",))
    trained = fraud.train()
    assert fraud.champion == "model", trained.reasons
    rows = fraud.predictions
    assert rows.select(pl.sum_horizontal(r"^probability_.*$").round(9)).to_series().unique().to_list() == [1.0]
    right = rows.join(fraud.rows(SOURCE), on="order").select((pl.col("predicted") == pl.col("charged_back")).mean()).item()
    assert right > 0.85


def test_a_target_of_two_texts_is_about_the_positive_one(shop):
    texts = orders(1500).with_columns(charged_back=pl.when("charged_back").then(pl.lit("back")).otherwise(pl.lit("kept")))
    fraud = shop(texts, positive="back")
    fraud.train()
    known = fraud.predictions.join(texts, on="order")
    assert Auc(positive="back").score(known.rename({"charged_back": "actual"})) > 0.7


# --- what examples are made of


def examples(fraud: Shop) -> pl.DataFrame:
    read = lambda name: fraud.root.lakehouse.table(name).scan()  # noqa: E731
    return fraud.fraud.model.examples.rows(read).collect()


def test_a_row_counts_once_its_outcome_is_settled_by_the_newest_row(shop):
    rows = examples(shop(orders(300, days=300)))
    newest = FIRST + timedelta(days=299)
    assert rows["ordered_at"].max() == newest - timedelta(days=30)
    assert rows.height == 270


def test_soon_known_outcomes_do_not_count_before_the_others_could_be_known(shop):
    # A charge back is known after a day, that there is none after forty; of the newest rows only the former are known.
    delay = pl.when("charged_back").then(timedelta(days=1)).otherwise(timedelta(days=40))
    rows = orders(1000, days=200, chance=lambda *_: 0.2).with_columns(known_at=pl.col("ordered_at") + delay)
    unknown = pl.col("known_at") > pl.col("ordered_at").max()
    rows = rows.with_columns(
        pl.when(~unknown).then("charged_back").alias("charged_back"), pl.when(~unknown).then("known_at").alias("known_at")
    )
    learnt = examples(shop(rows, known_at="known_at"))
    assert rows.filter(pl.col("ordered_at") > FIRST + timedelta(days=165))["charged_back"].drop_nulls().all()
    assert learnt["ordered_at"].max() <= FIRST + timedelta(days=160)
    assert learnt["charged_back"].mean() < 0.25


def test_a_correction_that_came_later_is_predicted_from_but_not_learnt_from(shop):
    fraud = shop(orders(300))
    first = examples(fraud)
    source = fraud.root.lakehouse.table(SOURCE)
    source.delta().update({"amount": "amount * 1000"})
    fraud.bring_up_to_date(fraud.fraud.features.name)
    assert examples(fraud).equals(first)
    assert fraud.rows("shop.features.fraud").height == 600


def test_a_row_without_entity_or_time_is_left_out_and_where_chooses_rows(shop):
    rows = pl.concat([orders(200), orders(1).with_columns(order=pl.lit(None, pl.String))])
    fraud = shop(rows, where=pl.col("country") != "US")
    assert fraud.rows("shop.features.fraud").height == rows.filter(pl.col("country") != "US", pl.col("order").is_not_null()).height
    assert "US" not in examples(fraud)["country"].to_list()


def test_dates_and_numbers_name_rows_too(shop):
    rows = orders(400).with_columns(pl.col("order").cast(pl.Int64), pl.col("ordered_at").dt.date())
    fraud = shop(rows, entity={"order": int}, time={"ordered_at": date}, settled=timedelta(0))
    fraud.train()
    assert fraud.predictions.schema["ordered_at"] == pl.Date
    assert fraud.predictions["order"].to_list() == list(range(400))


# --- declarations that cannot be meant


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"table": "orders"}, r"table='orders' is no name of a table"),
        ({"inputs": {}}, r"inputs is empty"),
        ({"inputs": {"amount": list}}, r"'amount' has the type .*write one of float, int, str, bool, date or Timestamp"),
        ({"inputs": INPUTS | {"charged_back": bool}}, r"names 'charged_back' twice"),
        ({"inputs": INPUTS | {"known_at": float}}, r"adds a column 'known_at' itself"),
        ({"entity": "order"}, r"entity='order' is one text"),
        ({"entity": ()}, r"entity=\(\): write columns"),
        ({"time": {"day": str}}, r'time=.*write a column of moments, or {"day": date}'),
        ({"settled": None}, r"say when charged_back is known"),
        ({"settled": timedelta(days=1), "known_at": "then"}, r"say when charged_back is known"),
        ({"settled": timedelta(days=-1)}, r"would know the target before it is predicted"),
        ({"classes": ("yes", "no")}, r"name three values or more; of two, say positive="),
        ({"classes": ("a", "b", "c"), "positive": "a"}, r"give positive for a target of two values"),
        ({"classes": ("a", "b", "c d")}, r"classes has 'c d'"),
        ({"classes": ("a", "b", "c"), "costs": COSTS}, r"costs are of one value"),
        ({"costs": Costs(missed="amuont", false_alarm=1.0)}, r"costs names the column 'amuont'.*Did you mean amount"),
        ({"costs": Costs(missed=0.0, false_alarm=1.0)}, r"a number above 0"),
        ({"slices": ("country", "country")}, r"slices names 'country' twice"),
    ],
)
def test_a_classifier_that_cannot_be_meant_is_refused_by_name(options, said):
    usual = {"table": SOURCE, "target": "charged_back", "entity": ("order",), "time": "ordered_at", "inputs": INPUTS}
    with pytest.raises(DeclarationError, match=said):
        classifier("shop.fraud", **(usual | {"settled": timedelta(days=30)} | options))
    with pytest.raises(DeclarationError, match="write product or product"):
        classifier("Shop.Fraud", **usual, settled=timedelta(days=30))


class Paid(Contract):
    """An order, and where the person lives."""

    order: str = column(key=True)
    ordered_at: Timestamp
    amount: float
    country: str = column(personal=True)
    charged_back: bool


@table(SOURCE, contract=Paid, kind=Full(), inputs={"rows": "shop.bronze.orders"})
def paid(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Orders."""
    return rows


@pytest.mark.parametrize("slices", [("country",), ()])
def test_slices_by_a_personal_column_are_refused(slices):
    """Their values would stand in the evaluation: on the model card, on pages, in MLflow."""
    given = (paid, *declared(slices=slices).declarations)
    if not slices:
        Catalog(given, frozenset({"shop.bronze.orders"}))
        return
    with pytest.raises(DeclarationError, match=f"slices name 'country', which is personal in {SOURCE}"):
        Catalog(given, frozenset({"shop.bronze.orders"}))


def test_a_mistyped_positive_value_is_the_reason_of_the_training_and_no_error(shop):
    rows = orders(300).with_columns(charged_back=pl.when("charged_back").then(pl.lit("yes")).otherwise(pl.lit("no")))
    trained = shop(rows, positive="YES").train()
    assert trained.champion is None
    assert "positive='YES' is not among the values no, yes of shop.silver.orders: charged_back" in trained.reasons[0]


def test_one_positive_row_in_hundreds_promotes_no_model(shop):
    rows = orders(700, chance=lambda *_: 0.0)
    trained = shop(rows.with_columns(charged_back=pl.col("order") == rows["order"][20])).train()
    assert not trained.promoted, trained.reasons
    assert "of one class. More rows are needed" in trained.reasons[0], trained.reasons

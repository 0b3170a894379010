"""`lakehouse automl` by the real command: the report, and a product that is linted, tested, trained and predicts."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from sklearn.ensemble import ExtraTreesClassifier

from lakehouse_assets import Blend, ClassPrior, Linear, Sklearn
from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.recipes.automl import first_model
from lakehouse_assets.platform.recipes.question import question
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.scaffold.first_model import product_name
from lakehouse_assets.scaffold.write_first_model import write_first_model
from lakehouse_assets_tests.platform.recipes.shop_orders import PRODUCT, as_file, orders

PROJECT = Path(__file__).parents[2]
PACKAGE = "automl_products"
ROWS = 2500


def command(folder: Path, *words: str, code: int = 0) -> str:
    environment = {"LAKEHOUSE_ROOT": str(folder / "root"), "LAKEHOUSE_PRODUCTS": str(folder / PACKAGE), "DAGSTER_HOME": ""}
    result = CliRunner(env=environment).invoke(main, list(words), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def tool(folder: Path, *arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def check_code(folder: Path) -> None:
    config = ("--config", str(PROJECT / "pyproject.toml"))
    tool(folder, "ruff", "format", "--diff", *config, PACKAGE)
    tool(folder, "ruff", "check", "--no-cache", *config, PACKAGE)
    tool(folder, "pytest", "-q", "-p", "no:cacheprovider", PACKAGE)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A root with orders, and what `lakehouse automl` said of two questions about them."""
    folder = tmp_path_factory.mktemp("automl")
    product = folder / PACKAGE / "shop" / "orders.py"
    product.parent.mkdir(parents=True)
    tables, _, _ = PRODUCT.partition("fraud = classifier(")
    product.write_text(tables, encoding="utf-8")
    (folder / "orders.csv").write_text(as_file(orders(ROWS)), encoding="utf-8")
    command(folder, "land", "orders", str(folder / "orders.csv"))
    command(folder, "run")
    table = "shop.silver.orders"
    said = {
        "fraud": command(
            folder, "automl", table, "--target", "charged_back", "--time", "ordered_at", "--minutes", "0.02", "--settled", "7"
        ),
        "amounts": command(folder, "automl", table, "--target", "amount", "--entity", "order", "--minutes", "0.02", "--name", "amounts"),
    }
    return folder, said


def test_the_leaderboard_has_baselines_and_the_report_pictures(made):
    folder, said = made
    assert " is best: LogLoss " in said["fraud"]
    assert "share of each class" in said["fraud"]
    assert "Assumed: order names a row" in said["fraud"]
    assert "charged_back counts as known 7 days after ordered_at" in said["fraud"]
    assert "nothing guards against learning from the future" in said["amounts"]
    reports = folder / "root" / "reports" / "automl"
    for name in ("shop.silver.orders.charged_back", "shop.silver.orders.amount"):
        files = {file.name for file in (reports / name).iterdir()}
        assert files == {"report.md", "columns.png", "relations.png", "leaderboard.png", "trials"}


def test_the_code_is_formatted_linted_and_its_tests_pass(made):
    folder, _ = made
    assert (folder / PACKAGE / "orders_charged_back" / "prediction.py").exists()
    assert (folder / PACKAGE / "amounts" / "prediction.py").exists()
    config = ("--config", str(PROJECT / "pyproject.toml"))
    written = [f"{PACKAGE}/{name}" for name in ("orders_charged_back", "amounts")]
    tool(folder, "ruff", "format", "--diff", *config, *written)
    tool(folder, "ruff", "check", "--no-cache", *config, *written)
    tool(folder, "pytest", "-q", "-p", "no:cacheprovider", PACKAGE)


def test_what_was_written_runs_is_promoted_and_predicts(made):
    folder, _ = made
    command(folder, "run")
    said = command(folder, "train")
    assert "orders_charged_back.models.charged_back      trained version 1, champion" in said, said
    lakehouse = Lakehouse(str(folder / "root" / "tables"))
    source = (folder / PACKAGE / "orders_charged_back" / "prediction.py").read_text(encoding="utf-8")
    assert "settled=timedelta(days=7)" in source
    predicted = lakehouse.table("orders_charged_back.predictions.charged_back").scan().collect()
    assert predicted.height == ROWS
    assert predicted["probability"].is_between(0, 1).all()
    # Nothing says how large an order is: the mean predicts, and without a time all rows are of one day.
    amounts = lakehouse.table("amounts.predictions.amount").scan().collect()
    assert (amounts.height, amounts["as_of"].n_unique()) == (ROWS, 1)


def test_nothing_is_written_over_a_product_and_the_search_is_not_begun(made):
    folder, _ = made
    words = ("automl", "shop.silver.orders", "--target", "amount", "--name", "amounts")
    assert "exists, and nothing is written over it" in command(folder, *words, code=1)
    assert "has no such column" in command(folder, "automl", "shop.silver.orders", "--target", "amuont", code=1)


def test_names_and_types_that_code_cannot_have_are_renamed_and_cast(tmp_path):
    rows = orders(300).select(
        pl.col("order").alias("Order ID"),
        pl.col("ordered_at").dt.replace_time_zone(None).alias("Ordered At"),
        pl.col("amount").cast(pl.Decimal(18, 2)).alias("class"),
        pl.col("country").cast(pl.Categorical).alias("known_at"),
        pl.col("amount").cast(pl.Int32).alias("order"),
        pl.col("ordered_at").dt.date().alias("day"),
        (pl.col("ordered_at") + pl.duration(days=3)).alias("paid"),
        pl.when("charged_back")
        .then(pl.lit("lost"))
        .when(pl.col("amount") > 60)
        .then(pl.lit("late"))
        .otherwise(pl.lit("paid"))
        .alias("Outcome"),
    )
    said_of = {"Order ID": f"Who ordered{', and how' * 12}.", "order": "Whole pounds."}
    asked = question(rows, "shop.silver.odd", "Outcome", "Ordered At", (), ("Order ID", "Outcome"), described=said_of)
    found = first_model(asked, rows, seconds=0.05, seed=1, compute=Local())
    name = product_name("shop.silver.odd", "Outcome")
    write_first_model(found, name, dict(rows.schema), folder=tmp_path / PACKAGE, package=PACKAGE)
    blend = Blend((found.learner, Sklearn(ExtraTreesClassifier(n_estimators=20), "multiclass"), Linear("multiclass")), (0.51234, 0.3, 0.2))
    blended = replace(found, learner=blend)
    write_first_model(blended, "blended", dict(rows.schema), folder=tmp_path / PACKAGE, package=PACKAGE)
    short = replace(found, learner=Blend((Linear("multiclass"), ClassPrior("multiclass")), (1, 2)))
    write_first_model(short, "short", dict(rows.schema), folder=tmp_path / PACKAGE, package=PACKAGE)
    answer = question(rows.with_columns(days=pl.col("class") / 24), "shop.silver.odd", "class", None, ())
    kept = first_model(answer, rows.with_columns(days=pl.col("class") / 24), seconds=0, seed=1, compute=Local(), keep=("days", "order"))
    write_first_model(kept, "kept", {**rows.schema, "days": pl.Float64()}, folder=tmp_path / PACKAGE, package=PACKAGE)
    assert "gate=Gate(newest=None, leakage=None)" in (tmp_path / PACKAGE / "kept" / "prediction.py").read_text(encoding="utf-8")
    check_code(tmp_path)
    # What the table says of its columns, the contracts say too: the key in each of the three, the target where the rows are.
    contracts = (tmp_path / PACKAGE / name / "contracts.py").read_text(encoding="utf-8")
    assert contracts.count(said_of["Order ID"]) == contracts.count("key=True,\n        personal=True,") == 3
    assert contracts.count("personal=True") == 4
    assert 'description="Whole pounds."' in contracts
    prepared = (tmp_path / PACKAGE / name / "prepared.py").read_text(encoding="utf-8")
    said = " ".join(prepared.replace("#", " ").split())
    assert "Left out: paid (later than Ordered At in 300 of the 300 rows that have it, so it may be known only afterwards." in said
    assert "Assumed: Outcome is known at once, as soon as a row is there (settled=0)." in said
    assert '.alias("own_class")' in prepared

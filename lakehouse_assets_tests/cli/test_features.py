"""`lakehouse features`: what a feature set is, and what uses what."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from click.testing import CliRunner

from lakehouse_assets import open_lakehouse
from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.declarations.computed_kinds import Full
from lakehouse_assets.platform.declarations.features import feature_set
from lakehouse_assets.platform.declarations.models import predictions
from lakehouse_assets.platform.declarations.tables import table
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column
from lakehouse_assets.platform.recipes.windows import window_features
from lakehouse_assets_tests.platform.orchestration.level import Days, Prediction, level_model

PAYMENTS, CARDS, LEVELS = "shop.silver.payments", "shop.features.cards", "shop.features.levels"
MODEL, SCORES = "shop.models.level", "shop.predictions.level"


class Payment(Contract):
    """A payment."""

    card: str = column(key=True, description="Card.")
    paid_at: Timestamp = column(key=True, description="When.")
    amount: float = column(description="How much.")


class Level(Contract):
    """A level."""

    day: date = column(key=True, description="Day.")
    known_at: Timestamp = column(description="From when on it was known.")
    level: float = column(description="The level of the day.")


@table(PAYMENTS, contract=Payment, kind=Full(), inputs={"rows": "shop.bronze.payments"})
def payments(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The payments."""
    return rows


cards = window_features(
    CARDS, of=PAYMENTS, entity=("card",), time="paid_at", windows=("1d",), values={"amount": ("sum",)}, ttl=timedelta(days=30)
)


@feature_set(LEVELS, contract=Level, entity=(), event_time="day", kind=Full(), inputs={"rows": "shop.bronze.days"}, defaults={"level": 1.0})
def levels(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Levels by day."""
    return rows


model = replace(level_model, name=MODEL, examples=Days(CARDS))
scores = predictions(SCORES, contract=Prediction, model=model, features=CARDS, key=("day", "model_version"))(
    lambda champion, features: features
)


@pytest.fixture
def call(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    lake = open_lakehouse(settings=settings, declarations=(payments, cards, levels, model, scores))
    monkeypatch.setattr("lakehouse_assets.client.open_lakehouse", lambda: lake)
    bronze = lake.context.root.lakehouse.table("shop.bronze.payments")
    bronze.create(payments.schema)
    paid_at = [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2)]
    bronze.append(pl.DataFrame({"card": ["a", "a"], "paid_at": paid_at, "amount": [1.0, 2.0]}, schema=payments.schema))
    for one in (payments, cards):
        Refresh(one, lake.context.root.lakehouse, "test").run()

    def run(*words: str) -> str:
        result = CliRunner(env={"LAKEHOUSE_ROOT": str(settings.root), "COLUMNS": "200"}).invoke(main, ["features", *words])
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_the_list_says_how_far_each_set_is(call):
    listed = json.loads(call("list", "--json"))
    assert [(one["feature_set"], one["rows"], one["version"]) for one in listed] == [(CARDS, 2, 1), (LEVELS, None, None)]
    assert listed[0]["newest"].startswith("2024-01-02")
    assert (listed[0]["ttl_seconds"], listed[1]["defaults"]) == (30 * 86400, {"level": 1.0})
    assert "30 days" in call()


def test_a_set_says_what_its_columns_mean_and_who_uses_it(call):
    shown = json.loads(call("show", "cards", "--json"))
    assert (shown["reads"], shown["models"], shown["predictions"]) == ([PAYMENTS], [MODEL], [SCORES])
    by_name = {one["name"]: one for one in shown["columns"]}
    assert [name for name, one in by_name.items() if one["is_feature"]] == ["amount_sum_1d"]
    assert "Sum of amount in the last 1 day, by card." in call("show", CARDS)
    assert json.loads(call("show", LEVELS, "--json"))["columns"][-1]["default"] == 1.0
    assert f"lakehouse run {LEVELS}" in call("show", LEVELS)


@pytest.mark.parametrize(
    ("name", "tables", "feature_sets"),
    [
        ("amount", [PAYMENTS], [CARDS]),
        (f"{PAYMENTS}.amount", [PAYMENTS], [CARDS]),
        ("amount_sum_1d", [CARDS], [CARDS]),
        (MODEL, [MODEL], [CARDS]),
        (SCORES, [SCORES], [CARDS]),
    ],
)
def test_from_a_column_to_predictions_and_back(call, name, tables, feature_sets):
    found = json.loads(call("uses", name, "--json"))
    assert (found["tables"], found["feature_sets"], found["predictions"]) == (tables, feature_sets, [SCORES])
    assert SCORES in call("uses", name)

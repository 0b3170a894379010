"""A training set is looked at for leaks: what is found stands with the version, and above its limit the gate refuses the model."""

import json
import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse_assets import ClassPrior, Gate, GradientBoosting, LeakageLimits, Linear, classifier
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.check_names import LEAKAGE_CHECK
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.orchestration import checks
from lakehouse_assets.platform.orchestration.steps import key_of
from lakehouse_assets.platform.pipeline.model_step import ModelStep, ModelStepResult
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.recipes.shop_orders import orders

SOURCE = "shop.silver.orders"


@pytest.fixture
def trained(settings):
    """Trains on orders with an input that is given; the step's result, and the files of the version."""

    def train(extra: pl.Expr, gate: Gate, baselines: dict[str, Any] | None = None) -> tuple[ModelStepResult, Root]:
        rows = orders(2000).with_columns(extra.alias("extra"))
        declared = classifier(
            "shop.fraud", table=SOURCE, target="charged_back", entity=("order",), time="ordered_at", settled=timedelta(days=30),
            inputs={"amount": float, "country": str, "method": str, "extra": float}, gate=gate,
            learner=GradientBoosting(objective="binary", rounds=20),
        )  # fmt: skip
        root = Root(settings)
        source = root.lakehouse.table(SOURCE)
        source.create(rows.schema)
        source.append(rows)
        catalog = Catalog(declared.declarations, frozenset({SOURCE}))
        Runner(catalog, root.lakehouse, root.ingestion, root.registry, 1).run([declared.features.name], run_id="test")
        model = declared.model if baselines is None else replace(declared.model, baselines=baselines)
        return ModelStep(model, root.lakehouse, root.registry(), 1, "test").run(), root

    return train


IS_THE_ANSWER = pl.col("charged_back").cast(pl.Float64) + pl.col("amount") * 1e-9
SAYS_NOTHING = (pl.col("amount") * 7919 % 13).cast(pl.Float64)


def check_of(result: ModelStepResult):
    return next(one for one in checks.model(key_of("shop.models.fraud"), result) if one.check_name == LEAKAGE_CHECK)


def test_a_model_that_knows_a_leak_is_refused_with_that_reason(trained):
    result, root = trained(IS_THE_ANSWER, Gate())
    assert not result.promoted
    (said,) = [reason for reason in result.reasons if reason.startswith("Refused: leakage: determines extra")]
    assert "extra alone predicts the target of held-out rows" in said
    (leak,) = [leak for leak in result.leaks if not leak.passed]
    assert leak.value > 0.99
    found = check_of(result)
    assert (found.passed, found.severity.value) == (False, "ERROR")
    assert "extra alone" in found.description
    # Nor does a baseline predict that knows it.
    champion = root.registry().version("shop.models.fraud", result.champion)
    assert champion.tags["candidate"] == "class_share"


@pytest.mark.parametrize(
    ("baselines", "champion"),
    [({"linear": Linear("binary")}, None), ({"linear": Linear("binary"), "prior": ClassPrior()}, "prior")],
)
def test_with_a_leak_only_a_baseline_that_reads_no_column_predicts(trained, baselines, champion):
    """Neither the best rule of one column, which is the leak, nor a learner that is given it."""
    result, root = trained(IS_THE_ANSWER, Gate(), baselines)
    if champion is None:
        assert result.champion is None
    else:
        assert root.registry().version("shop.models.fraud", result.champion).tags["candidate"] == champion


def test_what_was_found_stands_with_a_version_that_passed(trained):
    result, root = trained(SAYS_NOTHING, Gate())
    assert all(leak.passed for leak in result.leaks)
    assert math.isfinite(result.metrics["leakage/determines"])
    registry = root.registry()
    version = registry.version("shop.models.fraud", result.version)
    manifest = json.loads((registry.run_folder(version) / "training_set.json").read_text())
    assert [table["name"] for table in manifest["tables"]] == [SOURCE, "shop.features.fraud"]
    assert manifest["rows"] > 1000
    assert "no column gives the answer away" in (registry.run_folder(version) / "leakage.md").read_text()


@pytest.mark.parametrize(("drift", "passed"), sweeps.of([((0.7, 0.75), False)], [((0.8, math.inf), True), ((0.7, 0.75), False)]))
def test_a_season_is_told_and_fails_no_check_unless_it_is_above_a_limit(trained, drift, passed):
    season = pl.col("ordered_at").dt.epoch("s") / 86_400 + pl.col("amount") % 20
    result, _ = trained(season, Gate(leakage=LeakageLimits(clock=(math.inf, math.inf), drift=drift)))
    assert [leak.name for leak in result.leaks] == ["leakage: drift extra"]
    found = check_of(result)
    assert found.passed is passed
    assert "This gives no answer away" in found.description
    assert "LeakageLimits(known=('extra',))" in found.description


def test_limits_are_those_of_the_gate(trained):
    never = (math.inf, math.inf)
    result, _ = trained(IS_THE_ANSWER, Gate(leakage=LeakageLimits(determines=never, equals=never, drift=never)))
    assert result.leaks == ()
    assert check_of(result).passed


def test_it_is_not_looked_for_where_the_gate_says_so(trained):
    result, _ = trained(IS_THE_ANSWER, Gate(leakage=None))
    assert result.leaks == ()
    assert not [name for name in result.metrics if name.startswith("leakage")]

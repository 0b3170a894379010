"""What a model cannot be given is said by name: an input that no feature set gives, and a feature that is no finite number."""

import json
from dataclasses import replace

import polars as pl
import pytest

from lakehouse_assets import ByKey, column, feature_set
from lakehouse_assets.platform.modelling.learners.baselines import Constant
from lakehouse_assets.platform.modelling.targets import Target
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.registry.decisions import ModelDecisions
from lakehouse_assets_tests.platform.registry.example import training
from lakehouse_assets_tests.platform.serving import busy
from lakehouse_assets_tests.platform.serving import till as shop
from lakehouse_assets_tests.platform.serving.test_native import ask, get
from lakehouse_assets_tests.platform.serving.till import DECLARED, INPUTS, Till, constant, listening, receipt, settings_in, until


@pytest.fixture
def till(tmp_path):
    return Till(settings_in(tmp_path))


def test_a_version_that_reads_what_no_feature_set_gives_is_not_taken_and_it_is_said_which(till):
    till.promote(till.add(constant(0.25)))
    service = till.service()
    with listening(service) as address:
        until(lambda: service.served["receipts"].versions is not None)
        gone = Constant(Target("binary", (False, True)), (0.75,), "gone")
        number = till.add(gone, INPUTS.with_columns(gone=pl.lit(1.0)))
        till.promote(number)
        until(lambda: "champion" in service.served["receipts"].why)
        said = get(address, "/ready")[1]["endpoints"]["receipts"]["not_taken"]["champion"]
        assert "version 2 of till.models.returned reads gone, which none of the model's feature sets gives any more" in said
        assert "lakehouse models promote till.models.returned VERSION" in said
        assert ask(address, receipt())[1]["predictions"][0]["model_version"] == 1, "the one before goes on"


def test_batch_says_the_same(settings):
    root = Root(settings)
    runner = busy.prepared(root, 20)
    decisions = ModelDecisions(root.lakehouse.table(busy.returned.name), busy.returned.name, root.registry(), "test")
    gone = Constant(Target("binary", (False, True)), (0.75,), "gone")
    nothing = {"tables": [], "features": {}, "parameters": {}, "files": {}, "breakdowns": {}}
    made = training(
        model_name=busy.returned.name, predictor=gone, input_example=INPUTS.with_columns(gone=pl.lit(1.0)), fingerprint="2", **nothing
    )
    decisions.promote(decisions.registry.log_training(made).version, "For a test.")
    with pytest.raises(LookupError, match=r"version 2 of till\.models\.busy reads gone, which none of the model's feature sets gives"):
        runner.run([busy.scored.name], run_id="scored")


@feature_set(shop.of_receipts.name, contract=shop.ReceiptFeatures, entity=("receipt",), event_time="at", kind=ByKey("receipt"),
             inputs={"rows": "till.gold.receipts"})  # fmt: skip
def huge(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Amounts that may become infinite."""
    each = (pl.col("amount") * 1e305).alias("each")
    return rows.select(
        "receipt", "at", pl.col("at").alias("known_at"), "amount", each, "shop", pl.col("note").is_not_null().alias("has_note")
    )


class MayMiss(shop.ReceiptFeatures):
    """What the receipt says, as far as it is known."""

    each: float = column(nullable=True)


@pytest.mark.parametrize("contract", [shop.ReceiptFeatures, MayMiss])
def test_a_feature_that_becomes_infinite_is_null_or_refused_by_its_name(till, contract):
    till.promote(till.add(constant(0.25)))
    changed = replace(huge, contract=contract)
    service = till.service(declared=tuple(changed if one is shop.of_receipts else one for one in DECLARED))
    with listening(service) as address:
        until(lambda: service.served["receipts"].versions is not None)
        assert ask(address, receipt(amount=20.0))[0] == 200
        status, answer = ask(address, {"rows": [receipt(1), receipt(2, amount=30_000.0)]})
        if contract is MayMiss:
            assert status == 200, answer
            assert service.log.flush()
            logged = till.root.lakehouse.table("till.inference.receipts").scan().filter(request_id=answer["request_id"], row=1).collect()
            assert json.loads(logged["features"].item())["each"] is None
            return
        assert (status, [(one["row"], one["field"]) for one in answer["errors"]]) == (422, [(1, "each")])
        assert "inf" in answer["errors"][0]["message"]

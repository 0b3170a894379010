"""What a prediction owes to its inputs, of a boosted model that was compiled, asked for with `?explain=true`."""

import numpy as np
import polars as pl

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.learning import TrainingRows
from lakehouse_assets.platform.modelling.learners.boosting import GradientBoosting
from lakehouse_assets.platform.modelling.learners.compiled import CompiledBoosted
from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.till import AT, INPUTS, Till, listening, receipt, settings_in, until


def learnt():
    draw, count = np.random.default_rng(5), 400
    rows = pl.DataFrame(
        {
            "receipt": [f"{number}" for number in range(count)],
            "at": [AT] * count,
            "amount": draw.gamma(2, 20, count),
            "each": draw.gamma(2, 5, count),
            "shop": draw.choice(["a", "b"], count),
            "has_note": draw.random(count) < 0.5,
            "shop_returns": draw.random(count),
        }
    ).with_columns(returned=pl.col("amount") + 20 * pl.col("shop_returns") > 50)
    training = TrainingRows(rows.lazy(), ("receipt",), "at", "returned", tuple(INPUTS.columns))
    return GradientBoosting(objective="binary", rounds=20).fit(training, seed=1, compute=Local())


def test_contributions_come_with_the_prediction_that_they_explain(tmp_path):
    till = Till(settings_in(tmp_path))
    model = learnt()
    till.promote(till.add(model))
    service = till.service()
    with listening(service) as address, Connection(address) as connection:
        until(lambda: service.served["receipts"].versions is not None)
        assert isinstance(service.served["receipts"].versions.champion.champion.model, CompiledBoosted)
        status, answer = connection.post("/endpoints/receipts?explain=true", {"rows": [receipt(1, amount=90.0), receipt(2, amount=5.0)]})
        assert status == 200, answer
        given = pl.DataFrame(
            {"amount": [90.0, 5.0], "each": [22.5, 1.25], "shop": ["a", "a"], "has_note": [False] * 2, "shop_returns": [0.25] * 2}
        )
        assert [row["probability"] for row in answer["predictions"]] == model.predict(given)["probability"].to_list()
        expected = model.contributions(given, 5)
        for number, row in enumerate(answer["predictions"]):
            own = expected.filter(pl.col("row") == number).select("input", "value", "contribution").to_dicts()
            assert row["contributions"] == own
        assert answer["predictions"][0]["contributions"][0]["input"] == "amount"
        assert "contributions" not in connection.post("/endpoints/receipts", receipt(3))[1]["predictions"][0]

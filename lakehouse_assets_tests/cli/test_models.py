"""`run`, `status` and `models` agree about champions, also when somebody sets an alias in MLflow in between."""

import shutil

import pytest

from lakehouse_assets import open_lakehouse
from lakehouse_assets.client.client import Client
from lakehouse_assets.platform.registry.mlflow_store import load_mlflow
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets_tests.platform.orchestration.level import (
    MODEL,
    PREDICTIONS,
    Demo,
    features,
    gold,
    level_model,
    scores,
)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A root with two versions: the first is champion, the second did not pass the gate."""
    demo = Demo(tmp_path_factory.mktemp("models") / "root")
    for origins, error in ((5, 2.0), (6, 9.0)):
        demo.land(error=error, origins=origins)
        demo.run()
    return demo.root


@pytest.fixture
def lake(template, settings, monkeypatch, tmp_path) -> Client:
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(template, settings.root)
    return open_lakehouse(settings=settings, declarations=(gold, features, level_model, scores))


def in_mlflow(lake: Client):
    registry = Registry.under(lake.settings.root / "mlflow")
    return load_mlflow().MlflowClient(registry.tracking_uri, registry.tracking_uri)


def answers(lake: Client) -> tuple[int | None, list[int]]:
    """The champion by `status`, and the versions with the alias by `models`."""
    (champion,) = lake.status()["champions"]
    return champion["champion"], [row["version"] for row in lake.models.list() if "champion" in row["aliases"]]


def last_decision(lake: Client) -> dict:
    return lake.status()["champions"][0]["last_decision"]


def test_status_and_models_agree_with_an_alias_that_was_set_by_hand(lake):
    assert answers(lake) == (1, [1])
    assert lake.pending() == {}
    in_mlflow(lake).set_registered_model_alias(MODEL, "champion", "2")
    assert answers(lake) == (2, [2])
    assert lake.pending() == {PREDICTIONS: f"{MODEL} has changed"}
    decision = last_decision(lake)
    assert (decision["version"], decision["decision"]) == (2, "promoted by hand in MLflow")
    assert "The alias champion was given to version 2 instead of version 1 in MLflow" in " ".join(decision["reasons"])


def test_models_notices_it_first_and_nobody_twice(lake):
    in_mlflow(lake).set_registered_model_alias(MODEL, "champion", "2")
    assert [row["aliases"] for row in lake.models.list()] == [["champion"], ["previous"]]
    answers(lake)
    assert lake.table(MODEL).count() == 3


def test_a_champion_that_was_taken_away_is_retired_and_that_is_said(lake):
    in_mlflow(lake).delete_registered_model_alias(MODEL, "champion")
    assert answers(lake) == (None, [])
    assert last_decision(lake)["decision"] == "retired by hand in MLflow"


@pytest.mark.parametrize("selection", [(MODEL, PREDICTIONS), (PREDICTIONS,)], ids=["with its model", "alone"])
def test_a_run_scores_with_a_champion_that_was_set_by_hand(lake, selection):
    in_mlflow(lake).set_registered_model_alias(MODEL, "champion", "2")
    scored = lake.table(PREDICTIONS)
    assert 2 not in scored.scan().collect()["model_version"].to_list()
    outcome = lake.run(selection)
    assert not outcome.failed
    assert not outcome.skipped
    assert scored.scan().sort("scored_at").collect()["model_version"].to_list()[-1] == 2
    assert answers(lake) == (2, [2])


def test_a_promotion_by_hand_goes_through_the_ledger_and_a_rollback_undoes_it(lake):
    assert lake.models.promote(MODEL, 2, "tried on the new shop").champion == 2
    assert answers(lake) == (2, [2])
    assert last_decision(lake)["reasons"][0].endswith("tried on the new shop")
    assert lake.models.rollback(MODEL).champion == 1
    assert answers(lake) == (1, [1])
    with pytest.raises(LookupError, match="no version 7"):
        lake.models.promote(MODEL, 7, "a typo")

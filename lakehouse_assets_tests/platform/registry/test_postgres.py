"""The registry on a real PostgreSQL: trainings, aliases and decisions as on SQLite. One server for the module, on a socket of its own."""

from collections.abc import Iterator

import pytest

from lakehouse_assets.platform.registry.decisions import ModelDecisions
from lakehouse_assets.platform.registry.ledger import Verdict
from lakehouse_assets.platform.registry.registry import Aliases, NoSuchModelVersion, Registry
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.registry.example import MODEL, Linear, training
from lakehouse_assets_tests.postgres import postgres_server

NAME = "demo.daily_revenue"


@pytest.fixture(scope="module")
def postgres(tmp_path_factory) -> Iterator[str]:
    """The address of an empty database."""
    with postgres_server(tmp_path_factory.mktemp("pg"), "psycopg2") as address:
        yield address


@pytest.fixture(scope="module")
def registry(postgres, tmp_path_factory) -> Registry:
    return Registry(postgres, str(tmp_path_factory.mktemp("artifacts")))


def test_a_model_is_logged_once_found_again_and_read_back(registry):
    version = registry.log_training(training())
    assert (version.version, registry.log_training(training()).version) == (1, 1)
    assert registry.versions(NAME) == [version]
    assert Linear.load(registry.model_folder(version)) == MODEL
    assert registry.metrics(version)["wape"] == 0.35
    assert registry.model_names() == [NAME]
    with pytest.raises(NoSuchModelVersion, match="MLflow has no version 9"):
        registry.version(NAME, 9)


def test_aliases_follow_the_decisions_of_the_ledger(registry, tmp_path):
    first, second = (registry.log_training(training(fingerprint=name)).version for name in ("f1", "f2"))
    decisions = ModelDecisions(Lakehouse(str(tmp_path)).table("demo.models.daily_revenue"), NAME, registry, "run-1")
    decisions.create()
    for version in (first, second):
        state = decisions.sync()
        verdict = Verdict(decision="promoted", reasons=["Better."])
        assert decisions.record(state, verdict, version, aliases=state.aliases.promote(version))
    assert registry.aliases(NAME) == Aliases(champion=second, previous=first)
    assert decisions.rollback().champion == first
    registry._client().set_registered_model_alias(NAME, "champion", str(second))
    assert decisions.champion() == registry.version(NAME, second), "set by hand in MLflow"
    assert decisions.ledger.scan().sort("sequence").collect()["decision"].to_list()[-1] == "promoted by hand in MLflow"


def test_a_dataset_that_another_training_adds_at_the_same_moment_is_no_error(registry):
    """PostgreSQL's words for it are other ones than SQLite's."""
    from lakehouse_assets.platform.registry.mlflow_store import load_mlflow
    from lakehouse_assets.platform.registry.training_run import _DATASET_EXISTS

    run = registry._client().get_run(registry.log_training(training()).run_id)
    sql = load_mlflow("mlflow.store.tracking.sqlalchemy_store")
    store = registry._client()._tracking_client.store
    values = {"dataset_uuid": "u", "dataset_source_type": "delta_table", "dataset_source": "{}", "name": "t", "digest": "d"}

    def add() -> None:
        with store.ManagedSessionMaker(read_only=False) as session:
            session.add(sql.SqlDataset(experiment_id=int(run.info.experiment_id), **values))

    add()
    with pytest.raises(load_mlflow().exceptions.MlflowException) as caught:
        add()
    assert caught.value.error_code == "BAD_REQUEST"
    assert _DATASET_EXISTS.search(caught.value.message)

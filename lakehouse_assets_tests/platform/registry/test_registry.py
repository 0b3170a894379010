import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.registry.mlflow_store import load_mlflow
from lakehouse_assets.platform.registry.model_package import predictor_digest
from lakehouse_assets.platform.registry.registry import Aliases, NoSuchModelVersion
from lakehouse_assets.platform.registry.training_run import TrainingTable, _log_datasets
from lakehouse_assets_tests.platform.registry.example import MODEL, Linear, training

NAME = "demo.daily_revenue"
OTHER = replace(MODEL, slope=0.0)
REPOSITORY = Path(__file__).parents[3]


def client(registry):
    return load_mlflow().MlflowClient(registry.tracking_uri, registry.tracking_uri)


def test_a_model_that_was_never_registered_has_no_versions_and_no_aliases(registry):
    assert registry.versions(NAME) == []
    assert registry.aliases(NAME) == Aliases()
    registry.log_training(training())
    assert registry.aliases(NAME) == Aliases()


def test_a_version_names_what_made_it(registry):
    version = registry.log_training(training())
    assert version == registry.versions(NAME)[0]
    assert (version.model_name, version.version, version.aliases) == (NAME, 1, ())
    assert version.tables == {"sales.gold.daily_revenue": 0, "demo.features.daily": 3}
    assert version.tags == {
        "training_fingerprint": "f1",
        "model_digest": predictor_digest(MODEL),
        "recipe": "r1",
        "candidate": "model",
        "code_version": "c1",
        "seed": "7",
        "environment": "e1",
        "training_tables": json.dumps({"demo.features.daily": 3, "sales.gold.daily_revenue": 0}),
        "training_table_digests": json.dumps({"demo.features.daily": "abc", "sales.gold.daily_revenue": "d" * 36}),
        "feature_versions": json.dumps({"demo.features.daily": {"meaning": 77, "number": 2}}),
    }


def test_the_run_and_its_logged_model_lead_to_the_version(registry):
    version = registry.log_training(training())
    (output,) = client(registry).get_run(version.run_id).outputs.model_outputs
    logged_model = client(registry).get_logged_model(output.model_id)
    assert json.loads(logged_model.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": 1}]
    assert {metric.key: metric.value for metric in logged_model.metrics}["wape"] == 0.35


def test_the_model_is_read_back_from_its_folder(registry):
    version = registry.log_training(training())
    assert Linear.load(registry.model_folder(version)) == MODEL


def test_the_run_keeps_scores_parameters_and_files(registry):
    version = registry.log_training(training())
    run = client(registry).get_run(version.run_id)

    assert registry.metrics(version) == {
        "wape": 0.35,
        "group/wape/85": 0.3,
        "group/bias/85": 0.1,
        "group/wape/a_b _ c": 0.4,
        "horizon/wape": 0.3,
    }
    curve = client(registry).get_metric_history(version.run_id, "horizon/wape")
    assert sorted((point.step, point.value) for point in curve) == [(1, 0.1), (2, 0.2), (28, 0.3)]
    assert len(run.data.params) == 152
    assert run.data.params["objective"] == "quantile"
    assert run.info.status == "FINISHED"
    folder = registry.run_folder(version)
    assert (folder / "plots" / "forecast.png").read_bytes() == b"\x89PNG"
    assert pl.read_csv(folder / "breakdowns" / "horizon.csv").equals(training().breakdowns["horizon"])


def test_a_breakdown_by_group_and_horizon_is_a_curve_a_group(registry):
    frame = pl.DataFrame({"group": ["85", "85", "other"], "horizon": [1, 2, 1], "wape": [0.1, 0.2, 0.3]})
    version = registry.log_training(training(breakdowns={"group_horizon": frame}))
    curve = client(registry).get_metric_history(version.run_id, "group_horizon/wape/85")
    assert sorted((point.step, point.value) for point in curve) == [(1, 0.1), (2, 0.2)]


def test_scores_that_are_no_number_are_left_out(registry):
    frame = pl.DataFrame({"group": ["85", "none", "nan"], "wape": [0.3, float("inf"), float("nan")]})
    version = registry.log_training(training(metrics={"wape": 0.35, "bias": float("nan")}, breakdowns={"group": frame}))
    assert registry.metrics(version) == {"wape": 0.35, "group/wape/85": 0.3}


def test_a_breakdown_with_two_steps_is_refused(registry):
    frame = pl.DataFrame({"group": [85], "horizon": [1], "wape": [0.1]})
    with pytest.raises(ValueError, match=r"'by_group' has the integer columns \['group', 'horizon'\]"):
        registry.log_training(training(breakdowns={"by_group": frame}))


def test_datasets_keep_their_version_also_version_0(registry):
    version = registry.log_training(training())
    inputs = client(registry).get_run(version.run_id).inputs.dataset_inputs
    sources = {item.dataset.name: load_mlflow("mlflow.data").get_source(item) for item in inputs}
    assert {name: (source.path, source.delta_table_version) for name, source in sources.items()} == {
        "sales.gold.daily_revenue": ("/tables/daily_revenue", 0),
        "demo.features.daily": ("/tables/daily", 3),
    }


def test_trainings_that_log_the_same_dataset_at_once_all_do(registry):
    version = registry.log_training(training())
    mlflow_client = client(registry)
    runs = [mlflow_client.create_run(mlflow_client.get_run(version.run_id).info.experiment_id).info.run_id for _ in range(4)]
    together = Barrier(len(runs))

    def log(run_id: str) -> None:
        for number in range(10):
            table = TrainingTable(name="t", version=number, uri="/t", digest=f"digest {number}", rows=1)
            together.wait(timeout=60)
            _log_datasets(mlflow_client, run_id, [table])

    with ThreadPoolExecutor(len(runs)) as threads:
        list(threads.map(log, runs))
    assert [len(mlflow_client.get_run(run_id).inputs.dataset_inputs) for run_id in runs] == [10] * 4


class Refusing:
    """A client of MLflow that refuses datasets so many times."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times, self.calls = error, times, 0

    def log_inputs(self, run_id: str, datasets: list) -> None:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error


@pytest.fixture
def lost_race(registry):
    """What MLflow's own store says to the second one that adds a dataset."""
    experiment = client(registry).get_run(registry.log_training(training()).run_id).info.experiment_id
    keep = load_mlflow("mlflow.store.tracking.sqlalchemy_store")
    store = client(registry)._tracking_client.store

    def add() -> None:
        values = {"dataset_uuid": "u", "dataset_source_type": "delta_table", "dataset_source": "{}"}
        with store.ManagedSessionMaker(read_only=False) as session:
            session.add(keep.SqlDataset(experiment_id=int(experiment), name="t", digest="d", **values))

    add()
    with pytest.raises(load_mlflow().exceptions.MlflowException) as caught:
        add()
    assert type(caught.value.__cause__).__name__ == "IntegrityError"
    return caught.value


@pytest.mark.parametrize("through_a_server", [False, True])
def test_a_dataset_that_another_training_adds_at_the_same_moment_is_tried_five_times_again(lost_race, through_a_server):
    error = load_mlflow().exceptions.RestException(json.loads(lost_race.serialize_as_json())) if through_a_server else lost_race
    slow = Refusing(error, 5)
    _log_datasets(slow, "run", [])
    assert slow.calls == 6
    never = Refusing(error, 7)
    with pytest.raises(type(error)):
        _log_datasets(never, "run", [])
    assert never.calls == 6


@pytest.mark.parametrize("code", ["BAD_REQUEST", "TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR"])
def test_another_error_of_mlflow_is_raised_at_once(code):
    exceptions = load_mlflow().exceptions
    error = exceptions.RestException({"error_code": code, "message": "(sqlite3.IntegrityError) NOT NULL constraint failed: datasets.name"})
    refusing = Refusing(error, 1)
    with pytest.raises(exceptions.MlflowException, match="NOT NULL"):
        _log_datasets(refusing, "run", [])
    assert refusing.calls == 1


def test_mlflows_own_source_still_drops_version_0():
    """When this fails, `_log_datasets` can use MLflow's source."""
    source = load_mlflow("mlflow.data.delta_dataset_source").DeltaDatasetSource(path="/tables/daily", delta_table_version=0)
    assert "delta_table_version" not in source.to_dict()


def test_a_digest_that_mlflow_would_refuse_is_refused_early():
    with pytest.raises(ValueError, match="the digest of t has 37 characters, MLflow keeps 36"):
        TrainingTable(name="t", version=0, uri="/t", digest="d" * 37, rows=1)


def test_a_training_that_is_repeated_is_registered_once(registry):
    first = registry.log_training(training())
    assert registry.log_training(training()) == first
    digest = predictor_digest(MODEL)
    assert registry.find_version(NAME, {"training_fingerprint": "f1", "model_digest": digest}) == first
    assert registry.find_version(NAME, {"training_fingerprint": "f2"}) is None
    assert [registry.log_training(training(**change)).version for change in ({"fingerprint": "f2"}, {"predictor": OTHER})] == [2, 3]
    assert [version.version for version in registry.versions(NAME)] == [3, 2, 1]


class Unknown(Linear):
    """A predictor whose word is not in the list."""

    word = "test_unknown"


def test_a_model_that_cannot_be_read_back_is_not_registered(registry):
    with pytest.raises(LookupError, match=r"the kind 'test_unknown', which this release does not know. Known: .*test_linear"):
        registry.log_training(training(predictor=Unknown(MODEL.weights, 1.0)))
    experiment = client(registry).get_experiment_by_name(NAME)
    assert [run.info.status for run in client(registry).search_runs([experiment.experiment_id])] == ["FAILED"]
    assert registry.versions(NAME) == []


def test_two_registries_in_one_process_do_not_mix(new_registry, tmp_path, monkeypatch):
    working_directory = tmp_path / "elsewhere"
    working_directory.mkdir()
    monkeypatch.chdir(working_directory)
    mlflow = load_mlflow()
    address = mlflow.get_tracking_uri()
    one, two = new_registry("one"), new_registry("two")
    for fingerprint in ("f1", "f2"):
        version = one.log_training(training(fingerprint=fingerprint))
    one.set_aliases(NAME, Aliases(champion=version.version))
    two.set_aliases(NAME, Aliases(champion=two.log_training(training(predictor=OTHER)).version))

    assert (one.aliases(NAME).champion, two.aliases(NAME).champion) == (2, 1)
    for registry in (one, two):
        root = Path(registry.artifact_root).parent
        champion = registry.version(NAME, registry.aliases(NAME).champion)
        assert registry.model_folder(champion).is_relative_to(root)
        assert registry.run_folder(champion).is_relative_to(root)
    assert Linear.load(two.model_folder(two.version(NAME, two.aliases(NAME).champion))).slope == 0.0
    # Nothing was left in the process or in its working directory.
    assert mlflow.get_tracking_uri() == address
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert mlflow.active_run() is None
    assert list(working_directory.iterdir()) == []


def test_requirements_are_pinned_to_what_is_installed(registry):
    version = registry.log_training(training())
    requirements = (Path(version.source) / "requirements.txt").read_text(encoding="utf-8").split()
    assert f"polars=={pl.__version__}" in requirements
    assert all("==" in requirement for requirement in requirements)


# --- aliases


@pytest.fixture
def three(registry):
    """A registry with three versions."""
    for number in range(3):
        registry.log_training(training(fingerprint=f"f{number}"))
    return registry


def test_a_version_is_read_by_its_number(three):
    assert three.version(NAME, 2) == three.versions(NAME)[1]
    client(three).set_registered_model_alias(NAME, "champion", "2")
    assert three.version(NAME, 2).aliases == ("champion",)


def test_a_version_that_does_not_exist_is_answered_with_those_that_do(three):
    with pytest.raises(NoSuchModelVersion, match=r"MLflow has no version 7 of demo\.daily_revenue\. There are: 1, 2, 3"):
        three.version(NAME, 7)
    client(three).delete_model_version(NAME, "2")
    with pytest.raises(NoSuchModelVersion, match="There are: 1, 3"):
        three.version(NAME, 2)
    with pytest.raises(NoSuchModelVersion, match=r"no version of demo\.nothing at all, .* or nothing was trained"):
        three.version("demo.nothing", 1)


versions_or_none = st.one_of(st.none(), st.integers(1, 3))
any_aliases = st.builds(Aliases, champion=versions_or_none, previous=versions_or_none, challenger=versions_or_none)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_aliases, any_aliases)
def test_aliases_become_what_is_wanted_and_setting_them_is_idempotent(three, first, second):
    three.set_aliases(NAME, first)
    assert three.aliases(NAME) == first
    assert three.set_aliases(NAME, second) is (first != second)
    assert three.aliases(NAME) == second
    assert three.set_aliases(NAME, second) is False


def test_a_champion_that_mlflow_does_not_have_changes_no_alias(three):
    three.set_aliases(NAME, Aliases(champion=1))
    client(three).delete_model_version(NAME, "3")
    with pytest.raises(NoSuchModelVersion):
        three.set_aliases(NAME, Aliases(champion=3, previous=1))
    assert three.aliases(NAME) == Aliases(champion=1)


def test_another_alias_whose_version_is_gone_is_left_out(three):
    three.set_aliases(NAME, Aliases(champion=2, previous=1))
    client(three).delete_model_version(NAME, "3")
    assert three.set_aliases(NAME, Aliases(champion=1, previous=3))
    assert three.aliases(NAME) == Aliases(champion=1)
    assert not three.set_aliases(NAME, Aliases(champion=1, previous=3))


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(1, 3), st.sampled_from(["challenge 1", "challenge 2", "retire"])), max_size=8))
def test_the_champion_before_is_always_one_promotion_away(steps):
    now = Aliases()
    for step in steps:
        before = now
        if step == "retire":
            now = now.retire()
            assert now.champion is None
        elif isinstance(step, int):
            now = now.promote(step)
            assert now.champion == step
            assert now.promote(step) == now
        else:
            now = now.challenge(int(step[-1]))
            assert now.champion == before.champion
        if now.champion != before.champion and before.champion is not None:
            assert now.previous == before.champion
            assert now.promote(now.previous).champion == before.champion
        assert now.champion is None or now.champion not in {now.previous, now.challenger}


def test_mlflow_does_not_keep_by_whom_or_when_an_alias_was_set(three):
    """When this fails, a decision by hand in MLflow can name the person and the time."""
    before = three.version(NAME, 1), client(three).get_registered_model(NAME).last_updated_timestamp
    client(three).set_registered_model_alias(NAME, "champion", "1")
    model = client(three).get_registered_model(NAME)
    assert model.last_updated_timestamp == before[1]
    assert list(model.aliases) == ["champion"]
    assert replace(three.version(NAME, 1), aliases=()) == before[0]


def test_mlflow_deletes_the_aliases_of_a_version_with_it(three):
    client(three).set_registered_model_alias(NAME, "champion", "3")
    client(three).delete_model_version(NAME, "3")
    assert client(three).get_registered_model(NAME).aliases == {}

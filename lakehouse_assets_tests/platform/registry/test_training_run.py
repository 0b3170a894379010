"""What MLflow keeps of one training: nested trials, schemas of datasets, where the code came from."""

import json

import polars as pl
import pytest

from lakehouse_assets.platform.registry.mlflow_store import load_mlflow
from lakehouse_assets.platform.registry.training_run import TrainingTable
from lakehouse_assets_tests.platform.registry.example import training

TRIALS = pl.DataFrame(
    {
        "rank": [1, None, None],
        "trial": [4, 0, None],
        "candidate": ["boosting", "boosting", "mean"],
        "state": ["complete", "pruned", "baseline"],
        "loss": [0.5, 0.75, None],
        "parameters": ['{"rate": 0.1, "depth": 3}', '{"rate": 0.2}', "{}"],
        "weight": [1.0, 0.0, None],
    }
)


def client(registry):
    return load_mlflow().MlflowClient(registry.tracking_uri, registry.tracking_uri)


def test_the_trials_of_a_search_are_runs_below_that_of_the_training(registry):
    version = registry.log_training(training(trials=TRIALS))
    opened = client(registry)
    experiment = opened.get_run(version.run_id).info.experiment_id
    below = opened.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{version.run_id}'")
    found = {run.info.run_name: (run.info.status, dict(run.data.params), dict(run.data.metrics)) for run in below}
    assert found == {
        "trial 4": ("FINISHED", {"candidate": "boosting", "rate": "0.1", "depth": "3"}, {"loss": 0.5}),
        "trial 0": ("KILLED", {"candidate": "boosting", "rate": "0.2"}, {"loss": 0.75}),
        "mean": ("FINISHED", {"candidate": "mean"}, {}),
    }
    assert registry.metrics(version)["wape"] == 0.35, "the training's own scores are not those of a trial"


def test_a_dataset_has_its_columns(registry):
    columns = {"day": "Date", "net": "Float64"}
    table = TrainingTable(name="sales.gold.daily_revenue", version=0, uri="/t", digest="d", rows=10, columns=columns)
    version = registry.log_training(training(tables=[table]))
    (item,) = client(registry).get_run(version.run_id).inputs.dataset_inputs
    assert json.loads(item.dataset.schema) == {"mlflow_colspec": [{"type": "Date", "name": "day"}, {"type": "Float64", "name": "net"}]}
    assert json.loads(item.dataset.profile) == {"num_rows": 10, "delta_table_version": 0}


def test_a_table_of_a_thousand_columns_can_be_a_dataset(registry):
    """MLflow keeps a schema of a limited length: a wide table must not fail a training."""
    columns = {f"a_column_with_a_long_name_{number}": "Datetime(time_unit='us', time_zone='UTC')" for number in range(1_000)}
    table = TrainingTable(name="wide", version=0, uri="/t", digest="d", rows=10, columns=columns)
    version = registry.log_training(training(tables=[table]))
    (item,) = client(registry).get_run(version.run_id).inputs.dataset_inputs
    assert json.loads(item.dataset.schema)["mlflow_colspec"]


@pytest.mark.parametrize("commit", ["", "0" * 40, f"{'0' * 40}-dirty"])
def test_run_and_version_name_the_git_revision_where_there_is_one(registry, commit):
    version = registry.log_training(training(commit=commit, user="ada", asset="demo.models.daily"))
    tags = client(registry).get_run(version.run_id).data.tags
    assert version.tags.get("mlflow.source.git.commit", "") == tags.get("mlflow.source.git.commit", "") == commit
    assert (tags["mlflow.source.name"], tags["mlflow.source.type"], version.tags["trained_by"]) == ("demo.models.daily", "JOB", "ada")


def test_a_training_that_breaks_off_leaves_a_failed_run_and_no_version(registry):
    with pytest.raises(ValueError, match="integer columns"):
        registry.log_training(training(breakdowns={"x": pl.DataFrame({"a": [1], "b": [2], "s": [0.1]})}))
    assert registry.versions("demo.daily_revenue") == []
    again = registry.log_training(training())
    assert again.version == 1


def test_a_parameter_of_any_length_is_kept_or_cut(registry):
    """MLflow refuses values above 6,000 characters: a learner with a long list of columns must still be logged."""
    version = registry.log_training(training(parameters={"columns": tuple(f"column_{number}" for number in range(2_000))}))
    kept = client(registry).get_run(version.run_id).data.params["columns"]
    assert kept.startswith("('column_0', 'column_1'")
    assert len(kept) <= 6_000


def test_values_of_any_text_can_name_a_score_or_a_parameter(registry):
    """MLflow reads names as paths: empty parts, dots and long texts must not fail a training."""
    values = ["", ".", "..", "...", "/", "a/b", "  ", "é", "x" * 400, "y" * 249 + "/z", None, "plain"]
    shops = pl.DataFrame({"shop": values, "WAPE": [float(number) for number in range(len(values))]})
    odd = dict.fromkeys(["", "a//b", "..", "x" * 300], 1.0)
    version = registry.log_training(training(breakdowns={"by_shop": shops}, metrics=odd, parameters=dict(odd)))
    data = client(registry).get_run(version.run_id).data
    assert (data.metrics["by_shop/WAPE/_empty_"], data.metrics["by_shop/WAPE/__"], data.metrics["by_shop/WAPE/plain"]) == (0, 2, 11)
    of_shops = [value for name, value in data.metrics.items() if name.startswith("by_shop/WAPE/")]
    assert sorted(of_shops) == list(range(len(values))), "each value has a name of its own"
    assert {*odd.values()} <= {*data.metrics.values()}
    assert len(data.params) == len(odd)

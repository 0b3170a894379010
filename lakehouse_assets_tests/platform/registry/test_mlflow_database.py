"""What is read from MLflow's database is what MLflow's own client says."""

import math

from lakehouse_assets.platform.registry.mlflow_database import MlflowDatabase
from lakehouse_assets.platform.registry.registry import Aliases
from lakehouse_assets_tests.platform.registry.example import training

NAME = "demo.daily_revenue"


def test_versions_aliases_tags_and_metrics_are_those_of_the_client(registry):
    for fingerprint in ("f1", "f2", "f3"):
        registry.log_training(training(fingerprint=fingerprint, metrics={"wape": 0.35, "one-day": math.nan}))
    registry.set_aliases(NAME, Aliases(champion=1, previous=3))
    client = registry._client()
    client.delete_model_version(NAME, "2")
    theirs = sorted(client.search_model_versions(f"name = '{NAME}'"), key=lambda version: -int(version.version))
    ours = registry.versions(NAME)
    assert [version.version for version in ours] == [int(version.version) for version in theirs] == [3, 1]
    for our, their in zip(ours, theirs, strict=True):
        whole = client.get_model_version(NAME, their.version)
        assert (our.run_id, our.source, dict(our.tags)) == (whole.run_id, whole.source, dict(whole.tags))
        assert sorted(our.aliases) == sorted(whole.aliases)
        assert round(our.created_at.timestamp() * 1000) == whole.creation_timestamp
        metrics = client.get_run(our.run_id).data.metrics
        assert registry.metrics(our).keys() == metrics.keys()
        assert all(registry.metrics(our)[name] == value or math.isnan(value) for name, value in metrics.items())
    assert registry.aliases(NAME) == Aliases(champion=1, previous=3)
    client.delete_model_version(NAME, "3")
    assert registry.aliases(NAME) == Aliases(champion=1)


def test_only_a_database_on_this_disk_is_read():
    assert MlflowDatabase.of("http://127.0.0.1:5000") is None
    assert MlflowDatabase.of("postgresql://host/db") is None

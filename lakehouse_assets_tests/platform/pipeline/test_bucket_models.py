"""A model, its ledger, its predictions and its way back, with everything but the database in a bucket."""

from pathlib import Path

import pytest

from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.orchestration.level import MODEL, PREDICTIONS, Demo


@pytest.fixture
def demo(bucket, tmp_path):
    class InBucket(Demo):
        @property
        def lakehouse(self) -> Lakehouse:
            return Lakehouse(f"{bucket}/tables")

        @property
        def registry(self) -> Registry:
            return Registry(f"sqlite:///{self.root}/mlflow/mlflow.db", f"{bucket}/mlflow/artifacts")

    return InBucket(Path(tmp_path))


def test_a_champion_scores_a_better_one_takes_over_and_it_is_taken_back(demo, bucket):
    demo.land(error=5.0)
    assert demo.run().promoted
    (first,) = demo.predicted()
    demo.land(error=1.0, origins=6)
    assert demo.run().promoted
    assert [version for version, _, _ in demo.predicted()] == [1, 2]
    assert demo.predicted()[0] == first
    assert demo.aliases() == {"champion": 2, "previous": 1}

    demo.step().rollback()
    demo.predict()
    assert demo.aliases() == {"champion": 1, "previous": 2}
    assert [version for version, _, _ in demo.predicted()] == [1, 2, 1]
    assert demo.run().champion == 1, "nothing to train: nothing changes"
    assert demo.registry.version(MODEL, demo.registry.aliases(MODEL).champion).source.startswith(f"{bucket}/mlflow/artifacts/")
    assert demo.lakehouse.table(PREDICTIONS).count() == len(demo.predicted())

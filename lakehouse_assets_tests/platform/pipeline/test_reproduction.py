"""A registered version is trained again from what it was made of, and the bytes are compared."""

from dataclasses import dataclass, replace

import polars as pl
import pytest

from lakehouse_assets.platform.pipeline.reproduction import NotReproducible, reproduce
from lakehouse_assets.platform.storage import evolution
from lakehouse_assets_tests.platform.orchestration.level import DAYS, FEATURES, GOLD, MODEL, Days, Level, features, level_model
from lakehouse_assets_tests.platform.pipeline.model_histories import beaten, client, promoted_twice, trained_well


def again(demo, version, asset=level_model):
    return reproduce(asset, demo.registry.version(MODEL, version), demo.lakehouse, demo.registry)


def test_every_version_is_equal_to_the_byte_after_later_commits_and_nothing_is_registered(demo):
    promoted_twice(demo)
    before = demo.registry.versions(MODEL), demo.ledger.version()
    for version in (1, 2):
        found = again(demo, version)
        assert (found.equal, found.differences, found.version) == (True, (), version)
        assert found.files == {"level.json": "equal", "predictor.json": "equal"}
        assert found.tables == {DAYS: version, GOLD: version, FEATURES: version}
    assert before == (demo.registry.versions(MODEL), demo.ledger.version())


def test_a_baseline_is_reproduced_too(demo):
    beaten(demo)
    assert again(demo, 2).equal
    with pytest.raises(NotReproducible, match=r"is the baseline naive, which demo\.models\.level lacks now"):
        again(demo, 2, replace(level_model, baselines={}))


def test_another_recipe_is_said_to_be_the_reason(demo):
    trained_well(demo)
    found = again(demo, 1, replace(level_model, learner=Level("forecast", 0.9)))
    assert (found.equal, found.files) == (False, {"level.json": "differs", "predictor.json": "equal"})
    differing = [said.partition(" is another")[0] for said in found.differences]
    assert "The recipe" in differing
    assert "The code" not in differing
    assert "The recipe is another: learner.share 1.0 then, 0.9 now." in found.differences


def test_another_version_of_a_package_is_named(demo, monkeypatch):
    trained_well(demo)
    from lakehouse_assets.platform.pipeline import model_identity

    real = model_identity.version
    monkeypatch.setattr(model_identity, "version", lambda name: "99.0" if name == "polars" else real(name))
    found = again(demo, 1)
    assert (found.equal, found.differences) == (True, (f"polars=={pl.__version__} then, polars==99.0 now.",))


@pytest.mark.parametrize(
    ("then", "said"),
    [
        (["numpy==1.0", "polars=={polars}"], ("numpy==1.0 then, no numpy now.",)),
        ([], ("no polars then, polars=={polars} now.",)),
    ],
)
def test_packages_are_compared_by_their_names(demo, then, said):
    trained_well(demo)
    version = demo.registry.version(MODEL, 1)
    python = version.tags["environment"].partition(",")[0]
    environment = ", ".join([python, *then]).format(polars=pl.__version__)
    found = reproduce(level_model, replace(version, tags={**version.tags, "environment": environment}), demo.lakehouse, demo.registry)
    assert found.differences == tuple(one.format(polars=pl.__version__) for one in said)


def test_a_table_that_was_dropped_and_made_again_is_another_one(demo):
    trained_well(demo)
    evolution.drop(*(demo.lakehouse.table(name) for name in features.outputs()))
    demo.land(error=3.0)
    demo.work_out_features()
    with pytest.raises(NotReproducible, match=rf"because these tables are others now, dropped and made again since: {FEATURES}"):
        again(demo, 1)


def test_a_version_of_a_table_that_is_gone_is_named(demo):
    promoted_twice(demo)
    table = demo.lakehouse.table(FEATURES)
    table.delta().vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(NotReproducible, match=rf"cannot be trained again, because these are gone: {FEATURES} at version 1"):
        again(demo, 1)
    assert again(demo, 2).equal


def test_a_version_that_somebody_else_registered_is_not_reproducible(demo):
    trained_well(demo)
    theirs = client(demo).create_model_version(MODEL, source=str(demo.root / "nowhere"))
    with pytest.raises(NotReproducible, match="was registered by other means"):
        again(demo, int(theirs.version))


@dataclass(frozen=True)
class MoreDays(Days):
    """They are made of one table more."""

    def sources(self) -> tuple[str, ...]:
        return (FEATURES, "demo.gold.more")


def test_a_table_that_it_was_not_trained_on_is_named_with_the_code_to_check_out(demo):
    trained_well(demo)
    with pytest.raises(NotReproducible, match=r"was not trained on demo\.gold\.more, .*: check out the code that trained it"):
        again(demo, 1, replace(level_model, examples=MoreDays()))

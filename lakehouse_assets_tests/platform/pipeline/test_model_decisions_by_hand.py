"""Rollback, promotion by hand and changes of the champion alias in MLflow: each is a decision of the ledger, once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.tables import FunctionError
from lakehouse_assets.platform.pipeline.champions import sync_aliases
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets_tests.mlflow_connections import forget_connections
from lakehouse_assets_tests.platform.orchestration.level import MODEL, level_model
from lakehouse_assets_tests.platform.pipeline.model_histories import (
    Unreachable,
    beaten,
    client,
    crash,
    decisions,
    promoted_twice,
    set_champion_by_hand,
    trained_badly,
    trained_well,
)


def test_a_rollback_is_recorded_and_scored_once_and_undone_by_another(demo):
    promoted_twice(demo)
    change = demo.step().rollback()
    assert (change.champion, change.champion_before) == (1, 2)
    assert decisions(demo)[-1] == (1, "rolled back", 2)
    assert demo.decisions()[-1]["reasons"] == "Version 2 was rolled back to version 1 by hand."
    assert demo.aliases() == {"champion": 1, "previous": 2}

    assert demo.run().champion == 1
    assert [(version, at) for version, _, at in demo.predicted()] == [(1, 1), (2, 2), (1, 2)]
    assert demo.predict().batches == 0
    assert len(demo.registry.versions(MODEL)) == 2

    demo.step().rollback()
    assert decisions(demo)[-1] == (2, "rolled back", 1)
    assert demo.aliases() == {"champion": 2, "previous": 1}


def test_without_a_previous_champion_there_is_no_rollback(demo):
    trained_well(demo)
    with pytest.raises(LookupError, match=r"demo\.models\.level has no previous champion to go back to"):
        demo.step().rollback()
    assert decisions(demo) == [(1, "promoted", None)]


def test_a_champion_that_was_set_by_hand_in_mlflow_is_recorded_once_and_scores(demo):
    promoted_twice(demo)
    set_champion_by_hand(demo, 1)
    for _ in range(2):
        result = demo.run()
        assert (result.promoted, result.version, result.champion) == (True, 1, 1)
        assert result.reasons == (
            "The alias champion was given to version 1 instead of version 2 in MLflow, which does not keep by whom or when.",
        )
    assert decisions(demo)[2:] == [(1, "promoted by hand in MLflow", 2)]
    assert demo.aliases() == {"champion": 1, "previous": 2}
    assert [version for version, *_ in demo.predicted()] == [1, 2, 1]
    demo.land(error=3.0, origins=7)
    assert demo.run().champion == 3
    assert decisions(demo)[-1] == (3, "promoted", 1)


def test_a_model_that_the_gate_kept_out_scores_once_somebody_made_it_champion_in_mlflow(demo):
    beaten(demo)
    assert [version for version, *_ in demo.predicted()] == [2], "the baseline predicts"
    set_champion_by_hand(demo, 1)
    demo.predict()  # as when only the predictions are asked for
    assert [version for version, *_ in demo.predicted()] == [2, 1]
    assert decisions(demo)[1:] == [(1, "kept as challenger", 2), (1, "promoted by hand in MLflow", 2)]
    assert demo.aliases() == {"champion": 1, "previous": 2}


def test_a_champion_set_by_hand_is_changed_back_by_hand_and_by_rollback(demo):
    promoted_twice(demo)
    for version in (1, 2, 1):
        set_champion_by_hand(demo, version)
        assert demo.run().champion == version
    assert demo.step().rollback().champion == 2
    assert [entry[:2] for entry in decisions(demo)[2:]] == [
        *((version, "promoted by hand in MLflow") for version in (1, 2, 1)),
        (2, "rolled back"),
    ]


def test_a_champion_alias_that_was_removed_in_mlflow_retires_the_champion_until_a_rollback(demo):
    promoted_twice(demo)
    scored = demo.predicted()
    client(demo).delete_registered_model_alias(MODEL, "champion")
    for _ in range(2):
        result = demo.run()
        assert (result.promoted, result.champion) == (False, None)
        assert result.reasons[0].startswith("In MLflow the alias champion was taken from version 2")
    assert decisions(demo)[2:] == [(2, "retired by hand in MLflow", 2)]
    assert demo.aliases() == {"previous": 2}
    demo.land(error=2.0, origins=7)
    demo.work_out_features()
    demo.predict()
    assert demo.predicted() == scored, "nothing is scored without a champion"

    assert demo.step().rollback().champion == 2
    demo.predict()
    assert [version for version, *_ in demo.predicted()] == [1, 2, 2]
    assert demo.aliases() == {"champion": 2}


def test_a_champion_that_was_deleted_from_mlflow_is_retired(demo):
    promoted_twice(demo)
    client(demo).delete_model_version(MODEL, "2")
    assert demo.run().champion is None
    assert decisions(demo)[2:] == [(2, "retired by hand in MLflow", 2)]
    with pytest.raises(LookupError, match=r"MLflow has no version 2 of demo\.models\.level\. There are: 1"):
        demo.step().rollback()
    assert demo.step().promote(1, "The other one is gone.").champion == 1
    assert demo.run().champion == 1
    assert demo.aliases() == {"champion": 1}


def test_a_version_that_somebody_else_registered_is_recorded_and_refused_with_a_reason(demo):
    promoted_twice(demo)
    theirs = client(demo).create_model_version(MODEL, source=str(demo.root / "nowhere"))
    set_champion_by_hand(demo, int(theirs.version))
    assert demo.step().run().champion == 3
    entry = demo.decisions()[-1]
    assert (entry["decision"], entry["training_tables"], entry["seed"]) == ("promoted by hand in MLflow", None, None)
    with pytest.raises(FunctionError, match=r"version 3 of demo\.models\.level holds no model that can be loaded here"):
        demo.predict()
    demo.land(error=1.0, origins=6)
    # Nothing is known of it that a challenger could be compared with, so it stays until a person decides.
    assert demo.step().run().champion == 3
    demo.step().promote(2, "It can be loaded.")
    demo.predict()


def test_a_champion_set_by_hand_after_a_crash_stays(demo):
    promoted_twice(demo)
    demo.land(error=1.0)
    crash(demo, Unreachable)
    set_champion_by_hand(demo, 1)
    assert demo.run().champion == 1
    assert decisions(demo)[2:] == [(3, "promoted", 2), (1, "promoted by hand in MLflow", 3)]
    assert demo.aliases() == {"champion": 1, "previous": 3}


def test_a_version_is_promoted_by_hand_with_a_reason_and_only_once(demo):
    promoted_twice(demo)
    change = demo.step().promote(1, "Sales found it more plausible.")
    assert (change.champion, change.champion_before, change.changed) == (1, 2, True)
    assert not demo.step().promote(1, "Again.").changed
    assert decisions(demo)[2:] == [(1, "promoted by hand", 2)]
    assert demo.decisions()[-1]["reasons"] == "Sales found it more plausible."
    assert demo.aliases() == {"champion": 1, "previous": 2}
    demo.run()
    assert [version for version, *_ in demo.predicted()] == [1, 2, 1]


def test_a_promotion_by_hand_needs_a_version_that_exists_and_a_reason(demo):
    promoted_twice(demo)
    with pytest.raises(LookupError, match=r"MLflow has no version 9 of demo\.models\.level\. There are: 1, 2"):
        demo.step().promote(9, "Why not.")
    with pytest.raises(ValueError, match=r"say why version 1 of demo\.models\.level becomes champion"):
        demo.step().promote(1, " ")
    assert len(decisions(demo)) == 2


def test_another_decision_in_the_middle_of_one_makes_it_decide_again(demo):
    promoted_twice(demo)

    class Slow(Registry):
        """Another process decides while this one reads the version that it is going to write about."""

        meanwhile = staticmethod(lambda: demo.step().promote(1, "I was faster."))

        def version(self, model_name, number):
            meanwhile, Slow.meanwhile = Slow.meanwhile, staticmethod(lambda: None)
            meanwhile()
            return super().version(model_name, number)

    # The rollback meant version 1, and the other decision made it champion: it is not undone.
    change = demo.step(registry=Slow.under(demo.root / "mlflow")).rollback()
    assert change.champion == 1
    assert decisions(demo)[2:] == [(1, "promoted by hand", 2)]
    assert demo.aliases() == {"champion": 1, "previous": 2}


def test_a_rollback_after_a_crash_starts_from_what_was_decided(demo):
    trained_badly(demo)
    demo.land(error=2.0)
    crash(demo, Unreachable)
    assert demo.step().rollback().champion_before == 2
    assert decisions(demo) == [(1, "promoted", None), (2, "promoted", 1), (1, "rolled back", 2)]
    assert demo.aliases() == {"champion": 1, "previous": 2}


def test_a_rollback_counts_after_the_clock_stepped_back(demo, monkeypatch):
    promoted_twice(demo)
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) - timedelta(days=400))
    assert demo.step().rollback().champion == 1
    assert (demo.run().champion, demo.aliases()) == (1, {"champion": 1, "previous": 2})
    assert demo.step().rollback().champion == 2
    assert (demo.run().champion, demo.aliases()) == (2, {"champion": 2, "previous": 1})


@pytest.mark.parametrize("how", ["its database is not there", "another database", "deleted"])
def test_where_mlflow_has_nothing_of_a_model_the_champion_stays_until_it_is_given_up(demo, how):
    promoted_twice(demo)
    known = decisions(demo)
    database = Path(demo.registry.tracking_uri.removeprefix("sqlite:///"))
    aside = database.parent.with_name("aside")
    if how == "deleted":
        client(demo).delete_registered_model(MODEL)
    else:
        database.parent.rename(aside)
        forget_connections()
        if how == "another database":
            demo.registry.prepare()
    demo.land(error=2.0, origins=7)
    demo.work_out_features()
    with pytest.raises(LookupError, match=r"no version of demo\.models\.level at all, and version 2 is needed: .* --force"):
        demo.run()
    sync_aliases(demo.lakehouse, level_model, lambda: demo.registry, "polled")
    assert decisions(demo) == known
    if how == "its database is not there":
        assert not database.exists()  # nothing was begun in its place
        aside.rename(database.parent)
        assert demo.run().version == 3
        assert decisions(demo)[:2] == known
        return
    demo.run(retrain=True)
    assert decisions(demo)[2] == (2, "retired by hand in MLflow", 2)
    assert len(decisions(demo)) > 3

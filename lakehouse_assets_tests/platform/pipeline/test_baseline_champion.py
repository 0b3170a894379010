"""While no model has passed, the best baseline is champion, so there are predictions at once; a model is never replaced by one."""

from dataclasses import replace

import pytest

from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.orchestration.level import MODEL, PREDICTIONS, Level, level_model
from lakehouse_assets_tests.platform.pipeline.model_histories import beaten, decisions, die, history, set_champion_by_hand, trained_well


def test_the_best_baseline_predicts_until_a_model_passes(demo):
    demo.land(error=30.0)
    trained = demo.run()
    assert (trained.promoted, trained.version, trained.champion) == (False, 1, 2)
    assert "Refused: it is not better than the baseline naive." in trained.reasons
    assert decisions(demo) == [(2, "promoted", None), (1, "kept as challenger", 2)]
    baseline, model = demo.decisions()
    assert (baseline["candidate"], model["candidate"]) == ("naive", "model")
    assert baseline["reasons"].startswith("No model has passed the gate yet. Until one does, the baseline naive predicts")
    assert demo.aliases() == {"champion": 2, "challenger": 1}
    assert [version for version, *_ in demo.predicted()] == [2]

    demo.land(error=2.0, origins=6)
    assert demo.run().champion == 3
    assert decisions(demo)[2:] == [(3, "promoted", 2)]
    assert demo.decisions()[-1]["question"] == "first", "a baseline is no model to refresh"
    assert demo.aliases() == {"champion": 3, "previous": 2, "challenger": 1}


def test_the_baseline_with_the_least_loss_is_taken_and_follows_the_data(demo):
    asset = replace(
        level_model, baselines={"naive": Level("naive_forecast"), "other": Level("forecast", 0.9)}, learner=Level("forecast", 2.0)
    )
    demo.land(error=12.0)
    demo.work_out_features()
    assert not demo.step(asset=asset).run().promoted
    assert [(entry["candidate"], entry["champion"]) for entry in demo.decisions()] == [("other", 2), ("model", 2)]
    demo.land(error=60.0, origins=6)
    demo.work_out_features()
    assert demo.step(asset=asset).run().champion == 4
    assert [entry["candidate"] for entry in demo.decisions()[2:]] == ["naive", "model"]


def test_a_baseline_that_is_the_same_to_the_byte_is_not_registered_or_promoted_again(demo):
    beaten(demo)
    demo.run(retrain=True)
    assert len(demo.registry.versions(MODEL)) == 2
    assert decisions(demo) == [(2, "promoted", None), (1, "kept as challenger", 2), (1, "kept as challenger", 2)]


@history
def beaten_twice(demo):
    """A newer baseline, version 4, took the place of the first, version 2."""
    beaten(demo)
    demo.land(error=60.0, origins=6)
    demo.run()


@pytest.mark.parametrize(
    "how", sweeps.of(["rolled back", "promoted by hand in MLflow"], ["rolled back", "promoted by hand", "promoted by hand in MLflow"])
)
def test_a_baseline_that_a_person_chose_is_not_replaced_by_another(demo, how):
    asset = replace(level_model, baselines={"naive": Level("naive_forecast"), "other": Level("forecast", 0.9)})
    beaten_twice(demo)
    assert [(entry["version"], entry["candidate"]) for entry in demo.decisions()][::2] == [(2, "naive"), (4, "naive")]
    by_hand = {
        "rolled back": demo.step().rollback,
        "promoted by hand": lambda: demo.step().promote(2, "It is better."),
        "promoted by hand in MLflow": lambda: set_champion_by_hand(demo, 2),
    }
    by_hand[how]()
    for error in (12.0, 30.0):
        demo.land(error=error, origins=7)
        demo.work_out_features()
        assert demo.step(asset=asset).run().champion == 2
    assert demo.step(asset=asset).run(retrain=True).champion == 2, "it was kept more than once"


def test_the_best_rule_of_one_column_is_never_champion_untested(demo):
    asset = replace(level_model, baselines={}, one_line_rule=True)
    demo.land(error=2.0, origins=1)
    demo.work_out_features()
    assert demo.step(asset=asset).run().champion is None
    naive = replace(asset, baselines={"naive": Level("naive_forecast")})
    assert demo.step(asset=naive).run(retrain=True).champion == 1
    assert demo.decisions()[-1]["candidate"] == "naive"


def test_a_model_that_is_refused_later_is_not_replaced_by_a_baseline(demo):
    trained_well(demo)
    demo.land(error=40.0, origins=6)
    assert demo.run().champion == 1
    assert demo.aliases() == {"champion": 1, "challenger": 2}


def test_with_too_little_history_for_a_test_the_first_baseline_predicts_and_the_reason_is_said(demo):
    demo.land(error=2.0, origins=1)
    trained = demo.run()
    assert (trained.promoted, trained.version, trained.champion) == (False, 1, 1)
    assert "no origin can be tested" in trained.reasons[0]
    assert trained.reasons[-1] == "Until then the baseline naive predicts. It was not tested."
    (entry,) = demo.decisions()
    assert (entry["candidate"], entry["decision"], entry["champion_before"]) == ("naive", "promoted", None)
    assert [version for version, *_ in demo.predicted()] == [1]

    again = demo.run()
    assert (again.promoted, again.champion, again.reasons) == (False, 1, trained.reasons), "nothing has moved"
    assert len(demo.decisions()) == 1

    demo.land(error=2.0)
    assert demo.run().champion == 2
    assert decisions(demo)[1:] == [(2, "promoted", 1)]


def test_a_champion_stays_while_newer_tables_have_too_little_history(demo):
    trained_well(demo)
    demo.land(error=2.0, origins=1)
    trained = demo.run()
    assert (trained.promoted, trained.champion) == (False, 1)
    assert decisions(demo) == [(1, "promoted", None)]


def test_without_a_row_nothing_predicts_and_that_is_said_once(demo, monkeypatch):
    demo.land(error=2.0, origins=0)
    trained = demo.run()
    assert (trained.promoted, trained.version, trained.champion) == (False, None, None)
    assert trained.reasons[-1] == "The baseline naive cannot predict either: There is no day to learn from. Land more days."
    assert demo.registry.versions(MODEL) == []
    assert demo.decisions() == demo.predicted() == []

    def never():
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(Level, "before", staticmethod(never))
        assert demo.step().run().version is None
    demo.land(error=2.0)
    assert demo.run().champion == 1


def test_a_model_without_a_baseline_waits_for_history(demo):
    asset = replace(level_model, baselines={})
    demo.land(error=2.0, origins=1)
    demo.work_out_features()
    trained = demo.step(asset=asset).run()
    assert (trained.version, trained.champion, len(trained.reasons)) == (None, None, 1)


@pytest.mark.parametrize("when", ["registered", "decided", "alias"])
def test_a_run_that_is_killed_while_a_baseline_becomes_champion_is_taken_up_by_the_next(demo, forks, when):
    demo.land(error=30.0)
    die(demo, forks, when)
    demo.run()
    assert decisions(demo) == [(2, "promoted", None), (1, "kept as challenger", 2)]
    assert demo.aliases() == {"champion": 2, "challenger": 1}
    assert len(demo.registry.versions(MODEL)) == 2
    assert [version for version, *_ in demo.predicted()] == [2]
    versions = demo.ledger.version(), demo.lakehouse.table(PREDICTIONS).version()
    demo.run()
    assert versions == (demo.ledger.version(), demo.lakehouse.table(PREDICTIONS).version())

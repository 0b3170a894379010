"""Trainings, rollbacks and decisions by hand that are killed in the middle, or happen at once: the next run ends what was decided."""

import pytest

from lakehouse_assets_tests.platform.orchestration import level
from lakehouse_assets_tests.platform.orchestration.level import MODEL
from lakehouse_assets_tests.platform.pipeline.model_histories import (
    Silent,
    both,
    client,
    crash,
    decisions,
    die,
    promoted_twice,
    set_champion_by_hand,
    trained_badly,
)


@pytest.mark.parametrize("when", ["registered", "decided"])
def test_a_killed_run_is_taken_up_by_the_next(demo, forks, when):
    trained_badly(demo)
    demo.land(error=2.0, origins=6)
    die(demo, forks, when)
    assert len(demo.registry.versions(MODEL)) == 2
    assert demo.aliases() == {"champion": 1}
    assert len(demo.decisions()) == (1 if when == "registered" else 2)

    demo.predict()  # as when only the predictions are asked for
    trained = demo.run()
    assert (trained.promoted, trained.version, trained.champion) == (True, 2, 2)
    assert len(demo.registry.versions(MODEL)) == 2
    assert decisions(demo) == [(1, "promoted", None), (2, "promoted", 1)]
    assert demo.aliases() == {"champion": 2, "previous": 1}
    assert [(version, at) for version, _, at in demo.predicted()][-1] == (2, 2)

    versions = demo.ledger.version(), demo.lakehouse.table(level.PREDICTIONS).version()
    demo.run()
    assert versions == (demo.ledger.version(), demo.lakehouse.table(level.PREDICTIONS).version())


def test_a_run_that_was_killed_between_two_aliases_is_taken_up_by_the_next(demo, forks):
    trained_badly(demo)
    demo.land(error=2.0, origins=6)
    die(demo, forks, "alias")
    assert demo.aliases() == {"champion": 1, "previous": 1}
    assert (demo.run().champion, demo.aliases()) == (2, {"champion": 2, "previous": 1})
    assert decisions(demo) == [(1, "promoted", None), (2, "promoted", 1)]


@pytest.mark.parametrize("when", ["decided", "alias"])
def test_a_rollback_that_was_killed_ends_as_decided(demo, forks, when):
    promoted_twice(demo)
    die(demo, forks, when, "rollback")
    assert (demo.run().champion, demo.aliases()) == (1, {"champion": 1, "previous": 2})
    assert decisions(demo)[2:] == [(1, "rolled back", 2)]
    assert [version for version, *_ in demo.predicted()] == [1, 2, 1]


@pytest.mark.parametrize("when", ["decided", "alias"])
def test_an_alias_set_by_hand_is_recorded_once_although_who_noticed_it_was_killed(demo, forks, when):
    promoted_twice(demo)
    set_champion_by_hand(demo, 1)
    die(demo, forks, when, "sync")
    assert (demo.run().champion, demo.aliases()) == (1, {"champion": 1, "previous": 2})
    assert decisions(demo)[2:] == [(1, "promoted by hand in MLflow", 2)]


def test_an_alias_that_was_put_back_after_who_noticed_its_removal_was_killed_is_not_removed_again(demo, forks):
    promoted_twice(demo)
    client(demo).delete_registered_model_alias(MODEL, "champion")
    die(demo, forks, "decided", "sync")
    set_champion_by_hand(demo, 2)
    assert (demo.run().champion, demo.aliases()["champion"]) == (2, 2)
    assert decisions(demo)[2:] == [(2, "retired by hand in MLflow", 2), (2, "promoted by hand in MLflow", None)]


def test_an_alias_set_by_hand_is_recorded_once_although_many_notice_it_at_once(demo, forks):
    promoted_twice(demo)
    set_champion_by_hand(demo, 1)
    both(demo, forks, "never", "sync")
    assert decisions(demo)[2:] == [(1, "promoted by hand in MLflow", 2)]
    assert demo.aliases() == {"champion": 1, "previous": 2}


def test_a_crash_after_the_alias_was_set_changes_nothing_more(demo):
    demo.land(error=2.0)
    crash(demo, Silent)
    assert demo.aliases() == {"champion": 1}
    assert demo.run().champion == 1
    assert decisions(demo) == [(1, "promoted", None)]
    assert demo.aliases() == {"champion": 1}
    assert [version for version, *_ in demo.predicted()] == [1]
    version = demo.ledger.version()
    demo.run()
    assert demo.ledger.version() == version


def test_two_runs_at_once_decide_once(demo, forks):
    demo.land(error=2.0)
    done = both(demo, forks, "together")
    ((decided, decision, before),) = decisions(demo)
    assert (decision, before) == ("promoted", None)
    assert demo.aliases() == {"champion": decided}
    assert done == [{"version": decided, "champion": decided, "promoted": True}] * 2
    assert [version for version, *_ in demo.predicted()] == [decided]
    demo.run()
    assert len(demo.decisions()) == 1

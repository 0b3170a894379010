"""Trainings, rollbacks and decisions by hand that are killed in the middle, or happen at once: the next run ends what was decided."""

import json
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from lakehouse_assets_tests.platform.orchestration import level
from lakehouse_assets_tests.platform.orchestration.level import MODEL, Demo
from lakehouse_assets_tests.platform.pipeline.model_histories import Silent, client, crash, decisions, promoted_twice, set_champion_by_hand

PROJECT = Path(__file__).parents[3]


def start(demo: Demo, when: str, stack: ExitStack, what: str = "run") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", level.__name__, str(demo.root), when, what]
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT))
    stack.callback(process.kill)
    return process


def die(demo: Demo, when: str, what: str = "run") -> None:
    with ExitStack() as stack:
        process = start(demo, when, stack, what)
        _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors


@pytest.mark.parametrize("when", ["registered", "decided"])
def test_a_killed_run_is_taken_up_by_the_next(demo, when):
    demo.land(error=4.0)
    demo.run()
    demo.land(error=2.0, origins=6)
    die(demo, when)
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


def test_a_run_that_was_killed_between_two_aliases_is_taken_up_by_the_next(demo):
    demo.land(error=4.0)
    demo.run()
    demo.land(error=2.0, origins=6)
    die(demo, "alias")
    assert demo.aliases() == {"champion": 1, "previous": 1}
    assert (demo.run().champion, demo.aliases()) == (2, {"champion": 2, "previous": 1})
    assert decisions(demo) == [(1, "promoted", None), (2, "promoted", 1)]


@pytest.mark.parametrize("when", ["decided", "alias"])
def test_a_rollback_that_was_killed_ends_as_decided(demo, when):
    promoted_twice(demo)
    die(demo, when, "rollback")
    assert (demo.run().champion, demo.aliases()) == (1, {"champion": 1, "previous": 2})
    assert decisions(demo)[2:] == [(1, "rolled back", 2)]
    assert [version for version, *_ in demo.predicted()] == [1, 2, 1]


@pytest.mark.parametrize("when", ["decided", "alias"])
def test_an_alias_set_by_hand_is_recorded_once_although_who_noticed_it_was_killed(demo, when):
    promoted_twice(demo)
    set_champion_by_hand(demo, 1)
    die(demo, when, "sync")
    assert (demo.run().champion, demo.aliases()) == (1, {"champion": 1, "previous": 2})
    assert decisions(demo)[2:] == [(1, "promoted by hand in MLflow", 2)]


def test_an_alias_that_was_put_back_after_who_noticed_its_removal_was_killed_is_not_removed_again(demo):
    promoted_twice(demo)
    client(demo).delete_registered_model_alias(MODEL, "champion")
    die(demo, "decided", "sync")
    set_champion_by_hand(demo, 2)
    assert (demo.run().champion, demo.aliases()["champion"]) == (2, 2)
    assert decisions(demo)[2:] == [(2, "retired by hand in MLflow", 2), (2, "promoted by hand in MLflow", None)]


def test_an_alias_set_by_hand_is_recorded_once_although_many_notice_it_at_once(demo):
    promoted_twice(demo)
    set_champion_by_hand(demo, 1)
    with ExitStack() as stack:
        processes = [start(demo, "never", stack, "sync") for _ in range(3)]
        done = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 3, done
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


def test_two_runs_at_once_decide_once(demo):
    demo.land(error=2.0)
    with ExitStack() as stack:
        processes = [start(demo, "together", stack) for _ in range(2)]
        done = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], done
    ((decided, decision, before),) = decisions(demo)
    assert (decision, before) == ("promoted", None)
    assert demo.aliases() == {"champion": decided}
    assert [json.loads(said) for said, _ in done] == [{"version": decided, "champion": decided, "promoted": True}] * 2
    assert [version for version, *_ in demo.predicted()] == [decided]
    demo.run()
    assert len(demo.decisions()) == 1

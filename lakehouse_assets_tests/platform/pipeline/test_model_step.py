"""A model follows its features: trained once for each version of them, compared once, and the last decision is what is in use."""

import json
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.tables import FunctionError
from lakehouse_assets.platform.registry import decisions as decisions_room
from lakehouse_assets.platform.registry.mlflow_store import load_mlflow
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets_tests.platform.orchestration import level
from lakehouse_assets_tests.platform.orchestration.level import DAYS, FEATURES, GOLD, MODEL, SEED, Demo, level_model

PROJECT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A prepared store to copy: creating one takes more than a second."""
    folder = tmp_path_factory.mktemp("prepared")
    Registry.under(folder).prepare()
    return folder


@pytest.fixture
def demo(prepared, tmp_path) -> Demo:
    shutil.copytree(prepared, tmp_path / "mlflow")
    return Demo(tmp_path)


def client(demo: Demo):
    return load_mlflow().MlflowClient(demo.registry.tracking_uri, demo.registry.tracking_uri)


def set_champion_by_hand(demo: Demo, version: int) -> None:
    client(demo).set_registered_model_alias(MODEL, "champion", str(version))


class Unreachable(Registry):
    """A registry that is gone when an alias has to be changed."""

    def set_aliases(self, model_name, wanted):
        if self.aliases(model_name) != wanted:
            raise ConnectionError("MLflow does not answer")
        return False


class Silent(Registry):
    """A registry that is gone once an alias was changed."""

    def set_aliases(self, model_name, wanted):
        if super().set_aliases(model_name, wanted):
            raise ConnectionError("MLflow does not answer")
        return False


def crash(demo: Demo, registry: type[Registry]) -> None:
    """Decide, and get no further than this registry lets."""
    demo.work_out_features()
    with pytest.raises(ConnectionError):
        demo.step(registry=registry.under(demo.root / "mlflow")).run()


def decisions(demo: Demo) -> list[tuple[int, str, int | None]]:
    return [(entry["version"], entry["decision"], entry["champion_before"]) for entry in demo.decisions()]


# --- what made a version


def test_a_version_names_everything_that_made_it(demo):
    demo.land(error=9.0)
    demo.run()
    demo.land(error=2.0)
    demo.run()
    version = demo.registry.versions(MODEL)[0]
    assert version.tables == {name: demo.lakehouse.table(name).version() for name in (DAYS, GOLD, FEATURES)}
    assert version.tags["seed"] == str(SEED)
    assert f"polars=={pl.__version__}" in version.tags["environment"]
    older = demo.registry.versions(MODEL)[1]
    assert older.tables == {name: number - 1 for name, number in version.tables.items()}
    assert older.tags["code_version"] == version.tags["code_version"]
    assert older.tags["training_fingerprint"] != version.tags["training_fingerprint"]
    entry = demo.decisions()[-1]
    assert json.loads(entry["training_tables"]) == version.tables
    assert (entry["seed"], entry["code_version"], entry["environment"]) == (SEED, version.tags["code_version"], version.tags["environment"])


def test_the_run_keeps_the_scores_pictures_and_rows_of_the_test_and_when_it_began(demo):
    called_at = []

    def train(rows, seed):
        called_at.append(datetime.now(UTC).timestamp() * 1000)
        return level_model.train(rows, seed)

    demo.land(error=2.0)
    demo.work_out_features()
    trained = demo.step(asset=replace(level_model, train=train)).run()
    (version,) = demo.registry.versions(MODEL)
    assert demo.registry.metrics(version) == trained.metrics
    folder = demo.registry.run_folder(version)
    assert {name: (folder / f"{name}.png").read_bytes() for name in trained.plots} == trained.plots
    assert pl.read_parquet(folder / "backtest.parquet").height == 20
    assert client(demo).get_run(version.run_id).info.start_time <= called_at[0]


# --- the gate


def test_the_first_version_that_beats_the_baseline_becomes_champion(demo):
    demo.land(error=2.0)
    trained = demo.run()
    assert (trained.promoted, trained.version, trained.champion) == (True, 1, 1)
    assert decisions(demo) == [(1, "promoted", None)]
    assert demo.decisions()[0]["reasons"] == "\n".join(trained.reasons)
    assert trained.reasons[-1] == "It becomes champion: there is none so far."
    assert demo.aliases() == {"champion": 1}


def test_a_version_that_does_not_beat_the_baseline_stays_challenger_and_nothing_is_predicted(demo):
    demo.land(error=30.0)
    trained = demo.run()
    assert (trained.promoted, trained.version, trained.champion) == (False, 1, None)
    assert trained.reasons[-1].startswith("It stays challenger: the improvement over the best naive baseline")
    assert decisions(demo) == [(1, "kept as challenger", None)]
    assert demo.aliases() == {"challenger": 1}
    assert demo.predicted() == []


def test_a_better_challenger_becomes_champion_and_a_worse_one_does_not(demo):
    for error in (4.0, 2.0, 8.0):
        demo.land(error=error)
        trained = demo.run()
    assert not trained.promoted
    assert trained.reasons[-1].startswith("It stays challenger: it has to beat the champion")
    assert "for champion: worse by" in trained.reasons[1]
    assert decisions(demo) == [(1, "promoted", None), (2, "promoted", 1), (3, "kept as challenger", 2)]
    assert demo.aliases() == {"previous": 1, "champion": 2, "challenger": 3}
    assert [version for version, *_ in demo.predicted()] == [1, 2]  # the third scoring, by the champion too, found the same


def test_the_same_method_on_newer_data_becomes_champion(demo):
    demo.land(error=2.0)
    demo.run()
    demo.land(error=2.0, origins=6)
    trained = demo.run()
    assert trained.reasons[-1] == "It becomes champion: the same method, trained on newer data."
    assert demo.aliases() == {"previous": 1, "champion": 2}


def test_a_champion_that_was_tested_on_other_days_is_followed_and_that_is_said(demo):
    demo.land(error=2.0)
    demo.run()
    demo.land(error=3.0, first=date(2025, 1, 1))
    trained = demo.run()
    assert trained.reasons[-1] == "It becomes champion: the champion so far, version 1, was tested on none of the same rows."
    assert decisions(demo)[-1] == (2, "promoted", 1)
    demo.land(error=30.0, first=date(2026, 1, 1))
    assert demo.run().reasons[-1].startswith("It stays challenger: the improvement over the best naive baseline")
    assert demo.aliases() == {"previous": 1, "champion": 2, "challenger": 3}


# --- when it is trained


def test_nothing_is_done_while_the_features_stay_the_same(demo):
    demo.land(error=2.0)
    first = demo.run()
    ledger, predicted = demo.ledger.version(), demo.lakehouse.table(level.PREDICTIONS).version()
    again = demo.run()
    assert (again.promoted, again.reasons, again.version, again.champion) == (True, first.reasons, 1, 1)
    assert not again.metrics
    assert demo.predict().batches == 0
    assert (demo.ledger.version(), demo.lakehouse.table(level.PREDICTIONS).version()) == (ledger, predicted)
    assert len(demo.registry.versions(MODEL)) == 1


def test_between_trainings_new_days_are_scored_with_the_champion_that_there_is(demo):
    demo.land(error=2.0)
    assert demo.run().champion == 1
    demo.land(error=1.0, origins=6)
    demo.work_out_features()
    demo.predict()
    assert [(version, at) for version, _, at in demo.predicted()] == [(1, 1), (1, 2)]
    assert demo.run().version == 2


def test_predictions_of_a_model_that_was_never_trained_are_an_empty_table(demo):
    demo.land(error=2.0)
    demo.work_out_features()
    demo.predict()
    assert demo.predicted() == []
    assert demo.run().champion == 1


def test_a_model_can_be_retrained_while_the_features_stay_the_same(demo):
    demo.land(error=2.0)
    demo.run()
    again = demo.run(retrain=True)
    assert again.metrics
    assert again.version == 1, "the same code on the same features is the same training, and is not registered twice"
    assert [version for version, *_ in decisions(demo)] == [1, 1]


def test_a_history_that_is_too_short_is_said_once_and_tried_again_when_there_is_more(demo):
    demo.land(error=2.0, origins=1)
    trained = demo.run()
    assert (trained.promoted, trained.version, trained.champion) == (False, None, None)
    assert trained.reasons == ("2 origins are needed. Land more days.",)
    assert demo.registry.versions(MODEL) == []
    assert demo.decisions() == demo.predicted() == []

    def never(rows, seed):
        raise AssertionError("trained again")

    assert demo.step(asset=replace(level_model, train=never)).run().version is None
    demo.land(error=2.0, origins=2)
    assert demo.run().champion == 1
    assert [version for version, *_ in demo.predicted()] == [1]


# --- rollback and hands


def test_a_rollback_is_recorded_and_scored_once_and_undone_by_another(demo):
    for origins, error in ((5, 4.0), (6, 2.0)):
        demo.land(error=error, origins=origins)
        demo.run()
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
    demo.land(error=2.0)
    demo.run()
    with pytest.raises(LookupError, match=r"demo\.models\.level has no previous champion to go back to"):
        demo.step().rollback()
    assert decisions(demo) == [(1, "promoted", None)]


def promoted_twice(demo: Demo) -> None:
    for origins, error in ((5, 4.0), (6, 2.0)):
        demo.land(error=error, origins=origins)
        demo.run()


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
    demo.land(error=30.0)
    demo.run()
    assert demo.predicted() == []
    set_champion_by_hand(demo, 1)
    demo.predict()  # as when only the predictions are asked for
    assert [version for version, *_ in demo.predicted()] == [1]
    assert decisions(demo) == [(1, "kept as challenger", None), (1, "promoted by hand in MLflow", None)]
    assert demo.aliases() == {"champion": 1}


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
    assert demo.run().reasons[-1] == "It becomes champion: the champion so far, version 3, was tested on none of the same rows."


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


def test_a_promotion_by_hand_while_a_model_is_trained_counts_as_the_champion_to_beat(demo):
    demo.land(error=2.0)
    demo.run()
    demo.land(error=4.0)
    demo.run()  # kept as challenger

    def meanwhile(rows, seed):
        demo.step().promote(2, "While another version is trained.")
        return level_model.train(rows, seed)

    demo.land(error=3.0)
    demo.work_out_features()
    assert demo.step(asset=replace(level_model, train=meanwhile)).run().champion == 3
    assert decisions(demo)[2:] == [(2, "promoted by hand", 1), (3, "promoted", 2)]


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


def test_scoring_uses_the_champion_of_the_ledger_and_not_that_of_a_stale_alias(demo):
    demo.land(error=4.0)
    demo.run()
    demo.land(error=2.0)
    crash(demo, Unreachable)
    assert demo.aliases() == {"champion": 1}
    demo.predict()
    assert demo.predicted()[-1][0] == 2


class Clock(datetime):
    """A clock that can be set back."""

    back = timedelta()

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) - cls.back


def test_a_rollback_counts_after_the_clock_stepped_back(demo, monkeypatch):
    promoted_twice(demo)
    monkeypatch.setattr(decisions_room, "datetime", Clock)
    monkeypatch.setattr(Clock, "back", timedelta(days=400))
    assert demo.step().rollback().champion == 1
    assert (demo.run().champion, demo.aliases()) == (1, {"champion": 1, "previous": 2})
    assert demo.step().rollback().champion == 2
    assert (demo.run().champion, demo.aliases()) == (2, {"champion": 2, "previous": 1})


# --- kills and races


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


def test_a_rollback_after_a_crash_starts_from_what_was_decided(demo):
    demo.land(error=4.0)
    demo.run()
    demo.land(error=2.0)
    crash(demo, Unreachable)
    assert demo.step().rollback().champion_before == 2
    assert decisions(demo) == [(1, "promoted", None), (2, "promoted", 1), (1, "rolled back", 2)]
    assert demo.aliases() == {"champion": 1, "previous": 2}


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


def test_a_training_that_was_overtaken_decides_nothing(demo):
    """While one run trains, another decides on newer features."""

    def overtaken(rows, seed):
        demo.land(error=1.0, origins=6)
        demo.run()
        return level_model.train(rows, seed)

    demo.land(error=2.0)
    demo.work_out_features()
    trained = demo.step(asset=replace(level_model, train=overtaken)).run()
    assert (trained.version, trained.champion, dict(trained.metrics)) == (1, 1, {})
    assert decisions(demo) == [(1, "promoted", None)]
    assert demo.aliases() == {"champion": 1}
    assert demo.run().version == 1

"""A model follows its tables: trained once for each version of them, judged once, and what is in use follows from the last decision."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime

import polars as pl
import pytest

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.gates import Gate
from lakehouse_assets.platform.modelling.metrics import MeanAbsoluteError
from lakehouse_assets.platform.modelling.splits import GroupSplit, RollingOrigins
from lakehouse_assets.platform.pipeline.gate_step import GateStep
from lakehouse_assets.platform.pipeline.model_training import Challenger, ModelTraining
from lakehouse_assets_tests.platform.orchestration import level
from lakehouse_assets_tests.platform.orchestration.level import DAYS, FEATURES, GOLD, MODEL, SEED, Level, level_model
from lakehouse_assets_tests.platform.pipeline.model_histories import (
    Unreachable,
    client,
    crash,
    decisions,
    trained_badly,
    trained_well,
    while_it_is_trained,
)

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
    assert [older.tags[name] for name in ("recipe", "code_version")] == [version.tags[name] for name in ("recipe", "code_version")]
    assert older.tags["training_fingerprint"] != version.tags["training_fingerprint"]
    entry = demo.decisions()[-1]
    assert json.loads(entry["training_tables"]) == version.tables
    assert (entry["seed"], entry["candidate"], entry["digest"]) == (SEED, "model", version.tags["model_digest"])
    assert {entry[name] == version.tags[name] for name in ("code_version", "environment", "recipe")} == {True}


def test_the_run_keeps_the_scores_pictures_and_rows_of_the_test_and_when_it_began(demo, monkeypatch):
    called_at = []
    while_it_is_trained(monkeypatch, lambda: called_at.append(datetime.now(UTC).timestamp() * 1000))
    demo.land(error=2.0)
    demo.work_out_features()
    trained = demo.step().run()
    (version,) = demo.registry.versions(MODEL)
    kept = demo.registry.metrics(version)
    assert trained.metrics.items() <= kept.items()
    folder = demo.registry.run_folder(version)
    assert {name: (folder / f"{name}.png").read_bytes() for name in trained.plots} == trained.plots
    assert {"folds", "residuals"} <= set(trained.plots)
    tested = pl.read_parquet(folder / "evaluation.parquet")
    assert tested.group_by("candidate").len().sort("candidate").rows() == [("model", 16), ("naive", 16)], "four folds of four days"
    assert pl.read_csv(folder / "leaderboard.csv")["candidate"].to_list() == ["model", "naive"]
    started = client(demo).get_run(version.run_id).info.start_time
    assert started <= called_at[0]


def test_the_schema_of_a_dataset_and_the_parameters_of_the_learner_are_kept(demo):
    trained_well(demo)
    run = client(demo).get_run(demo.registry.version(MODEL, 1).run_id)
    columns = {item.dataset.name: json.loads(item.dataset.schema)["mlflow_colspec"] for item in run.inputs.dataset_inputs}
    assert {"name": "actual", "type": "Float64"} in columns[FEATURES]
    assert (run.data.params["learner"], run.data.params["column"]) == ("Level", "forecast")


# --- the gate


def test_the_first_version_that_beats_the_baseline_becomes_champion(demo):
    demo.land(error=2.0)
    trained = demo.run()
    assert (trained.promoted, trained.version, trained.champion) == (True, 1, 1)
    assert decisions(demo) == [(1, "promoted", None)]
    (entry,) = demo.decisions()
    assert entry["reasons"] == "\n".join(trained.reasons)
    assert trained.reasons[-1].startswith("Passed as the first model: better than every baseline")
    assert (entry["question"], json.loads(entry["numbers"])["verdict"]) == ("first", "promoted")
    assert demo.aliases() == {"champion": 1}


def test_the_same_recipe_on_newer_data_is_a_refresh_and_has_to_be_no_worse(demo):
    for origins, error in ((5, 2.0), (6, 2.0), (7, 8.0)):
        demo.land(error=error, origins=origins)
        trained = demo.run()
        assert demo.decisions()[-1]["question"] == ("first" if trained.version == 1 else "refresh")
    assert "Passed as a refresh (the same recipe, newer data)" in demo.decisions()[1]["reasons"]
    assert not trained.promoted
    assert any(reason.startswith("Refused: it may be worse than the champion by more than 5%") for reason in trained.reasons)
    assert decisions(demo) == [(1, "promoted", None), (2, "promoted", 1), (3, "kept as challenger", 2)]
    assert demo.aliases() == {"previous": 1, "champion": 2, "challenger": 3}
    assert [version for version, *_ in demo.predicted()] == [1, 2, 2]


def test_another_learner_is_a_change_and_has_to_be_better(demo):
    """Errors are about 4 of 103: predictions of 98 % of it are better, those of 101 % worse."""
    trained_badly(demo)
    for share, promoted in ((1.01, False), (0.98, True)):
        demo.land(error=4.0)
        demo.work_out_features()
        changed = replace(level_model, learner=Level("forecast", share))
        assert demo.step(asset=changed).run(retrain=True).promoted is promoted
        assert demo.decisions()[-1]["question"] == "change"
    assert "Refused: it is not better than the champion" in demo.decisions()[1]["reasons"]
    assert "Passed as a change" in demo.decisions()[2]["reasons"]
    assert demo.aliases() == {"previous": 1, "champion": 3, "challenger": 2}


def test_a_champion_that_was_tested_on_other_days_is_not_replaced_by_the_gate(demo):
    trained_well(demo)
    demo.land(error=3.0, first=date(2025, 1, 1))
    trained = demo.run()
    assert not trained.promoted
    assert (
        trained.reasons[0] == "The champion so far, version 1, was tested on too few of the same rows in any fold, so it is not compared."
    )
    assert "Not enough history to replace the champion: 0 shared folds, and 4 are needed." in trained.reasons
    assert demo.decisions()[-1]["question"] == "refresh"
    demo.land(error=30.0, first=date(2026, 1, 1))
    trained = demo.run()
    assert "Refused: its recipe is no better than the baseline naive any more." in trained.reasons
    assert demo.aliases() == {"champion": 1, "challenger": 3}, "a model is not replaced by a baseline"


def comparisons(demo):
    """Of the last decision, by opponent: the rows of each fold."""
    found = json.loads(demo.decisions()[-1]["numbers"])["comparisons"]
    return {one["opponent"]: {fold["fold"]: fold["rows"] for fold in one["by_fold"]} for one in found}


@pytest.mark.parametrize(("kept", "shared"), [([4], []), ([3, 4], [2] * 4), ([2, 3, 4], [3] * 4)])
def test_the_champion_is_compared_on_the_rows_that_both_were_tested_on_if_they_are_half_of_a_fold(demo, kept, shared):
    def only(days):
        table = demo.lakehouse.table(DAYS)
        rows = table.scan().collect()
        table.replace(rows.filter((pl.col("day") - pl.col("origin")).dt.total_days().is_in(days)), None)

    demo.land(error=2.0)
    only(kept)
    demo.run()
    demo.land(error=2.0)
    trained = demo.run()
    found = comparisons(demo)
    assert list(found["champion"].values()) == shared
    assert list(found["naive"].values()) == [4] * 4
    assert trained.promoted is bool(shared)


def test_each_comparison_is_made_in_one_grid_of_folds_and_scores_are_means_over_the_splits_own(demo):
    asset = replace(level_model, split=RollingOrigins(horizon=4, count=4))
    for origins in (5, 6, 7):
        demo.land(error=[9.0, *[2.0] * (origins - 1)] if origins == 5 else [9.0, 50.0, *[2.0] * (origins - 2)], origins=origins)
        demo.work_out_features()
        trained = demo.step(asset=asset).run()
    tested = pl.read_parquet(demo.registry.run_folder(demo.registry.version(MODEL, trained.version)) / "evaluation.parquet")
    found = comparisons(demo)
    own, of_champion = sorted(found["naive"]), sorted(found["champion"])
    assert (len(own), len(of_champion)) == (4, 4), "each has the folds of one grid"
    assert own != of_champion
    assert sorted(tested["fold"].unique()) == sorted({*own, *of_champion}), "the folds of champions before it do not pile up"
    scores = tested.filter(pl.col("candidate") == "model", pl.col("fold").is_in(own))
    errors = scores.group_by("fold").agg((pl.col("actual") - pl.col("prediction")).abs().mean())
    assert trained.metrics["MeanAbsoluteError"] == pytest.approx(errors["actual"].mean())


def test_where_folds_have_no_time_there_are_no_newest_rows_and_a_refresh_is_judged_by_its_folds(demo):
    asset = replace(level_model, split=GroupSplit("day", 4))
    demo.land(error=2.0)
    demo.work_out_features()
    for _ in range(2):
        trained = demo.step(asset=asset).run(retrain=True)
    assert trained.promoted
    assert trained.reasons[-1] == "Passed as a refresh (the same recipe, newer data): the same losses."
    assert not [guard["name"] for guard in json.loads(demo.decisions()[-1]["numbers"])["guards"] if "newest" in guard["name"]]


class ByKey(MeanAbsoluteError):
    """Needs what every row of an evaluation has."""

    def score(self, rows):
        assert {"candidate", "fold", "origin", "day", "actual"} <= {*rows.columns}
        return super().score(rows)


def test_the_champions_loss_on_the_newest_rows_is_that_of_the_same_frame_as_all_others(demo):
    first = date(datetime.now(UTC).year + 2, 1, 1)
    for origins in (5, 6):
        demo.land(error=2.0, origins=origins, first=first)
        demo.work_out_features()
        demo.step(asset=replace(level_model, metric=ByKey())).run()
    guards = {guard["name"]: guard["value"] for guard in json.loads(demo.decisions()[-1]["numbers"])["guards"]}
    assert guards["newest loss over champion's"] == 1.0


def test_a_gate_that_is_off_works_nothing_out(demo):
    asset = replace(level_model, gate=Gate(mode="off"))
    training = ModelTraining(asset, demo.lakehouse, {}, SEED, Local(), "r", datetime.now(UTC))
    decision = GateStep(asset, Challenger(training, evaluation=None, predictor=None), None).decide()
    assert (decision.promote, decision.question) == (True, "first")


# --- when it is trained


def test_nothing_is_done_while_the_tables_stay_the_same(demo):
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


def test_a_model_can_be_retrained_while_the_tables_stay_the_same(demo):
    trained_well(demo)
    again = demo.run(retrain=True)
    assert again.metrics
    assert again.version == 1, "the same code on the same tables is the same training, and is not registered twice"
    assert [version for version, *_ in decisions(demo)] == [1, 1]


# --- what others do meanwhile


def test_a_promotion_by_hand_while_a_model_is_trained_counts_as_the_champion_to_beat(demo, monkeypatch):
    trained_well(demo)
    demo.land(error=4.0)
    demo.run()  # kept as challenger
    demo.land(error=3.0)
    demo.work_out_features()
    while_it_is_trained(monkeypatch, lambda: demo.step().promote(2, "While another version is trained."))
    assert demo.step().run().champion == 3
    assert decisions(demo)[2:] == [(2, "promoted by hand", 1), (3, "promoted", 2)]


def test_a_training_that_was_overtaken_decides_nothing(demo, monkeypatch):
    """While one run trains, another decides on newer tables."""

    def overtake():
        demo.land(error=1.0, origins=6)
        demo.run()

    demo.land(error=2.0)
    demo.work_out_features()
    while_it_is_trained(monkeypatch, overtake)
    trained = demo.step().run()
    assert (trained.version, trained.champion, dict(trained.metrics)) == (1, 1, {})
    assert decisions(demo) == [(1, "promoted", None)]
    assert demo.aliases() == {"champion": 1}
    assert demo.run().version == 1


def test_scoring_uses_the_champion_of_the_ledger_and_not_that_of_a_stale_alias(demo):
    trained_badly(demo)
    demo.land(error=2.0)
    crash(demo, Unreachable)
    assert demo.aliases() == {"champion": 1}
    demo.predict()
    assert demo.predicted()[-1][0] == 2

"""`run`, `status` and `models` agree about champions, also when somebody sets an alias in MLflow in between."""

import shutil
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from lakehouse_assets import open_lakehouse
from lakehouse_assets.cli import models as models_command
from lakehouse_assets.cli.run import train_and_print
from lakehouse_assets.client.client import Client
from lakehouse_assets.definitions import definitions
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.check_names import GATE_CHECK
from lakehouse_assets.platform.declarations.computed_kinds import Full
from lakehouse_assets.platform.declarations.tables import table
from lakehouse_assets.platform.governance.principal import this_user
from lakehouse_assets.platform.modelling.gate.guards import Guard
from lakehouse_assets.platform.modelling.gate.verdict import Decision
from lakehouse_assets.platform.orchestration.steps import FULL_REFRESH_TAG, key_of
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.registry.ledger import Verdict, by_whom
from lakehouse_assets.platform.registry.mlflow_store import load_mlflow
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.views.blocks import Figures, Note, Rows
from lakehouse_assets.views.models import one_model
from lakehouse_assets.views.overview import page as overview
from lakehouse_assets_tests.mlflow_connections import forget_connections
from lakehouse_assets_tests.platform.orchestration.level import (
    DAYS,
    FEATURES,
    GOLD,
    MODEL,
    PREDICTIONS,
    Day,
    Demo,
    features,
    gold,
    level_model,
    scores,
)

PAGE = Path(__file__).parents[2] / "docs" / "system_tables.md"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A root with two versions: the first is champion, the second did not pass the gate."""
    demo = Demo(tmp_path_factory.mktemp("models") / "root")
    for origins, error in ((5, 2.0), (6, 9.0)):
        demo.land(error=error, origins=origins)
        demo.run()
    return demo.root


@pytest.fixture
def lake(template, settings, monkeypatch, tmp_path) -> Client:
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(template, settings.root)
    return open_lakehouse(settings=settings, declarations=(gold, features, level_model, scores))


def in_mlflow(lake: Client):
    registry = Registry.under(lake.settings.root / "mlflow")
    return load_mlflow().MlflowClient(registry.tracking_uri, registry.tracking_uri)


def answers(lake: Client) -> tuple[int | None, list[int]]:
    """The champion by `status`, and the versions with the alias by `models`."""
    (champion,) = lake.status()["champions"]
    return champion["champion"], [row["version"] for row in lake.models.list() if "champion" in row["aliases"]]


def last_decision(lake: Client) -> dict:
    return lake.status()["champions"][0]["last_decision"]


def test_status_and_models_agree_with_an_alias_that_was_set_by_hand(lake):
    assert answers(lake) == (1, [1])
    assert lake.pending() == {}
    in_mlflow(lake).set_registered_model_alias(MODEL, "champion", "2")
    assert answers(lake) == (2, [2])
    assert lake.pending() == {PREDICTIONS: f"{MODEL} has changed"}
    decision = last_decision(lake)
    assert (decision["version"], decision["decision"]) == (2, "promoted by hand in MLflow")
    assert "The alias champion was given to version 2 instead of version 1 in MLflow" in " ".join(decision["reasons"])


def test_models_notices_it_first_and_nobody_twice(lake):
    in_mlflow(lake).set_registered_model_alias(MODEL, "champion", "2")
    assert [row["aliases"] for row in lake.models.list()] == [["champion"], ["previous"]]
    answers(lake)
    assert lake.table(MODEL).count() == 3


def test_a_champion_that_was_taken_away_is_retired_and_that_is_said(lake):
    in_mlflow(lake).delete_registered_model_alias(MODEL, "champion")
    assert answers(lake) == (None, [])
    assert last_decision(lake)["decision"] == "retired by hand in MLflow"


@pytest.mark.parametrize("selection", [(MODEL, PREDICTIONS), (PREDICTIONS,)], ids=["with its model", "alone"])
def test_a_run_scores_with_a_champion_that_was_set_by_hand(lake, selection):
    in_mlflow(lake).set_registered_model_alias(MODEL, "champion", "2")
    scored = lake.table(PREDICTIONS)
    assert 2 not in scored.scan().collect()["model_version"].to_list()
    outcome = lake.run(selection)
    assert not outcome.failed
    assert not outcome.skipped
    assert scored.scan().sort("scored_at").collect()["model_version"].to_list()[-1] == 2
    assert answers(lake) == (2, [2])


def test_while_the_database_of_mlflow_is_not_there_every_door_says_so_and_none_makes_another_one(lake):
    database, aside = lake.settings.root / "mlflow", lake.settings.root / "aside"
    database.rename(aside)
    forget_connections()
    said = "no version of demo.models.level at all, and version 1 is needed: its database is not there"
    with pytest.raises(LookupError, match=said):
        lake.models.list()
    with pytest.raises(LookupError, match="at all, and version 2 is needed"):
        lake.models.promote(MODEL, 2, "while it is away")
    (failed,) = lake.run((PREDICTIONS,)).failed
    assert said in failed.error
    assert not database.exists()
    aside.rename(database)
    assert answers(lake) == (1, [1])


def test_a_promotion_by_hand_goes_through_the_ledger_and_a_rollback_undoes_it(lake):
    assert lake.models.promote(MODEL, 2, "tried on the new shop").champion == 2
    assert answers(lake) == (2, [2])
    assert last_decision(lake)["reasons"][0].endswith("tried on the new shop")
    assert lake.models.rollback(MODEL).champion == 1
    assert answers(lake) == (1, [1])
    with pytest.raises(LookupError, match="no version 7"):
        lake.models.promote(MODEL, 7, "a typo")


def test_every_door_says_who_decided(lake, monkeypatch):
    """By the command, the newest one first: the user of the machine, who is asked of the system; the gate; and MLflow knows nobody."""
    me = this_user(str(lake.settings.root), "").name
    lake.models.promote(MODEL, 2, "tried on the new shop")
    lake.models.rollback(MODEL)
    lake.models.reject(MODEL, 2, "Ada", "no better")
    in_mlflow(lake).set_registered_model_alias(MODEL, "champion", "2")
    expected = ["a person", "Ada", me, me, "the gate", "the gate"]
    assert [by_whom(decision) for decision in lake.models.show(MODEL)["decisions"]] == expected
    said = outputs(lake, monkeypatch, "show", MODEL).splitlines()
    assert [line.rsplit(", by ", 1)[1] for line in said if line.startswith("version ")] == expected

    ledger = next(block for block in one_model(lake, MODEL) if isinstance(block, Rows) and block.heading.startswith("Ledger"))
    assert ledger.frame["by"].to_list() == expected
    newest = next(one for block in one_model(lake, MODEL) if isinstance(block, Figures) for one in block.items if "Newest" in one.label)
    assert newest.note.startswith("by a person, ")
    done = next(block for block in overview(lake).blocks if isinstance(block, Rows) and block.heading == "What was done last")
    assert [text.rsplit(", by ", 1)[1] for text in done.frame["done"]] == expected

    query = PAGE.read_text(encoding="utf-8").split("Who promoted what:")[1].split("```")[1].removeprefix("sql")
    assert lake.sql(query)["by_whom"].to_list() == ["a person", me, me, "the gate"]


def test_a_leak_that_only_warns_is_said_by_the_command_and_on_the_page(lake, monkeypatch):
    """Where the overview sends people who read that the check failed."""
    guard = Guard(name="leakage: clock month", value=0.99, high=1.0, meaning="month goes with time")
    judged = Decision(promote=False, question="change", verdict="refused", reasons=("Refused: no better.",), guards=(guard,))
    ledger = lake.models._step(MODEL).open_ledger()
    verdict = Verdict(decision="kept as challenger", reasons=judged.reasons, question="change", numbers=judged.to_json())
    assert ledger.record(ledger.state(), verdict, 2, aliases=ledger.state().aliases)
    assert "leakage: month goes with time" in outputs(lake, monkeypatch, "show", MODEL)
    assert any(isinstance(block, Note) and "month goes with time" in block.text for block in one_model(lake, MODEL))


@pytest.mark.parametrize("alias", ["promote", "versions", "by_name", "", "Champion", "champion@previous"])
def test_what_is_no_alias_is_refused_with_those_that_are(lake, alias):
    with pytest.raises(LookupError, match="an alias is one of champion, previous, challenger"):
        lake.models.reproduce(f"{MODEL}@{alias}")


def test_an_alias_that_no_version_has_is_said(lake):
    assert lake.models.reproduce(f"{MODEL}@challenger").version == 2
    with pytest.raises(LookupError, match="has no previous"):
        lake.models.reproduce(f"{MODEL}@previous")


def test_a_version_is_not_compared_with_itself(lake):
    with pytest.raises(ValueError, match="1 and 1 are the same version"):
        lake.models.compare(MODEL, 1, 1)


def test_a_promotion_of_the_champion_says_that_nothing_is_changed(lake, monkeypatch):
    monkeypatch.setattr(models_command, "client", lambda: lake)
    said = CliRunner().invoke(models_command.models, ["promote", MODEL, "1", "--reason", "again"]).output
    assert "is champion already: nothing is changed" in said
    assert lake.table(MODEL).count() == 2
    assert "Version 2 of" in CliRunner().invoke(models_command.models, ["promote", MODEL, "2", "--reason", "try"]).output


REASON = "by fold a loss"


def outputs(lake: Client, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setattr(models_command, "client", lambda: lake)
    return CliRunner().invoke(models_command.models, list(words), env={"COLUMNS": "80"}, catch_exceptions=False).output


def test_the_list_is_at_most_80_characters_wide_and_details_are_in_show(lake, monkeypatch):
    listed = outputs(lake, monkeypatch, "list")
    assert listed.splitlines()[0] == MODEL
    assert listed.splitlines()[1].split() == ["version", "candidate", "aliases", "created", "score"]
    assert max(map(len, listed.splitlines())) <= 80
    assert "MeanAbsoluteError 2" in listed
    assert "2 versions" in listed
    shown = outputs(lake, monkeypatch, "show", MODEL)
    assert f"{FEATURES}@1" in shown
    assert f"{FEATURES}@2" in shown
    assert [shown.count(f"{word}  ") for word in ("  scores", "  trained on", "  candidate")] == [2, 2, 2]


def test_the_reasons_of_the_gate_are_printed_once(lake, capsys):
    """For the version that did not pass, of which a check warns as well."""
    assert train_and_print(lake, (MODEL,), force=True) == 0
    said = capsys.readouterr().out
    reasons = last_decision(lake)["reasons"]
    assert [said.count(reason) for reason in reasons] == [1] * len(reasons)
    assert any(REASON in reason for reason in reasons)


@table(FEATURES, contract=Day, kind=Full(), inputs={"days": GOLD})
def changed(days: pl.LazyFrame) -> pl.LazyFrame:
    """Another function of the features."""
    return days.with_columns(error=pl.col("error") * 2)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("named", [(), (MODEL,)])
def test_a_model_is_not_trained_on_rows_that_another_function_computed(lake, force, named):
    other = open_lakehouse(settings=lake.settings, declarations=(gold, changed, level_model, scores))
    with pytest.raises(ValueError, match=rf"{MODEL} is not trained: .* `lakehouse run {FEATURES} --full-refresh` first"):
        other.train(named, force=force)
    assert lake.table(MODEL).count() == 2


@pytest.mark.parametrize("retrain", [False, True])
def test_nor_by_the_schedule_which_says_so_and_scores_all_the_same(lake, tmp_path, retrain):
    other = open_lakehouse(settings=lake.settings, declarations=(gold, changed, level_model, scores))
    found = definitions(other.settings, other.context.products)
    job = found.resolve_job_def(found.resolve_schedule_def("weekly_training").job_name)
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        result = job.execute_in_process(instance=instance, tags={FULL_REFRESH_TAG: "true"} if retrain else {})
        (gate,) = [check for check in result.get_asset_check_evaluations() if check.check_name == GATE_CHECK]
    assert result.success
    assert {event.asset_key.path[-2] for event in result.get_asset_materialization_events()} >= {"models", "predictions"}
    assert (gate.passed, gate.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"{MODEL} is not trained: the function of {FEATURES} was changed" in gate.description
    assert lake.table(MODEL).count() == 2


def test_dagster_shows_a_model_that_was_left_out_as_out_of_date(lake, tmp_path):
    found = []
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        for feature_set in (features, changed):
            client = open_lakehouse(settings=lake.settings, declarations=(gold, feature_set, level_model, scores))
            location = definitions(client.settings, client.context.products)
            result = location.resolve_job_def("train").execute_in_process(instance=instance)
            states = CachingStaleStatusResolver(instance, location.resolve_asset_graph(), LoadingContextForTest(instance))
            (event,) = [one for one in result.get_asset_materialization_events() if one.asset_key == key_of(MODEL)]
            version = event.materialization.tags["dagster/data_version"]
            found.append((version, states.get_status(key_of(MODEL)), states.get_status(key_of(PREDICTIONS))))
    (first, *before), (second, *after) = found
    assert first == second, "there is no other model"
    assert before == [StaleStatus.FRESH, StaleStatus.FRESH]
    assert after == [StaleStatus.STALE, StaleStatus.FRESH]


def test_nor_by_a_runner_of_a_notebook(lake):
    root, catalog = lake.context.root, Catalog((gold, changed, level_model, scores), frozenset({DAYS}))
    runner = Runner(catalog, root.lakehouse, root.ingestion, root.registry, 1)
    with pytest.raises(ValueError, match=rf"{MODEL} is not trained"):
        runner.run([MODEL], run_id="r")

"""`lakehouse run`, `status` and `models` agree about champions, also when somebody sets an alias in MLflow in between."""

import shutil
from io import StringIO

import dagster as dg
import pytest
from lakehouse_assets.commands import report, run
from lakehouse_assets.commands.workspace import Workspace
from rich.console import Console

from lakehouse_assets.platform.orchestration.autoload import Products
from lakehouse_assets.platform.registry.mlflow_store import load_mlflow
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets_tests.platform.orchestration.level import (
    MODEL,
    PREDICTIONS,
    REGISTERED,
    Demo,
    features,
    gold,
    level_model,
    predictions,
)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A root with two versions: the first is champion, the second did not pass the gate."""
    demo = Demo(tmp_path_factory.mktemp("models") / "root")
    for origins, error in ((5, 2.0), (6, 9.0)):
        demo.land(error=error, origins=origins)
        demo.run()
    return demo.root


@pytest.fixture
def workspace(template, settings, monkeypatch, tmp_path) -> Workspace:
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(template, settings.root)
    made = Workspace(settings)
    made.__dict__["products"] = Products((gold, features, level_model, predictions), dg.Definitions())
    return made


def client(workspace: Workspace):
    registry = Registry.under(workspace.settings.root / "mlflow")
    return load_mlflow().MlflowClient(registry.tracking_uri, registry.tracking_uri)


def printed(function, *arguments) -> str:
    console = Console(file=StringIO(), width=200)
    function(*arguments, console)
    return console.file.getvalue()


def answers(workspace: Workspace) -> tuple[int | None, list[int]]:
    """The champion by `status`, and the versions with the alias by `models`."""
    (champion,) = report.status(workspace)["champions"]
    return champion["champion"], [row["version"] for row in report.models(workspace) if "champion" in row["aliases"]]


def test_status_and_models_agree_with_an_alias_that_was_set_by_hand(workspace):
    assert answers(workspace) == (1, [1])
    assert workspace.pending() == {}
    client(workspace).set_registered_model_alias(REGISTERED, "champion", "2")
    assert answers(workspace) == (2, [2])
    assert workspace.pending() == {PREDICTIONS: f"{MODEL} has changed"}
    text = printed(report.print_status, report.status(workspace))
    assert "version 2 is champion. Last decision: version 2 promoted by hand in MLflow." in text
    assert "The alias champion was given to version 2 instead of version 1 in MLflow" in text


def test_models_notices_it_first_and_nobody_twice(workspace):
    client(workspace).set_registered_model_alias(REGISTERED, "champion", "2")
    assert [row["aliases"] for row in report.models(workspace)] == [["champion"], ["previous"]]
    answers(workspace)
    assert workspace.lakehouse.table(MODEL).count() == 3


def test_a_champion_that_was_taken_away_is_retired_and_that_is_said(workspace):
    client(workspace).delete_registered_model_alias(REGISTERED, "champion")
    assert answers(workspace) == (None, [])
    assert "there is no champion, so nothing is scored" in printed(report.print_status, report.status(workspace))


@pytest.mark.parametrize("selection", [(MODEL, PREDICTIONS), (PREDICTIONS,)])
def test_a_run_scores_with_a_champion_that_was_set_by_hand(workspace, selection):
    client(workspace).set_registered_model_alias(REGISTERED, "champion", "2")
    scored = workspace.lakehouse.table(PREDICTIONS)
    assert 2 not in scored.scan().collect()["model_version"].to_list()
    assert run.run_and_report(workspace, selection, Console(file=StringIO()), None, rebuild=False) == 0
    assert scored.scan().sort("scored_at").collect()["model_version"].to_list()[-1] == 2
    assert answers(workspace) == (2, [2])

"""`lakehouse models retraining`, `train --due` and `train --reason`: what would start a training, and what a reason leaves behind."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner, Result
from dagster._core.storage.tags import RUN_KEY_TAG

from lakehouse_assets import Freshness, Retrain, monitor, open_lakehouse
from lakehouse_assets.cli.main import main
from lakehouse_assets.client.execution import standing_of
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.monitors import Verdict
from lakehouse_assets.platform.monitoring import judgements
from lakehouse_assets.platform.monitoring.judgements import Judgement
from lakehouse_assets.platform.monitoring.retraining import requests, runs
from lakehouse_assets.platform.monitoring.retraining.runs import REASON_TAG, REQUEST_TAG
from lakehouse_assets.platform.orchestration.autoload import Products
from lakehouse_assets.platform.orchestration.code_location import definitions
from lakehouse_assets.platform.orchestration.instance import instance
from lakehouse_assets.platform.orchestration.retraining import runs_of, sensors
from lakehouse_assets.platform.orchestration.run import AlreadyStarted, execute
from lakehouse_assets.platform.orchestration.run_control import locks_of
from lakehouse_assets.platform.orchestration.steps import key_of
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.forks import Forks, meet
from lakehouse_assets_tests.platform.orchestration.level import DAYS, FEATURES, MODEL, Demo, features, gold, level_model, scores
from lakehouse_assets_tests.running import tables_of

WATCH = monitor("demo.monitors.days", of=FEATURES, kind=Freshness("day", timedelta(days=400)))
TRAINED = replace(level_model, retrain=Retrain(on=WATCH, new_labels=1_000, cool_down=timedelta(0)))
DECLARED = (gold, features, TRAINED, replace(scores, model=TRAINED), WATCH)


@pytest.fixture
def demo(settings, monkeypatch, tmp_path) -> Demo:
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lakehouse_assets.client.open_lakehouse", lambda: open_lakehouse(settings=settings, declarations=DECLARED))
    demo = Demo(settings.root)
    demo.land(error=2.0)
    demo.work_out_features()
    return demo


def call(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def said(*words: str) -> str:
    return " ".join(call(*words).output.split())


def fails(demo: Demo) -> None:
    table = demo.lakehouse.table(FEATURES)
    verdict = Verdict(passed=False, text="The newest day is 2024-01-21.", metric="age_hours", value=9_000.0, threshold=9_600.0)
    at = datetime.now(UTC)
    judgements.add(demo.lakehouse, [Judgement(WATCH, table.delta().metadata().id, table.version(), at, "r", [verdict])])


def test_a_reason_is_kept_and_shown(settings, demo):
    call("train", MODEL, "--reason", "the price list was corrected")
    with instance(settings) as opened:
        (run,) = opened.get_runs()
    assert run.tags[REASON_TAG] == "the price list was corrected"
    assert REQUEST_TAG not in run.tags
    assert demo.decisions()[0]["training_reason"] == "the price list was corrected"
    assert "trained because: the price list was corrected" in said("models", "show", MODEL)
    assert "training_reason" in said("sql", f"select training_reason from {MODEL}")


def test_what_asks_for_a_training_and_train_due(settings, demo):
    shown = said("models", "retraining")
    assert "trained if demo.monitors.days fails, 1,000 new labels, the weekly schedule" in shown
    assert "at most 4 trainings in 30 days now Nothing" in shown
    assert "now Nothing asks for a training." in shown
    assert "Nothing to do: no model asks for a training now." in said("train", "--due")
    fails(demo)
    reason = "demo.monitors.days failed: age_hours was 9,000 (threshold 9,600)"
    shown = said("models", "retraining")
    assert reason in shown
    assert "now A training starts" in shown
    (value,) = json.loads(call("models", "retraining", "--json").output)
    assert (value["model"], value["starts"], value["reasons"][0]["monitor"]) == (MODEL, True, WATCH.name)

    call("train", "--due")
    with instance(settings) as opened:
        (run,) = opened.get_runs()
        mine, theirs = (sorted(ask(f"{MODEL}:1"), key=str) for ask in (runs.recorded(settings.dagster_home), runs_of(opened)))
        assert mine == theirs, "Dagster's databases say what its instance says"
    assert run.tags[REQUEST_TAG] == f"{MODEL}:1"
    assert reason in run.tags[REASON_TAG]
    assert reason in demo.decisions()[0]["training_reason"]
    assert "done: demo.monitors.days failed" in said("models", "retraining")
    assert "Nothing to do" in said("train", "--due")
    assert MODEL in said("sql", "select model, number, cause, reason from platform.monitoring.training_requests")
    fails(demo)
    assert "Nothing has changed that it learns from" in said("models", "retraining")


def carry_out(order: dict[str, Any]) -> list[str]:
    """Who trained: a tick of the sensor or `train --due`, in a process of its own, which begins when as many as it says are ready."""
    settings = Settings(root=Path(order["root"]))
    work = {"sensor": _tick, "command": _train_due}[order["door"]](settings)
    meet(f"{order['root']}.ready", order["together"])
    return work()


def _train_due(settings: Settings) -> Callable[[], list[str]]:
    lake = open_lakehouse(settings=settings, declarations=DECLARED)
    return lambda: sorted(lake.train_due())


def _tick(settings: Settings) -> Callable[[], list[str]]:
    def tick_and_train() -> list[str]:
        asked = _asked(settings)
        for request in asked:
            _daemon_starts(settings, request)
        return ["sensor"] * len(asked)

    return tick_and_train


def _asked(settings: Settings) -> list[dg.RunRequest]:
    """What a tick of the sensor asks for."""
    products = Products(Catalog(DECLARED, frozenset({DAYS})))
    defs = definitions(settings, products)
    (sensor,) = sensors(products.catalog)
    repository = defs.get_repository_def()
    resources = {name: defs.resources[name] for name in ("lakehouse", "mlflow")}
    with (
        instance(settings) as opened,
        dg.build_sensor_context(instance=opened, repository_def=repository, resources=resources) as context,
    ):
        return list(sensor.evaluate_tick(context).run_requests)


def _daemon_starts(settings: Settings, request: dg.RunRequest) -> None:
    """What Dagster's daemon makes of a request, which takes it a moment."""
    job = definitions(settings, Products(Catalog(DECLARED, frozenset({DAYS})))).resolve_job_def(runs.TRAIN)
    tags = {RUN_KEY_TAG: request.run_key, **request.tags}
    with instance(settings) as opened:
        job.execute_in_process(instance=opened, asset_selection=list(request.asset_selection), tags=tags)


def _at_once(forks: tuple[Forks, Forks], settings: Settings, *doors: str) -> list[list[str]]:
    for fork, door in zip(forks, doors, strict=True):
        fork.begin(sys.modules[__name__], root=str(settings.root), door=door, together=2)
    ended = [fork.end() for fork in forks]
    assert [end.signal for end in ended] == [0, 0]
    return [end.result for end in ended]


def test_a_request_without_a_run_is_done_once_however_many_train_what_is_due(settings, demo, forks):
    """As after a sensor that was killed between the two."""
    fails(demo)
    lake = open_lakehouse(settings=settings, declarations=DECLARED)
    assert standing_of(lake.context, TRAINED).ask().number == 1
    assert standing_of(lake.context, TRAINED).ask().number == 1, "it is open"
    assert sorted(_at_once(forks, settings, "command", "command")) == [[], [MODEL]]
    with instance(settings) as opened:
        assert [run.tags[REQUEST_TAG] for run in opened.get_runs()] == [f"{MODEL}:1"]
    assert len(demo.decisions()) == 1


def test_of_the_sensor_and_the_command_one_starts_a_run_for_a_request(settings, demo, forks):
    """The sensor has asked, and Dagster's daemon has not started the run yet."""
    fails(demo)
    (asked,) = _asked(settings)
    assert [request.number for request in requests.requests_of(tables_of(settings), MODEL)] == [1]
    command, _ = forks
    assert command(sys.modules[__name__], root=str(settings.root), door="command", together=1) == (0, [])
    _daemon_starts(settings, asked)
    with instance(settings) as opened:
        assert [run.tags[REQUEST_TAG] for run in opened.get_runs()] == [f"{MODEL}:1"]
    assert len(demo.decisions()) == 1


def test_at_the_same_moment_too(settings, demo, forks):
    fails(demo)
    assert sorted(_at_once(forks, settings, "sensor", "command")) in ([[], ["sensor"]], [[], [MODEL]])
    with instance(settings) as opened:
        assert [run.tags[REQUEST_TAG] for run in opened.get_runs()] == [f"{MODEL}:1"]
    assert len(demo.decisions()) == 1


def test_a_run_that_another_machine_has_started_is_not_started_again(settings, demo):
    """Machines have the storage of runs in common, and not the lock."""
    fails(demo)
    lake = open_lakehouse(settings=settings, declarations=DECLARED)
    request = standing_of(lake.context, TRAINED).ask()
    defs = definitions(settings, lake.context.products)

    def start_elsewhere(_: Any = None) -> None:
        with instance(settings) as opened:
            opened.add_run(dg.DagsterRun(job_name="train", run_id=request.run_id, status=dg.DagsterRunStatus.NOT_STARTED))

    for on_progress in (start_elsewhere, lambda _: None):  # at the last moment, and before
        with pytest.raises(AlreadyStarted):
            execute(settings, defs, {key_of(MODEL)}, run_id=request.run_id, on_progress=on_progress)
        with instance(settings) as opened:
            assert [run.status for run in opened.get_runs()] == [dg.DagsterRunStatus.NOT_STARTED]
            assert locks_of(opened).names() == [], "nobody takes it for a run of this process"
    assert lake.train_due() == {}
    assert not demo.ledger.exists()


def test_runs_that_have_not_ended_are_read_as_the_instance_has_them(settings, demo):
    with instance(settings) as opened:
        for number, (chosen, tags) in enumerate([(None, {}), ({key_of(MODEL)}, {}), (None, {REQUEST_TAG: "x:1"})]):
            run_id = f"{number}1111111-1111-4111-8111-111111111111"
            status = dg.DagsterRunStatus.STARTED if number < 2 else dg.DagsterRunStatus.FAILURE
            keys = None if chosen is None else frozenset(chosen)
            opened.add_run(dg.DagsterRun(job_name="train", run_id=run_id, status=status, tags=tags, asset_selection=keys))
        for request in (None, "x:1"):
            recorded = runs.recorded(settings.dagster_home)(request)
            assert sorted(recorded, key=lambda run: run.run_id) == sorted(runs_of(opened)(request), key=lambda run: run.run_id)
            assert len(recorded) == (2 if request is None else 3)
    fails(demo)
    assert "A training is under way" in said("models", "retraining")
    assert len({run.run_id for run in recorded if run.trains(MODEL)}) == 3


def test_options_that_do_not_go_together(demo):
    assert "leave out MODELS, --force and --reason" in call("train", "--due", "--force", code=2).output


def test_a_model_without_retrain_says_so(settings, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "lakehouse_assets.client.open_lakehouse",
        lambda: open_lakehouse(settings=settings, declarations=(gold, features, level_model, scores)),
    )
    assert "by people and the weekly schedule alone" in said("models", "retraining")

"""The sensor `retraining`: a monitor fails, a run with that reason trains the model, the gate decides, and nothing starts twice."""

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import pytest
from dagster._core.remote_origin import RemoteJobOrigin
from dagster._core.storage.tags import RUN_KEY_TAG

from lakehouse_assets import Freshness, Retrain, monitor
from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.monitors import AlertRule, MonitorKind, Verdict, Watched
from lakehouse_assets.platform.declarations.retraining import TrainingReason
from lakehouse_assets.platform.monitoring import judgements, verdicts
from lakehouse_assets.platform.monitoring.drift.importance import Importance
from lakehouse_assets.platform.monitoring.judgements import Judgement
from lakehouse_assets.platform.monitoring.retraining import requests
from lakehouse_assets.platform.monitoring.retraining.decision import COMMAND, SENSOR, Door
from lakehouse_assets.platform.monitoring.retraining.runs import REASON_TAG, REQUEST_TAG, TRAIN
from lakehouse_assets.platform.monitoring.retraining.standing import Standing
from lakehouse_assets.platform.orchestration import retraining
from lakehouse_assets.platform.orchestration.autoload import Products
from lakehouse_assets.platform.orchestration.code_location import definitions
from lakehouse_assets.platform.orchestration.in_process_run import CODE_LOCATION
from lakehouse_assets.platform.orchestration.run_control import locks_of
from lakehouse_assets.platform.orchestration.steps import key_of
from lakehouse_assets.platform.pipeline.model_step import REQUESTS, VERDICTS
from lakehouse_assets.platform.registry.decisions import create_ledger
from lakehouse_assets.platform.storage.commit import Commit
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.originals import Originals
from lakehouse_assets_tests.platform.orchestration import level
from lakehouse_assets_tests.platform.orchestration.level import DAYS, FEATURES, MODEL, PREDICTIONS, Demo
from lakehouse_assets_tests.platform.pipeline.model_histories import trained_well

DAY = timedelta(days=1)
NAME = "demo.monitors.drift"
WINDOW = datetime(2024, 1, 1, tzinfo=UTC)
RETRAIN = Retrain(on=(NAME,), cool_down=7 * DAY, trainings=3, per=30 * DAY)


@dataclass(frozen=True)
class Drift(MonitorKind):
    """Says what the test wants it to have said."""

    word = "drift"
    demands = "Nothing drifts."

    def evaluate(self, watched: Watched) -> list[Verdict]:
        raise NotImplementedError(watched)


def drift(kind: MonitorKind = Drift(), **changes):
    return monitor(NAME, of=FEATURES, kind=kind, **changes)


@dataclass
class Shop:
    """The small product with `retrain=`, its Dagster, and the time that its sensor sees."""

    settings: object
    instance: dg.DagsterInstance
    originals: Originals
    retrain: Retrain = RETRAIN
    watch: object = field(default_factory=drift)
    later: timedelta = timedelta(0)
    others: tuple = ()

    def __post_init__(self) -> None:
        self.began = datetime.now(UTC)
        self.demo = Demo(self.settings.root, self.originals)

    @property
    def now(self) -> datetime:
        return self.began + self.later

    @property
    def model(self):
        return replace(level.level_model, retrain=self.retrain)

    @property
    def catalog(self) -> Catalog:
        scores = replace(level.scores, model=self.model)
        return Catalog((level.gold, level.features, self.model, scores, self.watch, *self.others), frozenset({DAYS}))

    @property
    def defs(self) -> dg.Definitions:
        return definitions(self.settings, Products(self.catalog))

    def train_first(self) -> None:
        """A first training, by hand."""
        trained_well(self.demo)

    def news(self, error: float = 2.0, origins: int = 6) -> None:
        """More days come."""
        self.demo.land(error=error, origins=origins)
        self.demo.work_out_features()

    def says(self, *, passed: bool | None = False, **about) -> None:
        """The monitor says something."""
        said = {"metric": "population_stability_index", "value": 0.31, "threshold": 0.12, "window_start": WINDOW, "rows": 5000}
        verdict = Verdict(passed, "It has drifted.", **(said | {"window_end": WINDOW + DAY} | about))
        table = self.demo.lakehouse.table(FEATURES)
        judgement = Judgement(self.watch, table.delta().metadata().id, table.version(), self.now, "r", [verdict])
        assert judgements.add(self.demo.lakehouse, [judgement]) == 1

    def standing(self, door: Door = SENSOR) -> Standing:
        """As whoever asks sees it now."""
        return Standing(
            self.model, self.catalog, self.demo.lakehouse, lambda: self.demo.registry, retraining.runs_of(self.instance), self.now, door
        )

    def tick(self):
        """What the sensor says."""
        (sensor,) = retraining.sensors(self.catalog)
        repository = self.defs.get_repository_def()
        with (
            pytest.MonkeyPatch.context() as patched,
            dg.build_sensor_context(
                instance=self.instance,
                repository_def=repository,
                resources={name: self.defs.resources[name] for name in ("lakehouse", "mlflow")},
            ) as context,
        ):
            patched.setattr(clock, "now", lambda: self.now)
            return sensor.evaluate_tick(context)

    def asks(self) -> dg.RunRequest:
        (request,) = self.tick().run_requests
        return request

    def skips(self) -> str:
        tick = self.tick()
        assert not tick.run_requests
        return str(tick.skip_message)

    def execute(
        self, request: dg.RunRequest, *, fails: bool = False, meanwhile: Callable[[], None] | None = None
    ) -> dg.ExecuteInProcessResult:
        """The run of a request, as Dagster's daemon starts it, but in this process; `meanwhile` comes once it has chosen its rows."""
        job = self.defs.resolve_job_def(TRAIN)
        tags = dict(request.tags) | {RUN_KEY_TAG: request.run_key}
        if meanwhile is not None:
            level.Level.before = staticmethod(lambda: (setattr(level.Level, "before", staticmethod(lambda: None)), meanwhile()))
        if fails:
            level.Level.before = staticmethod(lambda: (_ for _ in ()).throw(ValueError("no memory")))
        try:
            return job.execute_in_process(
                instance=self.instance, asset_selection=list(request.asset_selection), tags=tags, raise_on_error=False
            )
        finally:
            level.Level.before = staticmethod(lambda: None)

    def run_of(self, request: dg.RunRequest, status: dg.DagsterRunStatus) -> dg.DagsterRun:
        """A run of a request that nobody works on."""
        run = dg.DagsterRun(
            job_name=TRAIN,
            run_id=str(uuid.uuid4()),
            status=status,
            tags=dict(request.tags),
            asset_selection=frozenset(request.asset_selection),
            remote_job_origin=RemoteJobOrigin(CODE_LOCATION, TRAIN),
        )
        self.instance.add_run(run)
        return run


@pytest.fixture
def shop(settings, originals) -> Iterator[Shop]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Shop(settings, instance, originals)


def test_a_monitor_fails_and_the_model_is_trained_with_that_reason_once(shop):
    shop.train_first()
    shop.later = 8 * DAY
    assert "Nothing has changed that it learns from" in shop.skips()
    shop.news()
    assert "Nothing asks for a training." in shop.skips()
    shop.says()
    request = shop.asks()
    reason = "demo.monitors.drift failed: population_stability_index was 0.31 (threshold 0.12), window 2024-01-01 to 2024-01-02."
    assert request.run_key == f"{MODEL}:1"
    assert request.tags.items() >= {REASON_TAG: reason, REQUEST_TAG: f"{MODEL}:1"}.items()
    assert {key_of(MODEL), key_of(PREDICTIONS)} <= {*request.asset_selection}
    assert key_of(FEATURES) not in request.asset_selection

    result = shop.execute(request)
    assert result.success
    assert shop.instance.get_run_by_id(result.run_id).tags[REASON_TAG] == reason
    first, second = shop.demo.decisions()
    assert (first["training_reason"], second["training_reason"]) == (None, reason)
    assert (second["decision"], second["question"]) == ("promoted", "refresh"), "the gate has decided"
    assert [version for version, *_ in shop.demo.predicted()] == [1, 2], "and the champion has scored"
    version = shop.demo.registry.version(MODEL, 2)
    assert version.tags["training_reason"] == reason
    client = shop.demo.registry._client()
    assert client.get_run(version.run_id).data.tags["training_reason"] == reason
    assert reason in client.get_model_version(MODEL, "2").description

    (row,) = shop.demo.lakehouse.table(requests.TABLE).scan().collect().to_dicts()
    assert (row["model"], row["number"], row["cause"], row["reason"], row["champion"]) == (MODEL, 1, "drift", reason, 1)
    (found,) = json.loads(row["evidence"])
    assert found["monitor"] == NAME
    assert (found["metric"], found["value"], found["threshold"]) == ("population_stability_index", 0.31, 0.12)
    assert found["window_start"] == WINDOW.isoformat()


def test_after_the_cool_down_it_may_be_trained_again_and_what_was_said_before_does_not_count(shop):
    shop.train_first()
    shop.later = 8 * DAY
    shop.news()
    shop.says()
    shop.execute(shop.asks())
    shop.news(origins=7)
    assert "the cool-down lasts until" in shop.skips()
    shop.later = 16 * DAY
    assert "Nothing asks for a training." in shop.skips(), "what the training has seen is no reason"
    shop.says(value=0.4, window_start=WINDOW + DAY, window_end=WINDOW + 2 * DAY)
    request = shop.asks()
    assert request.run_key == f"{MODEL}:2"
    assert "0.4" in request.tags[REASON_TAG]


@pytest.mark.parametrize("release", sweeps.of(["earlier"], ["this", "earlier"]))
def test_what_is_said_while_a_training_runs_is_a_reason_for_the_next_one(shop, release):
    """By real moments: the training is asked for, chooses its rows, the monitor speaks of newer ones, the gate decides."""
    shop.retrain = replace(RETRAIN, cool_down=timedelta(0))
    shop.train_first()

    def says(value: float, day: int) -> None:
        shop.began = datetime.now(UTC)
        shop.says(value=value, window_start=WINDOW + day * DAY, window_end=WINDOW + (day + 1) * DAY)

    shop.news()
    says(0.31, 0)
    shop.began = datetime.now(UTC)
    request = shop.asks()
    if release == "this":
        says(0.35, 1)  # of rows that the training is going to read

    def meanwhile() -> None:
        shop.news(origins=7)
        says(0.4, 2)

    assert shop.execute(request, meanwhile=meanwhile).success
    (asked,) = shop.standing().history.requests
    (newest,) = verdicts.history(shop.demo.lakehouse, NAME, 1)
    assert asked.at < newest["evaluated_at"] < shop.demo.decisions()[-1]["decided_at"]
    if release == "earlier":
        ledger = shop.demo.ledger
        ledger.append(ledger.scan().limit(0).collect(), Commit(forgets=(VERDICTS,)))
        assert shop.demo.ledger.cursor(VERDICTS) is None
    shop.began = datetime.now(UTC)
    assert [reason.value for reason in shop.standing().reasons] == [0.4]
    request = shop.asks()
    assert request.run_key == f"{MODEL}:2"
    assert shop.execute(request).success
    shop.news(origins=8)
    shop.began = datetime.now(UTC)
    assert "Nothing asks for a training." in shop.skips(), "all that was said has been read"


def test_two_ticks_and_two_daemons_start_one(shop):
    shop.train_first()
    shop.later = 8 * DAY
    shop.news()
    shop.says()
    one, other = shop.standing(), shop.standing()
    assert one.decision.starts
    assert other.decision.starts
    assert one.ask().key == f"{MODEL}:1"
    assert other.ask() is None, "of two that ask at the same moment one does"
    assert shop.demo.lakehouse.table(requests.TABLE).count() == 1
    # The first daemon was killed before it had started the run: the next tick asks Dagster again, by the same key.
    assert [shop.asks().run_key, shop.asks().run_key] == [f"{MODEL}:1"] * 2
    request = shop.asks()
    run = shop.run_of(request, dg.DagsterRunStatus.QUEUED)
    assert f"A training is under way (run {run.run_id[:8]})." in shop.skips()
    # A second daemon had started it as well: the second run finds that it was done.
    shop.instance.delete_run(run.run_id)
    for _ in range(2):
        assert shop.execute(request).success
    assert [row["version"] for row in shop.demo.decisions()] == [1, 2]
    shop.news(origins=7)
    shop.execute(request)
    assert [row["version"] for row in shop.demo.decisions()] == [1, 2], "also where there is something new to learn by now"


# --- two doors: the sensor, and `lakehouse train --due`


@pytest.mark.parametrize(("first", "second"), [(SENSOR, COMMAND), (COMMAND, SENSOR)])
def test_what_one_door_has_asked_for_is_not_started_by_the_other(shop, first, second):
    shop.train_first()
    shop.later = 8 * DAY
    shop.news()
    shop.says()
    asked = shop.standing(first).ask()
    assert shop.standing(second).ask() is None
    assert "is to start its run" in shop.standing(second).decision.why_not
    assert shop.standing(first).ask().key == asked.key, "it starts what it has asked for"
    shop.later += timedelta(minutes=59)
    assert shop.standing(second).ask() is None
    shop.later += timedelta(minutes=1)
    taken_over = shop.standing(second).ask()
    assert taken_over.number == asked.number + 1, "where it never did, the other one asks anew"
    assert shop.standing(first).ask() is None
    # The first one starts its run after all, when the other's is over.
    step = shop.demo.step(asset=shop.model)
    step.run(because=TrainingReason(taken_over.text, taken_over.number))
    shop.news(origins=7)
    step.run(because=TrainingReason(asked.text, asked.number))
    assert len(shop.demo.decisions()) == 2


def test_a_request_of_an_earlier_release_is_the_sensors(shop):
    shop.train_first()
    shop.later = 8 * DAY
    shop.news()
    shop.says()
    shop.standing(COMMAND).ask()
    table = shop.demo.lakehouse.table(requests.TABLE)
    rows = table.scan().drop("asked_by").collect()
    shutil.rmtree(table.uri)
    table.create(rows.schema)
    table.append(rows)
    assert shop.standing(COMMAND).ask() is None
    assert shop.asks().run_key == f"{MODEL}:1"


def test_a_run_that_fails_or_is_killed_is_followed_by_another_later(shop):
    shop.train_first()
    shop.later = 8 * DAY
    shop.news()
    shop.says()
    assert not shop.execute(shop.asks(), fails=True).success
    assert "failed: the next try starts after" in shop.skips()
    shop.later += timedelta(hours=1)
    request = shop.asks()
    assert request.run_key == f"{MODEL}:2"
    killed = shop.run_of(request, dg.DagsterRunStatus.STARTED)
    locks_of(shop.instance).take(killed.run_id).release(forget=False)
    assert "failed: the next try starts after" in shop.skips(), "its process is gone, so it is ended"
    assert shop.instance.get_run_by_id(killed.run_id).status is dg.DagsterRunStatus.FAILURE
    shop.later += timedelta(hours=2)
    request = shop.asks()
    assert shop.execute(request).success
    assert shop.demo.decisions()[-1]["training_reason"] == request.tags[REASON_TAG]
    shop.later += 8 * DAY
    shop.news(origins=7)
    shop.says(value=0.4)
    assert "The budget is spent (3 trainings in 30 days)" in shop.skips(), "failed ones count too"


def test_a_run_that_is_killed_after_the_decision_is_not_done_again(shop):
    shop.train_first()
    shop.later = 8 * DAY
    shop.news()
    shop.says()
    request = shop.asks()
    shop.demo.step(asset=shop.model).run(because=TrainingReason(request.tags[REASON_TAG], 1))
    shop.run_of(request, dg.DagsterRunStatus.FAILURE)
    assert [one.state for one in shop.standing().history.requests] == ["done"]
    shop.news(origins=7)
    assert "the cool-down lasts until" in shop.skips()


def test_a_request_with_nothing_left_to_learn_is_done_and_one_that_came_late_trains_nothing(shop):
    shop.train_first()
    step = shop.demo.step(asset=shop.model)
    step.run(because=TrainingReason("nothing is new", 2))
    assert shop.demo.ledger.cursor(REQUESTS) == 2
    shop.news()
    step.run(because=TrainingReason("an older one, from a process that hung", 1))
    assert (len(shop.demo.decisions()), shop.demo.ledger.cursor(REQUESTS)) == (1, 2)
    step.leave("its function was changed", TrainingReason("a newer one", 3))
    assert (len(shop.demo.decisions()), shop.demo.ledger.cursor(REQUESTS)) == (1, 3)
    step.run(because=TrainingReason("a person asked"))
    assert shop.demo.decisions()[-1]["training_reason"] == "a person asked"


def test_a_training_by_hand_that_is_under_way_is_not_doubled(shop):
    shop.train_first()
    shop.later = 8 * DAY
    shop.news()
    shop.says()
    run = dg.DagsterRun(
        job_name="__ASSET_JOB",
        run_id=str(uuid.uuid4()),
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset({key_of(MODEL)}),
    )
    shop.instance.add_run(run)
    assert "under way" in shop.skips()
    shop.instance.delete_run(run.run_id)
    assert shop.asks().run_key == f"{MODEL}:1"


def test_what_was_asked_for_and_done_by_hand_meanwhile_is_not_done_again(shop):
    shop.train_first()
    shop.retrain = replace(RETRAIN, cool_down=timedelta(0))
    shop.news()
    shop.began = datetime.now(UTC)
    shop.says()
    assert shop.asks().run_key == f"{MODEL}:1"
    shop.demo.step(asset=shop.model).run()
    shop.later = timedelta(minutes=5)
    shop.news(origins=7)
    assert "Nothing asks for a training." in shop.skips()


def test_what_is_said_of_another_version_or_of_too_few_windows_is_no_reason(shop):
    shop.watch = drift(alert=AlertRule(consecutive=2, least_rows=100))
    shop.train_first()
    shop.later = 8 * DAY
    shop.news()

    def says(day: int, **about) -> None:
        shop.says(window_start=WINDOW + day * DAY, window_end=WINDOW + (day + 1) * DAY, **about)

    says(1, model_version=7)
    says(2, model_version=7)
    assert "Nothing asks" in shop.skips()
    says(1, model_version=1)
    assert "Nothing asks" in shop.skips()
    says(2, model_version=1, rows=99)
    assert "Nothing asks" in shop.skips()
    says(2, model_version=1, passed=None)
    assert "Nothing asks" in shop.skips()
    says(2, model_version=1, passed=True)
    says(3, model_version=1)
    assert "Nothing asks" in shop.skips()
    says(4, model_version=1)
    assert "window 2024-01-05 to 2024-01-06" in shop.asks().tags[REASON_TAG]


def test_a_monitor_that_is_evaluated_is_a_reason_as_it_is(shop):
    """The days of the demo are years old."""
    shop.watch = drift(Freshness("day", 400 * DAY))
    shop.train_first()
    shop.later = 8 * DAY
    shop.news()
    watched = Watched(shop.watch, shop.demo.lakehouse, shop.catalog, shop.now, "r", lambda: shop.demo.registry)
    said = shop.watch.kind.evaluate(watched)
    table = shop.demo.lakehouse.table(FEATURES)
    judgements.add(shop.demo.lakehouse, [Judgement(shop.watch, table.delta().metadata().id, table.version(), shop.now, "r", said)])
    reason = shop.asks().tags[REASON_TAG]
    assert reason.startswith("demo.monitors.drift failed: age_hours of day was 2")
    assert "(threshold 9,600)" in reason
    assert f"evaluated at {shop.now:%Y-%m-%d}" in reason


def test_new_rows_to_learn_from_are_a_reason(shop):
    shop.retrain = Retrain(new_labels=8, cool_down=DAY)
    shop.train_first()
    shop.later = 8 * DAY
    shop.news(origins=6)
    assert "Nothing asks" in shop.skips()
    shop.news(origins=7)
    request = shop.asks()
    assert request.tags[REASON_TAG] == "8 new labels since the last training (threshold 8)."
    shop.execute(request)
    shop.later = 16 * DAY
    shop.news(origins=8)
    assert "Nothing asks" in shop.skips(), "they are counted since the last training"


@dataclass(frozen=True)
class Ahead(level.Days):
    """Each day is an example of each of three origins, as in a forecast, and one outcome."""

    key: tuple[str, ...] = ("origin", "day", "ahead")

    @property
    def outcome(self) -> tuple[pl.Expr, ...]:
        return (pl.col("day"),)

    def rows(self, read, known_until=None):
        return super().rows(read, known_until).with_columns(ahead=pl.lit([1, 2, 3])).explode("ahead")


def test_an_outcome_of_several_examples_is_one_new_label_and_one_in_the_place_of_another_is_new(shop, monkeypatch):
    monkeypatch.setattr(level, "level_model", replace(level.level_model, examples=Ahead()))
    shop.retrain = Retrain(new_labels=1)
    shop.train_first()
    table = shop.demo.lakehouse.table(FEATURES)
    before = table.scan().select("day").unique().collect()
    shop.news(origins=7)
    now = table.scan().select("day").unique().collect()
    assert shop.standing().new_labels == now.join(before, on="day", how="anti").height == 8
    gone = table.scan().filter(pl.col("day") != before["day"].min()).collect()
    table.delta().delete()
    table.append(gone)
    assert shop.standing().new_labels == 8, "one label went, and none came"


def test_labels_whose_type_was_widened_are_not_new(shop):
    shop.retrain = Retrain(new_labels=1)
    shop.train_first()
    table = shop.demo.lakehouse.table(FEATURES)
    wide = table.scan().with_columns(pl.col("day").cast(pl.Datetime("us", "UTC"))).collect()
    wide.write_delta(table.uri, mode="overwrite", delta_write_options={"schema_mode": "overwrite"})
    assert shop.standing().new_labels == 0


def test_a_model_that_says_how_often_is_trained_so_and_left_out_of_the_weekly_training(shop):
    shop.retrain = Retrain(every=3 * DAY, cool_down=DAY)
    assert "does not exist yet" in shop.skips()
    shop.demo.land(error=2.0)
    shop.demo.work_out_features()
    request = shop.asks()
    assert request.tags[REASON_TAG] == "It was not trained yet, and is to be every 3 days."
    shop.execute(request)
    shop.news()
    shop.later = 2 * DAY
    assert "Nothing asks" in shop.skips()
    shop.later = 4 * DAY
    assert "The last training was 4 days ago" in shop.asks().tags[REASON_TAG]
    assert "weekly_training" not in {schedule.name for schedule in shop.defs.schedules}


def test_the_weekly_training_is_of_the_models_that_say_nothing_about_time(shop):
    other = replace(level.level_model, name="demo.models.other")
    timed = replace(shop.model, retrain=Retrain(every=DAY))
    catalog = Catalog((level.gold, level.features, timed, replace(level.scores, model=timed), other), frozenset({DAYS}))
    defs = definitions(shop.settings, Products(catalog))
    repository = defs.get_repository_def()
    context = dg.build_schedule_context(instance=shop.instance, repository_def=repository)
    (request,) = repository.get_schedule_def("weekly_training").evaluate_tick(context).run_requests
    assert request.asset_selection == [key_of("demo.models.other")]


def test_of_two_models_one_is_trained_and_the_other_waits(shop):
    """Each by itself, and a run of the one does not train the other."""
    shop.train_first()
    shop.later = 8 * DAY
    shop.news()
    shop.says()
    other = replace(level.level_model, name="demo.models.other", retrain=Retrain(new_labels=10**6))
    shop.others = (other,)
    request = shop.asks()
    assert request.run_key == f"{MODEL}:1"
    assert key_of("demo.models.other") not in request.asset_selection
    shop.others = (replace(other, retrain=Retrain(every=DAY)),)
    assert [request.run_key for request in shop.tick().run_requests] == [f"{MODEL}:1", "demo.models.other:1"]


def test_a_model_whose_state_cannot_be_read_holds_up_no_other(shop, monkeypatch):
    shop.train_first()
    monkeypatch.setattr(requests, "requests_of", None)
    monkeypatch.setattr("lakehouse_assets.platform.monitoring.retraining.standing.requests_of", None)
    assert "cannot be told" in shop.skips()


def test_without_retrain_there_is_no_sensor(shop):
    catalog = Catalog((level.gold, level.features, level.level_model, level.scores), frozenset({DAYS}))
    assert retraining.sensors(catalog) == []


def test_a_ledger_of_an_earlier_release_gets_the_column(shop):
    shop.train_first()
    rows = shop.demo.ledger.scan().drop("training_reason").collect()
    old = shop.demo.lakehouse.table("demo.models.old")
    old.create(rows.schema)
    old.append(rows)
    create_ledger(old)
    assert old.scan().collect()["training_reason"].to_list() == [None]


def test_drift_of_what_hardly_matters_is_no_reason(shop, monkeypatch):
    shop.train_first()
    shop.later = 8 * DAY
    shop.news()
    monkeypatch.setattr(Importance, "_shares", {"forecast": 0.97, "naive_forecast": 0.03})
    standing = shop.standing()
    importance = Importance(standing.model, standing.champion, standing.registry)
    assert importance.of(FEATURES, "forecast") == 0.97
    assert importance.of(FEATURES, "origin") == 0.0, "it is no input"
    assert importance.of("demo.gold.other", "origin") is None
    assert importance.of(FEATURES, "actual") is None, "the target always counts"
    shop.says(column_name="naive_forecast")
    assert standing.reasons == ()
    shop.says(column_name="forecast")
    standing = shop.standing()
    assert [reason.importance for reason in standing.reasons] == [0.97]
    assert standing.reasons[0].text.endswith("importance 97%")

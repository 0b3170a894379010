"""Runs and checks that fail are told once, to real receivers, and what is well again is told too; nothing fails of an alert."""

import dataclasses
import logging
import os
import re
import shutil
import signal
import sys
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets import Feed, feed
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.monitors import MonitorKind, Verdict, Watched, monitor
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.monitoring.alerts import delivery_log
from lakehouse_assets.platform.monitoring.alerts.delivery_log import DeliveryLog
from lakehouse_assets.platform.monitoring.alerts.log import LOG, AlertLog
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.orchestration import alerts, monitors
from lakehouse_assets.platform.orchestration.alerts import sensor, tick
from lakehouse_assets.platform.orchestration.assets import build
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.platform.orchestration.run_control import end_dead_runs, locks_of
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.forks import meet
from lakehouse_assets_tests.platform.monitoring.alerts import receivers
from lakehouse_assets_tests.platform.orchestration.club import SOURCES, Club
from lakehouse_assets_tests.running import land_text, tables_of

LOGGER = logging.getLogger("test")


@pytest.fixture
def webhook():
    with receivers.webhook() as opened:
        yield opened


@pytest.fixture
def club(settings):
    with dg.DagsterInstance.ephemeral() as instance:
        opened = Club(settings, instance)
        opened.land("members", ("a", 30))
        opened.land("visits", ("e", 5))
        yield opened


class Ticks:
    """The sensor's ticks on a club, at the time that they are given."""

    def __init__(self, club: Club, **settings: object) -> None:
        self.club, self.settings = club, dataclasses.replace(club.settings, **settings)
        self.log = AlertLog(tables_of(club.settings))
        self.now, self.more = datetime.now(UTC), ()

    def __call__(self, hours: float = 0) -> list[tuple[str, str]]:
        """What was logged by one tick: events by key."""
        before = self.log.snapshot().sequence
        self.now = max(self.now, datetime.now(UTC)) + timedelta(hours=hours)
        catalog = Catalog((*self.club.tables, *self.more), SOURCES)
        tick(self.club.instance, tables_of(self.settings), catalog, self.settings, self.now, LOGGER)
        rows = self.log.snapshot().rows().filter(pl.col("sequence") > before).sort("sequence").collect()
        return list(rows.select("key", "event").iter_rows())

    def after_a_run(self) -> list[tuple[str, str]]:
        self.club.run()
        return self()


def test_a_failure_is_told_once_and_its_end_too(club):
    ticks = Ticks(club)
    assert ticks.after_a_run() == []
    club.land("members", ("f", 200))
    failed = ticks.after_a_run()
    assert {(key, event) for key, event in failed} == {
        ("step:club.silver.members", "opened"),
        ("check:club.silver.members:contract", "opened"),
        ("check:club.silver.members:sane", "opened"),
        ("check:club.silver.members:young", "opened"),
    }
    told = {alert["key"]: alert for alert in ticks.log.alerts()}
    assert "break rule sane" in told["step:club.silver.members"]["text"]
    severities = {key.rpartition(":")[2]: alert["severity"] for key, alert in told.items() if key.startswith("check:")}
    assert severities == {"contract": "error", "sane": "error", "young": "warn"}
    assert {alert["owner"] for alert in told.values()} == {"team:club"}
    assert ticks.after_a_run() == [], "the same failure again is no news"
    assert ticks() == []
    club.tables[0] = replace(club.tables[0], function=lambda rows: rows.with_columns(age=pl.col("age").clip(0, 40)))
    well = ticks.after_a_run()
    assert ("step:club.silver.members", "resolved") in well
    assert ("check:club.silver.members:contract", "resolved") in well
    assert len(well) == 4
    assert ticks.log.snapshot().open_alerts() == []


def test_a_check_that_fails_in_a_run_that_succeeds_is_told_once(club):
    ticks = Ticks(club)
    ticks.after_a_run()
    club.land("visits", ("old", 90))
    assert set(ticks.after_a_run()) == {("check:club.silver.visits:young", "opened"), ("check:club.gold.visits:young", "opened")}
    assert ticks.after_a_run() == []


def test_what_stays_bad_is_told_again_after_the_cool_down_and_not_before(club):
    ticks = Ticks(club)
    club.land("members", ("f", 200))
    assert len(ticks.after_a_run()) == 4
    log = tables_of(club.settings).table(LOG)
    rows = log.scan().with_columns(pl.col("at", "notified_at") - timedelta(hours=25)).collect()  # as if it had been yesterday
    log.replace(rows, None)
    assert {event for _, event in ticks.after_a_run()} == {"repeated"}
    assert ticks.after_a_run() == []


def test_what_was_bad_before_anybody_listened_is_told_and_what_was_well_again_is_not(club):
    ticks = Ticks(club)
    club.land("members", ("f", 200))
    club.run()
    club.land("visits", ("old", 90))
    club.run()
    club.tables[0] = replace(club.tables[0], function=lambda rows: rows.with_columns(age=pl.col("age").clip(0, 40)))
    assert set(ticks.after_a_run()) == {("check:club.silver.visits:young", "opened"), ("check:club.gold.visits:young", "opened")}


def test_a_run_that_was_killed_is_told_and_so_is_that_the_next_one_came_to_its_end(club):
    ticks = Ticks(club)
    ticks.after_a_run()
    run = dg.DagsterRun(job_name="refresh", run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.STARTED)
    club.instance.add_run(run)
    locks_of(club.instance).take(run.run_id).release(forget=False)
    assert ticks() == []
    end_dead_runs(club.instance)
    assert ticks() == [("run:refresh", "opened")]
    job = dg.GraphDefinition(name="refresh", node_defs=[dg.op(name="step")(lambda: None)]).to_job()
    job.execute_in_process(instance=club.instance)
    assert ticks() == [("run:refresh", "resolved")]


def killed(club, job: str, *tables: str) -> dg.DagsterRun:
    """A run whose process is gone, ended as such."""
    keys = frozenset(dg.AssetKey(name.split(".")) for name in tables) or None
    run = dg.DagsterRun(job_name=job, run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.STARTED, asset_selection=keys)
    club.instance.add_run(run)
    locks_of(club.instance).take(run.run_id).release(forget=False)
    end_dead_runs(club.instance)
    return run


def test_an_alert_about_a_killed_run_is_over_when_all_its_tables_were_written_by_another(club):
    ticks = Ticks(club)
    ticks.after_a_run()
    killed(club, "nightly", "club.silver.members", "club.silver.visits")
    assert ticks() == [("run:nightly", "opened")]
    assert ticks() == []
    club.land("visits", ("g", 6))
    assert ticks.after_a_run() == [("run:nightly", "resolved")]
    [alert] = ticks.log.alerts()
    assert alert["text"] == "All its tables were written since."


def test_an_alert_about_a_killed_run_is_over_though_the_success_of_its_job_was_not_consumed(club):
    """As where it succeeded before, in the order of the events, or was deleted."""
    ticks = Ticks(club)
    ticks.after_a_run()
    killed(club, "refresh")
    assert ticks() == [("run:refresh", "opened")]
    done = dg.DagsterRun(job_name="refresh", run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.SUCCESS)
    club.instance.add_run(done)  # without its event
    assert ticks() == [("run:refresh", "resolved")]
    [alert] = ticks.log.alerts()
    assert alert["text"] == f"Job refresh has succeeded since, in run {done.run_id[:8]}."
    killed(club, "refresh")
    assert ticks() == [("run:refresh", "opened")], "a success before it says nothing"
    assert ticks() == []


def test_a_canceled_run_says_nothing_of_itself_and_its_checks_are_settled(club):
    ticks = Ticks(club)
    ticks.after_a_run()
    run = club.instance.create_run_for_job(club.job(), tags={})
    club.instance.report_run_canceled(run)
    assert ticks() == []


def test_more_runs_than_one_tick_takes_are_taken_in_their_order(club, monkeypatch):
    monkeypatch.setattr("lakehouse_assets.platform.orchestration.ended_runs.RUNS_AT_ONCE", 2)
    ticks = Ticks(club)
    ticks.after_a_run()
    for fails in (True, False, True, False, True):

        @dg.op
        def step(fails=fails) -> None:
            if fails:
                raise ValueError("the database is away")

        dg.GraphDefinition(name="load", node_defs=[step]).to_job().execute_in_process(instance=club.instance, raise_on_error=False)
    found = [ticks() for _ in range(4)]
    assert [event for tick in found for key, event in tick if key == "step:step"] == ["opened", "resolved", "opened", "resolved", "opened"]
    assert found[-1] == []


def test_a_run_whose_end_is_being_written_is_waited_for_and_holds_up_no_other_for_long(club):
    ticks = Ticks(club)
    ticks.after_a_run()
    run = dg.DagsterRun(job_name="refresh", run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.STARTED)
    club.instance.add_run(run)
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_FAILURE.value, "refresh", message="it was killed")
    entry = dg.EventLogEntry(
        error_info=None, level=40, user_message="", run_id=run.run_id, timestamp=time.time(), job_name="refresh", dagster_event=event
    )
    club.instance.event_log_storage.store_event(entry)  # as it is for a moment: the event is there, the state of the run is not
    club.land("visits", ("old", 90))
    assert ticks.after_a_run() == []
    found = ticks(hours=1)
    assert ("run:refresh", "opened") in found
    assert ("check:club.gold.visits:young", "opened") in found


def test_another_database_of_dagster_is_read_from_its_beginning(club):
    ticks = Ticks(club)
    for _ in range(3):
        ticks.after_a_run()
    with dg.DagsterInstance.ephemeral() as instance:
        club.instance = instance
        club.land("members", ("f", 200))
        assert ("step:club.silver.members", "opened") in ticks.after_a_run()
        assert ticks() == []


# --- files, staleness, and a source that cannot be read


PAYMENTS = feed("club.bronze.payments", Feed("payments", headers=(("id",),)), "Payments as they came.")


def refuse(club, path: str, sequence: int) -> Path:
    """A file that has landed and cannot be read."""
    file = land_text(club.settings, "payments", path, "no CSV")
    log = tables_of(club.settings).table(landing.LOG)
    log.create(landing.SCHEMA, ("feed",), landing.DESCRIPTION)
    found = {"path": path, "size": 1, "modified": datetime.now(UTC), "content_hash": path, "reason": None, "event": landing.FOUND}
    landing._number(log, PAYMENTS.feed, [found], landing.state(log, "payments"), "run")
    outcome = {"path": path, "sequence": sequence, "event": landing.REFUSED, "reason": f"{path} is no CSV"}
    landing.record(log, "payments", [outcome], "run")
    return file


def test_refused_files_are_told_until_none_is_left(club):
    ticks = Ticks(club)
    ticks.more = (PAYMENTS,)
    assert ticks() == []
    refuse(club, "a.csv", 1)
    assert ticks() == [("files:payments", "opened")]
    assert ticks() == []
    assert ticks(hours=25) == [("files:payments", "repeated")], "a feed stays bad also while nothing comes"
    landing.ignore(tables_of(club.settings).table(landing.LOG), PAYMENTS.feed, "a.csv", reason="a test", run_id="run")
    assert ticks() == [("files:payments", "resolved")]
    [alert] = ticks.log.alerts()
    assert alert["text"] == "No file is refused any more: a.csv is ignored."


def test_a_refused_file_that_is_taken_out_of_the_landing_zone_is_no_alert_any_more(club):
    ticks = Ticks(club)
    ticks.more = (PAYMENTS,)
    files = [refuse(club, "a.csv", 1), refuse(club, "b.csv", 2)]
    assert ticks() == [("files:payments", "opened")]
    files[0].unlink()
    assert ticks() == [], "the other one is there"
    files[1].unlink()
    assert ticks() == [("files:payments", "resolved")]
    [alert] = ticks.log.alerts()
    assert "a.csv was taken out of the landing zone" in alert["text"]
    assert ticks() == []


def test_without_a_landing_log_no_file_is_refused(club):
    ticks = Ticks(club)
    ticks.more = (PAYMENTS,)
    refuse(club, "a.csv", 1)
    assert ticks() == [("files:payments", "opened")]
    shutil.rmtree(tables_of(club.settings).table(landing.LOG).uri)
    assert ticks() == [("files:payments", "resolved")]


def test_a_table_that_is_not_refreshed_in_time_is_told(club):
    from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

    ticks, key = Ticks(club), dg.AssetKey(["club", "gold", "visits"])

    def becomes(before: FreshnessState, state: FreshnessState) -> list[tuple[str, str]]:
        change = FreshnessStateChange(key=key, new_state=state, previous_state=before, state_change_timestamp=time.time())
        club.instance._report_runless_asset_event(change)
        return ticks()

    assert becomes(FreshnessState.UNKNOWN, FreshnessState.PASS) == []
    assert becomes(FreshnessState.PASS, FreshnessState.WARN) == [("freshness:club.gold.visits", "opened")]
    assert becomes(FreshnessState.WARN, FreshnessState.FAIL) == [("freshness:club.gold.visits", "repeated")], "it became worse"
    assert ticks() == []
    assert becomes(FreshnessState.FAIL, FreshnessState.PASS) == [("freshness:club.gold.visits", "resolved")]


def test_a_source_that_cannot_be_read_keeps_no_other_from_being_heard(club, caplog):
    log = tables_of(club.settings).table(landing.LOG)
    log.create(landing.SCHEMA, ("feed",), landing.DESCRIPTION)
    commit = Path(log.uri) / "_delta_log" / "00000000000000000000.json"
    whole = commit.read_text()
    commit.write_text("")
    club.land("members", ("f", 200))
    ticks = Ticks(club)
    ticks.more = (PAYMENTS,)
    told = ticks.after_a_run()
    assert ("step:club.silver.members", "opened") in told
    assert ("source:the landing log", "pending") in told
    assert "the landing log cannot be read" in caplog.text
    assert [ticks(), ticks()] == [[("source:the landing log", "pending")], [("source:the landing log", "opened")]]
    assert ticks() == [], "the same failure again is no news"
    assert ticks(hours=25) == [("source:the landing log", "repeated")]
    commit.write_text(whole)
    assert [ticks(), ticks()] == [[("source:the landing log", "recovering")], [("source:the landing log", "resolved")]]
    assert ticks() == []


def test_the_error_of_a_source_is_told_without_values(club):
    class Guests:
        name = "the guests"

        def read(self, watermark, now):
            return int("Ann Miller")

    ticks = Ticks(club)
    done = take(ticks.log, [Guests()], ticks.now, LOGGER)
    assert [entry.key for entry in done.entries] == ["source:the guests"]
    assert "ValueError at " in done.unread["the guests"]
    assert "Ann" not in str(done)


# --- what leaves the house


class GuestError(Exception):
    """Of nobody's own."""


def _raises(error: Exception):
    def fails(rows=None) -> None:
        raise error

    return fails


@pytest.mark.parametrize(
    "error", [ValueError("Ann Miller"), GuestError("Ann Miller"), KeyError("Ann Miller"), dg.Failure("Ann Miller", {"guest": "Ann Miller"})]
)
def test_the_error_of_other_code_is_told_by_its_kind_and_place(club, webhook, error):
    """Its text may hold values of rows, and alerts leave the house."""
    ticks = Ticks(club, alert_webhook=webhook.address)
    step = dg.op(name="load")(_raises(error))
    dg.GraphDefinition(name="load", node_defs=[step]).to_job().execute_in_process(instance=club.instance, raise_on_error=False)
    assert ticks() == [("step:load", "opened")]
    [alert] = webhook.alerts
    line = _raises.__code__.co_firstlineno + 2
    assert re.fullmatch(rf"{type(error).__name__} at \S*test_alerts\.py:{line}: see the log of the run", alert["text"])
    assert alert["run_id"]
    assert "Ann" not in str(webhook.posted)


@pytest.mark.parametrize("error", [GuestError("Ann Miller")])
def test_so_is_one_in_the_function_of_a_declared_table(club, error):
    ticks = Ticks(club)
    ticks.after_a_run()
    club.tables[0] = replace(club.tables[0], function=_raises(error))
    club.land("members", ("f", 20))
    assert ("step:club.silver.members", "opened") in ticks.after_a_run()
    alert = next(one for one in ticks.log.alerts() if one["key"] == "step:club.silver.members")
    assert f"{type(error).__name__} at " in alert["text"]
    assert "Ann" not in str(ticks.log.alerts())


# --- monitors


@dataclasses.dataclass(frozen=True)
class Says(MonitorKind):
    """Says what it is told to."""

    passed: bool

    word = "says"
    demands = "It is told so."

    def evaluate(self, watched: Watched) -> list[Verdict]:
        return [Verdict(self.passed, "it was told so", rows=10)]


def test_a_monitor_is_told_by_its_verdict_once_and_not_as_a_check_again(club, webhook):
    ticks = Ticks(club, alert_routes=f"team:risk={webhook.address}")

    def run(passed: bool) -> list[tuple[str, str]]:
        watched = monitor("club.monitors.told", of="club.silver.visits", kind=Says(passed), severity="error", owner="team:risk")
        club.tables[4:] = [watched]
        catalog = Catalog(tuple(club.tables), SOURCES)
        defs = dg.Definitions(build(catalog)[1:], asset_checks=monitors.build(catalog), resources=resources(club.settings))
        done = defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=club.instance, raise_on_error=False)
        assert len([one for one in done.get_asset_check_evaluations() if one.check_name == "told" and one.passed is passed]) == 1
        return ticks()

    assert run(passed=True) == []
    assert run(passed=False) == [("monitor:club.monitors.told", "opened")]
    assert run(passed=True) == [("monitor:club.monitors.told", "resolved")]
    assert [(alert["severity"], alert["text"]) for alert in webhook.alerts] == [("error", "it was told so")] * 2


# --- delivery through the sensor


def test_the_sensor_posts_what_happened_and_settles_checks(club, webhook, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_ALERT_WEBHOOK", webhook.address)
    monkeypatch.setenv("LAKEHOUSE_ROOT", str(club.settings.root))
    club.land("members", ("f", 200))
    result = club.run()
    alerts = sensor(Catalog(tuple(club.tables), SOURCES), 30)
    lakehouse = resources(club.settings)["lakehouse"]

    def evaluate() -> str:
        with dg.build_sensor_context(instance=club.instance, resources={"lakehouse": lakehouse}) as context:
            return str(alerts.evaluate_tick(context).skip_message)

    assert evaluate() == "4 events, 8 deliveries."
    assert {alert["run_id"] for alert in webhook.alerts} == {result.run_id}
    assert len(webhook.posted) == 1, "what comes together is told together"
    assert "EXECUTION_FAILED" not in club.statuses().values(), "checks of skipped steps were settled"
    assert evaluate() == "0 events, 0 deliveries."
    assert len(webhook.posted) == 1


def test_a_receiver_that_is_away_is_told_all_in_order_when_it_comes_back(club, webhook, caplog):
    ticks = Ticks(club, alert_webhook=webhook.address)
    webhook.answers = [500]
    club.land("members", ("f", 200))
    assert len(ticks.after_a_run()) == 4
    assert "webhook could not be delivered to (try 1): the receiver answered 500" in caplog.text
    webhook.close()
    ticks(hours=0.1)
    club.tables[0] = replace(club.tables[0], function=lambda rows: rows.with_columns(age=pl.col("age").clip(0, 40)))
    assert len(ticks.after_a_run()) == 4
    assert "ConnectionRefusedError" in caplog.text
    assert "t0ken" not in caplog.text
    with receivers.webhook(webhook.port) as back:
        ticks()
        assert back.posted == [], "the next try is not due yet"
        ticks(hours=1)
        assert [alert["event"] for alert in back.alerts] == ["opened"] * 4 + ["resolved"] * 4
        assert len({(alert["id"], alert["number"]) for alert in back.alerts}) == 8
        ticks(hours=1)
        assert len(back.posted) == 1
    tried = DeliveryLog(ticks.log.lakehouse).tries().filter(pl.col("sink") == "webhook")
    assert tried.group_by("alert_id", "number").agg(pl.col("outcome").last())["outcome"].unique().to_list() == ["delivered"]


def test_a_receiver_that_hangs_holds_up_no_other_sink(club, webhook):
    from lakehouse_assets.platform.monitoring.alerts.delivery import deliver
    from lakehouse_assets.platform.monitoring.alerts.routing import sinks_of

    webhook.hangs.set()
    with receivers.mail_server() as (box, port):
        mail = {"alert_mail_to": "ann@example.com", "alert_mail_host": "127.0.0.1", "alert_mail_port": port, "alert_mail_security": "none"}
        settings = dataclasses.replace(club.settings, alert_webhook=webhook.address, **mail)
        ticks = Ticks(club)
        club.land("members", ("f", 200))
        ticks.after_a_run()
        log = tables_of(settings).table(LOG)
        log.replace(log.scan().with_columns(sinks=pl.lit(["webhook", "mail"])).collect(), None)
        told = deliver(ticks.log, sinks_of(settings, LOGGER).by_name, "lake", ticks.now, LOGGER, seconds=0.5)
    assert told.failed == {"webhook": "no answer within 0.5 seconds"}
    assert told.delivered == 4
    (mail,) = box.mails
    assert mail["Subject"].strip() == "[error] check of club.silver.members, contract: alert opened, 3 more opened"


def test_routes_send_the_alerts_of_an_owner_elsewhere(club, webhook):
    club.tables[2] = replace(club.tables[2], owner="team:risk")
    with receivers.webhook() as risk:
        ticks = Ticks(club, alert_webhook=webhook.address, alert_routes=f"team:risk={risk.address}")
        ticks.after_a_run()
        club.land("visits", ("old", 90))
        ticks.after_a_run()
        assert [alert["key"] for alert in risk.alerts] == ["check:club.silver.visits:young"]
        assert [alert["key"] for alert in webhook.alerts] == ["check:club.gold.visits:young"]


# --- crashes and races: on databases that processes share


@pytest.fixture
def failed(settings, tmp_path):
    """A root on whose instance a run has failed at two steps."""
    (tmp_path / "dagster").mkdir()

    def fails() -> None:
        raise ValueError("the database is away")

    steps = [dg.op(name=name)(fails) for name in ("one", "two")]
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        dg.GraphDefinition(name="load", node_defs=steps).to_job().execute_in_process(instance=instance, raise_on_error=False)
        yield SimpleNamespace(settings=settings, instance=instance, tables=[])


def carry_out(order: dict[str, Any]) -> None:
    """A tick of a daemon in a fork, which may kill itself before it delivers, or before it records what the webhook was told."""
    settings, record, kill_before = Settings.load({"LAKEHOUSE_ROOT": order["root"]}), DeliveryLog.add, order["kill_before"]
    settings = dataclasses.replace(settings, alert_webhook=order["webhook"])

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if kill_before == "delivery":
        alerts.deliver = die
    if kill_before == "record":
        DeliveryLog.add = lambda log, made: die() if made[0].sink == "webhook" else record(log, made)
    with dg.DagsterInstance.local_temp(order["home"]) as instance:
        meet(f"{order['root']}.ready", order["together"])
        tick(instance, tables_of(settings), Catalog(()), settings, datetime.now(UTC), LOGGER)


def go(forks, failed, webhook, kill_before: str = "nothing") -> list[int]:
    """Ticks of so many daemons at once; how they ended."""
    order = {"home": failed.instance.root_directory, "root": str(failed.settings.root), "webhook": webhook.address}
    for fork in forks:
        fork.begin(sys.modules[__name__], kill_before=kill_before, together=len(forks), **order)
    return [fork.end().signal for fork in forks]


@pytest.mark.parametrize(("kill_before", "posted"), [("delivery", 1), ("record", 2)])
def test_a_daemon_that_is_killed_after_the_commit_loses_no_alert_and_logs_none_twice(failed, webhook, forks, kill_before, posted):
    assert go(forks[:1], failed, webhook, kill_before) == [signal.SIGKILL]
    events = tables_of(failed.settings).table(LOG).scan().collect()
    assert sorted(events.select("key", "event").iter_rows()) == [("step:one", "opened"), ("step:two", "opened")]
    ticks = Ticks(failed, alert_webhook=webhook.address)
    assert ticks() == []
    assert ticks(hours=2) == []
    assert {(alert["id"], alert["number"]) for alert in webhook.alerts} == set(events.select("alert_id", "number").iter_rows())
    assert len(webhook.posted) == posted, "what was delivered and not recorded comes again, with its ids"
    assert tables_of(failed.settings).table(delivery_log.TABLE).count() == 4


def test_two_daemons_at_once_log_each_event_once(failed, webhook, forks):
    assert go(forks, failed, webhook) == [0, 0]
    Ticks(failed, alert_webhook=webhook.address)(hours=1)
    events = tables_of(failed.settings).table(LOG).scan().collect()
    assert sorted(events["sequence"]) == [1, 2]
    assert events["alert_id"].n_unique() == 2
    assert {(alert["id"], alert["number"]) for alert in webhook.alerts} == set(events.select("alert_id", "number").iter_rows())

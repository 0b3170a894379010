"""`lakehouse alerts` as a person uses it: what is open, what became of telling people, a test of the sinks, closing by hand."""

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.declarations.monitors import AlertRule
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.monitoring.alerts.delivery import deliver
from lakehouse_assets.platform.monitoring.alerts.log import LOG, AlertLog
from lakehouse_assets.platform.monitoring.alerts.routing import sinks_of
from lakehouse_assets.platform.monitoring.alerts.signals import Reading, Signal
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.storage import table_cache
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.monitoring.alerts import receivers
from lakehouse_assets_tests.running import land_text, tables_of

NOW = datetime.now(UTC)
LOGGER = logging.getLogger("test")


class Alerting:
    """A root, the command on it, and the daemon's part."""

    def __init__(self, root: str) -> None:
        self.environment = {"LAKEHOUSE_ROOT": root}

    def __call__(self, *words: str) -> Result:
        result = CliRunner(env=self.environment).invoke(main, words)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *words: str) -> list | dict:
        return json.loads(self(*words, "--json").stdout)

    def tick(self, *signals: Signal, minutes: float = 0) -> None:
        settings = Settings.load(self.environment)
        log, sinks = AlertLog(tables_of(settings)), sinks_of(settings, LOGGER)

        class Given:
            name = "what is given"

            def read(self, watermark, now) -> Reading:
                return Reading(signals)

        now = NOW + timedelta(minutes=minutes)
        take(log, [Given()], now, LOGGER, lambda entry: sinks.names_for(entry.owner))
        deliver(log, sinks.by_name, "lake", now, LOGGER)


@pytest.fixture
def lakehouse(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    return Alerting(str(tmp_path / "root"))


def bad(key: str = "step:sales.silver.lines", text: str = "sales.silver.lines: it broke") -> Signal:
    return Signal(key, is_bad=True, at=NOW, text=text, owner="team:sales", run_id="0123456789")


def test_before_the_first_alert_there_is_none(lakehouse):
    assert lakehouse("alerts").stdout == "There was no alert yet.\n"
    assert lakehouse("alerts", "--open").stdout == "No alert is open.\n"
    assert lakehouse.json("alerts", "list") == []


def test_alerts_are_listed_shown_and_closed(lakehouse):
    lakehouse.environment["LAKEHOUSE_ALERT_WEBHOOK"] = "http://127.0.0.1:9/t0ken"
    lakehouse.tick(bad(), bad("check:sales.silver.lines:contract", "it is\x1b[31m broken"))
    lakehouse.tick(Signal("step:sales.silver.lines", is_bad=False, at=NOW, text="It succeeded."), minutes=1)
    [opened] = lakehouse.json("alerts", "list", "--open")
    assert (opened["key"], opened["event"], opened["is_open"]) == ("check:sales.silver.lines:contract", "opened", True)
    both = lakehouse("alerts").stdout
    assert "resolved" in both
    assert "step:sales.silver.lines" in both
    other = next(alert for alert in lakehouse.json("alerts") if not alert["is_open"])
    shown = lakehouse("alerts", "show", other["alert_id"][:6]).stdout
    assert "1. opened" in shown
    assert "2. resolved" in shown
    assert "log: delivered" in shown
    assert "webhook: unreachable after 2 tries (no answer: ConnectionRefusedError)" in shown
    assert "webhook: unreachable (no answer: ConnectionRefusedError)" in shown
    assert "t0ken" not in shown
    assert "\x1b[31m" not in lakehouse("alerts", "show", opened["alert_id"]).stdout
    events = lakehouse.json("alerts", "show", other["alert_id"])["events"]
    assert [event["deliveries"]["log"]["outcome"] for event in events] == ["delivered"] * 2
    assert lakehouse("alerts", "close", opened["alert_id"], "--reason", " ").exit_code == 1
    assert "is resolved" in lakehouse("alerts", "close", opened["alert_id"], "--reason", "the table is gone").stdout
    assert lakehouse.json("alerts", "list", "--open") == []
    again = lakehouse("alerts", "close", opened["alert_id"], "--reason", "the table is gone")
    assert again.exit_code == 1
    assert "is not open" in again.stderr
    missing = lakehouse("alerts", "show", "zz")
    assert missing.exit_code == 1
    assert "no alert begins with 'zz'" in missing.stderr


def test_of_one_that_recovers_it_is_shown_how_many_windows_are_good_of_how_many(lakehouse):
    signal = replace(bad(), rule=AlertRule(resolve_after=3))
    lakehouse.tick(signal)
    for good in (1, 2):
        lakehouse.tick(replace(signal, is_bad=False, at=NOW + timedelta(minutes=good)), minutes=good)
        [shown] = lakehouse.json("alerts", "list", "--open")
        assert (shown["good_windows"], shown["resolve_after"]) == (good, 3)
        assert f"open, {good} of 3 windows good" in lakehouse("alerts", "show", shown["alert_id"]).stdout
    lakehouse.tick(replace(signal, at=NOW + timedelta(minutes=3)), minutes=3)
    assert "open: error" in lakehouse("alerts", "show", shown["alert_id"]).stdout


def test_the_status_shows_what_is_open(lakehouse):
    lakehouse.tick(bad())
    assert "sales.silver.lines: it broke" in lakehouse("status").stdout
    [shown] = lakehouse.json("status")["open_alerts"]
    assert shown["key"] == "step:sales.silver.lines"
    lakehouse.tick(Signal("step:sales.silver.lines", is_bad=False, at=NOW, text="It succeeded."))
    assert lakehouse.json("status")["open_alerts"] == []


def test_send_ends_with_1_where_a_source_cannot_be_read_until_what_it_says_is_done(lakehouse, tmp_path):
    product = tmp_path / "unread_depots" / "depot" / "bronze.py"
    product.parent.mkdir(parents=True)
    product.write_text(
        'from lakehouse_assets import Feed, feed\n\nparcels = feed("depot.bronze.parcels", Feed("parcels", headers=(("id",),)), "All.")\n'
    )
    lakehouse.environment |= {"LAKEHOUSE_PRODUCTS": str(product.parents[1]), "DAGSTER_HOME": ""}
    settings = Settings.load(lakehouse.environment)
    land_text(settings, "parcels", "a.csv", "id\n1\n")
    assert (done := lakehouse("run")).exit_code == 0, done.output
    land_text(settings, "parcels", "b.csv", "no,such,header\n1,2,3\n")
    lakehouse("run")
    log = tables_of(settings).table(landing.LOG)
    last = Path(log.uri) / "_delta_log" / f"{log.version():020}.json"
    last.write_bytes(last.read_bytes()[:-100])
    unread = lakehouse("alerts", "send")
    assert unread.exit_code == 1, unread.output
    assert "not read: the landing log." in unread.stdout
    advised = f"lakehouse restore {landing.LOG} --last-good"
    assert advised in " ".join(unread.stdout.split())
    assert set(lakehouse.json("alerts", "send")["unread"]) == {"the landing log"}
    assert lakehouse.json("alerts", "list", "--open") == [], "it may be for a moment"
    lakehouse("alerts", "send")
    [opened] = lakehouse.json("alerts", "list", "--open")
    assert (opened["key"], opened["severity"]) == ("source:the landing log", "error")
    assert lakehouse(*advised.split()[1:], "--yes").exit_code == 0
    lakehouse("run")
    for _ in range(2):
        done = lakehouse("alerts", "send")
        assert done.exit_code == 0, done.output
    assert {alert["key"]: alert["is_open"] for alert in lakehouse.json("alerts")} == {
        "source:the landing log": False,
        "files:parcels": True,
    }


def test_a_log_that_cannot_be_read_ends_no_command_in_a_traceback(lakehouse):
    lakehouse.tick(bad())
    log = tables_of(Settings.load(lakehouse.environment)).table(LOG)
    for uri in log.delta().file_uris():
        Path(uri).write_bytes(b"garbage")
    table_cache.clear()
    listed = lakehouse("alerts")
    assert listed.exit_code == 1
    assert "a table cannot be read: `lakehouse doctor` says which one, and what to do" in listed.output
    status = lakehouse("status")
    assert status.exit_code == 0, status.output
    assert "warning: a table cannot be read: `lakehouse doctor` says which one" in " ".join(status.output.split())
    assert f"lakehouse restore {LOG} --last-good" in lakehouse("doctor").output


def test_send_says_what_waits_for_a_sink_that_could_not_be_reached_and_ends_with_1(lakehouse):
    lakehouse.environment["LAKEHOUSE_ALERT_WEBHOOK"] = "http://127.0.0.1:9/t0ken"
    ahead = (datetime.now(UTC) - NOW) / timedelta(minutes=1)
    for number in range(8):  # so often that the next try is far away
        lakehouse.tick(bad(), bad("step:b"), minutes=ahead - 70 * (7 - number))
    sent = lakehouse("alerts", "send")
    assert sent.exit_code == 1, sent.output
    said = " ".join(sent.stdout.split())
    assert "3 events wait for webhook, next try at 20" in said, "of two alerts that were opened, and that one is over"
    done = lakehouse.json("alerts", "send")
    assert (done["failed"], done["waiting"]["webhook"]["events"]) == ({}, 3)
    del lakehouse.environment["LAKEHOUSE_ALERT_WEBHOOK"]
    assert lakehouse("alerts", "send").exit_code == 0


def test_a_test_says_what_came_of_each_sink_and_writes_nothing_down(lakehouse):
    nothing = lakehouse("alerts", "test")
    assert nothing.exit_code == 0
    assert "No sink is set" in nothing.stdout
    with receivers.webhook() as hook, receivers.webhook() as slack, receivers.mail_server() as (box, port):
        lakehouse.environment |= {
            "LAKEHOUSE_ALERT_WEBHOOK": hook.address,
            "LAKEHOUSE_ALERT_SLACK": slack.address,
            "LAKEHOUSE_ALERT_MAIL_TO": "ops@example.com",
            "LAKEHOUSE_ALERT_MAIL_HOST": "127.0.0.1",
            "LAKEHOUSE_ALERT_MAIL_PORT": str(port),
            "LAKEHOUSE_ALERT_MAIL_SECURITY": "none",
            "LAKEHOUSE_ALERT_ROUTES": "team:risk=risk@example.com",
        }
        done = lakehouse("alerts", "test")
        assert done.exit_code == 0, done.stdout
        assert [row["outcome"] for row in lakehouse.json("alerts", "test")] == ["delivered"] * 4
        assert [alert["key"] for alert in hook.alerts] == ["test:lakehouse"] * 2
        assert len(slack.posted) == 2
        assert sorted(box.recipients) == [["ops@example.com"]] * 2 + [["risk@example.com"]] * 2
        slack.answers = [404]
        failed = lakehouse("alerts", "test")
    assert failed.exit_code == 1
    assert "refused slack, http://127.0.0.1/•••: the receiver answered 404" in failed.stdout
    assert "delivered mail team:risk, risk@example.com" in failed.stdout
    assert "t0ken" not in failed.stdout
    assert lakehouse.json("alerts") == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"LAKEHOUSE_ALERT_ROUTES": "risk=t0ken"}, "number 1 is no route"),
        ({"LAKEHOUSE_ALERT_MAIL_TO": "ops@example.com"}, "LAKEHOUSE_ALERT_MAIL_HOST is empty"),
    ],
)
def test_a_test_says_what_is_wrong_with_the_settings(lakehouse, given, says):
    lakehouse.environment |= given
    done = lakehouse("alerts", "test")
    assert done.exit_code == 1
    assert says in done.stdout
    assert "t0ken" not in done.stdout

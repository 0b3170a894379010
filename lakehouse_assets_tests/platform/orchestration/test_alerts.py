"""Runs and checks that fail are told once, to a real webhook, and what is well again is told too; nothing fails of an alert."""

import json
import logging
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.platform.orchestration.alerts import Alert, alert_of, deliver, sensors
from lakehouse_assets.platform.orchestration.planned import settle
from lakehouse_assets_tests.platform.orchestration.club import Club

LOG = logging.getLogger("test")


class Webhook:
    """A server that keeps what is posted, and answers with given codes first."""

    def __init__(self) -> None:
        self.posted: list[dict] = []
        self.answers: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                code = outer.answers.pop(0) if outer.answers else 200
                if code == 200:
                    outer.posted.append(content)
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_args) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def webhook():
    opened = Webhook()
    yield opened
    opened.server.shutdown()
    opened.server.server_close()


@pytest.fixture
def club(settings):
    with dg.DagsterInstance.ephemeral() as instance:
        opened = Club(settings, instance)
        opened.land("members", ("a", 30))
        opened.land("visits", ("e", 5))
        yield opened


def ended(club) -> Alert:
    result = club.run()
    settle(club.instance, result.run_id)
    return alert_of(club.instance, club.instance.get_run_by_id(result.run_id))


def test_a_failure_is_told_once_and_its_end_too(club):
    assert not ended(club)
    club.land("members", ("f", 200))
    failed = ended(club)
    assert set(failed.failed_steps) == {"club__silver__members"}
    assert "break rule sane" in failed.failed_steps["club__silver__members"]
    assert {(check["table"], check["check"], check["severity"]) for check in failed.failed_checks} == {
        ("club.silver.members", "contract", "ERROR"),
        ("club.silver.members", "sane", "ERROR"),
        ("club.silver.members", "young", "WARN"),
    }
    assert not ended(club), "the same failure again is no news"
    club.tables[0] = replace(club.tables[0], function=lambda rows: rows.with_columns(age=pl.col("age").clip(0, 40)))
    well = ended(club)
    assert "club__silver__members" in well.recovered
    assert "club.silver.members, check contract" in well.recovered
    assert not well.failed_steps


def test_a_check_that_fails_in_a_run_that_succeeds_is_told_once(club):
    ended(club)
    club.land("visits", ("old", 90))
    told = ended(club)
    assert not told.failed_steps
    assert {(check["table"], check["check"]) for check in told.failed_checks} == {
        ("club.silver.visits", "young"),
        ("club.gold.visits", "young"),
    }
    assert not ended(club)


def test_an_alert_is_posted_and_tried_again(webhook):
    alert = Alert("0123456789", "refresh", {"step": "sales.silver.lines: it broke"}, [], ["other"])
    webhook.answers = [500, 503]
    pauses: list[float] = []
    assert deliver(alert, webhook.address, LOG, pauses.append)
    [posted] = webhook.posted
    assert posted["failed_steps"] == {"step": "sales.silver.lines: it broke"}
    assert posted["text"] == "run 01234567 of refresh\nfailed: sales.silver.lines: it broke\nwell again: other"
    assert len(pauses) == 2


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/secret", "no address/secret"])
def test_an_alert_that_cannot_be_delivered_fails_nothing_and_does_not_tell_the_address(address, caplog):
    assert not deliver(Alert("r", "refresh", {"s": "why"}), address, LOG, lambda _: None)
    assert "failed: why" in caplog.text
    assert "could not be delivered" in caplog.text
    assert "secret" not in caplog.text


def test_the_sensor_posts_what_happened(club, webhook, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_ALERT_WEBHOOK", webhook.address)
    club.land("members", ("f", 200))
    result = club.run()
    sensor = next(sensor for sensor in sensors() if sensor.name == "alert_on_failure")
    event = next(entry.dagster_event for entry in club.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.RUN_FAILURE))
    run = club.instance.get_run_by_id(result.run_id)
    sensor(dg.build_run_status_sensor_context(sensor.name, event, club.instance, run))
    [posted] = webhook.posted
    assert posted["run_id"] == result.run_id
    assert "EXECUTION_FAILED" not in club.statuses().values(), "checks of skipped steps were settled"

"""What is wrong stands once, with how bad it is and the command that helps; what is well again stands once for each monitor."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse_assets import open_lakehouse
from lakehouse_assets.platform import clock
from lakehouse_assets.settings import Settings
from lakehouse_assets.views import overview
from lakehouse_assets.views.blocks import Rows

_TABLE = "sales.silver.payments"
_PREDICTIONS, _MODEL = "order_fraud.predictions.orders", "order_fraud.models.order_fraud"


@pytest.fixture
def lake(tmp_path):
    return open_lakehouse(settings=Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "root")}))


def failed(name: str, table: str, kind: str, severity: str = "error", state: str = "failed", text: str = "too old") -> dict[str, Any]:
    """A failed monitor, as the status has it."""
    return {"monitor": name, "table": table, "kind": kind, "severity": severity, "state": state, "text": text}


def alert(number: int, key: str) -> dict[str, Any]:
    """An open alert."""
    at = datetime(2026, 1, number, tzinfo=UTC)
    return {"alert_id": f"a{number}", "key": key, "text": f"alert {number}", "severity": "warn", "opened_at": at}


def status(checks: dict[str, dict[str, str]], monitors: tuple[dict[str, Any], ...] = (), alerts: tuple[str, ...] = ()) -> dict[str, Any]:
    """As `lake.status()` gives it; of each table the failed checks with what they said."""
    return {
        "tables": [
            {"table": table, "failed_checks": [*found], "check_texts": dict(found), "stopped_by": [], "quarantined": None}
            for table, found in checks.items()
        ],
        "failed_monitors": [*monitors],
        "open_alerts": [alert(number, key) for number, key in enumerate(alerts, 1)],
        "refused_files": [],
    }


def wrong(lake, values) -> list[dict[str, Any]]:
    block = overview._wrong(lake, values)[0]
    return block.frame.to_dicts() if isinstance(block, Rows) else []


def test_what_is_also_an_alert_stands_once(lake):
    fresh = failed("sales.monitors.fresh", _TABLE, "drift")
    keys = (f"check:{_TABLE}:not_null", "monitor:sales.monitors.fresh:amount:country=GB", "monitor:sales.monitors.fresh", "step:other")
    rows = wrong(lake, status({_TABLE: {"not_null": ""}}, (fresh,), keys))
    assert [row["what"] for row in rows] == [_TABLE, _TABLE, "step:other"]
    assert [row["alert since (UTC)"] for row in rows] == ["2026-01-01 00:00", "2026-01-02 00:00", "2026-01-04 00:00"]
    assert rows[2]["what to do"] == "lakehouse alerts show a4"


@pytest.mark.parametrize(
    ("table", "check", "said", "why", "to_do"),
    [
        (_MODEL, "leakage", "month goes with time", "check leakage: month goes with time", f"lakehouse models show {_MODEL}"),
        (_PREDICTIONS, "parity", "1 of 3 differ", "check parity: 1 of 3 differ", f"lakehouse show {_PREDICTIONS}"),
        (_TABLE, "not_null", "2 missing values", "check not_null: values are missing. 2 missing values", f"lakehouse show {_TABLE}"),
        (_TABLE, "files_read", "", "check files_read: a file could not be read", "lakehouse files list --refused"),
        (_TABLE, "own", "", "check own", f"lakehouse show {_TABLE}"),
    ],
)
def test_a_failed_check_says_what_it_said_itself_and_the_command_that_shows_it(lake, table, check, said, why, to_do):
    (row,) = wrong(lake, status({table: {check: said}}))
    assert (row["why"], row["what to do"]) == (why, to_do)


@pytest.mark.parametrize(("severity", "said"), [("error", "error"), ("warn", "warning")])
def test_of_a_failed_monitor_severity_sentence_and_command_are_said(lake, severity, said):
    (row,) = wrong(lake, status({}, (failed("sales.monitors.fresh", _TABLE, "freshness", severity),)))
    assert row == {
        "what": _TABLE,
        "why": "monitor sales.monitors.fresh: too old",
        "how bad": said,
        "what to do": "lakehouse monitors show sales.monitors.fresh",
    }


def test_where_a_failure_most_likely_comes_from_is_said(lake):
    cause = "amount of sales.bronze.payments: file payments_2026-02-03.jsonl (sequence 412)"
    (row,) = wrong(lake, status({}, (failed("sales.monitors.moved", _TABLE, "drift") | {"why": cause + ", and so on" * 30},)))
    assert row["why"].startswith(f"monitor sales.monitors.moved: too old Most likely: {cause}")
    assert row["why"].endswith("(all: `lakehouse why sales.monitors.moved`)")


def test_without_a_champion_a_training_helps(lake):
    (row,) = wrong(lake, status({}, (failed(f"{_PREDICTIONS}.has_champion", _PREDICTIONS, "has_champion", "warn"),)))
    assert row["what to do"] == f"lakehouse train {_MODEL}"


def test_long_texts_are_cut_with_the_command_that_shows_all(lake):
    (row,) = wrong(lake, status({}, (failed("sales.monitors.fresh", _TABLE, "drift", text="word " * 200),)))
    assert len(row["why"]) < 400
    assert row["why"].endswith("(all: `lakehouse why sales.monitors.fresh`)")


def test_old_data_says_of_when_it_is():
    today = clock.now().date()
    assert overview._age([]) == overview._age([today - timedelta(days=40), today]) == []
    (note,) = overview._age([today - timedelta(days=40)])
    assert "40 days ago" in note.text


def test_what_is_well_again_stands_once_for_each_monitor():
    keys = {"monitor:a:x": "resolved", "monitor:a:y": "resolved", "monitor:a:z": "opened", "check:t:rule": "resolved"}
    events = [(number, key, event) for number, (key, event) in enumerate([*zip(keys, ["opened"] * 4, strict=True), *keys.items()])]
    rows = [
        {"key": key, "event": event, "alert_id": f"a{number}", "at": datetime(2026, 1, 1 + number, tzinfo=UTC), "text": f"text {number}"}
        for number, key, event in events
    ]
    found = [(row["what"], row["done"], row["why"]) for row in overview._resolved(pl.DataFrame(rows))]
    assert found == [("monitor:a:y", "2 alerts resolved", "text 5"), ("check:t:rule", "alert resolved", "text 7")]

"""What speaks for a training: for any verdicts a reason names what can be looked up, and what hardly matters is none."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets import AlertRule
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.monitoring.drift.drift_verdicts import SHARE_OF
from lakehouse_assets.platform.monitoring.retraining.evidence import failing, of_labels, of_time, of_verdicts, unheeded

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
DAY = timedelta(days=1)
ROW = {
    "evaluated_at": NOW,
    "monitor": "shop.monitors.drift",
    "kind": "drift",
    "table": "shop.features.cards",
    "passed": False,
    "text": "It drifted.",
    "rows": 5000,
}
shares = st.none() | st.floats(0, 1)
rows = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["drift", "accuracy", "freshness"]),
        "monitor": st.sampled_from(["shop.monitors.one", "shop.monitors.two"]),
        "metric": st.sampled_from(["psi", "log_loss", None]),
        "value": st.none() | st.floats(-1e6, 1e6),
        "threshold": st.none() | st.floats(-1e6, 1e6),
        "column_name": st.sampled_from(["amount", "country", None]),
        "slice_key": st.sampled_from(["method", None]),
        "window": st.none() | st.integers(0, 20),
    }
)


def frame(*given):
    return pl.DataFrame([ROW | one for one in given], schema=verdicts.SCHEMA)


def row_of(given):
    window = given["window"]
    about = {name: value for name, value in given.items() if name != "window"}
    if window is not None:
        about |= {
            "window_start": NOW.replace(hour=0, minute=0) - (window + 1) * DAY,
            "window_end": NOW.replace(hour=0, minute=0) - window * DAY,
        }
    return about | {"slice_value": "card" if given["slice_key"] else None}


@given(st.lists(rows, max_size=5), shares, st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_a_reason_names_monitor_window_slice_value_and_threshold(given_rows, share, important):
    found = frame(*map(row_of, given_rows)).to_dicts()
    reasons = of_verdicts(found, lambda *_: share, important)
    for reason in reasons:
        assert reason.monitor in reason.text
        assert reason.column_name is None or reason.cause != "drift" or share is None or share >= important
        if reason.metric and reason.value is not None:
            assert reason.metric in reason.text
            assert " was " in reason.text
            assert reason.threshold is None or "(threshold " in reason.text
            assert reason.column_name is None or reason.column_name in reason.text
        else:
            assert "It drifted" in reason.text
        assert reason.slice_key is None or "method=card" in reason.text
        when = (reason.window_start, reason.window_end) if reason.window_end else (reason.evaluated_at,)
        assert all(f"{moment:%Y-%m-%d}" in reason.text for moment in when)
    kept = [row for row in found if not (row["kind"] == "drift" and row["column_name"] and share is not None and share < important)]
    assert len(reasons) == len(kept), "nothing else is left out"
    causes = [reason.cause == "drift" for reason in reasons]
    assert causes == sorted(causes), "drift comes last"


def test_drift_is_told_by_importance():
    found = frame({"column_name": "amount", "metric": "psi"}, {"column_name": "country", "metric": "psi"}).to_dicts()
    reasons = of_verdicts(found, lambda _, column: {"amount": 0.1, "country": 0.6}[column], 0.05)
    assert [(reason.column_name, reason.importance) for reason in reasons] == [("country", 0.6), ("amount", 0.1)]
    assert reasons[0].text == "shop.monitors.drift failed: It drifted, evaluated at 2026-03-01 12:30, importance 60%"


WINDOWS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from([True, False, None]), st.sampled_from([50, 500])), max_size=15)


@given(WINDOWS, st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_so_many_of_the_newest_windows_have_to_fail_each_by_its_last_verdict(said, consecutive):
    given_rows = [
        {
            "evaluated_at": NOW + minute * timedelta(minutes=1),
            "window_start": NOW + (window - 60) * DAY,
            "window_end": NOW + (window - 59) * DAY,
        }
        | {"passed": passed, "rows": count, "metric": "psi"}
        for minute, (window, passed, count) in enumerate(said)
    ]
    last: dict[int, bool] = {}
    for window, passed, count in said:
        if passed is not None and count >= 100:
            last[window] = passed
    newest = [last[window] for window in sorted(last)][-consecutive:]
    expected = len(newest) == consecutive and not any(newest)
    found = failing(frame(*given_rows), {"shop.monitors.drift": AlertRule(consecutive=consecutive, least_rows=100)}, None)
    assert bool(found) == expected


def test_slices_columns_and_versions_are_told_apart():
    bad = [{"slice_key": "method", "slice_value": value, "model_version": version} for value in ("card", "cash") for version in (1, 2)]
    good = {"slice_key": "method", "slice_value": "cash", "model_version": 2, "passed": True, "evaluated_at": NOW + DAY}
    (found,) = failing(frame(*bad, good), {}, 2)
    assert (found["slice_value"], found["model_version"]) == ("card", 2)


def test_labels_and_time():
    assert [one.value for one in of_labels(500, 500)] == [500]
    assert not [*of_labels(499, 500), *of_labels(None, 500), *of_labels(500, None)]
    assert [one.cause for one in of_time(NOW, DAY, NOW + DAY)] == ["schedule"]
    assert not [*of_time(NOW, DAY, NOW + DAY / 2), *of_time(NOW, None, NOW + DAY)]
    assert [one.threshold for one in of_time(None, DAY, NOW)] == [1.0]


@pytest.mark.parametrize(("value", "said"), [(25_129.4, "25,129"), (0.123456, "0.1235"), (-1_000.0, "-1,000")])
def test_numbers_are_told_as_people_read_them(value, said):
    (reason,) = of_verdicts(frame({"metric": "psi", "value": value}).to_dicts(), lambda *_: None, 0.05)
    assert f"psi was {said}," in reason.text


def test_a_window_that_has_not_begun_is_no_reason():
    far = {"window_start": NOW + 9_000 * DAY, "window_end": NOW + 9_001 * DAY}
    begun = {"window_start": NOW - 2 * DAY, "window_end": NOW - DAY}
    of = {"shop.monitors.drift": AlertRule()}
    assert failing(frame({**begun, "passed": True}, {**far, "passed": False}), of, None) == []
    assert len(failing(frame({**begun, "passed": False}, {**far, "passed": True}), of, None)) == 1


@pytest.mark.parametrize(
    ("told", "importances", "expected"),
    [
        ({"amount": 0.9, "country": 0.1}, {"amount": 0.2, "country": 0.6}, 0.24),
        ({"amount": 0.9, "country": 0.1}, {"amount": 0.0, "country": 0.3}, None),  # by what hardly matters
        ({"amount": 0.5, "country": 0.5}, {"amount": 0.0, "country": None}, 0.5),  # what is not known may matter
        ({"amount": 0.5}, {"amount": None}, "unknown"),
        ({}, {}, "unknown"),
    ],
)
def test_drift_of_all_columns_together_counts_by_the_columns_that_tell_it(told, importances, expected):
    numbers = json.dumps({"compared_with": "BASELINE", **{SHARE_OF + name: share for name, share in told.items()}})
    found = frame({"metric": "domain_classifier_auc", "value": 0.8, "numbers": numbers}).to_dicts()
    reasons = of_verdicts(found, lambda _, column: importances[column], 0.05)
    if expected is None:
        assert reasons == []
        return
    (reason,) = reasons
    assert reason.importance == (None if expected == "unknown" else pytest.approx(expected))
    assert ("importance" in reason.text) is (expected != "unknown")


@pytest.mark.parametrize(
    ("about", "rule", "expected"),
    [
        (
            {"column_name": "amount"},
            AlertRule(),
            "importance 3%: no reason, as predictions owe 5.00% at least to what counts, as important= says",
        ),
        ({"column_name": "country"}, AlertRule(), None),
        ({"model_version": 7}, AlertRule(), "no reason, as it is of version 7, which is not champion"),
        ({"rows": 99}, AlertRule(least_rows=100), "no reason, as it is of fewer rows than the 100 of alert="),
        ({}, AlertRule(consecutive=3), "no reason, as 3 windows in a row of enough rows have to fail, as alert= says"),
        ({"passed": True}, AlertRule(consecutive=3), None),
    ],
)
def test_each_failure_is_a_reason_or_it_is_said_why_not(about, rule, expected):
    rows, rules, shares = frame(about), {ROW["monitor"]: rule}, {"amount": 0.03, "country": 0.6}
    told = unheeded(rows, rules, 1, lambda _, column: shares[column], 0.05)
    reasons = of_verdicts(failing(rows, rules, 1), lambda _, column: shares[column], 0.05)
    assert len(told) + len(reasons) == int(about.get("passed") is not True)
    assert [text for text in told if text.startswith("shop.monitors.drift failed: ") and text.endswith(str(expected))] == told
    assert bool(told) is (expected is not None)

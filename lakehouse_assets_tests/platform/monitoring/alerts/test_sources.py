"""What tables say is told once: commits that reject more than usual, and the verdicts of monitors, in the order of their windows."""

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.monitors import AlertRule, MonitorKind, Watched, monitor
from lakehouse_assets.platform.monitoring import judgements, verdicts
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.sources.quarantines import QuarantineSpikes, Rejected, most_rejected
from lakehouse_assets.platform.monitoring.alerts.sources.refusals import Refusals
from lakehouse_assets.platform.monitoring.alerts.sources.verdicts import Verdicts
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.monitoring.kinds.freshness import Freshness
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.quality.monitors import Verdict
from lakehouse_assets.platform.registry.decisions import create_ledger
from lakehouse_assets.platform.storage.commit import Commit
from lakehouse_assets_tests.platform.orchestration import level
from lakehouse_assets_tests.running import tables_of

LOGGER = logging.getLogger("test")
NOW = datetime.now(UTC)
TABLE = "sales.silver.payments"


@pytest.fixture
def lakehouse(settings):
    return tables_of(settings)


def told(lakehouse, *sources) -> list[tuple[str, str]]:
    return [(entry.key, entry.event) for entry in take(AlertLog(lakehouse), sources, NOW, LOGGER).entries]


# --- quarantines


def commit(lakehouse, came: int, rejected: int, **info: str) -> None:
    """A commit of a table whose row account says so."""
    table = lakehouse.table(TABLE)
    table.create(pl.Schema({"name": pl.String()}))
    account = RowAccount(rows_in=came, written=came - rejected, quarantined=rejected).to_json()
    text = {"lakehouse.account": account, "lakehouse.run_id": "0123456789"} | info
    table.append(pl.DataFrame({"name": ["a"]}), Commit(info=lambda _: text))


def test_a_commit_that_rejects_more_than_usual_is_told_and_the_next_good_one_too(lakehouse):
    spikes = QuarantineSpikes(lakehouse, {TABLE: "team:sales", "sales.silver.nothing": "team:sales"})
    assert told(lakehouse, spikes) == []
    for rejected in (3, 0, 5, 4, 2, 6):
        commit(lakehouse, 1_000, rejected)
        assert told(lakehouse, spikes) == []
    commit(lakehouse, 1_000, 60)
    assert told(lakehouse, spikes) == [(f"quarantine:{TABLE}", "opened")]
    [alert] = AlertLog(lakehouse).alerts()
    assert alert["text"].startswith("60 of 1,000 rows of version 7 were rejected; more than ")
    assert (alert["owner"], alert["run_id"], alert["value"], alert["rows"]) == ("team:sales", "0123456789", 60.0, 1_000)
    assert told(lakehouse, spikes) == []
    commit(lakehouse, 1_000, 70)
    commit(lakehouse, 1_000, 3)
    commit(lakehouse, 1_000, 80)
    assert [event for _, event in told(lakehouse, spikes)] == ["resolved", "opened"], "commits that came together are judged one by one"


def test_a_commit_that_only_repeats_rows_or_has_none_is_not_judged(lakehouse):
    spikes = QuarantineSpikes(lakehouse, {TABLE: ""})
    for _ in range(6):
        commit(lakehouse, 1_000, 0)
    told(lakehouse, spikes)
    commit(lakehouse, 1_000, 900, **{"lakehouse.replay": "1"})
    commit(lakehouse, 0, 0)
    assert told(lakehouse, spikes) == []


@pytest.mark.parametrize(
    ("came", "shares", "most"),
    [
        (1_000, [0.0] * 4, None),  # too little is known
        (1_000, [0.0] * 20, 10),  # ten rows are no spike
        (100_000, [0.0] * 20, 10),
        (100_000, [0.01] * 20, 1_125),  # by chance alone
        (1_000, [0.0, 0.1] * 10, 346),  # shares that differ much
    ],
)
def test_what_is_usual(came, shares, most):
    assert most_rejected(came, [Rejected(1_000, round(share * 1_000)) for share in shares]) == most


# --- verdicts


def watch(rule: AlertRule | None = None):
    return monitor("sales.monitors.fresh", of=TABLE, kind=Freshness("day", timedelta(days=1)), severity="error", alert=rule)


def say(lakehouse, watched, hours: float, *said: Verdict, declared: int | None = None) -> None:
    judgements.add(lakehouse, [judgements.Judgement(watched, "id", 1, NOW + timedelta(hours=hours), "run", said, declared=declared)])


def verdict(passed: bool | None, day: int = 0, **more) -> Verdict:
    window = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day)
    return Verdict(passed, "it says so", window_start=window, **({"metric": "psi", "rows": 100} | more))


def source(lakehouse, watched) -> Verdicts:
    return Verdicts(lakehouse, {watched.name: watched.alert})


def test_each_window_column_and_slice_of_a_monitor_is_told_once(lakehouse):
    watched = watch()
    listening = source(lakehouse, watched)
    assert told(lakehouse, listening) == []
    say(lakehouse, watched, 0, verdict(passed=True, column_name="amount"))
    assert told(lakehouse, listening) == []
    slices = {"slice_key": "country", "slice_value": "GB"}
    say(lakehouse, watched, 1, verdict(False, 1, column_name="amount"), verdict(False, 1, column_name="day", **slices), verdict(False, 1))
    name = "monitor:sales.monitors.fresh"
    assert told(lakehouse, listening) == [(f"{name}:amount", "opened"), (f"{name}:day:country=GB", "opened"), (name, "opened")]
    assert told(lakehouse, listening) == []
    say(lakehouse, watched, 2, verdict(None, 2), verdict(True, 2, column_name="amount"))
    assert told(lakehouse, listening) == [(f"{name}:amount", "resolved")], "what was not evaluated is not well again"


@pytest.mark.parametrize("column", ["amount", ""])
def test_slices_that_are_bad_with_their_column_are_told_in_its_alert(lakehouse, column):
    watched = watch()
    listening = source(lakehouse, watched)

    def both(day: int, whole: bool, *countries: bool) -> list[tuple[str, str]]:
        slices = [verdict(good, day, column_name=column, slice_key="country", slice_value=f"C{n}") for n, good in enumerate(countries)]
        say(lakehouse, watched, day, verdict(whole, day, column_name=column), *slices)
        return told(lakehouse, listening)

    name = "monitor:sales.monitors.fresh" + f":{column}" * bool(column)
    assert both(0, True, True) == []
    assert both(1, False, False, True) == [(name, "opened")]
    [alert] = AlertLog(lakehouse).alerts()
    assert alert["text"].endswith("it says so Also in the slice country=C0.")
    # A slice that stays bad where the whole is well again is a matter of its own, and ends as one.
    assert both(2, True, False) == [(name, "resolved"), (f"{name}:country=C0", "opened")]
    assert both(3, False, *[False] * 8) == [(name, "opened")]
    newest = max(AlertLog(lakehouse).alerts(), key=lambda one: one["sequence"])
    assert newest["text"].endswith("Also in slices country=C0, country=C1, country=C2, country=C3, country=C4 and 3 more.")
    assert both(4, True, True) == [(name, "resolved"), (f"{name}:country=C0", "resolved")]


@pytest.mark.parametrize(
    ("rule", "windows", "said"),
    [
        # Whether the column is good, and the slice.
        (
            AlertRule(resolve_after=3),
            [(True, False), (True, True), (False, False), (True, True), (True, True), (True, True)],
            ["opened", "recovering", "relapsed", "recovering", "recovering", "resolved"],
        ),
        (AlertRule(consecutive=2), [(False, False), (True, False), (True, True)], ["pending", "opened", "resolved"]),
        (AlertRule(consecutive=2), [(True, False), (False, False), (True, True)], ["pending", "cleared"]),
        (AlertRule(), [(False, False), (True, True)], []),
    ],
)
def test_windows_of_a_slice_that_are_told_with_its_column_count_in_its_own_alert(lakehouse, rule, windows, said):
    watched = watch(rule)
    listening = source(lakehouse, watched)
    say(lakehouse, watched, -1, verdict(True, -1))
    found = told(lakehouse, listening)
    for day, (column, of_slice) in enumerate(windows):
        in_slice = verdict(of_slice, day, column_name="amount", slice_key="country", slice_value="GB")
        say(lakehouse, watched, day, verdict(column, day, column_name="amount"), in_slice)
        found += told(lakehouse, listening)
    assert [event for key, event in found if key.endswith(":country=GB")] == said


def test_after_another_declaration_a_good_window_before_one_that_is_told_with_its_column_resolves_nothing(lakehouse):
    watched = watch()
    listening = source(lakehouse, watched)
    of_slice = {"column_name": "amount", "slice_key": "country", "slice_value": "GB"}
    say(lakehouse, watched, 0, verdict(False, 1, **of_slice), declared=1)
    told(lakehouse, listening)
    anew = [verdict(True, 0, **of_slice), verdict(False, 1, **of_slice), verdict(False, 1, column_name="amount")]
    say(lakehouse, watched, 1, *anew, declared=2)
    name = "monitor:sales.monitors.fresh:amount"
    assert told(lakehouse, listening) == [(name, "opened")]
    assert {alert["key"] for alert in AlertLog(lakehouse).alerts(open_only=True)} == {name, f"{name}:country=GB"}


def test_windows_that_are_judged_again_count_once_and_a_bad_one_that_good_ones_followed_is_not_told_again(lakehouse):
    watched = watch(AlertRule(consecutive=3, resolve_after=3, cool_down=timedelta(0)))
    listening = source(lakehouse, watched)

    def events_of(hours: int, declared: int, **days: bool) -> list[str]:
        say(lakehouse, watched, hours, *(verdict(good, int(day[1:])) for day, good in days.items()), declared=declared)
        return [event for _, event in told(lakehouse, listening)]

    assert events_of(0, 1, w2=True) == []
    assert events_of(1, 1, w3=True, w4=False, w5=False) == ["pending", "pending"]
    assert events_of(2, 3, w3=True, w4=False, w5=False) == ["cleared", "pending", "pending"]
    assert events_of(3, 4, w4=False, w5=False, w6=False) == ["pending", "pending", "opened"]
    assert events_of(4, 5, w6=False, w7=True, w8=True) == ["recovering", "recovering"]
    assert events_of(5, 6, w6=False, w7=True, w8=True) == ["relapsed", "recovering", "recovering"]
    assert events_of(6, 7, w7=True, w8=True, w9=True) == ["recovering", "recovering", "resolved"]


def test_several_metrics_of_a_window_are_one_matter_and_late_windows_come_in_their_order(lakehouse):
    watched = watch(AlertRule(consecutive=2))
    listening = source(lakehouse, watched)
    say(lakehouse, watched, 0, verdict(True))
    told(lakehouse, listening)
    both = [verdict(False, 2), verdict(True, 2, metric="ks"), verdict(False, 1, metric="ks"), verdict(False, 1)]
    say(lakehouse, watched, 1, *both)
    assert [event for _, event in told(lakehouse, listening)] == ["pending", "opened"]
    [alert] = AlertLog(lakehouse).alerts()
    assert alert["severity"] == "error"
    assert alert["window"] == datetime(2024, 1, 3, tzinfo=UTC)


def test_a_monitor_that_cannot_be_evaluated_is_told_and_says_nothing_of_what_it_watches(lakehouse):
    watched = watch()
    listening = source(lakehouse, watched)
    say(lakehouse, watched, 0, Verdict(False, "it is old"))
    told(lakehouse, listening)
    say(lakehouse, watched, 1, Verdict(None, "Not evaluated: ValueError: no column", error="ValueError"))
    assert told(lakehouse, listening) == [("evaluation:sales.monitors.fresh", "opened")]
    say(lakehouse, watched, 2, Verdict(True, "it is fresh"))
    assert told(lakehouse, listening) == [("monitor:sales.monitors.fresh", "resolved"), ("evaluation:sales.monitors.fresh", "resolved")]


def test_of_verdicts_from_before_anybody_listened_what_is_so_now_is_told(lakehouse):
    watched = watch()
    for hours, passed in enumerate((False, True, False)):
        say(lakehouse, watched, hours, verdict(passed, hours))
    assert [event for _, event in told(lakehouse, source(lakehouse, watched))] == ["opened"]
    other = replace(watched, name="sales.monitors.other")
    say(lakehouse, other, 4, verdict(False, 1))
    say(lakehouse, other, 5, verdict(True, 2))
    assert [event for _, event in told(lakehouse, source(lakehouse, watched))] == ["opened", "resolved"]


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"granularity": "1w"}, "In the week from 2024-01-02: it says so"),
        (
            {"granularity": "1w", "slice_key": "material", "slice_value": "steel"},
            "In the week from 2024-01-02 (material=steel): it says so",
        ),
        ({"granularity": "1d"}, "On 2024-01-02: it says so"),
        ({"granularity": "1 day"}, "On 2024-01-02: it says so"),
        ({"granularity": "3mo"}, "In the 3 months from 2024-01-02: it says so"),
        ({"granularity": "1h", "window_start": datetime(2024, 1, 2, 7, tzinfo=UTC)}, "In the hour from 2024-01-02 07:00: it says so"),
        ({"granularity": "of its own"}, "In the window from 2024-01-02: it says so"),
        ({"window_start": None, "slice_key": "material", "slice_value": "steel"}, "material=steel: it says so"),
        ({"window_start": None}, "it says so"),
    ],
)
def test_an_alert_names_the_window_and_the_slice(lakehouse, about, said):
    watched = watch()
    say(lakehouse, watched, 0, replace(verdict(False, 1), **about))
    told(lakehouse, source(lakehouse, watched))
    [alert] = AlertLog(lakehouse).alerts()
    assert alert["text"] == said


def test_a_table_of_verdicts_that_was_restored_is_read_again_without_telling_twice(lakehouse):
    watched = watch()
    listening = source(lakehouse, watched)
    say(lakehouse, watched, 0, verdict(False))
    assert len(told(lakehouse, listening)) == 1
    table = lakehouse.table(verdicts.TABLE)
    table.replace(table.scan().collect(), None)
    assert told(lakehouse, listening) == []
    assert len(AlertLog(lakehouse).snapshot().open_alerts()) == 1


# --- clocks


FUTURE = 30_000
"""Days, of a row whose clock is wrong."""


def test_a_window_of_the_future_silences_no_later_window(lakehouse):
    watched = watch()
    listening = source(lakehouse, watched)
    say(lakehouse, watched, 0, verdict(passed=True))
    told(lakehouse, listening)
    say(lakehouse, watched, 1, verdict(False, FUTURE))
    assert [event for _, event in told(lakehouse, listening)] == ["opened"]
    say(lakehouse, watched, 2, verdict(True, 5))
    assert [event for _, event in told(lakehouse, listening)] == ["resolved"]
    say(lakehouse, watched, 3, verdict(True, FUTURE), verdict(False, 6))
    assert [event for _, event in told(lakehouse, listening)] == ["opened"], "beside one that has begun it says nothing"
    say(lakehouse, watched, 4, verdict(False, FUTURE), verdict(True, 7))
    assert [event for _, event in told(lakehouse, listening)] == ["resolved"]


def test_what_was_said_last_is_told_by_commits_and_not_by_clocks(lakehouse):
    watched = watch()
    listening = source(lakehouse, watched)
    say(lakehouse, watched, 0, Verdict(True, "fresh"))
    told(lakehouse, listening)
    say(lakehouse, watched, 9_000, Verdict(False, "old"))
    say(lakehouse, watched, 1, Verdict(True, "fresh"))
    assert [event for _, event in told(lakehouse, listening)] == ["opened", "resolved"]
    other = replace(watched, name="sales.monitors.other")
    say(lakehouse, other, 9_000, Verdict(True, "fresh"))
    say(lakehouse, other, 1, Verdict(False, "old"))
    found = take(AlertLog(lakehouse), [Verdicts(lakehouse, {})], NOW, LOGGER).entries
    assert [(entry.key, entry.event) for entry in found if "other" in entry.key] == [("monitor:sales.monitors.other", "opened")]


# --- gates


@dataclass(frozen=True)
class Accuracy(MonitorKind):
    """Says what the test wants it to have said."""

    word = "accuracy"
    demands = "It is no worse."

    def evaluate(self, watched: Watched) -> list[Verdict]:
        raise NotImplementedError(watched)


LESS_ACCURATE = monitor("demo.monitors.accuracy", of=level.PREDICTIONS, kind=Accuracy())
MODELS = Catalog((level.gold, level.features, level.level_model, level.scores, LESS_ACCURATE), frozenset({level.DAYS}))


def decide(lakehouse, *decisions: str, days: int = 7) -> None:
    """The gate decides, some days after the decision before."""
    ledger = lakehouse.table(level.MODEL)
    create_ledger(ledger)
    for decision in decisions:
        number = ledger.count() + 1
        champion = number if decision == "promoted" else 1
        row = {
            "sequence": number,
            "decided_at": NOW + timedelta(days=days * number),
            "version": number,
            "decision": decision,
            "reasons": "It is no better.\nIndeed.",
            "champion_before": champion - 1 or None if decision == "promoted" else champion,
            "champion": champion,
            "question": "refresh",
        }
        ledger.append(pl.DataFrame([row], schema=ledger.schema()))


def test_that_the_gate_refuses_is_an_alert_only_for_weeks_while_the_accuracy_is_bad(lakehouse):
    gates, refused = Refusals(lakehouse, MODELS), "kept as challenger"
    key = f"gate:{level.MODEL}"
    assert told(lakehouse, gates) == []
    decide(lakehouse, "promoted", refused, refused, refused)
    assert told(lakehouse, gates) == [], "a normal answer"
    say(lakehouse, LESS_ACCURATE, 0, Verdict(False, "It is worse than it was."))
    assert told(lakehouse, gates) == [(key, "opened")]
    assert told(lakehouse, gates) == []
    [alert] = AlertLog(lakehouse).alerts()
    assert alert["text"].startswith("The gate has refused 3 versions since ")
    assert "(demo.monitors.accuracy): It is worse than it was. Version 4 was refused: It is no better." in alert["text"]
    assert alert["severity"] == "warn"
    decide(lakehouse, "promoted")
    assert told(lakehouse, gates) == [(key, "resolved")]
    decide(lakehouse, refused, refused)
    assert told(lakehouse, gates) == [], "two are few"
    decide(lakehouse, refused)
    assert told(lakehouse, gates) == [(key, "opened")]
    say(lakehouse, LESS_ACCURATE, 1, Verdict(True, "It is as it was."))
    assert told(lakehouse, gates) == [(key, "resolved")]


def test_refusals_of_a_few_days_are_no_alert(lakehouse):
    decide(lakehouse, "promoted", *["kept as challenger"] * 9, days=1)
    say(lakehouse, LESS_ACCURATE, 0, Verdict(False, "It is worse than it was."))
    assert told(lakehouse, Refusals(lakehouse, MODELS)) == []

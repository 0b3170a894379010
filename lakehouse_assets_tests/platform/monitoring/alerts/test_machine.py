"""The state machine: any signals in any batches give the same events, each once, and every alert that was opened is resolved once."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.declarations.monitors import AlertRule
from lakehouse_assets.platform.monitoring.alerts.machine import NOTIFIED, Entry, advance
from lakehouse_assets.platform.monitoring.alerts.signals import Signal, newest_by_key

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
RULES = [
    AlertRule(),
    AlertRule(consecutive=3, cool_down=timedelta(hours=5)),
    AlertRule(least_rows=10, cool_down=timedelta(0)),
    AlertRule(resolve_after=2, cool_down=timedelta(hours=5)),
    AlertRule(consecutive=2, resolve_after=3, least_rows=10),
]
SILENT = ("recovering", "relapsed")


def signal(is_bad: bool | None, hours: float = 0, **more: object) -> Signal:
    return replace(Signal("step:a.b.c", is_bad, BEGIN + timedelta(hours=hours), "it is so"), **more)  # type: ignore[arg-type]


def run(signals: Sequence[Signal], *cuts: int) -> list[Entry]:
    """The entries of signals that come in batches."""
    last: dict[str, Entry] = {}
    entries: list[Entry] = []
    bounds = [0, *sorted(cuts), len(signals)]
    for begin, end in pairwise(bounds):
        made = advance(last, signals[begin:end], len(entries))
        entries += made
        last.update({entry.key: entry for entry in made})
    return entries


def events(signals: Sequence[Signal]) -> list[tuple[str, int]]:
    return [(entry.event, entry.number) for entry in run(signals)]


signals_of_several = st.lists(
    st.builds(
        lambda key, bad, hours, rule, rows, window, severity: Signal(
            f"step:{key}",
            bad,
            BEGIN + timedelta(hours=hours),
            "text",
            severity,
            rule=RULES[rule],
            rows=rows,
            window=None if window is None else BEGIN + timedelta(days=window),
        ),
        st.sampled_from("abc"),
        st.sampled_from([True, True, False, None]),
        st.integers(0, 60),
        st.integers(0, len(RULES) - 1),
        st.sampled_from([None, 5, 50]),
        st.sampled_from([None, 0, 1, 2]),
        st.sampled_from(["warn", "error"]),
    ),
    max_size=40,
)


@given(signals_of_several, st.lists(st.integers(0, 40), max_size=6))
def test_batches_make_no_difference(signals, cuts):
    together, apart = run(signals), run(signals, *(min(cut, len(signals)) for cut in cuts))
    assert together == apart
    assert run(signals, *range(len(signals))) == together
    assert [entry.sequence for entry in together] == list(range(1, len(together) + 1))


@given(signals_of_several)
def test_every_alert_is_opened_once_and_resolved_at_most_once_and_its_events_are_numbered(signals):
    by_alert: dict[str, list[Entry]] = {}
    open_now: dict[str, str] = {}
    for entry in run(signals):
        if entry.event in SILENT:
            assert (entry.alert_id, entry.number) == (open_now[entry.key], len(by_alert[entry.alert_id])), "it goes on with what was told"
            continue
        if entry.event not in NOTIFIED:
            assert (entry.alert_id, entry.number) == ("", 0)
            assert entry.key not in open_now
            continue
        assert open_now.get(entry.key, entry.alert_id) == entry.alert_id, "an open alert goes on until it is resolved"
        by_alert.setdefault(entry.alert_id, []).append(entry)
        if entry.event == "resolved":
            del open_now[entry.key]
        else:
            open_now[entry.key] = entry.alert_id
    for of in by_alert.values():
        assert [entry.number for entry in of] == list(range(1, len(of) + 1))
        assert [entry.event for entry in of][:1] == ["opened"]
        assert {entry.event for entry in of[1:-1]} <= {"repeated"}
        assert len({entry.key for entry in of}) == 1
        assert len({entry.opened_at for entry in of}) == 1


@given(signals_of_several)
def test_what_ends_well_leaves_no_alert_open(signals):
    days = [BEGIN + timedelta(days=day) for day in (9, 10, 11)]
    well = [Signal(f"step:{key}", False, day, "well", rule=RULES[-1], window=day) for day in days for key in "abc"]
    entries = run([*signals, *well])
    opened = [entry.alert_id for entry in entries if entry.event == "opened"]
    assert sorted(opened) == sorted(entry.alert_id for entry in entries if entry.event == "resolved")
    assert len(set(opened)) == len(opened)


@given(signals_of_several)
def test_the_unknown_changes_nothing(signals):
    known = [one for one in signals if one.is_known]
    assert run(signals) == run(known)
    assert [one.key for one in newest_by_key(signals)] == list(dict.fromkeys(one.key for one in known))


def test_an_alert_is_opened_repeated_after_the_cool_down_and_resolved():
    signals = [signal(False), signal(True, 1), signal(True, 5), signal(True, 26), signal(True, 27), signal(False, 28), signal(False, 29)]
    assert events(signals) == [("opened", 1), ("repeated", 2), ("resolved", 3)]
    last = run(signals)[-1]
    assert (last.severity, last.opened_at) == ("error", BEGIN + timedelta(hours=1))


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_opened_and_resolved_alternate_after_so_many_windows_in_a_row(bad, consecutive, resolve_after):
    rule = AlertRule(consecutive=consecutive, resolve_after=resolve_after, cool_down=timedelta(days=999))
    days = [BEGIN + timedelta(days=day) for day in range(len(bad))]
    # A window that is judged again as it was counts once.
    signals = [signal(is_bad, window=day, rule=rule) for is_bad, day in zip(bad, days, strict=True) for _ in range(2)]
    entries = run(signals)
    told = [entry for entry in entries if entry.event in NOTIFIED]
    assert [entry.event for entry in told] == (["opened", "resolved"] * len(told))[: len(told)]
    for entry in told:
        at = days.index(entry.window)
        wanted, length = (True, consecutive) if entry.event == "opened" else (False, resolve_after)
        assert bad[at + 1 - length : at + 1] == [wanted] * length
    for before, entry in pairwise(entries):
        assert (before.event, before.window) != (entry.event, entry.window), "nothing repeats"
        assert entry.event != "relapsed" or before.event == "recovering"


def test_a_relapse_is_told_by_the_cool_down_since_people_were_told_last():
    rule = AlertRule(resolve_after=3)
    by_turns = [signal(hours % 2 == 0, hours, rule=rule, window=BEGIN + timedelta(hours=hours)) for hours in range(50)]
    assert [(entry.at, entry.event) for entry in run(by_turns) if entry.event in NOTIFIED] == [
        (BEGIN, "opened"),
        (BEGIN + timedelta(hours=24), "repeated"),
        (BEGIN + timedelta(hours=48), "repeated"),
    ]


def test_what_is_gone_resolves_at_once_however_few_rows_it_has():
    rule = AlertRule(resolve_after=3, least_rows=100)
    bad, over = signal(True, rule=rule, rows=100), signal(False, 1, rule=rule, rows=0)
    assert events([bad, over]) == [("opened", 1)]
    assert events([bad, replace(over, is_over=True)]) == [("opened", 1), ("resolved", 2)]


def test_what_opens_again_is_another_alert():
    first, _, second = run([signal(True), signal(False, 1), signal(True, 2)])
    assert (second.event, second.number) == ("opened", 1)
    assert first.alert_id != second.alert_id


def told_with_another(signals: Sequence[Signal], folded: set[int]) -> list[Signal]:
    return [replace(one, is_folded=bool(one.is_bad) and at in folded) for at, one in enumerate(signals)]


@given(signals_of_several, st.sets(st.integers(0, 39)))
def test_what_is_told_with_another_alert_opens_none_and_repeats_none(signals, folded):
    given_signals = told_with_another(signals, folded)
    states: dict[str, Entry] = {}
    for one in given_signals:
        made = advance(states, [one], 0)
        assert not one.is_folded or {entry.event for entry in made} <= {"pending", "relapsed"}
        states |= {entry.key: entry for entry in made}


@given(st.lists(st.sampled_from(["good", "bad", "folded"]), max_size=20), st.integers(1, 4), st.integers(1, 4))
def test_what_is_told_with_another_alert_counts_as_a_bad_window(windows, consecutive, resolve_after):
    rule = AlertRule(consecutive=consecutive, resolve_after=resolve_after, cool_down=timedelta(days=999))
    days = [BEGIN + timedelta(days=day) for day in range(len(windows))]
    signals = [
        signal(how != "good", rule=rule, window=day, is_folded=how == "folded")
        for how, day in zip(windows, days, strict=True)
        for _ in (0, 1)
    ]
    # By hand: it opens by a bad window of its own that so many bad ones in a row end with, and closes by so many good ones in a row.
    expected, is_open = [], False
    for at, how in enumerate(windows):
        wanted = resolve_after if is_open else consecutive
        last = windows[max(0, at + 1 - wanted) : at + 1]
        is_run = len(last) == wanted and all((one == "good") == is_open for one in last)
        if is_run and how != "folded":
            is_open = not is_open
            expected.append(("opened" if is_open else "resolved", days[at]))
    assert [(entry.event, entry.window) for entry in run(signals) if entry.event in NOTIFIED] == expected


@pytest.mark.parametrize(
    ("rule", "windows", "said"),
    [
        (AlertRule(resolve_after=3), "bgfggg", ["opened", "recovering", "relapsed", "recovering", "recovering", "resolved"]),
        (AlertRule(consecutive=2), "fb", ["pending", "opened"]),
        (AlertRule(consecutive=2), "bfb", ["pending", "opened"]),
        (AlertRule(consecutive=2), "fffg", ["pending", "cleared"]),
        (AlertRule(), "ffb", ["opened"]),
        (AlertRule(cool_down=timedelta(0)), "bfb", ["opened", "repeated"]),
    ],
)
def test_what_is_told_with_another_alert_is_silent(rule, windows, said):
    days = [BEGIN + timedelta(days=day) for day in range(len(windows))]
    signals = [signal(how != "g", rule=rule, window=day, is_folded=how == "f") for how, day in zip(windows, days, strict=True)]
    assert [entry.event for entry in run(signals)] == said


def of_windows(first: int, how: str, rule: AlertRule, hours: float = 0, **more: object) -> list[Signal]:
    """What is said at once of windows one after the other: b(ad), g(ood), or nothing."""
    said = [
        signal(one == "b", hours, rule=rule, window=BEGIN + timedelta(days=first + at), **more) for at, one in enumerate(how) if one != "."
    ]
    if not more.get("is_redeclared"):
        return said
    return [
        replace(one, is_followed=any(other.is_bad != one.is_bad for other in said[at + 1 :])) for at, one in enumerate(said)
    ]  # as the source marks them


@pytest.mark.parametrize(
    ("rule", "before", "anew", "said"),
    [
        # Bad windows that were counted.
        (AlertRule(consecutive=3, resolve_after=3), (3, "gbb"), [(3, "gbb")], []),
        (AlertRule(consecutive=3, resolve_after=3), (3, "gbb"), [(4, "bb")], []),
        (AlertRule(consecutive=3, resolve_after=3), (3, "gbb"), [(4, "bbb")], ["opened"]),
        (AlertRule(consecutive=3, resolve_after=3), (5, "b"), [(5, "bb"), (5, "bbg")], []),
        (AlertRule(consecutive=3, resolve_after=3), (4, "gb"), [(3, "bbb")], ["opened"]),
        (AlertRule(consecutive=3, resolve_after=3), (4, "bb"), [(3, "bgb"), (6, "b")], []),
        # Fewer windows are judged again than open an alert.
        (AlertRule(consecutive=4, resolve_after=3), (3, "bb"), [(3, "bb"), (3, "bbb")], []),
        (AlertRule(consecutive=4, resolve_after=3), (3, "bb"), [(3, "bbb"), (4, "bbb")], ["opened"]),
        (AlertRule(consecutive=2), (4, "b"), [(4, "b")], []),
        (AlertRule(consecutive=2), (4, "b"), [(4, "b"), (5, "b")], ["opened"]),
        # Of an open alert.
        (AlertRule(resolve_after=3), (4, "bgg"), [(4, "bgg")], ["opened"]),
        (AlertRule(resolve_after=3), (4, "bgg"), [(4, "bgg"), (5, "ggg")], ["opened", "resolved"]),
        (AlertRule(resolve_after=3), (4, "bgg"), [(4, ".gg")], ["opened"]),
        (AlertRule(resolve_after=3), (4, "bgg"), [(4, "ggg")], ["opened", "resolved"]),
        (AlertRule(resolve_after=3), (4, "bgg"), [(4, "bgb")], ["opened", "repeated"]),
        (AlertRule(resolve_after=1), (4, "b"), [(3, "bgb")], ["opened", "repeated"]),
    ],
)
def test_windows_that_are_judged_again_after_another_declaration_count_once(rule, before, anew, said):
    signals = of_windows(*before, rule)
    for number, of in enumerate(anew):
        # So late that an open alert is told again.
        signals += of_windows(*of, rule, 30 * (number + 1), is_redeclared=True)
    assert [entry.event for entry in run(signals) if entry.event in NOTIFIED] == said
    assert all(entry.bad_windows <= rule.consecutive for entry in run(signals))


@given(st.text("bg", min_size=1, max_size=15), st.integers(1, 4), st.integers(1, 4))
def test_a_monitor_that_is_declared_anew_again_and_again_opens_and_resolves_as_any_other(how, consecutive, resolve_after):
    """As one against a table without versions: its baseline is another one after each commit."""
    rule = AlertRule(consecutive=consecutive, resolve_after=resolve_after, cool_down=timedelta(days=999))
    once = of_windows(0, how, rule)
    again = []
    for at in range(len(how)):
        first = max(0, at + 1 - resolve_after)
        for _ in range(2):  # also where nothing new came
            again += of_windows(first, how[first : at + 1], rule, is_redeclared=True)
    told, expected = ([(entry.event, entry.window) for entry in run(of) if entry.event in NOTIFIED] for of in (again, once))
    assert told == expected


@pytest.mark.parametrize("more", [{"severity": "warn"}, {"owner": "team:other"}])
def test_another_severity_or_owner_is_told_also_by_a_bad_window_that_good_ones_follow(more):
    rule = AlertRule(resolve_after=3)
    signals = [*of_windows(4, "bgg", rule), *of_windows(4, "bgg", rule, 1, is_redeclared=True, **more)]
    assert [entry.event for entry in run(signals)][-3:] == ["repeated", "recovering", "recovering"]


def test_so_many_windows_in_a_row_have_to_be_bad():
    rule = AlertRule(consecutive=3)
    bad = [signal(True, day, rule=rule, window=BEGIN + timedelta(days=day)) for day in range(4)]
    well = [replace(one, is_bad=False) for one in bad]
    assert events(bad[:2]) == [("pending", 0), ("pending", 0)]
    assert events([bad[0], bad[0], bad[0], bad[1]]) == [("pending", 0), ("pending", 0)], "a window that is judged again counts once"
    assert events([bad[0], bad[1], well[1], bad[2]]) == [("pending", 0), ("pending", 0), ("cleared", 0), ("pending", 0)]
    assert events(bad[:3]) == [("pending", 0), ("pending", 0), ("opened", 1)]
    assert run(bad)[-1].bad_windows == 3


def test_a_window_that_is_older_than_what_is_known_says_nothing():
    old, new = (signal(True, 72, window=BEGIN + timedelta(days=day)) for day in (1, 2))
    assert events([new, replace(old, is_bad=False)]) == [("opened", 1)]
    assert events([new, replace(new, is_bad=False), old]) == [("opened", 1), ("resolved", 2)]


def test_a_window_that_has_not_begun_holds_up_none():
    """The data have a wrong clock, or the process that judged them had."""
    far = BEGIN + timedelta(days=9_000)
    for at in (0, 24 * 9_001):
        ahead = signal(True, at, window=far)
        assert events([ahead, signal(False, 1, window=BEGIN)]) == [("opened", 1), ("resolved", 2)]
        assert events([replace(ahead, is_bad=False), signal(True, 1, window=BEGIN)]) == [("opened", 1)]
    assert events([signal(True, window=BEGIN + timedelta(hours=13)), signal(False, 1, window=BEGIN)]) == [("opened", 1)], (
        "it has, somewhere"
    )


def test_after_a_clock_that_stepped_back_an_alert_is_told_again():
    assert events([signal(True, 24 * 365), signal(True), signal(True, 1), signal(True, 25)]) == [
        ("opened", 1),
        ("repeated", 2),
        ("repeated", 3),
    ]


def test_too_few_rows_say_nothing():
    rule = AlertRule(least_rows=100)
    assert events([signal(True, rows=99, rule=rule)]) == []
    assert events([signal(True, rows=100, rule=rule), signal(False, 1, rows=99, rule=rule)]) == [("opened", 1)]


@pytest.mark.parametrize("rule", RULES)
def test_what_is_over_is_over_whatever_window_it_is_said_of(rule):
    days = [BEGIN + timedelta(days=day) for day in range(6)]
    bad = [signal(True, window=day, rule=rule) for day in days[1:4]]
    made = run([*bad, signal(False, window=days[4], rule=rule), signal(False, window=days[0], rule=rule, is_over=True)])
    assert made[-1].event == "resolved"
    assert [entry.event for entry in made].count("opened") == 1


def test_what_becomes_worse_is_told_at_once_and_what_becomes_better_is_not():
    warn, error = signal(True, severity="warn"), signal(True, 1)
    assert events([warn, error, replace(warn, at=error.at), error]) == [("opened", 1), ("repeated", 2)]


@pytest.mark.parametrize("length", [2_000, 2_001, 100_000])
def test_a_long_text_is_cut(length):
    (entry,) = run([signal(True, text="x" * length)])
    assert len(entry.text) == 2_000
    assert entry.text.endswith("…") == (length > 2_000)


def test_a_text_that_is_no_text_can_be_stored():
    (entry,) = run([signal(True, text="file\udcff.csv")])
    assert entry.text == "file\\udcff.csv"

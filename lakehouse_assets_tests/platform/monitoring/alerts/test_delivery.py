"""What is due: everything is delivered in the end, in order, to each sink by itself; what waits, waits ever longer, an hour at most."""

import logging
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.monitoring.alerts.delivery import GIVEN_UP_AFTER, MOST_AT_ONCE, Tried, Waiting, deliver, due, waiting
from lakehouse_assets.platform.monitoring.alerts.log import LOG, AlertLog
from lakehouse_assets.platform.monitoring.alerts.machine import Entry
from lakehouse_assets.platform.monitoring.alerts.sinks.http import Webhook
from lakehouse_assets_tests.platform.monitoring.alerts import receivers
from lakehouse_assets_tests.running import tables_of

NOW = datetime(2024, 3, 1, tzinfo=UTC)
LOGGER = logging.getLogger("test")


def entry(sequence: int) -> Entry:
    return Entry(sequence, f"step:a.b.c{sequence}", "opened", f"id{sequence}", 1, NOW, NOW, "error", "", "text", 1)


def sequences(owed: list[Entry], tried: dict[int, Tried], now: datetime = NOW) -> list[list[int]]:
    named = {entry(number).name: last for number, last in tried.items()}
    return [[one.sequence for one in message.entries] for message in due(owed, named, "webhook", now)]


def test_what_is_owed_goes_in_batches():
    owed = [entry(number) for number in range(1, 2 * MOST_AT_ONCE + 2)]
    assert [len(batch) for batch in sequences(owed, {})] == [MOST_AT_ONCE, MOST_AT_ONCE, 1]
    assert sequences(owed, {one.sequence: Tried("delivered", NOW, 1) for one in owed}) == []


def test_behind_an_unreachable_one_all_wait_and_behind_a_refused_one_none():
    owed = [entry(number) for number in range(1, 5)]
    later = NOW + timedelta(minutes=5)
    unreachable, refused = {2: Tried("unreachable", NOW, 1)}, {2: Tried("refused", NOW, 1)}
    assert sequences(owed, unreachable) == [[1]]
    assert sequences(owed, unreachable, later) == [[1, 2, 3, 4]]
    assert sequences(owed, refused) == [[1, 3, 4]]
    assert sequences(owed, refused, later) == [[1], [2], [3, 4]], "it goes alone, so that it takes no other with it"


def test_what_waits_is_counted_with_the_moment_of_the_next_try():
    owed, soon, later = [entry(number) for number in range(1, 5)], NOW + timedelta(seconds=30), NOW + timedelta(minutes=5)

    def left(tried: dict[int, Tried], now: datetime = NOW) -> Waiting | None:
        named = {entry(number).name: last for number, last in tried.items()}
        return waiting(owed, named, due(owed, named, "webhook", now), now)

    assert left({}) is None
    assert left({2: Tried("unreachable", NOW, 1)}) == Waiting(3, soon), "those behind it wait with it"
    assert left({2: Tried("refused", NOW, 1), 3: Tried("refused", NOW, 2)}) == Waiting(2, soon)
    assert left({2: Tried("unreachable", NOW, 1)}, later) is None, "it is tried"
    assert left({one.sequence: Tried("delivered", NOW, 1) for one in owed}) is None


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 30), (2, 60), (3, 120), (7, 1_920), (8, 3_600), (50, 3_600)])
def test_the_pause_doubles_up_to_an_hour(attempt, seconds):
    tried = Tried("unreachable", NOW, attempt)
    assert tried.waits(NOW + timedelta(seconds=seconds - 1))
    assert not tried.waits(NOW + timedelta(seconds=seconds))
    assert not tried.waits(NOW - timedelta(seconds=1)), "after a clock that stepped back nothing is waited for"


@given(st.lists(st.sampled_from(["delivered", "unreachable", "refused"]), max_size=60))
def test_whatever_a_receiver_answers_each_event_is_taken_once_and_in_order_unless_it_was_refused(answers):
    owed, now, given_answers = [entry(number) for number in range(1, 4)], NOW, list(answers)
    tried: dict[tuple[str, int], Tried] = {}
    taken: list[int] = []
    refused: set[int] = set()
    for _ in range(200):
        for message in due(owed, tried, "webhook", now):
            outcome = given_answers.pop(0) if given_answers else "delivered"
            for one, attempts in zip(message.entries, message.attempts, strict=True):
                tried[one.name] = Tried(outcome, now, attempts + 1)
                taken += [one.sequence] if outcome == "delivered" else []
                refused |= {one.sequence} if outcome == "refused" else set()
            if outcome == "unreachable":
                break
        now += timedelta(minutes=30)
    assert sorted(taken) == [1, 2, 3]
    never_refused = [one for one in taken if one not in refused]
    assert never_refused == sorted(never_refused)


def test_what_cannot_be_delivered_for_a_week_is_given_up(settings):
    log = AlertLog(tables_of(settings))
    log.append([entry(1)], [], lambda _: ["webhook"], NOW, 0)
    with receivers.webhook() as hook:
        sinks = {"webhook": Webhook("webhook", hook.address), "new": Webhook("new", hook.address)}
        assert deliver(log, sinks, "lake", NOW + GIVEN_UP_AFTER + timedelta(seconds=1), LOGGER).delivered == 0
        assert deliver(log, sinks, "lake", NOW + GIVEN_UP_AFTER, LOGGER).delivered == 1, "a sink that came later is not told of the past"
        assert len(hook.posted) == 1


def test_what_was_delivered_is_known_also_after_the_log_was_deleted(settings):
    log, lakehouse = AlertLog(tables_of(settings)), tables_of(settings)
    with receivers.webhook() as hook:
        sinks = {"webhook": Webhook("webhook", hook.address)}
        log.append([entry(1)], [], lambda _: ["webhook"], NOW, 0)
        deliver(log, sinks, "lake", NOW, LOGGER)
        shutil.rmtree(lakehouse.table(LOG).uri)
        other = replace(entry(1), alert_id="another")
        log.append([other, replace(entry(1), sequence=2)], [], lambda _: ["webhook"], NOW, 0)
        deliver(log, sinks, "lake", NOW, LOGGER)
        assert [alert["id"] for alert in hook.alerts] == ["id1", "another"]

"""Whether to train: for any history of runs that end, fail, are killed or are forgotten, the promises of `Retrain` hold."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets import Retrain
from lakehouse_assets.platform.monitoring.retraining.decision import (
    COMMAND,
    SENSOR,
    History,
    Reason,
    Request,
    decide,
    key_of,
    number_of,
    text_of,
)

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
REASON = Reason("drift", "shop.monitors.drift failed: psi of amount was 0.3 (threshold 0.1), window 2026-01-01 to 2026-01-02")
MODEL = "shop.models.fraud"

retrains = st.builds(
    Retrain,
    new_labels=st.just(1),
    cool_down=st.integers(0, 200).map(lambda hours: hours * HOUR),
    trainings=st.integers(1, 4),
    per=st.integers(1, 500).map(lambda hours: hours * HOUR),
)
ticks = st.lists(
    st.tuples(
        st.integers(0, 40),  # hours since the tick before
        st.booleans(),  # whether something speaks for a training
        st.sampled_from(["waits", "starts", "done", "failed", "by hand"]),  # what becomes of the open or running training meanwhile
        st.booleans(),  # whether there is anything new to learn
    ),
    max_size=40,
)


def decided(retrain, history, now, *, asked=True):
    return decide(retrain, history, lambda: [REASON] if asked else [], now)


@given(retrains, ticks)
@settings(max_examples=300, deadline=None)
def test_never_two_at_once_never_in_the_cool_down_and_never_more_than_the_budget(retrain, given_ticks):
    history, now, started = History(), BEGIN, []
    for hours, asked, becomes, new in given_ticks:
        now += hours * HOUR
        requests = list(history.requests)
        if becomes == "by hand":
            history = replace(history, trained_at=now)
        elif requests and requests[-1].state in {"open", "under way"} and becomes != "waits":
            requests[-1] = replace(requests[-1], state="under way" if becomes == "starts" else becomes)
        history = replace(history, requests=tuple(requests), blocked="" if new else "Nothing is new.")
        last = history.requests[-1] if history.requests else None
        decision = decided(retrain, history, now, asked=asked)
        if not decision.starts:
            continue
        if decision.again is not None:
            assert decision.again is last, "what was asked for and not taken up is asked for again, as the same request"
            continue
        assert asked
        assert new
        assert last is None or last.state in {"done", "failed"}, "never two at once"
        ends = [one.at for one in history.requests if one.state == "done"]
        ends += [history.trained_at] if history.trained_at else []
        assert all(now - end >= retrain.cool_down for end in ends), "not in the cool-down"
        if last is not None and last.state == "failed":
            assert now - last.at >= HOUR
        started.append(now)
        assert sum(now - at < retrain.per for at in started) <= retrain.trainings, "not more than the budget"
        history = replace(history, requests=(*history.requests, Request(MODEL, len(started), now, text_of(decision.reasons))))


@given(retrains, ticks)
@settings(max_examples=100, deadline=None)
def test_nothing_is_forgotten(retrain, given_ticks):
    """While something speaks for a training and every run fails, is lost or ends, there is one in the end."""
    history, now = History(), BEGIN
    for hours, *_ in given_ticks:
        now += hours * HOUR
        decision = decided(retrain, history, now)
        if decision.starts and decision.again is None:
            history = replace(history, requests=(*history.requests, Request(MODEL, len(history.requests) + 1, now, "", "failed")))
    later = now + retrain.cool_down + retrain.per + timedelta(days=1)
    assert decided(retrain, history, later).starts


def requests(*states):
    return tuple(Request(MODEL, number, BEGIN, "", state) for number, state in enumerate(states, 1))


def test_each_obstacle_is_said():
    retrain = Retrain(new_labels=1, cool_down=timedelta(days=7), trainings=2, per=timedelta(days=30))
    day = timedelta(days=1)
    assert decided(retrain, History(under_way=("0123456789",)), BEGIN).why_not == "A training is under way (run 01234567)."
    assert decided(retrain, History(requests=requests("under way")), BEGIN).why_not == "A training is under way."
    assert decided(retrain, History(trained_at=BEGIN), BEGIN + day).why_not == (
        "It was trained at 2026-01-01 00:00 UTC: the cool-down lasts until 2026-01-08 00:00 UTC."
    )
    assert decided(retrain, History(requests=requests("done", "done")), BEGIN + 8 * day).why_not == (
        "The budget is spent (2 trainings in 30 days): the next one may start after 2026-01-31 00:00 UTC."
    )
    assert decided(retrain, History(blocked="Nothing is new."), BEGIN).why_not == "Nothing is new."
    assert decided(retrain, History(), BEGIN, asked=False).why_not == "Nothing asks for a training."
    assert decided(retrain, History(), BEGIN).reasons == (REASON,)


def test_a_run_that_failed_is_tried_again_after_an_hour_and_then_ever_later_but_a_day_at_most():
    retrain = Retrain(new_labels=1, trainings=20)
    for count, hours in enumerate((1, 2, 4, 8, 16, 24, 24), 1):
        history = History(requests=requests(*["failed"] * count))
        assert decided(retrain, history, BEGIN + (hours - 0.1) * HOUR).why_not.startswith("The training that was asked for at 2026-01-01")
        assert decided(retrain, history, BEGIN + hours * HOUR).starts


def test_after_a_clock_that_stepped_back_nothing_is_waited_for():
    retrain = Retrain(new_labels=1, trainings=1)
    before = BEGIN - timedelta(days=400)
    assert decided(retrain, History(trained_at=BEGIN, requests=requests("done", "failed")), before).starts


def test_keys_say_model_and_number():
    assert number_of(key_of(MODEL, 12), MODEL) == 12
    assert number_of(key_of(MODEL, 12), "shop.models.other") is None
    assert number_of("", MODEL) is None


def test_of_many_reasons_the_heaviest_are_told():
    told = text_of([replace(REASON, text=f"reason {number}") for number in range(5)])
    assert told == "reason 0. reason 1. reason 2. And 2 more reasons."


@given(
    retrains,
    st.lists(st.tuples(st.integers(0, 90), st.sampled_from([SENSOR, COMMAND]), st.sampled_from(["waits", "starts", "done", "failed"]))),
)
@settings(max_examples=300, deadline=None)
def test_of_two_doors_each_starts_its_own_requests_alone_and_never_at_once(retrain, given_ticks):
    history, now = History(), BEGIN
    for minutes, door, becomes in given_ticks:
        now += timedelta(minutes=minutes)
        last = history.requests[-1] if history.requests else None
        if last is not None and last.state in {"open", "under way"} and becomes != "waits":
            changed = replace(last, state="under way" if becomes == "starts" else becomes)
            history = replace(history, requests=(*history.requests[:-1], changed))
            last = changed
        decision = decide(retrain, history, lambda: [REASON], now, door)
        if not decision.starts:
            continue
        if decision.again is not None:
            assert decision.again.door == door
            continue
        assert last is None or last.state in {"done", "failed"} or (last.door != door and now - last.at >= HOUR)
        history = replace(history, requests=(*history.requests, Request(MODEL, len(history.requests) + 1, now, "", door=door)))

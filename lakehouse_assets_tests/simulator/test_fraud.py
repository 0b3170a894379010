"""The true probability of fraud is right, cannot be bettered from what is seen, and no single number comes near it."""

from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from lakehouse_assets.simulator import catalogue, customers
from lakehouse_assets.simulator.episodes import EPISODES, SHARE
from lakehouse_assets.simulator.fraud import CHANGE, LATEST, PATTERNS, REASONS, SOONEST, suspicion
from lakehouse_assets.simulator.orders import LONGEST_LAG
from lakehouse_assets.simulator.payments import METHODS, NO_CARD
from lakehouse_assets.simulator.trading import Day, Shop, open_days

FIRST, DAYS, ORDERS = date(2023, 3, 1), 240, 400


@lru_cache
def days() -> list[Day]:
    """Eight months of a large shop."""
    people = customers.build(5, ORDERS, FIRST - timedelta(days=LONGEST_LAG), FIRST + timedelta(days=DAYS))
    return list(open_days(Shop(5, ORDERS, catalogue.build(5), people), FIRST, DAYS))


@lru_cache
def payments() -> NDArray[np.void]:
    return np.concatenate([day.payments for day in days()])


@lru_cache
def seen() -> NDArray[np.void]:
    return np.concatenate([day.judged.situation for day in days()])


@lru_cache
def probability() -> NDArray[np.float64]:
    return np.concatenate([day.judged.probability for day in days()])


@lru_cache
def is_fraud() -> NDArray[np.bool_]:
    return np.concatenate([day.judged.is_fraud for day in days()])


@lru_cache
def pattern() -> NDArray[np.int64]:
    return np.concatenate([day.judged.pattern for day in days()])


def amiss(chosen: NDArray[np.bool_]) -> float:
    """By how many deviations the frauds among some orders differ from what their probabilities say."""
    p = probability()[chosen]
    return float((is_fraud()[chosen].sum() - p.sum()) / np.sqrt((p * (1 - p)).sum()))


def test_one_and_a_half_of_a_hundred_orders_are_fraud() -> None:
    assert len(payments()) > 70_000
    assert 0.0135 < is_fraud().mean() < 0.0165


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.002), (0.002, 0.01), (0.01, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 0.7), (0.7, 1.0)])
def test_the_probability_is_calibrated(low: float, high: float) -> None:
    chosen = (probability() >= low) & (probability() < high)
    assert chosen.sum() > 200
    assert abs(amiss(chosen)) < 4


def test_the_brier_score_is_what_the_probability_itself_expects() -> None:
    p = probability()
    expected, spread = (p * (1 - p)).sum(), np.sqrt((p * (1 - p) * (1 - 2 * p) ** 2).sum())
    assert abs(((is_fraud() - p) ** 2).sum() - expected) < 4 * spread


def test_the_probability_is_a_function_of_what_is_seen() -> None:
    again, patterns = suspicion(seen()[::-1])
    assert np.array_equal(again[::-1], probability())
    assert np.array_equal(patterns[::-1], pattern())


@pytest.mark.parametrize("entity", ["card", "device", "customer"])
def test_what_became_of_earlier_orders_says_nothing_more(entity: str) -> None:
    """Of two orders after each other with one card, device or customer, the surprises are independent."""
    known = payments()[entity] != 0
    order = np.flatnonzero(known)[np.lexsort((payments()["paid_at"][known], payments()[entity][known]))]
    same = payments()[entity][order][1:] == payments()[entity][order][:-1]
    p = probability()[order]
    surprise = is_fraud()[order] - p
    products = (surprise[1:] * surprise[:-1])[same]
    spread = np.sqrt(((p * (1 - p))[1:] * (p * (1 - p))[:-1])[same].sum())
    assert same.sum() > 1_000
    assert abs(products.sum()) < 4 * spread


def test_other_facts_say_nothing_more() -> None:
    for chosen in (
        payments()["method"] == METHODS.index("wallet"),
        payments()["customer"] == 0,
        payments()["billing_country"] > 0,
        payments()["paid_at"] % 86_400 < 12 * 3_600,
        np.arange(len(payments())) < len(payments()) // 2,
    ):
        assert abs(amiss(chosen)) < 4


def rules() -> dict[str, NDArray[np.float64]]:
    """Single numbers by which a person would rank orders."""
    day, age = payments()["paid_at"] // 86_400, np.nan_to_num(seen()["age"], nan=10_000.0)
    by_card, by_device = (
        np.unique(payments()[entity] ^ (day.astype(np.uint64) << np.uint64(40)), return_inverse=True)[1] for entity in ("card", "device")
    )
    counted = payments()["card"] != NO_CARD
    return {
        "amount": seen()["amount"],
        "accounts on the card": seen()["accounts_on_card"],
        "cards on the device": seen()["cards_on_device"],
        "orders within an hour": seen()["orders_in_hour"],
        "foreign address": seen()["foreign"],
        "amount from a foreign address": seen()["foreign"] * seen()["amount"],
        "newest account": -age,
        "amount of a young account": (age < 14) * seen()["amount"],
        "share of resale goods": seen()["resale"],
        "amount of resale goods": seen()["resale"] * seen()["amount"],
        "orders of the day with the card": np.bincount(by_card)[by_card] * counted,
        "amount of the day with the card": np.bincount(by_card, seen()["amount"])[by_card] * counted,
        "amount of the day from the device": np.bincount(by_device, seen()["amount"])[by_device],
    }


def test_the_best_possible_ranking_is_far_from_perfect_and_far_above_every_single_number() -> None:
    best = average_precision_score(is_fraud(), probability())
    assert 0.6 < best < 0.85
    reached = {name: average_precision_score(is_fraud(), values.astype(float)) / best for name, values in rules().items()}
    assert max(reached.values()) < 0.4, reached


@pytest.mark.parametrize("name", PATTERNS[1:-1])
def test_each_pattern_has_frauds_and_honest_orders_that_look_alike(name: str) -> None:
    chosen = pattern() == PATTERNS.index(name)
    assert 0.05 < is_fraud()[chosen].sum() / is_fraud().sum() < 0.4
    suspicious = chosen & (probability() > 0.05)
    assert is_fraud()[suspicious].sum() > 50
    assert (~is_fraud()[suspicious]).sum() > 50
    assert (~is_fraud()[chosen]).sum() > is_fraud()[chosen].sum()


def test_chargebacks_come_after_days_to_weeks_for_all_fraud_and_for_other_reasons() -> None:
    every = np.concatenate([day.chargebacks for day in days()])
    place = np.searchsorted(payments()["invoice"], every["invoice"])
    assert np.array_equal(payments()["invoice"][place], every["invoice"])
    assert len(np.unique(every["invoice"])) == len(every)
    delay = (every["reported_at"] - payments()["paid_at"][place]) / 86_400
    assert SOONEST <= delay.min() < SOONEST + 3
    assert LATEST - 15 < delay.max() <= LATEST
    assert 20 < np.median(delay) < 35
    reason = every["reason"]
    assert np.array_equal(np.sort(place[reason == 0]), np.flatnonzero(is_fraud()))
    assert (payments()["card"][place] != NO_CARD).all()
    for other in range(1, len(REASONS)):
        assert (reason == other).sum() > 20
    assert (reason == 0).mean() > 0.7


def test_orders_of_episodes_are_a_small_part() -> None:
    assert SHARE < 0.15
    assert len({episode.name for episode in EPISODES}) == len(EPISODES)


def test_from_a_day_on_other_orders_are_fraud_and_no_order_is_another() -> None:
    changes, length = FIRST + timedelta(days=20), 80
    people = customers.build(5, ORDERS, FIRST - timedelta(days=LONGEST_LAG), FIRST + timedelta(days=length))
    changed = list(open_days(Shop(5, ORDERS, catalogue.build(5), people, changes), FIRST, length))
    usual = days()[: len(changed)]
    assert all(np.array_equal(one.payments, other.payments) for one, other in zip(changed, usual, strict=True))
    assert all(np.array_equal(one.lines, other.lines) for one, other in zip(changed, usual, strict=True))
    assert all(np.array_equal(one.chargebacks, other.chargebacks) for one, other in zip(changed, usual, strict=True) if one.date <= changes)
    after = [place for place, day in enumerate(changed) if day.date >= changes + timedelta(days=CHANGE)]
    truth = np.concatenate([changed[place].judged.is_fraud for place in after])
    now, before = (np.concatenate([days_[place].judged.probability for place in after]) for days_ in (changed, usual))
    assert 0.01 < truth.mean() < 0.025
    assert average_precision_score(truth, now) > 0.6, "there is as much to learn as before"
    assert average_precision_score(truth, before) < 0.1, "and who knows the old patterns alone knows nothing"
    patterns = np.concatenate([changed[place].judged.pattern for place in after])
    assert (patterns[truth] == PATTERNS.index("late hour")).mean() > 0.8

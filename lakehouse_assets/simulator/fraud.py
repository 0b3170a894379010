"""Which orders are fraud: the true probability, given what can be seen when an order is paid, and what came of it.

The probability of an order is a function of its `Situation` alone, and whether it is fraud is drawn with it. So nobody who
sees the shop's feeds up to then, and nothing of the future, can know more than the probability says. Nothing here looks
at the episode that an order belongs to.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lakehouse_assets.simulator.lines import NO_CUSTOMER
from lakehouse_assets.simulator.payments import NO_CARD, Payments, moment
from lakehouse_assets.simulator.streams import stream

PATTERNS = ("none", "card on accounts", "device on cards", "burst", "foreign address", "young account", "resale goods", "late hour")
"""What makes an order suspicious most, honest or not; the first: nothing. The last one is there only after the patterns have changed."""
REASONS = ("fraud", "not received", "duplicate")
"""Reasons of chargebacks; the first is the only one that means fraud."""
SOONEST, LATEST = 5, 70
"""Days from a payment to its chargeback at least and at most."""
CHANGE = 14
"""Days over which the patterns change: the old ones fade, and the new one comes up."""

SITUATION = np.dtype(
    [
        ("accounts_on_card", np.int64),  # different customers who paid with the card in a day up to now, with this one
        ("cards_on_device", np.int64),  # different cards on the device in a day up to now, with this one
        ("orders_in_hour", np.int64),  # orders from the device in an hour up to now, with this one
        ("foreign", np.bool_),  # the address on the network is in another country than the bill
        ("age", np.float64),  # days since the customer joined; NaN without account
        ("amount", np.float64),  # pounds
        ("resale", np.float64),  # share of the amount of goods that is easily sold on
        ("by_card", np.bool_),  # paid by card or wallet
        ("hour", np.float64),  # of the day
        ("changed", np.float64),  # how far the patterns have changed on that day, 0 to 1
    ]
)

Situation: TypeAlias = NDArray[Any]
"""A one-dimensional array of `SITUATION`: all that the probability depends on."""

CHARGEBACK = np.dtype([("invoice", np.int64), ("reported_at", np.int64), ("reason", np.int8)])
Chargebacks: TypeAlias = NDArray[Any]
"""A one-dimensional array of `CHARGEBACK`: invoice, seconds since 1970, index into REASONS."""

_HOUR, _DAY = 3_600, 86_400
_EPOCH = date(1970, 1, 1).toordinal()

# Summands of the log odds.
_ODDS = -6.4
_BY_ACCOUNTS = (0.0, 1.5, 5.0, 7.5, 9.0)  # with one account on the card, two, three …
_BY_CARDS = (0.0, 1.2, 3.4, 6.0, 7.5, 9.0)
_BY_ORDERS = (0.0, 1.2, 4.5, 7.0, 8.5)
_FOREIGN, _FOREIGN_LARGE = 1.8, 5.5
_YOUNG, _YOUNG_LARGE = 0.8, 6.0
_RESALE, _RESALE_LARGE = 1.0, 6.5
_ESTABLISHED = -2.8  # before the patterns change: the new one is that of accounts that were taken over
_LATE, _LATE_SMALL = 1.5, 6.8
_MOST = 1.3
_LARGE_FROM, _LARGE_TO = 450.0, 1_000.0  # pounds
_YOUNG_DAYS = (10, 30)
_ESTABLISHED_DAYS = (60, 240)
_RESALE_FROM, _RESALE_TO = 0.5, 0.8
_LATE_HOURS = (15.9, 16.1)
_SMALL_TO, _SMALL_FROM = 150.0, 190.0  # pounds

_DELAY_SHAPE = (1.6, 3.2)
_NOT_RECEIVED, _DUPLICATE = 0.0025, 0.001  # share of honest payments by card


@dataclass(frozen=True)
class Judged:
    """The truth about a day's payments, in their order."""

    situation: Situation
    probability: NDArray[np.float64]
    pattern: NDArray[np.int64]
    """Index into PATTERNS."""
    is_fraud: NDArray[np.bool_]


def judge(seed: int, day: date, before: Payments, payments: Payments, changes: date | None = None) -> Judged:
    """Decide which of a day's payments are fraud.

    Args:
        seed: The shop's seed.
        day: The day.
        before: The payments of the open day before: a day back in time, there is nothing more to see.
        payments: The payments of the day.
        changes: From this day on the patterns change; None: they stay.
    """
    seen = situations(before, payments)
    seen["changed"] = 0.0 if changes is None else min(max((day - changes).days / CHANGE, 0.0), 1.0)
    probability, pattern = suspicion(seen)
    rng = stream(seed, "fraud", day.toordinal())
    return Judged(seen, probability, pattern, rng.random(len(payments)) < probability)


def situations(before: Payments, payments: Payments) -> Situation:
    """What can be seen of each payment at its time."""
    every = np.concatenate([before, payments])
    seen = np.zeros(len(payments), dtype=SITUATION)
    first = len(before)
    with_account = np.where(every["customer"] == NO_CUSTOMER, 0, every["customer"])
    seen["accounts_on_card"] = _distinct(every["card"], with_account, every["paid_at"], _DAY)[first:]
    seen["cards_on_device"] = _distinct(every["device"], every["card"], every["paid_at"], _DAY)[first:]
    seen["orders_in_hour"] = _distinct(every["device"], 1 + np.arange(len(every)), every["paid_at"], _HOUR)[first:]
    seen["foreign"] = payments["ip_country"] != payments["billing_country"]
    days = payments["paid_at"] // _DAY + _EPOCH
    seen["age"] = np.where(payments["customer"] == NO_CUSTOMER, np.nan, days - payments["joined"])
    seen["amount"] = payments["amount"] / 100
    seen["resale"] = payments["resale"]
    seen["by_card"] = payments["card"] != NO_CARD
    seen["hour"] = payments["paid_at"] % _DAY / _HOUR
    return seen


def suspicion(seen: Situation) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The probability of fraud in each situation, and the pattern that adds most to it (index into PATTERNS)."""
    amount = np.log(np.maximum(seen["amount"], 1.0))
    large = _ramp(amount, np.log(_LARGE_FROM), np.log(_LARGE_TO))
    late = _ramp(seen["hour"], *_LATE_HOURS)
    small = 1.0 - _ramp(amount, np.log(_SMALL_TO), np.log(_SMALL_FROM))
    still = 1.0 - seen["changed"]
    is_guest = np.isnan(seen["age"])
    age = np.nan_to_num(seen["age"])
    young = np.where(is_guest, 0.0, 1.0 - _ramp(age, *_YOUNG_DAYS))
    established = np.where(is_guest, 0.0, _ramp(age, *_ESTABLISHED_DAYS))
    resale = _ramp(seen["resale"], _RESALE_FROM, _RESALE_TO)
    parts = np.stack(
        [
            np.full(len(seen), 1.0),  # less than this is nothing to speak of
            still * _step(_BY_ACCOUNTS, seen["accounts_on_card"]),
            still * _step(_BY_CARDS, seen["cards_on_device"]),
            still * _step(_BY_ORDERS, seen["orders_in_hour"]),
            still * seen["foreign"] * (_FOREIGN + _FOREIGN_LARGE * large),
            still * young * (_YOUNG + _YOUNG_LARGE * large),
            still * resale * (_RESALE + _RESALE_LARGE * large),
            seen["changed"] * late * (_LATE + _LATE_SMALL * small),
        ]
    )
    odds = np.minimum(_ODDS + parts[1:].sum(axis=0) + still * _ESTABLISHED * established, _MOST)
    probability: NDArray[np.float64] = np.where(seen["by_card"], 1.0 / (1.0 + np.exp(-odds)), 0.0)
    return probability, parts.argmax(axis=0)


def chargebacks(seed: int, day: date, payments: Payments, is_fraud: NDArray[np.bool_]) -> Chargebacks:
    """All chargebacks that ever come of a day's payments: every fraud, and some honest payments for other reasons."""
    rng = stream(seed, "chargebacks", day.toordinal())
    chance = rng.random(len(payments))
    other = np.where(chance < _NOT_RECEIVED, 1, np.where(chance < _NOT_RECEIVED + _DUPLICATE, 2, -1))
    reason = np.where(is_fraud, 0, np.where(payments["card"] == NO_CARD, -1, other))
    delay = (_DAY * (SOONEST + (LATEST - SOONEST) * rng.beta(*_DELAY_SHAPE, len(payments)))).astype(np.int64)
    every = np.zeros(len(payments), dtype=CHARGEBACK)
    every["invoice"] = payments["invoice"]
    every["reported_at"] = payments["paid_at"] + delay
    every["reason"] = reason
    return every[reason >= 0]


def chargebacks_between(every: Chargebacks, first: date, last: date) -> Chargebacks:
    """Those that are reported between two days, both included, in the order of their time."""
    start, end = (_DAY * (day.toordinal() - _EPOCH) for day in (first, last))
    some = every[(every["reported_at"] >= start) & (every["reported_at"] < end + _DAY)]
    ordered: Chargebacks = np.sort(some, order=["reported_at", "invoice"])
    return ordered


def chargeback_rows(some: Chargebacks) -> pl.DataFrame:
    """Chargebacks as rows of the chargebacks feed."""
    return pl.DataFrame({name: some[name] for name in some.dtype.names or ()}).select(
        invoice=pl.col("invoice").cast(pl.String),
        reported_at=moment(pl.col("reported_at")),
        reason=pl.lit(pl.Series(REASONS)).gather("reason"),
    )


def _distinct(key: NDArray[Any], value: NDArray[Any], at: NDArray[np.int64], seconds: int) -> NDArray[np.int64]:
    """Different values (0 is none) of each row's key in so many seconds up to the row; at least 1."""
    counts = np.ones(len(key), dtype=np.int64)
    order = np.argsort(key, kind="stable")
    keys, starts, sizes = np.unique(key[order], return_index=True, return_counts=True)
    for start, size in zip(starts[(sizes > 1) & (keys != 0)], sizes[(sizes > 1) & (keys != 0)], strict=True):
        rows = order[start : start + size]
        since = at[rows][:, None] - at[rows]
        within = (since >= 0) & (since < seconds) & (value[rows] != 0)
        counts[rows] = [max(len(set(value[rows[seen]].tolist())), 1) for seen in within]
    return counts


def _ramp(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """0 up to `low`, 1 from `high`, straight between."""
    rising: NDArray[np.float64] = np.clip((values - low) / (high - low), 0.0, 1.0)
    return rising


def _step(table: tuple[float, ...], count: NDArray[np.int64]) -> NDArray[np.float64]:
    steps: NDArray[np.float64] = np.asarray(table)[np.minimum(count, len(table)) - 1]
    return steps

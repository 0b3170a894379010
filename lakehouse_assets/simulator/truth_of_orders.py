"""What is true of each order of a simulation, whether it is fraud above all: a parquet file of orders, and counts.

The file is written part by part, so that memory does not grow with the days. What is true of invoices, products and
customers belongs in `truth`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import numpy as np
import polars as pl

from lakehouse_assets.simulator.fraud import CHARGEBACK, PATTERNS, REASONS, Chargebacks
from lakehouse_assets.simulator.payments import METHODS
from lakehouse_assets.simulator.trading import Day

_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "invoice": pl.String,
    "paid_at": pl.Datetime("us", "UTC"),
    "is_fraud": pl.Boolean,
    "pattern": pl.String,
    "probability": pl.Float64,
    "accounts_on_card": pl.Int64,
    "cards_on_device": pl.Int64,
    "orders_in_hour": pl.Int64,
    "foreign": pl.Boolean,
    "age": pl.Float64,
    "amount": pl.Float64,
    "resale": pl.Float64,
    "by_card": pl.Boolean,
    "hour": pl.Float64,
    "changed": pl.Float64,
}


@dataclass(frozen=True)
class PaymentsTruth:
    """The payments feed: one payment for each order."""

    files: int
    rows: int
    amount: int
    """Sum in pence, of what is unreadable on invoices too."""
    by_method: dict[str, int]


@dataclass(frozen=True)
class ChargebacksTruth:
    """The chargebacks feed."""

    files: int
    rows: int
    by_reason: dict[str, int]
    of_earlier_days: int
    """Those of orders of before the first day."""


@dataclass(frozen=True)
class PatternTruth:
    """Orders of which one pattern is what is most suspicious."""

    orders: int
    frauds: int


@dataclass(frozen=True)
class FraudTruth:
    """Fraud among the orders of these days, whether it was reported by the last one or not."""

    orders: int
    frauds: int
    expected: float
    """Sum of the probabilities."""
    amount: int
    """Pence of the frauds."""
    by_pattern: dict[str, PatternTruth]


def orders_file(truth: Path) -> Path:
    """Where the truth about each order is, next to the truth about the shop.

    It has a row for each order: `invoice` (text), `paid_at`, `is_fraud`, `pattern` (what is most suspicious of it, honest or
    not), `probability` (of fraud, given all that can be seen when it is paid) and what that depends on:
    `accounts_on_card` and `cards_on_device` (of a day), `orders_in_hour` (from the device), `foreign`, `age` (days, null without
    account), `amount` (pounds), `resale` (share of the goods), `by_card`, `hour` (of the day), `changed` (how far the patterns have
    changed, 0 to 1).
    """
    return truth.with_name(f"{truth.stem}_orders.parquet")


class OrdersTally:
    """Counts orders as they are written, and writes the file about them when it is left without an error."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._parts = TemporaryDirectory(prefix="orders-")
        self._days: list[pl.DataFrame] = []
        self._files = 0
        self._chargebacks: list[Chargebacks] = [np.zeros(0, dtype=CHARGEBACK)]
        self._earlier = 0
        self._counts: Counter[str] = Counter()
        self._expected = 0.0
        self._methods = np.zeros(len(METHODS), dtype=np.int64)
        self._orders, self._frauds = (np.zeros(len(PATTERNS), dtype=np.int64) for _ in range(2))

    def __enter__(self) -> Self:
        return self

    def add_earlier_day(self, day: Day) -> None:
        """Keep the chargebacks of a day that is written elsewhere."""
        self._chargebacks.append(day.chargebacks)
        self._earlier = int(day.payments["invoice"].max(initial=self._earlier))

    def add_day(self, day: Day) -> None:
        """Count the orders of a day."""
        self._days.append(_truth_of(day))
        self._chargebacks.append(day.chargebacks)
        fraud = day.judged.is_fraud
        self._counts["amount"] += int(day.payments["amount"].sum())
        self._counts["fraud amount"] += int(day.payments["amount"][fraud].sum())
        self._expected += float(day.judged.probability.sum())
        self._methods += np.bincount(day.payments["method"], minlength=len(METHODS))
        self._orders += np.bincount(day.judged.pattern, minlength=len(PATTERNS))
        self._frauds += np.bincount(day.judged.pattern[fraud], minlength=len(PATTERNS))

    def end_file(self) -> None:
        """The days so far are in a file."""
        pl.concat(self._days).write_parquet(self._part(self._files))
        self._days.clear()
        self._files += 1

    def chargebacks(self) -> Chargebacks:
        """Every chargeback that comes of the days so far, whenever it is reported."""
        every: Chargebacks = np.concatenate(self._chargebacks)
        return every

    def payments_truth(self) -> PaymentsTruth:
        """The counts of payments so far."""
        by_method = dict(zip(METHODS, self._methods.tolist(), strict=True))
        return PaymentsTruth(files=self._files, rows=int(self._methods.sum()), amount=self._counts["amount"], by_method=by_method)

    def chargebacks_truth(self, files: Sequence[Chargebacks]) -> ChargebacksTruth:
        """Counts of what was written of them."""
        every = np.concatenate([np.zeros(0, dtype=CHARGEBACK), *files])
        by_reason = np.bincount(every["reason"], minlength=len(REASONS)).tolist()
        return ChargebacksTruth(
            files=len(files),
            rows=len(every),
            by_reason=dict(zip(REASONS, by_reason, strict=True)),
            of_earlier_days=int((every["invoice"] <= self._earlier).sum()),
        )

    def fraud_truth(self) -> FraudTruth:
        """The counts of fraud so far."""
        counts = zip(PATTERNS, self._orders.tolist(), self._frauds.tolist(), strict=True)
        return FraudTruth(
            orders=int(self._orders.sum()),
            frauds=int(self._frauds.sum()),
            expected=round(self._expected, 3),
            amount=self._counts["fraud amount"],
            by_pattern={name: PatternTruth(orders, frauds) for name, orders, frauds in counts},
        )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._parts:
            if kind is None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                part = self._file.with_name(f"{self._file.name}.part")
                pl.DataFrame(schema=_COLUMNS).write_parquet(self._part(self._files))  # there may be no other
                pl.scan_parquet([self._part(number) for number in range(self._files + 1)]).sink_parquet(part)
                part.replace(self._file)

    def _part(self, number: int) -> Path:
        return Path(self._parts.name) / f"{number:04}.parquet"


def _truth_of(day: Day) -> pl.DataFrame:
    seen = day.judged.situation
    frame = pl.DataFrame(
        {
            "invoice": pl.Series(day.payments["invoice"]).cast(pl.String),
            "paid_at": pl.Series(day.payments["paid_at"] * 1_000_000).cast(_COLUMNS["paid_at"]),
            "is_fraud": day.judged.is_fraud,
            "pattern": pl.Series(PATTERNS).gather(day.judged.pattern),
            "probability": day.judged.probability,
            **{name: seen[name] for name in seen.dtype.names or ()},
        },
        schema=_COLUMNS,
    )
    return frame.with_columns(pl.col("age").fill_nan(None))

"""Corrections of the stock, which the till writes as invoices of one line with price 0 and without customer.

They are what was written off and what turned up; nothing here is revenue.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np

from lakehouse_assets.simulator.charges import CHARGES
from lakehouse_assets.simulator.lines import NO_TEXT, Lines, kind
from lakehouse_assets.simulator.streams import stream


@dataclass(frozen=True)
class Correction:
    """A direction in which the stock is corrected."""

    kind: str
    sign: int
    per_order: float
    """Corrections for each order of the day."""
    units: float
    """Median of what is corrected at once."""
    no_reason: float
    """Share without description."""
    reasons: tuple[str, ...]


CORRECTIONS = (
    Correction("write-off", -1, 0.083, 26.0, 0.76, (
        "damaged", "damages", "check", "?", "missing", "smashed", "thrown away", "wet damaged", "counted", "Damaged",
        "rusty, thrown away", "sold as set", "mouldy", "??")),
    Correction("found", 1, 0.064, 4.0, 0.62, (
        "found", "check", "adjustment", "Found", "?", "counted", "back from fair", "wrong code")),
)  # fmt: skip

REASONS = tuple(reason for correction in CORRECTIONS for reason in correction.reasons)
"""Every reason; among descriptions they follow those of the charges."""


def corrections(seed: int, day: date, sold: Lines, products: int) -> Lines:
    """A day's corrections of the stock.

    Args:
        seed: The shop's seed.
        day: The day.
        sold: The day's sold lines: products that can be corrected, and how much happens at all.
        products: Number of products in the catalogue.
    """
    rng = stream(seed, "stock", day.toordinal())
    orders = len(np.unique(sold["invoice"]))
    parts = []
    first_reason = 2 * products + len(CHARGES)
    for correction in CORRECTIONS:
        count = rng.poisson(correction.per_order * orders)
        lines = sold[rng.integers(0, max(len(sold), 1), count)]
        reason = first_reason + rng.integers(0, len(correction.reasons), count)
        first_reason += len(correction.reasons)
        lines["text"] = np.where(rng.random(count) < correction.no_reason, NO_TEXT, reason)
        lines["quantity"] = correction.sign * np.ceil(rng.lognormal(np.log(correction.units), 1.7, count))
        lines["kind"] = kind(correction.kind)
        parts.append(lines)
    corrected: Lines = np.concatenate(parts)
    corrected["price"] = corrected["customer"] = corrected["country"] = 0
    corrected["minute"] = rng.integers(540, 1_080, len(corrected))
    corrected["invoice"] = 2 * 10**12 + np.arange(len(corrected))  # apart from every other invoice of the day
    return corrected

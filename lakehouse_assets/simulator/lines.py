"""The invoice line as the simulator computes it: numbers and indices, no text.

Most other modules make, change or read such lines; what the indices stand for is said here once.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

KINDS = (
    "sale", "free", "cancellation", "write-off", "found", "carriage", "discount", "fee", "adjustment", "manual",
    "sample", "gift voucher", "test",
)  # fmt: skip
"""Every kind of line. "free" is a product given away on a sale, "found" stock that turned up: both have price 0."""
BAD = ("none", "text in quantity", "text in price", "impossible date")
"""Every way in which a line can be unreadable."""
PREFIXES = ("", "C", "A")
"""What an invoice number may start with: C is a cancellation, A an adjustment of the books."""
NO_TEXT = -1
"""A line without description."""
NO_CUSTOMER = 0

LINE = np.dtype(
    [
        ("day", np.int32),  # ordinal
        ("minute", np.int16),  # of the day
        ("invoice", np.int64),  # any number that tells the invoices of a day apart; at last the running number
        ("prefix", np.int8),  # index into PREFIXES
        ("item", np.int32),  # index of a product; after all products come the CHARGES
        ("text", np.int32),  # index of a description, or NO_TEXT: products, their second ones, CHARGES, REASONS
        ("quantity", np.int32),
        ("price", np.int32),  # pence
        ("customer", np.int32),  # number, or NO_CUSTOMER
        ("country", np.int8),  # index into COUNTRIES
        ("kind", np.int8),  # index into KINDS
        ("bad", np.int8),  # index into BAD
        ("copy", np.bool_),  # an honest repetition of the line before it
    ]
)

Lines: TypeAlias = NDArray[Any]
"""A one-dimensional array of `LINE`."""


def kind(name: str) -> int:
    """The index of a kind of line."""
    return KINDS.index(name)


def empty(count: int = 0) -> Lines:
    """Lines with every field zero."""
    return np.zeros(count, dtype=LINE)

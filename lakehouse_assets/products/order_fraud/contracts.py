"""What the tables of `order_fraud` promise: columns, types, keys, rules. How rows come about is in the modules of the tables.

Money is in pounds, moments are in UTC.
"""

from datetime import UTC, datetime

import polars as pl

from lakehouse_assets import Contract, Timestamp, column, rule

METHODS = ("card", "wallet", "transfer")
REVIEW, ACCEPT = "review", "accept"


class Order(Contract):
    """An order as it stands when it is paid: all that can be known of it by itself. It is what a request for a score says."""

    invoice: str = column(key=True, str_matches=r"^\d{6,}$", description="Number of the order's invoice.")
    paid_at: Timestamp = column(ge=datetime(2000, 1, 1, tzinfo=UTC), description="When it was paid.")
    method: str = column(isin=METHODS, description="How it was paid.")
    card: str = column(nullable=True, personal=True, description="Fingerprint of the card; missing for a transfer.")
    device: str = column(personal=True, description="Fingerprint of the device on which it was paid.")
    ip_country: str = column(description="Country of the device's address on the network.")
    billing_country: str = column(description="Country of the billing address.")
    amount: float = column(ge=0, description="What was paid.")
    customer_id: str = column(nullable=True, str_matches=r"^\d+$", description="Customer; missing if ordered without account.")
    account_age: float = column(nullable=True, ge=0, description="Days since the account was opened; missing without one.")
    lines: int = column(nullable=True, ge=0, description="Lines of goods on the invoice.")
    units: int = column(nullable=True, description="Units of all goods.")
    dearest: float = column(nullable=True, description="Price of the dearest unit.")
    resale_share: float = column(nullable=True, in_range={"min_value": 0, "max_value": 1}, description="Share of goods easily sold on.")


class Label(Contract):
    """Whether an order was fraud, as far as the bank has said. An order of which it says nothing within ten weeks was honest."""

    invoice: str = column(key=True, description="Number of the order's invoice.")
    paid_at: Timestamp = column(description="When it was paid.")
    billing_country: str = column(description="Country of the billing address.")
    is_fraud: bool = column(nullable=True, description="True if it was charged back because somebody else paid; missing if not.")
    reported_at: Timestamp = column(nullable=True, description="When the bank reported it.")

    reported = rule("a fraud says when it was reported", pl.col("is_fraud").is_null() | pl.col("reported_at").is_not_null())


class OrderFeatures(Contract):
    """What an order says by itself."""

    invoice: str = column(key=True, description="Number of the order's invoice.")
    paid_at: Timestamp = column(key=True, description="When it was paid.")
    known_at: Timestamp = column(description="From when on this was known.")
    card: str = column(nullable=True, personal=True, description="Fingerprint of the card.")
    device: str = column(personal=True, description="Fingerprint of the device.")
    customer_id: str = column(nullable=True, description="Customer.")
    ip_country: str = column(description="Country of the device's address on the network.")
    amount: float = column(description="Amount in pounds.")
    method: str = column(description="Method of payment.")
    abroad: bool = column(description="Paid from another country than the bill goes to.")
    has_account: bool = column(description="Ordered with an account.")
    account_age: float = column(nullable=True, description="Age of the account in days.")
    lines: int = column(nullable=True, description="Lines of goods.")
    units: int = column(nullable=True, description="Units.")
    dearest: float = column(nullable=True, description="Price of the dearest unit.")
    resale_share: float = column(nullable=True, description="Share of goods that are easily sold on.")
    hour: int = column(description="Hour of the day.")


class OrderScore(Contract):
    """How likely an order is fraud, what to do about it, and why."""

    invoice: str = column(key=True, description="Number of the order's invoice.")
    paid_at: Timestamp = column(description="When it was paid.")
    amount: float = column(description="What was paid.")
    probability: float = column(in_range={"min_value": 0, "max_value": 1}, description="That it is fraud.")
    decision: str = column(isin=(REVIEW, ACCEPT), description="What costs less on average: a review, or to let it pass.")
    reasons: str = column(nullable=True, description="Of an order to review: what raised the probability most.")
    model_name: str = column(description="Registered model.")
    model_version: int = column(key=True, ge=1, description="Its version.")
    feature_version: int = column(ge=0, description="Delta version of the orders' features.")
    scored_at: Timestamp = column(description="When it was scored.")

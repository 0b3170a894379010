"""What the tables of `sales` promise: columns, types, keys, rules. How rows come about is in `silver` and `gold`.

Money is in pounds. A moment is what the till's clock showed, kept as UTC.
"""

from datetime import UTC, date, datetime

import polars as pl

from lakehouse_assets import Contract, Timestamp, column, rule
from lakehouse_assets.products.sales.revenue import LINE_TYPES

# A penny, and what adding up a million amounts may be off by.
_PENNY = 0.01
# What is computed from lines sums them up in ten-thousandths of a pound, as whole numbers.
_MOST_OF_A_LINE = 100_000_000
PAYMENT_METHODS = ("card", "wallet", "transfer")
CHARGEBACK_REASONS = ("fraud", "not received", "duplicate")
COMPONENTS = ("base", "add-on", "carriage", "discount", "fee", "adjustment", "sample", "gift voucher", "test", "other")


class InvoiceLine(Contract):
    """One row per product sold, returned or charged on an invoice."""

    line_id: str = column(key=True, description="The line's content, hashed, with its occurrence in its file if it is not the first.")
    month: date = column(key=True, description="First day of the month of the invoice.")
    invoice: str = column(str_matches=r"^[AC]?\d{6,}$", description="Number of the invoice; C cancels, A adjusts.")
    stock_code: str = column(str_length={"min_value": 1, "max_value": 20}, description="Product, or pseudo product of the till.")
    description: str = column(nullable=True, description="Text on the invoice, trimmed.")
    quantity: int = column(ne=0, description="Units; negative on cancellations and write-offs.")
    unit_price: float = column(description="Price of one unit.")
    amount: float = column(description="Quantity times unit price.")
    customer_id: str = column(nullable=True, str_matches=r"^\d+$", description="Customer; missing on a fifth of all lines.")
    country: str = column(description="Where the customer is.")
    invoiced_at: Timestamp = column(ge=datetime(2000, 1, 1, tzinfo=UTC), description="When the invoice was written.")
    line_type: str = column(isin=LINE_TYPES, description="What kind of line this is.")

    negative_price_is_adjustment = rule(
        "only an adjustment has a negative price", (pl.col("unit_price") >= 0) | (pl.col("line_type") == "adjustment")
    )
    cancelled_is_negative = rule(
        "a cancelled line has a negative quantity", (pl.col("line_type") != "cancellation") | (pl.col("quantity") < 0)
    )
    described = rule(
        "a sold product has a description", (pl.col("line_type") != "sale") | pl.col("description").is_not_null(), level="warn"
    )
    possible_amount = rule(
        "a line is below a hundred million pounds: more is a barcode that was typed as a price", pl.col("amount").abs() < _MOST_OF_A_LINE
    )
    plausible_amount = rule("a line is below 50,000 pounds", pl.col("amount").abs() < 50_000, level="warn")


class Product(Contract):
    """The history of a product in the catalogue, one row a version."""

    stock_code: str = column(key=True, description="Product.")
    sequence: int = column(
        key=True, description="Order of the snapshots: day in seconds since 1970, times a million, plus the number of the file."
    )
    valid_from: Timestamp = column(description="From when on the catalogue said so.")
    is_deleted: bool = column(description="Whether the product was taken out of the catalogue.")
    name: str = column(description="Name in the catalogue.")
    product_group: str = column(description="Group of products that sell alike.")
    component: str = column(isin=["base", "add-on"], description="Whether it sells on its own or with another product.")
    list_price: float = column(ge=0, description="Price without discount.")
    replaces: str = column(nullable=True, description="The product that this one continues under a new stock code.")


class Customer(Contract):
    """The history of a customer in the register, one row a version."""

    customer_id: str = column(key=True, description="Customer.")
    sequence: int = column(key=True, ge=0, description="Number of the event in the register.")
    valid_from: Timestamp = column(description="When the event happened.")
    is_deleted: bool = column(description="Whether the customer left the register.")
    name: str = column(nullable=True, personal=True, description="Full name.")
    email: str = column(nullable=True, personal=True, str_matches=r"^[^@\s]+@[^@\s]+$", description="Address for mail.")
    country: str = column(nullable=True, description="Country of residence.")
    segment: str = column(nullable=True, description="Segment that sales put the customer into.")


class Payment(Contract):
    """How an order was paid, one row an order."""

    invoice: str = column(key=True, str_matches=r"^\d{6,}$", description="Number of the order's invoice.")
    paid_at: Timestamp = column(ge=datetime(2000, 1, 1, tzinfo=UTC), description="When it was paid.")
    method: str = column(isin=PAYMENT_METHODS, description="How it was paid.")
    card: str = column(nullable=True, personal=True, description="Fingerprint of the card, of a wallet too; missing for a transfer.")
    device: str = column(personal=True, description="Fingerprint of the device on which it was paid.")
    ip_country: str = column(description="Country of the device's address on the network.")
    billing_country: str = column(description="Country of the billing address.")
    amount: float = column(ge=0, lt=_MOST_OF_A_LINE, description="What was paid, in pounds: the sum of the invoice's lines.")
    customer_id: str = column(nullable=True, str_matches=r"^\d+$", description="Customer; missing if the order was placed without account.")

    card_fits_method = rule(
        "a card or wallet has a card, a transfer has none", (pl.col("method") == "transfer") == pl.col("card").is_null()
    )


class Chargeback(Contract):
    """A payment that the bank took back, one row an order."""

    invoice: str = column(key=True, str_matches=r"^\d{6,}$", description="Number of the order's invoice.")
    reported_at: Timestamp = column(ge=datetime(2000, 1, 1, tzinfo=UTC), description="When the bank reported it.")
    reason: str = column(isin=CHARGEBACK_REASONS, description="Why; only fraud means that somebody else paid.")


class ProductGroup(Contract):
    """Where a stock code's revenue counts now, renamed products under their successor."""

    stock_code: str = column(key=True, description="Product, old or new.")
    successor: str = column(description="The stock code under which it is sold today; itself if it was not renamed.")
    product_group: str = column(description="Group of the successor.")
    component: str = column(isin=["base", "add-on"], description="Component of the successor.")


class DailyRevenue(Contract):
    """Revenue of one day, product group and component: net = gross - discount - returned."""

    month: date = column(key=True, description="First day of the month.")
    day: date = column(key=True, description="Day of the invoices.")
    product_group: str = column(key=True, description="Group of the product, or the kind of line that is not a product.")
    component: str = column(
        key=True, isin=COMPONENTS, description="Part of the revenue: goods by component; carriage, fees and the rest apart."
    )
    gross: float = column(ge=0, description="Sold, before discounts and returns.")
    discount: float = column(description="Part of the bills' discounts that falls on these lines.")
    returned: float = column(ge=0, description="Cancelled, refunded or charged to the shop.")
    net: float = column(description="What is left.")
    units: int = column(description="Units sold less units returned.")
    orders: int = column(ge=0, description="Invoices with a sale.")

    adds_up = rule(
        "net = gross - discount - returned", (pl.col("gross") - pl.col("discount") - pl.col("returned") - pl.col("net")).abs() < _PENNY
    )


class CustomerMonth(Contract):
    """What a customer bought and returned in one month."""

    month: date = column(key=True, description="First day of the month.")
    customer_id: str = column(key=True, description="Customer.")
    country: str = column(description="Country on the last invoice of the month.")
    last_line_at: Timestamp = column(description="Last invoice of any kind.")
    first_order_at: Timestamp = column(nullable=True, description="First sale.")
    last_order_at: Timestamp = column(nullable=True, description="Last sale.")
    orders: int = column(ge=0, description="Invoices with a sale.")
    products: int = column(ge=0, description="Different products bought.")
    units: int = column(ge=0, description="Units bought.")
    gross: float = column(ge=0, description="Bought and charged.")
    returned: float = column(ge=0, description="Cancelled and refunded.")


class Customer360(Contract):
    """What is known of a customer who bought or returned something."""

    customer_id: str = column(key=True, description="Customer.")
    segment: str = column(nullable=True, description="Segment in the register, if the customer is in it.")
    country: str = column(description="Country in the register, else on the last invoice.")
    first_order_at: Timestamp = column(nullable=True, description="First sale.")
    last_order_at: Timestamp = column(nullable=True, description="Last sale.")
    orders: int = column(ge=0, description="Invoices with a sale; one that goes over two months counts in both.")
    monthly_products: float = column(
        nullable=True, gt=0, description="Different products bought in a month, averaged over months with a sale."
    )
    units: int = column(ge=0, description="Units bought.")
    gross: float = column(ge=0, description="Bought and charged.")
    returned: float = column(ge=0, description="Cancelled and refunded.")
    net: float = column(description="Gross less returned.")
    average_order: float = column(nullable=True, ge=0, description="Gross for each order.")

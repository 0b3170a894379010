"""Orders as they stand when they are paid, and what became of them: made from the payments, invoices and registers of `sales`."""

import polars as pl

from lakehouse_assets import ByKey, Dimension, table
from lakehouse_assets.products.order_fraud.contracts import Label, Order

# What thieves order, because it is small and easily sold on.
RESALE_GROUPS = ("bags", "jewellery")
_DAY = 86_400
_GOODS = "sale"


@table(
    "order_fraud.gold.orders",
    contract=Order,
    kind=ByKey("invoice"),
    inputs={
        "payments": "sales.silver.payments",
        "lines": "sales.silver.invoice_lines",
        "rejected": "sales.silver.invoice_lines__quarantine",
    },
    dimensions={
        "groups": Dimension("sales.silver.product_groups", key="stock_code"),
        "customers": Dimension("sales.silver.customers", key="customer_id"),
    },
    owner="team:risk",
)
def orders(
    payments: pl.LazyFrame, lines: pl.LazyFrame, rejected: pl.LazyFrame, groups: pl.LazyFrame, customers: pl.LazyFrame
) -> pl.LazyFrame:
    """One row an order: its payment, the figures of its basket, and how old the account is.

    An order is there when its payment and its invoice have come, as a request for a score has both. An invoice whose lines were all
    rejected has come too: its order has no basket, and is scored.
    """
    invoiced = pl.concat([lines.select("invoice"), rejected.select("invoice")])
    opened = customers.group_by("customer_id").agg(opened_at=pl.col("valid_from").min())
    age = (pl.col("paid_at") - pl.col("opened_at")).dt.total_seconds() / _DAY
    return (
        payments.join(invoiced, on="invoice", how="semi")
        .join(basket(lines, groups), on="invoice", how="left")
        .join(opened, on="customer_id", how="left")
        .select(
            "invoice",
            "paid_at",
            "method",
            "card",
            "device",
            "ip_country",
            "billing_country",
            "amount",
            "customer_id",
            # An account is opened with the first order, at times a little after it.
            account_age=age.clip(lower_bound=0),
            lines="lines",
            units="units",
            dearest="dearest",
            resale_share="resale_share",
        )
    )


def basket(lines: pl.LazyFrame, groups: pl.LazyFrame) -> pl.LazyFrame:
    """The figures of each invoice's goods: `lines`, `units`, `dearest` and `resale_share`, by value."""
    is_resale = pl.col("product_group").is_in(RESALE_GROUPS).fill_null(value=False)
    worth = pl.col("amount").sum()
    return (
        lines.filter(pl.col("line_type") == _GOODS)
        .join(groups.select("stock_code", "product_group"), on="stock_code", how="left")
        .sort("line_id")
        .group_by("invoice")
        .agg(
            lines=pl.len().cast(pl.Int64),
            units=pl.col("quantity").sum(),
            dearest=pl.col("unit_price").max(),
            # A ten-thousandth, so that a sum in another order is the same row.
            resale_share=pl.when(worth > 0).then((pl.col("amount").filter(is_resale).sum() / worth).round(4).clip(0, 1)),
        )
    )


@table(
    "order_fraud.gold.labels",
    contract=Label,
    kind=ByKey("invoice"),
    inputs={"payments": "sales.silver.payments", "chargebacks": "sales.silver.chargebacks"},
    owner="team:risk",
)
def labels(payments: pl.LazyFrame, chargebacks: pl.LazyFrame) -> pl.LazyFrame:
    """Orders with the chargebacks that say fraud. Goods that did not arrive, and payments that were made twice, are none."""
    frauds = chargebacks.filter(pl.col("reason") == "fraud").select("invoice", "reported_at", is_fraud=pl.lit(value=True))
    return payments.join(frauds, on="invoice", how="left").select("invoice", "paid_at", "billing_country", "is_fraud", "reported_at")

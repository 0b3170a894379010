"""What the business looks at: revenue by day and product group, and what is known of each customer who bought."""

import polars as pl

from lakehouse_assets import ByKey, ByPartition, Dimension, table
from lakehouse_assets.products.sales import revenue
from lakehouse_assets.products.sales.contracts import Customer360, CustomerMonth, DailyRevenue


@table(
    "sales.gold.daily_revenue",
    contract=DailyRevenue,
    kind=ByPartition("month"),
    inputs={"lines": "sales.silver.invoice_lines"},
    dimensions={"groups": Dimension("sales.silver.product_groups", key="stock_code")},
)
def daily_revenue(lines: pl.LazyFrame, groups: pl.LazyFrame) -> pl.LazyFrame:
    """Revenue by day, product group and component: discounts shared out over their bill, cancellations netted, carriage and fees apart."""
    goods = pl.col("line_type").is_in(revenue.GOODS)
    of_catalogue = groups.select("stock_code", "product_group", listed_component="component")
    priced = (
        revenue.discount_shares(lines)
        .filter(~pl.col("is_shared"))
        .join(of_catalogue, on="stock_code", how="left")
        .with_columns(
            day=pl.col("invoiced_at").dt.date(),
            product_group=pl.when(goods).then(pl.coalesce("product_group", revenue.group_of(pl.col("stock_code")))).otherwise("line_type"),
            component=pl.when(goods).then(pl.coalesce("listed_component", pl.lit("base"))).otherwise("line_type"),
        )
    )
    gained, lost = pl.col("amount").clip(lower_bound=0), -pl.col("amount").clip(upper_bound=0)
    sums = priced.group_by("month", "day", "product_group", "component").agg(
        gross=gained.sum(),
        discount=-pl.col("shared_discount").sum(),
        returned=lost.sum(),
        units=pl.col("quantity").filter(pl.col("line_type") != revenue.WRITE_OFF).sum(),
        orders=pl.col("invoice").filter(pl.col("amount") > 0).n_unique().cast(pl.Int64),
    )
    net = pl.col("gross") - pl.col("discount") - pl.col("returned")
    return sums.with_columns(net=net).sort("day", "product_group", "component")


@table(
    "sales.gold.customer_months",
    contract=CustomerMonth,
    kind=ByPartition("month"),
    inputs={"lines": "sales.silver.invoice_lines"},
)
def customer_months(lines: pl.LazyFrame) -> pl.LazyFrame:
    """What each customer bought in each month: so a new line costs its month, however long the customer has been one."""
    bought = pl.col("line_type") == revenue.SALE
    gained, lost = pl.col("amount").clip(lower_bound=0), -pl.col("amount").clip(upper_bound=0)
    return (
        lines.filter(pl.col("customer_id").is_not_null())
        .sort("invoiced_at", "line_id")
        .group_by("month", "customer_id")
        .agg(
            country=pl.col("country").last(),
            last_line_at=pl.col("invoiced_at").last(),
            first_order_at=pl.col("invoiced_at").filter(bought).min(),
            last_order_at=pl.col("invoiced_at").filter(bought).max(),
            orders=pl.col("invoice").filter(bought).n_unique().cast(pl.Int64),
            products=pl.col("stock_code").filter(bought).n_unique().cast(pl.Int64),
            units=pl.col("quantity").filter(bought).sum(),
            # A ten-thousandth, so that a sum in another order is the same row.
            gross=gained.sum().round(4),
            returned=lost.sum().round(4),
        )
    )


@table(
    "sales.gold.customer_360",
    contract=Customer360,
    kind=ByKey("customer_id"),
    inputs={"months": "sales.gold.customer_months"},
    dimensions={"customers": Dimension("sales.silver.customers", key="customer_id")},
)
def customer_360(months: pl.LazyFrame, customers: pl.LazyFrame) -> pl.LazyFrame:
    """One row per customer who ever bought: when, how often, how much, and what the register says of them."""
    known = customers.filter("is_current").select("customer_id", "segment", registered_country="country")
    return (
        months.group_by("customer_id")
        .agg(
            country=pl.col("country").sort_by("last_line_at").last(),
            first_order_at=pl.col("first_order_at").min(),
            last_order_at=pl.col("last_order_at").max(),
            orders=pl.col("orders").sum(),
            monthly_products=pl.col("products").filter(pl.col("products") > 0).mean(),
            units=pl.col("units").sum(),
            gross=pl.col("gross").sum().round(4),
            returned=pl.col("returned").sum().round(4),
        )
        .join(known, on="customer_id", how="left")
        .with_columns(
            country=pl.coalesce("registered_country", "country"),
            net=pl.col("gross") - pl.col("returned"),
            average_order=pl.when(pl.col("orders") > 0).then(pl.col("gross") / pl.col("orders")),
        )
        .drop("registered_country")
    )

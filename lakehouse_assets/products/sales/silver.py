"""One meaning for each row: invoice lines under one header and with a type, histories of products and customers, payments."""

import polars as pl

from lakehouse_assets import SCD2, Full, Upsert, choice, code, conform, number, table, text, timestamp, whole_number, with_line_id
from lakehouse_assets.products.sales import revenue
from lakehouse_assets.products.sales.contracts import Chargeback, Customer, InvoiceLine, Payment, Product, ProductGroup

# What an invoice line says. There is no line number in the source: this is its identity.
_CONTENT = ("invoice", "stock_code", "description", "quantity", "unit_price", "customer_id", "country", "invoiced_at")

# A day in seconds, times so many, still fits a whole number.
_MOST_FILES = 1_000_000
# Editions of these files differ in which of day and month comes first; the rows of a file say it.
_MOMENT_FORMATS = ("%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f%:z")
_TILL_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M")


@table(
    "sales.silver.invoice_lines",
    contract=InvoiceLine,
    kind=Upsert(key=("month", "line_id")),
    inputs={"lines": "sales.bronze.invoices"},
    partition_by=("month",),
)
def invoice_lines(lines: pl.LazyFrame) -> pl.LazyFrame:
    """One row per product sold, returned or charged on an invoice.

    Lines that stand in two files are one; a line that stands twice in one file is two.
    """
    conformed = conform(
        lines,
        invoice=text("Invoice", "InvoiceNo"),
        stock_code=text("StockCode"),
        description=text("Description", nulls=("nan",)),
        quantity=whole_number("Quantity"),
        unit_price=number("Price", "UnitPrice"),
        customer_id=code("Customer ID", "CustomerID", nulls=("nan",)),
        country=text("Country"),
        invoiced_at=timestamp("InvoiceDate", formats=_TILL_FORMATS),
    )
    # Pound signs were read in a wrong encoding once.
    fixed = conformed.with_columns(pl.col("description").str.replace_all("Â£", "£", literal=True))
    return with_line_id(fixed, *_CONTENT).with_columns(
        month=pl.col("invoiced_at").dt.date().dt.month_start(),
        amount=pl.col("quantity") * pl.col("unit_price"),
        line_type=revenue.line_type(),
    )


@table(
    "sales.silver.products",
    contract=Product,
    kind=SCD2(key=("stock_code",), sequence_by="sequence", snapshot=True),
    inputs={"rows": "sales.bronze.products"},
)
def products(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The catalogue and how it changed, from snapshots; a product that one lacks was retired by then.

    A snapshot is of the day in its file's name, else of the day it was read. Of two of one day the one that came later is the later one.
    """
    conformed = conform(
        rows,
        stock_code=text("stock_code"),
        name=text("name"),
        product_group=text("product_group"),
        component=text("component"),
        list_price=number("list_price"),
        replaces=text("replaces"),
    )
    named = pl.col("_file").str.extract(r"(\d{4}-\d{2}-\d{2})").str.to_datetime("%Y-%m-%d", time_unit="us", time_zone="UTC", strict=False)
    day = pl.coalesce(named, pl.col("_ingested_at").dt.truncate("1d"))
    return conformed.with_columns(
        valid_from=day, sequence=day.dt.epoch("s") * _MOST_FILES + pl.col("_sequence"), is_deleted=pl.lit(value=False)
    )


@table(
    "sales.silver.customers",
    contract=Customer,
    kind=SCD2(key=("customer_id",), sequence_by="sequence"),
    inputs={"events": "sales.bronze.customers"},
)
def customers(events: pl.LazyFrame) -> pl.LazyFrame:
    """The customer register and how it changed, whatever the order in which its events came."""
    return conform(
        events,
        customer_id=code("customer"),
        sequence=whole_number("sequence"),
        valid_from=timestamp("changed_at", formats=_MOMENT_FORMATS),
        is_deleted=choice("op", options={"upsert": False, "delete": True}),
        name=text("name"),
        email=text("email"),
        country=text("country"),
        segment=text("segment"),
    )


@table(
    "sales.silver.payments",
    contract=Payment,
    kind=Upsert(key=("invoice",)),
    inputs={"rows": "sales.bronze.payments"},
)
def payments(rows: pl.LazyFrame) -> pl.LazyFrame:
    """How each order was paid; a payment that is sent again replaces the one before."""
    return conform(
        rows,
        invoice=text("invoice"),
        paid_at=timestamp("paid_at", formats=_MOMENT_FORMATS),
        method=text("method"),
        card=text("card"),
        device=text("device"),
        ip_country=text("ip_country"),
        billing_country=text("billing_country"),
        amount=number("amount"),
        customer_id=code("customer"),
    )


@table(
    "sales.silver.chargebacks",
    contract=Chargeback,
    kind=Upsert(key=("invoice",)),
    inputs={"rows": "sales.bronze.chargebacks"},
)
def chargebacks(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Payments that the bank took back, and why; also those of orders that are not here."""
    return conform(
        rows,
        invoice=text("invoice"),
        reported_at=timestamp("reported_at", formats=_MOMENT_FORMATS),
        reason=text("reason"),
    )


@table(
    "sales.silver.product_groups",
    contract=ProductGroup,
    kind=Full(),
    inputs={"products": "sales.silver.products"},
)
def product_groups(products: pl.LazyFrame) -> pl.LazyFrame:
    """Where the revenue of each stock code counts today: a renamed product is continued under its successor.

    A retired product keeps the group that it had last, for what it sold.
    """
    listed = products.filter(pl.col("valid_to").is_null()).select("stock_code", "replaces", "product_group", "component")
    return listed.map_batches(_follow_successors, schema=pl.Schema(dict.fromkeys(ProductGroup.to_schema().columns, pl.String)))


def _follow_successors(listed: pl.DataFrame) -> pl.DataFrame:
    successor_of = dict(listed.drop_nulls("replaces").select("replaces", "stock_code").iter_rows())
    codes = sorted({*listed["stock_code"], *successor_of})
    final = pl.DataFrame({"stock_code": codes, "successor": [_last(code, successor_of) for code in codes]}, schema_overrides=_CODES)
    groups = listed.select(pl.col("stock_code").alias("successor"), "product_group", "component")
    return final.join(groups, on="successor")


_CODES = {"stock_code": pl.String, "successor": pl.String}


def _last(code: str, successor_of: dict[str, str]) -> str:
    seen = {code}
    while (following := successor_of.get(code)) is not None and following not in seen:
        seen.add(following)
        code = following
    return code

"""Invoice lines by the day, as many as a benchmark wants, with the header and the dirt of the real files; a day is always the same."""

import json
from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl

CUSTOMERS, PRODUCTS, LINES_OF_AN_INVOICE = 4_000, 1_500, 20


def invoice_lines(day: date, count: int) -> pl.DataFrame:
    """The lines of one day, all columns as text; one in two hundred has a quantity that is no number."""
    chance = np.random.default_rng(day.toordinal())
    invoice = np.arange(count) // LINES_OF_AN_INVOICE
    customers = chance.integers(0, CUSTOMERS, invoice[-1] + 1)[invoice]
    minutes = np.sort(chance.integers(8 * 60, 18 * 60, invoice[-1] + 1))[invoice]
    product = chance.integers(0, PRODUCTS, count)
    midnight = datetime.combine(day, time())
    frame = pl.DataFrame(
        {
            "Invoice": 500_000 + (day.toordinal() - 730_000) * 100_000 + invoice,
            "StockCode": 20_000 + product,
            "Description": product,
            "Quantity": chance.integers(1, 24, count),
            "InvoiceDate": minutes,
            "Price": np.round(chance.gamma(2, 2, count) + 0.1, 2),
            "Customer ID": 12_000 + customers,
            "Country": np.where(customers % 10 == 0, "France", "United Kingdom"),
        }
    )
    unreadable = pl.Series(chance.random(count) < 1 / 200)
    return frame.with_columns(
        Description=pl.format("SET OF {} BOXES, PAINTED", "Description"),
        Quantity=pl.when(unreadable).then(pl.lit("a dozen")).otherwise(pl.col("Quantity").cast(pl.String)),
        InvoiceDate=(pl.lit(midnight) + pl.duration(minutes=pl.col("InvoiceDate"))).dt.strftime("%Y-%m-%d %H:%M:%S"),
    ).cast(pl.String)


def land_day(landing: Path, day: date, count: int) -> None:
    """A day's files: `count` invoice lines, and changes of twenty customers."""
    for feed in ("invoices", "customers"):
        (landing / feed).mkdir(parents=True, exist_ok=True)
    invoice_lines(day, count).write_csv(landing / "invoices" / f"invoices_{day}.csv")
    chance = np.random.default_rng(day.toordinal())
    events = [
        {
            "op": "upsert",
            "sequence": day.toordinal() * 100 + number,
            "customer": str(12_000 + customer),
            "changed_at": f"{day}T07:00:00Z",
            "name": f"Customer {customer}",
            "country": "France",
            "segment": f"segment {number % 3}",
        }
        for number, customer in enumerate(chance.integers(0, CUSTOMERS, 20).tolist())
    ]
    (landing / "customers" / f"customers_{day}.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def land_catalogue(landing: Path, day: date) -> None:
    """A snapshot of the whole catalogue, in which the price of one product in ten depends on the day."""
    (landing / "products").mkdir(parents=True, exist_ok=True)
    code = pl.Series("stock_code", range(20_000, 20_000 + PRODUCTS))
    frame = pl.DataFrame({"stock_code": code}).with_columns(
        name=pl.format("SET OF {} BOXES, PAINTED", pl.col("stock_code") - 20_000),
        product_group=pl.format("group {}", pl.col("stock_code") % 20),
        component=pl.when(pl.col("stock_code") % 5 == 0).then(pl.lit("add-on")).otherwise(pl.lit("base")),
        list_price=pl.when(pl.col("stock_code") % 10 == 0).then(pl.lit(day.toordinal() % 100 + 1)).otherwise(5),
    )
    frame.write_csv(landing / "products" / f"products_{day}.csv")


def days_before(end: date, count: int) -> list[date]:
    """The `count` days that end with `end`."""
    return [end - timedelta(days=back) for back in reversed(range(count))]

"""Invoice lines as the text of the invoices feed, with the marks that a shop's exports leave on it.

Those are customer numbers with a decimal point, "nan" for nothing, and what cannot be read. What the lines say was
decided before.
"""

from datetime import date

import polars as pl

from lakehouse_assets.simulator.catalogue import Catalogue
from lakehouse_assets.simulator.charges import CHARGES
from lakehouse_assets.simulator.customers import COUNTRIES
from lakehouse_assets.simulator.lines import BAD, NO_CUSTOMER, NO_TEXT, PREFIXES, Lines
from lakehouse_assets.simulator.stock import REASONS

_BAD_QUANTITIES = pl.Series(["six", "12 pcs", "-", "1O"])
_BAD_PRICES = pl.Series(["n/a", "2,95", "ask", "1.25.0"])
_BAD_DATES = pl.Series(["-02-30", "-06-31", "-13-05"])
_MINUTES = pl.Series([f" {minute // 60:02}:{minute % 60:02}:00" for minute in range(1440)])
_COUNTRIES = pl.Series(list(COUNTRIES))
_PREFIXES = pl.Series(PREFIXES)
_EPOCH = date(1970, 1, 1).toordinal()


class InvoiceText:
    """Turns lines into rows of the feed; holds the labels of one catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        charges = [charge.text for charge in CHARGES]
        self._codes = pl.Series([*catalogue.code, *(charge.code for charge in CHARGES)])
        self._texts = pl.Series([*catalogue.description, *catalogue.second_description, *charges, *REASONS])

    def rows(self, lines: Lines) -> pl.DataFrame:
        """The lines as rows of the invoices feed: its columns, each of them text, empty where there is nothing."""
        number = pl.col("invoice")
        day = pl.from_epoch(pl.col("day") - _EPOCH, "d")
        year = day.dt.year()
        # In odd years the export goes through a program that takes numbers with gaps for decimals.
        through_decimals = year % 2 == 1

        def broken(name: str, instead: pl.Expr, right: pl.Expr) -> pl.Expr:
            return pl.when(pl.col("bad") == BAD.index(name)).then(instead).otherwise(right)

        def one_of(some: pl.Series) -> pl.Expr:
            return pl.lit(some).gather(number % len(some))

        nothing = pl.when(through_decimals).then(pl.lit("nan"))
        decimals = pl.when(through_decimals).then(pl.lit(".0")).otherwise(pl.lit(""))
        minute = pl.lit(_MINUTES).gather("minute")
        numbers = pl.DataFrame({name: lines[name] for name in lines.dtype.names or ()})
        # NumPy divides pence to the nearest float, which prints as the price; Polars is off by a last digit at times.
        numbers = numbers.with_columns(price=lines["price"] / 100)
        return numbers.select(
            Invoice=pl.concat_str(pl.lit(_PREFIXES).gather("prefix"), number),
            StockCode=pl.lit(self._codes).gather("item"),
            Description=pl.when(pl.col("text") == NO_TEXT).then(nothing).otherwise(pl.lit(self._texts).gather(pl.col("text").clip(0))),
            Quantity=broken("text in quantity", one_of(_BAD_QUANTITIES), pl.col("quantity").cast(pl.String)),
            InvoiceDate=broken(
                "impossible date",
                pl.concat_str(year, one_of(_BAD_DATES), minute),
                pl.concat_str(day.dt.strftime("%Y-%m-%d"), minute),
            ),
            Price=broken("text in price", one_of(_BAD_PRICES), pl.col("price").cast(pl.String)),
            **{
                "Customer ID": pl.when(pl.col("customer") != NO_CUSTOMER).then(pl.concat_str("customer", decimals)),
                "Country": pl.lit(_COUNTRIES).gather("country"),
            },
        )

"""What the business calls revenue: the kinds of invoice lines, and how a bill's discount is shared out over its lines.

Pure expressions and functions on invoice lines; the tables that use them are in `silver` and `gold`.
"""

import polars as pl

SALE, CANCELLATION, WRITE_OFF, CARRIAGE, DISCOUNT, FEE = "sale", "cancellation", "write-off", "carriage", "discount", "fee"
ADJUSTMENT, SAMPLE, GIFT_VOUCHER, TEST, OTHER = "adjustment", "sample", "gift voucher", "test", "other"
LINE_TYPES = (SALE, CANCELLATION, WRITE_OFF, CARRIAGE, DISCOUNT, FEE, ADJUSTMENT, SAMPLE, GIFT_VOUCHER, TEST, OTHER)
GOODS = (SALE, CANCELLATION, WRITE_OFF)

# The pseudo products of the till: how their stock codes begin or what they are, and what their lines are.
_BEGINNINGS = {"TEST": TEST, "GIFT": GIFT_VOUCHER, "ADJUST": ADJUSTMENT}
_STOCK_CODES = {
    **dict.fromkeys(("POST", "DOT", "C2", "C3"), CARRIAGE),
    **dict.fromkeys(("BANK CHARGES", "AMAZONFEE", "CRUK"), FEE),
    "D": DISCOUNT,
    "B": ADJUSTMENT,
    "S": SAMPLE,
    "M": OTHER,
}
# One pattern for all of them: almost every code is that of a product, which its first character tells.
_PSEUDO_PRODUCT = f"^({'|'.join(_BEGINNINGS)}|(?:{'|'.join(_STOCK_CODES)})$)"


def line_type() -> pl.Expr:
    """What a line is, from `invoice`, `stock_code`, `quantity`, `unit_price` and `customer_id`.

    Pseudo products come first: postage on a cancelled bill is carriage. A positive quantity at no price for nobody is a count of the
    stock, not a sale.
    """
    pseudo_product = pl.col("stock_code").str.to_uppercase().str.extract(_PSEUDO_PRODUCT)
    kinds = [
        (pl.col("invoice").str.starts_with("C"), CANCELLATION),
        (pl.col("quantity") < 0, WRITE_OFF),
        ((pl.col("unit_price") == 0) & pl.col("customer_id").is_null(), ADJUSTMENT),
    ]
    return pl.coalesce(
        pl.when(pl.col("invoice").str.starts_with("A")).then(pl.lit(ADJUSTMENT)),
        pseudo_product.replace_strict({**_BEGINNINGS, **_STOCK_CODES}, default=None, return_dtype=pl.String),
        *(pl.when(applies).then(pl.lit(name)) for applies, name in kinds),
        pl.lit(SALE),
    )


def discount_shares(lines: pl.LazyFrame) -> pl.LazyFrame:
    """Each line with `shared_discount`: its part of the discount lines on its bill, in proportion to its amount.

    A discount line whose bill has sales is shared out wholly and has `is_shared`; one on a bill of its own keeps its amount.
    """
    bill = ["month", "invoice"]
    is_discount = pl.col("line_type") == DISCOUNT
    sold = (pl.col("line_type") == SALE) & (pl.col("amount") > 0)
    discounted = (
        lines.filter(is_discount)
        .group_by(bill)
        .agg(pl.col("amount").sum().alias("bill_discount"))
        .join(lines.filter(sold).group_by(bill).agg(pl.col("amount").sum().alias("bill_sales")), on=bill)
    )
    share = pl.col("amount") / pl.col("bill_sales") * pl.col("bill_discount")
    return lines.join(discounted, on=bill, how="left").with_columns(
        shared_discount=pl.when(sold).then(share).fill_null(0.0),
        is_shared=is_discount & pl.col("bill_sales").is_not_null(),
    )


def group_of(stock_code: pl.Expr) -> pl.Expr:
    """The product group of a product that no catalogue knows: the first two digits of its stock code, else `unlisted`."""
    return stock_code.str.extract(r"^(\d{2})\d{3}").fill_null("unlisted")

"""What the simulator did, counted while it did it and never read back from files, so that tables can be compared with it.

Money is in whole pence. Revenue counts every readable line once, however many files it stands in.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from lakehouse_assets.simulator.catalogue import COMPONENTS, Catalogue, successors
from lakehouse_assets.simulator.demand import GROUPS
from lakehouse_assets.simulator.lines import BAD, KINDS, NO_CUSTOMER, NO_TEXT, Lines, kind
from lakehouse_assets.simulator.truth_of_orders import ChargebacksTruth, FraudTruth, PaymentsTruth


@dataclass(frozen=True)
class InvoicesTruth:
    """The invoices feed. `rows` = `lines` + the sum of `bad_lines` + `overlap_rows`."""

    files: int
    rows: int
    """Rows in all files."""
    overlap_rows: int
    """Rows of days that an earlier file already had, unreadable ones among them."""
    lines: int
    """Readable lines, each once; repetitions on an invoice are lines of their own."""
    repeated_lines: int
    """Of them, exact repetitions of another line on the same invoice."""
    bad_lines: dict[str, int]
    """Unreadable lines, each once, by what is wrong with them."""
    invoices: int
    without_customer: int
    without_description: int
    lines_by_kind: dict[str, int]
    amount_by_kind: dict[str, int]
    amount: int
    """Sum of quantity times price."""
    revenue_by_day: dict[str, dict[str, int]]
    """For each open day: gross (sales), returned, discount, other, net = gross - returned - discount."""
    revenue_by_group: dict[str, dict[str, dict[str, int]]]
    """Product group, component: gross, returned and units, of products only; a renamed product counts under the group
    of what it is called at the end."""


@dataclass(frozen=True)
class ProductsTruth:
    """The products feed."""

    files: int
    rows: int
    products: int
    """Different stock codes."""
    with_predecessor: int
    """Of them, those that replace another."""
    renamed: int
    """Of those, the ones whose predecessor an earlier file of this simulation lists."""


@dataclass(frozen=True)
class CustomersTruth:
    """The customers feed."""

    files: int
    rows: int
    duplicates: int
    """Rows whose sequence number an earlier row has."""
    out_of_order: int
    """Rows with a smaller sequence number than an earlier row, duplicates left out."""
    deletes: int
    """Deletions, each once."""
    customers: int
    """Different customers."""
    remaining: int
    """Of them, those whose newest event is not a deletion."""


@dataclass(frozen=True)
class Truth:
    """What one simulation wrote."""

    seed: int
    orders_per_day: float
    first_day: str
    last_day: str
    fraud_changes: str | None
    """From when on other orders are fraud."""
    invoices: InvoicesTruth
    products: ProductsTruth
    customers: CustomersTruth
    payments: PaymentsTruth
    chargebacks: ChargebacksTruth
    fraud: FraudTruth

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        part.replace(path)


class InvoiceTally:
    """Counts invoice lines as they are written."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._counts: Counter[str] = Counter()
        self._lines = np.zeros(len(KINDS), dtype=np.int64)
        self._amounts = np.zeros(len(KINDS), dtype=np.int64)
        self._bad = np.zeros(len(BAD), dtype=np.int64)
        self._by_day: dict[str, dict[str, int]] = {}
        self._by_product = {name: np.zeros(len(catalogue.code), dtype=np.int64) for name in ("gross", "returned", "units")}

    def add_file(self, overlap: list[Lines]) -> None:
        """Count a file, and the lines in it that an earlier file already holds."""
        self._counts["files"] += 1
        self._counts["overlap_rows"] += sum(len(lines) for lines in overlap)

    def add_day(self, day: date, lines: Lines) -> None:
        """Count the lines of a day."""
        self._bad += np.bincount(lines["bad"], minlength=len(BAD))
        good = lines[lines["bad"] == 0]
        amount = good["quantity"].astype(np.int64) * good["price"]
        self._counts["invoices"] += len(np.unique(lines["invoice"]))
        self._counts["repeated_lines"] += int(good["copy"].sum())
        self._counts["without_customer"] += int((good["customer"] == NO_CUSTOMER).sum())
        self._counts["without_description"] += int((good["text"] == NO_TEXT).sum())
        self._lines += np.bincount(good["kind"], minlength=len(KINDS))
        by_kind = _sums(good["kind"], amount, len(KINDS))
        self._amounts += by_kind
        gross, returned, discount = (int(by_kind[kind(name)]) for name in ("sale", "cancellation", "discount"))
        self._by_day[day.isoformat()] = {
            "gross": gross,
            "returned": -returned,
            "discount": -discount,
            "other": int(by_kind.sum()) - gross - returned - discount,
            "net": gross + returned + discount,
        }
        products = len(self._catalogue.code)
        for name, kinds, values in (
            ("gross", ("sale",), amount),
            ("returned", ("cancellation",), -amount),
            ("units", ("sale", "free", "cancellation"), good["quantity"]),
        ):
            counted = np.isin(good["kind"], [kind(k) for k in kinds])
            self._by_product[name] += _sums(good["item"][counted], values[counted], products)

    def truth(self, quarter: int) -> InvoicesTruth:
        """The counts so far; renamed products under what they are called in a quarter."""
        bad = dict(zip(BAD[1:], self._bad[1:].tolist(), strict=True))
        lines = int(self._lines.sum())
        latest = successors(self._catalogue, quarter)
        cell = self._catalogue.group[latest] * len(COMPONENTS) + self._catalogue.component[latest]
        cells = len(GROUPS) * len(COMPONENTS)
        sums = {name: _sums(cell, values, cells).tolist() for name, values in self._by_product.items()}
        return InvoicesTruth(
            files=self._counts["files"],
            rows=lines + sum(bad.values()) + self._counts["overlap_rows"],
            overlap_rows=self._counts["overlap_rows"],
            lines=lines,
            repeated_lines=self._counts["repeated_lines"],
            bad_lines=bad,
            invoices=self._counts["invoices"],
            without_customer=self._counts["without_customer"],
            without_description=self._counts["without_description"],
            lines_by_kind=dict(zip(KINDS, self._lines.tolist(), strict=True)),
            amount_by_kind=dict(zip(KINDS, self._amounts.tolist(), strict=True)),
            amount=int(self._amounts.sum()),
            revenue_by_day=dict(self._by_day),
            revenue_by_group={
                group.name: {
                    component: {name: values[g * len(COMPONENTS) + c] for name, values in sums.items()}
                    for c, component in enumerate(COMPONENTS)
                }
                for g, group in enumerate(GROUPS)
            },
        )


def products_truth(snapshots: list[pl.DataFrame]) -> ProductsTruth:
    """Counts of product snapshots, in the order of their writing."""
    listed: set[str] = set()
    with_predecessor: set[str] = set()
    renamed: set[str] = set()
    for snapshot in snapshots:
        pairs = snapshot.drop_nulls("replaces").select("stock_code", "replaces").rows()
        with_predecessor.update(new for new, _ in pairs)
        renamed.update(new for new, old in pairs if old in listed)
        listed.update(snapshot["stock_code"].to_list())
    return ProductsTruth(
        files=len(snapshots),
        rows=sum(snapshot.height for snapshot in snapshots),
        products=len(listed),
        with_predecessor=len(with_predecessor),
        renamed=len(renamed),
    )


def customers_truth(files: list[pl.DataFrame]) -> CustomersTruth:
    """Counts of customer events (`op`, `sequence`, `customer`), in the order of their writing."""
    nothing = pl.DataFrame(schema={"op": pl.String, "sequence": pl.Int64, "customer": pl.Int64})
    events = pl.concat([nothing, *(file.select(nothing.columns) for file in files)])
    distinct = events.unique("sequence", keep="first", maintain_order=True)
    newest = distinct.sort("sequence").unique("customer", keep="last")
    return CustomersTruth(
        files=len(files),
        rows=events.height,
        duplicates=events.height - distinct.height,
        out_of_order=int((distinct["sequence"] < distinct["sequence"].cum_max()).sum()),
        deletes=int((distinct["op"] == "delete").sum()),
        customers=newest.height,
        remaining=int((newest["op"] == "upsert").sum()),
    )


def _sums(cell: Lines, values: Lines, cells: int) -> Lines:
    """Sum of the values in each cell. Exact: the sums of a shop stay far below what a float holds without rounding."""
    return np.bincount(cell, values, cells).astype(np.int64)

"""Writes the feeds of a simulated shop for a span of days, as its source systems would, and the truth about them.

What happens in the shop belongs in the other modules; here it becomes files.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from filecmp import cmp
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

from lakehouse_assets.simulator import catalogue as catalogues
from lakehouse_assets.simulator import customers as people
from lakehouse_assets.simulator import payments as paying
from lakehouse_assets.simulator.catalogue import Catalogue
from lakehouse_assets.simulator.customers import Customers
from lakehouse_assets.simulator.demand import FIRST_DAY, LAST_DAY
from lakehouse_assets.simulator.fraud import LATEST, chargeback_rows, chargebacks_between
from lakehouse_assets.simulator.invoices import InvoiceText
from lakehouse_assets.simulator.lines import Lines
from lakehouse_assets.simulator.orders import LONGEST_LAG
from lakehouse_assets.simulator.payments import Payments
from lakehouse_assets.simulator.trading import Day, Shop, open_days
from lakehouse_assets.simulator.truth import (
    CustomersTruth,
    InvoicesTruth,
    InvoiceTally,
    ProductsTruth,
    Truth,
    customers_truth,
    products_truth,
)
from lakehouse_assets.simulator.truth_of_orders import ChargebacksTruth, OrdersTally, orders_file

MOST_ORDERS_PER_DAY = 10_000
OVERLAP_MONTHS = (2, 6, 10)
"""The invoices files of these months begin with days that the file before already holds."""
OVERLAP_DAYS = 2

_LINES_AT_ONCE = 200_000
"""Lines that are text in memory at a time, give or take a day."""

Progress: TypeAlias = Callable[[int, int], None]
Span: TypeAlias = tuple[date, date]


def simulate(
    out: Path,
    truth: Path,
    *,
    days: int,
    orders_per_day: float,
    seed: int,
    start: date,
    fraud_changes: date | None = None,
    on_progress: Progress | None = None,
) -> Truth:
    """Write what a shop's systems drop over some days: `invoices/`, `products/`, `customers/`, `payments/`, `chargebacks/`.

    There is one file a month (named by the days in it) of invoices, customers, payments and chargebacks, and one products
    file a quarter. A chargeback is in the file of the day on which it is reported, also if its order is of before `start`.
    The same arguments write the same bytes. A later call with a later `start`, the same `seed` and the same
    `orders_per_day` goes on with the same shop: a day has the same lines whether it is simulated alone or among others.
    So give the same `fraud_changes` too. The first call for a folder also writes a customers file with all those who are customers already.

    Every file gets its name when it is complete; one that is already there with the same content is left alone.

    Args:
        out: Folder for the feeds, such as the landing zone.
        truth: JSON file for what was written; keep it out of `out`. The truth about each order is in a parquet file
            of its name and `_orders.parquet`.
        days: Number of days, those on which the shop is closed among them; at least 1.
        orders_per_day: Mean number of orders on an open day, from 1 to 10,000. An order has about 19 lines.
        seed: Which shop: any number from 0.
        start: The first day; all days must be in 2000 … 2049.
        fraud_changes: From this day on other orders are fraud: the old patterns fade over two weeks, and a new one comes up, small
            orders late in the day. Nothing but the chargebacks changes. None: the patterns stay.
        on_progress: Called after each open day, and at the end, with the number of days done and the number of all.

    Returns:
        The truth, as it is in the file.

    Raises:
        ValueError: An argument is out of its range; nothing was written.
    """
    _check(days, orders_per_day, seed, start)
    last = start + timedelta(days=days - 1)
    months = _months(start, last)
    report = on_progress or (lambda _done, _all: None)
    catalogue = catalogues.build(seed)
    # Chargebacks that are reported now are of orders of the weeks before.
    first = max(start - timedelta(days=LATEST + 1), FIRST_DAY)
    customers = people.build(seed, orders_per_day, first - timedelta(days=LONGEST_LAG), last)
    traded = open_days(Shop(seed, orders_per_day, catalogue, customers, fraud_changes), first, (last - first).days + 1)
    products_written = _write_products(out / "products", catalogue, start, last)
    customers_written = _write_customers(out / "customers", customers, months)
    with OrdersTally(orders_file(truth)) as orders:
        result = Truth(
            seed=seed,
            orders_per_day=orders_per_day,
            first_day=start.isoformat(),
            last_day=last.isoformat(),
            fraud_changes=None if fraud_changes is None else fraud_changes.isoformat(),
            products=products_written,
            customers=customers_written,
            invoices=_write_days(out, catalogue, traded, months, orders=orders, on_progress=report),
            chargebacks=_write_chargebacks(out / "chargebacks", orders, months),
            payments=orders.payments_truth(),
            fraud=orders.fraud_truth(),
        )
    result.write(truth)
    report(days, days)
    return result


def _check(days: int, orders_per_day: float, seed: int, start: date) -> None:
    if days < 1:
        raise ValueError(f"days is {days}: simulate at least 1 day")
    if not 1 <= orders_per_day <= MOST_ORDERS_PER_DAY:
        raise ValueError(f"orders_per_day is {orders_per_day}: give a number from 1 to {MOST_ORDERS_PER_DAY}")
    if seed < 0:
        raise ValueError(f"seed is {seed}: give a number from 0")
    if start < FIRST_DAY or days > (LAST_DAY - start).days + 1:
        raise ValueError(f"{days} days from {start} are not all in {FIRST_DAY} … {LAST_DAY}: choose others")


def _months(start: date, last: date) -> list[Span]:
    """The first and the last day of each month, as far as they are in the span."""
    months = []
    while start <= last:
        end = min((start.replace(day=1) + timedelta(days=31)).replace(day=1) - timedelta(days=1), last)
        months.append((start, end))
        start = end + timedelta(days=1)
    return months


def _write_products(folder: Path, catalogue: Catalogue, start: date, last: date) -> ProductsTruth:
    """One snapshot for each quarter, named by its first day, even if the first quarter begins before `start`."""
    snapshots = []
    for quarter in range(catalogues.quarter_of(start), catalogues.quarter_of(last) + 1):
        snapshots.append(catalogues.snapshot(catalogue, quarter))
        with _complete(folder / f"products_{catalogues.quarter_start(quarter)}.csv") as file:
            snapshots[-1].write_csv(file, float_precision=2)
    return products_truth(snapshots)


def _write_customers(folder: Path, customers: Customers, months: list[Span]) -> CustomersTruth:
    """One file for each month in which something arrives; before them, for a new folder, what was before."""
    start = months[0][0]
    opening = folder / f"customers_{FIRST_DAY}_{start - timedelta(days=1)}.jsonl"
    files = {folder / f"customers_{first}_{end}.jsonl": people.events_between(customers, first, end) for first, end in months}
    if opening.exists() or not any(folder.glob("*.jsonl")):
        files = {opening: people.state_before(customers, start), **files}
    files = {path: events for path, events in files.items() if not events.is_empty()}
    for path, events in files.items():
        with _complete(path) as file:
            events.write_ndjson(file)
    return customers_truth(list(files.values()))


def _write_days(
    out: Path, catalogue: Catalogue, traded: Iterator[Day], months: list[Span], *, orders: OrdersTally, on_progress: Progress
) -> InvoicesTruth:
    """One file of invoices and one of payments for each month with an open day; of days before, only chargebacks are kept."""
    text = InvoiceText(catalogue)
    tally = InvoiceTally(catalogue)
    start, last = months[0][0], months[-1][1]
    latest: deque[Lines] = deque(maxlen=OVERLAP_DAYS)

    def month_of(day: Day) -> Span | None:
        return next((span for span in months if span[0] <= day.date <= span[1]), None)

    for span, month in groupby(traded, month_of):
        if span is None:
            for day in month:
                orders.add_earlier_day(day)
            continue
        first, end = span
        overlap = list(latest) if first.month in OVERLAP_MONTHS else []
        tally.add_file(overlap)
        latest.clear()
        with (
            _complete(out / "invoices" / f"invoices_{first}_{end}.csv") as invoices,
            _complete(out / "payments" / f"payments_{first}_{end}.jsonl") as payments,
        ):
            files = _Files(text, invoices, payments, overlap)
            for day in month:
                tally.add_day(day.date, day.lines)
                orders.add_day(day)
                latest.append(day.lines)
                files.add(day)
                on_progress((day.date - start).days + 1, (last - start).days + 1)
            files.flush()
        orders.end_file()
    return tally.truth(catalogues.quarter_of(last))


def _write_chargebacks(folder: Path, orders: OrdersTally, months: list[Span]) -> ChargebacksTruth:
    """One file for each month in which a chargeback is reported."""
    every = orders.chargebacks()
    written = [(span, chargebacks_between(every, *span)) for span in months]
    written = [(span, some) for span, some in written if len(some)]
    for (first, end), some in written:
        with _complete(folder / f"chargebacks_{first}_{end}.csv") as file:
            chargeback_rows(some).write_csv(file)
    return orders.chargebacks_truth([some for _, some in written])


@dataclass
class _Files:
    """The files of a month with orders, and what is not written to them yet."""

    text: InvoiceText
    invoices: BinaryIO
    payments: BinaryIO
    lines: list[Lines]
    paid: list[Payments] = field(default_factory=list)

    def add(self, day: Day) -> None:
        self.lines.append(day.lines)
        self.paid.append(day.payments)
        if sum(map(len, self.lines)) >= _LINES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if self.lines:
            self.text.rows(np.concatenate(self.lines)).write_csv(self.invoices, include_header=self.invoices.tell() == 0)
        if self.paid:
            paying.rows(np.concatenate(self.paid)).write_ndjson(self.payments)
        self.lines.clear()
        self.paid.clear()


@contextmanager
def _complete(path: Path) -> Iterator[BinaryIO]:
    """A file to write that appears under its name when it is complete, unless the same is there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        yield file
    if path.exists() and cmp(part, path, shallow=False):
        part.unlink()
    else:
        part.replace(path)

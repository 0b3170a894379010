"""The real invoices replayed by day: from September the season changes, and is no alarm; a fault of a feed in the same week is one.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

from datetime import UTC, date, datetime, timedelta
from io import BytesIO

import polars as pl
import pytest

from lakehouse_assets import Drift, monitor
from lakehouse_assets.platform.monitoring.evaluation import Evaluation
from lakehouse_assets.platform.monitoring.judgements import Judgement
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.running import land_text, run_declared, tables_of

LINES = "sales.silver.invoice_lines"
SEASON, FAULT, END = date(2011, 9, 1), date(2011, 9, 14), sweeps.of(date(2011, 10, 16), date(2011, 12, 10))
TABLES = ["sales.bronze.invoices", LINES]


def some(rows: pl.DataFrame) -> pl.DataFrame:
    """Every eighth invoice, and in a full sweep all."""
    invoice = pl.col(next(name for name in ("Invoice", "InvoiceNo") if name in rows.columns))
    return rows.filter(sweeps.of(invoice.hash(seed=1) % 8 == 0, pl.lit(value=True)))


class Shop:
    """The shop, whose tills' files come day by day."""

    def __init__(self, settings: Settings, files) -> None:
        from lakehouse_assets import products

        self.settings, self.declared = settings, load(products)
        self.watched = monitor("sales.monitors.lines_drift", of=LINES, kind=Drift("invoiced_at", against=f"{LINES}@1"))
        late, early = sorted((some(pl.read_parquet(file)) for file in files), key=lambda rows: "Invoice" in rows.columns)
        self.day = pl.col("InvoiceDate").cast(pl.String).str.slice(0, 10).str.to_date()
        self.late = late
        self.land("2009_2010.parquet", early)
        self.land("2011.parquet", late.filter(self.day < SEASON))
        run_declared(self.settings, self.declared, TABLES)

    def land(self, name: str, rows: pl.DataFrame) -> None:
        content = BytesIO()
        rows.write_parquet(content)
        land_text(self.settings, "invoices", name, content.getvalue())

    def replay(self, begin: date, end: date, faulty: date | None = None) -> Judgement:
        """Land a file for each day, refresh, and judge."""
        for number in range((end - begin).days):
            at = begin + timedelta(days=number)
            rows = self.late.filter(self.day == at)
            if at == faulty:
                rows = rows.with_columns(pl.col("UnitPrice") * 100)
            if rows.height:
                self.land(f"{at}.parquet", rows)
        run_declared(self.settings, self.declared, TABLES)
        at = datetime.combine(end, datetime.min.time(), UTC)
        return Evaluation(tables_of(self.settings), self.declared.catalog, pytest.fail, at, "run", pytest.fail).run([self.watched])[0]


def bad(judgement: Judgement):
    """What failed of the season; the windows of the baseline itself were replayed by nobody."""
    return [one for one in judgement.verdicts if one.passed is False and one.window_start.date() >= SEASON]


def test_the_season_is_no_alarm_and_pence_for_pounds_in_the_same_month_is(settings, real_invoices):
    shop = Shop(settings, real_invoices)
    assert bad(shop.replay(SEASON, FAULT)) == []

    broken = bad(shop.replay(FAULT, FAULT + timedelta(days=1), faulty=FAULT))
    # All columns together may tell the day as well, which has no column.
    assert {one.column_name for one in broken if one.column_name} == {"unit_price", "amount"}
    assert {one.window_start.date() for one in broken} == {FAULT}
    origin = f"UnitPrice of sales.bronze.invoices: file {FAULT}.parquet (sequence "
    assert all(one.why.startswith(origin) and "the only file of that time" in one.why for one in broken), [one.why for one in broken]

    # The day after differs from the day of the fault; after it nothing does, to the end of the season.
    rest = bad(shop.replay(FAULT + timedelta(days=1), END))
    assert {one.window_start.date() for one in rest} <= {FAULT + timedelta(days=1)}
    assert {one.numbers["compared_with"] for one in rest} <= {"CONSECUTIVE"}

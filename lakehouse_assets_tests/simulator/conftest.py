"""One simulated shop that several test modules look at: over Christmas, a change of year, quarter and spelling."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.simulator.shop import simulate
from lakehouse_assets.simulator.truth import Truth
from lakehouse_assets.simulator.truth_of_orders import orders_file

_TEXTS = ("invoice", "paid_at", "method", "card", "device", "ip_country", "billing_country")
PAYMENTS = {**dict.fromkeys(_TEXTS, pl.String), "amount": pl.Float64, "customer": pl.String}


@dataclass(frozen=True)
class Simulated:
    out: Path
    truth_file: Path
    truth: Truth

    def files(self, feed: str) -> list[Path]:
        return sorted((self.out / feed).iterdir())

    def invoices(self) -> pl.DataFrame:
        """All rows as text, with the number of their file."""
        frames = [pl.read_csv(path, infer_schema=False).with_columns(file=pl.lit(n)) for n, path in enumerate(self.files("invoices"))]
        return pl.concat(frames)

    def products(self) -> pl.DataFrame:
        schema = {"stock_code": pl.String, "replaces": pl.String}
        frames = [pl.read_csv(path, schema_overrides=schema).with_columns(file=pl.lit(n)) for n, path in enumerate(self.files("products"))]
        return pl.concat(frames)

    def customers(self) -> pl.DataFrame:
        return pl.concat([pl.read_ndjson(path) for path in self.files("customers")])

    def payments(self) -> pl.DataFrame:
        return pl.concat([pl.read_ndjson(path, schema=PAYMENTS) for path in self.files("payments")])

    def chargebacks(self) -> pl.DataFrame:
        return pl.concat([pl.read_csv(path, infer_schema=False) for path in self.files("chargebacks")])

    def orders(self) -> pl.DataFrame:
        """The truth about each order."""
        return pl.read_parquet(orders_file(self.truth_file))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    root = tmp_path_factory.mktemp("shop")
    truth = simulate(root / "landing", root / "truth.json", days=75, orders_per_day=40, seed=11, start=date(2024, 12, 10))
    return Simulated(root / "landing", root / "truth.json", truth)

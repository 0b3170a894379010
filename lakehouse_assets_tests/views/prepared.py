"""A root with a product that has a forecast and a classifier, trained and predicted, and servers of the pages of a root."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse_assets import open_lakehouse
from lakehouse_assets.platform.monitoring.alerts.log import SCHEMA
from lakehouse_assets.platform.monitoring.drift.drift_log import DRIFTS_SCHEMA
from lakehouse_assets.platform.monitoring.drift.thresholds import DOMAIN
from lakehouse_assets.platform.pipeline.model_step import ModelStep
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.storage.platform_tables import ALERTS
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.recipes.shop_orders import PRODUCT, as_file, orders
from lakehouse_assets_tests.running import land_text, tables_of

DAYS = 62
HOSTILE = "<img src='http://evil.example/x' onerror='console.error(1)'> $_$ $\\frac$"
"""The name of a country: as HTML it would ask another machine."""
SECRET = "Zebulon"
"""Each way of paying has it in its name, and they are personal."""
_PROJECT = Path(__file__).parents[2]
# Few trees and folds: enough that there is a champion.
_QUICK = "learner=GradientBoosting('binary', rounds=20, early_stopping=None), gate=Gate(error_rate=0.2, folds=4, newest=None, leakage=None)"
_FORECAST = '''

class Day(Contract):
    """What one country ordered on one day."""

    day: date = column(key=True, description="Day of the orders.")
    country: str = column(key=True, description="Where to.")
    takings: float = column(description="Sum of the orders in pounds.")


@table("shop.gold.days", contract=Day, kind=Full(), inputs={"orders": "shop.silver.orders"})
def days(orders: pl.LazyFrame) -> pl.LazyFrame:
    """Takings of each day and country."""
    return orders.group_by(pl.col("ordered_at").dt.date().alias("day"), "country").agg(takings=pl.col("amount").sum())


takings = forecast("shop.takings", series="shop.gold.days", time="day", value="takings", by=("country",), horizon=7)
'''


def product() -> str:
    """The source of the product."""
    declared = PRODUCT.replace("settled=timedelta(days=60)", f"settled=timedelta(days=10), {_QUICK}")
    declared = declared.replace("from datetime import timedelta", "from datetime import date, timedelta")
    declared = declared.replace("import Contract, Feed,", "import Contract, Feed, Full, Gate, GradientBoosting, forecast,")
    declared = declared.replace("headers=(HEADER,))", 'headers=(HEADER,), personal=("method",))')
    declared = declared.replace(
        "method: str = column(nullable=True)", 'method: str = column(nullable=True, personal=True, description="How it was paid.")'
    )
    return declared + _FORECAST


def landed(folder: Path, package: str) -> Settings:
    """A root under a folder: files landed, nothing computed. A process imports a package of products once, by its name."""
    (folder / package / "shop").mkdir(parents=True)
    (folder / package / "shop" / "orders.py").write_text(product())
    (folder / package / "shop" / "__init__.py").write_text("")
    settings = Settings.load({"LAKEHOUSE_ROOT": str(folder / "root"), "LAKEHOUSE_PRODUCTS": str(folder / package)})
    rows = orders(600, DAYS).with_columns(pl.col("country").replace({"FR": HOSTILE}), (f"{SECRET} " + pl.col("method")).alias("method"))
    land_text(settings, "orders", "a.csv", as_file(rows) + f"bad,yesterday,1,GB,{SECRET} card,false\n")
    return settings


def refreshed(folder: Path) -> Settings:
    """The same with its tables computed."""
    settings = landed(folder, "refreshed_shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        context = open_lakehouse(settings=settings).context
        Runner(context.loaded.catalog, context.root.lakehouse, context.root.ingestion, context.root.registry, settings.seed).run(
            run_id="test"
        )
    return settings


def prepare(folder: Path) -> Settings:
    """The same with its models trained, and what monitors and alerts would have written."""
    settings = landed(folder, "shop_of_pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        context = open_lakehouse(settings=settings).context
        root, catalog = context.root, context.loaded.catalog
        runner = Runner(catalog, root.lakehouse, root.ingestion, root.registry, settings.seed)
        runner.run(run_id="test")
        for model in catalog.models:
            ModelStep(model, root.lakehouse, root.registry(), settings.seed, "test").run()
        runner.run(run_id="test")
    lakehouse = tables_of(settings)
    drift = lakehouse.table("platform.monitoring.drift")
    drift.create(DRIFTS_SCHEMA)
    drift.append(_drift())
    alerts = lakehouse.table(ALERTS)
    alerts.create(SCHEMA)
    at = datetime(2025, 4, 1, tzinfo=UTC)
    events = [
        (1, "opened", "a1", "amount has drifted"),
        (2, "opened", "a2", "too few rows"),
        (3, "resolved", "a2", "as many rows as usual"),
    ]
    alerts.append(
        pl.DataFrame(
            [
                {
                    "sequence": number,
                    "key": f"monitor:{alert}",
                    "event": event,
                    "alert_id": alert,
                    "number": 1,
                    "at": at,
                    "opened_at": at,
                    "severity": "error",
                    "owner": "team:shop",
                    "text": text,
                    "bad_windows": 1,
                    "run_id": "",
                    "sinks": ["log"],
                    "logged_at": at,
                }
                for number, event, alert, text in events
            ],
            schema=SCHEMA,
        )
    )
    return settings


def _drift() -> pl.DataFrame:
    """Five windows of orders: amounts that drift from the third on, countries that do not, and what all columns together say."""
    first = datetime(2025, 3, 1, tzinfo=UTC)

    def row(day: int, column: str, metric: str, value: float, threshold: float, rate: float, **more: Any) -> dict[str, Any]:
        exceeded = value > threshold
        test = {"metric": metric, "value": value, "threshold": threshold, "false_alarm_rate": rate, "exceeded": exceeded}
        about = {"monitor": "m", "table": "shop.silver.orders", "table_version": 1, "sequence": 1, "evaluated_at": first}
        about |= {"window_start": first + timedelta(days=day), "column_name": column, "drift_type": "BASELINE", "rows": 100}
        return about | {"thresholds": [test], "drifted": exceeded} | more

    rows = []
    for day in range(5):
        rows.append(row(day, ":table", DOMAIN, 0.52 + day / 100, 0.58, 0.01, drifted=day > 2))
        rows.append(row(day, "amount", "ks_test", 0.1 * day, 0.25, 0.002, data_type="Float64", population_stability_index=0.1 * day))
        rows.append(row(day, "country", "js_distance", 0.03, 0.09, 0.002, data_type="String", js_distance=0.03))
    rows.append(row(2, "amount", "ks_test", 0.7, 0.5, 0.002, data_type="Float64", slice_key="country", slice_value="GB"))
    given = pl.DataFrame(rows, schema_overrides=DRIFTS_SCHEMA)
    return given.select(pl.col(name) if name in given.columns else pl.lit(None, dtype).alias(name) for name, dtype in DRIFTS_SCHEMA.items())


def environment(**own: str) -> dict[str, str]:
    """Of a process that knows no other root than the given one."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    return clean | {"PYTHONPATH": str(_PROJECT)} | own


@contextmanager
def pages_of(root: Path, products: str | None = None, **own: str) -> Iterator[str]:
    """The address of a server of the pages of a root, by its command."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {"LAKEHOUSE_ROOT": str(root), **({"LAKEHOUSE_PRODUCTS": products} if products else {}), **own}
    command = [sys.executable, "-m", "lakehouse_assets.cli", "pages", "--port", str(port)]
    server = subprocess.Popen(command, env=environment(**variables), stdout=subprocess.DEVNULL)
    try:
        _wait(server, f"http://127.0.0.1:{port}/livez")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


def _wait(server: "subprocess.Popen[bytes]", address: str) -> None:
    while server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            continue
    raise AssertionError(f"the server ended with {server.returncode}")

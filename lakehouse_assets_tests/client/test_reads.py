"""Rows reach people through the reader alone: each call of the client that gives rows is written down, and shows no personal value."""

import dataclasses
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse_assets import (
    Contract,
    Drift,
    Feed,
    Retrain,
    Timestamp,
    Upsert,
    boolean,
    classifier,
    column,
    conform,
    feed,
    monitor,
    number,
    open_lakehouse,
    table,
    text,
    timestamp,
    window_features,
)
from lakehouse_assets.client import Client
from lakehouse_assets.client.alerts import Alerts
from lakehouse_assets.client.contracts import Contracts
from lakehouse_assets.client.features import Features
from lakehouse_assets.client.files import Files
from lakehouse_assets.client.inference import Inference
from lakehouse_assets.client.models import Models
from lakehouse_assets.client.monitors import Monitors
from lakehouse_assets.client.quarantine import Quarantine
from lakehouse_assets.client.runs import Runs
from lakehouse_assets.client.tables import TableHandle
from lakehouse_assets.client.tokens import Tokens
from lakehouse_assets.platform.monitoring.accuracy import table as accuracy
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.sources.verdicts import Verdicts
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.monitoring.system import system_tables
from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA
from lakehouse_assets.platform.serving.inference_log.records import InferenceRecord
from lakehouse_assets.platform.serving.inference_log.table import create
from lakehouse_assets.platform.storage import platform_tables

SECRET = "Zebulon"
BRONZE, SILVER = "shop.bronze.orders", "shop.silver.orders"
START = datetime(2026, 1, 1, tzinfo=UTC)
HEADER = ("order", "ordered_at", "amount", "buyer", "charged_back")


class Order(Contract):
    """An order."""

    order: str = column(key=True)
    ordered_at: Timestamp
    amount: float
    buyer: str = column(personal=True)
    charged_back: bool


files = feed(BRONZE, Feed("orders", headers=(HEADER,), personal=("buyer",)), "Orders.")


@table(SILVER, contract=Order, kind=Upsert(("order",)), inputs={"rows": BRONZE})
def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Orders with their types."""
    at = timestamp("ordered_at", formats=("%Y-%m-%dT%H:%M:%S",))
    words = {name: text(name) for name in ("order", "buyer")}
    return conform(rows, **words, ordered_at=at, amount=number("amount"), charged_back=boolean("charged_back"))


fraud = classifier(
    "shop.fraud", table=SILVER, target="charged_back", entity=("order",), time="ordered_at", settled=timedelta(days=1),
    inputs={"amount": float, "buyer": str}, retrain=Retrain(on=("shop.monitors.moved",)),
)  # fmt: skip
FEATURES, MODEL, PREDICTIONS = fraud.features.name, fraud.model.name, fraud.predictions.name
buyers = window_features(
    "shop.features.buyers",
    of=SILVER,
    entity=("buyer",),
    personal=("buyer",),
    time="ordered_at",
    windows=("1d",),
    values={"amount": ("sum",)},
)
moved = monitor("shop.monitors.moved", of=orders, kind=Drift("ordered_at", against=f"{SILVER}@1"))
LOGGED = "shop.inference.fraud"


def file_of(first: int, days: int, amount: float) -> str:
    rows = [
        f"{day}-{one},{START + timedelta(days=day, hours=1):%Y-%m-%dT%H:%M:%S},{amount + one},{SECRET} {one % 3},{one % 2 == 0}"
        for day in range(first, first + days)
        for one in range(40)
    ]
    return "\n".join([",".join(HEADER), *rows, f"bad,yesterday,1,{SECRET},false\n"])


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Client:
    """A root on which whatever gives rows has some."""
    folder = tmp_path_factory.mktemp("reads")
    lake = open_lakehouse(folder / "root", declarations=(files, orders, *fraud.declarations, buyers, moved), notice=lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        for name, content in {"a.csv": file_of(0, 30, 5), "b.csv": file_of(30, 3, 500)}.items():
            (folder / name).write_text(content)
            lake.land("orders", [folder / name])
            assert not lake.run().failed
        lake.monitors.run()
        lake.features.sync()
    tables, now = lake.context.root.lakehouse, datetime.now(UTC)
    take(AlertLog(tables), [Verdicts(tables, {})], now, logging.getLogger("test"))
    decided = dict.fromkeys(LEDGER_SCHEMA) | {"sequence": 1, "decided_at": now, "model_name": MODEL, "version": 1}
    decided |= {"decision": "kept as challenger", "reasons": "It is no better."}
    tables.table(MODEL).append(pl.DataFrame([decided], schema=LEDGER_SCHEMA))
    accuracy.accuracy_table(tables).append(
        pl.DataFrame(
            [
                dict.fromkeys(accuracy.SCHEMA)
                | {"model": MODEL, "predictions": PREDICTIONS, "granularity": "1 week", "metric": fraud.model.metric.name}
                | {"window_start": START, "is_estimate": False, "value": 0.5}
            ],
            schema=accuracy.SCHEMA,
        )
    )
    tables.table(system_tables.RUNS.name).create(system_tables.RUNS.schema)
    create(tables, LOGGED, InferenceRecord, personal=True)
    return lake


def one_alert(lake: Client) -> str:
    return lake.alerts.list()[0]["alert_id"]


def exported(lake: Client, write: Callable[[Any], None]) -> str:
    file = lake.settings.home_folder / "exported.csv"
    write(file)
    return file.read_text()


VERDICTS, ALERTS, LOG = platform_tables.VERDICTS, platform_tables.ALERTS, platform_tables.LANDING
SELECT = f"select * from {SILVER}"
GIVES_ROWS: dict[str, tuple[Callable[[Client], Any], set[str]]] = {
    "Client.sql": (lambda lake: lake.sql(SELECT), {SILVER}),
    "Client.export_sql": (lambda lake: exported(lake, lambda file: lake.export_sql(SELECT, file)), {SILVER}),
    "Client.profile": (lambda lake: lake.profile(SILVER, slices=("buyer",)).as_values(), {SILVER}),
    "Client.status": (lambda lake: lake.status(), {VERDICTS, ALERTS, LOG, MODEL}),
    "Client.champions": (lambda lake: lake.champions(), {MODEL}),
    "TableHandle.scan": (lambda lake: lake.table(SILVER).scan(), {SILVER}),
    "TableHandle.select": (lambda lake: lake.table(BRONZE).select(("buyer",)), {BRONZE}),
    "TableHandle.export": (lambda lake: exported(lake, lake.table(SILVER).export), {SILVER}),
    "Quarantine.show": (lambda lake: lake.quarantine(SILVER).show(), {f"{SILVER}__quarantine"}),
    "Files.list": (lambda lake: lake.files.list(), {LOG}),
    "Files.duplicates": (lambda lake: lake.files.duplicates("run"), {LOG}),
    "Files.remarks": (lambda lake: lake.files.remarks("run"), {LOG}),
    "Files.rows": (lambda lake: lake.files.rows("a.csv"), {BRONZE}),
    "Files.origins": (lambda lake: lake.files.origins(SILVER), {SILVER}),
    "Monitors.latest": (lambda lake: lake.monitors.latest([moved.name]), {VERDICTS}),
    "Monitors.list": (lambda lake: lake.monitors.list(), {VERDICTS}),
    "Monitors.failed": (lambda lake: lake.monitors.failed(), {VERDICTS}),
    "Monitors.show": (lambda lake: lake.monitors.show(moved.name), {VERDICTS}),
    "Monitors.why": (lambda lake: lake.monitors.why(moved.name), {VERDICTS, SILVER, BRONZE}),
    "Monitors.run": (lambda lake: lake.monitors.run([moved.name]), {VERDICTS}),
    "Alerts.list": (lambda lake: lake.alerts.list(), {ALERTS}),
    "Alerts.show": (lambda lake: lake.alerts.show(one_alert(lake)), {ALERTS}),
    "Models.show": (lambda lake: lake.models.show(MODEL), {MODEL}),
    "Models.retraining": (lambda lake: lake.models.retraining(), {VERDICTS, MODEL}),
    "Models.accuracy": (lambda lake: lake.models.accuracy(MODEL).rows, {platform_tables.ACCURACY}),
    "Features.list": (lambda lake: lake.features.list(), {FEATURES}),
    "Features.show": (lambda lake: lake.features.show(FEATURES), {FEATURES}),
    "Features.training_set": (lambda lake: lake.features.training_set(MODEL).rows, {FEATURES}),
    "Features.online": (lambda lake: lake.features.online(buyers.name, f"{SECRET} 1"), {SILVER}),
    "Inference.scan": (lambda lake: lake.inference(LOGGED).scan(), {LOGGED}),
    "Inference.with_labels": (lambda lake: lake.inference(LOGGED).with_labels(), {LOGGED}),
    "Runs.list": (lambda lake: lake.runs.list(), {platform_tables.RUNS}),
}
GIVES_NONE = {
    "Client": "settings tables table statements as_csv inference tokens quarantine files contracts features models monitors runs alerts "
    "with_products land new_product quarantines pending untrained without_champion with_changed_function forgotten_products nothing_landed "
    "run follow train train_due restore restore_last_good backup restore_backup doctor "
    "maintenance serve_endpoints serve",
    "TableHandle": "history count schema version contract exists",
    "Quarantine": "replay",
    "Files": "retry reread ignore",
    "Alerts": "test send close",
    "Models": "list card rollback promote approve reject compare reproduce",
    "Features": "uses sync",
    "Contracts": "list show diff export export_all check",
    "Runs": "dead under_way end_dead end",
    "Tokens": "create list revoke",
}
"""What is done, counted, declared or kept outside of tables."""
ELSEWHERE = {"Client.automl": "it takes minutes, and learns from what TableHandle.select gives"}
PARTS = (Client, TableHandle, Quarantine, Files, Monitors, Alerts, Models, Features, Inference, Contracts, Runs, Tokens)


def test_each_call_of_the_client_is_known_to_give_rows_or_not():
    fields = {part: {one.name for one in dataclasses.fields(part)} if dataclasses.is_dataclass(part) else set() for part in PARTS}
    there = {f"{part.__name__}.{name}" for part in PARTS for name in dir(part) if not name.startswith("_") and name not in fields[part]}
    known = {f"{part}.{name}" for part, names in GIVES_NONE.items() for name in names.split()}
    assert there == GIVES_ROWS.keys() | known | ELSEWHERE.keys()


def reads(lake: Client) -> list[dict[str, Any]]:
    return [json.loads(line) for file in sorted(lake.settings.audit.glob("*.jsonl")) for line in file.read_text().splitlines()]


def told(given: Any) -> str:
    given = given.collect() if isinstance(given, pl.LazyFrame) else given
    return given.write_json() if isinstance(given, pl.DataFrame) else json.dumps(given, default=str)


@pytest.mark.parametrize("name", GIVES_ROWS)
def test_a_call_that_gives_rows_is_written_down_and_shows_no_personal_value(lake, name):
    call, tables = GIVES_ROWS[name]
    before = len(reads(lake))
    said = told(call(lake))
    written = {table.partition("@")[0] for read in reads(lake)[before:] for table in read["tables"]}
    assert tables <= written
    assert SECRET not in said
    assert said not in {"[]", "{}"} or name in {"Files.duplicates", "Files.remarks", "Inference.scan", "Inference.with_labels", "Runs.list"}


def test_the_personal_value_is_stored(lake):
    stored = lake.context.root.lakehouse.table(SILVER).scan().collect()
    assert SECRET in stored.write_json()

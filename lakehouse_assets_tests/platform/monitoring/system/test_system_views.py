"""The views of the system tables: all ledgers, inference logs and row accounts as one table each, read by the reader and SQL alone."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from lakehouse_assets.client.client import open_lakehouse
from lakehouse_assets.platform.governance.sql import QueryRefused
from lakehouse_assets.platform.monitoring.system import system_tables
from lakehouse_assets.platform.monitoring.system.system_views import VIEWS
from lakehouse_assets.platform.pipeline import commit_statistics
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA
from lakehouse_assets.platform.serving.inference_log.records import InferenceRecord
from lakehouse_assets.platform.serving.inference_log.table import INFERENCE, create
from lakehouse_assets.platform.storage.commit import Commit
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import tables_of

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def lake(settings: Settings):
    return open_lakehouse(settings=settings, declarations=[], notice=lambda _: None)


def decide(settings: Settings, model: str, sequence: int, **values: object) -> None:
    ledger = tables_of(settings).table(model)
    ledger.create(LEDGER_SCHEMA)
    row = {"sequence": sequence, "decided_at": AT, "model_name": model, "version": sequence, "decision": "promoted", **values}
    ledger.append(pl.DataFrame([{name: row.get(name) for name in LEDGER_SCHEMA}], schema=LEDGER_SCHEMA))


def ask(settings: Settings, table: str, request_id: str, **values: object) -> None:
    log = create(tables_of(settings), table, InferenceRecord, personal=True)
    row = {"request_id": request_id, "row": 0, "endpoint": table.split(".")[2], "received_at": AT, "date": date(2026, 3, 1), **values}
    log.append(pl.DataFrame([{name: row.get(name) for name in INFERENCE}], schema=INFERENCE))


def test_a_view_of_nothing_is_empty_and_has_its_columns(lake):
    assert lake.tables() == []
    for view in VIEWS.values():
        rows = lake.sql(f"SELECT * FROM {view.of.name}")
        assert (rows.height, dict(rows.schema)) == (0, dict(view.of.schema))
        assert lake.table(view.of.name).scan().collect().schema == view.of.schema
        assert lake.table(view.of.name).count() == 0


def test_the_decisions_of_all_models_are_one_table(lake, settings):
    decide(settings, "sales.models.revenue", 1)
    decide(settings, "fraud.models.orders", 1, decided_by="ada")
    decide(settings, "fraud.models.orders", 2, decision="rolled back")
    assert "platform.system.decisions" in lake.tables()
    found = lake.sql("SELECT model, product, sequence, decision, decided_by FROM platform.system.decisions ORDER BY model, sequence")
    assert found.rows() == [
        ("fraud.models.orders", "fraud", 1, "promoted", "ada"),
        ("fraud.models.orders", "fraud", 2, "rolled back", None),
        ("sales.models.revenue", "sales", 1, "promoted", None),
    ]


def test_the_requests_of_all_endpoints_are_one_table_without_what_was_sent(lake, settings):
    ask(settings, "fraud.inference.orders", "a", requester="shop", key='{"customer": "Ann"}', features="{}", request="{}", prediction="{}")
    ask(settings, "sales.inference.revenue", "b", status_code=200)
    asked = lake.sql("SELECT * FROM platform.system.requests ORDER BY request_id")
    assert asked["table"].to_list() == ["fraud.inference.orders", "sales.inference.revenue"]
    assert not {"key", "features", "request", "prediction"} & set(asked.columns)
    assert "Ann" not in str(asked.to_dict(as_series=False))


def test_a_log_of_an_earlier_release_has_nulls_for_what_it_lacks(lake, settings):
    kept = pl.Schema({name: INFERENCE[name] for name in ("request_id", "row", "endpoint", "received_at", "date")})
    log = tables_of(settings).table("old.inference.orders")
    log.create(kept, ("date",))
    log.append(pl.DataFrame([("a", 0, "orders", AT, date(2026, 3, 1))], schema=kept, orient="row"))
    ask(settings, "fraud.inference.orders", "b")
    assert lake.sql("SELECT request_id, variant FROM platform.system.requests ORDER BY request_id").rows() == [("a", None), ("b", None)]


def test_row_accounts_are_those_that_the_commits_carry(lake, settings):
    table = tables_of(settings).table("sales.silver.lines")
    table.create(pl.Schema({"id": pl.Int64()}))
    account = RowAccount(rows_in=10, written=4, updated=3, duplicates=2, quarantined=1, removed=7)
    info = {"lakehouse.run_id": "r", "lakehouse.account": account.to_json()}
    table.append(pl.DataFrame({"id": [1]}), Commit(info=lambda _: info))
    commit_statistics.record(tables_of(settings), [table])
    (row,) = lake.sql("SELECT * FROM platform.system.row_accounts").iter_rows(named=True)
    assert {name: row[name] for name in vars(account)} == vars(account)
    assert (row["table"], row["product"], row["version"], row["run_id"]) == ("sales.silver.lines", "sales", 1, "r")


def test_views_join_with_tables_and_are_read_as_tables_are(lake, settings):
    decide(settings, "sales.models.revenue", 1)
    joined = lake.sql("SELECT d.model, l.version FROM platform.system.decisions d JOIN sales.models.revenue l ON d.sequence = l.sequence")
    assert joined.rows() == [("sales.models.revenue", 1)]
    handle = lake.table("platform.system.decisions")
    assert handle.select(["model"], "version = 1").collect().rows() == [("sales.models.revenue",)]
    assert handle.schema == system_tables.DECISIONS.schema
    for refused in (lambda: handle.scan(version=0), lambda: handle.scan(at=AT), lambda: handle.version, handle.history):
        with pytest.raises(NoSuchVersion, match="is a view"):
            refused()
    with pytest.raises(QueryRefused, match=r"did you mean platform\.system\.decisions"):
        lake.sql("SELECT * FROM platform.system.decision")
    assert any(settings.audit.rglob("*")), "reads of views are written down"

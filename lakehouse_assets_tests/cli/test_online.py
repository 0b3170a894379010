"""`lakehouse features sync` and `features online`: the online store is filled and shown."""

import json
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from click.testing import CliRunner

from lakehouse_assets import Contract, Timestamp, column, feature_set, open_lakehouse, window_features
from lakehouse_assets import table as declared_table
from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.declarations.computed_kinds import Full
from lakehouse_assets.platform.pipeline.refresh import Refresh

PAYMENTS, CARDS, LEVELS, LISTS = "shop.silver.payments", "shop.features.cards", "shop.features.levels", "shop.features.lists"


class Payment(Contract):
    """A payment."""

    id: int = column(key=True)
    card: str = column(personal=True)
    paid_at: Timestamp
    amount: float


class Level(Contract):
    """A level."""

    branch: int = column(key=True)
    day: date = column(key=True)
    known_at: Timestamp
    level: float


@declared_table(PAYMENTS, contract=Payment, kind=Full(), inputs={"rows": "shop.bronze.payments"})
def payments(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The payments."""
    return rows


cards = window_features(CARDS, of=PAYMENTS, entity=("card",), time="paid_at", windows=("1d",), values={"amount": ("sum",)})


@feature_set(LEVELS, contract=Level, entity=("branch",), event_time="day", kind=Full(), inputs={"rows": "shop.bronze.levels"})
def levels(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Levels by day."""
    return rows


@pytest.fixture
def call(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    lake = open_lakehouse(settings=settings, declarations=(payments, cards, levels))
    monkeypatch.setattr("lakehouse_assets.client.open_lakehouse", lambda: lake)
    lakehouse = lake.context.root.lakehouse
    bronze, days = lakehouse.table("shop.bronze.payments"), lakehouse.table("shop.bronze.levels")
    bronze.create(payments.schema)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [(number, "c-1", start + timedelta(hours=number), number / 2) for number in range(3)]
    bronze.append(pl.DataFrame(rows, payments.schema, orient="row"))
    days.create({name: dtype for name, dtype in levels.schema.items() if name in Level.to_schema().columns})
    days.append(
        pl.DataFrame([(7, date(2024, 1, day), start + timedelta(days=day), day * 1.5) for day in (1, 2)], days.schema(), orient="row")
    )
    for one in (payments, levels):
        Refresh(one, lakehouse, "test").run()

    def run(*words: str, code: int = 0) -> str:
        result = CliRunner(env={"LAKEHOUSE_ROOT": str(settings.root), "COLUMNS": "200"}).invoke(main, ["features", *words])
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else result.output

    return run


def test_all_sets_are_synced_and_then_nothing_is_new(call):
    first = json.loads(call("sync", "--json"))
    assert [(one["feature_set"], one["kept"], one["table"], one["how"], one["rows"]) for one in first] == [
        (CARDS, "events", PAYMENTS, "scan", 3),
        (LEVELS, "values", LEVELS, "scan", 2),
    ]
    again = json.loads(call("sync", "--json"))
    assert {one["how"] for one in again} == {"nothing new"}
    assert again[0]["synced_at"] > first[0]["synced_at"]
    assert "scan: asked for" in call("sync", "cards", "--full")


def test_what_is_stored_of_an_entity_is_shown(call):
    assert "`lakehouse features sync shop.features.levels`" in call("online", LEVELS, "7", code=1)
    call("sync")
    rows = json.loads(call("online", LEVELS, "7", "--json"))
    assert [(row["branch"], row["level"], row["feature_set_version"]) for row in rows] == [(7, 1.5, 1), (7, 3.0, 1)]
    assert "3.0" in call("online", "levels", "7")
    assert "nothing of 8" in call("online", LEVELS, "8")
    assert "branch is Int64, and 'seven' is none" in call("online", LEVELS, "seven", code=1)
    assert "give 1 values, not 2" in call("online", LEVELS, "7", "8", code=1)


def test_events_are_shown_with_personal_data_masked(call):
    call("sync")
    rows = json.loads(call("online", CARDS, "c-1", "--json"))
    assert [(row["id"], row["amount"], row["card"]) for row in rows] == [(0, 0.0, "•••"), (1, 0.5, "•••"), (2, 1.0, "•••")]

"""Change feeds and keys as sources send them, through files, silver and history: each event counts, and the later delivery wins."""

from collections import Counter
from datetime import UTC, datetime

import polars as pl
import pytest

from lakehouse_assets import (
    SCD1,
    SCD2,
    Contract,
    Feed,
    Timestamp,
    Upsert,
    choice,
    code,
    column,
    conform,
    feed,
    table,
    timestamp,
    whole_number,
)
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.orchestration.autoload import Products
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets_tests.running import land_text, run_declared, tables_of

EVENTS = feed("shop.bronze.changes", Feed("changes", headers=(("op", "seq", "key", "at", "value"),)), "Change events.")


class Change(Contract, max_bad_share=1.0):
    """A version."""

    key: str = column(key=True)
    seq: int = column(key=True)
    valid_from: Timestamp
    is_deleted: bool
    value: str = column(nullable=True)


class Latest(Change):
    """The latest version."""


def of_changes(rows: pl.LazyFrame) -> pl.LazyFrame:
    return conform(
        rows,
        key=code("key"),
        seq=whole_number("seq"),
        valid_from=timestamp("at", formats=("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z")),
        is_deleted=choice("op", options={"u": False, "d": True}),
        value=code("value"),
    )


@table("shop.silver.history", contract=Change, kind=SCD2(("key",), sequence_by="seq"), inputs={"rows": "shop.bronze.changes"})
def history(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Every version."""
    return of_changes(rows)


@table("shop.silver.latest", contract=Latest, kind=SCD1(("key",), sequence_by="seq"), inputs={"rows": "shop.bronze.changes"})
def latest(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The last version."""
    return of_changes(rows)


class Reading(Contract, max_bad_share=1.0):
    """A reading of a meter."""

    meter: str = column(key=True)
    at: Timestamp = column(key=True)
    value: str = column(nullable=True)


READINGS = feed("shop.bronze.readings", Feed("readings", headers=(("meter", "at", "value"),)), "Readings.")


@table("shop.silver.readings", contract=Reading, kind=Upsert(("meter", "at")), inputs={"rows": "shop.bronze.readings"})
def readings(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row a meter and moment."""
    return conform(rows, meter=code("meter"), at=timestamp("at", formats=("%Y-%m-%dT%H:%M:%S%z",)), value=code("value"))


DECLARED = Products(Catalog((EVENTS, history, latest, READINGS, readings)))
HEADER = "op,seq,key,at,value\n"
FILES = {
    # An insert; a deletion before its insert; a key that changes; a number that comes as a text.
    "a.csv": "u,1,k,2024-01-01,A\nd,3,late,2024-01-03,\nu,1,old,2024-01-01,O\nu,0007,text,2024-01-07,seven\n",
    # The same number with other content; the insert of what is deleted; two events of one key, the later one first.
    "b.csv": "u,1,k,2024-01-01,B\nu,2,late,2024-01-02,X\nd,2,old,2024-01-02,\nu,2,new,2024-01-02,O\nu,10,text,2024-01-10,ten\n",
    # Twice in one file: the later row counts. An insert after a deletion; an event that all have seen.
    "c.csv": "u,1,k,2024-01-01,C\nu,1,k,2024-01-01,D\nu,5,late,2024-01-05,Y\nu,7.0,text,2024-01-07,seven\n",
}
CURRENT = {"k": "D", "late": "Y", "new": "O", "text": "ten"}


def stored(settings, name):
    rows = tables_of(settings).table(name).scan().collect()
    return rows.select(column for column in rows.columns if not column.startswith("_")).sort("key", "seq")


def land(settings, name):
    land_text(settings, "changes", name, HEADER + FILES[name])


@pytest.mark.parametrize("batches", [["abc"], ["a", "b", "c"], ["a", "bc"], ["ab", "c"]])
def test_the_latest_delivery_of_an_event_counts_whatever_the_batches(settings, batches):
    accounts = Counter()
    for batch in batches:
        for letter in batch:
            land(settings, f"{letter}.csv")
        done = run_declared(settings, DECLARED)["shop.silver.history"].account
        accounts += Counter(updated=done.updated, duplicates=done.duplicates, quarantined=done.quarantined, rows_in=done.rows_in)
    made = stored(settings, "shop.silver.history")
    assert dict(made.filter("is_current").select("key", "value").iter_rows()) == CURRENT
    assert made.filter(pl.col("key") == "late")["is_deleted"].to_list() == [False, True, False]
    assert made.filter(pl.col("key") == "text")["seq"].to_list() == [7, 10]
    last = stored(settings, "shop.silver.latest")
    assert dict(last.filter(~pl.col("is_deleted")).select("key", "value").iter_rows()) == CURRENT
    # B, C and D correct A; only `seven` had come before.
    assert accounts == Counter(updated=3, duplicates=1, rows_in=13)
    lakehouse = tables_of(settings)
    for declaration in (history, latest):
        before = stored(settings, declaration.name)
        full_refresh(Refresh(declaration, lakehouse, "full"))
        assert stored(settings, declaration.name).equals(before)


def test_keys_that_look_the_same_are_one(settings):
    spellings = [
        "  café,2024-01-01T12:00:00+00:00,1",
        "cafe\u0301,2024-01-01T13:00:00+01:00,2",
        "café\u200b,2024-01-01T12:00:00Z,3",
        "\ufeffcafé ,2024-01-01T07:00:00-05:00,4",
        "Café,2024-01-01T12:00:00Z,5",
        ",2024-01-01T12:00:00Z,6",
        "NaN,2024-01-01T12:00:00Z,7",
    ]
    for number, spelled in enumerate(spellings):
        land_text(settings, "readings", f"{number}.csv", f"meter,at,value\n{spelled}\n")
    run_declared(settings, DECLARED)
    rows = tables_of(settings).table("shop.silver.readings").scan().select("meter", "at", "value").sort("value").collect()
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    assert rows.rows() == [("café", noon, "4"), ("Café", noon, "5"), ("NaN", noon, "7")]
    rejected = tables_of(settings).table("shop.silver.readings__quarantine").scan().collect()
    assert rejected["_broken"].to_list() == [["meter_not_null"]]


@pytest.mark.parametrize(("identity", "files"), [("content", 1), ("name", 3)])
def test_a_feed_says_whether_a_name_or_a_content_is_a_delivery(settings, identity, files):
    stock = feed("shop.bronze.stock", Feed("stock", headers=(("sku", "count"),), identity=identity), "Counts; the day is in the name.")
    declared = Products(Catalog((stock,)))
    for day in range(1, 4):
        land_text(settings, "stock", f"stock_2024-01-0{day}.csv", "sku,count\nA,1\n")
        run_declared(settings, declared)
    rows = tables_of(settings).table("shop.bronze.stock").scan().collect()
    assert rows["_file"].n_unique() == rows.height == files
    run_declared(settings, declared)
    assert tables_of(settings).table("shop.bronze.stock").count() == files


def test_an_identity_that_means_nothing_is_refused():
    with pytest.raises(ValueError, match="identity='path': choose one of content, name"):
        Feed("stock", headers=(("sku",),), identity="path")

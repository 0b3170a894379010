"""Contracts of declared tables at work: keys and references in a refresh, contracts recorded, what a change breaks."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse_assets import products
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.change_kinds import SCD2
from lakehouse_assets.platform.declarations.computed_kinds import ByPartition, Full
from lakehouse_assets.platform.declarations.features import Revisions
from lakehouse_assets.platform.declarations.models import Predictions
from lakehouse_assets.platform.declarations.row_kinds import Append, Upsert
from lakehouse_assets.platform.declarations.tables import TableDeclaration, table
from lakehouse_assets.platform.monitoring.kinds.volume import usual_volume
from lakehouse_assets.platform.operations.contract_changes import _problem, _schemas, contract_changes
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.pipeline import contracts
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.refresh import Refresh, Refreshed
from lakehouse_assets.platform.quality.contract import Contract, ContractBroken, Timestamp, column, fingerprint, rules_of
from lakehouse_assets.platform.quality.rules import feed_rules
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.monitoring.accuracy.judging import said_of, words

JAN, FEB = date(2024, 1, 1), date(2024, 2, 1)
BRONZE = pl.Schema({"month": pl.Date(), "id": pl.String(), "product": pl.String(), "amount": pl.Int64()})
PRODUCTS = pl.Schema({"code": pl.String(), "is_current": pl.Boolean()})


class Sale(Contract, max_bad_share=1.0):
    """A sale."""

    month: date = column(key=True)
    id: str = column(key=True)
    product: str = column(nullable=True, references="shop.silver.products.code")
    amount: int = column(ge=0)


def declared(contract: type[Contract] = Sale, kind: Any = None, name: str = "shop.silver.sales", **more) -> TableDeclaration:
    @table(
        name,
        contract=contract,
        kind=kind or Append(),
        inputs={"rows": "shop.bronze.sales"},
        partition_by=("month",),
        **more,
    )
    def sales(rows: pl.LazyFrame) -> pl.LazyFrame:
        """Sales."""
        return rows

    return sales


SALES = declared()


@pytest.fixture
def shop(tmp_path):
    lakehouse = Lakehouse(str(tmp_path))
    lakehouse.table("shop.bronze.sales").create(BRONZE)
    return lakehouse


def land(shop: Lakehouse, *rows: tuple[date, str, str | None, int]) -> None:
    shop.table("shop.bronze.sales").append(pl.DataFrame(rows, schema=BRONZE, orient="row"))


def list_products(shop: Lakehouse, *rows: tuple[str, bool]) -> None:
    products = shop.table("shop.silver.products")
    products.create(PRODUCTS)
    products.append(pl.DataFrame(rows, schema=PRODUCTS, orient="row"))


def refresh(shop: Lakehouse, declaration: TableDeclaration = SALES) -> Refreshed:
    return Refresh(declaration, shop, "run").run()


def ids(shop: Lakehouse, name: str = "shop.silver.sales") -> list[str]:
    return sorted(shop.table(name).scan().collect()["id"])


def rejected(shop: Lakehouse) -> list[tuple[str, list[str]]]:
    rows = shop.table("shop.silver.sales__quarantine").scan().select("id", "_broken").collect().rows()
    return sorted((name, sorted(broken)) for name, broken in rows)


def found(done: Refreshed, name: str):
    return next(evidence for evidence in done.evidence if evidence.rule.name == name)


# --- keys


def test_an_append_keeps_the_first_row_of_a_key(shop):
    land(shop, (JAN, "1", None, 1), (JAN, "1", None, 2), (FEB, "1", None, 3))
    assert refresh(shop).account.quarantined == 1
    land(shop, (JAN, "1", None, 4), (JAN, "2", None, 5))
    done = refresh(shop)
    assert (done.account.written, done.account.quarantined) == (1, 1)
    assert shop.table("shop.silver.sales").scan().sort("month", "id").collect()["amount"].to_list() == [1, 5, 3]
    assert rejected(shop) == [("1", ["key_unique"])] * 2


def test_a_key_that_a_computed_table_repeats_is_an_error_of_its_function(shop):
    class Total(Contract):
        """A total."""

        month: date = column(key=True)
        amount: int

    @table("shop.gold.totals", contract=Total, kind=ByPartition("month"), inputs={"rows": "shop.bronze.sales"})
    def totals(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.select("month", "amount").sort("amount")

    land(shop, (JAN, "1", None, 7))
    refresh(shop, totals)
    version = shop.table("shop.gold.totals").version()
    land(shop, (JAN, "1", None, 5))
    with pytest.raises(ContractBroken, match=r"shop\.gold\.totals: its function returned 1 keys more than once .*month = 2024-01-01"):
        refresh(shop, totals)
    assert shop.table("shop.gold.totals").version() == version
    assert shop.table("shop.gold.totals__quarantine").count() == 0


def test_a_full_refresh_does_not_meet_its_own_rows(shop):
    land(shop, (JAN, "1", None, 1), (JAN, "1", None, 2))
    refresh(shop)
    full_refresh(Refresh(SALES, shop, "run"))
    assert ids(shop) == ["1"]
    assert rejected(shop) == [("1", ["key_unique"])]


def test_only_partitions_that_can_hold_a_key_are_read(shop):
    land(shop, (JAN, "1", None, 1), (FEB, "1", None, 2))
    refresh(shop)
    files = pl.DataFrame(shop.table("shop.silver.sales").delta().get_add_actions(flatten=True))
    january = files.filter(pl.col("partition.month") == JAN)["path"][0]
    pl.DataFrame({"x": [1]}).write_parquet(f"{shop.table('shop.silver.sales').uri}/{january}")  # it cannot be read any more
    land(shop, (FEB, "1", None, 3), (FEB, "2", None, 4))
    assert refresh(shop).account.written == 1


class Keyed(Contract):
    """Rows of a key."""

    a: str = column(key=True)
    b: str = column(key=True)
    known_at: Timestamp
    valid_from: Timestamp
    is_deleted: bool
    sequence: int


def keyed(kind: Any, contract: type[Contract] = Keyed) -> TableDeclaration:
    return table("shop.silver.keyed", contract=contract, kind=kind, inputs={"rows": "shop.bronze.sales"})(lambda rows: rows)


@pytest.mark.parametrize(
    "kind",
    [
        Upsert(("a",)),
        Upsert(("a", "b", "sequence")),
        SCD2(("a", "b"), sequence_by="sequence"),
        Revisions(Full(), ("a",)),
    ],
    ids=repr,
)
def test_a_key_by_which_the_kind_does_not_tell_rows_apart_is_refused(kind):
    with pytest.raises(DeclarationError, match=r"shop\.silver\.keyed: contract Keyed has the key a, b, but .* tells rows apart by"):
        keyed(kind)


def test_a_contract_without_a_key_cannot_be_upserted():
    class Keyless(Contract):
        """No key."""

        a: str

    with pytest.raises(DeclarationError, match="has no key, but Upsert"):
        keyed(Upsert(("a",)), Keyless)


@pytest.mark.parametrize("kind", [Upsert(("b", "a")), Revisions(Full(), ("a", "b"))], ids=repr)
def test_a_key_by_which_the_kind_tells_rows_apart_is_taken(kind):
    assert set(keyed(kind).identity) >= {"a", "b"}


def test_a_key_of_key_and_sequence_is_taken_by_a_history():
    class Event(Contract):
        """An event."""

        a: str = column(key=True)
        sequence: int = column(key=True)
        valid_from: Timestamp
        is_deleted: bool

    assert keyed(SCD2(("a",), sequence_by="sequence"), Event).identity == ("a", "sequence")


# --- references


def test_a_value_that_is_not_there_goes_into_quarantine(shop):
    list_products(shop, ("p", True), ("old", False))
    land(shop, (JAN, "1", "p", 1), (JAN, "2", "q", 1), (JAN, "3", None, 1), (JAN, "4", "old", 1))
    refresh(shop)
    assert ids(shop) == ["1", "3"]
    assert rejected(shop) == [("2", ["product_references"]), ("4", ["product_references"])]


def test_while_the_other_table_is_absent_or_empty_the_rule_is_not_applied(shop):
    land(shop, (JAN, "1", "q", 1))
    assert "no rows yet" in found(refresh(shop), "product_references").not_applied
    list_products(shop, ("old", False))
    land(shop, (JAN, "2", "q", 1))
    assert "no rows yet" in found(refresh(shop), "product_references").not_applied
    list_products(shop, ("p", True))
    land(shop, (JAN, "3", "q", 1))
    assert found(refresh(shop), "product_references").broken == 1
    assert ids(shop) == ["1", "2"]


def test_a_change_of_the_other_table_does_not_make_the_table_run(shop):
    list_products(shop, ("p", True))
    land(shop, (JAN, "1", "q", 1))
    refresh(shop)
    list_products(shop, ("q", True))
    assert Refresh(SALES, shop, "run").pending() == []
    assert refresh(shop).batches == 0


def test_a_batch_that_is_done_again_comes_to_the_same_verdict(shop, monkeypatch):
    """A row is in the quarantine or in the table, also when the other table changed between a crash and the next run."""
    list_products(shop, ("p", True))
    land(shop, (JAN, "1", "p", 1), (JAN, "2", "q", 1))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Append, "write", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        refresh(shop)
    shop.table("shop.silver.products").replace(pl.DataFrame([("q", True)], schema=PRODUCTS, orient="row"), None)
    refresh(shop)
    assert ids(shop) == ["1"]
    assert rejected(shop) == [("2", ["product_references"])]
    land(shop, (JAN, "3", "q", 1))
    refresh(shop)
    assert ids(shop) == ["1", "3"]


class Other(Contract):
    """Another table."""

    code: int = column(key=True)


def test_references_that_no_row_could_keep_are_refused():
    class Own(Contract):
        """References itself."""

        month: date
        id: str = column(references="shop.silver.sales.id")

    other = table("shop.silver.products", contract=Other, kind=Full(), inputs={"rows": "shop.bronze.products"})(lambda rows: rows)
    external = frozenset({"shop.bronze.sales", "shop.bronze.products"})
    with pytest.raises(DeclarationError, match="a column of its own table"):
        Catalog((declared(Own),), external)
    with pytest.raises(DeclarationError, match="which is Int64 and not String"):
        Catalog((SALES, other), external)

    class Lost(Contract):
        """References nothing."""

        month: date
        product: str = column(references="shop.silver.products.name")

    with pytest.raises(DeclarationError, match="which that table does not have"):
        Catalog((declared(Lost), other), external)
    with pytest.raises(DeclarationError, match=r"but no product declares shop\.silver\.products"):
        Catalog((SALES,), external)


# --- fail rules and what a commit says


def test_a_broken_fail_rule_leaves_table_and_quarantine_where_they_were(shop):
    class Strict(Contract):
        """A sale that has to be right."""

        month: date = column(key=True)
        id: str = column(key=True)
        product: str = column(nullable=True)
        amount: int = column(ge=0, level="fail")

    strict = declared(Strict)
    land(shop, (JAN, "1", None, 1))
    refresh(shop, strict)
    version = shop.table("shop.silver.sales").version()
    land(shop, (JAN, "2", None, 2), (JAN, "3", None, -1))
    with pytest.raises(ContractBroken, match=r"1 of 2 rows break rule amount_ge"):
        refresh(shop, strict)
    assert shop.table("shop.silver.sales").version() == version
    assert rejected(shop) == []


def test_a_commit_carries_the_fingerprints_of_its_contract_and_rules(shop):
    list_products(shop, ("p", True))
    land(shop, (JAN, "1", "p", 1), (JAN, "2", "q", 1))
    refresh(shop)
    for name in ("shop.silver.sales", "shop.silver.sales__quarantine"):
        info = shop.table(name).history(1)[0]["info"]
        assert info["contract"] == fingerprint(Sale)
        assert json.loads(info["rules"]) == {found.name: found.fingerprint for found in SALES.rules}
        assert json.loads(info["references"]) == {"shop.silver.products": 1}


def test_a_contract_is_recorded_once(shop):
    for number in range(3):
        land(shop, (JAN, f"{number}", None, 1))
        refresh(shop)
    log = shop.table(contracts.LOG).scan().collect()
    assert log.select("table", "fingerprint").rows() == [("shop.silver.sales", fingerprint(Sale))]
    assert contracts.recorded(SALES, shop)["rules"][1]["name"] == "month_not_null"


def test_two_runs_at_once_record_a_contract_once(shop):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: contracts.record(SALES, shop, f"run {number}"), range(8)))
    assert shop.table(contracts.LOG).count() == 1


def test_going_back_to_an_older_contract_is_known(shop):
    class Changed(Sale, max_bad_rows=9):
        """Changed for a while."""

    for number, one in enumerate([SALES, declared(Changed), SALES]):
        land(shop, (JAN, f"{number}", None, 1))
        refresh(shop, one)
        assert contracts.recorded(SALES, shop)["fingerprint"] == fingerprint(one.contract)
    assert shop.table(contracts.LOG).count() == 2


# --- monitors


def test_which_monitors_a_table_has():
    class Fresh(Contract, fresh_by="month", fresh_within=timedelta(days=40)):
        """A fresh one."""

        month: date = column()
        amount: int

    whole = table("shop.gold.all", contract=Fresh, kind=Full(), inputs={"rows": "shop.bronze.sales"})(lambda rows: rows)
    assert words(SALES) == {"volume"}
    assert words(declared(Fresh)) == {"volume", "freshness"}
    assert words(whole) == {"freshness"}


def test_monitors_judge_the_table_also_when_nothing_is_new(shop):
    class Fresh(Sale, fresh_by="month", fresh_within=timedelta(days=40)):
        """A fresh one."""

    asset = declared(Fresh)
    assert said_of(asset, shop, datetime(2024, 1, 1, tzinfo=UTC))["freshness"].passed is None
    land(shop, (JAN, "1", None, 1))
    refresh(shop, asset)
    assert said_of(asset, shop, datetime(2024, 2, 1, tzinfo=UTC))["freshness"].passed
    late = said_of(asset, shop, datetime(2024, 3, 1, tzinfo=UTC))
    assert not late["freshness"].passed
    assert late["volume"].text.startswith("Not evaluated: 0 earlier Fridays")


def test_rows_of_a_full_refresh_did_not_come_today(shop):
    land(shop, (JAN, "1", None, 1), (JAN, "2", None, 1))
    refresh(shop)
    full_refresh(Refresh(SALES, shop, "run"))
    assert usual_volume(shop.table("shop.silver.sales"), shop, datetime.now(UTC)).numbers["rows_today"] == 2


# --- what a changed contract breaks


class Revenue(Contract):
    """Revenue of a product."""

    product: str = column(key=True)
    amount: int


@table("shop.gold.revenue", contract=Revenue, kind=Full(), inputs={"rows": "shop.silver.sales"}, owner="team:finance")
def revenue(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Revenue by product."""
    return rows.group_by("product").agg(pl.col("amount").sum())


def sale(name: str = "Sale", *, annotations: dict[str, Any] | None = None, drop: tuple[str, ...] = (), **columns: Any) -> type[Contract]:
    fields = {"month": column(key=True), "id": column(key=True), "product": column(nullable=True), "amount": column(ge=0)}
    types = {"month": date, "id": str, "product": str, "amount": int} | (annotations or {})
    kept = {field: value for field, value in (fields | columns).items() if field not in drop}
    body = {"__annotations__": {field: types[field] for field in kept if field in types}, "__module__": __name__, "__doc__": "A sale."}
    return type(name, (Contract,), body | kept, max_bad_share=1.0)


def compared(shop, after: type[Contract], *others: TableDeclaration, **how):
    """The contract `sale()` under which the table was written, held against another."""
    before = declared(sale(), **how)
    land(shop, (JAN, "1", "p", 1), (JAN, "2", None, 20))
    refresh(shop, before)
    changed = declared(after, **how)
    return contract_changes(changed, [changed, *others], shop)


def test_an_unchanged_contract_breaks_nothing(shop):
    done = compared(shop, sale(), revenue)
    assert (done.changes, done.breaks, done.notes) == ((), (), ())
    assert done.before == done.after


def test_a_table_that_was_never_written_has_nothing_to_break(shop):
    done = contract_changes(SALES, [SALES], shop)
    assert done.breaks == ()
    assert "not written yet" in done.notes[0]


def test_a_stored_table_that_cannot_follow_needs_a_full_refresh(shop):
    done = compared(shop, sale(annotations={"amount": str, "note": str}, amount=column(), note=column(nullable=True)))
    assert [(broken.whom, broken.text) for broken in done.breaks] == [
        ("stored table", "column amount is Int64 instead of String: `lakehouse run shop.silver.sales --full-refresh` is needed")
    ]


def test_what_the_next_run_evolves_is_noted(shop):
    done = compared(shop, sale(annotations={"note": str}, note=column(nullable=True)))
    assert done.breaks == ()
    assert done.notes == ("The next run adds the column note (String); it is null in the rows that exist.",)


def test_stored_rows_that_break_a_new_rule_are_counted(shop):
    done = compared(shop, sale(product=column(), amount=column(ge=0, lt=10)))
    texts = [broken.text for broken in done.breaks]
    assert texts == ["1 stored rows break product_not_null (product: not null)", "1 stored rows break amount_lt (amount < 10)"]


def test_stored_rows_that_only_a_warning_is_about_are_noted(shop):
    done = compared(shop, sale(amount=column(ge=0, lt=10, level="warn")))
    assert done.breaks == ()
    assert done.notes == ("1 stored rows break amount_lt (amount < 10); it only warns.",)


def test_readers_that_fail_are_named_with_their_owner(shop):
    done = compared(shop, sale(drop=("amount",)), revenue)
    (reader,) = [broken for broken in done.breaks if broken.whom == "shop.gold.revenue"]
    assert reader.owner == "team:finance"
    assert "amount" in reader.text


def test_readers_whose_own_contract_would_break_are_named(shop):
    done = compared(shop, sale(annotations={"amount": float}), revenue)
    (reader,) = [broken for broken in done.breaks if broken.whom == "shop.gold.revenue"]
    assert reader.text == "column amount is Float64, the contract says Int64"


def test_who_references_a_column_that_goes_is_named(shop):
    class Refund(Contract):
        """A refund."""

        month: date
        product: str = column(references="shop.silver.sales.product")

    refunds = declared(Refund, name="shop.silver.refunds")
    done = compared(shop, sale(drop=("product",)), refunds)
    (broken,) = [broken for broken in done.breaks if broken.whom == "shop.silver.refunds"]
    assert "its column product references shop.silver.sales.product" in broken.text


def test_a_new_key_that_stored_rows_do_not_have_is_counted(shop):
    land(shop, (JAN, "x", None, 3))
    done = compared(shop, sale(id=column()))
    assert [broken.text for broken in done.breaks] == [
        "its key was month, id, and now is month: `lakehouse run shop.silver.sales --full-refresh` is needed",
        "2 stored rows break key_unique (no two rows have the same month)",
    ]


def test_a_reader_that_cannot_be_tried_is_not_blamed(shop):
    @table("shop.gold.first", contract=Revenue, kind=Full(), inputs={"rows": "shop.silver.sales"})
    def first(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.filter(pl.col("amount") > rows.select("amount").collect().row(0)[0])

    done = compared(shop, sale(amount=column()), first)
    assert done.breaks == ()
    assert "cannot be tried without rows" in done.notes[0]


def test_a_table_that_adds_rows_is_also_checked_against_its_key():
    names = [found.name for found in SALES.rules]
    feed_rules_of = [found.rule.name for found in feed_rules(Sale)]
    assert names == [*(found.name for found in rules_of(Sale)), *feed_rules_of, "key_unique"]
    assert "key_unique" not in [found.name for found in declared(kind=Upsert(("month", "id"))).rules]


def test_every_table_of_the_products_can_be_tried_without_rows(shop):
    """So a changed contract of any of them finds the readers that it breaks."""
    found = load(products)
    schemas = _schemas(list(found.declarations), shop)
    tried = [one for one in found.tables if not isinstance(one, Predictions)]
    assert {one.name: _problem(one, schemas) for one in tried} == dict.fromkeys((one.name for one in tried), "")

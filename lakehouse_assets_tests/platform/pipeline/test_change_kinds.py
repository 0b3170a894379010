"""Tables of change feeds and snapshots follow their sources: what is refused is in quarantine, and every row is accounted for."""

from datetime import UTC, datetime

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.change_kinds import SCD1, SCD2
from lakehouse_assets.platform.declarations.snapshots import SNAPSHOT_COMPLETE
from lakehouse_assets.platform.declarations.tables import table
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.layout import FullRefreshNeeded
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.pipeline.replay import Replays
from lakehouse_assets.platform.pipeline.selection import Selection
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

COLUMNS = {"id": pl.String(), "sequence": pl.Int64(), "price": pl.Int64(), "is_deleted": pl.Boolean()}
BRONZE = pl.Schema({**COLUMNS, "_file": pl.String(), "_sequence": pl.Int64(), "_row": pl.Int64()})
START = datetime(2024, 1, 1, tzinfo=UTC)


class Article(Contract, max_bad_share=1.0):
    """An article."""

    id: str = column(key=True)
    sequence: int = column(key=True)
    valid_from: Timestamp
    is_deleted: bool
    price: int = column(ge=0, nullable=True)


def declared(kind, contract=Article):
    @table("shop.silver.articles", contract=contract, kind=kind, inputs={"rows": "shop.bronze.articles"})
    def articles(rows: pl.LazyFrame) -> pl.LazyFrame:
        """Articles."""
        return rows.with_columns(valid_from=pl.lit(START) + pl.duration(days="sequence"))

    return articles


WHOLE = SCD2(("id",), sequence_by="sequence", snapshot=True)
LAST = SCD1(("id",), sequence_by="sequence", snapshot=True)


@pytest.fixture
def shop(tmp_path):
    lakehouse = Lakehouse(str(tmp_path))
    lakehouse.table("shop.bronze.articles").create(BRONZE)
    return lakehouse


def land(shop, number, keys, price=1):
    land_rows(shop, [(str(id_), number, price, False) for id_ in keys])


def land_rows(shop, rows):
    bronze = shop.table("shop.bronze.articles")
    file = bronze.version() + 1
    bronze.append(pl.DataFrame([(*row, f"{file}.csv", file, at) for at, row in enumerate(rows, 1)], BRONZE, orient="row"))


def refresh(shop, kind):
    return Refresh(declared(kind), shop, "run").run()


def current(shop):
    rows = shop.table("shop.silver.articles").scan().collect()
    if "valid_to" in rows.columns:
        rows = rows.filter(pl.col("valid_to").is_null())
    return set(rows.filter(~pl.col("is_deleted"))["id"])


def quarantined(shop):
    rows = shop.table("shop.silver.articles__quarantine").scan().collect()
    return sorted(set(zip(rows["sequence"], map(tuple, rows["_broken"]), strict=True)))


REFUSED = (SNAPSHOT_COMPLETE,)


@pytest.mark.parametrize("kind", [WHOLE, LAST], ids=["SCD2", "SCD1"])
def test_a_snapshot_that_is_cut_off_is_quarantined_and_the_others_of_its_batch_are_taken(shop, kind):
    land(shop, 1, range(40))
    land(shop, 2, range(10))
    land(shop, 3, range(38))
    done = refresh(shop, kind)
    assert current(shop) == {str(id_) for id_ in range(38)}
    assert quarantined(shop) == [(2, REFUSED)]
    assert (done.account.rows_in, done.account.quarantined, done.account.balanced) == (88, 10, True)
    (evidence,) = (found for found in done.evidence if found.rule.name == SNAPSHOT_COMPLETE)
    assert evidence.broken == 10
    assert "it lacks 30 of the 40 keys that were current before it" in evidence.rule.text


EVENTS = SCD2(("id",), sequence_by="sequence")


def intervals(shop):
    rows = shop.table("shop.silver.articles").scan().sort("id", "sequence").select("id", "sequence", "price", "is_current")
    return rows.collect().rows()


@pytest.mark.parametrize("partition_by", [(), ("id",)])
def test_a_full_refresh_moves_intervals_between_their_partitions(shop, partition_by):
    def with_prices(prices):
        @table("shop.silver.articles", contract=Article, kind=EVENTS, inputs={"rows": "shop.bronze.articles"}, partition_by=partition_by)
        def articles(rows: pl.LazyFrame) -> pl.LazyFrame:
            """Articles."""
            rows = rows.with_columns(valid_from=pl.lit(START) + pl.duration(days="sequence"))
            return rows.with_columns(price=pl.col("sequence").replace_strict(prices, default=pl.col("price")))

        return articles

    land_rows(shop, [("a", 1, 5, False), ("b", 1, 5, False), ("a", 2, 6, False), ("c", 1, 7, False)])
    Refresh(with_prices({}), shop, "run").run()
    assert intervals(shop) == [("a", 1, 5, False), ("a", 2, 6, True), ("b", 1, 5, True), ("c", 1, 7, True)]
    stored = shop.table("shop.silver.articles")
    assert stored.delta().metadata().partition_columns == [*partition_by, "is_current"]

    before = stored.version()
    full_refresh(Refresh(with_prices({2: 5}), shop, "again"))  # the change of a is none any more
    assert intervals(shop) == [("a", 1, 5, True), ("b", 1, 5, True), ("c", 1, 7, True)]
    feed = stored.change_feed(before, stored.version()).select("_change_type", "id", "sequence", "is_current").collect()
    assert sorted(feed.rows()) == [
        ("delete", "a", 2, True),
        ("update_postimage", "a", 1, True),
        ("update_preimage", "a", 1, False),
    ]
    land_rows(shop, [("b", 2, 9, False), ("c", 0, 1, False), ("a", 3, 0, True)])
    Refresh(with_prices({2: 5}), shop, "run").run()
    assert intervals(shop) == [("a", 1, 5, False), ("a", 3, 0, False), ("b", 1, 5, True), ("c", 0, 1, False), ("c", 1, 7, True)]


@pytest.mark.parametrize("kind", [WHOLE, EVENTS], ids=["snapshots", "events"])
def test_a_table_that_was_stored_without_the_partition_of_current_rows_needs_a_full_refresh(shop, kind, monkeypatch):
    land(shop, 1, range(3))
    land(shop, 2, range(3), price=2)
    stored = shop.table("shop.silver.articles")
    with monkeypatch.context() as before:
        before.setattr(SCD2, "partition_by", lambda _, partition_by: partition_by)
        refresh(shop, kind)
    table_id, version = stored.now().metadata().id, stored.version()

    land(shop, 3, range(3), price=3)
    with pytest.raises(FullRefreshNeeded, match=r"partitioned by nothing, and now by is_current.*--full-refresh"):
        refresh(shop, kind)
    full_refresh(Refresh(declared(kind), shop, "full"))
    assert stored.delta().metadata().partition_columns == ["is_current"]
    assert (stored.now().metadata().id, stored.version() > version) == (table_id, True)
    assert intervals(shop) == [(str(id_), number, number, number == 3) for id_ in range(3) for number in (1, 2, 3)]


def test_a_better_snapshot_of_the_same_time_is_taken(shop):
    land(shop, 1, range(40))
    refresh(shop, WHOLE)
    land(shop, 2, range(10))
    assert refresh(shop, WHOLE).account == RowAccount(10, quarantined=10)
    land(shop, 2, range(39))
    refresh(shop, WHOLE)
    assert current(shop) == {str(id_) for id_ in range(39)}


def test_a_refused_snapshot_gets_in_by_a_higher_limit_and_a_full_refresh(shop):
    land(shop, 1, range(40))
    land(shop, 2, range(10))
    land(shop, 3, range(39))
    refresh(shop, WHOLE)
    as_told = shop.table("shop.silver.articles").count()
    lenient = SCD2(("id",), sequence_by="sequence", snapshot=True, retire_at_most=0.9)
    done = full_refresh(Refresh(declared(lenient), shop, "run"))
    assert done.account.balanced
    assert quarantined(shop) == []
    history = shop.table("shop.silver.articles").scan().filter(id="20").sort("sequence").collect()
    assert history["is_deleted"].to_list() == [False, True, False]
    full_refresh(Refresh(declared(WHOLE), shop, "run"))
    assert quarantined(shop) == [(2, REFUSED)]
    assert shop.table("shop.silver.articles").count() == as_told


@pytest.mark.parametrize("kind", [WHOLE, LAST], ids=["SCD2", "SCD1"])
def test_a_run_that_died_after_the_quarantine_comes_to_the_same_verdicts(shop, kind, monkeypatch):
    land(shop, 1, range(40))
    refresh(shop, kind)
    land(shop, 2, range(10))
    land(shop, 3, range(38), price=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(kind), "write", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        refresh(shop, kind)
    assert quarantined(shop) == [(2, REFUSED)]
    land(shop, 4, range(36), price=2)
    refresh(shop, kind)
    assert quarantined(shop) == [(2, REFUSED)]
    assert shop.table("shop.silver.articles__quarantine").count() == 10
    assert current(shop) == {str(id_) for id_ in range(36)}


@pytest.mark.parametrize("kind", [WHOLE, LAST], ids=["SCD2", "SCD1"])
def test_a_row_that_breaks_a_rule_does_not_retire_its_key(shop, kind):
    land(shop, 1, range(40))
    refresh(shop, kind)
    land(shop, 2, range(3), price=-1)
    land(shop, 2, range(3, 40))
    refresh(shop, kind)
    assert current(shop) == {str(id_) for id_ in range(40)}
    assert quarantined(shop) == [(2, ("price_ge",))]
    land(shop, 3, range(3, 40))
    refresh(shop, kind)
    assert current(shop) == {str(id_) for id_ in range(3, 40)}


def test_a_replay_lets_a_refused_snapshot_in_only_if_the_limit_does(shop):
    land(shop, 1, range(40))
    land(shop, 2, range(30))
    land(shop, 3, range(39))
    refresh(shop, WHOLE)
    still = Replays(declared(WHOLE), shop, "replay").run(Selection())
    assert (still.selected, still.released, still.rejected) == (30, 0, {SNAPSHOT_COMPLETE: 30})
    lenient = Replays(declared(SCD2(("id",), sequence_by="sequence", snapshot=True, retire_at_most=0.25)), shop, "replay")
    assert lenient.run(Selection()).released == 30
    history = shop.table("shop.silver.articles").scan().filter(id="35").sort("sequence").collect()
    assert history["is_deleted"].to_list() == [False, True, False]


def test_events_become_the_latest_state_in_any_order(shop):
    rows = [("a", 2, 7, False), ("b", 3, None, True), ("a", 1, 5, False), ("b", 1, 4, False)]
    kind = SCD1(("id",), sequence_by="sequence")
    for row in rows:
        land_rows(shop, [row])
        assert refresh(shop, kind).account.balanced
    found = shop.table("shop.silver.articles").scan().sort("id").select(list(COLUMNS)).collect()
    assert found.rows() == [("a", 2, 7, False), ("b", 3, None, True)]


class Keyless(Contract):
    """Without the number in its key, which may be missing."""

    id: str = column(key=True)
    sequence: int = column(nullable=True)
    valid_from: Timestamp
    is_deleted: bool


class Undeletable(Contract):
    """Without a word on deletions."""

    id: str = column(key=True)
    sequence: int = column(key=True)
    valid_from: Timestamp


@pytest.mark.parametrize(
    ("kind", "contract", "message"),
    [
        (WHOLE, Keyless, "SCD2 needs a column sequence that is never null"),
        (LAST, Undeletable, "SCD1 needs a column is_deleted that is never null"),
        (SCD2(("price",), sequence_by="sequence"), Article, "SCD2 needs a column price that is never null"),
        (SCD2(("is_deleted",), sequence_by="sequence"), Article, "SCD2 has .is_deleted. in its key"),
        (SCD2(("id",), sequence_by="sequence", unversioned=("colour",)), Article, "unversioned names 'colour'"),
        (SCD2(("id",), sequence_by="sequence", snapshot=True, retire_at_most=20), Article, "share between 0 and 1, not 20"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_before_any_row(kind, contract, message):
    with pytest.raises(DeclarationError, match=message):
        declared(kind, contract)

"""`POST /features`: many entities and several feature sets in one request, with types checked, masked and written down."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakehouse_assets import ByKey, Contract, Timestamp, column, feature_set, open_lakehouse
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.features.online.forms import Needs
from lakehouse_assets.platform.features.online.opening import online_store
from lakehouse_assets.platform.features.online.sync import sync
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.serving.service import Service
from lakehouse_assets.platform.serving.tokens import TokenFile
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.features.online.conftest import RedisServer
from lakehouse_assets_tests.platform.serving import busy, till
from lakehouse_assets_tests.platform.serving.asking import PATIENT, Connection
from lakehouse_assets_tests.platform.serving.till import listening, until

SETS = [busy.in_shops.name, till.of_shops.name]


class Owner(Contract):
    """Who runs a shop."""

    shop: str = column(key=True)
    at: Timestamp = column(key=True)
    known_at: Timestamp
    name: str = column(personal=True)
    born: int = column(personal=True)
    since: int


@feature_set("till.features.owners", contract=Owner, entity=("shop",), event_time="at", kind=ByKey("shop"),
             inputs={"rows": "till.gold.receipts"})  # fmt: skip
def owners(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Who runs each shop."""
    found = rows.group_by("shop").agg(pl.col("at").max(), pl.col("at").max().alias("known_at"))
    return found.with_columns(name=pl.lit("Ann"), born=pl.lit(1970, pl.Int64), since=pl.lit(2001, pl.Int64))


@pytest.fixture(params=["embedded", "redis"])
def root(request, settings, tmp_path):
    if request.param == "embedded":
        yield Root(settings)
        return
    server = RedisServer(tmp_path)
    yield Root(Settings.load({"LAKEHOUSE_ROOT": str(settings.root), "LAKEHOUSE_ONLINE_STORE": server.address}))
    server.stop()


def read_lines(root: Root) -> list[dict]:
    files = sorted((root.settings.home_folder / "audit").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.mark.timeout(180)
def test_many_entities_of_several_sets_are_what_the_tables_say(root):
    busy.prepared(root)
    service = busy.service_of(root)
    now = datetime.now(UTC)
    with listening(service) as address, Connection(address) as connection:
        until(lambda: busy.is_ready(service))
        keys = [{"shop": shop} for shop in ("b", "a", "none", "a")]
        status, answer = connection.post("/features", {"feature_sets": SETS, "keys": keys})
        assert status == 200, answer
        rows = answer["rows"]
        assert len(rows) == 4
        assert rows[1] == rows[3]
        assert {name for row in rows for name in row} == set(SETS)
        assert now - datetime.fromisoformat(answer["synced_at"][SETS[0]]) < timedelta(minutes=2)

        # The newest row of each shop, as it is in the feature table.
        table = root.lakehouse.table(busy.in_shops.name).scan().collect()
        for row, shop in ((rows[0], "b"), (rows[1], "a")):
            newest = table.filter(shop=shop).sort("at").row(-1, named=True)
            assert row[SETS[0]]["status"] == "ok"
            assert row[SETS[0]]["values"] == {name: newest[name] for name in busy.in_shops.columns}
            assert datetime.fromisoformat(row[SETS[0]]["event_time"]) == newest["at"]
            assert (row[SETS[1]]["status"], row[SETS[1]]["values"]) == ("ok", {"returns": 0.1})
        # Without a row there are the defaults.
        assert rows[2] == {
            SETS[0]: {"status": "missing", "values": dict.fromkeys(busy.in_shops.columns)},
            SETS[1]: {"status": "missing", "values": {"returns": 0.5}},
        }
        assert connection.post("/features", {"feature_sets": [SETS[1]], "keys": [{"shop": "a"}]})[1]["rows"][0].keys() == {SETS[1]}

    one = next(line for line in read_lines(root) if line["what"] == "online" and line["rows"] == 4)
    names = [table.partition("@")[0] for table in one["tables"]]
    assert names == ["till.gold.receipts", till.of_shops.name]
    assert one["columns"] == [*busy.in_shops.columns, "returns"]
    assert one["principal"]


def test_what_is_wrong_is_said_by_row_and_field(settings):
    root = Root(settings)
    busy.prepared(root, 10)
    service = busy.service_of(root, limits=replace(PATIENT, request_rows=3))
    one = {"feature_sets": [SETS[1]], "keys": [{"shop": "a"}]}
    with listening(service) as address, Connection(address) as connection:
        for change, expected, field in (
            ({"keys": [{"shop": "a"}, {"shop": 7}]}, 422, "shop"),
            ({"keys": [{"shop": "a"}, {}]}, 422, "shop"),
            ({"keys": [{"shop": "a", "more": 1}]}, 422, "more"),
            ({"keys": {"shop": "a"}}, 422, None),
            ({"keys": []}, 422, "keys"),
            ({"keys": [{"shop": "a"}] * 4}, 413, None),
            ({"feature_sets": []}, 422, "feature_sets"),
            ({"feature_sets": ["till.features.none"]}, 422, "feature_sets"),
            ({"feature_sets": SETS[0]}, 422, None),
            ({"others": 1}, 422, None),
        ):
            status, answer = connection.post("/features", one | change)
            assert status == expected, answer
            assert field is None or [error["field"] for error in answer["errors"]] == [field], answer
        assert connection.post("/features", b"{")[0] == 400
        assert connection.get("/features")[0] == 405
        assert connection.post("/features", one)[0] == 200


def test_it_needs_a_token_for_features_and_masks_what_is_personal(settings):
    root = Root(Settings.load({"LAKEHOUSE_ROOT": str(settings.root), "LAKEHOUSE_SHOW_PERSONAL": "owner"}))
    busy.prepared(root, 10)
    declared = (*busy.DECLARED, owners)
    catalog = Catalog(declared, busy.CATALOG.external)
    Runner(catalog, root.lakehouse, root.ingestion, root.registry, 1).run([owners.name], run_id="owners")
    with closing(online_store(root.settings)) as store:
        sync(store, root.lakehouse, owners, Needs(lambda _: ()))
    lake = open_lakehouse(settings=root.settings, declarations=declared, notice=lambda _: None)
    made = TokenFile(root.settings.home_folder)
    tokens = {name: f"Bearer {made.create(name, [name])[1]}" for name in ("features", "score")}
    service = Service(root, catalog, lake.context.reader, busy.StoreOnline(root.settings), PATIENT, tokens_needed=True)
    body = {"feature_sets": [owners.name], "keys": [{"shop": "a"}]}
    with listening(service) as address, Connection(address) as connection:
        assert connection.post("/features", body)[0] == 401
        assert connection.post("/features", body, {"Authorization": tokens["score"]})[0] == 403
        status, answer = connection.post("/features", body, {"Authorization": tokens["features"]})
        assert status == 200, answer
    assert answer["rows"][0][owners.name]["values"] == {"name": "•••", "born": None, "since": 2001}
    line = read_lines(root)[-1]
    assert (line["principal"], line["masked"], line["rows"]) == ("features", ["name", "born"], 1)
    assert line["tables"] == [f"{owners.name}@{root.lakehouse.table(owners.name).version()}"]

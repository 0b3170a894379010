"""The OpenAPI document: every path that there is, and examples that the service itself takes."""

from datetime import timedelta
from urllib.parse import urlencode

import polars as pl
import pytest

from lakehouse_assets import Feed, feed
from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.till import (
    AT,
    DECLARED,
    Till,
    constant,
    listening,
    of_receipts,
    of_shops,
    receipt,
    receipts,
    settings_in,
    until,
)

ORDERS = feed("till.bronze.orders", Feed("orders", headers=(("id", "value"),), format="jsonl", row_id="id"), description="Orders.")
NOTES = feed("till.bronze.notes", Feed("notes", headers=(("note",),), format="jsonl"), description="Notes, which have no id.")


@pytest.fixture(scope="module", params=["default", "refuse"])
def served(request, tmp_path_factory):
    till = Till(settings_in(tmp_path_factory.mktemp("till")))
    till.promote(till.add(constant(0.75)))
    old = [receipt(100 + number, note="old") | {"at": AT - timedelta(days=700 - number)} for number in range(20)]
    new = [receipt(number, note="secret") | {"at": AT + timedelta(minutes=number)} for number in (1, 2, 3)]
    rows = pl.DataFrame([*old, *new], schema=receipts.schema)
    till.root.lakehouse.table(receipts.name).create(receipts.schema)
    till.root.lakehouse.table(receipts.name).append(rows)
    features = of_receipts(rows=rows.lazy()).collect()
    table = till.root.lakehouse.table(of_receipts.name)
    table.create(features.schema)
    table.append(features)
    till.root.lakehouse.table(of_shops.name).create(of_shops.schema)
    service = till.service(declared=(*DECLARED, ORDERS, NOTES), missing=request.param)
    with listening(service) as address, Connection(address) as connection:
        until(lambda: service.served["receipts"].versions is not None)
        yield service, connection


def test_every_path_of_the_service_is_described(served):
    service, connection = served
    described = set(connection.get("/openapi.json")[1]["paths"])
    named = {"name": "receipts", "version": "1", "feed": "orders"}
    for route in service.application()._others.routes:
        path = route.path if route.path.startswith("/features") else route.path.format(**named)
        if path in {"/", "/openapi.json", "/endpoints/receipts/ping", "/endpoints/receipts/version"} or "/versions/" in path:
            continue
        assert path.replace("{name}", of_receipts.name) in described
    assert {*service.lookups.posts} <= described


def test_every_example_is_taken(served):
    _, connection = served
    _, document = connection.get("/openapi.json")
    sent = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            given = {one["name"]: one["example"] for one in operation.get("parameters", ()) if "example" in one}
            if method == "get":
                query = urlencode(dict(given.items()), doseq=True)
                status, answer = connection.get(f"{path}?{query}")
                assert status == 200, (path, answer)
                continue
            for name, example in operation["requestBody"]["content"]["application/json"].get("examples", {}).items():
                status, answer = connection.post(path, example["value"], given)
                assert status == 200, (path, name, example, answer)
                sent.append((path, name))
    assert {("/endpoints/receipts", one) for one in ("rows", "features", "keys", "one")} <= set(sent)
    for path in ("/ingest/orders", "/ingest/notes", "/feedback", "/invocations", "/v2/models/receipts/infer", "/reload", "/features"):
        assert any(path == of for of, _ in sent), path


def test_examples_are_the_newest_rows(served):
    """Of the oldest the online store knows nothing any more, so answers to them would not be those that people see."""
    operation = served[1].get("/openapi.json")[1]["paths"]["/endpoints/receipts"]["post"]
    shown = operation["requestBody"]["content"]["application/json"]["examples"]
    for form in ("rows", "features", "keys"):
        assert [one["receipt"] for one in shown[form]["value"][form]] == ["r3", "r2", "r1"]
    assert shown["one"]["value"]["receipt"] == "r3"


def test_stored_features_are_asked_for_as_the_document_says(served):
    _service, connection = served
    operation = connection.get("/openapi.json")[1]["paths"][f"/features/{of_receipts.name}"]["get"]
    (key,) = operation["parameters"]
    assert (key["name"], key["required"], key["schema"]["minItems"]) == ("key", True, 1)
    status, answer = connection.get(f"/features/{of_receipts.name}")
    assert (str(status) in operation["responses"], answer["errors"][0]["field"]) == (True, "key")

"""The service's own protocol by a real server: what is answered, and what is said of what cannot be."""

import json
from dataclasses import replace
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from lakehouse_assets import endpoint
from lakehouse_assets_tests.platform.serving.till import Till, constant, listening, receipt, settings_in, until


def ask(address: str, body: Any, path: str = "/endpoints/receipts", headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Status and JSON of an answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request(address + path, content, {"Content-Type": "application/json", **(headers or {})})
    try:
        with urlopen(request, timeout=30) as found:
            return found.status, json.load(found)
    except HTTPError as error:
        return error.code, json.load(error)


def get(address: str, path: str) -> tuple[int, Any]:
    try:
        with urlopen(address + path, timeout=30) as found:
            text = found.read().decode()
            return found.status, json.loads(text) if "json" in found.headers["content-type"] else text
    except HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    till = Till(settings_in(tmp_path_factory.mktemp("till")))
    till.promote(till.add(constant(0.75)))
    service = till.service()
    with listening(service) as address:
        until(lambda: service.served["receipts"].versions is not None)
        yield address, till, service


def test_one_event_and_many_are_answered_in_their_order(served):
    address, _, _ = served
    status, answer = ask(address, receipt(7))
    assert status == 200, answer
    assert answer["model_name"] == "till.models.returned"
    assert answer["predictions"] == [{"receipt": "r7", "probability": 0.75, "decision": "hold", "model_version": 1, "variant": "champion"}]
    status, many = ask(address, {"rows": [receipt(number) for number in (3, 1, 2)]})
    assert status == 200
    assert [row["receipt"] for row in many["predictions"]] == ["r3", "r1", "r2"]
    assert many["request_id"] != answer["request_id"]


OPEN = ("/invocations", "/ping", "/v2", "/health", "/ready", "/version", "/metrics", "/openapi.json")
"""Beginnings of paths of open protocols, and of those that tell of the service, whose clients may add parameters; `/` as well."""


def test_a_parameter_that_there_is_not_is_refused_by_every_own_path(served):
    address, _, service = served
    before = service.log.state().appended
    told = {}
    for path, methods in get(address, "/openapi.json")[1]["paths"].items():
        if path == "/" or path.startswith(OPEN) or path.endswith(("/invocations", "/ping", "/version")):
            continue
        for method in methods:
            filled = path.replace("{feed}", "none").replace("{name}", "receipts")
            status, answer = (
                ask(address, receipt(1), f"{filled}?explian=true") if method == "post" else get(address, f"{filled}?explian=true")
            )
            (error,) = answer["errors"]
            assert (status, error["field"]) == (422, "explian"), (path, answer)
            told[path] = error["message"]
    assert told["/endpoints/receipts"] == "there is no parameter 'explian': there are explain, dry_run. Did you mean explain?"
    assert told["/features/till.features.shops"] == "there is no parameter 'explian': there are key."
    assert told["/reload"] == told["/feedback"] == told["/features"] == "there is no parameter 'explian': this path takes none"
    assert service.log.state().appended == before + 1, "the refused request to the endpoint, and no other"
    assert (
        ask(address, receipt(1), "/endpoints/receipts?explain")[1]["errors"][0]["message"]
        == "explain='': write explain=true or explain=false"
    )
    for path in ("/health", "/ready", "/metrics", "/v2/models/receipts", "/ping"):
        assert get(address, f"{path}?since=1")[0] == 200
    assert ask(address, {"inputs": {}}, "/invocations?since=1") == ask(address, {"inputs": {}}, "/invocations")


def test_an_answer_says_which_features_were_missing(served):
    address, _, _ = served
    _, answer = ask(address, {"rows": [receipt(1), receipt(2, shop="unknown")]})
    assert [row.get("features") for row in answer["predictions"]] == [None, {"missing": ["till.features.shops"]}]


def test_full_rows_of_features_need_neither_key_nor_look_up(served):
    address, till, service = served
    row = {"amount": 3.0, "each": 1.0, "shop": "zz", "has_note": False, "shop_returns": None}
    named = {"receipt": "r5", "at": "2024-03-01T00:00:00Z"}
    status, answer = ask(address, {"features": [row, row | named, row | {"receipt": "r6"}, row | {"at": named["at"]}]})
    assert status == 200, answer
    assert [row.get("receipt") for row in answer["predictions"]] == [None, "r5", "r6", None]
    # What was not sent is made up nowhere.
    assert service.log.flush()
    logged = till.root.lakehouse.table("till.inference.receipts").scan().filter(request_id=answer["request_id"]).sort("row").collect()
    given = [json.loads(text) for text in logged["features"]]
    assert [one.keys() & {"receipt", "at"} for one in given] == [set(), {"receipt", "at"}, {"receipt"}, {"at"}]
    assert [json.loads(text) for text in logged["key"]] == [{}, {"receipt": "r5"}, {"receipt": "r6"}, {}]
    assert "1970" not in json.dumps([answer, logged.to_dicts()], default=str)


BAD = [
    (receipt(amount="20"), 422, 0, "amount"),
    (receipt(amount=-1), 422, 0, "amount"),
    (receipt(items=0), 422, 0, "items"),
    (receipt(items=1.5), 422, 0, "items"),
    (receipt(at="2024-03-01T12:00:00"), 422, 0, "at"),
    (receipt(at="0001-01-01T00:00:00+14:00"), 422, 0, "at"),
    (receipt(at="2999-01-01T00:00:00Z"), 422, 0, "at"),
    (receipt(shop=None), 422, 0, "shop"),
    (receipt(shops="a"), 422, 0, "shops"),
    ({"rows": [receipt(1), receipt(2, amount=1e6, items=2)]}, 422, 1, None),
    ({"rows": [receipt(1), receipt(1)]}, 422, 1, "receipt"),
    ({"rows": []}, 422, None, None),
    ({"rows": [receipt()], "keys": []}, 422, None, "keys"),
    ({"keys": [{"receipt": "nowhere"}]}, 422, 0, "receipt"),
    (b"[1]", 422, None, None),
    (b"", 400, None, None),
    (b'{"receipt": NaN}', 400, None, None),
    (b'{"rows": ' * 5000, 400, None, None),
    (b"[" * 100_000, 422, None, None),
    (b'{"rows": [{"receipt": "\xff"}]}', 400, None, None),
]


@pytest.mark.parametrize(("body", "status", "row", "field"), BAD)
def test_what_is_wrong_is_said_by_row_and_field(served, body, status, row, field):
    address, _, _ = served
    found, answer = ask(address, body)
    assert found == status, answer
    first = answer["errors"][0]
    assert (first.get("row"), first.get("field")) == (row, field), answer
    assert first["message"]
    assert "Traceback" not in json.dumps(answer)


def test_an_unknown_endpoint_path_method_and_kind_of_body_are_told_as_json(served):
    address, _, _ = served
    assert ask(address, {}, "/endpoints/nothing")[0] == 404
    assert get(address, "/nothing")[0] == 404
    assert get(address, "/endpoints/receipts")[0] in {404, 405}
    status, answer = ask(address, b"receipt=1", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert (status, "application/json" in answer["errors"][0]["message"]) == (415, True)


def test_the_service_tells_of_itself(served):
    address, _, _ = served
    assert get(address, "/health") == (200, {"status": "ok"})
    status, ready = get(address, "/ready")
    assert (status, ready["endpoints"]["receipts"]["model_version"]) == (200, 1)
    assert ready["endpoints"]["receipts"]["features_synced_until"]["till.features.shops"]
    assert get(address, "/version")[1]["name"] == "lakehouse-assets"
    ask(address, receipt())
    status, metrics = get(address, "/metrics")
    assert (status, 'lakehouse_requests_total{endpoint="receipts",status="200"}' in metrics) == (200, True)
    assert "<html" in get(address, "/")[1]


def test_a_service_is_ready_once_all_of_its_endpoints_are(tmp_path):
    from lakehouse_assets_tests.platform.serving import till as declared

    other = replace(declared.returned, name="till.models.other")
    asked = endpoint(
        "others", predictions=replace(declared.scored, name="till.predictions.others", model=other), event="till.gold.receipts"
    )
    till = Till(settings_in(tmp_path))
    till.promote(till.add(constant(0.75)))
    service = till.service(declared=(*declared.DECLARED, other, asked.predictions, asked))
    with listening(service) as address:
        until(lambda: service.served["receipts"].versions is not None)
        status, ready = get(address, "/ready")
        assert (status, ready["ready"], {name: one["ready"] for name, one in ready["endpoints"].items()}) == (
            503,
            False,
            {"receipts": True, "others": False},
        )
        paths = [
            "/ready/receipts",
            "/ready/others",
            "/v2/models/receipts/ready",
            "/v2/models/others/ready",
            "/v2/health/ready",
            "/ready/no",
        ]
        assert [get(address, path)[0] for path in paths] == [200, 503, 200, 503, 503, 404]
        assert ask(address, receipt())[0] == 200


def test_the_openapi_document_describes_what_is_answered(served):
    import jsonschema

    address, _, _ = served
    status, document = get(address, "/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    schema = {"$ref": "#/components/schemas/receipts_answer", "components": document["components"]}
    jsonschema.validate(ask(address, receipt())[1], schema)
    event = {"$ref": "#/components/schemas/receipts_rows", "components": document["components"]}
    jsonschema.validate(receipt(), event)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(receipt(amount="1"), event)


def test_scored_events_become_part_of_the_windows(served):
    address, till, _ = served
    ask(address, receipt(99))
    until(lambda: any(event["receipt"] == "r99" for event in till.online.pushed))


def test_a_dry_run_is_answered_and_logged_and_counts_in_no_window(served):
    address, till, service = served
    status, answer = ask(address, receipt(7001), "/endpoints/receipts?dry_run=true")
    assert (status, answer["predictions"][0]["receipt"]) == (200, "r7001")
    ask(address, receipt(7002), "/endpoints/receipts?dry_run=false")
    until(lambda: any(event["receipt"] == "r7002" for event in till.online.pushed))
    assert not [event for event in till.online.pushed if event["receipt"] == "r7001"]
    assert service.log.flush()
    logged = till.root.lakehouse.table("till.inference.receipts")
    assert answer["request_id"] in logged.scan().collect()["request_id"].to_list()
    assert ask(address, receipt(1), "/endpoints/receipts?dry_run=perhaps")[1]["errors"][0]["field"] == "dry_run"
    parameters = get(address, "/openapi.json")[1]["paths"]["/endpoints/receipts"]["post"]["parameters"]
    assert "dry_run" in [one["name"] for one in parameters]
    assert "dry_run=${!$" in get(address, "/")[1]  # trying it counts no event, unless one says so


def test_labels_come_back_and_unknown_feeds_are_told(served):
    address, _, _ = served
    _, answer = ask(address, receipt(5))
    status, taken = ask(address, [{"request_id": answer["request_id"], "label": True}], "/feedback")
    assert (status, taken) == (200, {"accepted": 1})
    status, refused = ask(address, [{"label": True}], "/feedback")
    assert (status, refused["errors"][0]["row"]) == (422, 0)
    status, refused = ask(address, [{"a": 1}], "/ingest/nothing")
    assert (status, "there is no feed" in refused["errors"][0]["message"]) == (404, True)

"""Every answer names its request in a header, whatever the protocol and the outcome, and the log knows it under that name."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from lakehouse_assets.platform.serving.door import is_request_id
from lakehouse_assets_tests.platform.serving.till import INPUTS, Till, constant, listening, receipt, settings_in, until

ROWS = {"instances": INPUTS.to_dicts()}
TENSORS = {
    "inputs": [
        {"name": name, "shape": [2], "datatype": "BYTES", "data": values} for name, values in INPUTS.to_dict(as_series=False).items()
    ]
}
ASKED = [
    ("/endpoints/receipts", receipt(1), 200),
    ("/endpoints/receipts", {"features": INPUTS.to_dicts()}, 200),
    ("/endpoints/receipts", receipt(1, amount="1"), 422),
    ("/endpoints/receipts?explian=true", receipt(1), 422),
    ("/endpoints/nothing", receipt(1), 404),
    ("/endpoints/receipts", "{", 400),
    ("/invocations", ROWS, 200),
    ("/invocations", {"rows": []}, 422),
    ("/endpoints/receipts/invocations", ROWS, 200),
    ("/endpoints/receipts/invocations", "{", 400),
    ("/v2/models/receipts/infer", TENSORS, 200),
    ("/v2/models/receipts/infer", {"inputs": []}, 422),
    ("/v2/models/receipts/versions/9/infer", TENSORS, 404),  # not logged, as nothing answers there
    ("/features", {"feature_sets": [], "keys": []}, 422),
    ("/no/path", {}, 404),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    till = Till(settings_in(tmp_path_factory.mktemp("till")))
    till.promote(till.add(constant(0.75)))
    service = till.service()
    with listening(service) as address:
        until(lambda: service.served["receipts"].versions is not None)
        yield address, till, service


def ask(address: str, path: str, body: Any) -> tuple[int, str, dict[str, Any]]:
    """Status, the id in the header and the JSON of an answer."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    content = body if isinstance(body, str) else json.dumps(body)
    connection.request("POST", path, content, {"Content-Type": "application/json", "X-Request-Id": "mine"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    (found,) = answer.headers.get_all("x-request-id")
    return answer.status, found, json.loads(text)


def test_every_answer_has_the_id_of_its_request_and_the_log_as_well(served):
    address, till, service = served
    found: dict[str, tuple[str, int]] = {}
    for path, body, status in ASKED:
        said, request_id, answer = ask(address, path, body)
        assert said == status, (path, answer)
        assert is_request_id(request_id), (path, request_id)
        assert request_id not in found
        assert answer.get("request_id", request_id) == request_id
        assert answer.get("parameters", {}).get("request_id", request_id) == request_id
        found[request_id] = (path, status)
    until(service.log.flush)
    rows = till.root.lakehouse.table("till.inference.receipts").scan().select("request_id", "status_code").unique().collect()
    logged = dict(rows.iter_rows())
    assert logged == {
        one: status for one, (path, status) in found.items() if path.startswith(("/endpoints/r", "/inv")) or "receipts/i" in path
    }


def test_a_label_is_sent_with_the_id_of_an_answer_of_mlflow(served):
    address, till, service = served
    _, request_id, _ = ask(address, "/invocations", ROWS)
    status, _, answer = ask(address, "/feedback", {"request_id": request_id, "row": 1, "label": True})
    assert status == 200, answer
    until(service.log.flush)
    labels = till.root.lakehouse.table("till.inference.receipts_feedback").scan().select("request_id", "row").collect()
    assert (request_id, 1) in labels.rows()


def test_who_may_not_ask_is_told_an_id_as_well(tmp_path):
    till = Till(settings_in(tmp_path))
    with listening(till.service(tokens_needed=True)) as address:
        for path in ("/endpoints/receipts", "/invocations", "/v2/models/receipts/infer"):
            status, request_id, _ = ask(address, path, receipt(1))
            assert (status, is_request_id(request_id)) == (401, True)

"""A request that is refused is in the log once, with its status and without values; metrics count it, whatever its protocol."""

import json

import pytest

from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.till import Till, constant, listening, receipt, settings_in, until

SECRET = "Ada Lovelace"
REFUSED = [
    ("/endpoints/receipts", receipt(note=5, shop=SECRET, items=SECRET), 422),
    ("/endpoints/receipts", receipt() | {SECRET: 1}, 422),
    ("/endpoints/receipts", receipt(amount=-1.0, note=SECRET), 422),
    ("/endpoints/receipts", b'{"receipt": ', 400),
    ("/endpoints/receipts/invocations", {"instances": [{SECRET: SECRET}]}, 422),
    ("/invocations", [], 422),
    ("/v2/models/receipts/infer", {"inputs": [{"name": SECRET, "shape": [1], "datatype": "BYTES", "data": [SECRET]}]}, 422),
]


@pytest.mark.timeout(120)
def test_what_is_refused_is_logged_once_and_counted(tmp_path):
    till = Till(settings_in(tmp_path))
    till.promote(till.add(constant(0.75)))
    service = till.service()
    with listening(service) as address, Connection(address) as connection:
        until(lambda: service.served["receipts"].versions is not None)
        for path, body, status in REFUSED:
            assert connection.post(path, body)[0] == status, path
        assert connection.post("/endpoints/receipts", receipt())[0] == 200
        assert connection.post("/endpoints/none", receipt())[0] == 404
        counted = connection.get("/metrics")[1]
    assert service.log.flush() or service.log.state().waiting_bytes == 0
    rows = till.root.lakehouse.table("till.inference.receipts").scan().collect()
    assert rows["request_id"].is_unique().all()
    assert sorted(rows["status_code"]) == sorted([200, *(status for _, _, status in REFUSED)])
    refused = rows.filter(rows["status_code"] != 200)
    assert refused["error"].null_count() == 0
    assert set(refused["features"]) == {"{}"}
    assert SECRET not in json.dumps(refused.drop("received_at", "event_time", "date").to_dicts())
    assert 'lakehouse_requests_total{endpoint="receipts",status="422"} 6.0' in counted
    assert 'lakehouse_requests_total{endpoint="receipts",status="400"} 1.0' in counted
    assert 'lakehouse_requests_total{endpoint="none",status="404"} 1.0' in counted

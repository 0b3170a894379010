"""Whatever is sent, the answer is JSON with a reason: never a server error, never a trace. The OpenAPI document is kept by the service."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse_assets import Feed, feed
from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.till import DECLARED, INPUTS, Till, constant, listening, receipt, settings_in, until

BODIES = int(os.environ.get("BODIES", "3000"))
VALUES = [
    None, True, False, 0, -1, 1.5, 1e308, -1e308, 10**30, -(10**30), 2**63, "", "x" * 3000, "\u0000", "\U0001f4a9", "1", "NaN", [], [1], {},
    {"a": 1},
    "2024-01-01", "2024-13-01T00:00:00Z", "9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00:00+23:59", "2024-01-01T00:00:00Z", [[[[]]]],
]  # fmt: skip
ROWS = INPUTS.to_dicts()
ORDERS = feed("till.bronze.orders", Feed("orders", headers=(("id", "value"),), format="jsonl", row_id="id"), description="Orders.")
SEEDS = [
    ("/endpoints/receipts", receipt()),
    ("/endpoints/receipts", {"rows": [receipt(1), receipt(2)]}),
    ("/endpoints/receipts", {"features": ROWS}),
    ("/endpoints/receipts", {"keys": [{"receipt": "r1"}]}),
    ("/endpoints/receipts?explain=maybe", receipt()),
    ("/features", {"feature_sets": ["till.features.shops", "till.features.receipts"], "keys": [{"shop": "a", "receipt": "r1"}]}),
    ("/invocations", {"dataframe_records": ROWS}),
    ("/invocations", {"inputs": INPUTS.to_dict(as_series=False)}),
    ("/invocations", {"dataframe_split": {"columns": INPUTS.columns, "data": [list(row) for row in INPUTS.iter_rows()]}}),
    ("/feedback", [{"key": {"receipt": "r1"}, "label": True, "known_at": "2024-01-01T00:00:00Z"}]),
    ("/feedback", [{"request_id": f"{'0' * 32}-1", "row": 0, "label": {"returned": True}, "endpoint": "receipts"}]),
    ("/ingest/orders", [{"id": "a", "value": "1"}]),
    ("/reload", {}),
    ("/v2/models/receipts/infer", {"inputs": [{"name": "amount", "shape": [1], "datatype": "FP64", "data": [1.0]}]}),
    (
        "/v2/models/receipts/infer",
        {
            "inputs": [{"name": name, "shape": [2], "datatype": "BYTES", "data": INPUTS[name].to_list()} for name in INPUTS.columns],
            "outputs": [{"name": "probability"}],
        },
    ),
]


def changed(draw: random.Random, value: object, depth: int = 0) -> object:
    """A value with something wrong in it, somewhere."""
    if depth and draw.random() < 0.3:
        return draw.choice(VALUES)
    if isinstance(value, dict) and value:
        key = draw.choice(list(value))
        other = dict(value)
        sort = draw.random()
        if sort < 0.15:
            del other[key]
        elif sort < 0.3:
            other[draw.choice(["more", "", "Rows", key.upper(), "x" * 500])] = draw.choice(VALUES)
        else:
            other[key] = changed(draw, value[key], depth + 1)
        return other
    if isinstance(value, list) and value:
        other = list(value)
        other[draw.randrange(len(other))] = changed(draw, draw.choice(value), depth + 1)
        return other if draw.random() < 0.8 else other * 3
    return draw.choice(VALUES)


def broken(draw: random.Random, body: bytes) -> bytes:
    """Bytes with something wrong in them."""
    sort = draw.random()
    at = draw.randrange(len(body) + 1)
    if sort < 0.3:
        return body[:at]
    if sort < 0.6:
        return body[:at] + bytes([draw.randrange(256)]) + body[at + 1 :]
    if sort < 0.8:
        return body.replace(b"20.0", draw.choice([b"NaN", b"Infinity", b"-Infinity", b"1e999", b"0x1", b"01", b"1.", b'"\\ud800"']))
    return draw.choice([b"", b"null", b"[]", b"\xff\xfe", b"[" * 5000, b'{"rows":' * 3000, b'{"a":1}' * 2, b"\xef\xbb\xbf{}", b"{" + body])


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    till = Till(settings_in(tmp_path_factory.mktemp("till")))
    till.promote(till.add(constant(0.75)))
    service = till.service(declared=(*DECLARED, ORDERS))
    with listening(service) as found:
        until(lambda: service.served["receipts"].versions is not None)
        yield found


def test_random_and_hostile_bodies_are_told_what_is_wrong(address):
    draw = random.Random(20)
    told: dict[int, int] = {}
    with Connection(address) as connection:
        for _ in range(BODIES):
            path, body = draw.choice(SEEDS)
            for _ in range(draw.randrange(1, 3)):
                body = changed(draw, body)
            content = json.dumps(body).encode()
            if draw.random() < 0.3:
                content = broken(draw, content)
            status, answer = connection.post(path, content)
            told[status] = told.get(status, 0) + 1
            assert status == 200 or 400 <= status < 500, (path, content, answer)
            if status != 200:
                assert all(error["message"] for error in answer["errors"]), (path, content, answer)
            assert "Traceback" not in json.dumps(answer)
    assert {200, 400, 422} <= told.keys()


@pytest.mark.timeout(180)
def test_the_service_keeps_its_openapi_document(address):
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [str(Path(sys.executable).with_name("st")), "run", f"{address}/openapi.json", "--max-examples", "15", "--checks", checks]
    found = subprocess.run([*command, "--phases", "examples,coverage,fuzzing", "--seed", "1"], capture_output=True, text=True, timeout=170)
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-1000:]

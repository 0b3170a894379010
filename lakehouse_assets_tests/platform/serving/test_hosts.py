"""A service without tokens answers programs of its machine and its own page: no page of another site, under whatever name it comes."""

import http.client
import json

import pytest

from lakehouse_assets.platform.serving.hosts import Hosts
from lakehouse_assets.platform.serving.refused import Refused
from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.till import Till, listening, receipt, settings_in

ALLOWED = [
    ("localhost:8000", None),
    ("LOCALHOST", None),
    ("127.0.0.1:1", "http://127.0.0.1:1"),
    ("[::1]:8000", "http://[::1]:8000"),
    ("[::1]", None),
    ("notebook.example:8000", "https://notebook.example"),
    ("localhost:8000", "https://notebook.example"),
    (None, None),
]
REFUSED = [
    ("evil.example:8000", None),
    ("localhost.evil.example", None),
    ("127.0.0.1.evil.example:8000", "http://127.0.0.1.evil.example:8000"),
    ("localhost:8000", "http://evil.example"),
    ("localhost:8000", "http://localhost:3000"),
    ("localhost:8000", "null"),
    ("", None),
    ("[::1", None),
]


def check(host: str | None, origin: str | None) -> None:
    headers = [(name, value.encode()) for name, value in ((b"host", host), (b"origin", origin)) if value is not None]
    Hosts(["notebook.example", ""]).check({"headers": headers})


@pytest.mark.parametrize(("host", "origin"), ALLOWED)
def test_programs_and_own_pages_may_ask(host, origin):
    check(host, origin)


@pytest.mark.parametrize(("host", "origin"), REFUSED)
def test_pages_of_other_sites_may_not(host, origin):
    with pytest.raises(Refused, match="LAKEHOUSE_SERVE_HOSTS"):
        check(host, origin)


@pytest.mark.parametrize("path", ["/endpoints/receipts", "/ingest/orders", "/feedback", "/openapi.json"])
def test_every_path_of_a_running_service_refuses_them(tmp_path, path):
    service = Till(settings_in(tmp_path)).service()
    with listening(service) as address:
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
            connection.request("POST", path, json.dumps(receipt()), headers)
            answer = connection.getresponse()
            assert (answer.status, "LAKEHOUSE_SERVE_HOSTS" in json.load(answer)["errors"][0]["message"]) == (403, True)
            connection.close()
        with Connection(address) as connection:
            assert connection.get("/health")[0] == 200

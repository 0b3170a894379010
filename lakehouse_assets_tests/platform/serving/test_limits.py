"""What a service does not take on it says at once: full queue, deadline, size; a slow client holds nobody up; tokens and their scopes."""

import json
import socket
import threading
import time
from urllib.parse import urlsplit

import polars as pl
import pytest

from lakehouse_assets.platform.serving.limits import Limits
from lakehouse_assets.platform.serving.tokens import TokenFile
from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.till import AT, Till, constant, listening, receipt, receipts, settings_in, until

PATH = "/endpoints/receipts"


@pytest.fixture(scope="module")
def till(tmp_path_factory):
    made = Till(settings_in(tmp_path_factory.mktemp("till")))
    made.promote(made.add(constant(0.75)))
    return made


@pytest.fixture
def serving(till):
    """Starts a service with these limits, and gives it with its address."""
    entered = []

    def start(**options):
        till.online.seconds = 0.0
        service = till.service(**options)
        context = listening(service)
        address = context.__enter__()
        entered.append(context)
        until(lambda: service.served["receipts"].versions is not None)
        return service, address

    yield start
    till.online.seconds = 0.0
    for one in entered:
        one.__exit__(None, None, None)


def raw(address: str, *parts: bytes, pause: float = 0.0) -> bytes:
    """What is answered to bytes that are sent one part after the other."""
    host, port = urlsplit(address).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        found = b""
        while chunk := connection.recv(65536):
            found += chunk
            if b"\r\n\r\n" in found:
                break
        return found


def test_a_full_queue_and_a_deadline_are_said_and_the_work_is_dropped(till, serving):
    service, address = serving(limits=Limits(queue_rows=2, seconds=0.5))
    till.online.seconds = 1.0
    answers = []

    def ask(number: int) -> None:
        connection = Connection(address)
        answers.append(connection.post(PATH, receipt(number)))
        connection.close()

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for one in clients:
        one.start()
        time.sleep(0.02)
    for one in clients:
        one.join()
    assert {status for status, _ in answers} == {429, 504}
    assert all(answer["errors"][0]["message"] for _, answer in answers)
    till.online.seconds = 0.0
    until(lambda: service.queue.rows == 0)
    connection = Connection(address)
    assert connection.post(PATH, receipt(9))[0] == 200
    text = connection.get("/metrics")[1]
    assert 'lakehouse_requests_total{endpoint="receipts",status="429"}' in text
    connection.close()


def test_bodies_and_rows_have_a_limit(serving):
    _, address = serving(limits=Limits(body_bytes=2_000, request_rows=3))
    connection = Connection(address)
    status, answer = connection.post(PATH, {"rows": [receipt(number) for number in range(4)]})
    assert (status, "several requests" in answer["errors"][0]["message"]) == (413, True)
    connection.close()
    head = b"POST /endpoints/receipts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    assert b" 413 " in raw(address, head + b"Content-Length: 3000\r\n\r\n").split(b"\r\n")[0]
    chunk = b"800\r\n" + b" " * 0x800 + b"\r\n"
    assert b" 413 " in raw(address, head + b"Transfer-Encoding: chunked\r\n\r\n", chunk, chunk).split(b"\r\n")[0]


def test_a_slow_client_holds_nobody_up_and_is_given_up(serving):
    _, address = serving(limits=Limits(body_seconds=0.6))
    body = json.dumps(receipt()).encode()
    head = b"POST /endpoints/receipts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    slow = []
    thread = threading.Thread(target=lambda: slow.append(raw(address, head, body[:5], pause=0.1)))
    thread.start()
    connection = Connection(address)
    for number in range(5):
        assert connection.post(PATH, receipt(number))[0] == 200
    connection.close()
    thread.join()
    assert b" 408 " in slow[0].split(b"\r\n")[0]
    assert b" 200 " in raw(address, head, body[:20], body[20:], pause=0.1)


def test_tokens_are_needed_where_they_are_and_for_what_they_are(till, serving):
    _, address = serving(tokens_needed=True)
    tokens = TokenFile(till.root.settings.home_folder)
    _, score = tokens.create("score", ["score"])
    _, both = tokens.create("both", ["score", "features"])
    _, feedback = tokens.create("feedback", ["feedback"])
    _, revoked = tokens.create("revoked", ["score"])
    tokens.revoke("revoked")
    connection = Connection(address)

    def status(token: str | None, path: str = PATH) -> int:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return connection.post(path, receipt(), headers)[0]

    assert [status(one) for one in (None, "lh_nothing", revoked, feedback, score)] == [401, 401, 401, 403, 200]
    assert [status(one, f"{PATH}?explain=true") for one in (score, both)] == [403, 200]
    assert connection.get("/health")[0] == 200
    # The document is for everybody, but the stored rows in its examples are not.
    stored = till.root.lakehouse.table("till.gold.receipts")
    stored.create(receipts.schema)
    stored.append(pl.DataFrame([receipt(4711) | {"at": AT}], schema=receipts.schema))
    shown = [connection.get("/openapi.json", {"Authorization": f"Bearer {one}"} if one else {}) for one in (None, feedback, score)]
    assert [(code, "r4711" in str(document)) for code, document in shown] == [(200, False), (200, False), (200, True)]
    connection.close()


def test_a_set_that_lacks_behind_is_stale_and_a_missing_feature_may_be_refused(till, serving):
    from datetime import UTC, datetime, timedelta

    _, address = serving(stale_after=timedelta(hours=1), missing="refuse")
    connection = Connection(address)
    assert connection.post(PATH, receipt())[1]["predictions"][0].get("features") is None
    till.online.synced_at = datetime.now(UTC) - timedelta(hours=2)
    try:
        assert connection.post(PATH, receipt())[1]["predictions"][0]["features"] == {"stale": ["till.features.shops"]}
        assert connection.get("/ready")[1]["endpoints"]["receipts"]["stale"] == ["till.features.shops"]
    finally:
        till.online.synced_at = datetime.now(UTC)
    status, answer = connection.post(PATH, {"rows": [receipt(1), receipt(2, shop="unknown")]})
    assert (status, answer["errors"][0]["row"], answer["errors"][0]["field"]) == (422, 1, "shop")
    connection.close()


def test_who_administers_may_reload_and_is_told_why_a_version_was_not_taken(till, serving):
    service, address = serving(tokens_needed=True)
    tokens = TokenFile(till.root.settings.home_folder)
    (_, administer), (_, others) = tokens.create("operator", ["administer"]), tokens.create("caller", ["score", "features", "ingest"])
    service.reloader.stop()  # so that nobody else takes the next version
    number = till.add(constant(0.25))
    till.promote(number)
    with Connection(address) as connection:

        def asked(token: str | None, path: str = "/reload") -> tuple[int, dict]:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            return connection.post(path, {}, headers) if path == "/reload" else connection.get(path, headers)

        assert [asked(token)[0] for token in (None, others)] == [401, 403]
        assert service.served["receipts"].versions.champion.champion.version != number
        status, answer = asked(administer)
        assert (status, answer["endpoints"]["receipts"]) == (200, {"ready": True, "versions": {"champion": number}, "not_taken": {}})

        def away():
            raise ConnectionError("mlflow.example.org does not answer")

        registry, service.reloader._registry = service.reloader._registry, away
        till.promote(till.add(constant(0.75)))
        assert "mlflow.example.org" in str(asked(administer)[1])
        for path in ("/ready", "/ready/receipts"):
            told = [asked(token, path) for token in (None, others, administer)]
            assert [(status, "mlflow.example.org" in str(body)) for status, body in told] == [(200, False), (200, False), (200, True)]
            assert "not_taken" in str(told[0][1])
        service.reloader._registry = registry
        assert asked(administer)[1]["endpoints"]["receipts"]["versions"] == {"champion": number + 1}

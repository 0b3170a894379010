"""The doors for labels and rows of feeds over HTTP: what can be known is checked, and no more is taken on than can be worked on."""

import sqlite3
import threading

import pytest

from lakehouse_assets import Feed, feed
from lakehouse_assets.client.serving import tell_doors
from lakehouse_assets.platform.serving.limits import Limits
from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.till import DECLARED, Till, constant, listening, receipt, settings_in, until

ORDERS = feed("till.bronze.orders", Feed("orders", headers=(("id", "value"),), format="jsonl", row_id="id"), description="Orders.")
LIMITS = Limits(push_requests=2, push_seconds=0.5, body_bytes=20_000)
ID = f"{'0' * 32}-7"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    till = Till(settings_in(tmp_path_factory.mktemp("till")))
    till.promote(till.add(constant(0.75)))
    service = till.service(declared=(*DECLARED, ORDERS), limits=LIMITS)
    with listening(service) as address, Connection(address) as connection:
        until(lambda: service.served["receipts"].versions is not None)
        yield service, address, connection


WRONG = [
    ({"request_id": "r", "label": True}, "request_id"),
    ({"request_id": ID, "row": 5_000, "label": True}, "row"),
    ({"request_id": ID, "label": [1]}, "label"),
    ({"request_id": ID, "label": {}}, "label"),
    ({"request_id": ID, "label": {"refund": True}}, "label"),
    ({"request_id": ID, "label": True, "labels": True}, "labels"),
    ({"key": {}, "label": True}, "key.receipt"),
    ({"key": {"shop": "a"}, "label": True}, "key.receipt"),
    ({"key": {"receipt": 7}, "label": True}, "key.receipt"),
    ({"key": {"receipt": "r1", "shop": "a"}, "label": True}, "key.shop"),
    ({"key": {"receipt": "r1"}, "request_id": ID, "label": True}, "request_id"),
]


@pytest.mark.parametrize(("row", "field"), WRONG)
def test_a_label_that_cannot_be_meant_is_refused_by_row_and_field(served, row, field):
    service, _, connection = served
    before = service.log.state().appended
    status, answer = connection.post("/feedback", [{"key": {"receipt": "r1"}, "label": True}, row])
    assert status == 422, answer
    assert field in {error["field"] for error in answer["errors"]}
    assert {error["row"] for error in answer["errors"]} == {1}
    assert service.log.state().appended == before


def test_labels_of_a_request_and_of_a_key_are_taken(served):
    _, _, connection = served
    _, answer = connection.post("/endpoints/receipts", receipt())
    labels = [{"request_id": answer["request_id"], "label": {"returned": True}}, {"key": {"receipt": "r1"}, "label": False}]
    assert connection.post("/feedback", labels) == (200, {"accepted": 2})


def test_what_is_too_much_for_one_request_is_said(served):
    _, _, connection = served
    for path in ("/feedback", "/ingest/orders"):
        status, answer = connection.post(path, b" " * 30_000)
        assert (status, "fewer rows" in answer["errors"][0]["message"]) == (413, True)
        connection.close()


def test_each_feed_to_which_rows_cannot_be_pushed_is_said_at_the_start_as_a_request_is_told(tmp_path):
    forms = {"snapshots": {"format": "jsonl", "snapshot": True}, "columns": {"format": "parquet"}, "lines": {"format": "jsonl"}}
    feeds = [feed(f"till.bronze.{name}", Feed(name, headers=(("id",),), **how), description="Rows.") for name, how in forms.items()]
    service = Till(settings_in(tmp_path)).service(declared=(*DECLARED, *feeds))
    said: list[str] = []
    tell_doors(service, "http://here", said.append)
    closed = [line for line in said if line.startswith("No POST to http://here/ingest: ")]
    with listening(service) as address, Connection(address) as connection:
        for name in forms:
            status, answer = connection.post(f"/ingest/{name}", [{"id": "1"}])
            told = [line for line in closed if f"the feed {name}: " in line]
            if name == "lines":
                assert (told, answer["errors"][0]["field"]) == ([], "Idempotency-Key")
            else:
                assert (status, [f"No POST to http://here/ingest: {answer['errors'][0]['message']}."]) == (409, told)


def test_no_more_is_worked_on_than_the_limit_and_nobody_waits_longer_than_the_deadline(served):
    service, address, connection = served
    assert connection.post("/ingest/orders", [{"id": "first", "value": "1"}])[0] == 200
    path = service.root.settings.home_folder / "serving" / "outbox" / "orders.db"
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")  # as another process that has it to itself
    answers = []

    def push(number: int) -> None:
        with Connection(address) as own:
            answers.append(own.post("/ingest/orders", [{"id": str(number), "value": "1"}]))

    clients = [threading.Thread(target=push, args=(number,)) for number in range(12)]
    for one in clients:
        one.start()
    for number in range(5):  # predictions go on
        assert connection.post("/endpoints/receipts", receipt(number))[0] == 200
    for one in clients:
        one.join()
    database.execute("ROLLBACK")
    database.close()
    found = {status for status, _ in answers}
    assert 429 in found
    assert found - {429} <= {503, 504}
    assert all("again" in answer["errors"][0]["message"] for _, answer in answers)
    for number in range(6):
        until(lambda number=number: connection.post("/ingest/orders", [{"id": str(number), "value": "1"}])[0] == 200)

"""A request has one outcome in the inference log: the one that its client was told, also where deadline and answer come at once."""

import random
import threading

import polars as pl
import pytest

from lakehouse_assets.platform.serving.limits import Limits
from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.till import Till, constant, listening, receipt, settings_in, until

SECONDS = 0.15


@pytest.mark.timeout(120)
def test_the_log_says_of_each_request_what_its_client_was_told(tmp_path):
    till = Till(settings_in(tmp_path))
    till.promote(till.add(constant(0.75)))
    service = till.service(limits=Limits(seconds=SECONDS))
    told: dict[str, int] = {}
    draw = random.Random(6)

    def ask(first: int) -> None:
        with Connection(address) as connection:
            for number in range(12):
                status, answer = connection.post("/endpoints/receipts", receipt(1000 * first + number))
                told[answer["request_id"]] = status
                # Of rows that are looked up when the deadline comes, either is first.
                till.online.seconds = SECONDS * draw.choice([0.0, 0.5, 0.9, 1.0, 1.5])

    with listening(service) as address:
        until(lambda: service.served["receipts"].versions is not None)
        clients = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        till.online.seconds = 0.0
        with Connection(address) as connection:
            # The worker has done with all of them.
            until(lambda: connection.post("/endpoints/receipts", receipt(9))[0] == 200)
    service.log.flush()
    rows = till.root.lakehouse.table("till.inference.receipts").scan().select("request_id", "status_code").collect()
    found = [row for row in rows.rows() if row[0] in told]
    assert {200, 504} <= set(told.values())
    assert sorted(found) == sorted(told.items())


def test_a_panic_fails_its_request_and_no_other_one(tmp_path, monkeypatch):
    """Polars and delta-rs raise panics that are no `Exception`."""
    till = Till(settings_in(tmp_path))
    till.promote(till.add(constant(0.75)))
    service = till.service()
    score = service.engine._score_all
    panics = [pl.exceptions.PanicException("for a test")]

    def once(works):
        if panics:
            raise panics.pop()
        return score(works)

    monkeypatch.setattr(service.engine, "_score_all", once)
    with listening(service) as address, Connection(address) as connection:
        until(lambda: service.served["receipts"].versions is not None)
        assert [connection.post("/endpoints/receipts", receipt(number))[0] for number in range(3)] == [500, 200, 200]

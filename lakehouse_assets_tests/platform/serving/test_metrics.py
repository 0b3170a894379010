"""A full disk and a lake or a landing zone that is away are seen in the metrics, before and when something is lost."""

import re
from dataclasses import replace

from lakehouse_assets import Feed, feed
from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.till import DECLARED, Till, constant, listening, receipt, settings_in, until

ORDERS = feed("till.bronze.orders", Feed("orders", headers=(("id", "value"),), format="jsonl", row_id="id"), description="Orders.")


def metric(connection: Connection, name: str) -> float | None:
    """The value of a gauge; None: it is not there."""
    found = re.search(rf"^lakehouse_{re.escape(name)} (\S+)$", connection.get("/metrics")[1], re.MULTILINE)
    return None if found is None else float(found.group(1))


def test_records_that_cannot_be_written_are_seen_with_the_reason_until_they_can(tmp_path):
    till = Till(settings_in(tmp_path))
    till.promote(till.add(constant(0.75)))
    spool = till.root.settings.home_folder / "serving" / "spool"
    spool.parent.mkdir(parents=True)
    spool.write_text("a file is in the way")
    service = till.service()
    service.log._spool.bounds = replace(service.log._spool.bounds, memory_bytes=2_000)
    with listening(service) as address, Connection(address) as connection:
        until(lambda: service.served["receipts"].versions is not None)
        assert metric(connection, "log_dropped_records") == metric(connection, "log_waiting_bytes") == 0
        for number in range(20):
            assert connection.post("/endpoints/receipts", receipt(number))[0] == 200
        assert 0 < metric(connection, "log_waiting_bytes") <= 2_000
        assert 0 < metric(connection, "log_dropped_records") < 20
        assert metric(connection, "log_disk_bytes") == 0
        text = connection.get("/metrics")[1]
        assert re.search(r'^lakehouse_log_failing{reason="[^"]+"} 1.0$', text, re.MULTILINE)
        assert str(tmp_path) not in text
        spool.unlink()
        until(lambda: connection.post("/endpoints/receipts", receipt())[0] == 200 and metric(connection, "log_waiting_bytes") == 0)
        assert metric(connection, "log_disk_bytes") > 0
        assert "lakehouse_log_failing{" not in connection.get("/metrics")[1]


def test_rows_that_have_not_landed_are_seen_by_feed(tmp_path):
    till = Till(settings_in(tmp_path))
    till.promote(till.add(constant(0.75)))
    landing = till.root.settings.landing / "orders"
    landing.parent.mkdir(parents=True, exist_ok=True)
    landing.write_text("a file is in the way")
    service = till.service(declared=(*DECLARED, ORDERS))
    with listening(service) as address, Connection(address) as connection:
        until(lambda: service.served["receipts"].versions is not None)
        assert "lakehouse_ingest_waiting_rows{" not in connection.get("/metrics")[1]
        assert connection.post("/ingest/orders", [{"id": str(number), "value": "1"} for number in range(3)])[0] == 200
        assert metric(connection, 'ingest_waiting_rows{feed="orders"}') == 3
        until(lambda: metric(connection, 'background_failing{task="ingest"}') == 1)
        landing.unlink()
        until(lambda: metric(connection, 'ingest_waiting_rows{feed="orders"}') == 0, 60)

"""The outbox by itself and behind HTTP: what counts against its bound, ids by age, callers at once, a database that is in use."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets import Feed
from lakehouse_assets.platform.ingestion.zone import LocalZone, Zone
from lakehouse_assets.platform.serving.ingest import Ingest
from lakehouse_assets.platform.serving.outbox import OutboxBounds
from lakehouse_assets.platform.serving.outbox_store import OutboxUnavailable

FEED = Feed("payments", headers=(("invoice", "amount"),), row_id="invoice", format="jsonl")
USUAL = OutboxBounds()


def opened(folder: Path, bounds: OutboxBounds = USUAL, zone: Any = None) -> Ingest:
    landing = LocalZone(folder / "landing" / FEED.name, folder / "archive" / FEED.name)
    return Ingest(folder / "home", FEED, zone or (lambda: landing), bounds)


def body(first: int, last: int, amount: str = "1.50") -> bytes:
    return "\n".join(f'{{"invoice": "{number}", "amount": "{amount}"}}' for number in range(first, last)).encode()


def landed(folder: Path) -> list[str]:
    files = sorted((folder / "landing" / FEED.name).glob("*.jsonl"))
    return [line.split('"')[3] for file in files for line in file.read_text().splitlines() if line.strip()]


def test_ids_of_rows_that_have_landed_count_against_nothing(tmp_path: Path) -> None:
    ingest = opened(tmp_path, replace(USUAL, waiting_bytes=40_000))
    for start in range(0, 10_000, 500):
        assert ingest.take(body(start, start + 500)).accepted == 500
        assert ingest.land()
    assert ingest.take(body(0, 500)).repeated == 500
    assert ingest.land()
    assert ingest.close()
    assert len(landed(tmp_path)) == len(set(landed(tmp_path))) == 10_000


def test_a_request_that_does_not_fit_beside_what_waits_is_refused_and_others_are_taken(tmp_path: Path) -> None:
    ingest = opened(tmp_path, replace(USUAL, waiting_bytes=8_000))
    assert ingest.take(body(0, 200)).accepted == 200
    with pytest.raises(OutboxUnavailable, match="too many rows wait"):
        ingest.take(body(200, 300))
    assert ingest.take(body(300, 310)).accepted == 10
    assert ingest.take(body(0, 200)).repeated == 200
    assert ingest.state().waiting == 210
    assert ingest.land()
    assert ingest.take(body(200, 300)).accepted == 100
    assert ingest.land()
    assert ingest.close()
    assert sorted(map(int, landed(tmp_path))) == list(range(310))


def test_ids_are_forgotten_by_age_and_not_while_their_rows_wait(tmp_path: Path) -> None:
    is_away = True
    landing = LocalZone(tmp_path / "landing" / FEED.name, tmp_path / "archive" / FEED.name)

    def zone() -> Zone:
        if is_away:
            raise ConnectionError("the bucket does not answer")
        return landing

    ingest = opened(tmp_path, replace(USUAL, remembered_seconds=0.2), zone)
    assert ingest.take(body(0, 10)).accepted == 10
    time.sleep(0.3)
    assert ingest.take(body(0, 10)).repeated == 10  # they wait
    is_away = False
    assert ingest.land()
    assert ingest.take(body(0, 10, "2.50")).accepted == 10
    assert ingest.take(body(0, 10, "2.50")).repeated == 10
    for _ in range(8):
        time.sleep(0.1)
        ingest.take(body(100, 101))
        assert ingest.land()
    with sqlite3.connect(ingest.path) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE name GLOB 'ids_*'")]
        kept = sum(database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names)
    database.close()
    assert kept < 20  # of thirty
    assert ingest.land()
    assert ingest.close()


def test_processes_that_open_an_outbox_at_once_wait_for_one_another(tmp_path: Path) -> None:
    for number in range(10):
        folder = tmp_path / str(number)
        barrier = threading.Barrier(6)

        def push(who: int, folder: Path = folder, barrier: threading.Barrier = barrier) -> int:
            barrier.wait()
            ingest = opened(folder)
            try:
                return sum(ingest.take(body(10 * who + one, 10 * who + one + 1)).accepted for one in range(5))
            finally:
                ingest.land()
                ingest.close()

        with ThreadPoolExecutor(6) as threads:
            assert sum(threads.map(push, range(6))) == 30
        assert len(landed(folder)) == 30


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Another process keeps the database to itself for a while."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("BEGIN IMMEDIATE")

    def free() -> None:
        database.execute("ROLLBACK")
        database.close()

    timer = threading.Timer(seconds, free)
    timer.start()
    yield
    timer.join()


def test_a_database_in_use_is_waited_for_until_the_deadline(tmp_path: Path) -> None:
    ingest = opened(tmp_path)
    ingest.take(body(0, 1))
    with locked(ingest.path, 0.5):
        assert ingest.take(body(1, 2)).accepted == 1
    with locked(ingest.path, 1.5), pytest.raises(OutboxUnavailable, match="again"):
        ingest.take(body(2, 3), seconds=0.3)
    assert ingest.take(body(2, 3)).accepted + ingest.take(body(2, 3)).repeated >= 1
    assert ingest.land()
    assert ingest.close()
    assert landed(tmp_path) == ["0", "1", "2"]


def test_who_only_lands_needs_no_thread(tmp_path: Path) -> None:
    accepting = opened(tmp_path)
    assert accepting.take(body(0, 3)).accepted == 3
    assert accepting.close()
    before = {*threading.enumerate()}
    landing = opened(tmp_path)
    assert landing.land()
    assert {*threading.enumerate()} <= before
    assert landing.close()
    assert landed(tmp_path) == ["0", "1", "2"]


def test_a_closed_outbox_accepts_nothing_and_lands_what_it_has(tmp_path: Path) -> None:
    ingest = opened(tmp_path)
    assert ingest.take(body(0, 3)).accepted == 3
    assert ingest.close()
    with pytest.raises(OutboxUnavailable, match="stopping"):
        ingest.take(body(3, 4))
    assert landed(tmp_path) == []
    assert ingest.land()
    assert ingest.close()
    assert landed(tmp_path) == ["0", "1", "2"]

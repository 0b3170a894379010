"""The clients of the benchmarks, against a server that closes connections."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.load import closed_loop, open_loop, request

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
REQUESTS = [request("/", b"{}")]


class Closing(asyncio.Protocol):
    """Answers, and closes each connection after an answer, or instead of one."""

    def __init__(self, *, answers: bool) -> None:
        self.answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, _: bytes) -> None:
        if self.answers:
            self.transport.write(ANSWER)
        self.transport.close()


@contextmanager
def listening(*, answers: bool) -> Iterator[str]:
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: Closing(answers=answers), "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(server.close)
        time.sleep(0.05)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def test_connections_that_a_server_closed_while_they_were_idle_are_made_again():
    with listening(answers=True) as address:
        load = open_loop(address, REQUESTS, rate=50, seconds=1, connections=2)
    assert load.failed == {}
    assert len(load.latencies) > 20
    assert load.reconnected == len(load.latencies) - 2  # but for the first of each connection


@pytest.mark.parametrize("connections", [1, 3])
def test_what_gets_no_answer_is_counted_and_the_run_ends(connections):
    with listening(answers=False) as address:
        load = open_loop(address, REQUESTS, rate=50, seconds=1, connections=connections)
        closed = closed_loop(address, REQUESTS, seconds=0.2, connections=connections)
    assert len(load.latencies) == 0
    assert load.failed["connection lost: closed"] > 20
    assert closed.failed == {"connection lost: closed": connections}

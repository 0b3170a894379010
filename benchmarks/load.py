"""Requests to a server as many clients send them: as fast as it answers (closed loop), or at a rate that does not wait for it (open loop).

In an open loop a request is due at its own time, whatever became of those before it, and its latency counts from then: a server that
stands still for a second is charged for all that came in that second. A connection that the server closed while nothing was asked, as
servers do with idle ones, is made again, which is the client's cost: the latency of its request counts from when it was due all the same.
What is asked and what the numbers mean is for a benchmark.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import cast
from urllib.parse import urlsplit

import numpy as np
import uvloop


@dataclass(frozen=True)
class Load:
    """What came of a load.

    Attributes:
        seconds: From the first request to the last answer.
        latencies: Seconds of each answer with status 200, in no order.
        failed: Answers of other statuses and connections that broke, with how often.
        reconnected: How often a connection was made again that the server had closed.
    """

    seconds: float
    latencies: "np.ndarray"
    failed: dict[str, int]
    reconnected: int = 0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """The latency in milliseconds that this share of the answers is below; infinite without an answer."""
        return float(np.quantile(self.latencies, share)) * 1000 if len(self.latencies) else float("inf")


def request(path: str, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """A POST of JSON as it goes over the wire."""
    lines = [
        f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers),
    ]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode() + body


def closed_loop(address: str, requests: Sequence[bytes], *, seconds: float, connections: int, core: int | None = None) -> Load:
    """Each connection sends its next request when the one before was answered."""
    return _run(address, requests, connections, core, due=lambda _: None, seconds=seconds)


def open_loop(
    address: str, requests: Sequence[bytes], *, rate: float, seconds: float, connections: int, seed: int = 0, core: int | None = None
) -> Load:
    """Requests are due at random times (Poisson), `rate` a second."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds))
    due = np.cumsum(gaps)
    return _run(address, requests, connections, core, due=lambda number: float(due[number]) if number < len(due) else None, seconds=None)


def _run(
    address: str,
    requests: Sequence[bytes],
    connections: int,
    core: int | None,
    *,
    due: Callable[[int], float | None],
    seconds: float | None,
) -> Load:
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        return uvloop.run(_Clients(address, requests, connections, due, seconds).run())
    finally:
        os.sched_setaffinity(0, before)


class _Clients:
    def __init__(
        self, address: str, requests: Sequence[bytes], connections: int, due: Callable[[int], float | None], seconds: float | None
    ) -> None:
        parts = urlsplit(address)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self.next_request = cycle(requests).__next__
        self.connections, self.due, self.seconds = connections, due, seconds
        self.latencies: list[float] = []
        self.failed: dict[str, int] = {}
        self.idle: deque[_Connection] = deque()
        self.waiting: deque[float] = deque()
        self.made: list[_Connection] = []
        self.open = self.reconnected = 0
        self.connecting: set[asyncio.Task[None]] = set()

    async def run(self) -> Load:
        loop = asyncio.get_running_loop()
        for _ in range(self.connections):
            await loop.create_connection(lambda: _Connection(self), self.host, self.port)
        began = time.perf_counter()
        if self.seconds is None:
            await self._send_when_due(began)
        else:
            self.until = began + self.seconds
            for connection in list(self.made):
                connection.send(time.perf_counter())
            await asyncio.sleep(self.seconds)
        deadline = time.perf_counter() + 30
        while self.open and time.perf_counter() < deadline:
            await asyncio.sleep(0.005)
        ended = time.perf_counter()
        self.count("no answer", self.open)
        for task in self.connecting:
            task.cancel()
        for connection in self.made:
            connection.transport.close()
        return Load(ended - began, np.array(self.latencies), self.failed, self.reconnected)

    async def _send_when_due(self, began: float) -> None:
        number = 0
        while (at := self.due(number)) is not None:
            wait = began + at - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait if wait > 0.001 else 0)
                continue
            self.open += 1
            if self.idle:
                self.idle.popleft().write(began + at)
            else:
                self.waiting.append(began + at)
            number += 1
        while self.waiting:
            await asyncio.sleep(0.005)

    def count(self, what: str, times: int = 1) -> None:
        if times:
            self.failed[what] = self.failed.get(what, 0) + times

    def connect_again(self, closed: "_Connection", at: float) -> None:
        """Send a request on a new connection in the place of one that the server closed."""
        self.reconnected += 1
        task = asyncio.get_running_loop().create_task(self._connect(closed, at))
        self.connecting.add(task)
        task.add_done_callback(self.connecting.discard)

    async def _connect(self, closed: "_Connection", at: float) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: _Connection(self, at), self.host, self.port)
        except OSError as error:
            self.unanswered(closed, f"no connection: {type(error).__name__}")

    def unanswered(self, connection: "_Connection", why: str) -> None:
        self.open -= 1
        self.count(why)
        if self.seconds is None:  # the next request gets a new connection
            if self.waiting:
                connection.write(self.waiting.popleft())
            else:
                self.idle.append(connection)

    def answered(self, connection: "_Connection", status: str, sent: float) -> None:
        now = time.perf_counter()
        self.open -= 1
        if status == "200":
            self.latencies.append(now - sent)
        else:
            self.count(status)
        if self.seconds is not None:
            if now < self.until:
                connection.send(now)
        elif self.waiting:
            connection.write(self.waiting.popleft())
        else:
            self.idle.append(connection)


class _Connection(asyncio.Protocol):
    """One request at a time; answers have a Content-Length, or end in a chunk of no bytes."""

    def __init__(self, clients: _Clients, first: float | None = None) -> None:
        self.clients, self.first = clients, first
        self.buffer = b""
        self.sent: float | None = None
        self.was_answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class, which is none of asyncio's
        self.clients.made.append(self)
        if self.first is not None:
            self.write(self.first)
        elif self.clients.seconds is None:
            self.clients.idle.append(self)

    def send(self, at: float) -> None:
        self.clients.open += 1
        self.write(at)

    def write(self, at: float) -> None:
        if self.transport.is_closing():  # the server closed it after its last answer
            self.clients.connect_again(self, at)
            return
        self.sent = at
        self.transport.write(self.clients.next_request())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0 or self.sent is None:
            return
        if not _is_whole(self.buffer, head):
            return
        status, sent = self.buffer[9:12].decode(), self.sent
        self.buffer, self.sent, self.was_answered = b"", None, True
        self.clients.answered(self, status, sent)

    def connection_lost(self, error: Exception | None) -> None:
        if self.sent is None:
            return
        sent, self.sent = self.sent, None
        if self.was_answered and not self.buffer:  # it was being closed when the request was sent: once more, as clients of HTTP do
            self.clients.connect_again(self, sent)
            return
        self.clients.unanswered(self, f"connection lost: {type(error).__name__ if error else 'closed'}")


def _is_whole(answer: bytes, head: int) -> bool:
    headers = answer[:head].lower()
    at = headers.find(b"content-length:")
    if at < 0:
        return answer.endswith(b"0\r\n\r\n")
    end = headers.find(b"\r\n", at)
    length = int(headers[at + 15 : end if end > 0 else None])
    return len(answer) >= head + 4 + length

"""A client that asks over connections that it keeps, from several threads."""

import http.client
import json
import threading
from collections.abc import Callable
from typing import Any, Final, Self
from urllib.parse import urlsplit

from lakehouse_assets.platform.serving.limits import Limits

PATIENT: Final = Limits(seconds=30.0)
"""Of services whose tests are not about lateness: a busy machine may need many seconds for an answer."""


class Connection:
    """One connection to a service."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._connection.request("POST", path, content, {"Content-Type": "application/json", **(headers or {})})
        answer = self._connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text.strip() else None

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        self._connection.request("GET", path, headers=headers or {})
        answer = self._connection.getresponse()
        text = answer.read()
        is_json = text.strip() and "json" in (answer.headers["content-type"] or "")
        return answer.status, json.loads(text) if is_json else text.decode()

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def under_load(address: str, threads: int, ask: Callable[[Connection, int], Any], during: Callable[[], None]) -> list[Any]:
    """What was answered to several clients that ask one request after the other while something happens."""
    answers: list[Any] = []
    over = threading.Event()

    def client(first: int) -> None:
        number = first
        with Connection(address) as connection:
            while not over.is_set():
                answers.append(ask(connection, number))
                number += threads

    running = [threading.Thread(target=client, args=(number,)) for number in range(threads)]
    for one in running:
        one.start()
    try:
        during()
    finally:
        over.set()
        for one in running:
            one.join(60)
    return answers

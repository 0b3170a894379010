"""The online store, the bucket or MLflow goes away under load and comes back: no request fails, and answers say what they lack."""

import shutil
import signal
import time
from collections.abc import Callable

import pytest

from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.registry.decisions import ModelDecisions
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.features.online.conftest import RedisServer
from lakehouse_assets_tests.platform.registry.example import training
from lakehouse_assets_tests.platform.serving.asking import Connection, under_load
from lakehouse_assets_tests.platform.serving.busy import NOW, is_ready, prepared, returned, service_of
from lakehouse_assets_tests.platform.serving.till import constant, listening, until
from lakehouse_assets_tests.s3 import BUCKET, s3_server

LOGGED = "till.inference.busy"
PATH = "/endpoints/busy"


def sent(number: int) -> dict[str, object]:
    return {"receipt": f"n{number}", "at": NOW.isoformat(), "shop": "ab"[number % 2], "amount": 10.0, "items": 1, "note": None}


def statuses(answers: list) -> set[str]:
    """All that was said of feature sets."""
    return {word for _, answer in answers for row in answer["predictions"] for word in row.get("features", {})}


def outage(root: Root, away: Callable[[Connection], None], back: Callable[[Connection], None], **options) -> tuple[list, list, list]:
    """What was answered before, while something was away, and after it was back; each answer is in the log once."""
    service = service_of(root, **options)
    parts: list[int] = []
    with listening(service) as address, Connection(address) as connection:
        until(lambda: is_ready(service))
        answers: list = []

        def ask(connection: Connection, number: int):
            answers.append(connection.post(PATH, sent(number)))
            time.sleep(0.002)

        def during() -> None:
            until(lambda: len(answers) > 50)
            parts.append(len(answers))
            away(connection)
            mark = len(answers)
            until(lambda: len(answers) > mark + 200)
            parts.append(len(answers))
            back(connection)
            until(lambda: len(answers) > parts[1] + 50)
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

        before, during, _ = outage(root, kill, lambda _: redis.start())
    finally:
        redis.stop()
    assert not statuses(before)
    assert "unavailable" in statuses(during)
    # Values that were read last are used: the shop is known.
    assert {answer["predictions"][0]["decision"] == "None" for _, answer in during} == {False}


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
            assert time.monotonic() - began < 15

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
    nothing = {"tables": [], "features": {}, "parameters": {}, "files": {}, "breakdowns": {}}
    second = decisions.registry.log_training(training(model_name=returned.name, predictor=constant(0.5), **nothing)).version
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

    _, during, after = outage(root, away, back)
    assert {answer["predictions"][0]["model_version"] for _, answer in during} == {1}
    assert after[-1][1]["predictions"][0]["model_version"] == second

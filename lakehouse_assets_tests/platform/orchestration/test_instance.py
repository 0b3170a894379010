"""Dagster's instance of a root."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lakehouse_assets.platform.orchestration.instance import instance

TOGETHER = 6


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")  # set back afterwards


def test_several_may_open_the_fresh_databases_of_a_root_at_once(settings):
    meeting = threading.Barrier(TOGETHER)

    def runs(_: int) -> int:
        meeting.wait()
        with instance(settings) as opened:
            return len(opened.get_runs())

    with ThreadPoolExecutor(TOGETHER) as threads:
        assert list(threads.map(runs, range(TOGETHER))) == [0] * TOGETHER

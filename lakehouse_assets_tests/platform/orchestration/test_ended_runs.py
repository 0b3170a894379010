"""No end of a run is lost or consumed twice, in whatever order events appear: by all orders, and on a real PostgreSQL."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.orchestration.ended_runs import CURSOR, REMEMBERED, Consumed
from lakehouse_assets_tests.platform.orchestration.test_alerts import Ticks
from lakehouse_assets_tests.postgres import postgres_server
from lakehouse_assets_tests.running import tables_of


class Watermarks(dict):
    """As the commits of the log keep them."""

    def commit(self, consumed: Consumed) -> None:
        for cursor in consumed.cursors(self.get):
            assert self.get(cursor.source) == cursor.before
            self[cursor.source] = cursor.after


# By number, how many others appear before it although they were given later numbers; and after how many a tick comes.
delays = st.lists(st.integers(0, REMEMBERED - 1), max_size=80)


@given(delays, st.lists(st.integers(1, 30), max_size=40))
def test_each_is_consumed_once_whenever_it_appears(delayed, ticks):
    order = sorted(range(1, len(delayed) + 1), key=lambda number: number + delayed[number - 1])
    watermarks, seen, at = Watermarks(), list[int](), 0
    for step in [*ticks, len(order)]:
        at += step
        consumed = Consumed.read(watermarks.get)
        new = [number for number in sorted(order[:at]) if not consumed.has(number)]
        seen += new
        if new:
            watermarks.commit(consumed.with_all(new))
    assert sorted(seen) == sorted(order)
    assert watermarks.get(CURSOR) == (max(order) if order else None)
    assert len(watermarks) <= REMEMBERED + 2, "it does not grow"


def test_what_an_earlier_release_had_consumed_is_consumed():
    consumed = Consumed.read({CURSOR: 40}.get)
    assert consumed.has(40)
    assert consumed.has(1)
    assert not consumed.has(41)


# --- PostgreSQL


@pytest.fixture(scope="module")
def postgres(tmp_path_factory) -> Iterator[str]:
    """The address of a server with an empty database."""
    with postgres_server(tmp_path_factory.mktemp("pg"), "dagster_postgres") as address:
        yield address


class Shop:
    """A root without tables, whose Dagster is on PostgreSQL."""

    tables = ()

    def __init__(self, settings, instance: dg.DagsterInstance) -> None:
        self.settings, self.instance = settings, instance

    @contextmanager
    def ends(self, job: str, event: dg.DagsterEventType, status: dg.DagsterRunStatus) -> Iterator[None]:
        """A run that ends, and whose event has a number before it can be seen: it can after the block."""
        run = dg.DagsterRun(job_name=job, run_id=str(uuid.uuid4()), status=status)
        self.instance.add_run(run)
        ended = dg.DagsterEvent(event.value, job, message=f"{job} was killed")
        entry = dg.EventLogEntry(
            error_info=None, level=40, user_message="", run_id=run.run_id, timestamp=time.time(), job_name=job, dagster_event=ended
        )
        storage = self.instance.event_log_storage
        engine = storage._engine.execution_options(isolation_level="READ COMMITTED")
        with engine.connect() as connection, connection.begin():
            connection.execute(storage.prepare_insert_event(entry))
            yield

    def failure(self, job: str):
        return self.ends(job, dg.DagsterEventType.RUN_FAILURE, dg.DagsterRunStatus.FAILURE)

    def success(self, job: str):
        return self.ends(job, dg.DagsterEventType.RUN_SUCCESS, dg.DagsterRunStatus.SUCCESS)


@pytest.fixture
def shop(postgres, settings, tmp_path) -> Iterator[Shop]:
    storage = {"storage": {"postgres": {"postgres_url": postgres}}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=storage) as instance:
        instance.wipe()
        tables_of(settings)
        yield Shop(settings, instance)


def test_an_event_that_appears_after_one_with_a_greater_number_is_not_lost(shop):
    ticks = Ticks(shop)
    with shop.success("before"):
        pass
    assert ticks() == []
    with shop.failure("late"):
        with shop.failure("early"):
            pass
        assert ticks() == [("run:early", "opened")]
        assert ticks() == []
    assert ticks() == [("run:late", "opened")]
    assert ticks() == []
    with shop.success("late"), shop.success("early"):
        pass
    assert sorted(ticks()) == [("run:early", "resolved"), ("run:late", "resolved")]


def test_what_ended_before_says_nothing_against_what_ended_after_it(shop):
    ticks = Ticks(shop)
    with shop.success("before"):
        pass
    ticks()
    with shop.failure("nightly"):
        with shop.success("nightly"):
            pass
        assert ticks() == []
    assert ticks() == [], "it has succeeded since"
    with shop.success("nightly"):
        with shop.failure("nightly"):
            pass
        assert ticks() == [("run:nightly", "opened")]
    assert ticks() == [], "it has failed since"

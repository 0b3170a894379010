"""The sensor starts a run when files are pending, once, feed by feed, and backs off where runs do not take them; it keeps no state."""

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from lakehouse_assets import products
from lakehouse_assets.platform.orchestration import automation
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.orchestration.automation import FILES_TAG, REFRESH, landing_sensor
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.platform.orchestration.run_control import locks_of
from lakehouse_assets_tests.running import land_text, run_products

PRODUCTS = "stock_code,name,product_group,component,list_price\n1,a,b,base,1\n"


class Ticks:
    """The sensor, its instance, and the time that it sees."""

    def __init__(self, settings, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.sensor = landing_sensor(load(products).feeds, 30)
        self.lakehouse = resources(settings)["lakehouse"]
        self.locks = locks_of(instance)

    def tick(self) -> SensorExecutionData:
        context = dg.build_sensor_context(instance=self.instance, resources={"lakehouse": self.lakehouse})
        return self.sensor.evaluate_tick(context)

    def __call__(self) -> list[dg.RunRequest]:
        return list(self.tick().run_requests)

    def reason(self) -> str:
        tick = self.tick()
        assert not tick.run_requests
        return str(tick.skip_message)

    def run_ends(self, request: dg.RunRequest, status: dg.DagsterRunStatus = dg.DagsterRunStatus.FAILURE) -> None:
        """A run of this request that ended just now, and did nothing."""

        @dg.op
        def step() -> None:
            if status is dg.DagsterRunStatus.FAILURE:
                raise ValueError("the database is away")

        job = dg.GraphDefinition(name=REFRESH, node_defs=[step]).to_job()
        job.execute_in_process(instance=self.instance, tags=dict(request.tags), raise_on_error=False)


@pytest.fixture
def ticks(settings) -> Iterator[Ticks]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Ticks(settings, instance)


@pytest.fixture
def minutes_later(monkeypatch):
    """Lets the sensor's clock go on by so many minutes from now."""

    def later(minutes: float) -> None:
        monkeypatch.setattr(automation, "time", SimpleNamespace(time=lambda: time.time() + minutes * 60))

    return later


def test_a_pending_file_starts_a_run_and_a_read_one_does_not(settings, ticks):
    assert ticks() == []
    land_text(settings, "products", "products_2024-01-01.csv", PRODUCTS)
    assert [request.tags["lakehouse/waiting_products"] for request in ticks()] == ["1"]
    run_products(settings, ["sales"])
    assert ticks() == []


def test_a_refused_file_does_not_start_runs_for_ever(settings, ticks):
    land_text(settings, "products", "bad.csv", b"")
    assert len(ticks()) == 1
    run_products(settings, ["sales"])
    assert ticks() == []


def test_no_second_run_while_one_is_under_way(settings, ticks):
    land_text(settings, "products", "bad.csv", b"")
    ticks.instance.add_run(dg.DagsterRun(job_name=REFRESH, run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.STARTED))
    assert "under way" in ticks.reason()


def test_a_feed_that_cannot_be_looked_at_keeps_no_other_from_being_noticed(settings, ticks):
    loop = Path(settings.landing) / "customers"
    loop.parent.mkdir(parents=True, exist_ok=True)
    loop.symlink_to(loop)
    assert "Feed customers cannot be listed" in ticks.reason()
    land_text(settings, "products", "products_2024-01-01.csv", PRODUCTS)
    assert [request.tags["lakehouse/waiting_products"] for request in ticks()] == ["1"]


def test_after_runs_that_fail_on_the_same_files_the_sensor_waits_ever_longer_but_an_hour_at_most(settings, ticks, minutes_later):
    land_text(settings, "products", "products_2024-01-01.csv", PRODUCTS)
    (request,) = ticks()
    for number, pause in enumerate((1, 2, 4, 8, 16, 32, 60, 60, 60), 1):
        ticks.run_ends(request)
        minutes_later(pause - 0.9)
        reason = ticks.reason()
        assert ("1 run for" if number == 1 else f"{min(number, 7)} runs for") in reason
        assert "FAILURE" in reason
        assert "lakehouse run" in reason
        minutes_later(pause + 0.1)
        assert len(ticks()) == 1


def killed(ticks: Ticks, request: dg.RunRequest) -> None:
    """A run of this request whose process is gone."""
    run = dg.DagsterRun(job_name=REFRESH, run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.STARTED, tags=dict(request.tags))
    ticks.instance.add_run(run)
    ticks.locks.take(run.run_id).release(forget=False)


def test_a_run_that_was_killed_is_ended_and_started_again_at_once_and_later_ever_more_rarely(settings, ticks, minutes_later):
    land_text(settings, "products", "products_2024-01-01.csv", PRODUCTS)
    (request,) = ticks()
    killed(ticks, request)
    (request,) = ticks()
    (run,) = ticks.instance.get_runs()
    assert run.status is dg.DagsterRunStatus.FAILURE
    for pause in (1, 2, 4):
        killed(ticks, request)
        minutes_later(pause - 0.9)
        assert "for the same files" in ticks.reason()
        minutes_later(pause + 0.1)
        assert len(ticks()) == 1


def test_a_refresh_that_was_killed_after_it_took_the_files_is_started_again(settings, ticks):
    land_text(settings, "products", "products_2024-01-01.csv", PRODUCTS)
    (request,) = ticks()
    run_products(settings, ["sales.bronze.products"])
    killed(ticks, request)
    (again,) = ticks()
    assert again.tags[FILES_TAG] == request.tags[FILES_TAG]
    ticks.run_ends(again, dg.DagsterRunStatus.SUCCESS)
    assert "No files are pending" in ticks.reason()


def test_a_run_whose_process_lives_is_under_way(settings, ticks):
    land_text(settings, "products", "products_2024-01-01.csv", PRODUCTS)
    run = dg.DagsterRun(job_name=REFRESH, run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.STARTED)
    ticks.instance.add_run(run)
    lock = ticks.locks.take(run.run_id)
    assert "under way" in ticks.reason()
    lock.release(forget=True)


def test_a_run_that_ends_well_and_leaves_the_files_counts_as_well(settings, ticks):
    land_text(settings, "products", "products_2024-01-01.csv", PRODUCTS)
    (request,) = ticks()
    ticks.run_ends(request, dg.DagsterRunStatus.SUCCESS)
    assert "SUCCESS" in ticks.reason()


@pytest.mark.parametrize("content", [None, PRODUCTS + "2,b,b,base,1\n"], ids=["another file", "the file corrected"])
def test_other_files_start_a_run_at_once(settings, ticks, content):
    path = land_text(settings, "products", "products_2024-01-01.csv", PRODUCTS)
    (request,) = ticks()
    ticks.run_ends(request)
    assert "1 run for the same files" in ticks.reason()
    land_text(settings, "products", path.name if content else "products_2024-01-02.csv", content or PRODUCTS.replace("a", "c"))
    (other,) = ticks()
    assert other.tags[FILES_TAG] != request.tags[FILES_TAG]


def test_a_clock_that_steps_back_does_not_make_the_sensor_wait(settings, ticks, minutes_later):
    land_text(settings, "products", "products_2024-01-01.csv", PRODUCTS)
    (request,) = ticks()
    ticks.run_ends(request)
    minutes_later(-24 * 60)
    assert len(ticks()) == 1


def test_the_same_files_have_one_digest_in_every_process(settings, ticks):
    path = land_text(settings, "products", "products_2024-01-01.csv", PRODUCTS)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    (request,) = ticks()
    assert request.tags[FILES_TAG] == ticks()[0].tags[FILES_TAG]
    os.utime(path, (1_700_000_001, 1_700_000_001))
    assert request.tags[FILES_TAG] != ticks()[0].tags[FILES_TAG]

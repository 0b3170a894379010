"""The sensor starts a run when files wait, once, and keeps nothing in mind."""

import uuid

import dagster as dg
import pytest

from lakehouse_assets import products
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.orchestration.automation import landing_sensor
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets_tests.running import land_text, run_products


@pytest.fixture
def tick(settings):
    sensor = landing_sensor(load(products).feeds, 30)
    with dg.DagsterInstance.ephemeral() as instance:

        def evaluate() -> list[dg.RunRequest]:
            context = dg.build_sensor_context(instance=instance, resources={"lakehouse": resources(settings)["lakehouse"]})
            return sensor.evaluate_tick(context).run_requests

        evaluate.instance = instance
        yield evaluate


def test_a_waiting_file_starts_a_run_and_a_read_one_does_not(settings, tick):
    assert tick() == []
    land_text(settings, "products", "products_2024-01-01.csv", "stock_code,name,product_group,component,list_price\n1,a,b,base,1\n")
    assert [request.tags["lakehouse/waiting_products"] for request in tick()] == ["1"]
    run_products(settings, ["sales"])
    assert tick() == []


def test_a_refused_file_does_not_start_runs_for_ever(settings, tick):
    land_text(settings, "products", "bad.csv", b"")
    assert len(tick()) == 1
    run_products(settings, ["sales"])
    assert tick() == []


def test_no_second_run_while_one_is_under_way(settings, tick):
    land_text(settings, "products", "bad.csv", b"")
    tick.instance.add_run(dg.DagsterRun(job_name="refresh", run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.STARTED))
    assert tick() == []

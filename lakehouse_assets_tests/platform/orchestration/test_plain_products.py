"""What a product defines with Dagster's own means is loaded, whatever form it has, and runs next to the declared tables."""

import importlib
import sys

import dagster as dg
import pytest

from lakehouse_assets.client import open_lakehouse
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.orchestration.code_location import definitions
from lakehouse_assets.settings import Settings

PLAIN = """
import dagster as dg
import polars as pl
from lakehouse_assets import Feed, feed

meters = feed("own.bronze.meters", Feed("meters", headers=(("meter",),)), "Meters.")


@dg.asset(key=["own", "silver", "single"])
def single() -> pl.DataFrame:
    return pl.DataFrame({"a": [1]})


@dg.asset(key=["own", "silver", "daily"], partitions_def=dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-05"),
          metadata={"partition_expr": "day"})
def daily(context: dg.AssetExecutionContext) -> pl.DataFrame:
    return pl.DataFrame({"day": [context.partition_key], "v": [1]}).with_columns(pl.col("day").str.to_date())


def made(name):
    @dg.asset(name=name, key_prefix=["own", "listed"])
    def asset() -> pl.DataFrame:
        return pl.DataFrame({"a": [2]})
    return asset


listed = [made("x"), made("y")]
specs = [dg.AssetSpec(["own", "outside", "z"])]
own_job = dg.define_asset_job("own_job", dg.AssetSelection.assets(single))
own_schedule = dg.ScheduleDefinition("own_schedule", job=own_job, cron_schedule="0 0 * * *")
"""
WHOLE = """
import dagster as dg


class Greeter(dg.ConfigurableResource):
    word: str = "hello"


@dg.asset(key=["own", "whole", "greeted"])
def greeted(greeter: Greeter) -> None:
    assert greeter.word == "hello"


whole = dg.Definitions(assets=[greeted], resources={"greeter": Greeter()})
"""
LAZY = """
import dagster as dg


@dg.definitions
def later():
    return dg.Definitions(assets=[dg.AssetSpec(["own", "lazy", "a"])])


@dg.definitions
def in_context(context: dg.ComponentLoadContext):
    return dg.Definitions(assets=[dg.AssetSpec(["own", "lazy", "b"])])
"""
COMPONENT = """
type: some_plain_products.own.parts.Numbers
attributes:
  count: 2
"""
PARTS = """
import dagster as dg


class Numbers(dg.Component, dg.Model, dg.Resolvable):
    count: int

    def build_defs(self, context):
        return dg.Definitions(assets=[dg.AssetSpec(["own", "component", f"n{n}"]) for n in range(self.count)])
"""
FILES = {"plain.py": PLAIN, "whole.py": WHOLE, "lazy.py": LAZY, "parts.py": PARTS, "numbers/defs.yaml": COMPONENT}
KEYS = {
    "own.silver.single", "own.silver.daily", "own.listed.x", "own.listed.y", "own.outside.z", "own.whole.greeted",
    "own.lazy.a", "own.lazy.b", "own.component.n0", "own.component.n1",
}  # fmt: skip


@pytest.fixture
def product(tmp_path, monkeypatch):
    """A function that makes the package with the product `own` of files."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(files: dict[str, str]):
        for path, text in ({"__init__.py": ""} | files).items():
            file = tmp_path / "some_plain_products" / "own" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        for name in [name for name in sys.modules if name.partition(".")[0] == "some_plain_products"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return importlib.import_module("some_plain_products")

    return make


def test_every_form_of_a_definition_is_loaded(product, settings):
    declared = load(product(FILES))
    assert not declared.broken, declared.broken[0].error
    assert declared.catalog.external == KEYS
    found = definitions(settings, declared)
    keys = {".".join(key.path) for key in found.resolve_asset_graph().get_all_asset_keys()}
    assert KEYS | {"own.bronze.meters"} <= keys
    repository = found.get_repository_def()
    assert {"own_job", "refresh"} <= set(repository.job_names)
    assert repository.has_schedule_def("own_schedule")


@pytest.fixture
def client(product, tmp_path):
    product(FILES)
    settings = Settings.load({"LAKEHOUSE_PRODUCTS": "some_plain_products", "LAKEHOUSE_ROOT": str(tmp_path / "root")})
    return open_lakehouse(settings=settings)


def test_a_run_leaves_partitioned_assets_out_and_a_partition_runs_them(client):
    done = client.run(["own.silver.single", "own.silver.daily", "own.whole.greeted", "own.listed.x"])
    assert {name: table.state for name, table in done.tables.items()} == dict.fromkeys(
        ["own.silver.single", "own.whole.greeted", "own.listed.x"], "done"
    )
    with pytest.raises(ValueError, match=r"own.silver.daily has partitions: .*`lakehouse run own.silver.daily --partition 2024-01-04`"):
        client.run(["own.silver.daily"])
    with pytest.raises(ValueError, match=r"own.silver.daily has no partition '2024-01-99': did you mean 2024-01-0"):
        client.run(["own.silver.daily"], partition="2024-01-99")
    with pytest.raises(ValueError, match=r"none of own.silver.single has partitions: leave --partition out"):
        client.run(["own.silver.single"], partition="2024-01-02")
    for day in ("2024-01-02", "2024-01-03"):
        done = client.run(["own.silver.daily"], partition=day)
        assert [table.state for table in done.tables.values()] == ["done"], done.tables
    assert client.table("own.silver.daily").scan().collect().height == 2


def test_the_jobs_leave_partitioned_assets_out(client, settings):
    found = definitions(settings, client.context.products)
    assert dg.AssetKey(["own", "silver", "daily"]) not in found.resolve_job_def("refresh").asset_layer.executable_asset_keys


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import dagster as dg\n\n@dg.definitions\ndef bad():\n    return 1 / 0\n", "own/a.py:5: ZeroDivisionError"),
        ("import dagster as dg\n\n@dg.definitions\ndef bad():\n    return 1\n", "Function must return a Definitions"),
        (PLAIN.replace('"listed"', '"silver"').replace('made("y")', 'made("single")'), ""),
        ('import dagster as dg\nd = dg.Definitions(resources={"lakehouse": 1})\n', "lakehouse"),
        ('import dagster as dg\nj = dg.define_asset_job("refresh")\n', "refresh"),
    ],
)
def test_definitions_that_do_not_fit_are_refused_by_name_and_the_rest_is_loaded(product, settings, source, said):
    declared = load(product({"a.py": source}))
    found = definitions(settings, declared)
    graph = found.resolve_asset_graph()
    text = graph.get(dg.AssetKey(["own", "broken"])).description
    assert "own" in text
    assert said in text
    dg.Definitions.validate_loadable(found)

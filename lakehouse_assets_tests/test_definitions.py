"""The code location: what is in the graph, that it loads quickly and by any door, and that a new folder is a new product."""

import ast
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import dagster as dg
import pytest
import yaml

from lakehouse_assets import products
from lakehouse_assets.definitions import definitions, defs
from lakehouse_assets.platform.declarations.check_names import OTHER_CHECKS
from lakehouse_assets.platform.declarations.kind import Kind
from lakehouse_assets.platform.declarations.monitors import Monitor
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.orchestration.steps import key_of
from lakehouse_assets.platform.orchestration.table_partitions import SUFFIX
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests import asset_graph
from lakehouse_assets_tests.running import land_text, run_declared, tables_of

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def graph():
    return defs().resolve_asset_graph()


def names(graph) -> set[str]:
    return {".".join(key.path) for key in graph.get_all_asset_keys()}


def test_every_declared_table_and_its_quarantine_is_an_asset(graph):
    declared = load(products)
    expected = {asset.name for asset in declared.declarations if asset.outputs()} | {table.quarantine for table in declared.tables}
    assert not declared.broken
    shown = {f"{table.name}{SUFFIX}" for table in declared.tables if table.kind.recomputed_by}
    assert names(graph) == expected | shown | {"platform.landing.log", "platform.maintenance.log"}


def test_assets_say_what_they_are(graph):
    for asset in load(products).tables:
        node = graph.get(key_of(asset.name))
        assert node.group_name == f"{asset.product}/{asset.layer}"
        assert node.owners == [asset.owner]
        assert node.description
        schema = node.metadata["dagster/column_schema"]
        assert [column.name for column in schema.columns] == list(asset.schema)
        promised = set(asset.contract.to_schema().columns)
        assert all(column.description for column in schema.columns if column.name in promised), asset.name
        assert node.kinds == {"deltalake", asset.layer}
        assert node.tags.items() >= {"product": asset.product, "layer": asset.layer}.items()
        assert ("pii" in node.tags) == bool(asset.personal)


def test_every_column_of_every_asset_is_described(graph):
    for key in graph.get_all_asset_keys():
        schema = graph.get(key).metadata["dagster/column_schema"]
        assert schema.columns, key
        assert [column.name for column in schema.columns if not column.description] == [], key


def test_every_asset_says_where_its_table_is(graph):
    for key in graph.get_all_asset_keys():
        metadata, name = graph.get(key).metadata, ".".join(key.path).removesuffix(SUFFIX)
        assert metadata["dagster/table_name"] == name
        assert metadata["dagster/uri"].endswith(name.replace(".", "/"))


def test_every_table_has_its_contract_as_a_blocking_check(graph):
    for asset in load(products).tables:
        checks = {key.name: graph.get_check_spec(key) for key in graph.get(key_of(asset.name)).check_keys}
        assert checks["contract"].blocking
        assert checks["row_account"].blocking
        assert not any(check.blocking for name, check in checks.items() if name not in {"contract", "row_account"})


def test_lineage_follows_the_reads(graph):
    parents = {".".join(key.path) for key in graph.get(key_of("sales.gold.daily_revenue")).parent_keys}
    assert parents == {"sales.silver.invoice_lines", "sales.silver.product_groups"}


def test_the_asset_graph_is_what_it_is_meant_to_be():
    assert asset_graph.current() == asset_graph.SNAPSHOT.read_text(encoding="utf-8"), (
        f"If the change of the asset graph is meant, write it down: {asset_graph.COMMAND}"
    )


@cache
def modules() -> dict[str, ast.Module]:
    """The package's modules by their path in it."""
    package = PROJECT / "lakehouse_assets"
    return {str(path.relative_to(package)): ast.parse(path.read_text()) for path in sorted(package.rglob("*.py"))}


def names_in(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)} | {
        inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)
    }


def test_kinds_are_told_apart_where_they_are_declared_and_in_the_pipeline_alone():
    def all_below(kind: type) -> Iterator[type]:
        for below in kind.__subclasses__():
            yield below
            yield from all_below(below)

    kinds = {"Kind", *(kind.__name__ for kind in all_below(Kind) if kind.__module__.startswith("lakehouse_assets."))}
    assert {"Append", "Full", "Scores", "Revisions"} <= kinds
    told_apart = [
        f"{path}:{node.lineno}"
        for path, module in modules().items()
        if not path.startswith(("platform/declarations/", "platform/pipeline/"))
        for node in ast.walk(module)
        if (isinstance(node, ast.Call) and names_in(node.func) & {"isinstance", "issubclass"} and names_in(node) & kinds)
        or (isinstance(node, ast.MatchClass) and names_in(node.cls) & kinds)
        or (isinstance(node, ast.Compare) and names_in(node) & kinds)
    ]
    assert told_apart == [], "a kind knows how to do its part: give it a method"


def test_dagster_is_imported_in_orchestration_and_definitions_alone():
    def imported(node: ast.AST) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        return [node.module or ""] if isinstance(node, ast.ImportFrom) else []

    found = {
        path
        for path, module in modules().items()
        if not path.startswith("platform/orchestration/")
        for node in ast.walk(module)
        if any(name.split(".")[0] in {"dagster", "dagster_deltalake"} for name in imported(node))
    }
    assert found == {"definitions.py"}


def test_what_runs_by_itself():
    found = defs()
    assert {job.name for job in found.jobs} >= {"refresh", "train"}
    schedules = {schedule.name: schedule for schedule in found.schedules}
    assert schedules["daily_refresh"].cron_schedule == "0 6 * * *"
    assert schedules["weekly_training"].default_status == dg.DefaultScheduleStatus.RUNNING
    assert {sensor.default_status for sensor in found.sensors} == {dg.DefaultSensorStatus.RUNNING}
    assert all(automation.description for automation in (*found.sensors, *found.schedules))


def test_pyproject_and_workspace_name_one_code_location():
    """Without -w, dagster dev reads pyproject.toml and says nothing of workspace.yaml."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    module = yaml.safe_load((PROJECT / "workspace.yaml").read_text())["load_from"][0]["python_module"]
    assert module["location_name"] == project["code_location_name"] == "lakehouse_assets"
    assert module["module_name"] == project["code_location_target_module"]
    assert module["working_directory"] == "."


def test_loading_imports_nothing_heavy_and_starts_no_threads_that_a_fork_would_wait_for():
    """Steps are forked from a process that has imported the definitions. Threads are listed by Linux alone."""
    heavy = ["mlflow", "lightgbm", "matplotlib", "scipy", "sklearn"]
    code = f"""
        import sys
        from pathlib import Path
        from lakehouse_assets.definitions import defs
        print([name for task in Path("/proc/self/task").glob("*") if (name := (task / "comm").read_text().strip()).startswith("polars-0")])
        defs().resolve_asset_graph()
        print([name for name in {heavy} if name in sys.modules])
    """
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert out.stdout.split() == ["[]", "[]"]


NEW_PRODUCT = '''
"""Parcels: what the warehouse sent."""

import polars as pl

from lakehouse_assets.platform.declarations.computed_kinds import ByKey
from lakehouse_assets.platform.declarations.feeds import feed
from lakehouse_assets.platform.declarations.row_kinds import Append
from lakehouse_assets.platform.declarations.tables import table
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.quality.conform import conform, text, whole_number
from lakehouse_assets.platform.quality.contract import Contract, column

parcels = feed("parcels.bronze.parcels", Feed("parcels", headers=(("parcel", "grams"),)), "Parcels as the scales wrote them.")


class Parcel(Contract):
    """A parcel that left the warehouse."""

    parcel: str = column(key=True, description="Number of the parcel.")
    grams: int = column(gt=0, description="Weight.")


@table("parcels.silver.parcels", contract=Parcel, kind=Append(), inputs={"rows": "parcels.bronze.parcels"})
def weighed(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Parcels with their weight."""
    return conform(rows, parcel=text("parcel"), grams=whole_number("grams"))


@table("parcels.gold.total", contract=Parcel, kind=ByKey("parcel"), inputs={"rows": "parcels.silver.parcels"})
def total(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The same, to have a graph."""
    return rows
'''


def test_a_new_folder_is_a_new_product(settings, tmp_path, monkeypatch):
    (tmp_path / "parcels").mkdir()
    (tmp_path / "parcels" / "__init__.py").touch()
    (tmp_path / "parcels" / "tables.py").write_text(NEW_PRODUCT)
    # As if the folder lay beside the others, which a test had better not write to.
    monkeypatch.setattr(products, "__path__", [*products.__path__, str(tmp_path)])
    declared = load(products)
    found = definitions(settings, declared)
    assert {"parcels.silver.parcels__quarantine", "sales.gold.daily_revenue"} <= names(found.resolve_asset_graph())
    land_text(settings, "parcels", "1.csv", "parcel,grams\nA,100\nB,-1\nC,12x\n")
    keys = [key for key in found.resolve_asset_graph().executable_asset_keys if key.path[0] in {"parcels", "platform"}]
    with dg.DagsterInstance.ephemeral() as instance:
        result = found.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance, asset_selection=keys)
    assert result.success
    tables = tables_of(settings)
    assert tables.table("parcels.gold.total").count() == 1
    assert tables.table("parcels.silver.parcels__quarantine").count() == 2
    run_declared(settings, declared, ["parcels"])
    assert tables.table("parcels.gold.total").count() == 1


def test_two_declarations_of_one_name_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "twice" / "lakehouse_twice"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    for name in ("a.py", "b.py"):
        (folder / name).write_text(NEW_PRODUCT)
    monkeypatch.syspath_prepend(tmp_path / "twice")
    import lakehouse_twice

    declared = load(lakehouse_twice)
    assert not declared.declarations
    assert "two declarations have the name parcels.bronze.parcels" in declared.broken[0].error


def test_the_code_location_needs_no_root(tmp_path):
    definitions(Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "nowhere")}), load(products)).resolve_asset_graph()
    assert not (tmp_path / "nowhere").exists()


def test_every_check_is_a_rule_a_monitor_or_of_a_known_name(graph):
    loaded = load(products)
    rules = {rule.name for table in loaded.tables for rule in table.rules}
    watched = {one.name.rpartition(".")[2] for one in loaded.declarations if isinstance(one, Monitor)}
    assert {key.name for key in graph.asset_check_keys} - rules - watched <= OTHER_CHECKS

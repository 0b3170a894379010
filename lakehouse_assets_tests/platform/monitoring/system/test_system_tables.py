"""docs/system_tables.md is true: its columns are those of the schemas, and its queries run. As a program it writes the columns there."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.client.client import open_lakehouse
from lakehouse_assets.platform.monitoring.system import system_log, system_tables
from lakehouse_assets.platform.monitoring.system.system_log import Recorded
from lakehouse_assets.platform.monitoring.system.system_tables import VIEWED, WRITTEN, SystemTable
from lakehouse_assets.platform.operations.maintenance import OLD_DAYS, Maintenance
from lakehouse_assets.platform.orchestration.recording import record_ended
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets_tests.platform.monitoring.system.test_system_views import ask, decide
from lakehouse_assets_tests.platform.orchestration.club import Club
from lakehouse_assets_tests.running import tables_of

PAGE = Path(__file__).parents[4] / "docs" / "system_tables.md"
BEGIN, END = re.compile(r"<!-- columns: .*? -->\n", re.DOTALL), "<!-- end of columns -->"
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
TYPES = {pl.String: "text", pl.Int64: "whole number", pl.Float64: "number", pl.Boolean: "yes or no", pl.Date: "day", pl.Datetime: "time"}


def described(table: SystemTable) -> str:
    """The columns of a table as they stand in the page."""
    rows = [f"### {table.name}", "", table.description, "", "| column | type | unit | meaning |", "| --- | --- | --- | --- |"]
    for name, column in table.columns.items():
        rows.append(f"| `{name}` | {TYPES[column.dtype.base_type()]} | {column.unit} | {column.text} |")
    return "\n".join(rows) + "\n"


def with_columns(page: str) -> str:
    """The page with the columns as they are."""
    begin = BEGIN.search(page)
    assert begin is not None
    columns = "\n".join(described(table) for table in (*WRITTEN, *VIEWED))
    return page[: begin.end()] + "\n" + columns + "\n" + page[page.index(END) :]


def test_the_page_has_the_columns_of_the_schemas():
    page = PAGE.read_text(encoding="utf-8")
    assert with_columns(page) == page, "python -m lakehouse_assets_tests.platform.monitoring.system.test_system_tables"


def test_no_name_is_one_that_the_platform_has_already():
    assert {table.name for table in WRITTEN} <= platform_tables.ALL
    assert not {table.name for table in VIEWED} & platform_tables.ALL


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A root with runs that succeeded and failed, decisions and requests."""
    from lakehouse_assets.settings import Settings

    settings = Settings(root=tmp_path_factory.mktemp("system") / "root")
    with dg.DagsterInstance.ephemeral() as instance:
        club = Club(settings, instance)
        club.land("members", ("a", 30), ("b", -1), ("c", 60))
        club.run()
        club.land("members", ("f", 200))
        club.run()
        record_ended(instance, tables_of(settings), {"club.silver.members": "team:members"})
    decide(settings, "club.models.age", 1, champion=1)
    ask(settings, "club.inference.age", "a", status_code=200, model_version=1, variant="champion")
    return open_lakehouse(settings=settings, declarations=[], notice=lambda _: None)


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_a_query_of_the_page_runs_and_has_an_answer(lake, query):
    assert lake.sql(query).height


def test_the_tables_are_listed_and_read_as_any_other(lake):
    assert {table.name for table in (*WRITTEN, *VIEWED)} <= set(lake.tables())
    for table in (*WRITTEN, *VIEWED):
        assert lake.table(table.name).scan().collect().schema == table.schema


def test_days_beyond_the_retention_are_deleted_and_a_run_of_them_is_not_written_again(settings):
    """A schema that gained a column since is widened, too."""
    lakehouse = tables_of(settings)
    now = datetime.now(UTC)
    days = [datetime(2020, 1, 1, tzinfo=UTC), now]
    for at in days:
        row = {"run_id": f"{at:%Y}", "ended_at": at, "date": at.date()}
        system_log.write(lakehouse, Recorded([row], [row | {"step": "s"}], [row | {"check": "c"}]))
    kept = timedelta(days=400)
    done = {one.table: one.done for one in Maintenance(lakehouse, [], lambda: None, kept, days_kept=kept).run("m")}
    for table in WRITTEN:
        assert OLD_DAYS in done[table.name]
        assert lakehouse.table(table.name).scan().collect()["run_id"].to_list() == [f"{now:%Y}"]


def test_a_table_of_an_earlier_release_gains_the_columns_that_it_lacks(settings):
    runs = system_tables.RUNS
    lakehouse = tables_of(settings)
    lakehouse.table(runs.name).create({name: dtype for name, dtype in runs.schema.items() if name != "checks_failed"}, ("date",))
    system_log.write(lakehouse, Recorded([{"run_id": "a", "checks_failed": 2, "date": datetime.now(UTC).date()}]))
    assert lakehouse.table(runs.name).scan().collect()["checks_failed"].to_list() == [2]


if __name__ == "__main__":
    PAGE.write_text(with_columns(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

"""Dagster's databases when the first process of a root was killed while they were made: nothing is recorded yet."""

import sqlite3
from contextlib import closing

from lakehouse_assets.platform.operations import run_records


def test_databases_without_their_tables_hold_no_runs(tmp_path):
    (tmp_path / "history" / "runs").mkdir(parents=True)
    for name in ("runs.db", "runs/index.db"):
        with closing(sqlite3.connect(tmp_path / "history" / name)) as database:
            database.execute("CREATE TABLE alembic_version (version_num TEXT)")

    assert run_records.last_run(tmp_path) is None
    assert run_records.runs_under_way(tmp_path) == []
    assert run_records.failures_of_the_last(tmp_path) == {}
    assert run_records.failed_checks(tmp_path, {}) == {}

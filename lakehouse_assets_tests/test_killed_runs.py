"""Runs that are killed, interrupted or ended while Dagster's pool slots are theirs: the next run, or the one that waits, goes on.

The processes die for real, inside of `lakehouse run`. `python -m benchmarks.sweeps` tries all places, `python -m benchmarks.kills` random
moments, under `lakehouse dev` as well.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG

from lakehouse_assets.client import Client, open_lakehouse
from lakehouse_assets.platform.orchestration.automation import REFRESH
from lakehouse_assets.platform.orchestration.code_location import definitions
from lakehouse_assets.platform.orchestration.in_process_run import LOCATION, MODULE
from lakehouse_assets.platform.orchestration.instance import instance
from lakehouse_assets.platform.orchestration.run import _job_of, selection_of
from lakehouse_assets.platform.orchestration.run_control import locks_of
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.orchestration.club import records, statuses
from lakehouse_assets_tests.running import land_text, tables_of

PROJECT = Path(__file__).parents[1]
HEADER = "stock_code,name,product_group,component,list_price"
TABLES = ("sales.bronze.products", "sales.silver.products", "sales.silver.product_groups")
RESULT = "sales.silver.product_groups"


class Child:
    """A process that runs `lakehouse run` as often as it is asked to, each time in a fork of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def start(self, root: Path, fatal: int = 0, when: str = "before", what: str = "SIGKILL") -> None:
        order = {"root": str(root), "words": TABLES, "fatal": fatal, "when": when, "signal": what}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """The signal that it ended with (less than 0: the exit code), and its places if it came to its end."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def run(self, root: Path, fatal: int = 0, when: str = "before", what: str = "SIGKILL") -> dict[str, Any]:
        self.start(root, fatal, when, what)
        return self.end()


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    command = [sys.executable, "-m", "lakehouse_assets_tests.run_child"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=PROJECT,
        env=clean,
        start_new_session=True,
    ) as process:
        yield Child(process)
        os.killpg(process.pid, signal.SIGKILL)  # after a test that failed, its run still waits


@pytest.fixture
def lakehouse(settings: Settings, monkeypatch) -> Client:
    """A root with three products landed; Dagster's home is set back afterwards."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    land(settings, 1)
    return open_lakehouse(settings=settings)


def land(settings: Settings, day: int) -> None:
    rows = [f"{code},ball,group {day},base,{day}" for code in range(3)]
    land_text(settings, "products", f"products_2024-01-0{day}.csv", "\n".join([HEADER, *rows]) + "\n")


def groups(settings: Settings) -> set[str]:
    return set(tables_of(settings).table(RESULT).scan().collect()["product_group"])


def last_runs(settings: Settings) -> list[tuple[dg.DagsterRun, list[str]]]:
    """The runs, the newest first, each with the messages of its end."""
    ends = {dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED}
    with instance(settings) as opened:
        return [(run, [entry.dagster_event.message for entry in opened.all_logs(run.run_id, of_type=ends)]) for run in opened.get_runs()]


def claimed(settings: Settings) -> list[str]:
    with instance(settings) as opened:
        pools = opened.event_log_storage.get_concurrency_infos([name.replace(".", "__") for name in TABLES])
        return [pool for pool, info in pools.items() if info.claimed_slots]


def until(look) -> Any:
    deadline = time.monotonic() + 120
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_a_run_goes_on_where_one_was_killed_that_held_a_slot(child, lakehouse):
    settings = lakehouse.settings
    places = sweeps.of([(2, "before"), (4, "after")], [(number, when) for number in range(2, 5) for when in ("before", "after")])
    for day, (number, when) in enumerate(places, start=1):
        land(settings, day)
        assert child.run(settings.root, number, when)["signal"] == signal.SIGKILL
        assert lakehouse.runs.under_way() == []
        assert claimed(settings), f"place {number} is in no step"

        assert child.run(settings.root)["signal"] == 0
        assert groups(settings) == {f"group {day}"}
        killed, messages = last_runs(settings)[1]
        assert killed.status is dg.DagsterRunStatus.FAILURE
        assert "Its process ended before the run did: process " in messages[0]
        assert claimed(settings) == []


def test_the_checks_of_a_killed_run_keep_their_last_results(child, lakehouse):
    settings = lakehouse.settings
    defs = definitions(settings, lakehouse.context.products)
    keys = [key for key in defs.resolve_asset_graph().asset_check_keys if ".".join(key.asset_key.path) in TABLES]

    def shown() -> dict[tuple[str, str], str]:
        with instance(settings) as opened:
            return statuses(records(opened, keys), opened)

    lakehouse.run(TABLES)
    before = shown()
    assert set(before.values()) == {"SUCCEEDED"}
    for day, end in ((2, lakehouse.runs.end_dead), (3, lambda: lakehouse.runs.end(lakehouse.runs.list(1)[0]["run_id"]))):
        land(settings, day)
        assert child.run(settings.root, 2)["signal"] == signal.SIGKILL
        assert set(shown().values()) == {"IN_PROGRESS"}
        end()
        assert shown() == before


def test_the_doctor_names_a_dead_run_and_its_command_ends_it(child, lakehouse):
    settings = lakehouse.settings
    assert child.run(settings.root, 2)["signal"] == signal.SIGKILL
    (run,) = lakehouse.runs.list()
    assert (run["state"], run["launched_by"].split()[0], run["tables"]) == ("dead", "cli", tuple(sorted(TABLES)))
    (finding,) = [finding for finding in lakehouse.doctor() if "its process is gone" in finding["what"]]
    assert finding["fix"] == f"lakehouse runs end {run['run_id'][:8]}"
    lakehouse.runs.end(run["run_id"][:8])
    assert [run["state"] for run in lakehouse.runs.list()] == ["failure"]
    assert claimed(settings) == []
    with pytest.raises(ValueError, match="has ended already: failure"):
        lakehouse.runs.end(run["run_id"])
    with pytest.raises(LookupError, match="no run begins with 'nothing'"):
        lakehouse.runs.end("nothing")


def test_a_run_that_goes_on_during_a_backup_is_a_dead_one_in_the_restored_root(child, lakehouse, tmp_path):
    settings = lakehouse.settings
    child.start(settings.root, 2, what="SIGSTOP")
    stopped = until(lambda: [run["owner"] for run in lakehouse.runs.list() if run["owner"] and claimed(settings)])[0]
    lakehouse.backup(str(tmp_path / "backups"))
    assert [run["state"] for run in lakehouse.runs.list()] == ["started"]
    os.kill(stopped["pid"], signal.SIGKILL)
    child.end()

    restored = open_lakehouse(settings=replace(settings, root=tmp_path / "restored"))
    restored.restore_backup(str(tmp_path / "backups")).carry_out()
    assert [run["state"] for run in restored.runs.list()] == ["dead"]
    assert claimed(restored.settings)
    assert child.run(restored.settings.root)["signal"] == 0
    assert groups(restored.settings) == {"group 1"}
    assert [run["state"] for run in restored.runs.list()] == ["success", "failure"]
    assert claimed(restored.settings) == []


def test_a_run_with_nothing_to_do_ends_dead_ones_too(lakehouse, monkeypatch):
    with instance(lakehouse.settings) as opened:
        dead = opened.add_run(dg.DagsterRun(job_name=REFRESH, run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.STARTED))
        locks_of(opened).take(dead.run_id).release(forget=False)
    said: list[str] = []
    monkeypatch.setattr("lakehouse_assets.platform.operations.pending.pending", lambda *_: {})
    assert open_lakehouse(settings=lakehouse.settings, notice=said.append).run() is None
    assert [text.split()[:2] for text in said] == [["Run", dead.run_id[:8]]]
    assert [run["state"] for run in lakehouse.runs.list()] == ["failure"]


def test_a_run_says_for_which_it_waits_and_goes_on_when_that_one_dies(child, lakehouse):
    child.start(lakehouse.settings.root, 2, what="SIGSTOP")
    stopped = until(lambda: [run["owner"] for run in lakehouse.runs.list() if run["owner"] and claimed(lakehouse.settings)])[0]
    seen: list[str] = []

    def on_progress(outcome) -> None:
        if len(outcome.notes) == 1 and not seen:
            seen.extend(outcome.notes)
            os.kill(stopped["pid"], signal.SIGKILL)

    outcome = lakehouse.run(TABLES, on_progress=on_progress)
    assert child.end()["signal"] == signal.SIGKILL
    (waits,) = seen
    assert f"process {stopped['pid']} on" in waits
    assert "by cli" in waits
    assert f"lakehouse runs end {lakehouse.runs.list()[-1]['run_id'][:8]}" in waits
    assert "is ended as failed: its process is gone" in outcome.notes[1]
    assert not outcome.failed
    assert groups(lakehouse.settings) == {"group 1"}


def test_a_signal_cancels_a_run_at_once(child, lakehouse):
    """Of other signals `cli.test_interrupts` holds what is said and left."""
    settings = lakehouse.settings
    for count, name in enumerate(sweeps.of(("SIGHUP",), ("SIGINT", "SIGTERM", "SIGHUP")), start=1):
        # A shell that starts a command in the background has it ignore an interrupt; nobody does so here.
        assert child.run(settings.root, 2, what=name)["signal"] == -(128 + signal.Signals[name]), name
        assert [run.status for run, _ in last_runs(settings)] == [dg.DagsterRunStatus.CANCELED] * count
        assert claimed(settings) == []
    assert child.run(settings.root)["signal"] == 0
    assert groups(settings) == {"group 1"}


@pytest.mark.parametrize("how", ["by command", "in the web UI"])
def test_a_run_that_is_ended_from_outside_stops(child, lakehouse, how):
    settings = lakehouse.settings
    child.start(settings.root, 2, what="sleep")
    run_id = until(lambda: [run["run_id"] for run in lakehouse.runs.list() if claimed(settings)])[0]
    if how == "by command":
        lakehouse.runs.end(run_id)
    else:
        with instance(settings) as opened:
            opened.report_run_canceled(opened.get_run_by_id(run_id))
    assert child.end()["signal"] == -130
    assert [run["state"] for run in lakehouse.runs.list()] == ["canceled"]
    assert claimed(settings) == []


def test_a_run_of_the_command_line_is_shown_with_its_job_code_location_and_user(lakehouse):
    defs = definitions(lakehouse.settings, lakehouse.context.products)
    assert _job_of(defs, selection_of([], defs, lakehouse.context.models), [])[0].name == REFRESH
    assert lakehouse.run(["sales.bronze.products"]) is not None
    label = f"__repository__@{LOCATION}"
    with instance(lakehouse.settings) as opened:
        (run,) = opened.get_runs(dg.RunsFilter(tags={REPOSITORY_LABEL_TAG: label}))  # as the web UI asks for a timeline
    assert run.remote_job_origin.repository_origin.get_label() == label
    assert run.tags["lakehouse/launched_by"] == "cli"
    assert run.tags["user"]
    (module,) = [entry["python_module"] for entry in yaml.safe_load((PROJECT / "workspace.yaml").read_text())["load_from"]]
    assert (module["module_name"], module["location_name"]) == (MODULE, LOCATION)

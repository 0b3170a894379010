"""Kill -9 at random moments, of `lakehouse run` and under `lakehouse dev`: the next run, or the sensor's next ticks, resume.

Each kill is on a copy of a root on which a first landing was run and a second one waits. Afterwards every table has to equal that of an
oracle that was never killed. The limit: a minute from the kill (from the restart, where the servers were killed too) to the last table.

`python -m benchmarks.kills [--runs 60] [--dev 12] [--seed 1]`
"""

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.measure import PROJECT, keep
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.orchestration.run_locks import RunLocks
from lakehouse_assets.settings import Settings
from lakehouse_assets.simulator.shop import simulate

CLI = [sys.executable, "-m", "lakehouse_assets.cli"]
SELECTION = ["group:sales", "revenue_forecast.features.daily_revenue"]
MOST_SECONDS = 60.0
GIVE_UP_AFTER = 300.0
# What differs from run to run: who wrote a row, and when.
VOLATILE = ("_ingested_at", "_run_id", "at", "run_id", "modified", "known_at", "recorded_at", "event_number")
WEB_PORT = 3917


def environment(root: Path, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    return clean | {"LAKEHOUSE_ROOT": str(root), "PYTHONPATH": str(PROJECT)} | more


def settings_of(root: Path) -> Settings:
    return Settings.load({"LAKEHOUSE_ROOT": str(root)})


def land(root: Path, days: int, start: date) -> None:
    simulate(Path(settings_of(root).landing), root / f"truth_{start}.json", days=days, orders_per_day=3, seed=1, start=start)


def content(root: Path) -> dict[str, pl.DataFrame]:
    """The rows of the tables that the selection writes, and of their quarantines, without what differs from run to run."""
    found = {}
    for table in Root(settings_of(root)).lakehouse.tables():
        if table.name.startswith(("sales.", "revenue_forecast.features.")):
            rows = table.scan().collect().drop(*VOLATILE, strict=False)
            lists = [name for name, dtype in rows.schema.items() if dtype.is_nested()]
            rows = rows.with_columns(pl.col(lists).map_elements(str, return_dtype=pl.String), pl.col(pl.Float64).round(2))
            found[table.name] = rows.sort(pl.all())
    return found


def difference(root: Path, oracle: dict[str, pl.DataFrame]) -> str:
    """Which tables are not as the oracle's; empty if all are."""
    found = content(root)
    return ", ".join(
        sorted(name for name in found.keys() | oracle if name not in found or name not in oracle or not equal(found, oracle, name))
    )


def equal(found: dict[str, pl.DataFrame], oracle: dict[str, pl.DataFrame], name: str) -> bool:
    """Sums of one set of floats differ in their last digits by the order of the rows."""
    ours, theirs = found[name], oracle[name]
    if ours.schema != theirs.schema or ours.height != theirs.height:
        return False
    exact, floats = pl.exclude(pl.Float64), pl.col(pl.Float64)
    if not ours.select(exact).equals(theirs.select(exact)):
        return False
    distances = ours.select(floats) - theirs.select(floats) if ours.select(floats).width else pl.DataFrame()
    return all((column.abs().max() or 0.0) < 0.02 for column in distances)  # type: ignore[operator]


def run(root: Path, folder: Path, timeout: float | None = None) -> tuple[int, float, float]:
    """The exit code of `lakehouse run`, its seconds, and its CPU seconds, which say what it took on a machine that does other things."""
    began, before = time.monotonic(), cpu_of_children()
    with (folder / "log").open("w") as log:
        command = [*CLI, "run", *SELECTION]
        code = subprocess.run(command, env=environment(root), stdout=log, stderr=log, cwd=folder, timeout=timeout, check=False).returncode
    return code, time.monotonic() - began, cpu_of_children() - before


def cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def kill_a_run(root: Path, folder: Path, seconds: float) -> bool:
    """Start `lakehouse run`, and kill it so many seconds later; whether it was still running."""
    with (folder / "killed").open("w") as log:
        process = subprocess.Popen([*CLI, "run", *SELECTION], env=environment(root), stdout=log, stderr=log, cwd=folder)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait() == -signal.SIGKILL


def runs_killed(base: Path, folder: Path, oracle: dict[str, pl.DataFrame], moments: list[float]) -> Iterator[dict[str, Any]]:
    for number, moment in enumerate(moments):
        root = folder / f"run-{number}"
        shutil.copytree(base, root)
        was_running = kill_a_run(root, folder, moment)
        try:
            code, seconds, cpu = run(root, folder, GIVE_UP_AFTER)
            wrong = f"exit code {code}" if code else difference(root, oracle)
        except subprocess.TimeoutExpired:
            seconds, cpu, wrong = GIVE_UP_AFTER, 0.0, "it waits for ever"
        yield {"how": "run", "moment": moment, "was_running": was_running, "seconds": seconds, "cpu": cpu, "wrong": wrong}
        shutil.rmtree(root)


# --- under `lakehouse dev`


@contextmanager
def dev(root: Path, folder: Path, executor: str) -> Iterator["subprocess.Popen[str]"]:
    own = environment(root, LAKEHOUSE_SENSOR_SECONDS="5", LAKEHOUSE_EXECUTOR=executor)
    command = [*CLI, "dev", "--no-mlflow", "--port", str(WEB_PORT)]
    with (folder / "dev").open("a") as log, subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=log, text=True) as server:
        try:
            while server.stdout is not None and "ingested" not in (line := server.stdout.readline()):
                if not line:
                    raise RuntimeError(f"lakehouse dev did not start: {(folder / 'dev').read_text()[-2000:]}")
            yield server
        finally:
            if server.poll() is None:
                server.terminate()
                server.wait(60)


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found


def worker(root: Path) -> int:
    """The process of the run that is under way, once there is one."""
    locks = RunLocks(settings_of(root).dagster_home)
    return int(until(lambda: next((owner.pid for name in locks.names() if name != "dev" and (owner := locks.owner(name))), None)))


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + GIVE_UP_AFTER
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.2)
    return None


def workers_killed(base: Path, folder: Path, oracle: dict[str, pl.DataFrame], moments: list[float]) -> Iterator[dict[str, Any]]:
    for number, moment in enumerate(moments):
        root = folder / f"dev-{number}"
        shutil.copytree(base, root)
        executor = ("in_process", "multiprocess")[number // 2 % 2]
        everything = number % 2 == 1
        with dev(root, folder, executor) as server:
            pid = worker(root)
            time.sleep(moment)
            was_running = Path(f"/proc/{pid}").exists()
            for each in family(server.pid) if everything else [pid]:
                try:
                    os.kill(each, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            if everything:
                server.wait()
            else:
                yield measured(root, oracle, "worker", executor, moment, was_running=was_running)
        if everything:
            with dev(root, folder, executor):
                yield measured(root, oracle, "all servers", executor, moment, was_running=was_running)
        shutil.rmtree(root, ignore_errors=True)  # a worker that outlived its servers may write its last words


def measured(root: Path, oracle: dict[str, pl.DataFrame], how: str, executor: str, moment: float, *, was_running: bool) -> dict[str, Any]:
    """Wait until the tables are as the oracle's."""
    began = time.monotonic()
    until(lambda: not difference(root, oracle))
    seconds = time.monotonic() - began
    how = f"dev, {how}, {executor}"
    return {"how": how, "moment": moment, "was_running": was_running, "seconds": seconds, "wrong": difference(root, oracle)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--dev", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="moments are up to here; 0: as long as a whole run takes")
    given = parser.parse_args()
    chosen = random.Random(given.seed)  # noqa: S311 moments are no secret
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = folder / "base"
        land(base, 28, date(2024, 1, 4))
        if run(base, folder)[0]:
            sys.exit((folder / "log").read_text())
        land(base, 20, date(2024, 2, 1))
        shutil.copytree(base, folder / "oracle")
        _, whole, cpu = run(folder / "oracle", folder)
        oracle = content(folder / "oracle")
        most = given.seconds or whole
        print(f"an undisturbed run: {whole:.1f} s, {cpu:.1f} CPU s", flush=True)
        moments = [chosen.uniform(0.0, most) for _ in range(given.runs)]
        in_worker = [chosen.uniform(0.0, most / 2) for _ in range(given.dev)]  # from when its process works on the run
        for trial in chain(runs_killed(base, folder, oracle, moments), workers_killed(base, folder, oracle, in_worker)):
            results.append(trial)
            print(
                f"{trial['how']:40} killed at {trial['moment']:5.1f} s, up to date after {trial['seconds']:5.1f} s {trial['wrong']}",
                flush=True,
            )
    keep("kills", {"undisturbed": {"seconds": whole, "cpu": cpu}, "trials": results})
    show(results)
    if any(trial["wrong"] or trial["seconds"] > MOST_SECONDS for trial in results):
        sys.exit("over the limit")


def show(results: list[dict[str, Any]]) -> None:
    grid = Table(
        "killed", "times", "still running", "up to date, median s", "longest s", "limit s", "wrong", title="kill -9 at random moments"
    )
    for how in dict.fromkeys(trial["how"] for trial in results):
        trials = [trial for trial in results if trial["how"] == how]
        seconds = sorted(trial["seconds"] for trial in trials)
        running = sum(trial["was_running"] for trial in trials)
        wrong = sum(bool(trial["wrong"]) for trial in trials)
        row = (len(trials), running, f"{seconds[len(seconds) // 2]:.1f}", f"{seconds[-1]:.1f}", f"{MOST_SECONDS:.0f}", wrong)
        grid.add_row(how, *(str(cell) for cell in row))
    Console().print(grid)


if __name__ == "__main__":
    main()

"""What a request costs: our service with look-ups and log on, against MLflow's own scoring server on the same model with ready features.

Both have one worker on one core; the load comes from the other core. Saturation is what a closed loop of clients gets; latencies are those
of an open loop (requests that come at random times, whatever became of those before) at half of the server's own saturation, and for ours
at fixed rates too: the more a server answers at once, the more its half is. The model is the champion of `order_fraud` on a simulated
shop; a request is an order as it comes, for MLflow's server the features of one.
Run it with `python -m benchmarks.serving`; it writes `benchmarks/results/serving.json`.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.load import Load, closed_loop, open_loop, request
from benchmarks.measure import PROJECT, keep, measure
from lakehouse_assets import open_lakehouse
from lakehouse_assets.client import Client
from lakehouse_assets.platform.pipeline.champions import Scorer, champion_of

ENDPOINT, MODEL, ORDERS, FEATURES = (
    "order_fraud",
    "order_fraud.models.order_fraud",
    "order_fraud.gold.orders",
    "order_fraud.features.orders",
)
DAYS, ORDERS_A_DAY = 400, 60
LEAST_TIMES, LEAST_TIMES_OF_100, MOST_P99 = 10.0, 5.0, 10.0
SERVER_CORE, CLIENT_CORE = 0, 1
CONNECTIONS = {"1 row": 32, "100 rows": 4}
SECONDS, ROWS = 6.0, 1_500
RATES = (50, 100, 200, 400, 800)
"""Requests a second at which latencies are measured besides."""


@dataclass(frozen=True)
class Measured:
    """A server under load.

    Attributes:
        saturation: Answers a second of a closed loop.
        p50: Milliseconds, at half of that in an open loop; so is the next.
        p99: Of each hundred requests one takes longer.
        cpu: Milliseconds of the server's processes for an answer, at saturation.
        megabytes: Of the server's processes, resident.
        failed: Answers that were none.
    """

    saturation: float
    p50: float
    p99: float
    cpu: float
    megabytes: float
    failed: Mapping[str, int]


def shop(root: Path) -> Client:
    """A shop whose orders are scored by a trained champion."""
    lakehouse = open_lakehouse(root)
    if not lakehouse.table(ORDERS).exists():
        own = {"LAKEHOUSE_ROOT": str(root)}
        cli = [sys.executable, "-m", "lakehouse_assets.cli"]
        words = ["simulate", "--days", str(DAYS), "--orders-per-day", str(ORDERS_A_DAY), "--seed", "1", "--start", "2024-01-01"]
        # Whatever the gate says of so small a shop: what is measured is a model that learnt.
        promote = ["models", "promote", MODEL, "1", "--reason", "what is measured is a model that learnt"]
        for command in (words, ["run", "group:sales", "group:order_fraud"], ["train", MODEL], promote):
            measure([*cli, *command], own)
    return lakehouse


def orders(lakehouse: Client, count: int) -> pl.DataFrame:
    """The newest orders, as they came: unmasked, as otherwise all would be of one card."""
    return lakehouse.context.root.lakehouse.table(ORDERS).scan().sort("paid_at", "invoice").tail(count).collect()


@contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str], ready: str) -> Iterator[int]:
    """A server on its core until it is stopped; its process id."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_", "MLFLOW_"))}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=clean | dict(environment),
            cwd=PROJECT,
            start_new_session=True,
        )
        os.sched_setaffinity(process.pid, {SERVER_CORE})
        try:
            deadline = time.monotonic() + 120
            while not _answers(ready):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    sys.exit(f"{' '.join(command)} did not start\n{log.read()[-3000:]}")
                time.sleep(0.2)
            yield process.pid
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 our own address
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def under_load(pid: int, address: str, requests: Sequence[bytes], seconds: float, connections: int) -> Measured:
    """Saturation, then latency at half of it."""
    warm = closed_loop(address, requests, seconds=2, connections=connections, core=CLIENT_CORE)
    if not len(warm.latencies):
        sys.exit(f"{address} answers nothing: {warm.failed}")
    before = _cpu(pid)
    full = closed_loop(address, requests, seconds=seconds, connections=connections, core=CLIENT_CORE)
    cpu = (_cpu(pid) - before) / max(len(full.latencies), 1)
    half = open_loop(address, requests, rate=full.rate / 2, seconds=seconds, connections=4 * connections, core=CLIENT_CORE)
    failed: dict[str, int] = dict(full.failed)
    for what, count in half.failed.items():
        failed[what] = failed.get(what, 0) + count
    return Measured(full.rate, half.percentile(0.5), half.percentile(0.99), cpu * 1000, _megabytes(pid), failed)


def _group(pid: int) -> list[int]:
    """The processes of a server."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getpgid(int(entry.name)) == pid:
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found


def _cpu(pid: int) -> float:
    ticks = 0
    for one in _group(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _megabytes(pid: int) -> float:
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in _group(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1_000_000


def _all_under_load(pid: int, address: str, path: str, bodies: Mapping[str, Sequence[bytes]], seconds: float) -> dict[str, Measured]:
    return {
        size: under_load(pid, address, [request(path, body) for body in some], seconds, CONNECTIONS[size]) for size, some in bodies.items()
    }


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def ours(root: Path, bodies: Mapping[str, Sequence[bytes]], seconds: float) -> tuple[dict[str, Measured], dict[int, Load]]:
    """`lakehouse serve`, and what one row takes at each of `RATES`."""
    port = free_port()
    environment = {"LAKEHOUSE_ROOT": str(root), "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    address = f"http://127.0.0.1:{port}"
    with serving(
        [sys.executable, "-m", "lakehouse_assets.cli", "serve", "--port", str(port)], environment, f"{address}/ready/{ENDPOINT}"
    ) as pid:
        path = f"/endpoints/{ENDPOINT}"
        measured = _all_under_load(pid, address, path, bodies, seconds)
        single = [request(path, body) for body in bodies["1 row"]]
        of_rate = {
            rate: open_loop(address, single, rate=rate, seconds=seconds, connections=4 * CONNECTIONS["1 row"], core=CLIENT_CORE)
            for rate in RATES
        }
        return measured, of_rate


def mlflows(model: str, bodies: Mapping[str, Sequence[bytes]], seconds: float) -> dict[str, Measured]:
    """`mlflow models serve`."""
    port = free_port()
    words = [
        "models",
        "serve",
        "--model-uri",
        model,
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "--workers",
        "1",
        "--env-manager",
        "local",
    ]
    # It calls `uvicorn` by its name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "PATH": path}
    address = f"http://127.0.0.1:{port}"
    with serving([str(Path(sys.executable).with_name("mlflow")), *words], environment, f"{address}/ping") as pid:
        return _all_under_load(pid, address, "/invocations", bodies, seconds)


def bare(lakehouse: Client, scorer: Scorer, events: pl.DataFrame, features: pl.DataFrame) -> dict[str, float]:
    """Milliseconds of the parts of an answer by themselves: the model on one row, and the look-up of one order."""
    from lakehouse_assets.platform.serving.online import StoreOnline

    fast, row = scorer.model.compiled(), features.head(1)
    catalog = lakehouse.context.loaded.catalog
    served = next(one for one in catalog.endpoints if one.word == ENDPOINT)
    declared = {one.name: one for one in catalog.declarations}
    from lakehouse_assets.platform.serving.served import Served

    online = StoreOnline(lakehouse.context.settings)
    lookups = online.lookups(Served(served, served.roles(declared)), {})
    event = events.rows(named=True)[0]
    if lookups is None:
        sys.exit("nothing is looked up")
    return {
        "model": _milliseconds(lambda: fast.predict(row)),
        "look-up": _milliseconds(lambda: lookups.features([event], [event["paid_at"]])),
    }


def _milliseconds(call: Callable[[], Any], times: int = 500) -> float:
    call()
    began = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - began) / times * 1000


def events_as_json(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Orders as a client sends them."""
    moment = pl.col("paid_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    return rows.with_columns(moment).rows(named=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="A root that is kept, and used again.")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--without-peer", action="store_true", help="Measure ours alone.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.root or Path(folder) / "root"
        lakehouse = shop(root)
        events = orders(lakehouse, ROWS)
        model = lakehouse.context.model(MODEL)
        scorer = champion_of(lakehouse.context.root.lakehouse, lakehouse.context.root.registry)(model)
        if scorer is None:
            sys.exit(f"{MODEL} has no champion: `lakehouse train` first")
        examples = model.examples
        table = lakehouse.context.root.lakehouse.table
        driving = table(FEATURES).scan().filter(pl.col("invoice").is_in(events["invoice"].implode()))
        features = examples.to_score(FEATURES, driving, lambda name: table(name).scan(), {}).collect().select(scorer.model.inputs)

        single = [json.dumps(one).encode() for one in events_as_json(events)]
        hundred = [json.dumps({"rows": events_as_json(part)}).encode() for part in events.iter_slices(100)]
        split = [
            [
                json.dumps({"dataframe_split": json.loads(part.to_pandas().to_json(orient="split"))}).encode()
                for part in features.iter_slices(size)
            ]
            for size in (1, 100)
        ]
        mine, of_rate = ours(root, {"1 row": single, "100 rows": hundred}, arguments.seconds)
        peer = (
            {}
            if arguments.without_peer
            else mlflows(_source(lakehouse, scorer), {"1 row": split[0], "100 rows": split[1]}, arguments.seconds)
        )
        parts = bare(lakehouse, scorer, events, features)
    report(mine, of_rate, peer, parts, type(scorer.model).__name__)


def _source(lakehouse: Client, scorer: Scorer) -> str:
    return lakehouse.context.root.registry().version(scorer.name, scorer.version).source


def report(
    mine: Mapping[str, Measured], of_rate: Mapping[int, Load], peer: Mapping[str, Measured], parts: Mapping[str, float], kind: str
) -> None:
    """Print the table and keep the numbers."""
    shown = Table(title=f"One worker on one core; the model is a {kind}")
    for name in ("server", "request", "answers a second", "p50 ms at half", "p99 ms at half", "CPU ms", "MB", "failed"):
        shown.add_column(name, justify="right" if name not in {"server", "request"} else "left")
    for server, measured in (("lakehouse serve", mine), ("mlflow models serve", peer)):
        for size, one in measured.items():
            failed = ", ".join(f"{count} x {what}" for what, count in one.failed.items()) or "0"
            cells = (f"{one.saturation:,.0f}", f"{one.p50:.1f}", f"{one.p99:.1f}", f"{one.cpu:.2f}", f"{one.megabytes:.0f}", failed)
            shown.add_row(server, size, *cells)
    console = Console(width=140)
    console.print(shown)
    overhead = mine["1 row"].cpu - sum(parts.values())
    console.print(
        f"By themselves: {', '.join(f'{name} {value:.3f} ms' for name, value in parts.items())}; all else {overhead:.3f} ms of CPU"
    )
    for rate, load in of_rate.items():
        console.print(f"{rate} requests of one row a second: p50 {load.percentile(0.5):.1f} ms, p99 {load.percentile(0.99):.1f} ms")
    times = {size: mine[size].saturation / peer[size].saturation for size in peer}
    limits = {"1 row": LEAST_TIMES, "100 rows": LEAST_TIMES_OF_100}
    for size, one in peer.items():
        console.print(
            f"{size}: {one.cpu / mine[size].cpu:.1f} times less CPU for an answer, which other work on the machine does not change"
        )
    for size, ratio in times.items():
        met = "met" if ratio >= limits[size] else "MISSED"
        console.print(f"{size}: {ratio:.1f} times the answers a second of MLflow's server (at least {limits[size]:.0f}): {met}")
    met = "met" if mine["1 row"].p99 < MOST_P99 else "MISSED"
    console.print(f"p99 of one row at half saturation {mine['1 row'].p99:.1f} ms (below {MOST_P99:.0f}): {met}")
    keep(
        "serving",
        {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": kind,
            "ours": {size: vars(one) for size, one in mine.items()},
            "of_rate": {rate: {"p50": load.percentile(0.5), "p99": load.percentile(0.99)} for rate, load in of_rate.items()},
            "mlflow": {size: vars(one) for size, one in peer.items()},
            "parts_ms": dict(parts),
            "times": times,
        },
    )


if __name__ == "__main__":
    main()

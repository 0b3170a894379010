"""Fixtures that more than one room's tests use: a fresh root, on a disk or in a bucket, and the real invoices where they are at hand."""

import gc
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from uuid import uuid4

import alembic.util
import hypothesis
import pytest

from lakehouse_assets.settings import Settings
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.forks import Forks
from lakehouse_assets_tests.mlflow_connections import forget_connections
from lakehouse_assets_tests.s3 import BUCKET, S3, s3_server

# What a shell starts in the background, or under `nohup`, ignores these, and so would the commands that tests interrupt.
for ignored in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, signal.default_int_handler if ignored == signal.SIGINT else signal.SIG_DFL)

# Dagster opens some thousand new databases in a run of all tests, and for each, Alembic would load every migration of its again.
_load = alembic.util.load_python_file
_load_once = cache(_load)
alembic.util.load_python_file = lambda folder, name: (_load if name == "env.py" else _load_once)(folder, name)

# Each run of the suite tries the same examples, so that what fails has been changed; `benchmarks.sweeps` looks for new ones.
hypothesis.settings.register_profile("suite", derandomize=not sweeps.FULL)
hypothesis.settings.load_profile("suite")

REAL_DATA = Path(__file__).parents[2] / "shared" / "data" / "online_retail"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes comes first, so that no worker is alone with it at the end: the modules of this folder run whole shops."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


def pytest_collection_finish() -> None:
    """What was imported and collected stays: Python need not look through it for garbage again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.fixture(scope="session")
def forks() -> Iterator[tuple[Forks, Forks]]:
    """Two processes of this worker, for what happens at once."""
    with Forks() as one, Forks() as other:
        yield one, other


@pytest.fixture(scope="module", autouse=True)
def no_idle_connections_to_mlflow() -> Iterator[None]:
    """Each test has a database of its own."""
    yield
    forget_connections()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a root of its own."""
    return Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "root")})


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 API on loopback, started when a test first asks for it."""
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a root of its own in a bucket, in the environment of this test."""
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid4().hex}"


@pytest.fixture(scope="session")
def real_invoices() -> list[Path]:
    """The two published files of the real shop."""
    files = sorted(REAL_DATA.glob("*.parquet"))
    if not files:
        pytest.skip("the real invoices are not beside this checkout")
    return files

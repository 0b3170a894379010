import shutil
import socket

import pytest

from lakehouse_assets.platform.registry.registry import Registry


@pytest.fixture(scope="session")
def _prepared_folder(tmp_path_factory):
    """A prepared store to copy: creating one takes more than a second."""
    folder = tmp_path_factory.mktemp("prepared store")
    Registry.under(folder).prepare()
    return folder


@pytest.fixture
def new_registry(_prepared_folder, tmp_path):
    """Makes empty registries, each in its own folder with a blank in its name."""

    def make(name: str = "a root") -> Registry:
        shutil.copytree(_prepared_folder, tmp_path / name)
        return Registry.under(tmp_path / name)

    return make


@pytest.fixture
def registry(new_registry):
    return new_registry()


@pytest.fixture
def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

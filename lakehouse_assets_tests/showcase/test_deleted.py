"""The showcase can be deleted: without it, its simulator and its products, every command that is left works on an empty root."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lakehouse_assets

PACKAGE = Path(lakehouse_assets.__file__).parent
SHOWCASE = ("showcase", "simulator", "products/sales", "products/revenue_forecast", "products/order_fraud")


COMMANDS = {
    "status": "There are no tables yet",
    "run": "Nothing to do",
    "doctor": "Nothing is wrong.",
    "files": "No files",
    "contracts diff": "",
    "maintenance": "0 tables checked",
    "models": "There are no models yet",
    "sql 'select 1 as one'": "1",
    "settings": "LAKEHOUSE_ROOT",
    "report": "report.html",
}
IN_TURN = """
import json, shlex, sys
from click.testing import CliRunner
from lakehouse_assets.cli.main import main

said = {}
for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(main, shlex.split(words))
    said[words] = done.exit_code, done.output
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("without_showcase")
    shutil.copytree(PACKAGE, folder / PACKAGE.name)
    shutil.copy(PACKAGE.parent / "dagster.yaml", folder)
    for name in SHOWCASE:
        shutil.rmtree(folder / PACKAGE.name / name)
    return folder


def environment(copy: Path, root: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    return clean | {"PYTHONPATH": str(copy), "LAKEHOUSE_ROOT": str(root)}


def call(copy: Path, *words: str) -> str:
    command = [sys.executable, "-m", "lakehouse_assets.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(copy, copy / "root"), cwd=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_help_has_no_command_of_the_showcase(copy):
    shown = call(copy, "--help")
    assert "demo" not in shown
    assert "simulate" not in shown
    assert "maintenance" in shown


def test_commands_work_on_an_empty_root(copy):
    """In one process, because each would import the same anew."""
    source = [sys.executable, "-c", IN_TURN, json.dumps([*COMMANDS])]
    done = subprocess.run(source, capture_output=True, text=True, env=environment(copy, copy / "empty"), cwd=copy)
    assert done.returncode == 0, done.stderr
    for words, (code, said) in json.loads(done.stdout).items():
        assert code == 0, f"{words}\n{said}"
        assert COMMANDS[words] in said, words


def test_the_code_location_loads(copy):
    source = "from lakehouse_assets.definitions import defs; print(len(list(defs().resolve_all_job_defs())))"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(copy)}, cwd=copy
    )
    assert done.returncode == 0, done.stderr

"""The showcase can be deleted: without it, its simulator and its products, every command that is left works on an empty root."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lakehouse_assets

PACKAGE = Path(lakehouse_assets.__file__).parent
SHOWCASE = ("showcase", "simulator", "products/sales", "products/revenue_forecast", "products/order_fraud")


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("without_showcase")
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACKAGE.parent / "dagster.yaml", folder)
    for name in SHOWCASE:
        shutil.rmtree(folder / PACKAGE.name / name)
    return folder


def call(copy: Path, *words: str, root: Path | None = None, code: int = 0) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    environment = clean | {"PYTHONPATH": str(copy), "LAKEHOUSE_ROOT": str(root or copy / "root")}
    command = [sys.executable, "-m", "lakehouse_assets.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=copy)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_help_has_no_command_of_the_showcase(copy):
    shown = call(copy, "--help")
    assert "demo" not in shown
    assert "simulate" not in shown
    assert "maintenance" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status"], "There are no tables yet"),
        (["run"], "Nothing to do"),
        (["doctor"], "Nothing is wrong."),
        (["files"], "No files"),
        (["contracts", "diff"], ""),
        (["maintenance"], "0 tables checked"),
        (["models"], "There are no models yet"),
        (["sql", "select 1 as one"], "1"),
        (["settings"], "LAKEHOUSE_ROOT"),
        (["report"], "report.html"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_a_command_works_on_an_empty_root(copy, tmp_path, words, said):
    assert said in call(copy, *words, root=tmp_path / "root")


def test_the_code_location_loads(copy):
    source = "from lakehouse_assets.definitions import defs; print(len(list(defs().resolve_all_job_defs())))"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(copy)}, cwd=copy
    )
    assert done.returncode == 0, done.stderr

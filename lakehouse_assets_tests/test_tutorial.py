"""The tutorial is true: a newcomer types its commands and makes its edits in an empty folder, and sees what it says."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from lakehouse_assets.cli.main import main

PROJECT = Path(__file__).parents[1]
PAGE = (PROJECT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^ *```(\w+)([^\n]*)\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """An empty working directory; its products are forgotten afterwards, for another test may have some of that name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.delenv("LAKEHOUSE_PRODUCTS", raising=False)
    monkeypatch.setenv("LAKEHOUSE_ROOT", "data")
    path = [*sys.path]
    yield tmp_path
    sys.path[:] = path
    forget_products()


def forget_products() -> None:
    """As a new process, which every command is for a person."""
    for name in [name for name in sys.modules if name.split(".")[0] == "my_products"]:
        del sys.modules[name]


def typed(block: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the commands of a block print."""
    printed = ""
    for command in re.findall(r"^ *(\w.*?(?:<<'EOF'\n.*?^EOF)?)$", block, re.DOTALL | re.MULTILINE):
        words = shlex.split(command.split("<<")[0])
        if words[0] == "export":
            monkeypatch.setenv(*words[1].split("=", 1))
        elif words[0] == "lakehouse":
            forget_products()
            result = CliRunner().invoke(main, words[1:], catch_exceptions=False)
            assert result.exit_code == 0, f"{command}\n{result.output}"
            printed = result.output
        else:
            environment = os.environ | {"PYTHONPATH": str(PROJECT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            done = subprocess.run(["bash", "-ec", command], env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return printed


def lines(text: str) -> list[str]:
    """Without blanks, which grids have many of."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@pytest.mark.timeout(300)
def test_a_newcomer_follows_the_tutorial(folder, monkeypatch):
    printed, replaced = "", None
    for language, what, content in BLOCKS:
        verb, _, place = what.strip().partition(" ")
        match language, verb:
            case "sh", _:
                printed = typed(content, monkeypatch)
            case "text", "in":
                assert content in (folder / place).read_text(), content
            case "text", _:
                assert lines(printed) == lines(content)
            case "python", "replace":
                replaced = (folder / place, content)
                assert content in (folder / place).read_text(), content
            case "python", "with":
                path, before = replaced
                path.write_text(path.read_text().replace(before, content))
            case "python", "append":
                with (folder / place).open("a") as file:
                    file.write("\n\n" + content)
            case unknown:
                pytest.fail(f"a block that nothing is done with: {unknown}")
    config = ["--config", str(PROJECT / "pyproject.toml")]
    for arguments in (["format", "--check", *config], ["check", "--no-cache", *config]):
        done = subprocess.run([sys.executable, "-m", "ruff", *arguments, "my_products"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout

"""The README is true: what it says to type is typed here, on a simulated shop that has gone all the way to forecasts."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lakehouse_assets.cli.main import main

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
TARGETS = (PROJECT / "Makefile").read_text(encoding="utf-8")


def typed() -> list[str]:
    """Every `lakehouse …` of the README, from its blocks and from its sentences, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    sentences = re.findall(r"`(lakehouse [^`]+)`", re.sub(r"```.*?```", "", README, flags=re.DOTALL))
    return list(dict.fromkeys(line for line in [*lines, *sentences] if line.startswith("lakehouse ")))


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> tuple[Path, Result]:
    """What `make run` does."""
    root = tmp_path_factory.mktemp("readme") / "root"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        return root, CliRunner(env={"LAKEHOUSE_ROOT": str(root)}).invoke(main, ["demo"], catch_exceptions=False)


@pytest.mark.timeout(300)
def test_make_run_prints_what_a_person_wants_to_know(shop):
    root, first = shop
    assert first.exit_code == 0, first.output
    for said in ("invoice lines came in", "broke a rule", "seasonal_window_average", "Pictures", "Next", "make dev"):
        assert said in first.output
    assert "Revenue forecast from 2026-01-29 on" in first.output
    pictures = sorted(path.name for path in (root / "reports").glob("*.png"))
    assert pictures == ["revenue_forecast.models.daily_revenue.backtest.png", "revenue_forecast.predictions.daily_revenue.png"]
    assert str(root / "reports" / pictures[0]) in first.output.replace("\n", "")
    assert not (Path.cwd() / "mlruns").exists()


def test_there_are_commands_to_run():
    assert len(typed()) >= 10


@pytest.mark.parametrize("line", typed())
def test_a_command_of_the_readme(shop, line, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")
    root, _ = shop
    words = shlex.split(line)[1:]
    if words[0] == "land":
        file = tmp_path / "online_retail_1.csv"
        shutil.copy(next((root / "landing" / "invoices").glob("*.csv")), file)
        words = [*words[:2], str(file)]
    result = CliRunner(env={"LAKEHOUSE_ROOT": str(root)}).invoke(main, words, catch_exceptions=False)
    if words[:2] == ["models", "rollback"]:
        assert "no previous champion" in result.output, "there is only one version yet"
    else:
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z]+)", README))))
def test_a_make_target_of_the_readme(target):
    done = subprocess.run(["make", "-n", target], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^{target}:.*## ", TARGETS, re.MULTILINE)


def test_the_product_in_the_readme_is_one_that_works():
    """The same declarations, in whole, are loaded and run by `test_definitions`."""
    from lakehouse_assets_tests.test_definitions import NEW_PRODUCT

    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    said = {line.strip() for line in example[1].splitlines() if line.strip() and not line.startswith("@table")}
    assert said <= {line.strip() for line in NEW_PRODUCT.splitlines()}


def test_the_picture_is_there():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert pictures
    assert all((PROJECT / picture).stat().st_size > 10_000 for picture in pictures)

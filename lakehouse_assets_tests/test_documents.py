"""README and the pages under docs/ are true: what they say to type is typed here, on a simulated shop with forecasts.

Code of pages that have a test of their own (`test_docs`, `test_notebook`) is not run again here.
"""

import re
import shlex
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.showcase import demo

PROJECT = Path(__file__).parents[1]
DOCS = PROJECT / "docs"
README = (PROJECT / "README.md").read_text(encoding="utf-8")
TARGETS = (PROJECT / "Makefile").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(PROJECT).as_posix(): path for path in [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
}
# Pages whose commands are run elsewhere, in the order and on the files that they need, or that need what is not here.
RUN_ELSEWHERE = {"docs/tutorial.md", "docs/bucket.md", "docs/tables.md", "docs/serving_your_own.md"}
DAYS = 500
PLACEHOLDER = re.compile(r"(?<![A-Za-z_])[A-Z]{3,}")


def typed(text: str) -> list[str]:
    """Every `lakehouse …` of a page, from its blocks and from its sentences, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [re.split(r"\s{2,}#", line)[0].strip() for block in blocks for line in block.splitlines()]
    sentences = [" ".join(said.split()) for said in re.findall(r"`(lakehouse [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))]
    return list(dict.fromkeys(line for line in [*lines, *sentences] if line.startswith("lakehouse ")))


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words call, and the words that are left for it."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> tuple[Path, Result]:
    """What `make run` does, on a shop that ends on the same day and began later; `benchmarks.set_up` does it as it is."""
    root = tmp_path_factory.mktemp("documents") / "root"
    end = demo._SHOP["start"] + timedelta(days=demo._SHOP["days"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        patch.setitem(demo._SHOP, "days", DAYS)
        patch.setitem(demo._SHOP, "start", end - timedelta(days=DAYS))
        return root, CliRunner(env={"LAKEHOUSE_ROOT": str(root)}).invoke(main, ["demo"], catch_exceptions=False)


@pytest.mark.timeout(600)
def test_make_run_prints_what_a_person_wants_to_know(shop):
    root, first = shop
    assert first.exit_code == 0, first.output
    for said in ("invoice lines came in", "broke a rule", "seasonal_window_average", "Pictures", "Next", "make dev"):
        assert said in first.output
    assert "Revenue forecast from 2026-01-29 on" in first.output
    assert "Order fraud" in first.output
    # A terminal as narrow as that of a test gets a line for each value.
    assert re.search(r"review +[a-zA-Z]{3,}|decision +review\nreasons +[a-zA-Z]{3,}", first.output), "an order with its reasons"
    pictures = sorted(path.name for path in (root / "reports").glob("*.png"))
    of_models = [
        *(f"order_fraud.models.order_fraud.{name}.png" for name in ("calibration", "folds", "importance", "learning_curve")),
        *(f"revenue_forecast.models.daily_revenue.{name}.png" for name in ("coverage", "folds", "importance", "residuals")),
    ]
    assert pictures == [*of_models, "revenue_forecast.predictions.daily_revenue.png"]
    assert str(root / "reports" / pictures[0]) in first.output.replace("\n", "")
    assert not (Path.cwd() / "mlruns").exists()


def test_there_are_commands_to_run():
    assert len(typed(README)) >= 5
    assert sum(len(typed(path.read_text(encoding="utf-8"))) for path in PAGES.values()) >= 40


@pytest.mark.timeout(600)
def test_the_commands_of_all_pages(shop, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")
    root, _ = shop
    lines = dict.fromkeys(
        line for name, path in PAGES.items() if name not in RUN_ELSEWHERE for line in typed(path.read_text(encoding="utf-8"))
    )
    for line in lines:
        words = shlex.split(line)[1:]
        command, rest = command_of(words)
        # A command that is only named, as in a sentence, may need an argument; `test_serve`, `test_follow` and the fixture run the others.
        named = not rest and any(isinstance(parameter, click.Argument) for parameter in command.params)
        if PLACEHOLDER.search(line) or named or words[0] in {"dev", "demo", "serve", "pages"} or "--follow" in words:
            continue
        if words[0] == "land":
            file = tmp_path / "online_retail_1.csv"
            shutil.copy(next((root / "landing" / "invoices").glob("*.csv")), file)
            words = [*words[:2], str(file), *(word for word in words[2:] if word.startswith("--"))]
        if words[0] == "report":
            words = ["report", "-o", str(tmp_path / "report.html")]
        words = [str(tmp_path / word) if word.endswith(".png") else word for word in words]
        if words[0] in {"backup", "restore-backup"}:
            words[1] = str(tmp_path / "backups")
        if "--root" in words:
            words[words.index("--root") + 1] = str(tmp_path / "restored")
        result = CliRunner(env={"LAKEHOUSE_ROOT": str(root)}).invoke(main, words, catch_exceptions=False)
        # A finding of the doctor, a model without a previous champion, a log without an entry and a monitor that did not fail are answers.
        answers = ("no previous champion", platform_tables.NOT_YET, "has no failed window")
        is_answer = words[0] == "doctor" or any(answer in result.output for answer in answers)
        assert result.exit_code == 0 or is_answer, f"{line}\n{result.output}"


@pytest.mark.parametrize("page", [*PAGES, "docs/reference/command_line.md"])
def test_commands_with_placeholders_exist(page):
    for line in typed((PROJECT / page).read_text(encoding="utf-8")):
        words = shlex.split(line)[1:]
        if not PLACEHOLDER.search(line) or PLACEHOLDER.fullmatch(words[0]):
            continue
        command, rest = command_of(words)
        assert command is not main, line
        assert not isinstance(command, click.Group) or command.invoke_without_command or not rest, line
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)} <= known, line


@pytest.mark.parametrize(
    "target",
    sorted(
        {
            target
            for path in PAGES.values()
            for target in re.findall(r"\bmake ([a-z]+)`? *(?:#|$|`|,)", path.read_text(encoding="utf-8"), re.MULTILINE)
        }
    ),
)
def test_a_make_target_of_the_documents(target):
    done = subprocess.run(["make", "-n", target], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^{target}:.*## ", TARGETS, re.MULTILINE)


def test_the_product_in_the_readme_is_one_that_works():
    """The same declarations, in whole, are loaded and run by `test_definitions`."""
    from lakehouse_assets_tests.test_definitions import NEW_PRODUCT

    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    if example is not None:
        said = {line.strip() for line in example[1].splitlines() if line.strip() and not line.startswith("@table")}
        assert said <= {line.strip() for line in NEW_PRODUCT.splitlines()}


def test_pictures_and_links_of_the_pages_outside_the_site_are_there():
    for page in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        targets = re.findall(r"\]\(([^)#:]+)\)", (PROJECT / page).read_text(encoding="utf-8"))
        assert [target for target in targets if not (PROJECT / target).exists()] == []


def test_the_cells_of_the_page_for_analysts(shop, monkeypatch):
    cells = re.findall(r"```python\n(.*?)```", (DOCS / "analysts.md").read_text(encoding="utf-8"), re.DOTALL)
    root, _ = shop
    monkeypatch.chdir(root.parent)
    names: dict = {}
    for cell in cells:
        exec(cell.replace('"data"', repr(str(root))), names)
    assert names["frame"].shape == names["revenue"].shape
    assert len(names["result"]) == names["revenue"]["product_group"].n_unique()


@pytest.mark.timeout(600)
def test_the_cells_of_the_page_about_profiles(shop, monkeypatch):
    (cell,) = re.findall(r"```python\n(.*?)```", (DOCS / "monitoring.md").read_text(encoding="utf-8"), re.DOTALL)
    root, _ = shop
    monkeypatch.chdir(root.parent)
    names: dict = {}
    exec(cell.replace('"data"', repr(str(root))), names)
    assert names["found"].profile["slice_value"].n_unique() > 2
    assert set(names["found"].drift["drift_type"]) == {"BASELINE", "CONSECUTIVE"}


@pytest.mark.timeout(600)
def test_the_site_builds_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(tmp_path)], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "reference" / "declarations.html").read_text(encoding="utf-8")
    import lakehouse_assets

    assert [name for name in lakehouse_assets.__all__ if f'id="lakehouse_assets.{name}"' not in reference] == []

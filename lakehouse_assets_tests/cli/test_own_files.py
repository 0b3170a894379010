"""A product of one's own whose files come with mistakes: what each command says about them, and what it proposes."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.mlflow_connections import forget_connections

HEADER = "Member;Voice;E-Mail;City;Since"
MEMBERS = "\n".join(
    [HEADER, *(f"M{row:03d};{('alto', 'bass')[row % 2]};m{row}@secret.example;Ulm;2020-01-{row + 1:02d}" for row in range(25))]
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a product `choir`, and a root with it, whose feed `members` has read one file."""
    folder = tmp_path_factory.mktemp("choir")
    call = calling(folder, folder)
    (folder / "members.csv").write_text(MEMBERS + "\n")
    call("new", "choir", "--from", str(folder / "members.csv"), "--land")
    call("run")
    return folder


@pytest.fixture
def choir(made, tmp_path):
    """Calls a command on a copy of that root."""
    forget_connections()  # so that nothing is left beside the database files
    shutil.copytree(made / "root", tmp_path / "root")
    shutil.copy(made / "members.csv", tmp_path)
    return calling(tmp_path, made)


def calling(folder: Path, products: Path):
    environment = {
        "LAKEHOUSE_ROOT": str(folder / "root"),
        "LAKEHOUSE_PRODUCTS": str(products / f"own_{products.name}"),
        "DAGSTER_HOME": "",
    }

    def call(*words: str, code: int = 0) -> str:
        result = CliRunner(env=environment).invoke(main, list(words), catch_exceptions=False)
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())  # grids are folded where the terminal is narrow

    call.environment = environment
    return call


def land(choir, folder: Path, name: str, *lines: str, code: int = 0) -> str:
    (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return choir("land", "members", str(folder / name), code=code)


def test_rules_of_every_contract_are_explained_in_the_quarantine(choir, tmp_path):
    rows = ["M100;alto;a@secret.example;Ulm;2020-02-01;PRIVATE", "M101;alto", "M102;alto;b@secret.example;Ulm;2099-01-01"]
    land(choir, tmp_path, "more.csv", HEADER, *rows)
    choir("run")
    said = choir("quarantine", "show", "choir.silver.members")
    assert "not a rule of the contract any more" not in said
    assert "the row fits the header of its file" in said
    assert "since is at most 400 days after its file was ingested" in said
    assert "1 field more than the header" in said
    assert "lacks the fields E-Mail, City, Since" in said
    assert "PRIVATE" not in said
    assert "secret" not in said
    assert "has no rule 'nonsense'" in choir("quarantine", "show", "choir.silver.members", "--rule", "nonsense", code=1)
    assert "row 1" in choir("quarantine", "show", "choir.silver.members", "--rule", "fits_header")


def test_a_header_that_lacks_a_personal_column_is_refused_with_the_names_that_are_known(choir, tmp_path):
    land(choir, tmp_path, "lacks.csv", HEADER.replace("E-Mail;", ""), "M200;alto;Ulm;2020-01-01")
    land(
        choir,
        tmp_path,
        "renamed.csv",
        HEADER.replace("E-Mail", "E-Mails").replace("Voice", "SECRET"),
        "M201;alto;c@d.example;Ulm;2020-01-01",
    )
    choir("run")
    said = choir("files", "list", "--refused")
    assert "lacks.csv: the header lacks 'E-Mail'; its other columns are as declared." in said
    assert 'take it out of headers in the feed and declare optional=("E-Mail",).' in said
    assert "renamed.csv: the header lacks 'Voice', 'E-Mail'; it has 'E-Mails' and 1 other name (not shown" in said
    assert "Did you mean 'E-Mail' by 'E-Mails'?" in said
    assert 'declare optional=("Voice",)' in said
    assert "SECRET" not in said


def test_a_run_names_the_files_that_it_refused_and_each_command_says_how_they_are_read_again(choir, tmp_path):
    for number in range(4):
        land(choir, tmp_path, f"bad{number}.csv", HEADER.replace("E-Mail", f"x{number}"), "M300;alto;c;Ulm;2020-01-01")
    said = choir("run")
    assert "4 files refused: bad0.csv: the header lacks 'E-Mail'" in said
    assert "bad2.csv: the header lacks" in said
    assert "bad3.csv" not in said
    assert "and 1 more. See `lakehouse files list --refused`" in said
    remedy = "ead it again, after the file or the feed was corrected: lakehouse files retry members/bad0.csv"
    for words in (("files", "list", "--refused"), ("status",), ("doctor",)):
        assert remedy in CliRunner(env=choir.environment).invoke(main, list(words)).output.replace("\n", " "), words


def test_a_corrected_file_takes_the_place_of_the_old_one(choir, tmp_path):
    corrected = [HEADER, "M000;tenor;n@secret.example;Bonn;2020-01-01"]
    refused = land(choir, tmp_path, "members.csv", *corrected, code=1)
    assert "If this corrects it: `lakehouse land members" in refused
    assert "If it is another delivery, land it under a new name" in refused
    choir("land", "members", str(tmp_path / "members.csv"), "--replace")
    assert "members.csv is already there" in choir("land", "members", str(tmp_path / "members.csv"), "--replace")
    choir("run")
    rows = Lakehouse(choir.environment["LAKEHOUSE_ROOT"] + "/tables").table("choir.bronze.members").scan().collect()
    assert rows["City"].to_list() == ["Bonn"]


def test_a_file_that_was_refused_or_never_found_is_replaced_too(choir, tmp_path):
    land(choir, tmp_path, "bad.csv", "x", "1")
    choir("run")
    land(choir, tmp_path, "new.csv", "x", "2")
    for name in ("bad.csv", "new.csv"):
        (tmp_path / name).write_text(f"{HEADER}\n{name[:3]};alto;q@secret.example;Ulm;2020-01-01\n")
        choir("land", "members", str(tmp_path / name), "--replace")
    choir("run")
    assert "refused" not in choir("files")

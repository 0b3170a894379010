"""Files that land, are read and move into the archive while a backup is made: a restored root has the rows of each exactly once."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lakehouse_assets import products
from lakehouse_assets.platform.operations.backup_copy import Copier
from lakehouse_assets.platform.operations.backup_landing import LandedFiles
from lakehouse_assets.platform.operations.backup_pins import Pins
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.crash_child import archiving
from lakehouse_assets_tests.platform.operations.backups import back_up, restore, settings_of
from lakehouse_assets_tests.running import land_text, run_declared, tables_of

HEADER = "stock_code,name,product_group,component,list_price\n"
BRONZE, SILVER = "sales.bronze.products", "sales.silver.products"
FILES = ("1.csv", "2.csv", "3.csv")


def run(settings: Settings) -> None:
    run_declared(settings, archiving(load(products)), [BRONZE, SILVER])


def land(settings: Settings, number: int) -> None:
    land_text(settings, "products", f"{number}.csv", f"{HEADER}{number},a,b,base,{number}\n")


def below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.csv"))


def outcomes(settings: Settings) -> dict[str, int]:
    """How many rows bronze has of each file."""
    rows = tables_of(settings).table(BRONZE).scan().group_by("_file").len().collect()
    return {Path(name).name: count for name, count in rows.iter_rows()}


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """One file was read and moved, two wait."""
    settings = settings_of(tmp_path_factory.mktemp("landed") / "root")
    land(settings, 1)
    run(settings)
    assert below(Path(settings.archive)) == ["1.csv"]
    land(settings, 2)
    return Path(settings.root)


PLACES = ("first archive", "after bronze", "before the landing zone", "before its files", "before the archive", "never")
AFTER_ALL_OF_IT = {"before the archive", "never"}
"""What lands then is not in the backup."""


def watch(patch: pytest.MonkeyPatch, happens: Callable[[str], None]) -> None:
    """Tell at which place a backup is."""
    at, begin, folder, landed = Pins.at, LandedFiles.begin, Copier.folder, LandedFiles.copy

    def pin(self, table, version):
        found = at(self, table, version)
        if {BRONZE, SILVER} <= {*self.taken, table.name}:
            happens("after bronze")
        return found

    def look(files):
        found = begin(files)
        happens("first archive")
        return found

    def copied(self, files, found, before, tell):
        area = found[0].path.split("/")[0] if found else ""
        happens({"landing": "before its files", "archive": "before the archive"}.get(area, ""))
        return folder(self, files, found, before, tell)

    def copy_landed(self, *rest):
        happens("before the landing zone")
        return landed(self, *rest)

    patch.setattr(Pins, "at", pin)
    patch.setattr(LandedFiles, "begin", look)
    patch.setattr(LandedFiles, "copy", copy_landed)
    patch.setattr(Copier, "folder", copied)


@pytest.mark.parametrize("place", sweeps.of(["after bronze", "before the landing zone", "before its files"], PLACES))
def test_a_file_that_moves_meanwhile_is_read_once(template, tmp_path, monkeypatch, place):
    settings, copy, restored = settings_of(tmp_path / "root"), tmp_path / "backups", settings_of(tmp_path / "new")
    shutil.copytree(template, settings.root)
    begun: list[str] = []

    def happens(here: str) -> None:
        """A file lands, and a run reads both that wait, and moves them."""
        if here == place and not begun:
            begun.append(here)
            land(settings, 3)
            run(settings)
            assert below(Path(settings.archive)) == [*FILES]

    watch(monkeypatch, happens)
    back_up(settings, copy)
    assert begun or place == "never"
    monkeypatch.undo()
    restore(restored, copy)
    here = sorted([*below(Path(restored.landing)), *below(Path(restored.archive))])
    assert here == [*(FILES if place not in AFTER_ALL_OF_IT else FILES[:2])]

    for each in (settings, restored):
        if "3.csv" not in {*below(Path(each.landing)), *below(Path(each.archive))}:
            land(each, 3)
        run(each)
        assert outcomes(each) == dict.fromkeys(FILES, 1), place
        assert below(Path(each.landing)) == []
        assert set(below(Path(each.archive))) >= {*FILES}
    found, expected = (tables_of(each).table(SILVER).scan().drop("_run_id", strict=False).collect() for each in (restored, settings))
    codes = [frame.filter("is_current")["stock_code"].to_list() for frame in (found, expected)]
    assert codes[0] == codes[1] == ["3"]


def test_backups_while_files_land_and_runs_follow(template, tmp_path):
    """A process of work that does not stop: whatever moment a backup shows, a run brings it to where the work ended."""
    settings = settings_of(tmp_path / "root")
    shutil.copytree(template, settings.root)
    last = 6

    def work() -> None:
        for number in range(3, last + 1):
            land(settings, number)
            run(settings)

    made = []
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        while not done.done() or not made:
            made.append(back_up(settings, tmp_path / "backups"))
        done.result()
    tried = made if sweeps.FULL else [made[0], made[len(made) // 2], made[-1]]
    for backup in tried:
        restored = settings_of(tmp_path / backup["backup"])
        if restored.root.exists():
            continue  # there were less than three
        restore(restored, tmp_path / "backups", at=backup["backup"])
        here = {*below(Path(restored.landing)), *below(Path(restored.archive))}
        for number in range(1, last + 1):
            if f"{number}.csv" not in here:
                land(restored, number)  # it came after that moment
        run(restored)
        assert outcomes(restored) == {f"{number}.csv": 1 for number in range(1, last + 1)}, backup["backup"]
        assert below(Path(restored.landing)) == []
        found = tables_of(restored).table(SILVER).scan().filter("is_current").collect()
        assert found["stock_code"].to_list() == [str(last)]

"""Puts files into the landing zone so that a run sees each of them whole or not at all. Reading them is the ingestion room's business."""

import filecmp
import shutil
from pathlib import Path


class NotLanded(ValueError):
    """A file was not put into the landing zone."""


def land(files: list[Path], folder: Path) -> list[tuple[Path, bool]]:
    """Copy files into a feed's folder.

    Returns:
        Where each file lies, and whether it is new there.

    Raises:
        NotLanded: A file is missing, or another one has its name there. The files before it have landed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [_land(file, folder / file.name) for file in files]


def _land(file: Path, target: Path) -> tuple[Path, bool]:
    if not file.is_file():
        raise NotLanded(f"{file} is not a file")
    if target.exists():
        if filecmp.cmp(file, target, shallow=False):
            return target, False
        raise NotLanded(f"{target} exists with other content, and what was read from it stays: land {file} under a new name")
    # Hidden until it is whole: names that start with a dot are not seen.
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(file, part)
    part.rename(target)
    return target, True

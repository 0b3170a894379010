"""Which files of a table's log nobody needs any more: commits that a checkpoint covers, and the checkpoints before that one.

`DeltaTable.cleanup_metadata` goes by the age of the files alone, and would take the log of a version away that a model is pinned to, or
that a reader still needs. What is not needed is only named here, deleting it belongs to `maintenance`.
"""

from collections.abc import Collection
from dataclasses import dataclass

from lakehouse_assets.platform.storage.inventory import Inventory, commit_path


@dataclass(frozen=True)
class Unneeded:
    """What can go of a log.

    Attributes:
        paths: In the table's folder, oldest version first: deleted in this order, what is left never has a hole that was not there before.
        commits: How many of them are commits.
        begin: The version of the checkpoint that the log begins with afterwards: it and all later versions can be opened.
    """

    paths: tuple[str, ...]
    commits: int
    begin: int


def unneeded(stock: Inventory, floor: int, pinned: Collection[int]) -> Unneeded:
    """The files of a log that no version from `floor` on and no pinned one needs.

    Args:
        stock: What lies in the table's folder.
        floor: This version and all later ones can be opened afterwards.
        pinned: Versions that can be opened as well; each keeps the checkpoint before it and the commits in between.
    """
    begin = max((version for version in stock.checkpoints if version <= floor), default=0)
    needed: set[int] = set()
    for pin in pinned:
        if pin < begin:
            needed.update(range(max((version for version in stock.checkpoints if version <= pin), default=0), pin + 1))
    commits = sorted(version for version in stock.commits if version < begin and version not in needed)
    files = [(version, commit_path(version)) for version in commits]
    files += [(version, path) for version, path in stock.checkpoints.items() if version < begin and version not in needed]
    return Unneeded(tuple(path for _, path in sorted(files)), len(commits), begin)

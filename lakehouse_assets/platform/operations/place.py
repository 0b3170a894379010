"""A root's own place: `root.json` in it has an id and the folder where the root was used last, so that a move or a copy is noticed.

What stores addresses below the root brings them along by itself, as MLflow's database does (`registry.mlflow_store`); here it is only told.
Addresses of buckets are not followed: a root in a bucket keeps its name.
"""

import fcntl
import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from lakehouse_assets.settings import Location

_FILE: Final = "root.json"


@dataclass(frozen=True)
class Place:
    """What a root knows about itself.

    Attributes:
        id: Its own.
        folder: Where it was used last.
        products: The products that it was run with, each with its package as `LAKEHOUSE_PRODUCTS` names that from any folder.
    """

    id: str
    folder: str
    products: Mapping[str, str] = field(default_factory=dict)


def check_in(root: Location) -> str:
    """Note where a root is now; a sentence if it was moved or copied since it was used last, else an empty text.

    A copy gets an id of its own. A root that cannot be written is left as it is. Of processes that call this at once, one is told.
    """
    if not isinstance(root, Path) or not root.is_dir():
        return ""
    here = root.resolve()
    if (known := read(here)) is not None and known.folder == str(here):
        return ""
    written, is_damaged = False, (here / _FILE).exists()
    with suppress(OSError), (here / ".root.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = read(here)
        if known is not None and known.folder == str(here):
            return ""
        is_copy = known is not None and _is_another(Path(known.folder), here, known.id)
        products = {} if known is None else known.products
        _write(here, Place(uuid.uuid4().hex if known is None or is_copy else known.id, str(here), products))
        written = True
    return _notice(known, here, is_damaged=is_damaged) if written else ""


def _notice(known: Place | None, here: Path, *, is_damaged: bool) -> str:
    if known is None:
        again = f"{here / _FILE} could not be read and is written again: with whose products this root was run is not known any more."
        return again if is_damaged else ""
    if _is_another(Path(known.folder), here, known.id):
        return f"This root is a copy of {known.folder}, and has an id of its own from now on. The two share nothing."
    return f"This root was moved: it was at {known.folder}, now it is at {here}."


def products_of(root: Location) -> Mapping[str, str]:
    """The products that a root was run with, each with the package that has it."""
    known = read(root) if isinstance(root, Path) else None
    return {} if known is None else known.products


def note_products(root: Location, products: Mapping[str, str]) -> None:
    """Note with which products a root is run, besides those that it knows. A root that cannot be written is left as it is."""
    if not isinstance(root, Path) or not root.is_dir() or products.items() <= products_of(root).items():
        return
    with suppress(OSError), (root / ".root.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = read(root) or Place(uuid.uuid4().hex, str(root.resolve()))
        _write(root, replace(known, products={**known.products, **products}))


def read(folder: Path) -> Place | None:
    """What a root knows about itself; None if it knows nothing yet, or what it has cannot be read."""
    try:
        known = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        products = {str(name): str(package) for name, package in dict(known.get("products") or {}).items()}
        return Place(str(known["id"]), str(known["folder"]), products)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _is_another(folder: Path, here: Path, root_id: str) -> bool:
    """Whether a folder still is the root of this id, and not this one by another path."""
    other = read(folder)
    return other is not None and other.id == root_id and not folder.samefile(here)


def _write(folder: Path, place: Place) -> None:
    unfinished = folder / f".{_FILE}.{os.getpid()}"
    try:
        unfinished.write_text(json.dumps(asdict(place), indent=2) + "\n", encoding="utf-8")
        unfinished.replace(folder / _FILE)
    finally:
        unfinished.unlink(missing_ok=True)

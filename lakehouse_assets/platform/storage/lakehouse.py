"""All tables of one root: from a name to a handle, and a list of those that exist. What the tables mean belongs to the products."""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lakehouse_assets.platform.storage.bucket import is_bucket, open_store, split_address, storage_options
from lakehouse_assets.platform.storage.errors import StorageError
from lakehouse_assets.platform.storage.paths import check_root
from lakehouse_assets.platform.storage.table import Table

STAGING_SUFFIX = "__full_refresh"
"""Ends the name of a table that is computed to take the place of the one of the same name without it."""
_LISTINGS_AT_ONCE = 8
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){2}")


@dataclass(frozen=True)
class Lakehouse:
    """The tables below `root`: `product.layer.name` lies at `<root>/product/layer/name`. Making one costs nothing and reads nothing.

    Attributes:
        root: A folder, or the address of a bucket and a prefix in it: make sure with `bucket.ready` that commits are safe there.
        storage_options: As delta-rs takes them; empty: as the environment of the process has it for a bucket.

    Raises:
        StorageError: No table could be read again below this root: see `paths.check_root`.
    """

    root: str
    storage_options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_root(self.root)

    def table(self, name: str) -> Table:
        """The handle of a table, whether it exists or not.

        Raises:
            StorageError: The name is not three words of lower-case letters, digits and underscores.
        """
        if not _NAME.fullmatch(name):
            raise StorageError(f"{name!r} is not a table's name: write product.layer.name, as in sales.silver.invoice_lines")
        options = self.storage_options or storage_options(self.root)
        return Table(name, "/".join([self.root.rstrip("/"), *name.split(".")]), options)

    def tables(self, *, staging: bool = False) -> Iterator[Table]:
        """The tables that exist, by name.

        Args:
            staging: Whether those that are computed to take the place of another are among them.

        Raises:
            BucketRefused: The root is a bucket that cannot be opened.
        """
        names = _names_in_bucket(self.root) if is_bucket(self.root) else _names_in_folder(Path(self.root))
        for name in sorted(names):
            table = self.table(name)
            if (staging or STAGING_SUFFIX not in name) and table.exists():
                yield table


def _names_in_folder(root: Path) -> Iterator[str]:
    for log in root.glob("*/*/*/_delta_log"):
        yield ".".join(log.parent.relative_to(root).parts)


def _names_in_bucket(root: str) -> Iterator[str]:
    """The prefixes three levels below the root that have a table's name."""
    store, prefix = open_store(root), split_address(root)[1]
    level = [prefix]
    for _ in range(3):
        with ThreadPoolExecutor(_LISTINGS_AT_ONCE) as pool:  # each is a request
            level = [
                below for page in pool.map(lambda at: store.list_with_delimiter(at or None), level) for below in page["common_prefixes"]
            ]
    for place in level:
        name = place.removeprefix(prefix).strip("/").replace("/", ".")
        if _NAME.fullmatch(name):
            yield name

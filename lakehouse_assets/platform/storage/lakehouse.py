"""All tables of one root: from a name to a handle, and which there are. What the tables mean belongs to the products."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lakehouse_assets.platform.storage.errors import StorageError
from lakehouse_assets.platform.storage.paths import check_root
from lakehouse_assets.platform.storage.table import Table

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){2}")


@dataclass(frozen=True)
class Lakehouse:
    """The tables below `root`: `product.layer.name` lies at `<root>/product/layer/name`.

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
        return Table(name, "/".join([self.root.rstrip("/"), *name.split(".")]), self.storage_options)

    def tables(self) -> Iterator[Table]:
        """The tables that exist, by name.

        Raises:
            StorageError: The root is not a folder of this machine.
        """
        if "://" in self.root:
            raise StorageError(f"the tables of {self.root} cannot be listed, only those of a folder: ask for a table by its name")
        root = Path(self.root)
        for log in sorted(root.glob("*/*/*/_delta_log")):
            table = self.table(".".join(log.parent.relative_to(root).parts))
            if table.exists():
                yield table

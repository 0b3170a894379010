"""Contracts of declared tables as documents of the Open Data Contract Standard: written, and compared with the tables they are about.

The standard's own words are in `quality.odcs`; what a changed contract breaks is in `contract_changes`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.quality.odcs import Described, odcs
from lakehouse_assets.platform.quality.odcs_check import compare, read_document
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

FILE_ENDING = ".odcs.yaml"


def standard(lakehouse: Lakehouse, asset: TableDeclaration) -> dict[str, Any]:
    """The contract of a table as a document of the Open Data Contract Standard."""
    description = asset.description or " ".join((asset.contract.__doc__ or "").split())
    location = lakehouse.table(asset.name).uri
    told = Described(asset.name, description, asset.owner, asset.schema, asset.identity, asset.partitions, location)
    return odcs(asset.contract, told)


def as_yaml(document: dict[str, Any]) -> str:
    """A document of the standard as text."""
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120))


def check(lakehouse: Lakehouse, tables: Sequence[TableDeclaration], path: Path) -> list[dict[str, Any]]:
    """How each table that a document of the standard names keeps what it promises.

    Raises:
        ValueError: The file is no such document.
        LookupError: It names no declared table.
    """
    promised = read_document(path.read_text(encoding="utf-8"), str(path))
    found = []
    for part in promised["schema"]:
        asset = _named(tables, part, promised)
        ours = standard(lakehouse, asset)
        findings = compare(part, ours["schema"][0], promised, ours)
        found.append({"table": asset.name, "kept": not any(f.broken for f in findings), "findings": [asdict(f) for f in findings]})
    return found


def _named(tables: Sequence[TableDeclaration], part: dict[str, Any], document: dict[str, Any]) -> TableDeclaration:
    """The declared table that a part of a document is about: by its full name, else by a last word that only one table has."""
    by_name = {asset.name: asset for asset in tables}
    names = [str(name) for name in (part.get("physicalName"), part.get("name"), document.get("id"), document.get("name")) if name]
    for name in names:
        if name in by_name:
            return by_name[name]
    for name in names[:2]:
        ending = [asset for asset in tables if asset.name.rsplit(".", maxsplit=1)[-1] == name.rsplit(".", maxsplit=1)[-1]]
        if len(ending) == 1:
            return ending[0]
    raise LookupError(
        f"the document names {', '.join(dict.fromkeys(names)) or 'no table'}, which is no declared table: say product.layer.name as "
        f"physicalName. There are: {', '.join(sorted(by_name)) or 'none'}"
    )

"""Contracts: shown, compared with what the tables were written under, exchanged in the open standard."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lakehouse_assets.client.context import Context

Values = list[dict[str, Any]]
Paths = list[Path]


@dataclass(frozen=True)
class Contracts:
    """The contracts of the declared tables."""

    context: Context

    def list(self) -> Values:
        """The tables with a contract: `table`, `contract`, `owner`, and how many `columns` and `rules` it has."""
        return [
            {
                "table": asset.name,
                "contract": asset.contract.__name__,
                "owner": asset.owner,
                "columns": len(asset.schema),
                "rules": len(asset.rules),
            }
            for asset in self.context.tables
        ]

    def show(self, table: str) -> dict[str, Any]:
        """Columns, rules with their levels, thresholds and monitors of a table.

        Raises:
            LookupError: No product declares a table of that name with a contract.
        """
        from lakehouse_assets.platform.monitoring.kinds.implied import monitors_of
        from lakehouse_assets.platform.quality.document import document

        asset = self.context.table(table)
        return {
            "table": asset.name,
            "owner": asset.owner,
            "key_kept_by": "rule key_unique" if asset.keeps_key_by_rule else type(asset.kind).__name__,
            "monitors": {one.word: one.description for one in monitors_of(asset.name, self.context.declarations)},
            **document(asset.contract),
        }

    def diff(self, table: str | None = None) -> Values:
        """What changed in the contract of a table, or of each, since the table was last written, and what that breaks.

        Raises:
            LookupError: As `show`.
        """
        from lakehouse_assets.platform.operations.contract_changes import contract_changes

        assets = [self.context.table(table)] if table else self.context.tables
        return [asdict(contract_changes(asset, self.context.declarations, self.context.root.lakehouse)) for asset in assets]

    def export(self, table: str) -> str:
        """The contract of a table as Open Data Contract Standard 3.1, in YAML.

        Raises:
            LookupError: As `show`.
        """
        from lakehouse_assets.platform.operations.standard import as_yaml, standard

        return as_yaml(standard(self.context.root.lakehouse, self.context.table(table)))

    def export_all(self, folder: Path) -> Paths:
        """Write the contract of every table into a folder; the files."""
        from lakehouse_assets.platform.operations.standard import FILE_ENDING

        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for asset in self.context.tables:
            path = folder / f"{asset.name}{FILE_ENDING}"
            path.write_text(self.export(asset.name), encoding="utf-8")
            paths.append(path)
        return paths

    def check(self, file: Path) -> Values:
        """Whether each table that a document of the standard is about keeps what it promises.

        Raises:
            ValueError: The file is no such document.
            LookupError: It names no declared table.
        """
        from lakehouse_assets.platform.operations.standard import check

        return check(self.context.root.lakehouse, self.context.tables, file)

"""The quarantine of one table: its rows, and their release."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse_assets.client.context import Context

if TYPE_CHECKING:
    from lakehouse_assets.platform.pipeline.replay import Replayed

_BY_HAND = "by hand"


@dataclass(frozen=True)
class Quarantine:
    """The rejected rows of a declared table."""

    context: Context
    table: str

    def show(self, *, rows: int = 10, rule: str | None = None, released: bool = False) -> dict[str, Any]:
        """The rules that rows broke, and the rows with their file, record and source row, newest file first, personal data masked.

        `matching` says how many rows there are that were asked for, of which `rows` has the first.

        Args:
            rows: How many rows at most.
            rule: Only rows that broke this rule.
            released: Also rows that were released.

        Raises:
            NoSuchTable: The table was never written.
            LookupError: No product declares the table, or it has no such rule.
        """
        from lakehouse_assets.platform.operations.rejected import rejected_rows

        return rejected_rows(self.context.table(self._name), self.context.reader, rows=rows, rule=rule, released=released)

    def replay(self, where: str | None = None, sets: Mapping[str, str] | None = None, *, dry_run: bool = False) -> "Replayed":
        """Put rejected rows through the table's function and contract again, and write those that pass, once.

        Args:
            where: Which rows: a condition in SQL on columns of the quarantine and of the source (`source.COLUMN`). It sees real values:
                who may write a table may know what is in it.
            sets: By column of the source row, an expression in SQL that changes it first.
            dry_run: Only say what would be released.

        Raises:
            ValueError: It cannot be done; the text says why and what to do.
        """
        from lakehouse_assets.platform.pipeline.replay import Replays
        from lakehouse_assets.platform.pipeline.selection import Selection
        from lakehouse_assets.platform.quality.account import RowsLost
        from lakehouse_assets.platform.quality.contract import ContractBroken

        replays = Replays(self.context.table(self._name), self.context.root.lakehouse, _BY_HAND)
        try:
            return replays.run(Selection(where, dict(sets or {})), dry_run=dry_run)
        except (ContractBroken, RowsLost) as error:
            raise ValueError(str(error)) from error

    @property
    def _name(self) -> str:
        return self.table.removesuffix("__quarantine")

"""Which columns of a stored table are personal: what declarations say, else what the contracts say that it was written under.

Whoever shows rows, or keeps what was counted from them, asks here: the reader, monitors and their reasons. Who may see personal columns is
decided in `reader`, what declarations say in `policy`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
from lakehouse_assets.platform.governance.policy import Policy
from lakehouse_assets.platform.quality.masking import Personal
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

CONTRACTS = platform_tables.CONTRACTS
"""The table with every contract that a table was written under: it tells what is personal where no declaration promises columns."""


@dataclass(frozen=True)
class PersonalColumns:
    """The personal columns of all tables.

    Attributes:
        lakehouse: Has the recorded contracts, which are read once.
        policy: Gives what is declared; called at the first question.
    """

    lakehouse: Lakehouse
    policy: Callable[[], Policy]

    def of(self, table: str) -> Personal:
        """The personal columns of a table or of a quarantine; none of a table that nobody ever described."""
        return self.known(table) or Personal()

    def known(self, table: str) -> Personal | None:
        """As `of`; None if neither a declaration nor a recorded contract tells."""
        declared = self._policy.of(table)
        return declared if declared is not None else self._recorded.get(table.removesuffix(QUARANTINE_SUFFIX))

    def masked(self, rows: pl.LazyFrame, table: str) -> pl.LazyFrame:
        """Rows of a table as what is counted from them may be kept: personal values of every type are a text, so nulls can be counted."""
        return self.of(table).masked(rows, as_text=True)[0]

    @cached_property
    def _policy(self) -> Policy:
        return self.policy()

    @cached_property
    def _recorded(self) -> dict[str, Personal]:
        log = self.lakehouse.table(CONTRACTS)
        if not log.exists():
            return {}
        found: dict[str, Personal] = {}
        for table, text in log.scan().select("table", "contract").collect().iter_rows():
            columns = json.loads(text)["columns"]
            personal = frozenset(column["name"] for column in columns if column["personal"])
            # Whatever was personal under any of its contracts may still be in its rows.
            found[table] = found.get(table, Personal()).together(
                Personal(personal, frozenset(column["name"] for column in columns) - personal)
            )
        return found

"""The row account: where every row of a batch went. A table's commit carries it, so that no row can get lost unseen.

How the counts come about is known to whoever writes the rows; this module only adds them up.
"""

import json
from dataclasses import asdict, dataclass


class RowsLost(Exception):
    """The rows of a batch are not all accounted for."""


@dataclass(frozen=True)
class RowAccount:
    """Rows in = written + updated + duplicates + quarantined.

    Attributes:
        rows_in: How many rows came; None: not counted, because the function groups or joins rows, so what goes in need not come out.
        written: How many became new rows of the table.
        updated: How many changed a row of the table.
        duplicates: How many the table has already, or has newer; or its quarantine has already.
        quarantined: How many broke an error rule, and were not rejected before.
        removed: How many rows of the table went.
    """

    rows_in: int | None = 0
    written: int = 0
    updated: int = 0
    duplicates: int = 0
    quarantined: int = 0
    removed: int = 0

    @property
    def explained(self) -> int:
        """How many rows are known to have gone somewhere."""
        return self.written + self.updated + self.duplicates + self.quarantined

    @property
    def balanced(self) -> bool:
        """Whether every row that came went somewhere, and no row twice. What was not counted cannot be out of balance."""
        return self.rows_in is None or self.rows_in == self.explained

    def check(self, table: str) -> None:
        """Stop a commit that would lose rows.

        Args:
            table: The table that is written to, for the message.

        Raises:
            RowsLost: The account is not balanced.
        """
        if self.rows_in is None or self.balanced:
            return
        difference = self.rows_in - self.explained
        what = f"{difference} too few: they are lost" if difference > 0 else f"{-difference} too many: they are counted twice"
        raise RowsLost(
            f"{table}: {self.rows_in} rows came in, but {self.written} written + {self.updated} updated + {self.duplicates} duplicates + "
            f"{self.quarantined} quarantined make {self.explained}, {what}. Nothing was committed; check the function that made the rows."
        )

    def __add__(self, other: "RowAccount") -> "RowAccount":
        """The account of both batches together; not counted if one of them was not."""
        return RowAccount(
            None if self.rows_in is None or other.rows_in is None else self.rows_in + other.rows_in,
            self.written + other.written,
            self.updated + other.updated,
            self.duplicates + other.duplicates,
            self.quarantined + other.quarantined,
            self.removed + other.removed,
        )

    def to_json(self) -> str:
        """The account as a commit has it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "RowAccount":
        """The account that `to_json` wrote."""
        return cls(**json.loads(text))

"""Columns of a contract whose values stand in a column of another table: they are personal where that one is, and described as it is.

A recipe that makes a contract knows the other table by its name alone. What its column says is told once all declarations are known, see
`declarations.copied_columns`; until then the column is as the recipe made it.
"""

from typing import Any, Final

MARK: Final = "copied"


class Copied:
    """Where the values of a column come from, and what is known of that column.

    Args:
        table: Its name.
        column: Its column.
    """

    def __init__(self, table: str, column: str) -> None:
        self.table, self.column = table, column
        self.description, self.personal = "", False

    def __deepcopy__(self, _: dict[int, Any]) -> "Copied":
        """Itself: Pandera copies the columns of a contract for each thread, and what is told is told to all."""
        return self

    def tell(self, description: str, *, personal: bool) -> bool:
        """What that column says; whether it is new."""
        before = (self.description, self.personal)
        self.description, self.personal = description, personal
        return before != (description, personal)


def copied(field: Any, table: str, column: str) -> Any:
    """A column of a contract, as `column(…)` makes it, whose values stand in a column of another table.

    It is personal if it says so itself, or that column does. Where it has no description of its own, it has that of the other column.
    """
    field.metadata[MARK] = Copied(table, column)
    return field

"""What a client is told when a request is not answered: which row, which field, what to do. Never a trace."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

_TOLD: Final = 10
_LONGEST: Final = 300


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wrong with a request.

    Attributes:
        message: For people; it says what would be right.
        field: The field, if it is about one.
        row: Number of the row in the request, from 0, if it is about one.
    """

    message: str
    field: str | None = None
    row: int | None = None


class Refused(Exception):
    """A request that is not answered.

    Attributes:
        status: Of HTTP.
        errors: What is wrong.
        headers: Of the answer.
    """

    def __init__(self, status: int, errors: Sequence[FieldError], headers: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.status, self.errors, self.headers = status, tuple(errors), headers

    def without_values(self, fields: Collection[str]) -> str:
        """What is wrong, for a log: of an error in a field only its place, as its sentence may hold a value, which may be personal.

        Args:
            fields: Names that may be told; any other was made up by who asked.
        """
        told = []
        for error in self.errors[:_TOLD]:
            if error.field is None:
                told.append(error.message[:_LONGEST])
                continue
            place = "" if error.row is None else f"row {error.row}: "
            told.append(f"{place}{error.field if error.field in fields else 'a field that there is not'}")
        return "; ".join(dict.fromkeys(told))

    def body(self, request_id: str = "") -> bytes:
        """The answer as JSON."""
        return msgspec.json.encode({"errors": self.errors, **({"request_id": request_id} if request_id else {})})


def refused(status: int, message: str, field: str | None = None, row: int | None = None, **headers: str) -> Refused:
    """A refusal for one reason."""
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return Refused(status, [FieldError(message, field, row)], named)

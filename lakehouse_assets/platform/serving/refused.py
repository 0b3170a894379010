"""What a client is told when a request is not answered: which row, which field, what to do. Never a trace."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec


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

    def body(self, request_id: str = "") -> bytes:
        """The answer as JSON."""
        return msgspec.json.encode({"errors": self.errors, **({"request_id": request_id} if request_id else {})})


def refused(status: int, message: str, field: str | None = None, row: int | None = None, **headers: str) -> Refused:
    """A refusal for one reason."""
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return Refused(status, [FieldError(message, field, row)], named)

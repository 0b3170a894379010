"""Rows of a request: read from JSON with the types of a contract, so that what is wrong is said by row and field.

Types are strict: a text is no number, a float is a whole number only if it has no digits after its point, NaN and infinity are no numbers,
and a moment has a time zone. Rules of a contract are in `rules`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Final, Literal

import msgspec
import polars as pl
from polars.datatypes import DataTypeClass

from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.serving.refused import FieldError, Refused, refused
from lakehouse_assets.platform.serving.whole_numbers import with_whole_numbers
from lakehouse_assets.platform.serving.wrong_fields import wrong

Row = dict[str, Any]
AS_WRITTEN: Final = pl.QueryOptFlags.none()
"""How queries of a few rows are run: to optimise them takes longer than to run them. Types are coerced as always."""
_MANY_ROWS: Final = 50
_INTEGERS: Final[Mapping[DataTypeClass, tuple[int, int]]] = {
    pl.Int8: (-(2**7), 2**7 - 1),
    pl.Int16: (-(2**15), 2**15 - 1),
    pl.Int32: (-(2**31), 2**31 - 1),
    pl.Int64: (-(2**63), 2**63 - 1),
    pl.UInt8: (0, 2**8 - 1),
    pl.UInt16: (0, 2**16 - 1),
    pl.UInt32: (0, 2**32 - 1),
}
_PLAIN: Final[Mapping[DataTypeClass, Any]] = {
    pl.Float32: float, pl.Float64: float, pl.String: str, pl.Categorical: str, pl.Boolean: bool, pl.Date: date, pl.Decimal: Decimal,
}  # fmt: skip


@dataclass(frozen=True)
class RowType:
    """The fields that rows of a request may have.

    Attributes:
        what: What a row is, for messages.
        columns: Types of the fields, by name.
        optional: Those that may be null or left out.
        omittable: Those of them that are not in a row which leaves them out; others are null there.

    Raises:
        DeclarationError: A type cannot stand in JSON.
    """

    what: str
    columns: Mapping[str, pl.DataType]
    optional: Collection[str] = ()
    omittable: Collection[str] = ()

    def __post_init__(self) -> None:
        _ = self._decoder

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        fields: list[tuple[str, Any, Any]] = []
        for number, (name, kind) in enumerate(self._kinds.items()):
            default: dict[str, Any] = {"default": None} if name in self.optional else {}
            may_miss = name in self.omittable
            field = msgspec.field(name=name, **({"default": msgspec.UNSET} if may_miss else default))
            # By number, as a column may be called `class` or `from`.
            fields.append((f"f{number}", kind | msgspec.UnsetType if may_miss else kind, field))
        struct = msgspec.defstruct("Row", fields, forbid_unknown_fields=True, kw_only=True)
        return msgspec.json.Decoder(list[struct])  # type: ignore[valid-type]

    @cached_property
    def _kinds(self) -> dict[str, Any]:
        """The Python type of each field."""
        kinds = {name: _python(f"{self.what}, column {name}", dtype) for name, dtype in self.columns.items()}
        return {name: kind | None if name in self.optional else kind for name, kind in kinds.items()}

    @cached_property
    def _moments(self) -> tuple[str, ...]:
        return tuple(name for name, dtype in self.columns.items() if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None)

    def read(self, content: bytes | msgspec.Raw) -> list[Row]:
        """The rows of a JSON array, with a value for every field.

        Raises:
            Refused: It is no array of such rows; what is wrong is said of each row and field, of many only of the first.
        """
        try:
            found = self._decoded(content)
        except msgspec.ValidationError as error:
            raise Refused(422, wrong(content, self.columns, self.optional, self._kinds, self.what) or [FieldError(str(error))]) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise malformed(error) from None
        names = tuple(self.columns)
        rows: list[Row] = [dict(zip(names, msgspec.structs.astuple(one), strict=True)) for one in found]
        if self.omittable:
            rows = [row if msgspec.UNSET not in row.values() else _without_unset(row) for row in rows]
        for name in self._moments:
            for number, row in enumerate(rows):
                if (moment := row.get(name)) is not None and moment.tzinfo is not UTC:
                    row[name] = _as_utc(moment, name, number)
        return rows

    def _decoded(self, content: bytes | msgspec.Raw) -> Any:
        try:
            return self._decoder.decode(content)
        except msgspec.ValidationError:
            # Rows are read once more only where something is wrong with them.
            if (other := with_whole_numbers(content, self._integers)) is None:
                raise
            return self._decoder.decode(other)

    @cached_property
    def _integers(self) -> tuple[str, ...]:
        return tuple(name for name, dtype in self.columns.items() if dtype.is_integer())

    def take(self, values: Mapping[str, Sequence[Any]]) -> list[Row]:
        """Rows from columns of values, as other protocols have them; values are checked as those of JSON are.

        Raises:
            Refused: As `read`.
        """
        count = max((len(one) for one in values.values()), default=0)
        if short := [name for name, one in values.items() if len(one) != count]:
            raise refused(422, f"{short[0]} has {len(values[short[0]])} values, others have {count}: give each row a value", short[0])
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        try:
            return self.read(msgspec.json.encode(rows))
        except (TypeError, ValueError, RecursionError) as error:
            raise malformed(error) from None

    def frame(self, rows: Sequence[Row]) -> pl.DataFrame:
        """Rows as a frame with the columns of this type."""
        return frame_of(rows, self.columns)


def _without_unset(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not msgspec.UNSET}


def malformed(error: BaseException) -> Refused:
    """The refusal of a text that is no JSON."""
    text = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
    return refused(400, f"the body is no JSON that can be read: {text}. NaN and infinity are no JSON; write null where a value is missing")


def frame_of(rows: Sequence[Row], columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Python values as a frame with columns of their types, made at once: column by column takes several times as long."""
    return pl.from_dicts(rows, schema=columns)


def frame_of_columns(values: Mapping[str, Sequence[Any]], columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """The same from columns of Python values. Of few rows it is faster to make them rows first."""
    count = len(next(iter(values.values()), ()))
    if count < _MANY_ROWS:
        rows = zip(*(values[name] for name in columns), strict=True)
        return frame_of([dict(zip(columns, row, strict=True)) for row in rows], columns)
    return pl.DataFrame([pl.Series(name, values[name], dtype=dtype) for name, dtype in columns.items()])


def _as_utc(moment: datetime, name: str, row: int) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise refused(
            422, f"{moment.isoformat()} is no moment that can be stored: it is outside of the years 1 to 9999 UTC", name, row
        ) from None


def limits_of(dtype: pl.DataType) -> tuple[int, int] | None:
    """The smallest and the largest value of a type of whole numbers; None of another type."""
    return _INTEGERS.get(dtype.base_type())


def _python(where: str, dtype: pl.DataType) -> Any:
    """The type of a field in JSON."""
    base = dtype.base_type()
    if (limits := limits_of(dtype)) is not None:
        least, most = limits
        return Annotated[int, msgspec.Meta(ge=least, le=most)]
    if isinstance(dtype, pl.Enum):
        return Literal[tuple(dtype.categories)]
    if base in _PLAIN:
        return _PLAIN[base]
    if isinstance(dtype, pl.Datetime):
        return Annotated[datetime, msgspec.Meta(tz=dtype.time_zone is not None)]
    if isinstance(dtype, pl.List):
        inner = dtype.inner
        return list[_python(where, inner() if isinstance(inner, type) else inner) | None]  # type: ignore[misc]
    raise DeclarationError(
        f"{where} is {dtype}, which cannot be sent as JSON: leave it out of the contract, or make a number or text of it"
    )

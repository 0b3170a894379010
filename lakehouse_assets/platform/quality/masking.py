"""Personal data and what is shown in its place.

Which columns are personal is stated by contracts and feeds; who may see them is decided by the reader in `governance`.
In a frame a personal text is replaced by `MASK` and a value of another type by null: there is no number or date that could not be mistaken
for a real one. Nulls stay nulls. Nothing heavy is imported here, because every command that shows rows needs it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

UNPARSED = "_unparsed"
"""Column of the platform: raw texts that could not be read as their column's type, as a JSON object by column; null if there are none."""
HINT = "_hint"
"""Column of the platform: what would read the texts in `_unparsed`, for people; it quotes no value."""
RESCUED = "_rescued"
"""Column of the platform: raw values of a file that had no column, as a JSON object."""
BROKEN = "_broken"
"""Column of rejected rows: the names of all error rules that the row breaks."""
MASK = "•••"
"""Replaces personal data wherever rows are shown."""
SOURCE = "source"
"""Column of a quarantine that is shown with its source: the row of the source table, as a struct."""

# As in `conversion from str to i64 failed in column 'email' for 1 out of 1 values: ["…"]`.
_VALUES = re.compile(r"(?<=values:) .*|(?<=value\(s\):) .*")

# JSON objects by column, in which each key is judged as a column of that name is.
_BY_COLUMN = (UNPARSED, "_released_with")


@dataclass(frozen=True)
class Personal:
    """The personal columns of a table.

    Attributes:
        columns: Names of personal columns.
        not_personal: Names of columns that are declared and not personal. If a table has a personal column, every other column and JSON key
            is taken for personal too, because nothing declares what it holds.
    """

    columns: frozenset[str] = frozenset()
    not_personal: frozenset[str] = frozenset()

    def hides(self, name: str) -> bool:
        """Whether the values of a column, or of a key in a JSON column, are masked. Columns of the platform (`_file`) are not personal."""
        if name in self.columns:
            return True
        return bool(self.columns) and name not in self.not_personal and not name.startswith("_")

    def together(self, other: "Personal") -> "Personal":
        """The personal columns of rows that may have columns of both tables."""
        columns = self.columns | other.columns
        return Personal(columns, (self.not_personal | other.not_personal) - columns)

    def masked(self, rows: pl.LazyFrame, *, as_text: bool = False) -> tuple[pl.LazyFrame, tuple[str, ...]]:
        """Rows with personal data masked, and the names of the columns that were masked whole or in part.

        Args:
            rows: The rows.
            as_text: Whether a masked value of another type becomes the mask too, which makes the column a text, and not null.
        """
        changed = {}
        if self.columns:
            schema = rows.collect_schema()
            changed = {
                name: mask for name, dtype in schema.items() if (mask := self._mask(pl.col(name), name, dtype, as_text=as_text)) is not None
            }
        return rows.with_columns(mask.alias(name) for name, mask in changed.items()), tuple(changed)

    def masked_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """One row of Python values with personal data masked, whatever its type."""
        return {name: self._masked_value(name, value) for name, value in row.items()}

    def _mask(self, values: pl.Expr, name: str, dtype: pl.DataType, *, as_text: bool = False) -> pl.Expr | None:
        """The masked values of a column; None if it is shown as it is."""
        if name in _BY_COLUMN and dtype == pl.String:
            return values.map_batches(self._masked_json, return_dtype=pl.String(), is_elementwise=True)
        if name == SOURCE and isinstance(dtype, pl.Struct) and name not in self.columns:
            fields = [(f.name, self._mask(values.struct.field(f.name), f.name, _instance(f.dtype))) for f in dtype.fields]
            struct = values.struct.with_fields(mask.alias(field) for field, mask in fields if mask is not None)
            return pl.when(values.is_not_null()).then(struct)
        if name != RESCUED and not self.hides(name):
            return None
        return pl.when(values.is_not_null()).then(pl.lit(MASK)) if as_text or dtype == pl.String else pl.lit(None, dtype)

    def _masked_json(self, texts: pl.Series) -> pl.Series:
        return pl.Series(texts.name, [self._masked_value(UNPARSED, text) for text in texts], pl.String)

    def _masked_value(self, name: str, value: Any) -> Any:
        if value is None or not self.columns:
            return value
        if name in _BY_COLUMN:
            return _mask_keys(str(value), self)
        if name == SOURCE and isinstance(value, Mapping):
            return self.masked_row(value)
        if name != RESCUED and not self.hides(name):
            return value
        return MASK


def without_values(error: BaseException) -> str:
    """What an engine says went wrong, in one line, without the values of rows that Polars puts into its messages: they may be personal."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return _VALUES.sub(" …", first)


def _mask_keys(text: str, personal: Personal) -> str:
    """A JSON object with the values of personal keys masked; the mask alone if the text is no JSON object."""
    try:
        values = json.loads(text)
    except ValueError:
        return MASK
    if not isinstance(values, dict):
        return MASK
    # A key with an underscore in front is no column of the platform here: a file may have any key.
    masked = {key: value if key in personal.not_personal or value is None else MASK for key, value in values.items()}
    return json.dumps(masked, ensure_ascii=False)


def _instance(dtype: Any) -> pl.DataType:
    return pl.Series(dtype=dtype).dtype

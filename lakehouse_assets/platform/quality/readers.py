"""What every reader of texts has in common, and the readers of texts, codes and choices.

A reader makes values of one type from the texts of one column, or says that a text is none. Readers of numbers are in `number_readers`,
those of dates and times in `date_readers`; how they are applied to rows is in `conform`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import polars as pl

MISSING = ("NULL", "Null", "null", "N/A", "n/a", "#N/A", "NA", "None", "none", "NaN", "NAN", "nan", "-", "--", "\\N")
"""Texts that stand for a missing number, date or flag. In a column of texts each may be a value, so there none of them is missing."""

# White space and characters without a width, which nobody sees at the ends of a text: zero-width ones, byte order marks, soft hyphens,
# marks of direction.
_INVISIBLE = "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
_BLANK = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\u00a0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_ANY_INVISIBLE = f"[{_INVISIBLE}]"
# As a spreadsheet writes a number of more than eleven digits: most of them are lost.
_CUT_BY_A_SPREADSHEET = r"^[+-]?[0-9]([.,][0-9]+)?[eE]\+[0-9]{2,3}$"
# An alternative that reads none of so many texts is not tried on the rest.
_TRIED_FIRST = 1_000

Case = Literal["upper", "lower"]


@dataclass(frozen=True)
class Settled:
    """The values of one column after a look at whole files.

    Attributes:
        values: The values.
        doubted: The rows whose value is not believed, because other rows of their file contradict how it was read; None: none.
        why: What to do about them, for people.
    """

    values: pl.Series
    doubted: pl.Series | None = None
    why: str = ""

    def also(self, doubted: pl.Series | None) -> "Settled":
        """The same with more rows that are not believed."""
        return self if doubted is None or self.doubted is None else replace(self, doubted=self.doubted | doubted)


@dataclass(frozen=True)
class Reader:
    """How a column is made from texts.

    Attributes:
        sources: The columns of bronze that it may come from; in each row the first that is not missing counts.
        nulls: Texts that stand for a missing value, besides the empty one.
    """

    sources: tuple[str, ...]
    nulls: tuple[str, ...]

    @property
    def word(self) -> str:
        """What the reader is called in a product."""
        return type(self).__name__.lower()

    @property
    def missing(self) -> tuple[str, ...]:
        """All texts that stand for a missing value."""
        return self.nulls

    @property
    def decides_by_file(self) -> bool:
        """Whether `settle` is needed even where every text could be read."""
        return False

    def read(self, given: pl.Expr) -> pl.Expr:
        """From texts without blanks around them to values, null for a text that is none; row by row."""
        return given

    def settle(self, texts: pl.Series, values: pl.Series, failed: pl.Series, files: pl.Series) -> Settled:  # noqa: ARG002
        """Look at the rows of each file together: where some contradict how others were read, those are not believed."""
        return Settled(values)

    def alternatives(self) -> Mapping[str, "Reader"]:
        """Readers with other options, by what to write for them."""
        return {}

    def hints(self, texts: pl.Series) -> pl.Series:
        """For each text that could not be read, the options that would read it, for people; null where there are none."""
        found = pl.repeat(None, texts.len(), dtype=pl.String, eager=True)
        waiting = [*self.alternatives().items()]
        while (rest := found.is_null().arg_true()).len() and waiting:
            # One query tries all that are left: a query for each would take longer than to read the file.
            first = texts.gather(rest.head(_TRIED_FIRST)).alias("").to_frame()
            tried = first.select(reader.read(pl.col("")).is_not_null().any().alias(written) for written, reader in waiting).row(0)
            at = next((place for place, reads in enumerate(tried) if reads), len(waiting))
            for written, reader in waiting[at : at + 1]:
                read = reader.values(texts.gather(rest)).is_not_null()
                found = found.scatter(rest.filter(read), f"{self.word}({self.sources[0]!r}, {written}) reads it")
            waiting = waiting[at + 1 :]
        return found

    def values(self, texts: pl.Series) -> pl.Series:
        """`read` at once."""
        return texts.alias("").to_frame().select(self.read(pl.col(""))).to_series()


@dataclass(frozen=True)
class Lenient(Reader):
    """A reader of what is no text: the usual words for a missing value are missing values."""

    @property
    def missing(self) -> tuple[str, ...]:
        """See `Reader.missing`."""
        return (*self.nulls, *MISSING)


@dataclass(frozen=True)
class Text(Reader):
    """Text as it is."""


@dataclass(frozen=True)
class Code(Reader):
    """Text that identifies something.

    Attributes:
        case: Into which case letters are brought; None: they stay.
    """

    case: Case | None = None

    def read(self, given: pl.Expr) -> pl.Expr:
        """See `Reader.read`."""
        return given.map_batches(self._codes, return_dtype=pl.String, is_elementwise=True)

    def _codes(self, given: pl.Series) -> pl.Series:
        # Patterns are slow, and few columns of codes have a point or a plus at all.
        if given.str.contains(".", literal=True).any():
            freed = given.str.strip_chars_end("0").str.strip_suffix(".")
            given = freed.zip_with(given.str.contains(r"^[0-9]+\.0+$"), given)
        if given.str.contains("+", literal=True).any():
            given = given.set(given.str.contains(_CUT_BY_A_SPREADSHEET), None)
        special = _beyond_ascii(given)
        if special.len():
            given = given.scatter(special, given.gather(special).str.replace_all(_ANY_INVISIBLE, ""))
        if self.case is None:
            return given
        return given.str.to_uppercase() if self.case == "upper" else given.str.to_lowercase()

    def hints(self, texts: pl.Series) -> pl.Series:
        """See `Reader.hints`."""
        why = "a spreadsheet has cut the digits of this code off: export the column as text and land the file again"
        return pl.repeat(why, texts.len(), dtype=pl.String, eager=True)


@dataclass(frozen=True)
class Choice(Reader):
    """A value for each of some texts.

    Attributes:
        options: The values by text.
        any_case: Whether the case of letters does not count; then the options are in lower case.
    """

    options: Mapping[str, Any]
    any_case: bool = False

    def read(self, given: pl.Expr) -> pl.Expr:
        """See `Reader.read`."""
        return (given.str.to_lowercase() if self.any_case else given).replace_strict(self.options, default=None)

    def hints(self, texts: pl.Series) -> pl.Series:
        """See `Reader.hints`."""
        why = f"it is none of {', '.join(map(repr, self.options))}"
        return pl.repeat(why, texts.len(), dtype=pl.String, eager=True)


@dataclass(frozen=True)
class Flag(Choice, Lenient):
    """Yes or no."""

    @property
    def word(self) -> str:
        """See `Reader.word`."""
        return "boolean"


def cleaned(texts: pl.Series) -> pl.Series:
    """Texts without blanks and invisible characters at their ends, and letters with accents as one character each (NFC)."""
    stripped = texts.str.strip_chars()
    special = _beyond_ascii(stripped)
    if not special.len():
        return stripped
    return stripped.scatter(special, stripped.gather(special).str.strip_chars(_BLANK + _INVISIBLE).str.normalize("NFC"))


def _beyond_ascii(texts: pl.Series) -> pl.Series:
    """Which texts have a character beyond ASCII; in most batches none."""
    if texts.null_count() == texts.len():
        return pl.Series(dtype=pl.UInt32)
    letters, size = texts.str.len_chars(), texts.str.len_bytes()
    return pl.Series(dtype=pl.UInt32) if letters.sum() == size.sum() else (letters != size).arg_true()

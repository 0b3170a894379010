"""How the texts of one column become values: tried with the platform's own readers, each guess with its evidence.

A reader is taken if it reads (almost) all values. What it does not read would come into quarantine, and the evidence says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from lakehouse_assets.platform.quality.conform import number, whole_number
from lakehouse_assets.platform.quality.readers import MISSING, Reader
from lakehouse_assets.scaffold.dates import dates_in
from lakehouse_assets.scaffold.names import words_of
from lakehouse_assets.scaffold.vocabulary import DATE, IDENTIFIER

# Texts that stand for a missing value in a column of texts, as far as nobody means them; and one more for numbers and dates.
_MISSING = ("NULL", "null", "N/A", "n/a", "#N/A", "NaN", "nan", "None")
_MISSING_BESIDE_VALUES = (*MISSING, "?")
_YES_AND_NO = (("true", "false"), ("yes", "no"), ("ja", "nein"), ("oui", "non"), ("y", "n"), ("j", "n"), ("t", "f"))
_ANNOTATIONS = {
    "text": "str",
    "code": "str",
    "whole_number": "int",
    "number": "float",
    "day": "date",
    "timestamp": "Timestamp",
    "choice": "bool",
}
# A reader may miss one value in ten, once there are ten.
_MISSED, _FEW = 0.1, 10
_SHOWN = 40
_LONGEST_NUMBER = 18
_TRIED_FIRST = 200
_GROUPS_OF_THREE = r"^[^0-9]*[0-9]{1,3}([.,][0-9]{3})+[^0-9]*$"


@dataclass(frozen=True)
class Reading:
    """A reader and why.

    Attributes:
        reader: Its name in `lakehouse_assets`.
        options: Its parameters.
        evidence: For people.
        unread: How many values it does not read.
        doubt: What a person should look at; None if nothing.
        missing: The words that it takes for missing values.
    """

    reader: str
    evidence: str
    options: Mapping[str, Any] = field(default_factory=dict)
    unread: int = 0
    doubt: str | None = None
    missing: tuple[str, ...] = ()

    @property
    def annotation(self) -> str:
        """The type in the contract."""
        return _ANNOTATIONS[self.reader]

    @property
    def is_number(self) -> bool:
        """Whether values can be added up."""
        return self.reader in {"whole_number", "number"}

    @property
    def is_time(self) -> bool:
        """Whether values are days or moments."""
        return self.reader in {"day", "timestamp"}

    @property
    def is_text(self) -> bool:
        """Whether values are texts."""
        return self.reader in {"text", "code"}


@dataclass(frozen=True)
class Values:
    """The values of a column, as it came.

    Attributes:
        column: Its name in the file.
        texts: Without blanks around them; null where nothing is.
        where: Says where the row of an index stands.
        hidden: Whether values must not be shown.
    """

    column: str
    texts: pl.Series
    where: Callable[[int], str]
    hidden: bool

    @property
    def missing(self) -> int:
        """How many are missing."""
        return self.texts.null_count()

    def example(self, index: int) -> str:
        """A value and where it stands."""
        return self.where(index) if self.hidden else f"{shown(self.texts[index])} in {self.where(index)}"


def shown(text: str) -> str:
    """A value for a comment."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


def reading_of(values: Values) -> Reading:
    """How a column is read."""
    texts, missing = _without(values.texts, _MISSING_BESIDE_VALUES)
    if texts.null_count() == texts.len():
        return _with_missing(Reading("text", f"no value in {texts.len():,} rows: kept as text"), missing)
    found = _choice(texts) or _identifier(values, texts) or _dates(values, texts) or _number(values, texts)
    if found is not None:
        return _with_missing(found, missing)
    _, missing = _without(values.texts, _MISSING)
    return _with_missing(Reading("code" if _is_called_identifier(values.column) else "text", ""), missing)


def _without(texts: pl.Series, words: Sequence[str]) -> tuple[pl.Series, dict[str, int]]:
    """The texts without words that stand for a missing value, and how often each of these came."""
    found = {word: count for word in words if (count := int((texts == word).sum()))}
    return (texts.replace(list(found), [None] * len(found)) if found else texts), found


def _nulls(missing: Mapping[str, int]) -> dict[str, Any]:
    return {"nulls": tuple(missing)} if missing else {}


def _with_missing(found: Reading, missing: Mapping[str, int]) -> Reading:
    if not missing:
        return found
    counted = ", ".join(f"{word!r} {count:,} times" for word, count in missing.items())
    evidence = "; ".join(filter(None, [found.evidence, f"taken for missing: {counted}"]))
    # Readers of values know the usual words.
    named = {word: count for word, count in missing.items() if found.is_text or found.reader == "choice" or word not in MISSING}
    return replace(found, evidence=evidence, options={**found.options, **_nulls(named)}, missing=tuple(missing))


def _choice(texts: pl.Series) -> Reading | None:
    spelled = texts.drop_nulls().unique(maintain_order=True).to_list()
    words = {word.lower() for word in spelled}
    for yes, no in _YES_AND_NO:
        both = {yes, no} if len(yes) == 1 else set()  # of single letters both have to be there: `T` may be a code
        if both <= words <= {yes, no}:
            # The word that did not come is spelled as the other one is.
            styled = [str.title, str.upper, str.lower]
            style = next(style for style in styled if style(spelled[0].lower()) == spelled[0] or style is str.lower)
            options = {word: word.lower() == yes for word in [*spelled, *(style(word) for word in (yes, no) if word not in words)]}
            counted = f"only {' and '.join(map(repr, spelled))} in {texts.count():,} values"
            return Reading("choice", counted, {"options": dict(sorted(options.items(), key=lambda item: not item[1]))})
    return None


def _is_called_identifier(column: str) -> bool:
    words = words_of(column)
    return bool(words) and (words[-1] in IDENTIFIER or words[0] in {"uuid", "guid", "isbn", "iban", "phone"})


def _identifier(values: Values, texts: pl.Series) -> Reading | None:
    """Digits that are no quantity."""
    given = texts.drop_nulls()
    if not bool(given.str.contains(r"^[0-9]+(\.0+)?$").all()):
        return None
    zeros = texts.str.contains("^0[0-9]").fill_null(value=False).arg_true()
    if not zeros.is_empty():
        return Reading("code", f"digits with zeros in front ({values.example(int(zeros[0]))}): an identifier")
    if _is_called_identifier(values.column):
        return Reading("code", "digits, and called like an identifier: kept as text")
    if bool((given.str.len_chars() > _LONGEST_NUMBER).any()):
        return Reading("code", "digits too long for a whole number: kept as text")
    return None


def _number(values: Values, texts: pl.Series) -> Reading | None:
    options, doubt = _notation(texts)
    readers = {"whole_number": whole_number("value", **options), "number": number("value", **options)}
    read = {name: _read(texts, reader) for name, reader in readers.items()}
    name = "whole_number" if read["whole_number"].sum() == read["number"].sum() else "number"
    what = "a whole number" if name == "whole_number" else "a number"
    written = f", written with {', '.join(f'{option} {value!r}' for option, value in options.items())}" if options else ""
    return _taken(values, texts, Reading(name, "", options, doubt=doubt), read[name], what + written)


def _notation(texts: pl.Series) -> tuple[dict[str, Any], str | None]:
    """The options with which most texts are numbers, the fewest of them; and what is doubtful about them."""
    plain = number("value")
    best, options = int(_read(texts, plain).sum()), dict[str, Any]()
    first = texts.drop_nulls().head(_TRIED_FIRST)
    if best == texts.count() or not bool(first.str.contains("[0-9]").any()):
        return options, None
    for reader in plain.alternatives().values():
        if _read(first, reader).any() and (count := int(_read(texts, reader).sum())) > best:
            best, options = count, _options_of(reader, plain)
    mark = options.get("decimal")
    if mark is None or not bool(texts.drop_nulls().str.contains(_GROUPS_OF_THREE).all()):
        return options, None
    # Decimals of three digits in every value would be odd.
    others = {name: value for name, value in options.items() if name != "decimal"} | {"thousands": mark}
    return (
        others,
        f"each {mark!r} is followed by three digits, so it is taken for a mark of thousands; if it is not, write decimal={mark!r}",
    )


def _options_of(reader: Reader, plain: Reader) -> dict[str, Any]:
    """The options in which a reader differs from the plain one."""
    mine, its = vars(reader), vars(plain)
    changed = {name: value for name, value in mine.items() if value != its[name]}
    return {name: value[0] if name == "currency" else value for name, value in changed.items()}


def _dates(values: Values, texts: pl.Series) -> Reading | None:
    given = texts.drop_nulls()
    found = dates_in(given, compact=bool(DATE & set(words_of(values.column))))
    if found is None:
        return None
    doubt = found.order if found.is_doubtful else None
    evidence = found.order or ""
    if found.decided_at is not None:
        order, _, counted = evidence.partition(": ")
        evidence = f"{order}: {values.example(int(texts.is_not_null().arg_true()[found.decided_at]))}; {counted}"
    read = _read(texts, found.conformed())
    return _taken(values, texts, Reading(found.reader, evidence, {"formats": found.formats}, doubt=doubt), read, "a date")


def _taken(values: Values, texts: pl.Series, reading: Reading, read: pl.Series, what: str) -> Reading | None:
    """The reading with its evidence, if it reads enough."""
    count, unread = texts.count(), (texts.is_not_null() & ~read).arg_true()
    if unread.len() > (_MISSED * count if count >= _FEW else 0):
        return None
    evidence = "; ".join(filter(None, [f"{what} in {count - unread.len():,} of {count:,} values", reading.evidence]))
    doubt = reading.doubt
    if unread.len():
        first = values.example(int(unread[0]))
        evidence += f"; the others go to quarantine ({first})"
        how_many = "is not {} and goes" if unread.len() == 1 else "are not {} and go"
        doubt = doubt or f"{unread.len():,} of {count:,} values {how_many.format(what)} to quarantine ({first})"
    return Reading(reading.reader, evidence, reading.options, unread.len(), doubt)


def _read(texts: pl.Series, reader: Reader) -> pl.Series:
    """Which texts a reader reads."""
    return texts.alias("value").to_frame().select(reader.read(pl.col("value"))).to_series().is_not_null()

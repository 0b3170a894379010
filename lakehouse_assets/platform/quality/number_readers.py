"""Readers of numbers, in the notations in which people and programs write them. What readers have in common is in `readers`.

A text is read whole or not at all. A point or comma with three digits behind it may be a decimal mark or one of thousands: where a file has
other texts that only the other notation reads, such texts are not believed.
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import polars as pl

from lakehouse_assets.platform.quality.readers import Lenient, Reader, Settled

# Spellings of one mark of thousands.
_SPELLINGS = {" ": " \u00a0\u2009\u202f", "'": "'\u2019"}
_MARKS = {".": ",", ",": "."}
_EXACT = 2**53  # below, a float holds every whole number
_CURRENCIES = ("£", "$", "€")
# May be 1234 or 1.234, whatever stands around it.
_TWO_MEANINGS = r"^[^0-9.,]*[1-9][0-9]{0,2}[.,][0-9]{3}[^0-9.,]*$"


@dataclass(frozen=True)
class Number(Lenient):
    """Numbers as `Float64`; infinity and NaN are none, nor is what a float would change: whole numbers of many digits, and what comes to 0.

    Attributes:
        decimal: The decimal mark, `.` or `,`.
        thousands: The mark between groups of three digits; None: there is none.
        currency: Signs of currency that may stand at either end.
        percent: Whether numbers are percentages: each has the sign, and is divided by a hundred.
        accounting: Whether `(12.50)` and `12.50-` are negative.
    """

    decimal: str = "."
    thousands: str | None = None
    currency: tuple[str, ...] = ()
    percent: bool = False
    accounting: bool = False

    def read(self, given: pl.Expr) -> pl.Expr:
        """See `Reader.read`."""
        return self._plain(given).map_batches(_floats, return_dtype=pl.Float64, is_elementwise=True)

    @property
    def _is_plain(self) -> bool:
        return (self.decimal, self.thousands, self.currency, self.percent, self.accounting) == (".", None, (), False, False)

    def _plain(self, given: pl.Expr) -> pl.Expr:
        """The texts in the notation of programs; null for one that is not in this reader's."""
        if self._is_plain:
            return given
        body, sign = given, pl.lit("")
        if self.accounting:
            bare = body.str.strip_suffix(")").str.strip_prefix("(").str.strip_suffix("-")
            negative = body.str.contains(r"^\([^()-]*\)$|^[^()+-]*-$")
            body, sign = pl.when(negative).then(bare.str.strip_chars()).otherwise(body), pl.when(negative).then(pl.lit("-")).otherwise(sign)
        if self.percent:
            body = pl.when(body.str.ends_with("%")).then(body.str.strip_suffix("%").str.strip_chars_end())
        if self.currency:
            signs = "|".join(map(re.escape, sorted(self.currency, key=len, reverse=True)))
            body = body.str.replace(rf"^([+-]?)\s*(?:{signs})\s*([^£$€]*)$", "${1}${2}").str.replace(rf"\s*(?:{signs})$", "")
        point = re.escape(self.decimal)
        digits = "[0-9]+"
        if self.thousands is not None:
            marks = f"[{re.escape(_SPELLINGS.get(self.thousands, self.thousands))}]"
            digits = rf"(?:[0-9]{{1,3}}(?:{marks}[0-9]{{3}})+|[0-9]+)"
        fits = body.str.contains(rf"^[+-]?(?:{digits}(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?$")
        plain: pl.Expr = pl.when(fits & ((sign == "") | ~body.str.contains(r"^[+-]"))).then(body)
        if self.thousands is not None:
            plain = plain.str.replace_all(marks, "")
        plain = plain if self.decimal == "." else plain.str.replace(self.decimal, ".", literal=True)
        return pl.concat_str(sign, plain, pl.lit("e-2" if self.percent else ""))

    def settle(self, texts: pl.Series, values: pl.Series, failed: pl.Series, files: pl.Series) -> Settled:
        """See `Reader.settle`."""
        other = replace(self, decimal=_MARKS[self.decimal], thousands=self.decimal)
        contradicting = failed.arg_true()
        contradicting = contradicting.filter(_as_number(other).values(texts.gather(contradicting)).is_not_null())
        if not contradicting.len():
            return Settled(values)
        in_files = files.is_in(files.gather(contradicting).implode())
        doubted = in_files & values.is_not_null() & texts.str.contains(_TWO_MEANINGS).fill_null(value=False)
        why = f"other numbers of its file have {other.decimal!r} for a decimal mark: say decimal={other.decimal!r}, or thousands=…"
        return Settled(values, doubted, why)

    def alternatives(self) -> Mapping[str, Reader]:
        """See `Reader.alternatives`."""
        other = _MARKS[self.decimal]
        marks: list[dict[str, Any]] = [{}, {"decimal": other}, {"thousands": other}, {"decimal": other, "thousands": self.decimal}]
        marks += [{**mark, "thousands": thousands} for thousands in _SPELLINGS for mark in ({}, {"decimal": other})]
        options = [{**mark, **signs} for signs, mark in itertools.product(_signs(), marks)]
        options.sort(key=len)
        found: dict[str, Reader] = {}
        for chosen in filter(None, options):
            reader = replace(self, **_as_given(chosen))
            if reader.thousands != reader.decimal:
                found[self._written(reader)] = reader
        return found

    def _written(self, other: "Number") -> str:
        """The options of another reader as they are written in a product; where one goes back to the default, that too."""
        plain = Number((), ())
        options = {}
        for name in ("decimal", "thousands", "currency", "percent", "accounting"):
            value, default = getattr(other, name), getattr(plain, name)
            if not getattr(self, name) == value == default:
                options[name] = value[0] if name == "currency" and len(value) == 1 else value
        return ", ".join(f"{name}={value!r}" for name, value in options.items())

    def hints(self, texts: pl.Series) -> pl.Series:
        """See `Reader.hints`."""
        other = _MARKS[self.decimal]
        # No number is without a digit, whatever the options.
        digits = texts.str.contains(r"\d").arg_true()
        found = pl.repeat(None, texts.len(), dtype=pl.String, eager=True)
        if not digits.len():
            return found
        found = found.scatter(digits, super().hints(texts.gather(digits)))
        rest = (texts.str.contains(_TWO_MEANINGS) & texts.str.contains(other, literal=True) & (self.thousands is None)).arg_true()
        for chosen in _signs() if rest.len() else ():
            grouped, pointed = (replace(self, **_as_given({**chosen, name: other})) for name in ("thousands", "decimal"))
            reads = grouped.values(texts.gather(rest)).is_not_null()
            either = f"say {self._written(grouped)} or {self._written(pointed)} in {self.word}({self.sources[0]!r}): it has two meanings"
            found, rest = found.scatter(rest.filter(reads), either), rest.filter(~reads)
        whole = Whole(self.sources, self.nulls, self.decimal, self.thousands, self.currency, self.percent, self.accounting)
        changed = found.is_null() & whole.values(texts).is_not_null()
        source = repr(self.sources[0])
        return found.scatter(changed.arg_true(), f"a float does not hold all its digits: whole_number({source}) or money({source}) does")


@dataclass(frozen=True)
class Whole(Number):
    """Whole numbers as `Int64`: `7` and `7.0`, but not `7.5`, nor what is too large."""

    @property
    def word(self) -> str:
        """See `Reader.word`."""
        return "whole_number"

    def read(self, given: pl.Expr) -> pl.Expr:
        """See `Reader.read`."""
        return self._plain(given).map_batches(_whole_numbers, return_dtype=pl.Int64, is_elementwise=True)


@dataclass(frozen=True)
class Money(Number):
    """Exact decimals.

    Attributes:
        precision: Most digits.
        scale: Digits behind the decimal mark; a text with more, other than zeros, is none.
    """

    precision: int = 18
    scale: int = 2

    def read(self, given: pl.Expr) -> pl.Expr:
        """See `Reader.read`."""
        # Exponents are for machines; a cast would round what does not fit the scale.
        exact = rf"^[+-]?[0-9]*\.?[0-9]{{0,{self.scale}}}0*(?:e-2)?$"
        plain = self._plain(given)
        if self.percent:
            exact = rf"^[+-]?[0-9]*\.?[0-9]{{0,{max(self.scale - 2, 0)}}}0*e-2$"
        return pl.when(plain.str.contains(exact)).then(plain).cast(pl.Decimal(self.precision, self.scale), strict=False)


def _floats(plain: pl.Series) -> pl.Series:
    """Texts in the notation of programs as floats; null for none, and for what would be another number as a float."""
    value = plain.cast(pl.Float64, strict=False) + 0.0  # there is one zero
    value = value.set(~value.is_finite(), None)
    zeros = (value == 0).arg_true()
    if zeros.len():
        vanished = plain.gather(zeros).str.contains(r"^[^eE]*[1-9]")
        value = value.scatter(zeros.filter(vanished), None)
    large = (value.abs() >= _EXACT).arg_true()
    if large.len():
        texts, floats = plain.gather(large), value.gather(large)
        whole = texts.str.contains(r"^[+-]?[0-9]+$")
        changed = [is_whole and not _is_same(text, number) for is_whole, text, number in zip(whole, texts, floats, strict=True)]
        value = value.scatter(large.filter(pl.Series(changed, dtype=pl.Boolean)), None)
    return value


def _is_same(text: str, number: float) -> bool:
    """Whether a float is the number that a text spells, or the text is how programs spell the float: with zeros after 17 digits."""
    return Decimal(text) in {Decimal(number), Decimal(repr(number))}


def _as_number(reader: Number) -> Number:
    """The reader of any number in the same notation."""
    return Number(reader.sources, reader.nulls, reader.decimal, reader.thousands, reader.currency, reader.percent, reader.accounting)


def _signs() -> list[dict[str, Any]]:
    """What may stand around a number besides its marks, as options; nothing first."""
    money: list[dict[str, Any]] = [{}, *({"currency": sign} for sign in _CURRENCIES)]
    around: list[dict[str, Any]] = [{}, {"accounting": True}, {"percent": True}]
    return sorted(({**sign, **symbol} for symbol, sign in itertools.product(money, around)), key=len)


def _as_given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: (value,) if name == "currency" else value for name, value in options.items()}


def _whole_numbers(given: pl.Series) -> pl.Series:
    number = given.cast(pl.Int64, strict=False)
    rest = (number.is_null() & given.is_not_null()).arg_true()  # mostly few
    # Taking the end off by characters is many times faster than by a pattern.
    texts = given.gather(rest)
    has_zeros = texts.str.contains(".", literal=True) & texts.str.ends_with("0")
    whole = texts.filter(has_zeros).str.strip_chars_end("0").str.strip_suffix(".").cast(pl.Int64, strict=False)
    return number.scatter(rest.filter(has_zeros), whole)

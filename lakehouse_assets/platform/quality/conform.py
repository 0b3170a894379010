"""From the texts of bronze to the typed columns of silver, without a value becoming null in silence.

Here belong lossless conversions of one text into one value, the same for every product. What a value means, and which ones are allowed,
is up to a product's functions and contracts.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from lakehouse_assets.platform.quality.contract import ContractBroken
from lakehouse_assets.platform.quality.split import UNPARSED

_TEXT = "text of "
# JSON demands an escape for these, and for nothing else.
_ESCAPES = {chr(code): f"\\u{code:04x}" for code in range(32)} | {'"': '\\"', "\\": "\\\\"}


@dataclass(frozen=True)
class Conformed:
    """How a column is made from texts.

    Attributes:
        sources: The columns of bronze that it may come from; in each row the first that is not empty counts.
        read: From texts to values, null for a text that is none.
        nulls: Texts that stand for a missing value, besides the empty one.
    """

    sources: tuple[str, ...]
    read: Callable[[pl.Expr], pl.Expr]
    nulls: tuple[str, ...]


def conform(frame: pl.LazyFrame, /, **columns: Conformed) -> pl.LazyFrame:
    """Make typed columns from texts.

        conform(lines, invoice=text("Invoice", "InvoiceNo"), quantity=whole_number("Quantity"))

    Args:
        frame: Rows with texts in the sources of the columns; of several sources some may be absent.
        **columns: The columns to make.

    Returns:
        The columns in the given order, then `_unparsed`, then those columns of the frame that start with an underscore. `_unparsed` holds
        every text that could not be read, as a JSON object by column, and null where all could.

    Raises:
        ContractBroken: The frame has none of the sources of a column.
    """
    found = frame.collect_schema().names()
    texts = [_text(name, column, found).alias(_TEXT + name) for name, column in columns.items()]
    platform = [pl.col(name) for name in found if name.startswith("_")]
    return (
        frame.select(*texts, *platform)
        .with_columns(column.read(pl.col(_TEXT + name).str.strip_chars()).alias(name) for name, column in columns.items())
        .select(*columns, _unparsed(columns).alias(UNPARSED), *platform)
    )


def text(*sources: str, nulls: Sequence[str] = ()) -> Conformed:
    """Text, without the blanks around it."""
    return Conformed(sources, lambda given: given, tuple(nulls))


def code(*sources: str, nulls: Sequence[str] = ()) -> Conformed:
    """Text that identifies something. `13085.0` is what a spreadsheet made of the code `13085`, and becomes that again."""

    def read(given: pl.Expr) -> pl.Expr:
        # Taking the end off by characters is many times faster than by a pattern.
        return pl.when(given.str.contains(r"^[0-9]+\.0+$")).then(given.str.strip_chars_end("0").str.strip_suffix(".")).otherwise(given)

    return Conformed(sources, read, tuple(nulls))


def whole_number(*sources: str, nulls: Sequence[str] = ()) -> Conformed:
    """Whole numbers as `Int64`: `7` and `7.0`, but not `7.5`, nor what is too large."""

    def read(given: pl.Expr) -> pl.Expr:
        number = given.cast(pl.Int64, strict=False)
        rest = pl.when(number.is_null()).then(given)
        return number.fill_null(rest.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False))

    return Conformed(sources, read, tuple(nulls))


def number(*sources: str, nulls: Sequence[str] = ()) -> Conformed:
    """Numbers as `Float64`; infinity and NaN are none."""

    def read(given: pl.Expr) -> pl.Expr:
        value = given.cast(pl.Float64, strict=False)
        return pl.when(value.is_finite()).then(value)

    return Conformed(sources, read, tuple(nulls))


def timestamp(*sources: str, formats: Sequence[str], nulls: Sequence[str] = ()) -> Conformed:
    """Moments as `Datetime("us", "UTC")`. A text without an offset from UTC is in UTC; what is finer than a microsecond is cut off.

    Args:
        *sources: The columns of bronze.
        formats: In Polars' notation; the first that fits the whole text counts. `%.f` is a fraction of a second or none, `%z` an offset in
            digits; a final `Z` is written as it is.
        nulls: Texts that stand for a missing value.
    """

    def moment(given: pl.Expr, pattern: str) -> pl.Expr:
        value = given.str.to_datetime(pattern, time_unit="us", strict=False)
        has_offset = pl.Series(dtype=pl.String).str.to_datetime(pattern).dtype == pl.Datetime("us", "UTC")
        return value if has_offset else value.dt.replace_time_zone("UTC")

    return Conformed(sources, lambda given: _first_format(given, formats, moment), tuple(nulls))


def day(*sources: str, formats: Sequence[str], nulls: Sequence[str] = ()) -> Conformed:
    """Days as `Date`; formats as in `timestamp`."""

    def date(given: pl.Expr, pattern: str) -> pl.Expr:
        return given.str.to_date(pattern, strict=False)

    return Conformed(sources, lambda given: _first_format(given, formats, date), tuple(nulls))


def choice(*sources: str, options: Mapping[str, Any], nulls: Sequence[str] = ()) -> Conformed:
    """The value that stands for a text in `options`, such as `{"yes": True, "no": False}`; another text is none."""

    def read(given: pl.Expr) -> pl.Expr:
        return given.replace_strict(options, default=None)

    return Conformed(sources, read, tuple(nulls))


def _first_format(given: pl.Expr, formats: Sequence[str], read: Callable[[pl.Expr, str], pl.Expr]) -> pl.Expr:
    value = read(given, formats[0])
    for pattern in formats[1:]:
        # Only what no format before could read is tried again.
        value = value.fill_null(read(pl.when(value.is_null()).then(given), pattern))
    return value


def _text(name: str, column: Conformed, found: Sequence[str]) -> pl.Expr:
    present = [source for source in column.sources if source in found]
    if not present:
        raise ContractBroken(
            f"column {name} cannot be made: none of its sources ({', '.join(column.sources)}) is among the columns {', '.join(found)}. "
            "Nothing was written; name the source as the feed names it."
        )
    return pl.coalesce(_given(pl.col(source).cast(pl.String), column.nulls) for source in present)


def _given(raw: pl.Expr, nulls: tuple[str, ...]) -> pl.Expr:
    stripped = raw.str.strip_chars()
    return pl.when(~stripped.is_in(["", *nulls]) if nulls else stripped != "").then(raw)


def _unparsed(columns: Mapping[str, Conformed]) -> pl.Expr:
    left = pl.struct(pl.when(pl.col(name).is_null()).then(pl.col(_TEXT + name)).alias(name) for name in columns)
    return left.map_batches(_as_json, return_dtype=pl.String, is_elementwise=True)


def _as_json(left: pl.Series) -> pl.Series:
    """The texts of each row as a JSON object. Most batches have none, which is seen at once."""
    texts = left.struct.unnest()
    with_text = [column.name for column in texts if column.null_count() < texts.height]
    if not with_text:
        return pl.repeat(None, texts.height, dtype=pl.String, eager=True)
    entries = []
    for name in with_text:
        escaped = pl.col(name).str.replace_many(list(_ESCAPES), list(_ESCAPES.values()))
        entries.append(pl.concat_str(pl.lit(f'{json.dumps(name)}: "'), escaped, pl.lit('"')))
    listed = pl.concat_str(entries, separator=", ", ignore_nulls=True)
    return texts.select(pl.when(listed != "").then(pl.concat_str(pl.lit("{"), listed, pl.lit("}")))).to_series()

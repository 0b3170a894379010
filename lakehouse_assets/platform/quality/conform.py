"""From the texts of bronze to the typed columns of silver, without a value becoming null in silence.

Here belong lossless conversions of one text into one value, the same for every product. What a value means, and which ones are allowed,
is up to a product's functions and contracts.
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from lakehouse_assets.platform.quality.contract import ContractBroken
from lakehouse_assets.platform.quality.split import UNPARSED

_TEXT, _RAW = "text of ", "source "
# JSON demands an escape for these, and for nothing else.
_ESCAPES = {chr(code): f"\\u{code:04x}" for code in range(32)} | {'"': '\\"', "\\": "\\\\"}


@dataclass(frozen=True)
class Conformed:
    """How a column is made from texts.

    Attributes:
        sources: The columns of bronze that it may come from; in each row the first that is not empty counts.
        read: From texts without blanks around them to values, null for a text that is none.
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
    names = frame.collect_schema().names()
    sources = {name: _present(name, column, names) for name, column in columns.items()}
    texts = [_text([pl.col(source) for source in sources[name]], column.nulls).alias(_TEXT + name) for name, column in columns.items()]
    raw = [pl.col(source).cast(pl.String).alias(_RAW + source) for source in dict.fromkeys(itertools.chain(*sources.values()))]
    platform = [pl.col(name) for name in names if name.startswith("_")]
    return (
        frame.select(*texts, *raw, *platform)
        .with_columns(column.read(pl.col(_TEXT + name)).alias(name) for name, column in columns.items())
        .select(*columns, _unparsed(columns, sources).alias(UNPARSED), *platform)
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
        return given.map_batches(_whole_numbers, return_dtype=pl.Int64, is_elementwise=True)

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


def _whole_numbers(given: pl.Series) -> pl.Series:
    number = given.cast(pl.Int64, strict=False)
    rest = (number.is_null() & given.is_not_null()).arg_true()  # mostly few
    # Taking the end off by characters is many times faster than by a pattern.
    texts = given.gather(rest)
    has_zeros = texts.str.contains(".", literal=True) & texts.str.ends_with("0")
    whole = texts.filter(has_zeros).str.strip_chars_end("0").str.strip_suffix(".").cast(pl.Int64, strict=False)
    return number.scatter(rest.filter(has_zeros), whole)


def _first_format(given: pl.Expr, formats: Sequence[str], read: Callable[[pl.Expr, str], pl.Expr]) -> pl.Expr:
    value = read(given, formats[0])
    for pattern in formats[1:]:
        # Only what no format before could read is tried again.
        value = value.fill_null(read(pl.when(value.is_null()).then(given), pattern))
    return value


def _present(name: str, column: Conformed, names: Sequence[str]) -> list[str]:
    present = [source for source in column.sources if source in names]
    if not present:
        raise ContractBroken(
            f"column {name} cannot be made: none of its sources ({', '.join(column.sources)}) is among the columns {', '.join(names)}. "
            "Nothing was written; name the source as the feed names it."
        )
    return present


def _text(sources: Sequence[pl.Expr], nulls: tuple[str, ...]) -> pl.Expr:
    """The first text that is not empty, without the blanks around it."""
    return pl.coalesce(_not_empty(source.cast(pl.String).str.strip_chars(), nulls) for source in sources)


def _not_empty(stripped: pl.Expr, nulls: tuple[str, ...]) -> pl.Expr:
    for empty in ("", *nulls):
        stripped = stripped.replace(empty, None)  # costs next to nothing where there is none, unlike when/then
    return stripped


def _unparsed(columns: Mapping[str, Conformed], sources: Mapping[str, Sequence[str]]) -> pl.Expr:
    failed = [(pl.col(name).is_null() & pl.col(_TEXT + name).is_not_null()).alias(name) for name in columns]
    raw = [pl.col(_RAW + source) for source in dict.fromkeys(itertools.chain(*sources.values()))]
    texts = {name: _raw_text([pl.col(_RAW + source) for source in sources[name]], column.nulls) for name, column in columns.items()}

    def as_json(rows: pl.Series) -> pl.Series:
        return _as_json(rows.struct.unnest(), texts)

    return pl.struct(*failed, *raw).map_batches(as_json, return_dtype=pl.String, is_elementwise=True)


def _raw_text(sources: Sequence[pl.Expr], nulls: tuple[str, ...]) -> pl.Expr:
    """The text that `_text` takes, as it was given."""
    return pl.coalesce(pl.when(_not_empty(source.str.strip_chars(), nulls).is_not_null()).then(source) for source in sources)


def _as_json(rows: pl.DataFrame, texts: Mapping[str, pl.Expr]) -> pl.Series:
    """The texts that failed, of each row as a JSON object. Few rows have one, and most batches none."""
    failing = [name for name in texts if rows[name].any()]
    nothing = pl.repeat(None, rows.height, dtype=pl.String, eager=True)
    if not failing:
        return nothing
    is_bad = rows.select(pl.any_horizontal(failing)).to_series()
    entries = []
    for name in failing:
        escaped = texts[name].str.replace_many(list(_ESCAPES), list(_ESCAPES.values()))
        entries.append(pl.when(name).then(pl.concat_str(pl.lit(f'{json.dumps(name)}: "'), escaped, pl.lit('"'))))
    listed = pl.concat_str(entries, separator=", ", ignore_nulls=True)
    objects = rows.filter(is_bad).select(pl.concat_str(pl.lit("{"), listed, pl.lit("}"))).to_series()
    return nothing.scatter(is_bad.arg_true(), objects)

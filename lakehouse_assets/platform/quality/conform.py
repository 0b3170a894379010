"""From the texts of bronze to the typed columns of silver, without a value becoming null in silence.

Here belong lossless conversions of one text into one value, the same for every product. What a value means, and which ones are allowed,
is up to a product's functions and contracts. How each type is read is in `readers`, `number_readers` and `date_readers`.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import polars as pl

from lakehouse_assets.platform.quality.contract import ContractBroken
from lakehouse_assets.platform.quality.date_readers import Ambiguous, Day, Moment, check_formats
from lakehouse_assets.platform.quality.masking import HINT, UNPARSED
from lakehouse_assets.platform.quality.number_readers import Money, Number, Whole
from lakehouse_assets.platform.quality.readers import Case, Choice, Code, Flag, Reader, Text, cleaned

_TEXT, _RAW, _FAILED = "text of ", "source ", "failed "
# JSON demands an escape for these, and for nothing else.
_ESCAPES = {chr(code): f"\\u{code:04x}" for code in range(32)} | {'"': '\\"', "\\": "\\\\"}
# What tells the files of a batch apart; the first that is there.
_FILES = ("_sequence", "_file")
_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


def conform(frame: pl.LazyFrame, /, **columns: Reader) -> pl.LazyFrame:
    """Make typed columns from texts.

        conform(lines, invoice=text("Invoice", "InvoiceNo"), quantity=whole_number("Quantity"))

    Blanks and invisible characters at the ends of a text do not count.

    Args:
        frame: Rows with texts in the sources of the columns; of several sources some may be absent. All rows of a file, because some texts
            mean something only together with the others.
        **columns: The columns to make.

    Returns:
        The columns in the given order, then `_unparsed` and `_hint`, then those columns of the frame that start with an underscore.
        `_unparsed` holds every text that could not be read, as a JSON object by column, and null where all could; `_hint` says for people
        what would read it.

    Raises:
        ContractBroken: The frame has none of the sources of a column.
    """
    names = frame.collect_schema().names()
    sources = {name: _present(name, column, names) for name, column in columns.items()}
    texts = [_text([pl.col(source) for source in sources[name]], column.nulls).alias(_TEXT + name) for name, column in columns.items()]
    raw = [pl.col(source).cast(pl.String).alias(_RAW + source) for source in dict.fromkeys(itertools.chain(*sources.values()))]
    platform = [pl.col(name) for name in names if name.startswith("_")]
    read = (
        frame.select(*texts, *raw, *platform)
        .with_columns(column.read(pl.col(_TEXT + name)).alias(name) for name, column in columns.items())
        .with_columns((pl.col(name).is_null() & pl.col(_TEXT + name).is_not_null()).alias(_FAILED + name) for name in columns)
        .select(*columns, *(_FAILED + name for name in columns), pl.selectors.starts_with(_RAW), *platform)
    )
    schema = read.collect_schema()
    made = pl.Schema(
        {name: schema[name] for name in columns}
        | {UNPARSED: pl.String(), HINT: pl.String()}
        | {name: dtype for name, dtype in schema.items() if name in names and name.startswith("_")}
    )
    # What follows looks at whole files, so no filter may be applied before it.
    return read.map_batches(
        partial(_settled, columns=columns, sources=sources, made=made),
        predicate_pushdown=False,
        projection_pushdown=False,
        slice_pushdown=False,
        schema=made,
    )


def text(*sources: str, nulls: Sequence[str] = ()) -> Reader:
    """Text, without the blanks around it. A letter with an accent is one character, whichever way it was written (NFC)."""
    return Text(sources, tuple(nulls))


def code(*sources: str, nulls: Sequence[str] = (), case: Case | None = None) -> Reader:
    """Text that identifies something, as `text`, and without invisible characters within.

    `13085.0` is what a spreadsheet made of the code `13085`, and becomes that again; `1.23E+12` and `1,23E+12`
    have lost digits, and are none.

    Args:
        *sources: The columns of bronze.
        nulls: Texts that stand for a missing value.
        case: `upper` or `lower`: into which case letters are brought, for codes that are the same in both.
    """
    return Code(sources, tuple(nulls), case)


def whole_number(*sources: str, nulls: Sequence[str] = (), **notation: Any) -> Reader:
    """Whole numbers as `Int64`: `7` and `7.0`, but not `7.5`, nor what is too large; options as of `number`."""
    return Whole(sources, tuple(nulls), **_notation("whole_number", **notation))


def number(
    *sources: str,
    nulls: Sequence[str] = (),
    decimal: str = ".",
    thousands: str | None = None,
    currency: str | Sequence[str] = (),
    percent: bool = False,
    accounting: bool = False,
) -> Reader:
    """Numbers as `Float64`; infinity is none, and the words for a missing value (`MISSING`, such as `N/A` and `nan`) are null.

    Args:
        *sources: The columns of bronze.
        nulls: More texts that stand for a missing value.
        decimal: The decimal mark: `.`, or `,` as in `12,5`.
        thousands: The mark between groups of three digits, as in `1,234.50`; `" "` stands for any space and `"'"` for any apostrophe.
        currency: A sign of currency, or several, that may stand at either end, as in `£12.50`.
        percent: Whether they are percentages: `12 %` is 0.12, and a number without the sign is none.
        accounting: Whether `(12.50)` and `12.50-` are negative.
    """
    notation = _notation("number", decimal=decimal, thousands=thousands, currency=currency, percent=percent, accounting=accounting)
    return Number(sources, tuple(nulls), **notation)


def money(*sources: str, nulls: Sequence[str] = (), precision: int = 18, scale: int = 2, **notation: Any) -> Reader:
    """Exact decimals as `Decimal(precision, scale)`; a text with more digits behind the decimal mark is none, unless they are zeros.

    Args:
        *sources: The columns of bronze.
        nulls: More texts that stand for a missing value.
        precision: Most digits.
        scale: Digits behind the decimal mark.
        **notation: Options of `number`.
    """
    return Money(sources, tuple(nulls), **_notation("money", **notation), precision=precision, scale=scale)


def boolean(*sources: str, nulls: Sequence[str] = (), true: Sequence[str] = _TRUE, false: Sequence[str] = _FALSE) -> Reader:
    """Yes or no, in whatever case: by default `true`, `t`, `yes`, `y`, `1` and `false`, `f`, `no`, `n`, `0`; another text is none."""
    options = {word.lower(): True for word in true} | {word.lower(): False for word in false}
    return Flag(sources, tuple(nulls), options, any_case=True)


def timestamp(
    *sources: str, formats: Sequence[str], nulls: Sequence[str] = (), time_zone: str = "UTC", ambiguous: Ambiguous = "reject"
) -> Reader:
    """Moments as `Datetime("us", "UTC")`; what is finer than a microsecond is cut off, and `24:00` ends a day.

    Whether the day or the month comes first is decided for a file: see `date_readers`.

    Args:
        *sources: The columns of bronze.
        formats: In Polars' notation; the first that fits the whole text counts. `%.f` is a fraction of a second or none, `%z` an offset
            in digits, or `Z`; any other final `Z` is written as it is. `%y` is a year from 1970 to 2069. Besides: `excel-1900` and
            `excel-1904` (the number of a day, as spreadsheets keep it), `unix-s`, `unix-ms` and `unix-us` (counted since 1970).
        nulls: More texts that stand for a missing value than `MISSING`.
        time_zone: Of texts without an offset from UTC, as in `Europe/London`.
        ambiguous: The hour that such a zone has twice when clocks go back is not read (`reject`), or the `earliest` or `latest` one. The
            hour that it lacks is never read.
    """
    check_formats("timestamp", formats)
    return Moment(sources, tuple(nulls), tuple(formats), time_zone, ambiguous)


def day(*sources: str, formats: Sequence[str], nulls: Sequence[str] = ()) -> Reader:
    """Days as `Date`; formats as in `timestamp`."""
    check_formats("day", formats)
    return Day(sources, tuple(nulls), tuple(formats))


def choice(*sources: str, options: Mapping[str, Any], nulls: Sequence[str] = ()) -> Reader:
    """The value that stands for a text in `options`, such as `{"yes": True, "no": False}`; another text is none."""
    return Choice(sources, tuple(nulls), options)


def _notation(
    word: str,
    *,
    decimal: str = ".",
    thousands: str | None = None,
    currency: str | Sequence[str] = (),
    percent: bool = False,
    accounting: bool = False,
) -> dict[str, Any]:
    if decimal not in {".", ","}:
        raise ValueError(f"{word}: decimal={decimal!r}: the decimal mark is '.' or ','")
    if thousands is not None and (thousands == decimal or thousands not in {".", ",", " ", "'", "_"}):
        raise ValueError(f"{word}: thousands={thousands!r}: a mark other than the decimal mark {decimal!r}: one of . , ' _ or a space")
    signs = (currency,) if isinstance(currency, str) else tuple(currency)
    return {"decimal": decimal, "thousands": thousands, "currency": signs, "percent": percent, "accounting": accounting}


def _present(name: str, column: Reader, names: Sequence[str]) -> list[str]:
    present = [source for source in column.sources if source in names]
    if not present:
        raise ContractBroken(
            f"column {name} cannot be made: none of its sources ({', '.join(column.sources)}) is among the columns {', '.join(names)}. "
            "Nothing was written; name the source as the feed names it."
        )
    return present


def _text(sources: Sequence[pl.Expr], nulls: Sequence[str]) -> pl.Expr:
    """The first text that is not missing, without the blanks around it."""
    return pl.coalesce(_not_missing(source, nulls) for source in sources)


def _not_missing(source: pl.Expr, nulls: Sequence[str]) -> pl.Expr:
    stripped = source.cast(pl.String).map_batches(cleaned, return_dtype=pl.String, is_elementwise=True)
    for empty in ("", *nulls):
        stripped = stripped.replace(empty, None)  # costs next to nothing where there is none, unlike when/then
    return stripped


def _settled(rows: pl.DataFrame, *, columns: Mapping[str, Reader], sources: Mapping[str, Sequence[str]], made: pl.Schema) -> pl.DataFrame:
    """The rows with what follows from whole files, and with the texts that were not read."""
    unread: dict[str, pl.Series] = {}
    hints: dict[str, pl.Series] = {}
    settled: dict[str, pl.Series] = {}
    for name, column in columns.items():
        failed = rows[_FAILED + name]
        if not failed.any() and not column.decides_by_file:
            continue
        present = [pl.col(_RAW + source) for source in sources[name]]
        texts, values = rows.select(_text(present, column.nulls)).to_series(), rows[name]
        # The words for a missing value are looked for where nothing else could be read, which is seldom.
        words = (failed & texts.is_in(list(column.missing))).arg_true()
        if words.len():
            others = rows[words].select(_text(present, column.missing)).to_series()
            texts, values = texts.scatter(words, others), values.scatter(words, column.values(others))
            failed = values.is_null() & texts.is_not_null()
        found = column.settle(texts, values, failed, _files(rows))
        bad, value = failed, found.values
        if found.doubted is not None and found.doubted.any():
            bad = failed | found.doubted
            value = value.zip_with(~found.doubted, value.clear(value.len()))
        settled[name] = value.alias(name)
        at = bad.arg_true()
        if not at.len():
            continue
        raw = rows[at].select(_raw_text(present, column.missing)).to_series()
        unread[name] = _at(at, raw, rows.height)
        why = pl.Series([found.why or None], dtype=pl.String).new_from_index(0, at.len())
        hint = column.hints(texts.gather(at))
        hints[name] = _at(at, hint.zip_with(failed.gather(at), why), rows.height)
    return rows.with_columns(
        *settled.values(), _as_json(rows.height, unread).alias(UNPARSED), _as_text(rows.height, hints).alias(HINT)
    ).select(list(made))


def _files(rows: pl.DataFrame) -> pl.Series:
    """What tells files apart; all rows are of one file if nothing does."""
    named = next((name for name in _FILES if name in rows.columns), None)
    return pl.repeat(0, rows.height, eager=True) if named is None else rows[named]


def _raw_text(sources: Sequence[pl.Expr], nulls: Sequence[str]) -> pl.Expr:
    """The text that `_text` takes, as it was given."""
    return pl.coalesce(pl.when(_not_missing(source, nulls).is_not_null()).then(source) for source in sources)


def _as_json(height: int, texts: Mapping[str, pl.Series]) -> pl.Series:
    """The texts of each row as a JSON object; null for a row without one."""
    escaped = {name: pl.col(name).str.replace_many(list(_ESCAPES), list(_ESCAPES.values())) for name in texts}
    members = [pl.concat_str(pl.lit(f'{json.dumps(name)}: "'), value, pl.lit('"')) for name, value in escaped.items()]
    listed = pl.concat_str(members, separator=", ", ignore_nulls=True) if members else pl.lit("")
    return _of_rows(height, texts, pl.concat_str(pl.lit("{"), listed, pl.lit("}")))


def _as_text(height: int, hints: Mapping[str, pl.Series]) -> pl.Series:
    """The hints of each row, each with the name of its column; null for a row without one."""
    members = [pl.concat_str(pl.lit(f"{name}: "), pl.col(name)) for name in hints]
    return _of_rows(height, hints, pl.concat_str(members, separator="; ", ignore_nulls=True) if members else pl.lit(""))


def _of_rows(height: int, columns: Mapping[str, pl.Series], made: pl.Expr) -> pl.Series:
    """What is made of those rows that have a value in a column; null for the others. Few rows have one, and most batches none."""
    if not columns:
        return pl.repeat(None, height, dtype=pl.String, eager=True)
    rows = pl.DataFrame([series.alias(name) for name, series in columns.items()])
    has_one = rows.select(pl.any_horizontal(pl.all().is_not_null())).to_series()
    return _at(has_one.arg_true(), rows.filter(has_one).select(made).to_series(), height)


def _at(positions: pl.Series, texts: pl.Series, height: int) -> pl.Series:
    """So many rows with texts at some positions, null elsewhere."""
    return pl.repeat(None, height, dtype=pl.String, eager=True).scatter(positions, texts)

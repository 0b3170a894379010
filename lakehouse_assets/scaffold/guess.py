"""What a product's tables are, guessed from sample files: columns, key, time, and what gold adds up. Each guess has its evidence.

How one column is read is in `readings`; how the guesses become code is in `render`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from lakehouse_assets.platform.wording import listed
from lakehouse_assets.scaffold import personal, vocabulary
from lakehouse_assets.scaffold.forecasts import with_forecast
from lakehouse_assets.scaffold.keys import declared_keys, with_key
from lakehouse_assets.scaffold.names import column_names, is_free, singular, unused, words_of
from lakehouse_assets.scaffold.readings import Reading, Values, reading_of, shown
from lakehouse_assets.scaffold.samples import FILE, ROW, Sample
from lakehouse_assets.scaffold.tables import Column, Gold, Table, is_called_key, named, numbers_rows, unknown
from lakehouse_assets.scaffold.totals import Total, totals_in

_LISTED, _FILES_SHOWN = 5, 3
_MOST_MEASURES, _MOST_GROUPS = 5, 100
_FEWEST = "the fewest of all texts that most rows have"


def guess(samples: Sequence[Sample], keys: Sequence[str], times: Sequence[str], forecast: str | None = None) -> list[Table]:
    """The tables of a product.

    Args:
        samples: Its files, one a feed.
        keys: Declared keys, each the names of its columns with commas between them.
        times: Declared columns of time.
        forecast: What is forecast: see `forecasts.with_forecast`.

    Raises:
        ValueError: A declared column does not exist, or holds no dates.
    """
    tables = [_with_columns(sample) for sample in samples]
    key_of, not_taken = declared_keys(tables, keys)
    tables = [table.doubting(*not_taken.get(table.name, ())) for table in tables]
    time_of = _declared_times(tables, times)
    tables = [_with_time(with_key(table, key_of.get(table.name)), time_of.get(table.name)) for table in tables]
    tables = [_with_gold(table) for table in _with_references(tables)]
    return tables if forecast is None else with_forecast(tables, forecast, _gold)


# --- columns


def _with_columns(sample: Sample) -> Table:
    names = column_names(sample.all_columns, singular(sample.name))
    words = {word for column in sample.all_columns for word in words_of(column)} | set(words_of(sample.name))
    stripped = sample.rows.with_columns(pl.col(sample.all_columns).str.strip_chars().replace("", None))
    totals = totals_in(stripped, sample.all_columns)
    sample = replace(sample, rows=_without(sample.rows, totals))
    stripped = _without(stripped, totals)
    doubts = [f"{column!r} cannot be a column of a table: its values come into _rescued" for column in sample.left_out]
    if encoding := dict(sample.options).get("encoding"):
        doubts.append(f"the files are not UTF-8 and were read as {encoding}: look at letters with accents")
    if sample.misfits:
        (file, row), count = sample.misfits[0], len(sample.misfits)
        what = "1 row does" if count == 1 else f"{count:,} rows do"
        where = f"row {row:,} of {file}" if count == 1 else f"the first is row {row:,} of {file}"
        it = "it" if count == 1 else "them"
        doubts.append(
            f"{what} not fit the header ({where}): nothing is guessed from {it}, and the rule fits_header puts {it} into quarantine"
        )
    doubts += [f"{listed(files, _FILES_SHOWN)}: {remark}" for remark, files in sample.remarks.items()]
    doubts += [
        f"{total.named} looks like a total: nothing is guessed from it, and the contract puts it into quarantine" for total in totals
    ]
    columns = {}
    for source in sample.all_columns:
        reason, doubt = _personal(source, stripped[source].drop_nulls(), about_people=personal.is_about_people(words))
        values = Values(source, stripped[source], lambda index: _where(sample, index), reason is not None)
        reading = reading_of(values)
        columns[names[source]] = _column(source, names[source], reading, values, reason)
        doubts += [f"{names[source]}: {text}" for text in (doubt, reading.doubt) if text]
    return Table(replace(sample, rows=stripped), columns, totals=tuple(totals), doubts=tuple(doubts))


def _without(rows: pl.DataFrame, totals: Sequence[Total]) -> pl.DataFrame:
    return rows.with_row_index("index").filter(~pl.col("index").is_in([total.index for total in totals])).drop("index")


def _where(sample: Sample, index: int) -> str:
    of_file = f" of {sample.rows[FILE][index]}" if len(sample.files) > 1 else ""
    return f"row {sample.rows[ROW][index]:,}{of_file}"


def _personal(source: str, texts: pl.Series, *, about_people: bool) -> tuple[str | None, str | None]:
    """Why a column is personal, and what to look at."""
    reason = personal.by_name(source)
    if reason is None and personal.is_bare_name(source):
        if about_people:
            return "by its name, in rows about people", "taken for the name of a person: personal"
        return None, "taken for the name of a thing: mark it personal=True if it names people"
    if reason is None and personal.are_full_names(source, texts):
        return "by its name, with values of several words", None
    if reason is None and (reason := personal.by_content(texts)) is not None:
        return reason, f"personal {reason}"
    return reason, None


def _column(source: str, name: str, reading: Reading, values: Values, reason: str | None) -> Column:
    texts = values.texts
    present = texts.drop_nulls()
    present = present.filter(~present.is_in(list(reading.missing))) if reading.missing else present
    missing, distinct = texts.len() - present.len(), present.n_unique()
    said = [f"missing in {missing:,} of {texts.len():,} rows" if missing else f"never missing in {texts.len():,} rows"]
    if reason:
        said.insert(0, f"personal {reason}")
    if distinct == present.len():
        said.append("no value twice" if distinct > 1 else "one value")
    else:
        listed = f": {', '.join(map(shown, sorted(present.unique())))}" if distinct <= _LISTED and not reason and reading.is_text else ""
        said.append(f"{distinct:,} different value{'s' * (distinct != 1)}{listed}")
    return Column(source, name, reading, "; ".join(said), missing, distinct, reason)


# --- when


def _declared_times(tables: Sequence[Table], times: Iterable[str]) -> dict[str, Column]:
    found: dict[str, Column] = {}
    for word in times:
        having = {table.name: table.columns[name] for table in tables if (name := named(table, word))}
        if not having:
            raise ValueError(f"--time {word}: {unknown(tables, [word])}")
        for column in having.values():
            if not column.reading.is_time:
                raise ValueError(
                    f"--time {word}: its values are not read as dates ({column.reading.evidence or 'text'}): name another column"
                )
        found |= {name: column for name, column in having.items() if name not in found}
    return found


def _with_time(table: Table, declared: Column | None) -> Table:
    if declared is not None:
        return replace(table, time=declared, time_evidence="declared")
    times = sorted((column for column in table.columns.values() if column.reading.is_time and not column.personal), key=_as_time)
    # A product whose rows mostly have no time is no event.
    times = [column for column in times if column.missing * 5 <= table.sample.rows.height]
    if not times:
        return table
    chosen, *others = times
    if not others:
        return replace(table, time=chosen, time_evidence="the only column of dates")
    text = f"chosen among {', '.join(column.name for column in times)}"
    return replace(table, time=chosen, time_evidence=text).doubting(f"{chosen.name} says when: {text}")


def _as_time(column: Column) -> tuple[bool, bool, bool]:
    words = set(words_of(column.source))
    return (bool(words & vocabulary.NOT_WHEN), bool(column.missing), not words & vocabulary.WHEN)


# --- gold and references


def _with_gold(table: Table) -> Table:
    gold = _gold(table, _group(table))
    table = replace(table, gold=gold)
    return table.doubting(f"gold.{gold.name}: {table.without_time}") if gold and table.without_time else table


def _gold(table: Table, by: Column | None, evidence: str = _FEWEST) -> Gold | None:
    if table.time is None and by is None:
        return None
    numbers = [column for column in table.columns.values() if column.reading.is_number and _is_measure(table, column)]
    taken = {"month", "day", *([by.name] if by else [])}
    # A sum of a column that is called like the feed is not to be taken for the count of its rows.
    own = is_free(table.name) and table.name not in {column.name for column in numbers}
    count = unused(table.name if own else f"number_of_{table.name}", taken)
    measures: list[tuple[str, Column, str]] = []
    for column in numbers[:_MOST_MEASURES]:
        how = "mean" if vocabulary.LEVEL & set(words_of(column.source)) else "sum"
        name = unused(f"{'mean' if how == 'mean' else 'total'}_{column.name}", [*taken, count, *(name for name, *_ in measures)])
        measures.append((name, column, how))
    said = [f"{by.name}: {by.distinct:,} different values, {evidence}"] if by else []
    said += [f"{column.name}: a mean, for its name is that of a level" for _, column, how in measures if how == "mean"]
    if len(numbers) > _MOST_MEASURES:
        said.append(f"{len(numbers) - _MOST_MEASURES} more columns of numbers are left out")
    what = f"daily_{table.name}" if table.time else f"{table.name}_by_{by.name}" if by else table.name
    return Gold(what, by, count, tuple(measures), tuple(said))


def _group(table: Table) -> Column | None:
    """The text with the fewest values, if these are few; rather one that few rows lack, and none that most rows lack."""
    texts = [column for column in table.columns.values() if column.reading.is_text and not column.personal and column.name not in table.key]
    rows = table.sample.rows.height
    few = [column for column in texts if 2 <= column.distinct <= min(_MOST_GROUPS, rows // 2) and column.missing * 2 <= rows]
    return min(few, key=lambda column: (column.missing * 5 > rows, column.distinct), default=None)


def _is_measure(table: Table, column: Column) -> bool:
    words = set(words_of(column.source))
    if column.name in table.key or column.personal or column.references or words & vocabulary.NO_MEASURE:
        return False
    return not is_called_key(column) and not numbers_rows(table, column)


def _with_references(tables: Sequence[Table]) -> list[Table]:
    """Columns that are called like the key of another table and have only its values, as long as no circle comes of it."""
    reads: dict[str, set[str]] = {table.name: set() for table in tables}
    found = []
    for table in tables:
        columns = dict(table.columns)
        for other in tables:
            name = other.key[0] if len(other.key) == 1 else None
            if other is table or name not in columns or table.key == (name,) or _reaches(reads, other.name, table.name):
                continue
            mine, its = columns[name], other.columns[name]
            if mine.reading.annotation == its.reading.annotation and (counted := _contained(table, mine, other, its)):
                reads[table.name].add(other.name)
                columns[name] = replace(mine, references=(f"silver.{other.name}.{name}", counted))
        found.append(replace(table, columns=columns))
    return found


def _reaches(reads: Mapping[str, set[str]], start: str, end: str) -> bool:
    return start == end or any(_reaches(reads, following, end) for following in reads[start])


def _contained(table: Table, mine: Column, other: Table, its: Column) -> str | None:
    values: Any = table.sample.rows[mine.source].drop_nulls().unique()
    inside = int(values.is_in(other.sample.rows[its.source].drop_nulls().unique().to_list()).sum())
    if inside * 10 < values.len() * 9 or not inside:
        return None
    return f"{inside:,} of {values.len():,} different values are in {other.name}"

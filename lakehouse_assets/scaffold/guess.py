"""What a product's tables are, guessed from sample files: columns, key, time, and what gold adds up. Each guess has its evidence.

How one column is read is in `readings`; how the guesses become code is in `render`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.base import nearest
from lakehouse_assets.scaffold import personal, vocabulary
from lakehouse_assets.scaffold.names import column_names, is_free, singular, unused, words_of
from lakehouse_assets.scaffold.readings import Reading, Values, reading_of, shown
from lakehouse_assets.scaffold.samples import FILE, ROW, Sample

_LISTED = 5
_MOST_KEY_COLUMNS, _KEY_CANDIDATES, _FEW_ROWS = 3, 10, 20
_MOST_MEASURES, _MOST_GROUPS = 5, 100


@dataclass(frozen=True)
class Column:
    """A column of a file and of silver.

    Attributes:
        source: Its name in the file.
        name: In silver.
        reading: How its texts become values.
        evidence: What is known of its values.
        missing: In how many rows it has no value.
        distinct: How many different values it has.
        personal: Why it is taken for personal data; None if it is not.
        references: A column of another table that has all of its values, and what says so.
    """

    source: str
    name: str
    reading: Reading
    evidence: str
    missing: int
    distinct: int
    personal: str | None = None
    references: tuple[str, str] | None = None


@dataclass(frozen=True)
class Gold:
    """What a table of gold says: rows counted and numbers added up, by day where rows have a time, and by group."""

    name: str
    by: Column | None
    count: str
    measures: tuple[tuple[str, Column, str], ...]
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """One feed with its tables.

    Attributes:
        sample: Its files.
        columns: By their names in silver.
        key: Names of the key's columns; none where rows are only added.
        key_evidence: What says so.
        time: The column that says when; None if there is none.
        time_evidence: What says so.
        gold: None if there is nothing to add up by.
        hints: What else might be meant.
        doubts: What a person should look at first.
    """

    sample: Sample
    columns: Mapping[str, Column]
    key: tuple[str, ...] = ()
    key_evidence: str = ""
    time: Column | None = None
    time_evidence: str = ""
    gold: Gold | None = None
    hints: tuple[str, ...] = ()
    doubts: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """The name of the feed, and of its tables in bronze and silver."""
        return self.sample.name

    def doubting(self, *doubts: str) -> "Table":
        """The same with more to look at."""
        return replace(self, doubts=(*self.doubts, *doubts))


def guess(samples: Sequence[Sample], keys: Sequence[str], times: Sequence[str]) -> list[Table]:
    """The tables of a product.

    Args:
        samples: Its files, one a feed.
        keys: Declared keys, each the names of its columns with commas between them.
        times: Declared columns of time.

    Raises:
        ValueError: A declared column does not exist, or holds no dates.
    """
    tables = [_with_columns(sample) for sample in samples]
    declared_keys = _declared_keys(tables, keys)
    declared_times = _declared_times(tables, times)
    tables = [_with_time(_with_key(table, declared_keys.get(table.name)), declared_times.get(table.name)) for table in tables]
    return [replace(table, gold=_gold(table)) for table in _with_references(tables)]


# --- columns


def _with_columns(sample: Sample) -> Table:
    names = column_names(sample.all_columns, singular(sample.name))
    words = {word for column in sample.all_columns for word in words_of(column)} | set(words_of(sample.name))
    stripped = sample.rows.with_columns(pl.col(sample.all_columns).str.strip_chars().replace("", None))
    doubts = [f"{column!r} cannot be a column of a table: its values come into _rescued" for column in sample.left_out]
    if encoding := dict(sample.options).get("encoding"):
        doubts.append(f"the files are not UTF-8 and were read as {encoding}: look at letters with accents")
    if sample.whole < 1:
        doubts.append(f"{1 - sample.whole:.1%} of the rows do not fit the header: what they have besides comes into _rescued")
    doubts += sample.remarks
    columns = {}
    for source in sample.all_columns:
        reason, doubt = _personal(source, stripped[source].drop_nulls(), about_people=personal.is_about_people(words))
        values = Values(source, stripped[source], lambda index: _where(sample, index), reason is not None)
        reading = reading_of(values)
        columns[names[source]] = _column(source, names[source], reading, values, reason)
        doubts += [f"{names[source]}: {text}" for text in (doubt, reading.doubt) if text]
    return Table(replace(sample, rows=stripped), columns, doubts=tuple(doubts))


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


# --- what tells rows apart


def _declared_keys(tables: Sequence[Table], keys: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """By table its declared key: each key is that of the tables in which it tells rows apart, or else of all that have its columns."""
    found: dict[str, tuple[str, ...]] = {}
    for text in keys:
        words = [word.strip() for word in text.split(",") if word.strip()]
        with_it = [(table, tuple(_named(table, word) or "" for word in words)) for table in tables]
        with_it = [(table, key) for table, key in with_it if key and all(key)]
        if not with_it:
            raise ValueError(f"--key {text}: {_unknown(tables, words)}")
        telling = [(table, key) for table, key in with_it if _is_unique(table, key)]
        found |= {table.name: key for table, key in telling or with_it}
    return found


def _named(table: Table, word: str) -> str | None:
    """The column of silver that a person calls by its name there or in the file."""
    return next((column.name for column in table.columns.values() if word in {column.source, column.name}), None)


def _unknown(tables: Sequence[Table], words: Sequence[str]) -> str:
    known = [name for table in tables for column in table.columns.values() for name in (column.source, column.name)]
    missing = next((word for word in words if word not in known), None)
    if missing is None:
        return "no file has all of these columns"
    hint = nearest(missing, known) or f" There are: {', '.join(dict.fromkeys(known))}"
    return f"no file has a column {missing!r}.{hint}"


def _with_key(table: Table, declared: tuple[str, ...] | None) -> Table:
    rows = table.sample.rows.height
    if declared is not None:
        key, text = declared, f"declared; {_counted(table, declared)}"
        table = table if _is_unique(table, key) else table.doubting(f"key {', '.join(key)}: {text}")
    else:
        key, text = _found_key(table)
    columns = dict(table.columns)
    for name in key:
        if columns[name].reading.annotation == "float":
            raise ValueError(f"--key: {name} holds numbers with decimals, which cannot tell rows apart: name other columns")
        if columns[name].missing:
            table = table.doubting(f"key column {name}: missing in {columns[name].missing:,} of {rows:,} rows, which go to quarantine")
    if key and declared is None and rows < _FEW_ROWS:
        table = table.doubting(f"key {', '.join(key)}: {text}, and so few rows prove little")
    if not key:
        table = table.doubting("no key: rows are only added, and a file that comes again corrected brings its rows twice")
    return _with_hints(replace(table, columns=columns, key=key, key_evidence=text))


def _found_key(table: Table) -> tuple[tuple[str, ...], str]:
    """The smallest key: unique in all rows, or else in the rows of each file; at last a moment alone."""
    candidates = [column for column in sorted(table.columns.values(), key=_as_key) if _may_be_key(column)]
    several = len(table.sample.files) > 1
    for within in (False, True) if several else (False,):
        for size in range(1, _MOST_KEY_COLUMNS + 1):
            for columns in combinations(candidates if size == 1 else candidates[:_KEY_CANDIDATES], size):
                key = tuple(column.name for column in columns)
                if any(map(_tells_apart, columns)) and _is_unique(table, key, within_files=within):
                    return key, _counted(table, key)
    for column in candidates:
        if column.reading.is_time and _is_unique(table, (column.name,)):
            return (column.name,), _counted(table, (column.name,))
    return (), "no column, and no two or three together, tell all rows apart"


def _may_be_key(column: Column) -> bool:
    """Quantities are different in each of a few rows by chance, and are no part of a key."""
    may = column.reading.is_text or column.reading.is_time or _is_called_key(column)
    return may and not column.missing and not column.reading.unread and column.reading.reader != "number"


def _tells_apart(column: Column) -> bool:
    return not column.reading.is_time


def _is_called_key(column: Column) -> bool:
    words = words_of(column.source)
    return bool(vocabulary.KEY & set(words))


def _as_key(column: Column) -> int:
    """Smaller for a better column of a key; the order of the file decides among equals."""
    is_called = column.reading.reader == "code" or _is_called_key(column)
    return 2 if column.personal else 0 if is_called else 1


def _is_unique(table: Table, key: Sequence[str], *, within_files: bool = False) -> bool:
    return _different(table, key, within_files=within_files) == table.sample.rows.height


def _different(table: Table, key: Sequence[str], *, within_files: bool = False) -> int:
    """How many different values a key has; rows without one do not count."""
    sources = [table.columns[name].source for name in key]
    rows = table.sample.rows.select([*sources, FILE] if within_files else sources)
    return rows.drop_nulls().n_unique()


def _counted(table: Table, key: Sequence[str]) -> str:
    rows, different = table.sample.rows.height, _different(table, key)
    if different == rows:
        return f"unique in {rows:,} of {rows:,} rows"
    if _is_unique(table, key, within_files=True):
        return f"{different:,} different in {rows:,} rows, unique within each file: of rows with one key that of the later file counts"
    return f"{different:,} different in {rows:,} rows: of rows with one key the later one counts"


def _with_hints(table: Table) -> Table:
    hints = []
    operations = next((column for column in table.columns.values() if _is_operation(table, column)), None)
    sequence = next((column for column in table.columns.values() if vocabulary.SEQUENCE & set(words_of(column.source))), None)
    if operations and sequence:
        hints.append(
            f"{operations.name} and {sequence.name} look like change events of a key: SCD2 keeps the history of each key from them, in any "
            "order: see docs/tables.md"
        )
    if table.key and len(table.sample.files) > 1 and _different(table, table.key) * 2 <= table.sample.rows.height:
        hints.append(
            "most keys come in several files: if each file is a snapshot of the whole, SCD2 with snapshot=True keeps the history and "
            "retires what a file lacks: see docs/tables.md"
        )
    return replace(table, hints=tuple(hints), doubts=(*table.doubts, *hints))


def _is_operation(table: Table, column: Column) -> bool:
    if not vocabulary.OPERATION & set(words_of(column.source)) or column.distinct > len(vocabulary.OPERATIONS):
        return False
    return {str(text).lower() for text in table.sample.rows[column.source].drop_nulls().unique()} <= vocabulary.OPERATIONS


# --- when


def _declared_times(tables: Sequence[Table], times: Iterable[str]) -> dict[str, Column]:
    found: dict[str, Column] = {}
    for word in times:
        named = {table.name: table.columns[name] for table in tables if (name := _named(table, word))}
        if not named:
            raise ValueError(f"--time {word}: {_unknown(tables, [word])}")
        for column in named.values():
            if not column.reading.is_time:
                raise ValueError(
                    f"--time {word}: its values are not read as dates ({column.reading.evidence or 'text'}): name another column"
                )
        found |= named
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


def _gold(table: Table) -> Gold | None:
    by = _group(table)
    if table.time is None and by is None:
        return None
    numbers = [column for column in table.columns.values() if column.reading.is_number and _is_measure(table, column)]
    taken = {"month", "day", *([by.name] if by else [])}
    count = unused(table.name if is_free(table.name) else f"number_of_{table.name}", taken)
    measures: list[tuple[str, Column, str]] = []
    for column in numbers[:_MOST_MEASURES]:
        how = "mean" if vocabulary.LEVEL & set(words_of(column.source)) else "sum"
        name = unused(f"{'mean' if how == 'mean' else 'total'}_{column.name}", [*taken, count, *(name for name, *_ in measures)])
        measures.append((name, column, how))
    said = [f"{by.name}: {by.distinct:,} different values, the fewest of all texts"] if by else []
    said += [f"{column.name}: a mean, for its name is that of a level" for _, column, how in measures if how == "mean"]
    if len(numbers) > _MOST_MEASURES:
        said.append(f"{len(numbers) - _MOST_MEASURES} more columns of numbers are left out")
    what = f"daily_{table.name}" if table.time else f"{table.name}_by_{by.name}" if by else table.name
    return Gold(what, by, count, tuple(measures), tuple(said))


def _group(table: Table) -> Column | None:
    """The text with the fewest values, if these are few."""
    texts = [column for column in table.columns.values() if column.reading.is_text and not column.personal and column.name not in table.key]
    few = [column for column in texts if 2 <= column.distinct <= min(_MOST_GROUPS, table.sample.rows.height // 2)]
    return min(few, key=lambda column: column.distinct, default=None)


def _is_measure(table: Table, column: Column) -> bool:
    words = set(words_of(column.source))
    return column.name not in table.key and not column.personal and not words & vocabulary.NO_MEASURE and not _is_called_key(column)


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

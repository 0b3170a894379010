"""What tells the rows of a file apart: the smallest key, declared or found, and what else files of such rows may be."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations

from lakehouse_assets.scaffold import vocabulary
from lakehouse_assets.scaffold.names import words_of
from lakehouse_assets.scaffold.readings import shown
from lakehouse_assets.scaffold.samples import FILE
from lakehouse_assets.scaffold.tables import FEW_ROWS, Column, Table, is_called_key, is_running, named, numbers_rows, unknown

_MOST_KEY_COLUMNS, _KEY_CANDIDATES = 3, 10
# So many rows may have a value that another row has, in a column that is almost a key.
_ALMOST = 0.05
_SHOWN = 3


def declared_keys(tables: Sequence[Table], keys: Iterable[str]) -> tuple[dict[str, tuple[str, ...]], dict[str, list[str]]]:
    """By table its declared key, and what to say of declared keys that it has the columns of and does not take.

    A key is that of the tables in which it tells (almost) all rows apart, or else of all that have its columns; of two keys of one table
    the first is taken.

    Raises:
        ValueError: No file has the columns.
    """
    asked: list[list[tuple[Table, tuple[str, ...]]]] = []
    for text in keys:
        words = [word.strip() for word in text.split(",") if word.strip()]
        with_it = [(table, tuple(named(table, word) or "" for word in words)) for table in tables]
        with_it = [(table, key) for table, key in with_it if key and all(key)]
        if not with_it:
            raise ValueError(f"--key {text}: {unknown(tables, words)}")
        asked.append(with_it)
    found: dict[str, tuple[str, ...]] = {}
    # First those that tell rows apart: of them a table takes one, whatever else is said of its columns.
    telling = [any(_is_unique(table, key) for table, key in with_it) for with_it in asked]
    for tells in (True, False):
        for with_it in (one for one, it_tells in zip(asked, telling, strict=True) if it_tells == tells):
            for table, key in with_it:
                if not tells or _is_almost_unique(table, key):
                    found.setdefault(table.name, key)
    said: dict[str, list[str]] = {}
    for with_it in asked:
        is_taken = any(found.get(table.name) == key for table, key in with_it)
        for table, key in with_it:
            taken = found.get(table.name)
            # What tells the rows of other files apart is meant for these where another key is declared for this one.
            if taken == key or (taken and is_taken and not _is_unique(table, key)):
                continue
            why = f": its key is {', '.join(taken)}, as declared" if taken else f" here: {_counted(table, key)}"
            said.setdefault(table.name, []).append(f"--key {','.join(key)} is not taken{why}")
    return found, said


def with_key(table: Table, declared: tuple[str, ...] | None) -> Table:
    """The table with its key, and with what else might be meant.

    Raises:
        ValueError: The declared key cannot be one.
    """
    rows = table.sample.rows.height
    if declared is not None:
        key, text = declared, f"declared; {_counted(table, declared)}"
        table = table if _is_unique(table, key) else table.doubting(f"key {', '.join(key)}: {text}")
    else:
        key, text = _detected_key(table)
        table = table.doubting(*_almost_keys(table, key), *_running(table, key))
    columns = dict(table.columns)
    for name in key:
        if columns[name].reading.annotation == "float":
            raise ValueError(f"--key: {name} holds numbers with decimals, which cannot tell rows apart: name other columns")
        if columns[name].missing:
            table = table.doubting(f"key column {name}: missing in {columns[name].missing:,} of {rows:,} rows, which go to quarantine")
    if key and declared is None and rows < FEW_ROWS:
        table = table.doubting(f"key {', '.join(key)}: {text}, and so few rows prove little")
    if not key:
        table = table.doubting("no key: rows are only added, and a file that comes again corrected brings its rows twice")
    return _with_hints(replace(table, columns=columns, key=key, key_evidence=text))


def _detected_key(table: Table) -> tuple[tuple[str, ...], str]:
    """The smallest key: unique in all rows, or else in the rows of each file; at last a moment alone."""
    candidates = [column for column in sorted(table.columns.values(), key=partial(_as_key, table)) if _may_be_key(table, column)]
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
    return (), _why_none(table)


def _why_none(table: Table) -> str:
    """Why no key was taken. Columns that have no value twice are named, as what is said of each column says it of them."""
    rows = table.sample.rows.height
    unique = [column for column in table.columns.values() if rows > 1 and not column.missing and column.distinct == rows]
    if not unique:
        return "no column, and no two or three together, tell all rows apart"
    names = " and ".join(column.name for column in unique)
    said = f"{names} {'has' if len(unique) == 1 else 'have'} no value twice, as quantities have by chance"
    declarable = next((column.name for column in unique if column.reading.annotation != "float"), None)
    return said + (f": if {declarable} is the key, --key {declarable}" if declarable else "")


def _almost_keys(table: Table, key: Sequence[str]) -> Iterator[str]:
    """Columns that tell all but a few rows apart, where no single column tells all of them."""
    if len(key) == 1 and not table.columns[key[0]].reading.is_time:
        return
    rows = table.sample.rows.height
    for column in table.columns.values():
        if not _may_be_key(table, column) or column.reading.is_time or column.personal or not 0 < rows - column.distinct <= rows * _ALMOST:
            continue
        values = table.sample.rows[column.source]
        twice = values.filter(values.is_duplicated()).value_counts(sort=True)
        often = ", ".join(f"{shown(value)} {count:,} times" for value, count in twice.head(_SHOWN).iter_rows())
        more = ", …" if twice.height > _SHOWN else ""
        yield (
            f"{column.name} is almost a key: {column.distinct:,} different in {rows:,} rows ({often}{more}). If it is the key and these "
            f"rows are mistakes or later versions: --key {column.name}"
        )


def _running(table: Table, key: Sequence[str]) -> Iterator[str]:
    """Numbers that follow each other: quantities hardly do."""
    for column in table.columns.values():
        if column.name not in key and is_running(table, column):
            yield f"{column.name} has each number of a range once: if it numbers the rows, --key {column.name}"


def _may_be_key(table: Table, column: Column) -> bool:
    """Quantities are different in each of a few rows by chance, and are no part of a key."""
    may = column.reading.is_text or column.reading.is_time or is_called_key(column) or numbers_rows(table, column)
    return may and not column.missing and not column.reading.unread and column.reading.reader != "number"


def _tells_apart(column: Column) -> bool:
    return not column.reading.is_time


def _as_key(table: Table, column: Column) -> int:
    """Smaller for a better column of a key; the order of the file decides among equals."""
    is_called = column.reading.reader == "code" or is_called_key(column) or numbers_rows(table, column)
    return 2 if column.personal else 0 if is_called else 1


def _is_unique(table: Table, key: Sequence[str], *, within_files: bool = False) -> bool:
    return _different(table, key, within_files=within_files) == table.sample.rows.height


def _is_almost_unique(table: Table, key: Sequence[str]) -> bool:
    rows = table.sample.rows.height
    return rows - _different(table, key) <= rows * _ALMOST


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

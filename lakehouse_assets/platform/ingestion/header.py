"""The header of a file against the columns that its feed declares: which names are meant, which are missing, which could be new columns.

A name is recognised in spite of its case, Unicode form, invisible characters and blanks around it. Where a header stands in a file, and how
its cells are read, belongs to the reader of the format.
"""

import difflib
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

from lakehouse_assets.platform.ingestion.refused import RefusedFile
from lakehouse_assets.platform.wording import counted, listed

MOST_NEW_COLUMNS = 200
LOOKED_THROUGH = 50
"""So many lines or rows at the beginning of a file are searched for its header, when other text stands above it."""
_LONGEST_NAME = 255
_NAMES_SHOWN = 12
# So alike are a name of a column and a misspelling of it; a value of a row is not.
_NEAR = 0.75
# A number, an amount or a date, which no column is called.
_VALUE = re.compile(r"\s*[-+(]?[£$€]?[0-9][0-9.,:/ -]*([A-Za-z%€]{1,3})?\)?\s*$")
_NOT_IN_A_NAME = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, half surrogate pairs, ends of lines and paragraphs
_NEVER_SEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))  # soft hyphen, zero-width space, word joiner, byte order mark


def plain_name(name: str) -> str:
    """A name in Unicode's composed form (NFC), without characters that nobody sees and without blanks around it."""
    return unicodedata.normalize("NFC", name.translate(_NEVER_SEEN)).strip() or name


def _key(name: str) -> str:
    """What names that mean the same column have in common."""
    seen = "".join(character for character in name if unicodedata.category(character) != "Cf")
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", seen).casefold()).split())


@dataclass(frozen=True)
class Expected:
    """What a feed expects of the columns of a file.

    Attributes:
        columns: The declared columns.
        required: Header variants. The columns of at least one must all be there; no variant means that any header will do.
        in_path: Columns whose value stands in the path of the file, as in `year=2024/x.parquet`, with it; a column of the file comes first.
    """

    columns: Sequence[str]
    required: Sequence[Sequence[str]] = ()
    in_path: Mapping[str, str | None] = field(default_factory=dict)

    def recognised(self, header: Sequence[str]) -> list[str]:
        """The names of a header, those that mean a declared column as it is declared; the others as `plain_name`.

        A name means the declared column that it equals. One that differs from it only by case, blanks, Unicode form or invisible characters
        means it too, if no other name of the header could.
        """
        there = set(header)
        wanted = {key: names[0] for key, names in self._by_key.items() if len(names) == 1 and names[0] not in there}
        others = [name for name in header if name not in self._declared]
        keys = Counter(map(_key, others)) if wanted else Counter()
        meant = {name: wanted[key] for name in others if keys[key := _key(name)] == 1 and key in wanted} if wanted else {}
        plain = {name: plain_name(name) for name in others if name not in meant}
        # What nobody sees in a name is left off, unless another column has the name then.
        taken = Counter(plain.values())
        free = {old: new for old, new in plain.items() if taken[new] == 1 and new not in there and new not in self._declared}
        return [meant.get(name) or free.get(name, name) for name in header]

    def fits(self, header: Sequence[str]) -> bool:
        """Whether a header, as `recognised`, has all columns of a variant, and none twice."""
        there = {*header, *self.in_path}
        return len(set(header)) == len(header) and any(there.issuperset(variant) for variant in self.required)

    def known(self, header: Sequence[str]) -> int:
        """How many names of a header, as `recognised`, are declared."""
        return len(self._declared.intersection(header))

    def check(self, file: str, header: Sequence[str], hint: str = "") -> None:
        """Refuses a file whose header, as `recognised`, no variant fits, or that names a column twice.

        Args:
            file: The name of the file, for the message.
            header: The column names of the file.
            hint: What may be the matter besides, a sentence.

        Raises:
            RefusedFile: The message compares the header with the closest variant.
        """
        twice = [name for name, count in Counter(header).items() if count > 1]
        if twice:
            rename = "more than once. Rename the columns and land it again."
            raise RefusedFile(
                f"{file}: the header names {_listed(twice)} {rename}", f"{file}: the header names {_unnamed(len(twice))} {rename}"
            )
        if not self.required or self.fits(header):
            return
        there = {*header, *self.in_path}
        closest = min(self.required, key=lambda variant: len(set(variant) - there))
        missing = [name for name in closest if name not in there]
        unknown = [name for name in header if name not in closest]
        meant = {name: near[0] for name in unknown if (near := difflib.get_close_matches(name, missing, 1, _NEAR))}
        known = [name for name in unknown if name in meant or name in self._declared]
        lacks = f"{file}: the header lacks {_listed(missing)}"
        remedy = hint or _remedy(missing, meant, has_others=len(missing) < len(closest))
        if not unknown:
            raise RefusedFile(f"{lacks}; {'its other columns are as declared' if header else 'it has nothing instead'}. {remedy}")
        spelled = [_spelled(name, missing) for name in known]
        others = [_unnamed(len(unknown) - len(known), "other " * bool(known))] if len(known) < len(unknown) else []
        raise RefusedFile(
            f"{lacks}; it has {_joined([_spelled(name, missing) for name in unknown])} instead. {remedy}",
            f"{lacks}; it has {' and '.join(filter(None, [_joined(spelled), *others]))} instead. {remedy}",
        )

    def new_columns(self, names: Iterable[str]) -> tuple[str, ...]:
        """The undeclared ones of some names that a bronze table could take on, in their order.

        Left out are names that no column can have next to the others (`can_be_a_column`), and those that differ from another one only by
        case.
        """
        new = [name for name in names if name not in self._declared]
        spelled = Counter(name.casefold() for name in (*new, *self.columns))
        return tuple(name for name in new if spelled[name.casefold()] == 1 and can_be_a_column(name))

    @cached_property
    def _declared(self) -> frozenset[str]:
        return frozenset(self.columns).union(*self.required)

    @cached_property
    def _by_key(self) -> Mapping[str, list[str]]:
        keys: dict[str, list[str]] = defaultdict(list)
        for name in self._declared:
            keys[_key(name)].append(name)
        return keys


def likely_header(rows: Iterable[Sequence[str | None]]) -> int:
    """Which of the first rows is the header, where no column is declared: the first that is filled as the rows of the table are.

    What stands above it has fewer cells, or a number or a date among them. A header may lack a name, and be of numbers.
    """
    beginning = list(islice(rows, LOOKED_THROUGH))
    filled = [sum(bool(cell and cell.strip()) for cell in row) for row in beginning]
    has_values = [any(_VALUE.match(cell or "") for cell in row) for row in beginning]
    widest = _width(filled)
    full = next((index for index, count in enumerate(filled) if count == widest and not has_values[index]), None)
    if widest and full is not None and any(has_values[full + 1 :]):
        return full
    wide = [index for index, count in enumerate(filled) if count and 4 * count >= 3 * widest]
    return next((index for index in wide if not has_values[index]), next(iter(wide), 0))


def _width(filled: Sequence[int]) -> int:
    """How many cells the rows of the table have at most. A single longer row below usual ones is a broken one."""
    widest = max(filled, default=0)
    usual = max(set(filled) - {0}, key=filled.count, default=0)
    is_broken = filled.count(widest) == 1 and filled[: filled.index(widest)].count(usual) > 1
    return usual if is_broken else widest


def header_names(cells: Iterable[str | None]) -> list[str]:
    """Names the columns of a file; one without a name is called after its position: `_column_3`."""
    return [cell or f"_column_{position}" for position, cell in enumerate(cells, start=1)]


def check_width(file: str, columns: int, most: int) -> None:
    """Refuses a file with too many columns.

    Raises:
        RefusedFile: It has.
    """
    if columns > most:
        raise RefusedFile(
            f"{file} has {columns:,} columns; at most {most:,} are read. Land it with a row for each value and its name (the long form)."
        )


def can_be_a_column(name: str) -> bool:
    """Whether a bronze table can have a column of this name, next to those that the platform adds.

    Not: blank ones, those that start with `_`, contain a control character or a backtick, look like a pattern to Polars (`*`, `^…$`), or
    are longer than 255 bytes.
    """
    return (
        bool(name.strip())
        and not name.startswith(("_", "*"))
        and not (name.startswith("^") and name.endswith("$"))
        and "`" not in name
        and not any(unicodedata.category(character) in _NOT_IN_A_NAME for character in name)
        and len(name.encode()) <= _LONGEST_NAME
    )


def _spelled(name: str, missing: Sequence[str]) -> str:
    """A name for a message; with escapes after it where it looks like one that is missing."""
    is_like = not name.isascii() and difflib.get_close_matches(name, missing, 1, cutoff=0.5)
    return f"{name!r} (that is {name!a})" if is_like else repr(name)


def _remedy(missing: Sequence[str], meant: Mapping[str, str], *, has_others: bool) -> str:
    """What to do about columns that a header lacks.

    Args:
        missing: The columns.
        meant: By name of the header the missing column that it is near to.
        has_others: Whether the header has other columns of the feed, so that it is one.
    """
    said = "".join(f"Did you mean {column!r} by {name!r}? " for name, column in meant.items())
    optional = [name for name in missing if name not in meant.values()]
    if not has_others or not optional:
        return f"{said}Land the file with these columns, or add its header to the feed."
    declared = f"optional=({', '.join(map(_quoted, optional))}{',' if len(optional) == 1 else ''})"
    return (
        f"{said}Land the file with these columns; or, if files may lack {_listed(optional)}, take it out of headers in the feed and "
        f"declare {declared}."
    )


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _unnamed(count: int, other: str = "") -> str:
    why = "not shown: the feed has personal columns, and a file without a header has values in their place"
    return f"{counted(count, f'{other}name')} ({why})"


def _listed(names: Sequence[str]) -> str:
    return _joined([repr(name) for name in names])


def _joined(names: Sequence[str]) -> str:
    return listed(names, _NAMES_SHOWN)

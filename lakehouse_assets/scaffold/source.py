"""Python source in the form that `ruff format` keeps: literals, calls on one line or with an argument a line, comments, imports.

What is written with it is in `render` and `render_test`.
"""

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

WIDTH = 140
TAB = "    "
# Letters beyond are of other scripts, and may look like those of this one.
_LATIN = 0x24F
_UTC = "datetime.timezone.utc"
# Other signs may look like a letter, or like nothing: they are written as escapes.
_SHOWN = frozenset({"L", "N", "Sc"})


def text(value: str) -> str:
    """A text as a literal."""
    quote = "'" if value.count('"') > value.count("'") else '"'
    return quote + "".join(map(_letter, value.replace("\\", "\\\\").replace(quote, "\\" + quote))) + quote


def _letter(letter: str) -> str:
    category = unicodedata.category(letter)
    if " " <= letter <= "~" or {category, category[0]} & _SHOWN:
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def literal(value: Any, indent: int, used: int) -> str:
    """A text, number, date, or a tuple, list or dictionary of these, for a line with this indent and so much else on it."""
    match value:
        case str():
            return text(value)
        case tuple():
            return tuple_of([literal(part, indent + 1, 1) for part in value], indent, used)
        case list():
            return _within("[]", [literal(part, indent + 1, 1) for part in value], indent, used)
        case dict():
            return _within("{}", [f"{text(name)}: {literal(part, indent + 1, 1)}" for name, part in value.items()], indent, used)
        case _:
            return repr(value).replace("datetime.datetime(", "datetime(").replace("datetime.date(", "date(").replace(_UTC, "UTC")


def tuple_of(parts: Sequence[str], indent: int, used: int) -> str:
    """A tuple of code on one line if it fits, else with a part a line."""
    return _within("()", parts, indent, used, end="," if len(parts) == 1 else "")


def call(function: str, arguments: Sequence[str], indent: int, used: int = 0) -> str:
    """A call on one line if it fits, else with an argument a line."""
    return function + _within("()", arguments, indent, used + len(function))


def braces(parts: Sequence[str], indent: int, used: int = 0) -> str:
    """A dictionary of `"name": value` on one line if it fits, else with an entry a line."""
    return _within("{}", parts, indent, used)


def call_in_lines(function: str, arguments: Sequence[str], indent: int) -> str:
    """A call with an argument a line, each of which may have comments before it."""
    return f"{function}({_lines(arguments, indent)})"


def named(name: str, value: Any, indent: int) -> str:
    """An argument by its name."""
    return f"{name}={literal(value, indent, len(name) + 2)}"


def _within(brackets: str, parts: Sequence[str], indent: int, used: int, end: str = "") -> str:
    opens, closes = brackets[0], brackets[1]
    line = f"{opens}{', '.join(parts)}{end}{closes}"
    fits = "\n" not in line and len(TAB) * indent + used + len(line) <= WIDTH
    return line if fits or not parts else f"{opens}{_lines(parts, indent)}{closes}"


def _lines(parts: Iterable[str], indent: int) -> str:
    return "\n" + "".join(f"{TAB * (indent + 1)}{part},\n" for part in parts) + TAB * indent


def comment(said: str, indent: int) -> str:
    """Lines of comment; nothing for nothing."""
    start = f"{TAB * indent}# "
    plain = "".join(map(_letter, said))
    return "".join(f"{start}{line}\n" for line in textwrap.wrap(plain, WIDTH - len(start), break_on_hyphens=False))


def commented(said: str, code: str, indent: int) -> str:
    """Code with lines of comment before it, for a place that has its indent already."""
    return f"{comment(said, indent)}{TAB * indent}{code}".removeprefix(TAB * indent)


def docstring(summary: str, rest: str = "", indent: int = 0) -> str:
    """A docstring with a line of summary."""
    start = TAB * indent
    if not rest:
        return f'{start}"""{summary}"""\n'
    body = "".join(f"{start}{line}\n" for line in textwrap.wrap(rest, WIDTH - len(start)))
    return f'{start}"""{summary}\n\n{body}{start}"""\n'


def from_import(package: str, names: Iterable[str]) -> str:
    """An import with its names as ruff sorts them: constants, classes, then the rest."""
    ordered = sorted(set(names), key=lambda name: (0 if name.isupper() else 1 if name[0].isupper() else 2, name))
    line = f"from {package} import {', '.join(ordered)}"
    return line if len(line) <= WIDTH else f"from {package} import ({_lines(ordered, 0)})"


def module(said: str, imports: Iterable[Sequence[str]], parts: Iterable[str]) -> str:
    """A module: docstring, sections of imports, and parts with two empty lines between them."""
    sections = ["\n".join(section) for section in imports if section]
    body = "\n\n\n".join(part.strip("\n") for part in parts)
    # Code that is no class or function stands nearer.
    between = "\n\n\n" if body.startswith(("class ", "def ", "@")) else "\n\n"
    source = docstring(said) + "\n" + "\n\n".join(sections) + between * bool(sections) + body + "\n"
    return _excused(source) + source


def _excused(source: str) -> str:
    """What a linter has to take as it is: the names of columns are those of the files."""
    long = ["E501"] if any(len(line) > WIDTH for line in source.splitlines()) else []
    foreign = ["RUF001", "RUF003"] if any(ord(letter) > _LATIN for letter in source) else []
    # Not all of them look like another letter, and some lines are allowed to be long: RUF100 would say so.
    return f"# ruff: noqa: {', '.join([*long, *foreign, 'RUF100'])}\n" if long or foreign else ""

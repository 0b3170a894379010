"""Where in the code a declaration is written, or an import failed, as people read it: `my_products/sales/silver.py:12`.

What went wrong is said by the errors themselves; here they get their place and, where Python's own message has none, the nearest name.
"""

import builtins
import difflib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

_HERE = str(Path(__file__).parent)
_RECIPES = str(Path(__file__).parents[1] / "recipes")
_RECIPE = "__recipe__"
_IMPORT = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")
_KEYWORD = re.compile(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")
# The end of an import error: the module is named before it.
_FILE = re.compile(r" \((?:/|[A-Z]:\\|unknown location).*\)$")
_PLATFORM = str(Path(__file__).parents[1])
_LIBRARIES = ("site-packages", "dist-packages", "/lib/python", "<frozen")

F = TypeVar("F", bound=Callable[..., Any])


def by_recipe(function: F, *, at: tuple[str, int], parameters: str) -> F:
    """Mark a function that a recipe made: it is written where the recipe was called, and what that gave is part of its code."""
    setattr(function, _RECIPE, (at, parameters))
    return function


def parameters_of(function: Callable[..., Any]) -> str:
    """What a function that a recipe made was made with; empty for any other."""
    return str(getattr(function, _RECIPE, (None, ""))[1])


def of_function(function: Callable[..., Any]) -> tuple[str, int]:
    """File and line of a function, or of the recipe that made it; no file if it is in none."""
    made_at: tuple[str, int] | None = getattr(function, _RECIPE, (None, ""))[0]
    if made_at is not None:
        return made_at
    code = getattr(inspect.unwrap(function), "__code__", None)
    return ("", 0) if code is None else (code.co_filename, code.co_firstlineno)


def of_caller() -> tuple[str, int]:
    """File and line of the code that declares something, perhaps by a recipe: the first frame outside of this folder and of the recipes."""
    frame, places = sys._getframe(1), (_HERE, _RECIPES, "<string>")  # noqa: SLF001 `inspect.stack` reads files and takes a hundred times as long
    while frame.f_back is not None and frame.f_code.co_filename.startswith(places):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def place(file: str, line: int | None) -> str:
    """A file and a line of it, as people say them; empty for code that is in no file."""
    return f"{shown(Path(file))}:{line}" if file and not file.startswith("<") else ""


def shown(path: Path) -> str:
    """A path from the folder on from which Python imports it."""
    roots = [Path(os.path.abspath(entry)) for entry in sys.path]  # noqa: PTH100 an empty entry is the working directory
    nearest_root = max((root for root in roots if path.is_relative_to(root)), key=lambda root: len(root.parts), default=None)
    return (path if nearest_root is None else path.relative_to(nearest_root)).as_posix()


def of_error(error: BaseException, folders: Iterable[Path]) -> tuple[str, int] | None:
    """The last file and line below some folders at which an error was raised; of a syntax error, the line that has it."""
    lines = [(frame.filename, frame.lineno or 1) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        lines.append((error.filename, error.lineno or 1))
    below = [(file, line) for file, line in lines if any(Path(file).is_relative_to(folder) for folder in folders)]
    return below[-1] if below else None


def reason(error: BaseException) -> str:
    """What an error says, in one line, or two of a syntax error: with the line that has it. The nearest name is proposed."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}" + (f"\n    {error.text.strip()}" if error.text and error.text.strip() else "")
    text = _FILE.sub("", " ".join(str(error).split()))
    frame = _innermost(error.__traceback__)
    if isinstance(error, ValueError) and frame is not None and frame.f_code.co_filename.startswith(_PLATFORM):
        return text  # a message of ours, which names what is wrong
    return f"{type(error).__name__}: {text}".removesuffix(": ") + _hint(error)


def is_ours(error: BaseException) -> bool:
    """Whether an error was raised by the platform itself, so that its text is ours. That of others may hold values of rows."""
    frame = _innermost(error.__traceback__)
    return frame is not None and frame.f_code.co_filename.startswith(_PLATFORM)


def innermost(frames: Iterable[tuple[str, int]]) -> str:
    """The last of some files and lines that is in no library; of all if all are."""
    given = list(frames)
    own = [frame for frame in given if not any(part in frame[0] for part in _LIBRARIES)]
    return place(*(own or given)[-1]) if given else ""


def raised_at(error: BaseException) -> str:
    """File and line at which an error was raised, outside of libraries where there is such a line."""
    return innermost((frame.filename, frame.lineno or 1) for frame in traceback.extract_tb(error.__traceback__))


def _hint(error: BaseException) -> str:
    """The nearest to a name that does not exist, as a question."""
    wrong, known = _names(error)
    near = difflib.get_close_matches(wrong, sorted(known), 1) if wrong else []
    return f". Did you mean {near[0]}?" if near else ""


def _names(error: BaseException) -> tuple[str, Iterable[str]]:
    """The name that an error is about, and those that there are."""
    frame = _innermost(error.__traceback__)
    if isinstance(error, NameError) and frame is not None:
        return error.name or "", {*frame.f_locals, *frame.f_globals, *vars(builtins)}
    if isinstance(error, AttributeError):
        return error.name or "", dir(error.obj)
    if (found := _IMPORT.search(str(error))) is not None and found[2] in sys.modules:
        return found[1], dir(sys.modules[found[2]])
    if (found := _KEYWORD.search(str(error))) is not None and frame is not None:
        function = {**frame.f_globals, **frame.f_locals}.get(found[1])
        return found[2], inspect.signature(function).parameters if callable(function) else ()
    return "", ()


def _innermost(trace: TracebackType | None) -> Any:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else trace.tb_frame

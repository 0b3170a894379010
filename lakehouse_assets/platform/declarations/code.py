"""The code of a function as a text, by which a change of it is noticed. What follows from a change is decided elsewhere."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cache
from types import CellType, CodeType
from typing import Any

from lakehouse_assets.platform.declarations.places import parameters_of


def source_of(function: Callable[..., Any]) -> str:
    """The body and parameters of a function, without docstring, decorators, comments and formatting.

    Of a function that a recipe made, also what the recipe was given; of one that another function made, the plain values that it kept. The
    file is read once: what is written into it later is not what runs here.
    """
    kept = [cell.cell_contents for cell in function.__closure__ or () if _is_plain(cell)] if inspect.isfunction(function) else []
    return _text(function) + parameters_of(function) + (repr(kept) if kept else "")


def _is_plain(cell: CellType) -> bool:
    try:
        return type(cell.cell_contents) in {bool, int, float, str, bytes, date, datetime, timedelta}
    except ValueError:  # it has no value yet
        return False


@cache
def _text(function: Callable[..., Any]) -> str:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # typed into a console, of an extension module, or a lambda within an expression
        return _compiled(function)
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef):
        return _compiled(function)
    body = definition.body[1:] if ast.get_docstring(definition, clean=False) is not None else definition.body
    return "\n".join(ast.unparse(part) for part in (definition.args, *body))


def _compiled(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    return _content(code) if isinstance(code, CodeType) else getattr(function, "__qualname__", "")


def _content(value: Any) -> str:
    """A compiled function, or a constant of one, as a text that is the same in every process."""
    if isinstance(value, CodeType):
        return repr((value.co_code, value.co_names, [_content(constant) for constant in value.co_consts]))
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)

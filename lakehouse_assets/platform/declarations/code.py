"""The code of a function as a text, by which a change of it is noticed. What follows from a change is decided elsewhere."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from types import CodeType
from typing import Any

from lakehouse_assets.platform.declarations.places import parameters_of


def source_of(function: Callable[..., Any]) -> str:
    """The body and parameters of a function, without docstring, decorators, comments and formatting.

    Of a function that a recipe made, also what the recipe was given.
    """
    return _text(function) + parameters_of(function)


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

"""The code of a function, and of what it uses, as a text by which a change is noticed. What follows from it is decided elsewhere."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from types import CellType, CodeType
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations.places import parameters_of

_PLAIN: Final = (bool, int, float, str, bytes, date, datetime, timedelta, Decimal, type(None), pl.DataType)
_PLATFORM: Final = "lakehouse_assets"
_SHIPPED_PRODUCTS: Final = f"{_PLATFORM}.products"


def source_of(function: Callable[..., Any]) -> str:
    """The body and parameters of a function, without docstring, decorators, comments and formatting, and what it uses of its product.

    That are functions and constants by their names, with what these use in turn; not classes, and nothing of the platform or of another
    package. Of a function that a recipe made, also what the recipe was given; of one that another function made, the plain values that it
    kept. A file is read once: what is written into it later is not what runs here.
    """
    if not inspect.isfunction(function):
        return _text(function) + parameters_of(function)
    kept = [value for cell in function.__closure__ or () if type(value := _content_of(cell)) in _PLAIN[:8]]
    return _text(function) + parameters_of(function) + (repr(kept) if kept else "") + _text_of_used(function)


def _content_of(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it has no value yet
        return ...


def _text_of_used(function: Callable[..., Any]) -> str:
    """The functions and constants of the product that a function uses, and what they use, by their names."""
    found: dict[str, str] = {}
    waiting = [function]
    while waiting:
        for name, value in _used(waiting.pop()):
            if name in found or value is function:
                continue
            if inspect.isfunction(value):
                found[name] = _text(value)
                waiting.append(value)
            else:
                found[name] = _plain(value)
    return "".join(f"\n{name}\n{text}" for name, text in sorted(found.items()))


def _used(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Functions and constants that a function names: in its own module, and in modules of its product."""
    if not inspect.isfunction(function):
        return
    names = sorted({*_names(function.__code__)})
    waiting = [(f"{function.__module__}.{name}", function.__globals__[name]) for name in names if name in function.__globals__]
    waiting += [(f"{function.__qualname__}.{name}", _content_of(cell)) for name, cell in _cells(function)]
    seen = set()
    while waiting:
        name, value = waiting.pop()
        value = inspect.unwrap(value) if callable(value) else value
        if inspect.ismodule(value):
            if _is_of_product(value.__name__, function.__module__ or "") and value.__name__ not in seen:
                seen.add(value.__name__)
                waiting += [(f"{value.__name__}.{inner}", vars(value)[inner]) for inner in names if inner in vars(value)]
        elif inspect.isfunction(value):
            if _is_of_product(value.__module__ or "", function.__module__ or ""):
                yield f"{value.__module__}.{value.__qualname__}", value
        elif _plain(value):
            yield name, value


def _cells(function: Any) -> Iterator[tuple[str, CellType]]:
    yield from zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)


def _names(code: CodeType) -> Iterator[str]:
    """The names that a function looks up, and those within it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_of_product(module: str, user: str) -> bool:
    """Whether a module belongs to the product that uses it, or is next to it: what the platform does, its version says."""
    if module == user:
        return not module.startswith(f"{_PLATFORM}.") or module.startswith(_SHIPPED_PRODUCTS)
    top = user.partition(".")[0]
    if top == _PLATFORM:
        return user.startswith(_SHIPPED_PRODUCTS) and module.startswith(_SHIPPED_PRODUCTS)
    return module.partition(".")[0] == top


def _plain(value: Any) -> str:
    """A constant as a text that is the same in every process; empty for anything else."""
    if isinstance(value, Mapping):
        parts = [(_plain(key), _plain(part)) for key, part in value.items()]
        return f"{{{parts}}}" if all(key and part for key, part in parts) else ""
    if isinstance(value, list | tuple | set | frozenset):
        texts = [_plain(part) for part in value]
        ordered = sorted(texts) if isinstance(value, set | frozenset) else texts
        return f"{type(value).__name__}{ordered}" if all(texts) else ""
    if isinstance(value, pl.Expr):
        return str(value)  # what `repr` says of it has an address
    return repr(value) if isinstance(value, _PLAIN) else ""


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

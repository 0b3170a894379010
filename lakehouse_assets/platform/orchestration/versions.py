"""Code versions, data versions and code references of assets: how Dagster sees that a table is out of date, and where it is declared.

They follow from declarations and tables. What is computed is decided by watermarks, not here.
"""

import ast
import inspect
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from types import CodeType
from typing import Any

import dagster as dg

from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.places import parameters_of
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.quality.contract import fingerprint
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.table import Table

_DIGEST_BYTES = 6

# --- code


def of_table(table: TableDeclaration) -> str:
    """Moves when the function, the contract, the kind, an input, a dimension or the layout of a table changes.

    Not when a description, a comment, the formatting or the owner does. Nor when another function does that the table's function calls:
    after such a change, run with `--full-refresh`; the code version stays.
    """
    return hashed(
        _source(table.function),
        fingerprint(table.contract),
        table.kind,
        sorted(table.inputs.items()),
        sorted(table.dimensions.items()),
        table.sources(),
        table.row_for_row,
        table.layout,
    )


def of_feed(feed: FeedDeclaration) -> str:
    """Moves when the headers or policies of a feed change; which columns are personal decides no row."""
    return hashed(replace(feed.feed, personal=()))


def of_model(model: ModelDeclaration) -> str:
    """Moves when the function that trains, or the feature set, changes. What it calls is in the code version of each training."""
    return hashed(_source(model.train), model.features)


def hashed(*parts: Any) -> str:
    """A short text that is another for other parts, and the same in every process. Parts are compared by their `repr`."""
    return blake2b(repr(parts).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _source(function: Callable[..., Any]) -> str:
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


# --- data


def of_data(table: Table, code: str) -> dg.DataVersion:
    """The last version of a table with which rows came, changed or went, and its code version.

    Maintenance makes versions too, but no other data version; nor does a run that had nothing to do. Where the commit of the last change
    has left the log, the newest version is taken: then a table that did not change may be shown as changed.
    """
    try:
        version = table.changed_at(0)
    except NoSuchVersion:
        version = table.version()
    return dg.DataVersion(f"{version}-{code}")


# --- places in the code


def references(declaration: Declaration) -> dict[str, Any]:
    """The metadata by which the web UI links to the code. It is made when the definitions are loaded and stored nowhere."""
    file, line = declaration.written_at
    if not Path(file).is_file():
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        place = dg.LocalFileCodeReference(file_path=str(Path(file).absolute()), line_number=line, label=declaration.name)
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[place])}

"""The modules that a module needs, found by reading its imports: what a model's code is, and what has to lie beside a stored one.

Only modules of given packages are followed. Nothing is imported. What one function says is in `code`.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path


def closure(modules: Iterable[str], packages: Iterable[str]) -> dict[str, Path]:
    """The files of modules and of all that they import, directly or not, within some packages; the packages around them are among them.

    Args:
        modules: Names, as `lakehouse_assets.platform.modelling.quantile`.
        packages: Modules outside of them are not followed, as `lakehouse_assets`. Imports for type checkers alone do not count.

    Returns:
        File by module name, in the order of the names.
    """
    within, found = tuple(packages), dict[str, Path]()
    waiting = [*modules]
    while waiting:
        name = waiting.pop()
        if name in found or not _is_within(name, within) or (file := _file(name)) is None:
            continue
        found[name] = file
        waiting.extend(_imported(name, file))
        waiting.append(name.rpartition(".")[0])
    return dict(sorted(found.items()))


def text_of_modules(modules: Mapping[str, Path]) -> str:
    """What modules do, as a text: without comments, docstrings and formatting, so that a change of these is no change."""
    return "\n".join(f"{name}\n{_code(file)}" for name, file in sorted(modules.items()))


def _is_within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@cache
def _file(name: str) -> Path | None:
    """The file of a module; None for what is none, as a function that is imported from one."""
    if name == "__main__":  # of a script; that of a notebook has no file, and no spec to ask for either
        script = getattr(sys.modules[name], "__file__", None)
        return None if script is None else Path(script)
    top, _, rest = name.partition(".")
    spec = find_spec(top)  # looked up below it by hand: that would import what is around the module
    if spec is None or spec.origin is None:
        return None
    below = Path(spec.origin).parent.joinpath(*rest.split(".")) if rest else Path(spec.origin).parent
    candidates = (below / "__init__.py", below.with_suffix(".py") if rest else Path(spec.origin))
    return next((file for file in candidates if file.is_file()), None)


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def _imported(module: str, file: Path) -> tuple[str, ...]:
    return tuple(_imports(_tree(file), module if file.name == "__init__.py" else module.rpartition(".")[0]))


def _imports(node: ast.AST, package: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _imports(other, package)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - child.level + 1]) if child.level else ""
            name = ".".join(part for part in (base, child.module) if part)
            yield from (name, *(f"{name}.{alias.name}" for alias in child.names))
        else:
            yield from _imports(child, package)


@cache
def _code(file: Path) -> str:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [line for line in node.body if not _is_text(line)] or [ast.Pass()]
    return ast.unparse(tree)


def _is_text(line: ast.stmt) -> bool:
    """A docstring, or a text that stands behind an attribute and says what it is."""
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)

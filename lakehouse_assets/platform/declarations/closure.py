"""The modules that a module needs, found by reading its imports: what a model's code is, and what has to be stored next to a model.

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
        waiting.extend(_read(name, file)[0])
        waiting.append(name.rpartition(".")[0])
    return dict(sorted(found.items()))


def text_of_modules(modules: Mapping[str, Path]) -> str:
    """What modules do, as a text: without comments, docstrings and formatting, so that a change of these is no change."""
    return "\n".join(f"{name}\n{_read(name, file)[1]}" for name, file in sorted(modules.items()))


def parts_of_module(module: str, file: Path) -> dict[str, str]:
    """What each function and class of a module does, by its name with the module's, and under the module's name what else it says."""
    found: dict[str, str] = {}
    for statement in _stripped(_parsed(file)).body:
        own = getattr(statement, "name", "")  # of a function or a class
        name = f"{module}.{own}" if own else module
        found[name] = f"{found.get(name, '')}\n{ast.unparse(statement)}"
    return found


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
def _read(module: str, file: Path) -> tuple[tuple[str, ...], str]:
    """What a module imports, and what it does as a text."""
    tree = _parsed(file)
    imports = tuple(_imports(tree.body, module if file.name == "__init__.py" else module.rpartition(".")[0]))
    return imports, ast.unparse(_stripped(tree))


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _stripped(tree: ast.Module) -> ast.Module:
    """The same tree, without its docstrings. Comments are not in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [line for line in node.body if not _is_text(line)] or [ast.Pass()]
    return tree


def _imports(lines: Iterable[ast.stmt], package: str) -> Iterator[str]:
    for line in lines:
        if isinstance(line, ast.If) and "TYPE_CHECKING" in ast.unparse(line.test):
            yield from _imports(line.orelse, package)
        elif isinstance(line, ast.Import):
            yield from (alias.name for alias in line.names)
        elif isinstance(line, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - line.level + 1]) if line.level else ""
            name = ".".join(part for part in (base, line.module) if part)
            yield from (name, *(f"{name}.{alias.name}" for alias in line.names))
        else:
            yield from _imports(_within(line), package)


def _within(line: ast.stmt) -> Iterator[ast.stmt]:
    """The lines within a line: imports are lines, so expressions need not be looked at."""
    for parts in (getattr(line, name, ()) for name in ("body", "orelse", "finalbody", "handlers", "cases")):
        for part in parts:
            yield from (part,) if isinstance(part, ast.stmt) else part.body


def _is_text(line: ast.stmt) -> bool:
    """A docstring, or a text that stands behind an attribute and says what it is."""
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)

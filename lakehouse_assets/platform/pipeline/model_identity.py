"""What made a model, besides its data: recipe, code, packages and git revision. Two trainings that share all of it give the same bytes.

The recipe is what a product says; the code is what it runs. Whether a change of one asks for a proof is for the gate to decide.
"""

import hashlib
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import packages_distributions, requires
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any

from lakehouse_assets.platform.compute.packages import version
from lakehouse_assets.platform.declarations.closure import closure, text_of_modules
from lakehouse_assets.platform.declarations.learning import Examples, Learner, Predictor

_PLATFORM = "lakehouse_assets"
_GIT_SECONDS = 5.0


def hashed(content: str) -> str:
    """A short hash of a text."""
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def recipe_of(examples: Examples, learner: Learner) -> str:
    """The rows, the learner and its parameters: what a product declares. What is of the product's own in it counts with its code."""
    own = [module for module in _modules(learner) if not is_of_platform(module)]
    code = text_of_modules(closure(own, {*map(_package, own)})) if own else ""
    return hashed("\n".join([examples.identity(), repr(learner), code]))


def code_of(examples: Examples, learner: Learner) -> str:
    """The functions that made a model: the modules of learner and examples with all that they import, docstrings and comments left out."""
    return hashed(text_of_modules(modules_of(examples, learner)) + examples.identity())


def modules_of(examples: Examples, learner: Learner) -> dict[str, Path]:
    """The files of the modules that made a model, by their names."""
    modules = _modules(examples, learner)
    return closure(modules, {_PLATFORM, *map(_package, modules)})


def is_of_platform(module: str) -> bool:
    """Whether a module is the platform's, and not a product's."""
    return module.startswith(f"{_PLATFORM}.platform.")


def environment_of(predictors: Iterable[Predictor]) -> str:
    """Interpreter, processor and the versions of the packages that count."""
    names = sorted({name for predictor in predictors for name in predictor.packages})
    versions = [f"{name}=={version(name)}" for name in names]
    return f"Python {sys.version.split()[0]} on {platform.machine()}, {', '.join(versions)}"


@cache
def git_revision(folder: Path) -> str:
    """The commit that a folder is at, with `-dirty` where files differ from it; empty where there is no git, or no repository."""
    git = shutil.which("git")
    if git is None:
        return ""
    commit = _git(git, folder, "rev-parse", "HEAD")
    return commit + ("-dirty" if commit and _git(git, folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(git: str, folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run([git, "-C", str(folder), *arguments], capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _modules(*declared: Any) -> list[str]:
    """The modules of learners, examples and all that is within them; not those of installed packages that are no product."""
    found = {one.__module__ if isinstance(one, type | FunctionType) else type(one).__module__ for one in _within(declared)}
    return sorted(module for module in found if _is_own(_package(module)))


def _within(one: Any) -> Iterator[Any]:
    """A value and its parts, and theirs."""
    yield one
    for part in parts_within(one).values():
        yield from _within(part)


def parts_within(one: Any) -> dict[str, Any]:
    """The parts of a value by their names: fields of dataclasses, parameters of estimators, items of sequences and mappings."""
    if isinstance(one, type | FunctionType):
        return {}
    if isinstance(one, Mapping):
        return {str(name): part for name, part in one.items()}
    if isinstance(one, list | tuple | set | frozenset):
        return {str(number): part for number, part in enumerate(one)}
    if is_dataclass(one):
        return {field.name: getattr(one, field.name) for field in fields(one) if field.init}
    return dict(one.get_params(deep=False)) if hasattr(one, "get_params") else {}


@cache
def _is_own(package: str) -> bool:
    """Whether a package is the platform or a product: what lies in a folder of its own, or was installed and needs the platform."""
    if package in {_PLATFORM, "__main__"}:
        return True
    spec = None if package in sys.stdlib_module_names else find_spec(package)
    if spec is None or spec.origin is None:
        return False
    paths = sysconfig.get_paths()
    if not any(Path(spec.origin).is_relative_to(paths[name]) for name in ("purelib", "platlib")):
        return True
    needed = (need for name in packages_distributions().get(package, ()) for need in requires(name) or ())
    return any(need.replace("-", "_").lower().startswith(_PLATFORM) for need in needed)


def _package(module: str) -> str:
    return module.partition(".")[0]

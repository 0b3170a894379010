"""The recipe and the code of a model in parts that people know by name, so that a change can be named: parameters, functions, modules.

They are kept next to each version in MLflow. Whether two models are the same is decided by the hashes of `model_identity`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from types import FunctionType
from typing import Any, Final

from lakehouse_assets.platform.declarations.closure import parts_of_module, text_of_modules
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.learning import Examples, Learner
from lakehouse_assets.platform.pipeline.model_identity import hashed, is_of_platform, modules_of, parts_within
from lakehouse_assets.platform.wording import listed

FILE: Final = "recipe.json"
"""The file of a run with its parts."""
_MOST_NAMED: Final = 6
_LONGEST: Final = 120
_NONE: Final = "none"
_CODE: Final = "code"
_SEVERAL: Final = (list, tuple, set, frozenset, Mapping)
_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class ModelParts:
    """What made a model besides its data.

    Attributes:
        recipe: Values by the names of parameters, as `learner.rounds`, and of what says which rows there are, as `examples.labels.at`.
        code: Hashes by what people call it: a function or class of a product, a feature set, a module of the platform.
    """

    recipe: Mapping[str, str]
    code: Mapping[str, str]

    @classmethod
    def of(cls, examples: Examples, learner: Learner) -> "ModelParts":
        """The parts of what is declared now."""
        recipe = dict([*_flat("learner", learner), *_flat("examples", examples)])
        recipe.pop(f"examples.{_CODE}", None)  # is code
        code = {f"feature set {name}": hashed(fingerprint) for name, fingerprint in _computed_by(examples).items()}
        for module, file in modules_of(examples, learner).items():
            if is_of_platform(module):
                code[f"module {module}"] = hashed(text_of_modules({module: file}))
            else:
                code |= {name: hashed(text) for name, text in parts_of_module(module, file).items()}
        return cls(recipe, code)

    @classmethod
    def from_json(cls, content: bytes) -> "ModelParts":
        """The parts as they were kept."""
        return cls(**json.loads(content))

    def to_json(self) -> bytes:
        """The parts as they are kept."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    def recipe_changes(self, now: "ModelParts") -> str:
        """The parameters that are others now, with both values; empty if none is."""
        names = [name for name in sorted({*self.recipe, *now.recipe}) if self.recipe.get(name) != now.recipe.get(name)]
        # A learner of another kind has other parameters altogether.
        if "learner" in names:
            names = [name for name in names if not name.startswith("learner.")]
        return listed(
            [f"{name} {_shown(self.recipe.get(name))} then, {_shown(now.recipe.get(name))} now" for name in names], _MOST_NAMED, "; "
        )

    def code_changes(self, now: "ModelParts") -> str:
        """The functions, feature sets and modules that are others now; empty if none is."""
        changed = [(name, _what_became(self.code.get(name), now.code.get(name))) for name in sorted({*self.code, *now.code})]
        # What a product says is what a person changed; a module of the platform is new with a release.
        named = sorted((name.startswith("module "), f"{name} {what}") for name, what in changed if what)
        return listed([text for _, text in named], _MOST_NAMED, "; ")


def _what_became(then: str | None, now: str | None) -> str:
    if then == now:
        return ""
    return "is new" if then is None else "is gone" if now is None else "changed"


def _flat(name: str, one: Any) -> Iterator[tuple[str, str]]:
    """The values within something by their paths."""
    parts = parts_within(one)
    if isinstance(one, _SEVERAL):
        if not any(parts_within(part) for part in parts.values()):
            yield name, _text(one)
            return
    else:
        yield name, _text(one)
    if isinstance(one, FeatureSet):
        return  # see `code`
    for part, value in parts.items():
        yield from _flat(f"{name}.{part}", value)


def _text(one: Any) -> str:
    """A value as it is written; what has parts by its kind alone."""
    if isinstance(one, type | FunctionType):
        return f"{one.__module__}.{one.__qualname__}"
    if isinstance(one, FeatureSet):
        return one.name
    if isinstance(one, Mapping):
        return f"{{{', '.join(f'{key!r}: {_text(value)}' for key, value in one.items())}}}"
    if isinstance(one, set | frozenset):
        return f"{{{', '.join(sorted(map(_text, one)))}}}"
    if isinstance(one, list | tuple):
        return f"({', '.join(map(_text, one))})"
    return type(one).__name__ if parts_within(one) else _ADDRESS.sub("", repr(one))


def _computed_by(examples: Examples) -> dict[str, str]:
    """The feature sets that the examples are made of, with what says which function and columns they have."""
    sets = getattr(examples, "features", ())
    if isinstance(sets, str):
        return {sets: str(getattr(examples, _CODE, ""))}
    return {one.name: one.fingerprint for one in sets if isinstance(one, FeatureSet)}


def _shown(value: str | None) -> str:
    if value is None:
        return _NONE
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…"

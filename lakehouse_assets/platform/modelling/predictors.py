"""How predictors are kept in a folder, and read back by their stable word: the one list of all that a stored model may be.

Nothing outside of this list is imported, and nothing that is stored is executed. The predictors themselves are in modules of their own.
"""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

from lakehouse_assets.platform.declarations.learning import Predictor

_ROOM: Final = "lakehouse_assets.platform.modelling"
PREDICTORS: Final[Mapping[str, str]] = {}
"""The class of each word, as `package.module:Class`. A word stays for ever; the class may move."""
_FILE: Final = "predictor.json"


def save_predictor(predictor: Predictor, folder: Path) -> None:
    """Write a predictor into a folder, which is made, so that `load_predictor` reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FILE).write_text(json.dumps({"predictor": predictor.word}) + "\n", encoding="utf-8")
    predictor.save(folder)


def load_predictor(folder: Path) -> Predictor:
    """Read what `save_predictor` wrote.

    Raises:
        FileNotFoundError: There is no predictor in the folder.
        LookupError: Its word is not known here: it was made by a newer release, or by somebody else.
    """
    word = json.loads((folder / _FILE).read_text(encoding="utf-8")).get("predictor")
    if word not in PREDICTORS:
        known = ", ".join(sorted(PREDICTORS))
        raise LookupError(f"the stored model is of the kind {word!r}, which this release does not know. Known: {known}")
    module, _, name = PREDICTORS[word].partition(":")
    kind: type[Predictor] = getattr(import_module(module), name)
    return kind.load(folder)

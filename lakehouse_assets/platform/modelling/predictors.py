"""How predictors are kept in a folder, and read back by their stable word: the one list of all that a stored model may be.

Nothing outside of this list is imported, and nothing that is stored is executed. The predictors themselves are in modules of their own.
"""

import json
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Final

from lakehouse_assets.platform.declarations.learning import Predictor

_ROOM: Final = "lakehouse_assets.platform.modelling"
PREDICTORS: Final[dict[str, str]] = {
    "blend": f"{_ROOM}.learners.blend:Blended",
    "boosting": f"{_ROOM}.learners.boosted:Boosted",
    "column": f"{_ROOM}.learners.baselines:ColumnPredictor",
    "constant": f"{_ROOM}.learners.baselines:Constant",
    "forecast": f"{_ROOM}.forecasting.model:ForecastModel",
    "forecast_column": f"{_ROOM}.forecasting.plain:PlainModel",
    "linear": f"{_ROOM}.learners.linear:LinearPredictor",
    "rule": f"{_ROOM}.learners.rule:Rule",
    "search": f"{_ROOM}.learners.searched:Searched",
    "segments": f"{_ROOM}.learners.segments:Segmented",
    "sklearn": f"{_ROOM}.learners.estimators:SklearnPredictor",
}
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
        LookupError: Its word is not known here: it was made by a newer release, or by somebody else; or the file with it is damaged.
    """
    return _kind(_word(folder / _FILE)).load(folder)


def kinds_of(folder: Path) -> list[type[Predictor]]:
    """The classes of a stored predictor and of those that it is made of.

    Raises:
        LookupError: See `load_predictor`.
    """
    return [_kind(word) for word in sorted({_word(file) for file in folder.rglob(_FILE)})]


def _word(file: Path) -> str:
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["predictor"])
    except (ValueError, TypeError, KeyError) as error:
        raise LookupError(f"the stored model is damaged: {file} does not say of which kind it is ({error!r})") from error


def _kind(word: str) -> type[Predictor]:
    if word not in PREDICTORS:
        known = ", ".join(sorted(PREDICTORS))
        raise LookupError(f"the stored model is of the kind {word!r}, which this release does not know. Known: {known}")
    module, _, name = PREDICTORS[word].partition(":")
    kind: type[Predictor] = getattr(import_module(module), name)
    return kind


def packages_of(predictors: Iterable[Predictor]) -> tuple[str, ...]:
    """The packages that several predictors need, each once."""
    return tuple(dict.fromkeys(package for predictor in predictors for package in predictor.packages))

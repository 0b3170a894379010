"""Trains a registered version again from what it was made of, and compares the bytes. Nothing is registered and no alias moves."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from deltalake.exceptions import DeltaError

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import MODEL, Predictor
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.modelling.predictors import save_predictor
from lakehouse_assets.platform.pipeline import model_parts
from lakehouse_assets.platform.pipeline.model_identity import code_of, environment_of, git_revision, recipe_of
from lakehouse_assets.platform.pipeline.model_parts import ModelParts
from lakehouse_assets.platform.pipeline.model_training import ModelTraining, digest_of
from lakehouse_assets.platform.registry import training_run
from lakehouse_assets.platform.registry.registry import ModelVersion, Registry
from lakehouse_assets.platform.storage.inventory import missing_files
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.wording import counted

_COMMIT: Final = "mlflow.source.git.commit"
_PYTHON: Final = "Python"
_UNKNOWN: Final = "unknown"
_HERE: Final = Local()


class NotReproducible(LookupError):
    """A version cannot be trained again. It says what is gone."""


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A version that was trained again.

    Attributes:
        model_name: Of the registered model.
        version: That was trained again.
        equal: Whether all files of the predictor have the same bytes.
        files: For each file `equal`, `differs`, `only stored` or `only trained now`.
        differences: What is another now than it was, as sentences: parameters of the recipe, functions, git revision, packages, Python,
            processor.
        tables: The versions that it was trained on.
    """

    model_name: str
    version: int
    equal: bool
    files: Mapping[str, str]
    differences: tuple[str, ...]
    tables: Mapping[str, int]


def reproduce(
    asset: ModelDeclaration, version: ModelVersion, lakehouse: Lakehouse, registry: Registry, compute: Compute = _HERE
) -> Reproduction:
    """Train a version again from the versions of its tables, its seed and the present code, and compare the bytes of the predictors.

    Args:
        asset: The model as it is declared now.
        version: Is trained again.
        lakehouse: Has its tables.
        registry: Has the version.
        compute: Where to train; the bytes do not depend on it.

    Raises:
        NotReproducible: It was registered by other means, a version of a table is gone, or a table is another one now.
    """
    tags = version.tags
    if training_run.DIGEST not in tags or training_run.SEED not in tags:
        raise NotReproducible(f"version {version.version} of {version.model_name} was registered by other means: what made it is not known")
    candidate = tags.get(training_run.CANDIDATE, MODEL)
    versions = _versions(asset, version, lakehouse)
    training = ModelTraining(asset, lakehouse, versions, int(tags[training_run.SEED]), compute, "", clock.now())
    _require_the_same_tables(version, training, registry.table_digests(version))
    if candidate not in training.learners:
        raise NotReproducible(
            f"version {version.version} of {version.model_name} is the baseline {candidate}, which {asset.name} lacks now"
        )
    predictor = training.candidates.fit(candidate)
    files = _compared(registry.model_folder(version), predictor)
    return Reproduction(
        model_name=version.model_name,
        version=version.version,
        equal=set(files.values()) == {"equal"},
        files=files,
        differences=tuple(_differences(asset, version, training, candidate, predictor, _parts(registry.run_folder(version)))),
        tables=version.tables,
    )


def _versions(asset: ModelDeclaration, version: ModelVersion, lakehouse: Lakehouse) -> dict[str, int]:
    """The versions of the tables that the model learns from, which can be read."""
    found, gone = {}, []
    for name in asset.sources():
        number = version.tables.get(name)
        if number is None:
            raise NotReproducible(
                f"version {version.version} of {version.model_name} was not trained on {name}, which the model learns from now: check out "
                f"the code that trained it (git revision {version.tags.get(_COMMIT) or 'unknown'})"
            )
        if why := _why_gone(lakehouse.table(name), number):
            gone.append(f"{name} at version {number} ({why})")
        found[name] = number
    if gone:
        raise NotReproducible(
            f"version {version.version} of {version.model_name} cannot be trained again, because these are gone: {'; '.join(gone)}"
        )
    return found


def _why_gone(table: Table, version: int) -> str:
    """Why a version of a table cannot be read; empty if it can."""
    try:
        missing = missing_files(table, version)
    except (DeltaError, OSError, LookupError) as error:
        return " ".join(str(error).split())[:120]
    return (
        f"{counted(len(missing), 'file')} of it {'is' if len(missing) == 1 else 'are'} deleted, the first {missing[0]}" if missing else ""
    )


def _require_the_same_tables(version: ModelVersion, training: ModelTraining, then: Mapping[str, str]) -> None:
    """A table that was dropped and made again has the same name and perhaps the same version, and other rows."""
    now = {name: digest_of(training.lakehouse.table(name), number) for name, number in training.versions.items()}
    other = [name for name, digest in now.items() if then.get(name, digest) != digest]
    if other:
        raise NotReproducible(
            f"version {version.version} of {version.model_name} cannot be trained again, because these tables are others now, dropped and "
            f"made again since: {', '.join(other)}"
        )


def _compared(stored: Path, predictor: Predictor) -> dict[str, str]:
    with TemporaryDirectory() as temporary:
        save_predictor(predictor, Path(temporary))
        before, now = _digests(stored), _digests(Path(temporary))
    return {name: _state(before.get(name), now.get(name)) for name in sorted({*before, *now})}


def _digests(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _state(before: str | None, now: str | None) -> str:
    if before is None or now is None:
        return "only trained now" if before is None else "only stored"
    return "equal" if before == now else "differs"


def _parts(run: Path) -> ModelParts | None:
    """What the version was made of; None if it was not kept."""
    file = run / model_parts.FILE
    return ModelParts.from_json(file.read_bytes()) if file.is_file() else None


def _differences(  # noqa: PLR0917
    asset: ModelDeclaration, version: ModelVersion, training: ModelTraining, candidate: str, predictor: Predictor, parts: ModelParts | None
) -> list[str]:
    tags, learner = version.tags, training.learners[candidate]
    present = ModelParts.of(asset.examples, learner)
    recipe, code = ("", "") if parts is None else (parts.recipe_changes(present), parts.code_changes(present))
    now: dict[str, tuple[str | None, str, str]] = {
        "The recipe": (tags.get(training_run.RECIPE), recipe_of(asset.examples, learner), recipe or code),
        "The code": (tags.get(training_run.CODE_VERSION), code_of(asset.examples, learner), code),
        "The git revision": (tags.get(_COMMIT, ""), git_revision(Path(asset.written_at[0]).parent), ""),
    }
    said = [
        f"{what} is another: {changes or f'{before or _UNKNOWN} then, {after or _UNKNOWN} now'}."
        for what, (before, after, changes) in now.items()
        if before != after
    ]
    then, here = (_packages(one) for one in (tags.get(training_run.ENVIRONMENT, ""), environment_of([predictor])))
    return said + [
        f"{then.get(name, f'no {name}')} then, {here.get(name, f'no {name}')} now."
        for name in sorted({*then, *here}, key=lambda name: (name != _PYTHON, name))
        if then.get(name) != here.get(name)
    ]


def _packages(environment: str) -> dict[str, str]:
    """The parts of an environment by name: the interpreter on its processor, and packages."""
    parts = [part.strip() for part in environment.split(",") if part.strip()]
    return {part.partition("==")[0] if "==" in part else _PYTHON: part for part in parts}

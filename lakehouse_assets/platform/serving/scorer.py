"""A version of a model that is ready to answer: loaded, tried on golden rows, warm, with its versions of the features.

Which version that is, and when another takes its place, is in `reload`.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.declarations.endpoints import Endpoint, Roles
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.learning import Predictor
from lakehouse_assets.platform.declarations.models import MODEL_VERSION, lacking_inputs
from lakehouse_assets.platform.features.online.forms import form_of
from lakehouse_assets.platform.pipeline.champions import Scorer
from lakehouse_assets.platform.quality.masking import MASK
from lakehouse_assets.platform.registry.model_package import golden_rows
from lakehouse_assets.platform.serving.assemble import Assembler
from lakehouse_assets.platform.serving.rows import AS_WRITTEN, Row
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion, meaning_of, version_to_read
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

Learnt = Mapping[str, FeatureVersion | None]
_CLOSE: Final = 1e-9
"""Share by which golden rows may differ from what was logged: on another machine, numbers are added up in another order."""


class NotTaken(Exception):
    """A version that cannot answer requests; the text says why, and what to do."""


@dataclass(frozen=True)
class Champion:
    """What the function of a prediction table is given as `champion`.

    Attributes:
        name: Of the registered model.
        version: Of it.
        model: The predictor.
        described: What its inputs mean, by their names.
    """

    name: str
    version: int
    model: Predictor
    described: Mapping[str, str]


@dataclass(frozen=True)
class Loaded:
    """A version that is ready to answer for an endpoint.

    Attributes:
        endpoint: The endpoint.
        champion: What its function is given.
        assembler: Makes frames with the versions of the features that it was trained on.
        learnt: By feature set, the version that it was trained on: it is given that one or one that means the same; None: not known.
    """

    endpoint: Endpoint
    champion: Champion
    assembler: Assembler
    learnt: Learnt

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that the model reads."""
        return self.champion.model.inputs

    def predict(self, frame: pl.DataFrame) -> list[Row | None]:
        """What the prediction table would say of each row; None for one that the function left out."""
        ((parameter, _),) = self.endpoint.predictions.inputs.items()
        found = self.endpoint.predictions(champion=self.champion, **{parameter: frame.lazy()}).collect(optimizations=AS_WRITTEN)
        rows = found.rows(named=True)
        if found.height == frame.height and all(found[name].equals(frame[name]) for name in self.key):
            return list(rows)
        by_key = {tuple(row[name] for name in self.key): row for row in rows}
        return [by_key.get(key) for key in frame.select(self.key).iter_rows()]

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The columns that tell predictions of one version apart."""
        return tuple(name for name in self.endpoint.predictions.identity if name != MODEL_VERSION)

    def contributions(self, frame: pl.DataFrame) -> list[list[Row]]:
        """What each row owes to its inputs, largest first; none where the model cannot tell."""
        found = self.champion.model.contributions(frame.select(self.inputs), len(self.inputs))
        rows: list[list[Row]] = [[] for _ in range(frame.height)]
        for number, name, value, contribution in found.select("row", "input", "value", "contribution").iter_rows():
            rows[number].append({"input": name, "value": MASK if name in self._personal else value, "contribution": contribution})
        return rows

    @cached_property
    def _personal(self) -> frozenset[str]:
        """The inputs that are personal data: of what was looked up, who asks need not know it."""
        prefixes = self.assembler.roles.prefixes
        return frozenset(prefixes.get(one.name, "") + name for one in self.assembler.roles.sets for name in one.personal)


def load(
    endpoint: Endpoint,
    roles: Roles,
    scorer: Scorer,
    lakehouse: Lakehouse,
    assembler: Callable[[Learnt], Assembler],
) -> Loaded:
    """Load a version and try it.

    Args:
        endpoint: Whose model it is.
        roles: Of the endpoint.
        scorer: The version.
        lakehouse: The tables of the feature sets.
        assembler: Makes the assembler for what was learnt of the feature sets.

    Raises:
        NotTaken: It cannot answer: it cannot be loaded, predicts something else of its golden rows than when it was logged, was trained
            on features that nobody computes any more, or the function of the prediction table fails.
    """
    where = f"version {scorer.version} of {scorer.name}"
    try:
        folder = scorer.folder()
        predictor = tried(scorer.model, folder, where)
    except (LookupError, OSError) as error:
        raise NotTaken(f"{where} cannot be loaded: {error}") from error
    if not endpoint.by_keys:
        columns = {name for one in roles.sets for name in roles.columns_of(one)}
        if lacking := lacking_inputs(scorer.name, scorer.version, predictor.inputs, columns):
            raise NotTaken(lacking)
    for one in roles.sets:
        check_version(scorer, one, lakehouse, computed=_is_computed(one, roles), where=where)
    learnt = {one.name: scorer.features.get(one.name) for one in roles.sets}
    loaded = Loaded(endpoint, Champion(scorer.name, scorer.version, predictor, scorer.described), assembler(learnt), learnt)
    if not endpoint.by_keys:  # what is asked by keys is predicted as a whole before it is taken
        _warm_up(loaded, roles, folder, where)
    return loaded


def tried(predictor: Predictor, folder: Path, where: str) -> Predictor:
    """The predictor in its fast form, once it predicts of its golden rows what it predicted when it was logged.

    Raises:
        NotTaken: It does not.
    """
    try:
        example, logged = golden_rows(folder)
    except OSError:
        return predictor.compiled()
    try:
        fast = predictor.compiled()
        found = predictor.predict(example)
        same = fast.predict(example).equals(found)
    except Exception as error:
        raise NotTaken(f"{where} fails on the rows that it was logged with: {error}") from error
    if not same:
        raise NotTaken(f"{where} says something else when it is compiled, which is a fault of its predictor")
    if logged is not None and (place := _difference(found, logged)):
        raise NotTaken(f"{where} predicts something else of its golden rows than when it was logged, in {place}: train it again here")
    return fast


def _difference(found: pl.DataFrame, logged: pl.DataFrame) -> str:
    if found.columns != logged.columns or found.height != logged.height:
        return f"the columns {', '.join(found.columns)}"
    for name in found.columns:
        now, then = found[name], logged[name]
        same = (
            np.allclose(now.to_numpy(), then.to_numpy(), rtol=_CLOSE, atol=1e-12, equal_nan=True)
            if now.dtype.is_float()
            else now.equals(then)
        )
        if not same:
            return f"column {name}"
    return ""


def _is_computed(feature: FeatureSet, roles: Roles) -> bool:
    """Whether its rows are worked out at the request by the code of now: from the event, or from recent events."""
    return feature in roles.computed or (roles.event is not None and form_of(feature).events == roles.event.name)


def check_version(scorer: Scorer, feature: FeatureSet, lakehouse: Lakehouse, *, computed: bool, where: str) -> None:
    """See that a feature set can be read as a model has learnt it. Which version that is, `feature_versions.version_to_read` says.

    Raises:
        NotTaken: There is none, or the code that would compute the features means something else.
    """
    table, learnt = lakehouse.table(feature.name), scorer.features.get(feature.name)
    if learnt is None or not table.exists():
        return
    if computed:
        meaning = meaning_of(table, feature.code)
        if meaning is None:
            raise NotTaken(f"the function of {feature.name} was changed, and no row was computed by it yet: `lakehouse run {feature.name}`")
        if meaning != learnt.meaning:
            raise NotTaken(f"{where} was trained on {feature.name} as other code computed it: train it again, or promote a newer version")
    elif version_to_read(table, learnt) is None:
        raise NotTaken(
            f"{where} was trained on a version of {feature.name} whose rows are gone: train it again, or promote a newer version"
        )


def _warm_up(loaded: Loaded, roles: Roles, folder: Path, where: str) -> None:
    """Run the function once on the golden rows, so that the first request finds everything compiled.

    Raises:
        NotTaken: It fails.
    """
    example = pl.DataFrame()
    with suppress(OSError):
        example = golden_rows(folder)[0]
    columns = {name: dtype for one in roles.sets for name, dtype in roles.columns_of(one).items()}
    rows = [
        {name: values.get(name) for name in (*roles.identity, *columns)}
        for values in (example.select(name for name in example.columns if name in columns).rows(named=True) or [{}])
    ]
    try:
        frame = loaded.assembler.assemble("features", rows).frame
        if loaded.inputs and not example.is_empty():
            loaded.predict(frame)
    except Exception as error:
        raise NotTaken(f"the function of {loaded.endpoint.predictions.name} fails with {where}: {error}") from error

"""Who is champion of a model, by its ledger, and the champion ready to score. How one becomes champion is in `model_step`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from lakehouse_assets.platform.declarations.learning import Predictor
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.modelling.predictors import load_predictor
from lakehouse_assets.platform.registry.decisions import ModelDecisions, create_ledger
from lakehouse_assets.platform.registry.ledger import last_decision
from lakehouse_assets.platform.registry.registry import Aliases, ModelVersion, Registry
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


@dataclass(frozen=True)
class Scorer:
    """A champion that is ready to score.

    Attributes:
        name: Of the registered model.
        version: Of the champion.
        folder: Gives the folder that the predictor was saved in.
        features: The versions of the feature sets that it was trained on, by name.
        described: What its inputs mean, by their names: see `Examples.described`.
    """

    name: str
    version: int
    folder: Callable[[], Path]
    features: Mapping[str, FeatureVersion] = field(default_factory=dict)
    described: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def model(self) -> Predictor:
        """The predictor; read on first use.

        Raises:
            LookupError: The version holds no predictor that this release knows, as one that was registered by other means.
        """
        try:
            return load_predictor(self.folder())
        except OSError as error:
            raise LookupError(
                f"version {self.version} of {self.name} holds no model that can be loaded here ({error}). "
                "`lakehouse models` lists the versions: promote one that was trained here"
            ) from error


def scorer_of(registry: Registry, model: ModelDeclaration, number: int) -> Scorer:
    """A version of a model, whether it is champion or not.

    Raises:
        NoSuchModelVersion: MLflow does not have it.
    """
    return _scorer(registry, registry.version(model.name, number), model)


def _scorer(registry: Registry, version: ModelVersion, model: ModelDeclaration) -> Scorer:
    folder = partial(registry.model_folder, version)
    return Scorer(version.model_name, version.version, folder, version.features, model.examples.described())


def sync_aliases(lakehouse: Lakehouse, asset: ModelDeclaration, registry: Callable[[], Registry], run_id: str) -> ModelDecisions | None:
    """The decisions about a model, after a champion alias that was set by hand in MLflow became one of them: see `ModelDecisions.sync`.

    None if nothing was decided about the model yet; MLflow is opened only if something was.
    """
    ledger = lakehouse.table(asset.name)
    if not ledger.exists() or not ledger.count():
        return None
    create_ledger(ledger)
    decisions = ModelDecisions(ledger, asset.name, registry(), run_id)
    decisions.sync()
    return decisions


def champion_by_ledger(lakehouse: Lakehouse, asset: ModelDeclaration) -> int | None:
    """The version that is champion by the ledger; MLflow is not asked."""
    ledger = lakehouse.table(asset.name)
    last = last_decision(ledger.scan()) if ledger.exists() else None
    return None if last is None else last["champion"]


def aliases_by_ledger(lakehouse: Lakehouse, asset: ModelDeclaration) -> Aliases:
    """Champion, previous champion and challenger by the ledger; MLflow is not asked."""
    ledger = lakehouse.table(asset.name)
    last = last_decision(ledger.scan()) if ledger.exists() else None
    if last is None:
        return Aliases()
    return Aliases(champion=last["champion"], previous=last["previous"], challenger=last["challenger"])


def champion_of(lakehouse: Lakehouse, registry: Callable[[], Registry], run_id: str = "") -> Callable[[ModelDeclaration], Scorer | None]:
    """How tables get their champions: by the ledger, once it knows an alias that was set by hand in MLflow.

    A model that was never trained gets an empty ledger: what its champion predicts has the ledger among its sources.
    """

    def champion(model: ModelDeclaration) -> Scorer | None:
        create_ledger(lakehouse.table(model.name))
        decisions = sync_aliases(lakehouse, model, registry, run_id)
        version = None if decisions is None else decisions.champion()
        if decisions is None or version is None:
            return None
        return _scorer(decisions.registry, version, model)

    return champion

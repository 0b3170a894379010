"""The monitors of a prediction table: whether its model has a champion, and whether the features still mean what that learnt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lakehouse_assets.platform.declarations.monitors import MonitorKind, Verdict, Watched
from lakehouse_assets.platform.registry.ledger import features_of_version, last_decision
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion, version_to_read
from lakehouse_assets.platform.storage.table import Table


@dataclass(frozen=True)
class HasChampion(MonitorKind):
    """The model of a prediction table has a champion.

    Attributes:
        model: Its name.
    """

    model: str

    word: ClassVar[str] = "has_champion"
    reads_table: ClassVar[bool] = False

    @property
    def demands(self) -> str:
        """See `MonitorKind.demands`."""
        return f"The model {self.model} has a champion, which scores. Without one the table gets no rows."

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        return [has_champion(self.model, watched.lakehouse.table(self.model))]


@dataclass(frozen=True)
class FeaturesOfChampion(MonitorKind):
    """The feature sets of a prediction table mean what they did when the champion of its model was trained.

    Attributes:
        model: Its name.
        features: The tables that the predictions are computed from.
    """

    model: str
    features: tuple[str, ...]

    word: ClassVar[str] = "features_of_champion"
    reads_table: ClassVar[bool] = False

    @property
    def demands(self) -> str:
        """See `MonitorKind.demands`."""
        return "The features mean what they did when the champion was trained."

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        tables = [watched.lakehouse.table(name) for name in self.features]
        return [features_of_champion(watched.lakehouse.table(self.model), tables)]


def has_champion(model: str, ledger: Table) -> Verdict:
    """Whether a model has a champion by its ledger, and what to do if not."""
    last = last_decision(ledger.scan()) if ledger.exists() else None
    if last is None:
        return Verdict(passed=False, text=f"Model {model} was never trained, so nothing is predicted: `lakehouse train {model}` trains it.")
    if last["champion"] is not None:
        return Verdict(passed=True, text=f"Version {last['champion']} of {model} is champion.", numbers={"champion": str(last["champion"])})
    return Verdict(
        passed=False,
        text=f"Model {model} has no champion, so nothing is predicted. The last decision was about version {last['version']}: "
        f"{last['decision']}, and `lakehouse models show {model}` says why. "
        f"Train again (`lakehouse train {model} --force`), or promote a version by hand: `lakehouse models promote {model} "
        f"{last['version']} --reason TEXT`.",
    )


def features_of_champion(ledger: Table, features: Sequence[Table]) -> Verdict:
    """Whether feature sets mean what they did when the champion of a ledger's model was trained, and what to do if not."""
    last = last_decision(ledger.scan()) if ledger.exists() else None
    champion = None if last is None else last["champion"]
    learnt = features_of_version(ledger.scan(), champion) if champion is not None else {}
    for table in features:
        was, newest = learnt.get(table.name), FeatureVersion.of(table)
        if was is None or newest is None or was.means(newest):
            continue
        left = (
            f"So it predicts from version {read.number}, which gets no new rows: predictions stand still."
            if (read := version_to_read(table, was)) is not None
            else f"Version {was.number} is gone, or lacks a column, so nothing is predicted."
        )
        return Verdict(
            passed=False,
            text=f"The champion of {ledger.name}, version {champion}, was trained on version {was.number} of {table.name}; its function "
            f"was changed, and version {newest.number} has other values. {left} Let a model learn from the new values (`lakehouse train "
            f"{ledger.name}`); if the gate does not let it through, promote it by hand (`lakehouse models promote {ledger.name} VERSION "
            "--reason TEXT`) or take the change of the function back",
            numbers={"champion": str(champion), "feature_set": table.name, "trained_on": str(was.number), "newest": str(newest.number)},
        )
    if champion is None:
        return Verdict(passed=None, text="Not evaluated: the model has no champion.")
    return Verdict(passed=True, text="The features mean what they did when the champion was trained.")

"""Decisions by a named person about a version that passed the gate: approve it, or reject it.

What was approved is what was tested: the bytes of the predictor are compared with those that the gate judged. The ledger keeps who decided.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.learning import MODEL
from lakehouse_assets.platform.registry.decisions import ChampionChange, ModelDecisions
from lakehouse_assets.platform.registry.ledger import Verdict, champion_candidate
from lakehouse_assets.platform.registry.model_package import digest_of
from lakehouse_assets.platform.registry.training_run import TRAINED_BY


class NotApproved(ValueError):
    """A version cannot be approved. It says why, and what to do."""


@dataclass(frozen=True)
class Approvals:
    """Approvals of the versions of one model."""

    decisions: ModelDecisions

    def approve(self, version: int, by: str, reason: str) -> ChampionChange:
        """Make a version champion that passed the gate and waits for an approval.

        Args:
            version: Of the model.
            by: The person who approves; not the one who trained it.
            reason: Is kept in the ledger; may be empty.

        Raises:
            NotApproved: It does not wait for one, another model became champion since it was judged, its files are not those that were
                judged, or the person trained it.
            NoSuchModelVersion: MLflow does not have the version.
        """
        who = _person(by)
        while True:
            state = self.decisions.sync()
            registered = self.decisions.registry.version(self.decisions.model_name, version)
            waiting = self._waiting(version)
            self._require_compared(state.aliases.champion, version, waiting)
            trained_by = registered.tags.get(TRAINED_BY, "")
            if trained_by and trained_by.casefold() == who.casefold():
                raise NotApproved(f"{who} trained version {version} of {self.decisions.model_name}: another person has to approve it")
            digest = digest_of(self.decisions.registry.model_folder(registered))
            if digest != waiting["digest"]:
                raise NotApproved(
                    f"the files of version {version} of {self.decisions.model_name} are not those that the gate judged (digest {digest}, "
                    f"judged {waiting['digest']}): train it again with `lakehouse train --force`"
                )
            said = f"Approved by {who}: the predictor with the digest {digest}." + (f" {reason.strip()}" if reason.strip() else "")
            verdict = Verdict(decision="approved", reasons=[said], question=waiting["question"], numbers=waiting["numbers"], decided_by=who)
            before = state.aliases.champion
            if self.decisions.record(state, verdict, version, aliases=state.aliases.promote(version)):
                return ChampionChange(model_name=self.decisions.model_name, champion=version, champion_before=before)

    def reject(self, version: int, by: str, reason: str) -> None:
        """Write down that a version is not to become champion; it is no challenger any more.

        Raises:
            NotApproved: There is no reason, or it is the champion.
            NoSuchModelVersion: MLflow does not have the version.
        """
        who = _person(by)
        if not reason.strip():
            raise NotApproved(f"say why version {version} of {self.decisions.model_name} is rejected: the ledger keeps the reason")
        self.decisions.registry.version(self.decisions.model_name, version)
        while True:
            state = self.decisions.sync()
            if state.aliases.champion == version:
                name = self.decisions.model_name
                how = (
                    f"`lakehouse models promote {name} VERSION --reason TEXT` puts another in its place"
                    if state.aliases.previous is None
                    else f"`lakehouse models rollback {name}` takes it back"
                )
                raise NotApproved(f"version {version} of {name} is champion: {how}")
            verdict = Verdict(decision="rejected", reasons=[f"Rejected by {who}: {reason.strip()}"], decided_by=who)
            if self.decisions.record(state, verdict, version, aliases=state.aliases.without(version)):
                return

    def _require_compared(self, champion: int | None, version: int, waiting: Mapping[str, Any]) -> None:
        """A version takes the place of the champion that it was compared with, of a baseline, or of none."""
        if champion in {None, waiting["champion"]} or champion_candidate(self.decisions.ledger.scan(), champion) not in {None, MODEL}:
            return
        before = "no champion" if waiting["champion"] is None else f"version {waiting['champion']}"
        raise NotApproved(
            f"version {version} of {self.decisions.model_name} was judged against {before}, and version {champion} is champion now: train "
            f"again with `lakehouse train {self.decisions.model_name} --force`, so that it is compared with that"
        )

    def _waiting(self, version: int) -> Mapping[str, Any]:
        """The decision that says that a version waits for an approval.

        Raises:
            NotApproved: The last decision about it says something else.
        """
        of_version = self.decisions.ledger.scan().filter(pl.col("version") == version)
        last = of_version.sort("sequence").tail(1).collect().to_dicts()
        if not last or last[0]["decision"] != "awaits approval":
            said = f"it was {last[0]['decision']}" if last else "nothing was decided about it"
            raise NotApproved(
                f"version {version} of {self.decisions.model_name} does not wait for an approval: {said}. `lakehouse models promote "
                f"{self.decisions.model_name} {version} --reason TEXT` makes it champion by hand"
            )
        return last[0]


def _person(by: str) -> str:
    if not by.strip():
        raise NotApproved("say who decides, with --by NAME: the ledger keeps the name")
    return by.strip()

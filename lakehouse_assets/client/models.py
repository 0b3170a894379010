"""Models: their versions, and decisions by hand about who is champion."""

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from lakehouse_assets.client.context import Context

if TYPE_CHECKING:
    from lakehouse_assets.client.accuracy import By, LiveAccuracyOf
    from lakehouse_assets.platform.pipeline.model_step import ModelStep

_BY_HAND = "by hand"
_READ = "models"
Values = list[dict[str, Any]]


@dataclass(frozen=True)
class Models:
    """The declared models of a root. Imports MLflow."""

    context: Context

    def list(self) -> Values:
        """Every registered version, and its page while `lakehouse dev` runs.

        Each has aliases, scores, the metric that decides, and the tables that it was trained on.

        Raises:
            LookupError: MLflow has nothing of a model that has a champion.
        """
        from lakehouse_assets.platform.pipeline.champions import champion_by_ledger
        from lakehouse_assets.platform.registry.registry import NoSuchModelVersion, nothing_known

        self.context.sync_champions()
        for model in self.context.models:
            champion = champion_by_ledger(self.context.root.lakehouse, model)
            if champion is not None and not self.context.root.registry().versions(model.name):
                raise NoSuchModelVersion(nothing_known(model.name, champion))
        return [version for model in self.context.models for version in self._versions_of(model)]

    def _versions_of(self, model: Any) -> Values:
        from lakehouse_assets.platform.registry.model_card import model_page

        server = f"http://{self.context.settings.host}:{self.context.settings.mlflow_port}"
        registry = self.context.root.registry()
        return [
            {
                "model": version.model_name,
                "version": version.version,
                "candidate": version.tags.get("candidate"),
                "aliases": [*version.aliases],
                "created_at": version.created_at,
                "metric": model.metric.name,
                "metrics": registry.metrics(version),
                "tables": version.tables,
                "run_id": version.run_id,
                "page": server + model_page(version.model_name, version.version),
            }
            for version in registry.versions(model.name)
        ]

    def show(self, model: str) -> dict[str, Any]:
        """A model by its ledger: `model`, `champion`, `decisions`, the newest first, and `versions` as `list` has them.

        Raises:
            LookupError: No product declares the model.
        """
        self.context.sync_champions()
        declared = self.context.model(model)
        name = declared.name
        exists, scan = self.context.root.lakehouse.table(name).exists(), self.context.reader.scan
        decisions = scan(name, what=_READ).sort("sequence", descending=True).collect().to_dicts() if exists else []
        for decision in decisions:
            decision["reasons"] = decision["reasons"].split("\n")
            decision["training_tables"] = json.loads(decision["training_tables"] or "{}")
        champion = decisions[0]["champion"] if decisions else None
        return {"model": name, "champion": champion, "decisions": decisions, "versions": self._versions_of(declared)}

    def retraining(self) -> Values:
        """For each model whether a training would start now for a reason, why or why not, and what was asked for last.

        A model without `retrain=` has `declared` None, and is trained by people and the weekly schedule alone.
        """
        return [self._retraining(model) for model in self.context.models]

    def _retraining(self, model: Any) -> dict[str, Any]:
        from lakehouse_assets.client.execution import standing_of

        if model.retrain is None:
            nothing: dict[str, Any] = {"starts": False, "why_not": "", "reasons": [], "unheeded": [], "last": None, "trained_at": None}
            return {"model": model.name, "declared": None, **nothing}
        with self.context.reader.opened(f"retraining of {model.name}") as lakehouse:
            standing = replace(standing_of(self.context, model), lakehouse=lakehouse)
            decision, requests = standing.decision, standing.history.requests
            return {
                "model": model.name,
                "declared": asdict(model.retrain),
                "starts": decision.starts,
                "why_not": decision.why_not,
                "reasons": [asdict(one) for one in standing.reasons],
                "unheeded": standing.unheeded,
                "last": asdict(requests[-1]) if requests else None,
                "trained_at": standing.trained_at,
            }

    def accuracy(
        self, model: str, *, every: str | None = None, by_slice: str | None = None, by: "By | None" = None, metric: str | None = None
    ) -> "LiveAccuracyOf":
        """How good the predictions of a model were, by window, as their outcomes became known: `rows`, and `plot()`.

        Args:
            model: Its name, or the last words of it.
            every: How long windows are: `1d`, `1w` or `1mo`; None: weeks, or else what there is.
            by_slice: A column: each of its values by itself.
            by: `horizon`: each range of days ahead by itself, of a forecast.
            metric: One of the model's; None: the one by which the gate decides.

        Raises:
            LookupError: No product declares the model, or nothing is known of it in this way.
        """
        from lakehouse_assets.client.accuracy import accuracy

        return accuracy(self.context, self.context.model(model), every=every, by_slice=by_slice, by=by, metric=metric)

    def card(self, model: str, version: int) -> str:
        """The card of a version as Markdown: what it was trained on, by whom, how good it is; empty where MLflow does not know it.

        Raises:
            LookupError: No product declares the model.
        """
        return self.context.root.registry().card(self.context.model(model).name, version)

    def rollback(self, model: str) -> Any:
        """Make the previous champion the champion again; the change, with `champion` and `champion_before`.

        The ledger keeps the user of this process as who decided.

        Raises:
            LookupError: No product declares the model, or it has no previous champion.
        """
        return self._step(model).rollback(self.context.reader.principal.name)

    def promote(self, model: str, version: int, reason: str) -> Any:
        """Make a version the champion by hand; the change, with `champion` and `champion_before`.

        The ledger keeps the reason, and the user of this process as who decided.

        Raises:
            LookupError: No product declares the model, or it has no such version.
        """
        step: Any = self._step(model)
        return step.promote(version, reason, self.context.reader.principal.name)

    def approve(self, model: str, version: int, by: str, reason: str = "") -> Any:
        """Make a version champion that passed the gate and waits for the approval of a person; the change, as that of `promote`.

        Args:
            model: Its name, or the last words of it.
            version: That waits.
            by: The person who approves, who is not the one that trained it.
            reason: Is kept in the ledger.

        Raises:
            LookupError: No product declares the model, or it has no such version.
            ValueError: The version does not wait, its files are not those that were judged, or the person trained it.
        """
        return self._step(model).approve(version, by, reason)

    def reject(self, model: str, version: int, by: str, reason: str) -> None:
        """Write down that a version is not to become champion.

        Raises:
            LookupError: No product declares the model, or it has no such version.
            ValueError: It is the champion, or there is no reason.
        """
        self._step(model).reject(version, by, reason)

    def compare(self, model: str, one: int, other: int) -> dict[str, Any]:
        """Two versions of a model on the rows that both were tested on: `metric`, `folds` with both scores, `gain`, `chance`, `text`.

        Raises:
            LookupError: No product declares the model, or it has no such version.
            ValueError: One of them was not tested, or they share no row.
        """
        from lakehouse_assets.platform.pipeline.comparing import compare_versions

        context = self.context
        return compare_versions(context.model(model), context.root.registry(), one, other)

    def reproduce(self, model: str) -> Any:
        """Train a version again from what it was made of, and compare the bytes: see `platform.pipeline.reproduction.Reproduction`.

        Args:
            model: `MODEL`, `MODEL@ALIAS` or `MODEL/VERSION`; without a version the champion.

        Raises:
            LookupError: There is no such model or version, or what it was made of is gone.
        """
        from lakehouse_assets.platform.pipeline.reproduction import reproduce

        name, number = self._version(model)
        context, registry = self.context, self.context.root.registry()
        asset = context.model(name)
        return reproduce(asset, registry.version(asset.name, number), context.root.lakehouse, registry, context.root.compute)

    def _version(self, model: str) -> tuple[str, int]:
        """The model and the number of what `MODEL@ALIAS` or `MODEL/VERSION` says."""
        name, slash, number = model.partition("/")
        if slash:
            if not number.isdigit():
                raise LookupError(f"{model!r}: a version is a number, as in {name}/3")
            return name, int(number)
        name, at, alias = model.partition("@")
        alias = alias if at else "champion"
        self.context.sync_champions()
        aliases = self.context.root.registry().aliases(self.context.model(name).name).by_name
        if alias not in aliases:
            raise LookupError(f"{model!r}: an alias is one of {', '.join(aliases)}, as in {name}@champion; or write {name}/VERSION")
        if (found := aliases[alias]) is None:
            raise LookupError(f"{name} has no {alias}: `lakehouse models` lists its versions; write {name}/VERSION")
        return name, found

    def _step(self, name: str) -> "ModelStep":
        from lakehouse_assets.platform.pipeline.model_step import ModelStep

        context = self.context
        root = context.root
        return ModelStep(context.model(name), root.lakehouse, root.registry(), context.settings.seed, _BY_HAND, root.compute)

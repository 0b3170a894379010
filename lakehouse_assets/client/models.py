"""Models: their versions, and decisions by hand about who is champion."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse_assets.client.context import Context

if TYPE_CHECKING:
    from lakehouse_assets.platform.pipeline.model_step import ModelStep

_BY_HAND = "by hand"
Values = list[dict[str, Any]]


@dataclass(frozen=True)
class Models:
    """The declared models of a root. Imports MLflow."""

    context: Context

    def list(self) -> Values:
        """Every registered version with its aliases, scores, the tables that it was trained on, and its page while `lakehouse dev` runs."""
        from lakehouse_assets.platform.registry.model_card import model_page

        self.context.sync_champions()
        server = f"http://{self.context.settings.host}:{self.context.settings.mlflow_port}"
        registry = self.context.root.registry()
        return [
            {
                "model": version.model_name,
                "version": version.version,
                "aliases": [*version.aliases],
                "created_at": version.created_at,
                "metrics": registry.metrics(version),
                "tables": version.tables,
                "run_id": version.run_id,
                "page": server + model_page(version.model_name, version.version),
            }
            for model in self.context.models
            for version in registry.versions(model.name)
        ]

    def show(self, model: str) -> dict[str, Any]:
        """The decisions about a model by its ledger, the newest first: `model`, `champion`, `decisions`.

        Raises:
            LookupError: No product declares the model.
        """
        self.context.sync_champions()
        name = self.context.model(model).name
        ledger = self.context.root.lakehouse.table(name)
        decisions = ledger.scan().sort("sequence", descending=True).collect().to_dicts() if ledger.exists() else []
        for decision in decisions:
            decision["reasons"] = decision["reasons"].split("\n")
            decision["training_tables"] = json.loads(decision["training_tables"] or "{}")
        return {"model": name, "champion": decisions[0]["champion"] if decisions else None, "decisions": decisions}

    def rollback(self, model: str) -> Any:
        """Make the previous champion the champion again; the change, with `champion` and `champion_before`.

        Raises:
            LookupError: No product declares the model, or it has no previous champion.
        """
        return self._step(model).rollback()

    def promote(self, model: str, version: int, reason: str) -> Any:
        """Make a version the champion by hand; the change, with `champion` and `champion_before`.

        Raises:
            LookupError: No product declares the model, or it has no such version.
        """
        step: Any = self._step(model)
        return step.promote(version, reason)

    def _step(self, name: str) -> "ModelStep":
        from lakehouse_assets.platform.pipeline.model_step import ModelStep

        context = self.context
        return ModelStep(context.model(name), context.root.lakehouse, context.root.registry(), context.settings.seed, _BY_HAND)

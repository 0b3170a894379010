"""What the code location has, so that alerts about what exists no more are over: certain cases alone, and all others stay open.

A product that is left out as broken may still have what is missed; so while there is one, only the alert about a product that is loaded
again is over. Feeds, jobs and whole products are gone for certain only where all packages are loaded that the root was ever run with.
What was said after the code was loaded stays too: other processes may have newer code.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import dagster as dg

from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.check_names import GATE_CHECK
from lakehouse_assets.platform.monitoring.kinds.implied import all_monitors

BROKEN: Final = "broken"
"""The last word of the asset that stands in for a product that cannot be used."""
SELECTION: Final = "a selection"
"""What a run of no job is called in the key of its alert."""
_OF_PRODUCTS: Final = frozenset({"step", "check", "freshness", "quarantine", "monitor", "evaluation", "gate"})


@dataclass(frozen=True)
class Existing:
    """What there was when the code was loaded.

    Attributes:
        loaded_at: When that was (UTC).
        assets: The names of all assets, with the stand-ins of broken products.
        refreshed: Those that have a freshness policy.
        checks: As `TABLE:CHECK`.
        steps: The steps of all jobs, with dots for two underscores.
        monitors: The names of all monitors.
        feeds: The names of all feeds.
        jobs: The names of all jobs.
        gates: The checks of the gates of models, as `MODEL:gate`.
        is_whole: Whether all packages of products are loaded that this root was ever run with; where that is not known, they are not. Only
            then is it certain that what no product has is gone.
    """

    loaded_at: datetime
    assets: frozenset[str]
    refreshed: frozenset[str]
    checks: frozenset[str]
    steps: frozenset[str]
    monitors: frozenset[str]
    feeds: frozenset[str] = frozenset()
    jobs: frozenset[str] = frozenset()
    gates: frozenset[str] = frozenset()
    is_whole: bool = False

    @classmethod
    def of(cls, repository: dg.RepositoryDefinition, catalog: Catalog, loaded_at: datetime) -> "Existing":
        """What a code location has.

        Args:
            repository: All that Dagster has loaded.
            catalog: The declarations.
            loaded_at: When they were loaded (UTC).
        """
        graph = repository.asset_graph
        names = {key: ".".join(key.path) for key in graph.get_all_asset_keys()}
        return cls(
            loaded_at,
            frozenset(names.values()),
            frozenset(name for key, name in names.items() if graph.get(key).freshness_policy is not None),
            frozenset(f"{'.'.join(check.asset_key.path)}:{check.name}" for check in graph.asset_check_keys),
            frozenset(node.replace("__", ".") for job in repository.get_all_jobs() for node in job.graph.node_dict),
            frozenset(monitor.name for monitor in all_monitors(catalog.declarations)),
            frozenset(feed.feed.name for feed in catalog.feeds),
            frozenset(job.name for job in repository.get_all_jobs()),
            frozenset(f"{model.name}:{GATE_CHECK}" for model in catalog.models),
        )

    def why_gone(self, key: str, at: datetime) -> str:
        """Why what a signal or an alert is about exists no more, a sentence; empty where it exists or that is not certain.

        Args:
            key: Of what is watched, as `step:sales.silver.payments`.
            at: When it was said (UTC).
        """
        kind, _, rest = key.partition(":")
        if kind == "check" and rest in self.gates:  # as earlier releases told it
            return "That the gate refuses a version is a normal answer of it, and no alert any more."
        name = rest.partition(":")[0]
        product = name.partition(".")[0]
        broken = {asset.partition(".")[0] for asset in self._stand_ins}
        if at >= self.loaded_at or product in broken:
            return ""
        if kind == "step" and name == f"{product}.{BROKEN}" and product in self._products:
            return "" if name in self.steps else f"Product {product} is loaded again."
        if broken:
            return ""
        is_known = kind in _OF_PRODUCTS and product in self._products
        return self._of_a_product(product, kind, rest) if is_known else self._of_no_product(kind, name)

    def _of_a_product(self, product: str, kind: str, rest: str) -> str:
        """Why something of a product that is loaded is gone."""
        name = rest.partition(":")[0]
        table = name.removesuffix(QUARANTINE_SUFFIX)
        is_there: Mapping[str, Callable[[], bool]] = {
            "step": lambda: _is_of(name, self.steps),
            "check": lambda: rest in self.checks,
            "freshness": lambda: name in self.refreshed,
            "quarantine": lambda: table in self.assets,
            "monitor": lambda: name in self.monitors,
            "evaluation": lambda: name in self.monitors,
            "gate": lambda: name in self.assets,
        }
        return "" if is_there[kind]() else f"It is over, as product {product} has it no more."

    def _of_no_product(self, kind: str, name: str) -> str:
        """Why a feed or a job is gone, whose names do not say which product has them, or a product as a whole."""
        if not self.is_whole:
            return ""
        if kind == "files":
            return "" if name in self.feeds else f"Feed {name} is not declared any more."
        if kind == "run":
            return "" if name in self.jobs or name == SELECTION else f"There is no job {name} any more."
        is_certain = kind in _OF_PRODUCTS and "." in name
        return f"It is over, as there is no product {name.partition('.')[0]} any more." if is_certain else ""

    @property
    def _products(self) -> set[str]:
        return {asset.partition(".")[0] for asset in self.assets}

    @property
    def _stand_ins(self) -> list[str]:
        return [name for name in self.assets if name.count(".") == 1 and name.endswith(f".{BROKEN}")]


def _is_of(step: str, nodes: Iterable[str]) -> bool:
    """Whether a step is of one of these nodes: itself, one within it, or one of several that it becomes."""
    return any(step == node or step.startswith((f"{node}.", f"{node}[")) for node in nodes)

"""The online store as a service uses it: what its endpoints look up, in which versions, and the sync that follows the tables."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.features.online.forms import Needs
from lakehouse_assets.platform.features.online.lookup import OnlineFeatures
from lakehouse_assets.platform.features.online.opening import online_store
from lakehouse_assets.platform.features.online.readers import ServedSet
from lakehouse_assets.platform.features.online.sync import sync
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.online import learnt_in_use
from lakehouse_assets.platform.quality.contract import key_columns, schema_of
from lakehouse_assets.platform.serving.assemble import Lookups
from lakehouse_assets.platform.serving.scorer import Learnt
from lakehouse_assets.platform.serving.served import Served
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion


class StoreOnline:
    """The online store of a root, for one service.

    Args:
        root: The lakehouse.
        declared: All declarations by name.
    """

    def __init__(self, root: Root, declared: Mapping[str, Declaration]) -> None:
        self._root, self._declared = root, declared
        self._store = online_store(root.settings)
        self._sets: dict[str, FeatureSet] = {}
        self._events: dict[str, set[str]] = {}
        self._learnt: dict[str, set[FeatureVersion]] = {}
        self._models = [one for one in declared.values() if isinstance(one, ModelDeclaration)]
        self._in_use: dict[str, tuple[int, Mapping[str, frozenset[FeatureVersion]]]] = {}
        self._synced: dict[str, datetime | None] = {}

    def lookups(self, served: Served, learnt: Learnt) -> Lookups | None:
        """Where the features of an endpoint are looked up, as a version has learnt them; None if none are."""
        roles = served.roles
        if not roles.looked_up or roles.event is None:
            return None
        for one in roles.looked_up:
            self._sets[one.name] = one
            self._events.setdefault(one.name, set()).add(roles.event.name)
            if (version := learnt.get(one.name)) is not None:
                self._learnt.setdefault(one.name, set()).add(version)
        sets = [ServedSet(one, learnt.get(one.name), roles.prefixes.get(one.name, "")) for one in roles.looked_up]
        return OnlineFeatures(self._store, sets, roles.event.name, schema=schema_of(roles.event.contract))

    def sync(self) -> None:
        """Bring the store up to date with the feature tables, each by itself: one that fails does not hold the others up.

        Raises:
            Exception: The first that a feature set failed of.
        """
        failures: list[Exception] = []
        in_use = self._learnt_in_use()
        for name, feature in tuple(self._sets.items()):
            events = self._events[name]
            needs = Needs(
                self._key_of,
                next(iter(events)) if len(events) == 1 else None,
                self._learnt.get(name, set()) | in_use.get(name, frozenset()),
                timedelta(hours=self._root.settings.online_hours),
            )
            try:
                done = sync(self._store, self._root.lakehouse, feature, needs)
            except Exception as error:  # noqa: BLE001 it is raised at the end
                failures.append(error)
                continue
            if done and done[0].synced_at is not None:
                self._synced[name] = done[0].synced_at
        if failures:
            raise failures[0]

    def synced(self) -> dict[str, datetime | None]:
        """By feature set, until when the store knows its table, as far as this process has brought it there."""
        return {name: self._synced.get(name) for name in self._sets}

    def _learnt_in_use(self) -> dict[str, frozenset[FeatureVersion]]:
        """By feature set, what models in use have learnt of it: a version that is promoted finds its features in the store."""
        found: dict[str, frozenset[FeatureVersion]] = {}
        for model in self._models:
            ledger = self._root.lakehouse.table(model.name)
            decided = ledger.version() if ledger.exists() else -1
            if self._in_use.get(model.name, (None, {}))[0] != decided:
                self._in_use[model.name] = (decided, learnt_in_use(self._root.lakehouse, model))
            for name, learnt in self._in_use[model.name][1].items():
                found[name] = found.get(name, frozenset()) | learnt
        return found

    def _key_of(self, table: str) -> tuple[str, ...]:
        declared = self._declared.get(table)
        return key_columns(declared.contract) if isinstance(declared, TableDeclaration) else ()

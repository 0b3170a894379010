"""The online store as a service uses it: what its endpoints look up, in which versions, and the sync that follows the tables."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.features.online.forms import Needs
from lakehouse_assets.platform.features.online.lookup import OnlineFeatures
from lakehouse_assets.platform.features.online.opening import online_store
from lakehouse_assets.platform.features.online.readers import ServedSet
from lakehouse_assets.platform.features.online.sync import sync
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.quality.contract import key_columns, schema_of
from lakehouse_assets.platform.serving.assemble import Lookups
from lakehouse_assets.platform.serving.served import Served


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
        self._versions: dict[str, set[int]] = {}
        self._synced: dict[str, datetime | None] = {}

    def lookups(self, served: Served, versions: Mapping[str, int | None]) -> Lookups | None:
        """Where the features of an endpoint are looked up, in these versions; None if none are."""
        roles = served.roles
        if not roles.looked_up or roles.event is None:
            return None
        for one in roles.looked_up:
            self._sets[one.name] = one
            self._events.setdefault(one.name, set()).add(roles.event.name)
            if (number := versions.get(one.name)) is not None:
                self._versions.setdefault(one.name, set()).add(number)
        sets = [ServedSet(one, versions.get(one.name), roles.prefixes.get(one.name, "")) for one in roles.looked_up]
        return OnlineFeatures(self._store, sets, roles.event.name, schema=schema_of(roles.event.contract))

    def sync(self) -> None:
        """Bring the store up to date with the feature tables, each by itself: one that fails does not hold the others up.

        Raises:
            Exception: The first that a feature set failed of.
        """
        failures: list[Exception] = []
        for name, feature in tuple(self._sets.items()):
            events = self._events[name]
            needs = Needs(
                self._key_of,
                next(iter(events)) if len(events) == 1 else None,
                frozenset(self._versions.get(name, ())),
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

    def _key_of(self, table: str) -> tuple[str, ...]:
        declared = self._declared.get(table)
        return key_columns(declared.contract) if isinstance(declared, TableDeclaration) else ()

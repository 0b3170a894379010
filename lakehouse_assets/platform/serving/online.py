"""The online store as a service uses it: what its endpoints look up, in which versions. How it follows the tables is in `background`."""

from lakehouse_assets.platform.features.online.lookup import OnlineFeatures
from lakehouse_assets.platform.features.online.opening import online_store
from lakehouse_assets.platform.features.online.readers import ServedSet
from lakehouse_assets.platform.quality.contract import schema_of
from lakehouse_assets.platform.serving.assemble import Lookups
from lakehouse_assets.platform.serving.scorer import Learnt
from lakehouse_assets.platform.serving.served import Served
from lakehouse_assets.platform.serving.service_needs import NeededSet
from lakehouse_assets.settings import Settings


class StoreOnline:
    """The online store of a root, for one service."""

    def __init__(self, settings: Settings) -> None:
        self._store = online_store(settings)
        self._needed: dict[str, NeededSet] = {}

    def lookups(self, served: Served, learnt: Learnt) -> Lookups | None:
        """Where the features of an endpoint are looked up, as a version has learnt them; None if none are."""
        roles = served.roles
        if not roles.looked_up or roles.event is None:
            return None
        for one in roles.looked_up:
            before, version = self._needed.get(one.name, NeededSet()), learnt.get(one.name)
            needed = NeededSet((*{*before.learnt, *([] if version is None else [version])},))
            self._needed = {**self._needed, one.name: needed}
        sets = [ServedSet(one, learnt.get(one.name), roles.prefixes.get(one.name, "")) for one in roles.looked_up]
        return OnlineFeatures(self._store, sets, roles.event.name, schema=schema_of(roles.event.contract))

    def needed(self) -> dict[str, NeededSet]:
        """By feature set, what endpoints look up of it."""
        return self._needed

    def close(self) -> None:
        """Nothing is looked up any more."""
        self._store.close()

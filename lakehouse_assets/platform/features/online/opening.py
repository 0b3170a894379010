"""Which online store a root has: the embedded one, or a server by a setting."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from lakehouse_assets.platform.features.online.embedded import EmbeddedStore
from lakehouse_assets.platform.features.online.store import OnlineStore, StoreUnavailable
from lakehouse_assets.settings import Location, Settings


def online_store(settings: Settings) -> OnlineStore:
    """The online store of a root. Nothing is opened before it is used.

    Raises:
        StoreUnavailable: The setting names a store that cannot be used: the message says what to do.
    """
    address = settings.online_store
    if not address:
        return EmbeddedStore(settings.home_folder / "online" / "online.db")
    if urlsplit(address).scheme not in {"redis", "rediss", "unix"}:
        raise StoreUnavailable(
            "LAKEHOUSE_ONLINE_STORE is an address of a Redis server, as redis://host:6379/0, or empty for the embedded store"
        )
    from lakehouse_assets.platform.features.online.redis_store import RedisStore

    return RedisStore(address, f"lakehouse:{_digest(settings.root)}:")


def _digest(root: Location) -> str:
    """A short name of a root."""
    place = str(root.resolve()) if isinstance(root, Path) else root
    return hashlib.sha256(place.encode()).hexdigest()[:12]

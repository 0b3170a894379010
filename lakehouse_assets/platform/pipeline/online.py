"""Brings the online store up to date with declared feature sets: which versions champions read, and what tells events apart.

How one set is synced is in `features.online.sync`.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.features.online.codecs import NotServable
from lakehouse_assets.platform.features.online.forms import Needs
from lakehouse_assets.platform.features.online.store import OnlineStore
from lakehouse_assets.platform.features.online.sync import Synced, sync
from lakehouse_assets.platform.quality.contract import key_columns
from lakehouse_assets.platform.registry.ledger import champion_features, last_decision
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

_WAIT_SECONDS: Final = 30.0
"""So long a sync of a service is waited for."""


def sync_online(
    store: OnlineStore,
    lakehouse: Lakehouse,
    catalog: Catalog,
    features: Sequence[FeatureSet],
    *,
    keep: timedelta,
    event: str | None = None,
    full: bool = False,
) -> list[Synced]:
    """Bring the store up to date with some feature sets, as far as champions and requests need them.

    Args:
        store: The online store.
        lakehouse: Has the tables.
        catalog: The declarations.
        features: The sets.
        keep: How late a request may be.
        event: The table whose rows the requests are about; None: any.
        full: Whether everything is scanned.

    Returns:
        What was done. A set is `not served`, with the reason, if it has a column that the store does not keep, or its events have no key.

    Raises:
        StoreUnavailable: The store cannot be reached.
    """
    done: list[Synced] = []
    for feature in features:
        versions = versions_of_champions(lakehouse, catalog.models, feature)
        needs = Needs(lambda table: _key(catalog, table), event, versions, keep)
        try:
            done += sync(store, lakehouse, feature, needs, full=full, wait=_WAIT_SECONDS)
        except NotServable as error:  # the others are served all the same
            done.append(Synced(feature.name, feature.name, "", None, None, "not served", str(error), 0, None))
    return done


def versions_of_champions(lakehouse: Lakehouse, models: Sequence[ModelDeclaration], feature: FeatureSet) -> set[int]:
    """The feature_set_versions that the champions read: of each that one was trained on, the newest that means the same."""
    table, found = lakehouse.table(feature.name), set()
    for model in models:
        ledger = lakehouse.table(model.name)
        if feature.name not in model.sources() or not ledger.exists():
            continue
        last = last_decision(ledger.scan())
        learnt = None if last is None else champion_features(ledger.scan(), last["champion"]).get(feature.name)
        if learnt is not None and table.exists() and (number := learnt.number_in(table)) is not None:
            found.add(number)
    return found


def _key(catalog: Catalog, name: str) -> tuple[str, ...]:
    """The columns that tell the rows of a table apart; none if nobody declares them."""
    declared = catalog.get(name)
    # A feed has no key; nor has a table that nobody declares.
    return key_columns(declared.contract) or declared.identity if isinstance(declared, TableDeclaration) else ()

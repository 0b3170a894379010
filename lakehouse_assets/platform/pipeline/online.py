"""Brings the online store up to date with declared feature sets: which versions models in use read, and what tells events apart.

How one set is synced is in `features.online.sync`.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
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
from lakehouse_assets.platform.registry.ledger import features_of_version, last_decision
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
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
    full: bool = False,
) -> list[Synced]:
    """Bring the store up to date with some feature sets, as far as models in use and requests need them.

    Args:
        store: The online store.
        lakehouse: Has the tables.
        catalog: The declarations.
        features: The sets.
        keep: How late a request may be.
        full: Whether everything is scanned.

    Returns:
        What was done. A set is `not served`, with the reason, if it has a column that the store does not keep, or its events have no key.

    Raises:
        StoreUnavailable: The store cannot be reached.
    """
    done: list[Synced] = []
    models = [learnt_in_use(lakehouse, model) for model in catalog.models]
    events = events_of_requests(catalog)
    for feature in features:
        learnt = {one for by_name in models for one in by_name.get(feature.name, ())}
        needs = Needs(partial(key_of, catalog), events.get(feature.name, ()), learnt, keep)
        try:
            done += sync(store, lakehouse, feature, needs, full=full, wait=_WAIT_SECONDS)
        except NotServable as error:  # the others are served all the same
            done.append(Synced(feature.name, feature.name, "", None, None, "not served", str(error), 0, None))
    return done


def events_of_requests(catalog: Catalog) -> dict[str, frozenset[str]]:
    """By feature set that endpoints look up, the tables whose rows are sent to them: they decide in which form the store keeps the set."""
    declared = {one.name: one for one in catalog.declarations}
    found: dict[str, frozenset[str]] = {}
    for endpoint in catalog.endpoints:
        roles = endpoint.roles(declared)
        if roles.event is not None:
            for one in roles.looked_up:
                found[one.name] = found.get(one.name, frozenset()) | {roles.event.name}
    return found


def learnt_in_use(lakehouse: Lakehouse, model: ModelDeclaration) -> dict[str, frozenset[FeatureVersion]]:
    """By feature set, the versions that champion, challenger and previous champion of a model were trained on.

    What each of them reads is in the store before it answers: a promotion or a rollback finds it there.
    """
    ledger = lakehouse.table(model.name)
    rows = ledger.scan() if ledger.exists() else None
    last = None if rows is None else last_decision(rows)
    if rows is None or last is None:
        return {}
    learnt: dict[str, set[FeatureVersion]] = {}
    for version in {last[alias] for alias in ("champion", "challenger", "previous")} - {None}:
        for name, one in features_of_version(rows, version).items():
            learnt.setdefault(name, set()).add(one)
    return {name: frozenset(versions) for name, versions in learnt.items()}


def key_of(catalog: Catalog, name: str) -> tuple[str, ...]:
    """The columns that tell the rows of a table apart; none if nobody declares them."""
    declared = catalog.get(name)
    # A feed has no key; nor has a table that nobody declares.
    return key_columns(declared.contract) or declared.identity if isinstance(declared, TableDeclaration) else ()

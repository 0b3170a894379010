"""Feature sets: what there is, what their columns mean, and what uses what, from a column to predictions and back."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from lakehouse_assets.client.context import Context

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.base import Declaration
    from lakehouse_assets.platform.declarations.catalog import Catalog
    from lakehouse_assets.platform.declarations.features import FeatureSet
    from lakehouse_assets.platform.features.labels import Labels
    from lakehouse_assets.platform.features.leakage import LeakageReport
    from lakehouse_assets.platform.features.manifest import Manifest

Values = list[dict[str, Any]]


@dataclass(frozen=True)
class TrainingSet:
    """Rows to learn from, and what is to be known of them.

    Attributes:
        rows: One for each label: its entity, time and target, the features, and `label_known_at`.
        manifest: The tables with their versions, the feature sets with theirs, how they were joined, and a digest of the rows.
        leakage: What gives the target away, in `findings`.
    """

    rows: pl.DataFrame
    manifest: "Manifest"
    leakage: "LeakageReport"


@dataclass(frozen=True)
class Features:
    """The declared feature sets of a root."""

    context: Context

    def list(self) -> Values:
        """Every feature set, with `entity`, `event_time`, `ttl_seconds`, `defaults`, `known_ahead`, `version`, `rows`, `newest`, `owner`.

        `version` is the number of the code that computed the newest rows, `rows` counts all that are stored, revisions and earlier versions
        among them, and `newest` is the newest event time; the three are None while the set has not been computed.
        """
        return [self._summary(one) for one in self._catalog.feature_sets]

    def show(self, feature_set: str) -> dict[str, Any]:
        """What `list` says of a feature set, with `description`, `columns`, what it `reads`, and the `models` and `predictions` of it.

        Raises:
            LookupError: No product declares the feature set.
        """
        one = self.context.feature_set(feature_set)
        from lakehouse_assets.platform.quality.contract import columns_of

        columns: Values = [
            {
                "name": info.name,
                "type": str(info.dtype),
                "is_feature": info.name in one.columns,
                "default": one.defaults.get(info.name),
                "personal": info.personal,
                "description": info.description,
            }
            for info in columns_of(one.contract)
        ]
        users = self._users([one.name])
        return self._summary(one) | {"description": one.description, "columns": columns, "reads": [*one.sources()], **users}

    def uses(self, name: str) -> dict[str, Any]:
        """What a column, a table, a model or a prediction table is used by, and what a model or a prediction table is made of.

        Args:
            name: A column (`amount`), a column of one table (`sales.silver.payments.amount`), or the name of a table or model.

        Returns:
            `name`; `tables`: those that have the column, or the one of the name; `feature_sets`, `models` and `predictions`: what reads
            them, also by way of other tables; of a model or a prediction table also the feature sets that it is made of. Nobody
            knows which columns a function reads: what reads a table counts as a user of each of its columns.

        Raises:
            LookupError: No declared table has the column, and nothing has the name.
        """
        catalog = self._catalog
        having = self._tables_of(name)
        users = self._users(having)
        scored = {one.name for one in [*catalog.models, *(table for table in catalog.tables if table.scored_by)]}
        if scored.intersection(having):
            needed = {one.name for one in catalog.needed_for(having)}
            users["feature_sets"] = [one.name for one in catalog.feature_sets if one.name in needed]
        return {"name": name, "tables": having, **users}

    def training_set(self, of: "str | Labels", features: Sequence[str] = ()) -> TrainingSet:
        """The rows that a model learns from: labels with the values of features as they were known at each label's time.

        Late values, revisions and retractions are as they were known then; `ttl` and defaults of the feature sets hold. Personal data is
        masked in the rows, after the join.

        Args:
            of: The name of a declared model, or `Labels(...)` of any table.
            features: With labels, the names of the feature sets that are joined to them.

        Raises:
            LookupError: No product declares the model or a feature set.
            NoSuchTable: A table was not computed yet.
            ValueError: Labels and features cannot be joined, or a model's name is given with features.
        """
        from lakehouse_assets.platform.compute.local import Local
        from lakehouse_assets.platform.features.examined import examine
        from lakehouse_assets.platform.features.leakage import Leakage
        from lakehouse_assets.platform.features.manifest import pin
        from lakehouse_assets.platform.features.training_set import once

        if isinstance(of, str):
            if features:
                raise ValueError(f"{of} names its own feature sets: give Labels(...) to join others, or leave features out")
            declared = self.context.model(of).examples
        else:
            declared = of.examples(tuple(self.context.feature_set(name) for name in features), {})
        prefixes: Mapping[str, str] = getattr(declared, "prefixes", {})  # of labels that are joined with feature sets
        examples, pinned = once(declared), pin(self.context.root.lakehouse, declared.sources())
        rows = examples.rows(pinned.read).collect()
        for table in declared.sources():
            # Of each table its own columns: what a table with personal data does not know is hidden.
            prefix = prefixes.get(table, "")
            own = {prefix + name: name for name in pinned.read(table).collect_schema() if prefix + name in rows.columns}
            shown = self.context.reader.view(rows.lazy().select(list(own)).rename(own), table, "training_set").collect()
            rows = rows.with_columns(shown[name].alias(column) for column, name in own.items())
        told = examine(examples, pinned, Leakage(), seed=self.context.settings.seed, compute=Local())
        return TrainingSet(rows, told.manifest, told.leakage)

    def sync(self, feature_set: str | None = None, *, full: bool = False) -> Values:
        """Bring the online store up to date with the feature tables, and with the events that windows are of.

        Args:
            feature_set: One of them; None: all.
            full: Whether everything is read again; else what changed, unless that cannot be known.

        Returns:
            For each set in the store `feature_set`, `kept` (`values` or `events`), `feature_set_version`, the `table` and its `version`,
            `how` (`changes`, `scan`, `nothing new`, `no table`, `other process`, `not served`), `why` it was a scan or is not served,
            `rows` that were written, and `synced_at`.

        Raises:
            LookupError: No product declares the feature set.
            StoreUnavailable: The store cannot be reached.
        """
        from lakehouse_assets.platform.features.online.opening import online_store
        from lakehouse_assets.platform.pipeline.online import sync_online

        sets = self._catalog.feature_sets if feature_set is None else [self.context.feature_set(feature_set)]
        keep = timedelta(hours=self.context.settings.online_hours)
        with closing(online_store(self.context.settings)) as store:
            done = sync_online(store, self.context.root.lakehouse, self._catalog, sets, keep=keep, full=full)
        return [vars(one) for one in done]

    def online(self, feature_set: str, *key: Any) -> Values:
        """What the online store has of one entity: of each version that is kept, or the recent events; personal data is masked.

        Args:
            feature_set: The feature set.
            key: The values of its entity, in its order; text is read as the type of the column.

        Returns:
            Rows, oldest first, each with the columns of the entity, those of the values or events, `feature_set_version`, and `synced_at`.

        Raises:
            LookupError: No product declares the feature set, or it was never synced.
            ValueError: There are more or fewer values than the entity has columns, or one is of another type.
            StoreUnavailable: The store cannot be reached.
        """
        from lakehouse_assets.platform.features.online.opening import online_store
        from lakehouse_assets.platform.features.online.showing import stored_rows, synced_at

        one = self.context.feature_set(feature_set)
        with closing(online_store(self.context.settings)) as store:
            found = stored_rows(store, one, key)
        if not found:
            raise LookupError(f"the online store has nothing of {one.name} yet: `lakehouse features sync {one.name}`")
        rows: Values = []
        for state, frame in found:
            shown = self.context.reader.view(frame.lazy(), state.table, "online").collect()
            rows += [row | {"feature_set_version": state.version, "synced_at": synced_at(state)} for row in shown.to_dicts()]
        return rows

    def _tables_of(self, name: str) -> "Sequence[str]":
        catalog = self._catalog
        if catalog.get(name) is not None:
            return [name]
        table, _, column = name.rpartition(".")
        having = [one for one, schema in catalog.schemas.items() if column in schema and table in {"", one}]
        if having:
            return having
        known = {*(one.name for one in self.context.declarations), *(column for schema in catalog.schemas.values() for column in schema)}
        near = self.context.unknown_name(name, known)
        raise LookupError(f"no declared table has the column {name!r}, and no table or model that name{near}")

    def _users(self, names: "Sequence[str]") -> dict[str, "Sequence[str]"]:
        catalog = self._catalog
        users = {one.name for one in catalog.made_of(names)}

        def among(declarations: "Sequence[Declaration]") -> "Sequence[str]":
            return sorted(one.name for one in declarations if one.name in users)

        return {
            "feature_sets": among(catalog.feature_sets),
            "models": among(catalog.models),
            "predictions": among([one for one in catalog.tables if one.scored_by]),
        }

    def _summary(self, one: "FeatureSet") -> dict[str, Any]:
        stored = self.context.root.lakehouse.table(one.name)
        exists = stored.exists()
        newest: Callable[[pl.LazyFrame], pl.LazyFrame] = lambda rows: rows.select(pl.col(one.event_time).max())  # noqa: E731
        return {
            "feature_set": one.name,
            "entity": [*one.entity],
            "event_time": one.event_time,
            "ttl_seconds": None if one.ttl is None else one.ttl / timedelta(seconds=1),
            "defaults": dict(one.defaults),
            "known_ahead": one.known_ahead,
            "version": one.version_of(stored),
            "rows": stored.count() if exists else None,
            "newest": self.context.reader.scan(one.name, choose=newest, what="features").collect().item() if exists else None,
            "owner": one.owner,
        }

    @property
    def _catalog(self) -> "Catalog":
        return self.context.loaded.catalog

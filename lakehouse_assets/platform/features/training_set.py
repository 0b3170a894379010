"""Labels with what was known at their time: the rows that a model learns from, and a manifest that says what they are made of.

How a row of a feature set is chosen is in `point_in_time`; whether the rows tell a learner more than they should, in `leakage`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, singledispatch
from itertools import combinations
from types import MappingProxyType

import polars as pl

from lakehouse_assets.platform.compute.packages import version
from lakehouse_assets.platform.declarations.base import DeclarationError, nearest, require_once
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.learning import LABEL_KNOWN_AT, Examples, Read
from lakehouse_assets.platform.features.content_digest import content_digest
from lakehouse_assets.platform.features.event_rows import EventRows, came_late, moment, sets_of_events, until
from lakehouse_assets.platform.features.label_outcomes import LabelOutcomes
from lakehouse_assets.platform.features.labels import Labels, TrainingSetError
from lakehouse_assets.platform.features.manifest import JoinedFeatures, Manifest, PinnedTables
from lakehouse_assets.platform.features.point_in_time import FeatureRows, Joined, join_as_of
from lakehouse_assets.platform.quality.contract import columns_of, schema_of
from lakehouse_assets.platform.storage.known_at import KNOWN_AT, KNOWN_AT_ASSUMED, VERSION, as_known, of_version
from lakehouse_assets.platform.storage.scopes import Keys
from lakehouse_assets.platform.storage.types import stored_schema

_UTC = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class LabelledExamples:
    """The `Examples` of a model that learns labels from feature sets.

    Attributes:
        labels: What is predicted.
        features: The feature sets, joined in this order. The entity of one may be a value of another one before it.
        prefixes: By the name of a feature set what stands before the names of its columns.
        without: Columns of feature sets that are no inputs. The entities of feature sets never are.
        versions: By the name of a feature set the version that is read; by default the newest that the table has.

    Raises:
        DeclarationError: It cannot be meant.
    """

    labels: Labels
    features: tuple[FeatureSet, ...]
    prefixes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    without: tuple[str, ...] = ()
    versions: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    _joined: list[Joined] | None = field(default=None, init=False, repr=False, compare=False)
    """Of `once`: what was joined, as soon as it was asked for."""

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        where = f"a model of {self.labels.table}"
        require_once(where, "features", tuple(names))
        if not names:
            raise DeclarationError(f"{where} has no features: name at least one feature set")
        for parameter, given in (("prefixes", self.prefixes), ("versions", self.versions)):
            for name in given:
                if name not in names:
                    raise DeclarationError(f"{where}: {parameter} names {name}, which is none of its feature sets.{nearest(name, names)}")
        columns = [column for feature in self.features for column in self.columns_of(feature)]
        for earlier, feature in combinations(self.features, 2):
            if both := [name for name in self.columns_of(feature) if name in self.columns_of(earlier)]:
                raise DeclarationError(
                    f"{where}: {earlier.name} and {feature.name} both give it {', '.join(both)}, and an input needs a name of its own. Let "
                    f"the columns of one of them begin with a prefix: {self._prefix_for(feature)}"
                )
        self._check_without(where, columns)
        taken = sorted({self.labels.target, self.labels.at, LABEL_KNOWN_AT, *self.labels.entity} & set(columns))
        if taken:
            feature = next(one for one in self.features if taken[0] in self.columns_of(one))
            raise DeclarationError(
                f"{where}: {', '.join(taken)} is a column of the labels and of {feature.name}. Entity, time and target of a label are "
                f"never inputs: if the two mean different things, let the columns of the feature set begin with a prefix: "
                f"{self._prefix_for(feature)}; else leave the column out of its contract. The entity of a label needs no more columns than "
                "tell labels apart"
            )

    def _check_without(self, where: str, columns: Collection[str]) -> None:
        for name in self.without:
            if name not in columns:
                raise DeclarationError(f"{where}: without names {name}, which no feature set has.{nearest(name, columns)}")
        if self.without and not self.inputs:
            raise DeclarationError(f"{where}: without leaves nothing to learn from: name fewer columns")

    def _prefix_for(self, feature: FeatureSet) -> str:
        """What to write so that the columns of a feature set get names of their own."""
        own = f"{feature.name.rpartition('.')[2]}_"
        prefix = self.prefixes.get(feature.name, "")
        given = {**self.prefixes, feature.name: own if own != prefix else prefix + own}
        return f"prefixes={given}"

    @property
    def key(self) -> tuple[str, ...]:
        """See `Examples`. With `at` it tells examples apart."""
        return self.labels.entity

    @property
    def at(self) -> str:
        """See `Examples`."""
        return self.labels.at

    @property
    def outcome(self) -> tuple[pl.Expr, ...]:
        """See `Examples.outcome`: each label is one."""
        return tuple(pl.col(name) for name in dict.fromkeys((*self.key, self.at)))

    @property
    def target(self) -> str:
        """See `Examples`."""
        return self.labels.target

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Examples`: the columns of the feature sets, in their order."""
        columns = [column for feature in self.features for column in self.columns_of(feature)]
        entities = {name for feature in self.features for name in feature.entity}
        return tuple(name for name in columns if name not in entities and name not in self.without)

    @property
    def slices(self) -> tuple[str, ...]:
        """See `Examples`."""
        return self.labels.slices

    def sources(self) -> tuple[str, ...]:
        """See `Examples`."""
        return (self.labels.table, *(feature.name for feature in self.features))

    def identity(self) -> str:
        """See `Examples`: the labels, and the function and columns of every feature set."""
        features = [
            (one.name, one.entity, one.event_time, str(one.ttl), sorted(one.defaults.items()), one.fingerprint) for one in self.features
        ]
        return repr((self.labels, features, sorted(self.prefixes.items()), self.without))

    def rows(self, read: Read, known_until: datetime | None = None) -> pl.LazyFrame:
        """See `Examples`. The join is done at once, and the rows are in memory.

        Raises:
            TrainingSetError: The labels have rows without entity or time, or several for one.
            JoinError: Labels and features cannot be joined.
        """
        if known_until is not None and self._joined is not None and not self.targets_are_final:
            found = self._with_targets_of(read, known_until)
            return (self.chosen(self.join(read, known_until).rows) if found is None else found).lazy()
        if known_until is None or self._joined is None:
            return self.chosen(self.joined(read, known_until).rows).lazy()
        until = known_until if known_until.tzinfo else known_until.replace(tzinfo=UTC)
        rows = self.chosen(self.joined(read).rows)
        newest: datetime | None = rows.select(pl.col(LABEL_KNOWN_AT).max()).item()
        if newest is None or until > newest:
            # Of a later time more may be known than the newest row of the table says is settled.
            return self.chosen(self.join(read, known_until).rows).lazy()
        return rows.lazy().filter(pl.col(LABEL_KNOWN_AT) <= until)

    @property
    def targets_are_final(self) -> bool:
        """Whether a target never changes once it is known: those that were known at a time are a part of those that are known now."""
        return self.labels.known_at is None

    def joined(self, read: Read, known_until: datetime | None = None) -> Joined:
        """What `join` gives; see `once`."""
        if known_until is not None or self._joined is None:
            return self.join(read, known_until)
        if not self._joined:
            self._joined.append(self.join(read))
        return self._joined[0]

    def join(self, read: Read, known_until: datetime | None = None) -> Joined:
        """The labels with all columns that are known of them, and which row of each feature set that is from."""
        labels = self._targets(read, known_until)
        sides = [self.feature_rows(feature, read) for feature in self.features]
        own = next((side for side in sides if side.name in self.sets_of_events[:1]), None)
        events = EventRows(labels, self.at, self.sets_of_events, own, read)
        joined = join_as_of(labels, sides, at=self.at, name=self.labels.table, over=events.over)
        self._check_law_5(joined)
        return joined

    @cached_property
    def sets_of_events(self) -> tuple[str, ...]:
        """The feature sets that have a row at each labelled event, which is known when the event comes, also if that is late."""
        return tuple(one.name for one in sets_of_events(self.labels.entity, self.features))

    def _targets(self, read: Read, known_until: datetime | None) -> pl.DataFrame:
        """The labels, with the entities and slices that no feature set has."""
        given = {column for feature in self.features for column in self.columns_of(feature)}
        also = dict.fromkeys([*(name for feature in self.features for name in feature.entity), *self.slices])
        return self.labels.rows(read(self.labels.table), [name for name in also if name not in given], known_until)

    def _with_targets_of(self, read: Read, known_until: datetime) -> pl.DataFrame | None:
        """The rows with targets as they were known at a moment; values of feature sets are those of the rows that are joined already.

        None if a label that was known then is none of these, as one that was taken back since.
        """
        labels, joined = self._targets(read, known_until), self.joined(read).rows
        on = [name for name in labels.columns if name not in {self.target, LABEL_KNOWN_AT, *self.slices}]
        values = [name for name in joined.columns if name not in labels.columns]
        if labels.join(joined, on=on, how="anti", nulls_equal=True).height:
            return None
        return self.chosen(labels.join(joined.select(*on, *values), on=on, how="left", nulls_equal=True, maintain_order="left"))

    def joined_to(self, features: str) -> tuple[str, ...]:
        """See `Examples.joined_to`."""
        driving = self._driving(features)
        others = [feature for feature in self.features if feature is not driving]
        known = {*driving.entity, driving.event_time, *self.columns_of(driving)}
        for feature in others:
            if missing := [name for name in feature.entity if name not in known]:
                raise DeclarationError(
                    f"rows of {features} are scored, and {missing[0]!r}, by which {feature.name} is looked up, is no column of it: add it "
                    f"to its contract, or put a feature set that has it before {feature.name}.{nearest(missing[0], known)}"
                )
            known |= {*self.columns_of(feature)}
        return tuple(feature.name for feature in others)

    def scored_columns(self, features: str) -> pl.Schema:
        """See `Examples.scored_columns`: entity and event time of the driving set, its columns, those of the others, with prefixes."""
        driving = self._driving(features)
        own = stored_schema(schema_of(driving.contract))
        columns = {name: own[name] for name in (*driving.entity, driving.event_time)}
        for feature in self._in_order(features):
            types = stored_schema(schema_of(feature.contract))
            columns |= {self.prefixes.get(feature.name, "") + name: types[name] for name in feature.columns}
        return pl.Schema(columns)

    def to_score(self, features: str, rows: pl.LazyFrame, read: Read, versions: Mapping[str, int]) -> pl.LazyFrame:
        """See `Examples.to_score`: of each entity and event time the values as they are known now, without what was retracted."""
        driving, others = self._driving(features), self._in_order(features)[1:]
        key, prefix = (*driving.entity, driving.event_time), self.prefixes.get(features, "")
        known = as_known(rows, key).select(*key, *(pl.col(name).alias(prefix + name) for name in driving.columns))
        found, of_versions = known.collect(engine="streaming"), replace(self, versions=versions)
        for feature in others:
            if feature.name in versions:
                found = found.filter(_is_until(of_versions.feature_rows(feature, read), driving.event_time, found.schema))
            side = of_versions.feature_rows(feature, read)
            asked = replace(side, rows=_of_entities(side, found))
            found = join_as_of(found, [asked], at=driving.event_time, name=features, when_known=False).rows
        return found.select(list(self.scored_columns(features))).lazy()

    def described(self) -> Mapping[str, str]:
        """See `Examples.described`: by the descriptions in the contracts of the feature sets."""
        found = {
            self.prefixes.get(feature.name, "") + column.name: column.description
            for feature in self.features
            for column in columns_of(feature.contract)
            if column.description
        }
        return {name: found[name] for name in self.inputs if name in found}

    def outcomes(self) -> LabelOutcomes:
        """See `Examples.outcomes`: a table of predictions calls the time as the first feature set does, or as the labels do."""
        return LabelOutcomes(self.labels, self.features[0].event_time)

    def _driving(self, features: str) -> FeatureSet:
        names = [feature.name for feature in self.features]
        if features not in names:
            raise DeclarationError(
                f"{features} is none of the feature sets that the model of {self.labels.table} learns from: name one of "
                f"{', '.join(names)}.{nearest(features, names)}"
            )
        return self.features[names.index(features)]

    def _in_order(self, features: str) -> list[FeatureSet]:
        """The driving feature set, then the others as they are joined."""
        driving = self._driving(features)
        return [driving, *(feature for feature in self.features if feature is not driving)]

    def feature_rows(self, feature: FeatureSet, read: Read) -> FeatureRows:
        """One feature set as a side of the join."""
        version = self.version_of(feature, read)
        return FeatureRows(
            feature.name,
            of_version(read(feature.name), version),
            feature.entity,
            feature.event_time,
            feature.ttl,
            feature.defaults,
            self.prefixes.get(feature.name, ""),
            feature.columns,
            version,
        )

    def version_of(self, feature: FeatureSet, read: Read) -> int | None:
        """Which version of a feature set is read; None if its table has no versions, or no rows."""
        rows = read(feature.name)
        if feature.name in self.versions or VERSION not in rows.collect_schema():
            return self.versions.get(feature.name)
        newest: int | None = rows.select(pl.col(VERSION).max()).collect(engine="streaming").item()
        return newest

    def columns_of(self, feature: FeatureSet) -> tuple[str, ...]:
        """The columns that come from one of the feature sets."""
        return tuple(self.prefixes.get(feature.name, "") + name for name in feature.columns)

    def _check_law_5(self, joined: Joined) -> None:
        """A last look at what the join promises. The row of the event itself came with the event."""
        at = joined.rows[self.at]
        for name, found in joined.found.items():
            event = moment(found["event_time"])
            known_late = came_late(found, at) if name not in self.sets_of_events else came_late(found, at) & (event != moment(at))
            if known_late.any() or ((event >= until(at)) if at.dtype == pl.Date else (event > until(at))).any():
                raise TrainingSetError(
                    f"{name}: a value was taken that was not known yet at {self.at} (law 5), which is a fault of the join"
                )

    def chosen(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Of what was joined the columns of a training set."""
        return rows.select(list(dict.fromkeys([*self.key, self.at, *self.inputs, *self.slices, self.target, LABEL_KNOWN_AT])))


def _is_until(side: FeatureRows, at: str, schema: pl.Schema) -> pl.Expr:
    """Whether a row is not after the newest one of a feature set that gets no new rows."""
    newest = side.rows.select(pl.col(side.event_time).max()).collect(engine="streaming").to_series()
    time = pl.Date() if pl.Date in {newest.dtype, schema[at]} else newest.dtype
    return pl.col(at).cast(time) <= pl.lit(newest.cast(time).item(), time)


def _of_entities(side: FeatureRows, rows: pl.DataFrame) -> pl.LazyFrame:
    """Of a feature set the rows of the entities that some rows name, so that few rows read little."""
    types = side.rows.collect_schema()
    if not side.entity or any(types.get(name) != rows.schema[name] for name in side.entity):
        return side.rows
    return Keys(rows.select(side.entity).drop_nulls().unique()).filter(side.rows)


@singledispatch
def once(examples: Examples) -> Examples:
    """The same examples for as long as `read` gives the same tables, as in one training: what is costly to make is made once and kept."""
    return examples


@once.register
def _(examples: LabelledExamples) -> Examples:
    kept = replace(examples)
    object.__setattr__(kept, "_joined", [])
    return kept


@dataclass(frozen=True)
class TrainingSet:
    """The rows that a model learns from, and what they are made of.

    Attributes:
        examples: What they are.
        rows: As `Examples.rows` gives them, in memory.
        entities: Row for row, `at`, the key, and the entities of all feature sets.
        manifest: What they are made of.
    """

    examples: LabelledExamples
    rows: pl.DataFrame
    entities: pl.DataFrame
    manifest: Manifest


def training_set(examples: LabelledExamples, pinned: PinnedTables, known_until: datetime | None = None) -> TrainingSet:
    """Join labels and features at pinned versions.

    Args:
        examples: What is joined.
        pinned: The tables, as `pin` gives them.
        known_until: See `Examples.rows`.

    Raises:
        TrainingSetError: See `LabelledExamples.rows`.
        JoinError: Labels and features cannot be joined.
    """
    joined = examples.joined(pinned.read, known_until)
    rows = examples.chosen(joined.rows)
    labels = examples.labels
    flags = {name: found[KNOWN_AT_ASSUMED] & found[KNOWN_AT].is_not_null() for name, found in joined.found.items()}
    features = tuple(
        JoinedFeatures(
            feature.name,
            examples.version_of(feature, pinned.read),
            feature.fingerprint,
            feature.entity,
            feature.event_time,
            None if feature.ttl is None else feature.ttl.total_seconds(),
            dict(feature.defaults),
            examples.columns_of(feature),
            _share(joined.found[feature.name][KNOWN_AT].is_not_null()),
            _share(flags[feature.name]),
            _share(came_late(joined.found[feature.name], joined.rows[examples.at])),
        )
        for feature in examples.features
    )
    manifest = Manifest(
        tables=pinned.tables,
        features=features,
        labels={
            "table": labels.table,
            "entity": list(labels.entity),
            "at": labels.at,
            "target": labels.target,
            "known_at": labels.known_at,
            "otherwise": labels.otherwise,
            "settled_seconds": None if labels.settled is None else labels.settled.total_seconds(),
        },
        known_until=None if known_until is None else known_until.astimezone(UTC).isoformat(),
        columns={name: str(dtype) for name, dtype in rows.schema.items()},
        rows=rows.height,
        digest=content_digest(rows, (examples.at, *examples.key)),
        assumed=_share(pl.DataFrame(flags).select(pl.any_horizontal(pl.all())).to_series()),
        packages={"lakehouse-assets": version("lakehouse-assets"), "polars": version("polars")},
    )
    entities = dict.fromkeys([examples.at, *examples.key, *(name for feature in examples.features for name in feature.entity)])
    return TrainingSet(examples, rows, joined.rows.select(list(entities)), manifest)


def _share(flags: pl.Series) -> float:
    return int(flags.sum()) / len(flags) if len(flags) else 0.0

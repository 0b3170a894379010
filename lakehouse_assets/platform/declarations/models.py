"""The words `model` and `predictions`: a model, and the table of what its champion predicts.

How models are trained and promoted belongs to the registry and pipeline rooms.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final

import polars as pl

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError, nearest_or_all, owner_of, require_once, text_of
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.gates import Gate
from lakehouse_assets.platform.declarations.kind import Inputs, Kind, Plan, Result, require_key, require_partitions_in_key
from lakehouse_assets.platform.declarations.learning import MODEL, Examples, Labelled, Learner, Metric, ScoredAsStored, Split
from lakehouse_assets.platform.declarations.retraining import Retrain
from lakehouse_assets.platform.declarations.tables import Picture, TableDeclaration
from lakehouse_assets.platform.quality.contract import Contract
from lakehouse_assets.platform.storage import feature_versions, merge
from lakehouse_assets.platform.storage.commit import Commit, Written
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion, version_to_read
from lakehouse_assets.platform.storage.known_at import of_version
from lakehouse_assets.platform.storage.scopes import Nothing
from lakehouse_assets.platform.storage.source import Source
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

CHAMPION = "champion"
"""The parameter under which a function of predictions is given the champion."""
ONE_LINE_RULE: Final = "one_line_rule"
_CANDIDATES = {MODEL, ONE_LINE_RULE, CHAMPION}
_BASELINE = re.compile(r"[a-z][a-z0-9_]*")
MODEL_NAME, MODEL_VERSION, FEATURE_VERSION, SCORED_AT = "model_name", "model_version", "feature_version", "scored_at"


@dataclass(frozen=True)
class ModelDeclaration(Declaration):
    """A model: what it learns from, how, and what it has to pass. Its table is the ledger of every decision about it.

    Attributes:
        examples: Where its rows come from.
        learner: Makes the predictor.
        split: The folds on which it is tested.
        metric: What the gate compares.
        baselines: Plain learners that it has to beat, by name; the first one predicts while there is too little history to test.
        metrics: Are recorded besides.
        one_line_rule: Whether the best rule of one column is among the baselines.
        gate: What it has to pass.
        retrain: What starts a training besides people and the weekly schedule; None: nothing does.
    """

    examples: Examples
    learner: Learner
    split: Split
    metric: Metric
    baselines: Mapping[str, Learner]
    metrics: tuple[Metric, ...]
    one_line_rule: bool
    gate: Gate
    retrain: Retrain | None = None

    is_log: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.baselines:
            if not _BASELINE.fullmatch(name) or name in _CANDIDATES:
                raise DeclarationError(
                    f"{self.name}: baselines={{{name!r}: …}}: name a baseline in lower case, as in seasonal_naive, and none of "
                    f"{', '.join(sorted(_CANDIDATES))}"
                )

    def sources(self) -> tuple[str, ...]:
        """See `Declaration.sources`."""
        return tuple(dict.fromkeys(self.examples.sources()))

    def problems_with(self, declared: Mapping[str, Declaration]) -> Iterator[str]:
        """See `Declaration.problems_with`."""
        if self.retrain is not None:
            yield from self.retrain.problems_of(self.name, declared)
        for name in () if self.gate.leakage is None else self.gate.leakage.known:
            if name not in self.examples.inputs:
                yield f"{self.name}: LeakageLimits(known={name!r}) is no input of it{nearest_or_all(name, self.examples.inputs)}"
        for column in self.examples.slices:
            where = next((name for name in self.sources() if name in declared and column in declared[name].personal), None)
            if where is not None:
                yield (
                    f"{self.name}: slices name {column!r}, which is personal in {where}: its values would stand in MLflow and on pages. "
                    "Leave it out of slices; of a forecast, of by"
                )

    @property
    def schema(self) -> pl.Schema:
        """The columns of a ledger belong to the registry: nothing is promised here."""
        return pl.Schema()


def model(
    name: str,
    *,
    description: str,
    learner: Learner,
    split: Split,
    metric: Metric,
    examples: Examples | None = None,
    labels: Labelled | None = None,
    features: Sequence[FeatureSet] = (),
    prefixes: Mapping[str, str] = MappingProxyType({}),
    without: Sequence[str] = (),
    baselines: Mapping[str, Learner] = MappingProxyType({}),
    metrics: Sequence[Metric] = (),
    one_line_rule: bool = True,
    gate: Gate = Gate(),  # noqa: B008 it is frozen
    retrain: Retrain | None = None,
    owner: str | None = None,
) -> ModelDeclaration:
    """Declare a model. The platform trains it, tests it with its baselines on unseen rows, and lets the gate decide.

    Args:
        name: `product.models.name`.
        description: What it predicts and what for; it is the first line of the model card.
        learner: Makes the predictor, as `GradientBoosting(...)`.
        split: The folds on which it is tested.
        metric: What the gate compares.
        examples: Where its rows come from; or give `labels` and `features`.
        labels: What is predicted: `Labels(...)`.
        features: The feature sets that are joined to the labels as they were known at the label's time.
        prefixes: By the name of a feature set what stands before its columns, where one name means two things.
        without: Columns of the feature sets, with their prefixes, that are not learnt from: personal ones, or what tells the outcome.
        baselines: Plain learners that it has to beat, by name; the first one predicts while there is too little history to test.
        metrics: Are recorded besides.
        one_line_rule: Whether the best rule of one column is among the baselines.
        gate: What it has to pass.
        retrain: What starts a training besides people and the weekly schedule: failed monitors, new labels, time.
        owner: Who answers for it; the product's team by default.

    Raises:
        DeclarationError: The declaration cannot be meant.
    """
    if (examples is None) == (labels is None):
        raise DeclarationError(f"{name}: give either examples, or labels with features")
    require_once(name, "without", without)
    if labels is not None:
        examples = labels.examples(tuple(features), prefixes, tuple(without))
    elif features or without:
        word = "features" if features else "without"
        raise DeclarationError(f"{name}: features are joined to labels: give labels, or leave {word} out")
    assert examples is not None  # noqa: S101 one of the two was given
    return ModelDeclaration(
        name,
        description,
        owner_of(name, owner),
        examples,
        learner,
        split,
        metric,
        dict(baselines),
        tuple(metrics),
        one_line_rule,
        gate,
        retrain,
    )


@dataclass(frozen=True)
class Scores(Kind):
    """The champion scores the features, again when the one or the other changes. Scores of earlier champions and features stay.

    The other feature sets of the model are joined to the driving one as of the time of each row, with all that is known of that time now.
    What changes in them scores no row again.

    Of a feature set the newest version is read, unless that means something else than the one that the champion was trained on: then it is
    the version of its own, and nothing is scored if that is gone, or lacks a column that the feature set has now.

    Attributes:
        key: The columns that tell scores apart, the model's version among them.
        row_for_row: Whether each row is scored by itself, so that only new rows have to be while the champion stays.
        examples: What the model learns from: it knows what is joined.
    """

    key: tuple[str, ...]
    row_for_row: bool = False
    examples: Examples = field(default_factory=ScoredAsStored, repr=False, compare=False)  # type: ignore[assignment]

    rewrites = False

    @property
    def word(self) -> str:
        """See `Kind.word`."""
        return "predictions"

    def check(self, table: TableDeclaration) -> None:
        """See `Kind.check`."""
        require_once(f"{table.name}: predictions", "key", self.key)
        if MODEL_VERSION not in self.key:
            raise DeclarationError(
                f"{table.name}: the key {', '.join(self.key)} lacks {MODEL_VERSION}, so one champion would overwrite what another predicted"
                f": add {MODEL_VERSION} to key, and mark it with column(key=True)"
            )
        require_key(table, [self.key])
        require_partitions_in_key(table, self.key)
        missing = [name for name in (MODEL_NAME, MODEL_VERSION, FEATURE_VERSION, SCORED_AT) if name not in table.schema]
        if missing:
            raise DeclarationError(
                f"{table.name}: contract {table.contract.__name__} lacks {', '.join(missing)}, which every prediction has: add it"
            )

    def identity(self, contract: type[Contract]) -> tuple[str, ...]:  # noqa: ARG002
        """See `Kind.identity`."""
        return self.key

    def changed_at(self, source: Table, after: int | None) -> int | None:
        """See `Kind.changed_at`: one version of a feature set is scored, so that others were deleted is no change."""
        return feature_versions.changed_at(source, after)

    def plan(self, inputs: Inputs) -> Plan:
        """See `Kind.plan`."""
        champion = inputs.extra[CHAMPION]
        name, features = inputs.only
        if champion is None:
            return Plan(None, Nothing())
        stamps = {
            MODEL_NAME: pl.lit(champion.name),
            MODEL_VERSION: pl.lit(champion.version, dtype=pl.Int64),
            FEATURE_VERSION: pl.lit(features.after, dtype=pl.Int64),
            SCORED_AT: pl.lit(clock.now()).cast(TIMESTAMP),
        }
        joined = {one: inputs.others[one] for one in self.examples.joined_to(features.table.name)}
        ledger_moved = any(source.moved for one, source in inputs.others.items() if one not in joined)
        is_new = ledger_moved or any(map(_began_version, joined.values()))
        rows = features.came() if self.row_for_row and not is_new else features.rows()
        sources = {features.table.name: features, **joined}
        read = {
            one: version_to_read(source.table, champion.features.get(source.table.name), source.after) for one, source in sources.items()
        }
        # Only of a version that is not the newest: `rows` may have no row of that one.
        own = {one: found.older for one, found in read.items() if found is not None}
        if len(own) < len(read):
            return Plan(None, Nothing())
        rows = of_version(rows, own.pop(features.table.name))
        if rows.head(1).collect().is_empty():  # nothing is new of that version
            return Plan(None, Nothing())
        columns = self.examples.scored_columns(features.table.name)
        if columns is not None and (lacking := lacking_inputs(champion.name, champion.version, champion.model.inputs, columns)):
            raise LookupError(lacking)
        older = {one: number for one, number in own.items() if number is not None}
        scored = self.examples.to_score(features.table.name, rows, lambda one: joined[one].rows(), older)
        if not scored.head(1).collect().height:
            return Plan(None, Nothing())
        return Plan({CHAMPION: champion, name: scored, **inputs.whole_dimensions()}, None, columns=stamps)

    def write(self, table: Table, result: Result, commit: Commit) -> Written:
        """See `Kind.write`."""
        return merge.merge(table, result.rows, self.key, commit, ignore=(FEATURE_VERSION, SCORED_AT))


def lacking_inputs(model: str, version: int, inputs: Iterable[str], columns: Collection[str]) -> str:
    """What to say of a version of a model that reads what no feature set gives any more; empty if there is no such input."""
    lacking = [name for name in inputs if name not in columns]
    if not lacking:
        return ""
    return (
        f"version {version} of {model} reads {', '.join(lacking)}, which none of the model's feature sets gives any more: declare it "
        f"again, promote a version that was trained without it (`lakehouse models promote {model} VERSION --reason TEXT`), or train one "
        f"(`lakehouse train {model}`)"
    )


def _began_version(source: Source) -> bool:
    """Whether a feature set has another version than when it was read last, so that rows that were left out may be scored now."""
    if source.before is None:
        return True
    return source.moved and FeatureVersion.of(source.table, source.before) != FeatureVersion.of(source.table, source.after)


@dataclass(frozen=True)
class Predictions(TableDeclaration):
    """A table of predictions. Its model's ledger is a source, so a new champion is noticed; so are the feature sets that are joined.

    Attributes:
        model: The model whose champion scores.
    """

    model: ModelDeclaration = field(kw_only=True)

    @property
    def scores_rows(self) -> bool:
        """Whether each row is scored by itself."""
        return isinstance(self.kind, Scores) and self.kind.row_for_row

    def sources(self) -> tuple[str, ...]:
        """See `Declaration.sources`."""
        return tuple(dict.fromkeys([*super().sources(), self.model.name, *self.model.examples.joined_to(self.features)]))

    @property
    def features(self) -> str:
        """The driving feature set: its rows are scored."""
        return next(iter(self.inputs.values()))

    @property
    def scored_columns(self) -> pl.Schema | None:
        """The columns that the function is given, in their order, with types; None: the rows of the feature set as they are stored.

        Whoever has rows of these columns from elsewhere, as from a request, calls the declaration with `champion` and them.
        """
        return self.model.examples.scored_columns(self.features)

    @property
    def scored_by(self) -> str:
        """See `TableDeclaration.scored_by`."""
        return self.model.name

    def arguments(self, champions: Callable[[Any], Any]) -> dict[str, Any]:
        """See `TableDeclaration.extra`."""
        return {CHAMPION: champions(self.model)}

    @property
    def _extra_parameters(self) -> tuple[str, ...]:
        return (CHAMPION,)


def predictions(
    name: str,
    *,
    contract: type[Contract],
    model: ModelDeclaration,
    features: str,
    key: tuple[str, ...],
    row_for_row: bool = False,
    partition_by: tuple[str, ...] = (),
    picture: Picture | None = None,
    owner: str | None = None,
) -> Callable[[Callable[..., pl.LazyFrame]], Predictions]:
    """Declare a prediction table by the pure function that scores: it is given `champion` (its `model`, `name`, `version`) and `features`.

    A model that learns labels from several feature sets scores the rows of one, the driving feature set. The others are joined to each row
    as of its event time, with time to live, defaults and prefixes as in training, and with all that is known of that time now: the function
    is given entity, event time and the columns of all sets. The entities of the others are columns of the driving set, or of a set before.
    What becomes known later does not score a row again; a full refresh does.

    The platform adds `model_name`, `model_version`, `feature_version` and `scored_at`, which the contract has to name.

    Args:
        name: `product.predictions.name`.
        contract: Columns, types, rules.
        model: Whose champion scores.
        features: The feature set whose rows are scored.
        key: The columns that tell scores apart; `model_version` is one of them.
        row_for_row: Each row is scored by itself, so only new rows are while the champion stays. False: the function is given all.
        partition_by: As for `table`.
        picture: As for `table`.
        owner: As for `table`.

    Raises:
        DeclarationError: The declaration cannot be meant.
    """

    def declare(function: Callable[..., pl.LazyFrame]) -> Predictions:
        return Predictions(
            name,
            text_of(function),
            owner_of(name, owner),
            contract,
            Scores(key, row_for_row, model.examples),
            {"features": features},
            MappingProxyType({}),
            function,
            partition_by=partition_by,
            picture=picture,
            model=model,
        )

    return declare

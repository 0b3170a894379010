"""The word `endpoint`: predictions that are asked for one request at a time, from the same function that fills their table.

What a request may be, and where each feature of it comes from, follows from the declarations of predictions, model and feature sets: it is
worked out here. How requests are answered is in `serving`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Final, Literal

import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError, nearest, nearest_or_all, owner_of
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.models import ModelDeclaration, Predictions
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.quality.contract import key_columns, schema_of
from lakehouse_assets.platform.storage.platform_tables import FEEDBACK_SUFFIX

INFERENCE: Final = "inference"
"""The layer of the tables that keep what endpoints were asked and what they answered."""
Missing = Literal["default", "refuse"]
_WORD = re.compile(r"[a-z][a-z0-9_]*")
_CHOICES: Final = ("default", "refuse")


@dataclass(frozen=True)
class Roles:
    """Where the features of a request come from.

    Attributes:
        driving: The feature set whose rows are scored.
        event: The table whose rows are sent as raw events; None where an endpoint is asked by keys alone.
        computed: Feature sets that are worked out from the event itself, by their own functions.
        looked_up: Feature sets that are looked up in the online store, windows over recent events among them.
        prefixes: By feature set, what stands before its columns among the inputs of the model.
    """

    driving: FeatureSet
    event: TableDeclaration | None
    computed: tuple[FeatureSet, ...] = ()
    looked_up: tuple[FeatureSet, ...] = ()
    prefixes: Mapping[str, str] = field(default_factory=dict)

    @property
    def sets(self) -> tuple[FeatureSet, ...]:
        """All feature sets, the driving one first."""
        others = (one for one in (*self.computed, *self.looked_up) if one is not self.driving)
        return (self.driving, *others)

    def columns_of(self, feature: FeatureSet) -> dict[str, pl.DataType]:
        """The columns that a feature set gives to the model, with their types."""
        prefix = self.prefixes.get(feature.name, "")
        return {prefix + name: feature.schema[name] for name in feature.columns}

    @property
    def identity(self) -> dict[str, pl.DataType]:
        """The columns that tell rows of the driving feature set apart."""
        return {name: self.driving.schema[name] for name in (*self.driving.entity, self.driving.event_time)}


@dataclass(frozen=True)
class Endpoint(Declaration):
    """Predictions that are asked for over HTTP. Its table is the log of all requests and answers.

    Attributes:
        predictions: What is asked for: model, function, key and driving feature set.
        event: The table whose rows are sent as raw events; empty: the only input of the driving feature set.
        missing: Whether a feature that is not in the online store becomes its default (or null), or the request is refused.
        stale_after: For how long the online store may lack behind before an answer says so; None: for ever.
        challenger: The share of keys that the challenger answers.
        shadow: Whether the challenger scores every request besides, for the log alone.
        log_retention: For how long requests, answers and labels stay in the log; None: for ever.
    """

    predictions: Predictions
    event: str = ""
    missing: Missing = "default"
    stale_after: timedelta | None = None
    challenger: float = 0.0
    shadow: bool = False
    log_retention: timedelta | None = None

    is_log: ClassVar[bool] = True

    @property
    def word(self) -> str:
        """What it is called in addresses."""
        return self.name.rpartition(".")[2]

    @property
    def model(self) -> ModelDeclaration:
        """The model whose champion answers."""
        return self.predictions.model

    @property
    def by_keys(self) -> bool:
        """Whether rows are not scored one by one, so that it is asked by keys and answers from the newest predictions."""
        return not self.predictions.scores_rows

    def sources(self) -> tuple[str, ...]:
        """See `Declaration.sources`."""
        return tuple(dict.fromkeys([*self.predictions.sources(), *([self.event] if self.event else [])]))

    def retention(self) -> Mapping[str, timedelta]:
        """See `Declaration.retention`."""
        return {} if self.log_retention is None else dict.fromkeys((self.name, self.name + FEEDBACK_SUFFIX), self.log_retention)

    @property
    def schema(self) -> pl.Schema:
        """The columns of the log belong to `serving`: nothing is promised here."""
        return pl.Schema()

    def problems_with(self, declared: Mapping[str, Declaration]) -> Iterator[str]:
        """See `Declaration.problems_with`."""
        try:
            self.roles(declared)
        except DeclarationError as error:
            yield str(error)

    def roles(self, declared: Mapping[str, Declaration]) -> Roles:
        """Where the features of a request come from.

        Args:
            declared: All declarations by name.

        Raises:
            DeclarationError: They do not fit, with the parameter and the remedy.
        """
        scored = next(iter(self.predictions.inputs.values()))
        driving = declared.get(scored)
        if not isinstance(driving, FeatureSet):
            raise DeclarationError(f"{self.name}: {self.predictions.name} scores {scored}, which is no feature set")
        if self.by_keys:
            return Roles(driving, None)
        event = self._event(driving, declared)
        names = dict.fromkeys([driving.name, *self.model.examples.sources()])
        sets = [one for name in names if isinstance(one := declared.get(name), FeatureSet)]
        key = key_columns(event.contract)
        computed = tuple(one for one in sets if one.is_computed_from(event.name, key))
        looked_up = tuple(one for one in sets if one not in computed)
        roles = Roles(driving, event, computed, looked_up, dict(getattr(self.model.examples, "prefixes", {})))
        self._check_entities(roles)
        return roles

    def _event(self, driving: FeatureSet, declared: Mapping[str, Declaration]) -> TableDeclaration:
        inputs = tuple(driving.inputs.values())
        if not self.event and len(inputs) != 1:
            raise DeclarationError(
                f"{self.name}: {driving.name} is computed from {', '.join(inputs)}: say whose rows are sent, as event={inputs[0]!r}"
            )
        name = self.event or inputs[0]
        table = declared.get(name)
        if not isinstance(table, TableDeclaration):
            tables = [one.name for one in declared.values() if isinstance(one, TableDeclaration)]
            raise DeclarationError(f"{self.name}: event={name!r} is no table with a contract{nearest_or_all(name, tables)}")
        if not key_columns(table.contract):
            raise DeclarationError(
                f"{self.name}: events of {name} cannot be told apart: mark its key with column(key=True) in contract "
                f"{table.contract.__name__}"
            )
        return table

    def _check_entities(self, roles: Roles) -> None:
        """Refuse a feature set of which no row can be found for an event."""
        assert roles.event is not None  # noqa: S101 see `roles`
        known = {**schema_of(roles.event.contract)}
        for computed in roles.computed:
            known |= {name: computed.schema[name] for name in computed.columns}
        for one in roles.looked_up:
            for column in one.entity:
                if column not in known:
                    raise DeclarationError(
                        f"{self.name}: rows of {one.name} are found by {column}, which neither {roles.event.name} nor a feature set "
                        f"before has: name another event=, or add the column.{nearest(column, known)}"
                    )
                if known[column] != one.schema[column]:
                    raise DeclarationError(
                        f"{self.name}: rows of {one.name} are found by {column}, which is {one.schema[column]} there and "
                        f"{known[column]} in {roles.event.name}: give both one type"
                    )
            # Those of a later set may be values of this one.
            known |= roles.columns_of(one)
        lacking = [name for name in roles.identity if roles.driving in roles.looked_up and name not in known]
        if lacking:
            raise DeclarationError(
                f"{self.name}: {roles.driving.name}, whose rows are scored, needs {', '.join(lacking)} of each event, and "
                f"{roles.event.name} lacks it"
            )


def endpoint(
    name: str,
    *,
    predictions: Predictions,
    event: str = "",
    missing: Missing = "default",
    stale_after: timedelta | None = None,
    challenger: float = 0.0,
    shadow: bool = False,
    log_retention: timedelta | None = None,
    owner: str | None = None,
    description: str | None = None,
) -> Endpoint:
    """Declare that predictions are asked for over HTTP: `lakehouse serve` answers `POST /endpoints/NAME`.

    Each request is scored by the champion and the function of the prediction table, so it is answered what the table would say. Assign it
    to a name in a module of the product.

    Args:
        name: Lower-case letters, digits and underscores; it stands in the address. Requests and answers are kept in the table
            `product.inference.name`.
        predictions: The prediction table, as `predictions` or a recipe declares it.
        event: The table whose rows are sent to be scored: its contract gives their columns, types and rules. Empty: the only input of the
            feature set that is scored.
        missing: What becomes of a row of which a looked-up feature is not known: "default" takes the default of the feature set, or null,
            and the answer says so; "refuse" refuses the request.
        stale_after: How far a looked-up feature set may lack behind its table before answers name it as stale; None: for ever.
        challenger: The share of keys that the challenger answers, from 0 to 1. A key is always answered by the same one of the two.
        shadow: Whether the challenger scores all requests besides, only for the log.
        log_retention: For how long requests, answers and labels stay in the log, at least a day; maintenance deletes older ones by the
            day. None: for ever.
        owner: Who answers for it; by default who answers for the predictions.
        description: What is answered and what for; by default that of the predictions.

    Raises:
        DeclarationError: The declaration cannot be meant.

    Example::

        order_scores = endpoint("order_fraud", predictions=scored_orders, event="order_fraud.gold.orders", shadow=True)
    """
    given: Any = predictions
    where = f"endpoint {name!r}"
    if not isinstance(given, Predictions):
        said = f"{type(given).__name__}" if not isinstance(given, Declaration) else f"{type(given).__name__} {given.name}"
        raise DeclarationError(f"{where}: predictions={said} is no prediction table: give what predictions(…) or a recipe declared")
    if not _WORD.fullmatch(name):
        raise DeclarationError(f"{where}: a name has lower-case letters, digits and underscores, as in order_fraud")
    if missing not in _CHOICES:
        raise DeclarationError(f"{where}: missing={missing!r}: write one of {', '.join(_CHOICES)}.{nearest(str(missing), _CHOICES)}")
    if stale_after is not None and stale_after <= timedelta(0):
        raise DeclarationError(f"{where}: stale_after={stale_after!r} is no time: give it as timedelta(hours=2), or leave it out")
    if not 0 <= challenger < 1:
        raise DeclarationError(f"{where}: challenger={challenger!r} is a share from 0 to below 1, as 0.1")
    if challenger and shadow:
        raise DeclarationError(f"{where}: the challenger either answers a share of the keys or scores in the shadow: leave one of them out")
    if log_retention is not None and log_retention < timedelta(days=1):
        raise DeclarationError(f"{where}: log_retention={log_retention!r}: rows are deleted by the day, so give at least timedelta(days=1)")
    if event and not given.scores_rows:
        raise DeclarationError(
            f"{where}: {given.name} is not scored row by row (row_for_row=True), so it is asked by keys and no event is sent: leave event "
            "out"
        )
    table = f"{given.product}.{INFERENCE}.{name}"
    return Endpoint(
        table,
        description or given.description,
        owner_of(table, owner or given.owner),
        given,
        event,
        missing,
        stale_after,
        challenger,
        shadow,
        log_retention,
    )

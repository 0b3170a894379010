"""The recipe `window_features`: a feature set of statistics over windows of time, declared in one call.

It makes contract, function and kind. How the statistics are worked out is in `features.windows`.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from types import MappingProxyType, new_class
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations import places
from lakehouse_assets.platform.declarations.base import DeclarationError, nearest_or_all, require_once
from lakehouse_assets.platform.declarations.computed_kinds import ByKeyAndTime, Trailing
from lakehouse_assets.platform.declarations.features import FeatureSet, feature_set
from lakehouse_assets.platform.declarations.kind import Kind
from lakehouse_assets.platform.features.online.forms import WindowEvents
from lakehouse_assets.platform.features.windows import EVERY_EVENT, NUMERIC, STATISTICS, Windows, duration_of, in_words, type_of
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column
from lakehouse_assets.platform.quality.copied import copied

_WORDS: Mapping[str, str] = {
    "count": "number of values of {value}",
    "distinct": "number of different values of {value}",
    "sum": "sum of {value}",
    "mean": "mean of {value}",
    "std": "standard deviation of {value}",
    "min": "smallest {value}",
    "max": "largest {value}",
    "first": "first {value}",
    "last": "last {value}",
}
_COUNTS: Final = frozenset({"count", "distinct"})
"""The statistics that tell no value; those of one event alone are its value, so they are personal where that is."""


def window_features(
    name: str,
    *,
    of: str,
    entity: tuple[str, ...],
    time: str,
    windows: tuple[str, ...],
    values: Mapping[str, tuple[str, ...]],
    every: str | None = None,
    types: Mapping[str, type] = MappingProxyType({}),
    where: pl.Expr | None = None,
    decimals: int = 4,
    personal: tuple[str, ...] = (),
    ttl: timedelta | None = None,
    defaults: Mapping[str, Any] = MappingProxyType({}),
    owner: str | None = None,
) -> FeatureSet:
    """Declare a feature set of statistics of events over windows of time. Assign it to a name in a module of the product.

    A fact that comes late, changes or goes computes the rows again that it touches: those of its entities from its time on, as far as the
    longest window reaches. With `every`, all steps from its time on are worked out again, and those that differ are written.

    Args:
        name: `product.features.name`.
        of: The table of events.
        entity: Its columns that identify what the features are about: texts, unless `types` says otherwise.
        time: Its column of timestamps. A date is refused: make it the end of its day, or the beginning if there is `every`.
        windows: Lengths, as `("1h", "1d", "30d")`: minutes (m), hours, days, weeks (w).
        values: By column, what is worked out: count, distinct, sum, mean, std, min, max, first, last. `"*"` stands for the events
            themselves, which can be counted. The columns are named `amount_sum_30d`, and `count_30d` for `"*"`.
        every: None: a row at each event, over the events up to it, itself and those of the same time included. Else the length of a step,
            as `"1d"`: a row at the end of each step that is over, over the events before it; with a window of the same length they do not
            overlap (tumbling), with a longer one they do (sliding). Steps are counted from 1970-01-01 UTC; windows are multiples of them.
        types: Types of columns: of the entity if it is no text, of values if they are no numbers, as `{"customer": int, "device": str}`.
        where: Which events count.
        decimals: Digits after the point that count in sums, means and deviations, which are exact.
        personal: Columns of the entity that are personal data, as in a contract, besides those that are in `of`.
        ttl: As for `feature_set`.
        defaults: As for `feature_set`.
        owner: As for `feature_set`.

    Raises:
        DeclarationError: The declaration cannot be meant.

    Example::

        cards = window_features(
            "order_fraud.features.cards", of="sales.silver.payments", entity=("card",), time="paid_at",
            windows=("1h", "1d", "30d"), values={"*": ("count",), "amount": ("sum", "mean"), "device": ("distinct",)},
        )
    """
    for parameter, given in (("entity", entity), ("windows", windows), *((f"values[{key!r}]", given) for key, given in values.items())):
        require_once(name, parameter, given)
    what = Windows(tuple(entity), time, tuple(windows), {key: tuple(given) for key, given in values.items()}, every, decimals)
    _check(name, what, types)
    if unknown := [one for one in personal if one not in what.entity]:
        raise DeclarationError(f"{name}: personal names {unknown[0]!r}, which is no entity{nearest_or_all(unknown[0], what.entity)}")
    rows_of = None if where is None else where.meta.serialize(format="json")
    made = partial(places.by_recipe, at=places.of_caller(), parameters=repr((what, sorted(types.items(), key=repr), rows_of)))

    numbers = [one for one, given in what.values.items() if one != EVERY_EVENT and one not in types and {*given} - {"count", "distinct"}]

    def statistics(events: pl.LazyFrame) -> pl.LazyFrame:
        return what.compute(events.with_columns(pl.col(one).cast(pl.Float64) for one in numbers), where)

    at = f"at each {time}" if every is None else f"at the end of every {in_words(every)}"
    statistics.__doc__ = f"Statistics of {of.rpartition('.')[2]} by {' and '.join(entity)} over {', '.join(map(in_words, windows))}, {at}."
    kind: Kind = Trailing(time, what.lookback) if every is not None else ByKeyAndTime(*entity, time=time, lookback=what.lookback)
    declare = feature_set(
        name,
        contract=_contract(of, what, types, personal),
        entity=what.entity,
        event_time=time,
        kind=kind,
        inputs={"events": of},
        ttl=ttl,
        defaults=defaults,
        owner=owner,
        online=WindowEvents(what, of, where, tuple(numbers)) if every is None else None,
    )
    return declare(made(statistics))


def _contract(of: str, what: Windows, types: Mapping[str, type], personal: tuple[str, ...]) -> type[Contract]:
    at = (
        copied(column(key=True, description="The time of the event."), of, what.time)
        if what.every is None
        else column(key=True, description="The end of the step.")
    )
    columns: dict[str, tuple[Any, Any]] = {
        **{one: (types.get(one, str), copied(column(key=True, personal=one in personal), of, one)) for one in what.entity},
        what.time: (Timestamp, at),
        "known_at": (Timestamp, column(description="From when on this was known.")),
    }
    for name, (value, statistic, window) in what.columns().items():
        dtype, nullable = type_of(statistic, types.get(value, float))
        text = "Number of events" if value == EVERY_EVENT else _WORDS[statistic].format(value=value).capitalize()
        found = column(nullable=nullable, description=f"{text} in the last {in_words(window)}, by {' and '.join(what.entity)}.")
        columns[name] = (dtype, copied(found, of, value) if statistic not in _COUNTS else found)
    annotations = {name: annotation for name, (annotation, _) in columns.items()}
    content = {"__annotations__": annotations, "__doc__": "Statistics over windows of time.", "__module__": __name__}
    fields = {name: field for name, (_, field) in columns.items()}
    return new_class("WindowFeatures", (Contract,), exec_body=lambda namespace: namespace.update(content | fields))


def _check(name: str, what: Windows, types: Mapping[str, type]) -> None:
    """Refuse what cannot be worked out.

    Raises:
        DeclarationError: With the parameter and the remedy.
    """
    for parameter, given in (("entity", what.entity), ("windows", what.windows), ("values", what.values)):
        if not given:
            raise DeclarationError(f"{name}: {parameter} is empty: name at least one")
    require_once(name, "entity with time", (*what.entity, what.time))
    for length in (*what.windows, *(() if what.every is None else (what.every,))):
        try:
            duration_of(length)
        except ValueError as error:
            raise DeclarationError(f"{name}: {'windows' if length in what.windows else 'every'}: {error}") from error
    if what.every is not None and (odd := [one for one in what.windows if duration_of(one) % duration_of(what.every)]):
        raise DeclarationError(f"{name}: the window {odd[0]} is no multiple of every={what.every!r}: give windows that are whole steps")
    if not 0 <= what.decimals <= 9:  # more leave no room for the number itself
        raise DeclarationError(f"{name}: decimals={what.decimals!r} is no number of digits from 0 to 9")
    own = {*what.entity, *what.values}
    for key in types:
        if key not in own:
            raise DeclarationError(f"{name}: types names {key!r}, which is neither entity nor value{nearest_or_all(key, own)}")
    _check_statistics(name, what, types)
    if taken := [one for one in what.columns() if one in {*what.entity, what.time}]:
        raise DeclarationError(f"{name}: the statistics have a column {taken[0]} themselves: rename that of the events")


def _check_statistics(name: str, what: Windows, types: Mapping[str, type]) -> None:
    for value, statistics in what.values.items():
        for statistic in statistics:
            known = ("count",) if value == EVERY_EVENT else STATISTICS
            if statistic not in known:
                raise DeclarationError(f"{name}: values has no statistic {statistic!r} for {value}{nearest_or_all(statistic, known)}")
            if statistic in NUMERIC and types.get(value, float) not in {int, float}:
                given = types[value].__name__
                raise DeclarationError(
                    f"{name}: {statistic} of {value} needs numbers, and types says {given}: use count, distinct, first or last"
                )

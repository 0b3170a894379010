"""Which predictions a name stands for, and what is worked out of them: told by the declarations."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from lakehouse_assets.platform.declarations.actual_outcomes import Outcomes
from lakehouse_assets.platform.declarations.base import Declaration, nearest, nearest_or_all
from lakehouse_assets.platform.declarations.endpoints import Endpoint
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.models import Predictions
from lakehouse_assets.platform.declarations.monitors import Monitor
from lakehouse_assets.platform.monitoring.accuracy.predicted import NotWatchable, Predicted, PredictedTable, time_of
from lakehouse_assets.platform.monitoring.accuracy.requested import PredictedRequests
from lakehouse_assets.platform.quality.contract import key_columns
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


def watched_predictions(name: str, declared: Mapping[str, Declaration], lakehouse: Lakehouse, slices: Sequence[str] = ()) -> Predicted:
    """The predictions of a table of predictions, or of an endpoint.

    Args:
        name: Of the one or the other.
        declared: All declarations by name.
        lakehouse: The tables.
        slices: Columns by which they are told apart.

    Raises:
        NotWatchable: It is neither, or outcomes cannot meet its predictions.
    """
    one = declared.get(name)
    if isinstance(one, Endpoint):
        table, outcomes, driving = _parts(one.predictions, declared)
        if outcomes.target is None:
            raise NotWatchable(f"{name} answers from {table.name}, whose accuracy is that of its answers: watch that table")
        return PredictedRequests(table, outcomes, driving, tuple(slices), lakehouse, {}, one)
    if isinstance(one, Predictions):
        table, outcomes, driving = _parts(one, declared)
        time_of(table, outcomes)
        return PredictedTable(table, outcomes, driving, tuple(slices), lakehouse, {})
    known = [other.name for other in declared.values() if isinstance(other, Endpoint | Predictions)]
    raise NotWatchable(f"{name} is neither a table of predictions nor the log of an endpoint{nearest_or_all(name, known)}")


def problems_with_watched(
    monitor: Monitor, declared: Mapping[str, Declaration], slices: Sequence[str], of_kind: Callable[[Predicted], Iterator[str]]
) -> Iterator[str]:
    """Why a monitor cannot watch predictions; each text names the remedy.

    Args:
        monitor: The monitor.
        declared: All declarations by name.
        slices: Columns by which predictions are told apart.
        of_kind: Says what of the predictions does not fit the kind of monitor.
    """
    if monitor.of not in declared:
        return  # that is told already
    try:
        predicted = watched_predictions(monitor.of, declared, Lakehouse(""), slices)
    except NotWatchable as error:
        yield f"{monitor.name}: {error}"
        return
    yield from _problems_with_slices(monitor.name, predicted, declared)
    yield from of_kind(predicted)


def _problems_with_slices(monitor: str, predicted: Predicted, declared: Mapping[str, Declaration]) -> Iterator[str]:
    labels = declared.get(predicted.outcomes.table)
    tables = [predicted.predictions, predicted.driving, *([labels] if labels is not None else [])]
    known = {column for table in tables for column in table.schema}
    personal = {column for table in tables for column in table.personal}
    for column in predicted.slices:
        if column not in known:
            names = ", ".join(one.name for one in tables)
            yield f"{monitor}: slices name {column!r}, which none of {names} has.{nearest(column, known)}"
        elif column in personal:
            yield f"{monitor}: slices name {column!r}, which is personal: its values would stand in the tables of the platform"


def _parts(table: Predictions, declared: Mapping[str, Declaration]) -> tuple[Predictions, Outcomes, FeatureSet]:
    outcomes, driving = table.model.examples.outcomes(), declared.get(table.features)
    if outcomes is None or not isinstance(driving, FeatureSet):
        raise NotWatchable(
            f"{table.name}: nobody says what comes true of the predictions of {table.model.name}: give its examples a method outcomes()"
        )
    return table, outcomes.keyed(key_columns(table.contract)), driving

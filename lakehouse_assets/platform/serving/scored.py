"""Rows of a batch that one version scores, and what came of it. Which version scores which rows is in `engine`."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.serving.assemble import OK, Assembled, Form
from lakehouse_assets.platform.serving.refused import FieldError
from lakehouse_assets.platform.serving.rows import Row
from lakehouse_assets.platform.serving.scorer import Loaded
from lakehouse_assets.platform.serving.served import Served

STALE = "stale"


@dataclass(frozen=True)
class BatchRows:
    """The rows of a batch.

    Attributes:
        form: Of all of them.
        rows: With a value for every field.
        requests: How many rows each request has, in their order.
        frame: Of events, the same as a frame.
    """

    form: Form
    rows: Sequence[Row]
    requests: Sequence[int]
    frame: pl.DataFrame | None = None

    def with_mates(self, numbers: Sequence[int]) -> tuple[list[int], list[int]]:
        """All rows of the requests that some rows are of, which these count in their windows, and how many each of these requests has."""
        wanted, start = {*numbers}, 0
        taken: list[int] = []
        counts: list[int] = []
        for count in self.requests:
            its = range(start, start + count)
            if not wanted.isdisjoint(its):
                taken += its
                counts.append(count)
            start += count
        return taken, counts


@dataclass(frozen=True)
class Scored:
    """Rows that one version has scored.

    Attributes:
        loaded: The version.
        variant: `champion`, `challenger` or `shadow`.
        assembled: The rows with their features, among them rows of their requests that another version scores.
        places: By number of a row in the batch, where it is among those.
        positions: By number of a row that was scored, where it is in what follows.
        predictions: By position.
        names: Of what the model was given.
        given: By position, its values.
        contributions: By position; None: not asked for, or the model cannot tell.
        refused: By number of a row, why it cannot be scored.
        seconds: How long looking up and predicting took.
    """

    loaded: Loaded
    variant: str
    assembled: Assembled
    places: Mapping[int, int] | range
    positions: Mapping[int, int] | range
    predictions: list[Row]
    names: list[str]
    given: list[tuple[Any, ...]]
    contributions: list[list[Row]] | None
    refused: Mapping[int, list[FieldError]]
    seconds: dict[str, float]

    def feature_status(self, served: Served) -> list[dict[str, list[str]]]:
        """By place, the feature sets that were not as they should be, by what they were."""
        assembled, count = self.assembled, len(self.assembled.times)
        stale = _stale(assembled, served)
        odd = {name: status for name, status in assembled.status.items() if status.count(OK) < count}
        statuses: list[dict[str, list[str]]] = []
        for place in range(count):
            found: dict[str, list[str]] = {}
            for name, status in odd.items():
                if status[place] != OK:
                    found.setdefault(status[place], []).append(name)
            if stale:
                found[STALE] = stale
            statuses.append(found)
        return statuses


def score(loaded: Loaded, variant: str, events: BatchRows, numbers: Sequence[int], *, explain: bool) -> Scored:
    """Some of the rows, scored by one version."""
    began, count = time.perf_counter(), len(events.rows)
    if len(numbers) == count:
        places: Mapping[int, int] | range = range(count)
        assembled = loaded.assembler.assemble(events.form, events.rows, events.frame, events.requests)
    else:
        taken, requests = events.with_mates(numbers)
        places = {number: place for place, number in enumerate(taken)}
        assembled = loaded.assembler.assemble(events.form, [events.rows[number] for number in taken], None, requests)
        assembled.keep({places[number] for number in numbers})
    looked = time.perf_counter()
    frame = assembled.frame
    found = loaded.predict(frame) if assembled.rows else []
    why = loaded.contributions(frame) if explain and assembled.rows else None
    seconds = {"features": looked - began, "predict": time.perf_counter() - looked}
    if None in found:
        lacking = [position for position, one in enumerate(found) if one is None]
        text = f"{loaded.endpoint.predictions.name} gave no prediction for it: its function left it out"
        for position in lacking:
            assembled.refused.setdefault(assembled.rows[position], []).append(FieldError(text))
    predictions: list[Row] = [one if one is not None else {} for one in found]
    for position, row in enumerate(assembled.rows) if assembled.unsent else ():
        if (unsent := assembled.unsent.get(row)) is not None:
            predictions[position] = {name: value for name, value in predictions[position].items() if name not in unsent}
    given = frame.rows()
    if isinstance(places, range) and not assembled.refused:
        return Scored(loaded, variant, assembled, places, places, predictions, frame.columns, given, why, {}, seconds)
    number_of = {place: number for number, place in places.items()} if isinstance(places, Mapping) else places
    refused = {number_of[place]: errors for place, errors in assembled.refused.items()}
    positions = {number_of[place]: position for position, place in enumerate(assembled.rows) if found[position] is not None}
    return Scored(loaded, variant, assembled, places, positions, predictions, frame.columns, given, why, refused, seconds)


def _stale(assembled: Assembled, served: Served) -> list[str]:
    limit = served.endpoint.stale_after
    if limit is None:
        return []
    now = clock.now()
    return [name for name, synced in assembled.synced_at.items() if synced is None or now - synced > limit]

"""What the inference log keeps of rows that were scored. How records are kept is in `inference_log`."""

from collections.abc import Sequence
from typing import Protocol

from lakehouse_assets.platform.serving.inference_log.records import InferenceRecord, InferenceRows
from lakehouse_assets.platform.serving.scored import Scored
from lakehouse_assets.platform.serving.work import Work


class Log(Protocol):
    """Where records are kept: see `inference_log.log.InferenceLog`."""

    def append(self, records: Sequence[InferenceRecord | InferenceRows]) -> None:
        """Log predictions before they are answered. Never raises, never waits."""
        ...


def logged_of(work: Work, scored: Scored, numbers: range, seconds: dict[str, float]) -> list[InferenceRows]:
    """What the log keeps of the rows of a request that one version has scored: one record for all that were sent with the same fields.

    Args:
        work: The request.
        scored: Who scored it.
        numbers: Of its rows in the batch.
        seconds: How long each part took.
    """
    all_of_it = isinstance(scored.positions, range)
    rows = list(range(len(numbers))) if all_of_it else [row for row, number in enumerate(numbers) if number in scored.positions]
    sent = work.rows if work.by is None else work.by.keys
    alike: dict[tuple[str, ...], list[int]] = {}
    for row in rows:
        alike.setdefault(tuple(sent[row]), []).append(row)
    return [_logged(work, scored, numbers[0], some, seconds) for some in alike.values()]


def _logged(work: Work, scored: Scored, first: int, rows: list[int], seconds: dict[str, float]) -> InferenceRows:
    """Some rows of a request, whose first row has a number in the batch; they were sent with the same fields."""
    champion, assembled = scored.loaded.champion, scored.assembled
    sent = work.rows if work.by is None else work.by.keys
    places = [scored.places[first + row] for row in rows]
    positions = [scored.positions[first + row] for row in rows]
    return InferenceRows(
        request_id=work.request_id,
        rows=rows,
        endpoint=work.served.name,
        received_at=work.received_at,
        event_times=[assembled.times[place] for place in places],
        key=list(scored.loaded.key),
        unsent=[(at, sorted(assembled.unsent[place])) for at, place in enumerate(places) if place in assembled.unsent],
        model_name=champion.name,
        model_version=champion.version,
        variant=scored.variant,
        features=(scored.names, [scored.given[position] for position in positions]),
        predictions=[scored.predictions[position] for position in positions],
        status={name: [its[place] for place in places] for name, its in assembled.status.items()},
        stamps={name: [its[place] for place in places] for name, its in assembled.stamps.items()},
        requester=work.requester,
        seconds=seconds,
        requests=(list(sent[rows[0]]), [tuple(sent[row].values()) for row in rows]),
        form=_form_of(work),
        tables=dict(assembled.tables),
        synced=dict(assembled.synced_at),
    )


def _form_of(work: Work) -> str:
    """What was sent, as `InferenceRecord.form` says it."""
    if work.by is not None:
        return "keys"
    return "dry_run" if work.dry_run and work.form == "rows" else work.form

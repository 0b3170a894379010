"""Scores what waits: one thread takes all waiting requests of an endpoint as one batch, so that queries are paid once a batch.

A batch is answered by the versions that were there when it began. Every answer is in the inference log before it is sent. What a request
may be is decided before it comes here, what an answer looks like in `answers`.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from lakehouse_assets.platform.serving.assemble import OK, Assembled, Form
from lakehouse_assets.platform.serving.inference_log.records import InferenceRecord
from lakehouse_assets.platform.serving.metrics import Metrics
from lakehouse_assets.platform.serving.pusher import Pusher
from lakehouse_assets.platform.serving.records import Log, status_of
from lakehouse_assets.platform.serving.refused import FieldError, Refused, refused
from lakehouse_assets.platform.serving.rows import Row
from lakehouse_assets.platform.serving.scorer import Loaded
from lakehouse_assets.platform.serving.served import Served, Versions
from lakehouse_assets.platform.serving.variants import is_challenged
from lakehouse_assets.platform.serving.work import Answer, Queue, Work

logger = logging.getLogger(__name__)
UNAVAILABLE, STALE = "unavailable", "stale"


@dataclass(frozen=True)
class Scored:
    """Rows that one version has scored.

    Attributes:
        loaded: The version.
        variant: `champion` or `challenger`.
        assembled: The rows with their features.
        predictions: By number of the row; so is what follows.
        features: What the model was given.
        contributions: By number of the row, where they were asked for and the model can tell.
        seconds: How long looking up and predicting took.
    """

    loaded: Loaded
    variant: str
    assembled: Assembled
    predictions: dict[int, Row]
    features: dict[int, Row]
    contributions: dict[int, list[Row]]
    seconds: dict[str, float]


class Engine:
    """The worker of one service."""

    def __init__(self, queue: Queue, log: Log, metrics: Metrics) -> None:
        self.queue, self.log, self.metrics = queue, log, metrics
        self.pusher = Pusher(metrics)
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)

    def start(self) -> None:
        """Begin to score."""
        self.pusher.start()
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Score what waits, then end."""
        self.queue.close()
        self._thread.join(seconds)
        self.pusher.stop(seconds)

    def _run(self) -> None:
        while (taken := self.queue.take()) is not None:
            self.metrics.queue.set(self.queue.rows)
            if callable(taken):
                taken()
            elif taken:
                self._answer(taken)

    # --- batches

    def _answer(self, works: Sequence[Work]) -> None:
        """Answer requests of one endpoint together; where that fails, each by itself, so that none fails because of another."""
        try:
            outcomes = self._score_all(works)
        except Exception:
            if len(works) > 1:
                for work in works:
                    self._answer([work])
                return
            logger.exception("request %s of %s failed", works[0].request_id, works[0].served.name)
            text = "the service failed on this request; its log says why, by the request id"
            outcomes = [(works[0], refused(500, text))]
        # All works of a service are of one event loop.
        works[0].future.get_loop().call_soon_threadsafe(_resolve, outcomes)

    def _score_all(self, works: Sequence[Work]) -> "list[tuple[Work, bytes | Refused]]":
        served, form, began = works[0].served, works[0].form, time.perf_counter()
        try:
            versions = works[0].versions or served.ready()
        except Refused as error:
            return [(work, error) for work in works]
        rows = [row for work in works for row in work.rows]
        explain = any(work.explain for work in works)
        events = Events(form, rows, served.types["rows"].frame(rows) if form == "rows" else None)
        broken = served.rules.broken_in(events.frame) if events.frame is not None and served.rules.needs_query else {}
        scored = self._by_variant(served, versions, events, broken, explain=explain)
        self.metrics.batch.labels(served.name).observe(len(rows))
        outcomes: list[tuple[Work, bytes | Refused]] = []
        answered: list[tuple[Work, int]] = []
        records = []
        start = 0
        for work in works:
            numbers = range(start, start + len(work.rows))
            start += len(work.rows)
            errors = [_in_row(error, number - numbers[0]) for number in numbers for error in _errors(number, broken, scored)]
            if errors:
                outcomes.append((work, Refused(422, errors)))
                continue
            wait = began - work.began
            answer = _answer_of(work, numbers, scored, served, wait)
            outcomes.append((work, work.encode(work, answer)))
            answered.append((work, numbers[0]))
            records += [_record(work, number - numbers[0], _of(number, scored), number, answer.seconds) for number in numbers]
        logging_began = time.perf_counter()
        self.log.append(records)
        self._count(served, scored, began, logging_began)
        if form == "rows" and answered:
            self._after(served, versions, [row for work, _ in answered for row in work.rows], answered)
        return outcomes

    def _by_variant(
        self, served: Served, versions: Versions, events: "Events", broken: dict[int, list[FieldError]], *, explain: bool
    ) -> list[Scored]:
        """The rows, scored by the champion and for its share by the challenger."""
        rows = events.rows
        numbers = [number for number in range(len(rows)) if number not in broken]
        share, entity = served.endpoint.challenger, served.roles.driving.entity
        challenger = versions.challenger if share else None
        theirs = {number for number in numbers if challenger is not None and is_challenged(served.name, rows[number], entity, share)}
        parts = [(versions.champion, "champion", [number for number in numbers if number not in theirs])]
        if challenger is not None:
            parts.append((challenger, "challenger", sorted(theirs)))
        return [_score(loaded, variant, events, part, explain=explain) for loaded, variant, part in parts if part]

    def _after(self, served: Served, versions: Versions, rows: list[Row], answered: list[tuple[Work, int]]) -> None:
        """What does not keep an answer waiting: windows learn of the events, the challenger scores in the shadow."""
        lookups, challenger = versions.champion.assembler.lookups, versions.challenger
        if lookups is not None:
            counting = [row for work, _ in answered if not work.dry_run for row in work.rows]
            if counting:
                self.pusher.put(lookups, counting)
        if challenger is None or not served.endpoint.shadow:
            return

        def score() -> None:
            try:
                self._shadow(served, challenger, rows, answered)
            except Exception:
                logger.exception("version %s failed in the shadow of %s", challenger.champion.version, served.name)
            finally:
                self.queue.shadow_done(len(rows))

        if not self.queue.put_shadow(len(rows), score):
            self.metrics.shadow_dropped.labels(served.name).inc(len(rows))

    def _shadow(self, served: Served, challenger: Loaded, rows: list[Row], answered: list[tuple[Work, int]]) -> None:
        scored = _score(challenger, "shadow", Events("rows", rows), list(range(len(rows))), explain=False)
        records, start = [], 0
        for work, _ in answered:
            for row in range(len(work.rows)):
                if start in scored.predictions:
                    records.append(_record(work, row, scored, start, scored.seconds))
                start += 1
        self.log.append(records)
        self.metrics.rows.labels(served.name, "shadow").inc(len(records))

    def _count(self, served: Served, scored: Sequence[Scored], began: float, logging_began: float) -> None:
        parts = self.metrics.parts
        parts.labels(served.name, "log").observe(time.perf_counter() - logging_began)
        parts.labels(served.name, "batch").observe(time.perf_counter() - began)
        for one in scored:
            self.metrics.rows.labels(served.name, one.variant).inc(len(one.predictions))
            for part, seconds in one.seconds.items():
                parts.labels(served.name, part).observe(seconds)
            for name, status in one.assembled.status.items():
                for word in {*status} - {OK}:
                    self.metrics.features.labels(served.name, name, word).inc(status.count(word))


@dataclass(frozen=True)
class Events:
    """The rows of a batch.

    Attributes:
        form: Of all of them.
        rows: With a value for every field.
        frame: Of events, the same as a frame.
    """

    form: Form
    rows: Sequence[Row]
    frame: pl.DataFrame | None = None


def _score(loaded: Loaded, variant: str, events: Events, numbers: list[int], *, explain: bool) -> Scored:
    """Some of the rows, scored by one version."""
    began, rows = time.perf_counter(), events.rows
    if len(numbers) == len(rows):
        assembled = loaded.assembler.assemble(events.form, rows, events.frame)
    else:
        assembled = loaded.assembler.assemble(events.form, [rows[number] for number in numbers])
    looked = time.perf_counter()
    found = loaded.predict(assembled.frame) if assembled.rows else []
    why = loaded.contributions(assembled.frame) if explain and assembled.rows else None
    seconds = {"features": looked - began, "predict": time.perf_counter() - looked}
    predictions, contributions, features = {}, {}, {}
    given = assembled.frame.rows(named=True)
    for position, row in enumerate(assembled.rows):
        prediction = found[position]
        if prediction is None:
            text = f"{loaded.endpoint.predictions.name} gave no prediction for it: its function left it out"
            assembled.refused.setdefault(row, []).append(FieldError(text))
            continue
        features[numbers[row]] = given[position]
        if row in assembled.unsent:
            unsent = assembled.unsent[row]
            prediction = {name: value for name, value in prediction.items() if name not in unsent}
            features[numbers[row]] = {name: value for name, value in given[position].items() if name not in unsent}
        predictions[numbers[row]] = prediction
        if why is not None:
            contributions[numbers[row]] = why[position]
    if assembled.refused or len(numbers) < len(rows):
        assembled.refused = {numbers[row]: errors for row, errors in assembled.refused.items()}
    return Scored(loaded, variant, _spread(assembled, numbers, len(rows)), predictions, features, contributions, seconds)


def _spread(assembled: Assembled, numbers: list[int], count: int) -> Assembled:
    """What was assembled of some rows, by the numbers of all rows."""
    if len(numbers) == count:
        return assembled
    at = {number: position for position, number in enumerate(numbers)}
    assembled.rows = [numbers[row] for row in assembled.rows]
    assembled.times = [assembled.times[at[number]] if number in at else None for number in range(count)]
    assembled.status = {
        name: [one[at[number]] if number in at else OK for number in range(count)] for name, one in assembled.status.items()
    }
    assembled.stamps = {
        name: [one[at[number]] if number in at else None for number in range(count)] for name, one in assembled.stamps.items()
    }
    return assembled


def _errors(number: int, broken: dict[int, list[FieldError]], scored: Sequence[Scored]) -> list[FieldError]:
    return [*broken.get(number, ()), *(error for one in scored for error in one.assembled.refused.get(number, ()))]


def _in_row(error: FieldError, row: int) -> FieldError:
    return FieldError(error.message, error.field, row)


def _of(number: int, scored: Sequence[Scored]) -> Scored:
    return next(one for one in scored if number in one.predictions)


def _answer_of(work: Work, numbers: range, scored: Sequence[Scored], served: Served, wait: float) -> Answer:
    by_row = [_of(number, scored) for number in numbers]
    seconds = {"wait": wait, **by_row[0].seconds} if by_row else {"wait": wait}
    why = None
    if work.explain:
        why = [one.contributions.get(number) for number, one in zip(numbers, by_row, strict=True)]
    return Answer(
        by_row[0].loaded.champion.name if by_row else served.endpoint.model.name,
        [one.predictions[number] for number, one in zip(numbers, by_row, strict=True)],
        [(one.variant, one.loaded.champion.version) for one in by_row],
        [features_of(one.assembled, number, served) for number, one in zip(numbers, by_row, strict=True)],
        why,
        seconds,
    )


def features_of(assembled: Assembled, number: int, served: Served) -> dict[str, list[str]]:
    """The feature sets that were not as they should be for a row, by what they were."""
    found: dict[str, list[str]] = {}
    for name, status in assembled.status.items():
        if status[number] != OK:
            found.setdefault(status[number], []).append(name)
    limit = served.endpoint.stale_after
    if limit is not None:
        now = datetime.now(UTC)
        stale = [name for name, synced in assembled.synced_at.items() if synced is None or now - synced > limit]
        if stale:
            found[STALE] = stale
    return found


def _record(work: Work, row: int, scored: Scored, number: int, seconds: dict[str, float]) -> InferenceRecord:
    """What the log keeps of a row.

    Args:
        work: The request.
        row: Number of the row in the request.
        scored: Who scored it.
        number: Of the row in the batch.
        seconds: How long each part took.
    """
    champion, assembled, given = scored.loaded.champion, scored.assembled, scored.features[number]
    return InferenceRecord(
        request_id=work.request_id,
        row=row,
        endpoint=work.served.name,
        received_at=work.received_at,
        event_time=assembled.times[number],
        key={name: given[name] for name in scored.loaded.key} if given.keys() >= {*scored.loaded.key} else {},
        model_name=champion.name,
        model_version=champion.version,
        variant=scored.variant,
        features=given,
        prediction=scored.predictions[number],
        status=dict(status_of(assembled, number)),
        requester=work.requester,
        seconds=seconds,
        request=work.rows[row] if work.by is None else work.by.keys[row],
        form=work.form if work.by is None else "keys",
    )


def _resolve(outcomes: "Sequence[tuple[Work, bytes | Refused]]") -> None:
    """Give the answers to those who wait, in the thread of the loop."""
    for work, outcome in outcomes:
        if work.future.done():
            continue
        if isinstance(outcome, Refused):
            work.future.set_exception(outcome)
        else:
            work.future.set_result(outcome)

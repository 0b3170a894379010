"""Scores what waits: one thread takes all waiting requests of an endpoint as one batch, so that queries are paid once a batch.

A batch is answered by the versions that were there when it began. Every answer is in the inference log before it is sent. What a request
may be is decided before it comes here, what an answer looks like in `answers`.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence

from lakehouse_assets.platform.serving.assemble import OK
from lakehouse_assets.platform.serving.inference_log.records import InferenceRows
from lakehouse_assets.platform.serving.logged import Log, logged_of
from lakehouse_assets.platform.serving.metrics import Metrics
from lakehouse_assets.platform.serving.pusher import Pusher
from lakehouse_assets.platform.serving.refused import FieldError, Refused, refused
from lakehouse_assets.platform.serving.scored import BatchRows, Scored, score
from lakehouse_assets.platform.serving.served import Served, Versions
from lakehouse_assets.platform.serving.shadow import Shadow
from lakehouse_assets.platform.serving.variants import is_challenged
from lakehouse_assets.platform.serving.work import Answer, Queue, Work

logger = logging.getLogger(__name__)


class Engine:
    """The worker of one service."""

    def __init__(self, queue: Queue, log: Log, metrics: Metrics) -> None:
        self.queue, self.log, self.metrics = queue, log, metrics
        self.pusher = Pusher(metrics)
        self.shadow = Shadow(queue, log, metrics)
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)

    def start(self) -> None:
        """Begin to score."""
        self.pusher.start()
        self.shadow.start()
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Score what waits, then end."""
        self.queue.close()
        self._thread.join(seconds)
        self.pusher.stop(seconds)
        self.shadow.stop(seconds)

    def _run(self) -> None:
        while (taken := self.queue.take()) is not None:
            self.metrics.queue.set(self.queue.rows)
            if taken:
                self._answer(taken)

    # --- batches

    def _answer(self, works: Sequence[Work]) -> None:
        """Answer requests of one endpoint together; where that fails, each by itself, so that none fails because of another."""
        try:
            outcomes = self._score_all(works)
        except BaseException:  # a panic of Polars or delta-rs is no Exception
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
        frame = served.types["rows"].frame(rows) if form == "rows" else None
        events = BatchRows(form, rows, [len(work.rows) for work in works], frame)
        broken = served.rules.broken_in(frame) if frame is not None and served.rules.needs_query else {}
        scored = self._by_variant(served, versions, events, broken, explain=explain)
        self.metrics.batch.labels(served.name).observe(len(rows))
        answers = Answers(served, scored)
        outcomes: list[tuple[Work, bytes | Refused]] = []
        answered: list[tuple[Work, bytes, list[InferenceRows]]] = []
        start = 0
        for work in works:
            numbers = range(start, start + len(work.rows))
            start += len(work.rows)
            if errors := [_in_row(error, number - numbers[0]) for number in numbers for error in _errors(number, broken, scored)]:
                outcomes.append((work, Refused(422, errors)))
                continue
            answer = answers.of(work, numbers, began - work.began)
            answer.champion = versions.champion.champion.version
            records = [logged for one in scored for logged in logged_of(work, one, numbers, answer.seconds)]
            answered.append((work, work.encode(work, answer), records))
        # Of those whose deadline was first, the door has logged that they were given up.
        answered = [one for one in answered if one[0].claim()]
        outcomes += [(work, body) for work, body, _ in answered]
        logging_began = time.perf_counter()
        self.log.append([record for *_, records in answered for record in records])
        try:
            self._count(served, scored, began, logging_began)
            if form == "rows" and answered:
                self._after(served, versions, [work for work, *_ in answered])
        except BaseException:  # the answers are logged, so they are given
            logger.exception("what follows answers of %s failed", served.name)
        return outcomes

    def _by_variant(
        self, served: Served, versions: Versions, events: BatchRows, broken: Mapping[int, list[FieldError]], *, explain: bool
    ) -> list[Scored]:
        """The rows, scored by the champion and for its share by the challenger; none of a request with a broken row."""
        rows = events.rows
        numbers: Sequence[int] = range(len(rows))
        if broken:
            refused, _ = events.with_mates(list(broken))
            numbers = sorted({*numbers} - {*refused})
        share, entity = served.endpoint.challenger, served.roles.driving.entity
        challenger = versions.challenger if share else None
        if challenger is None:
            return [score(versions.champion, "champion", events, numbers, explain=explain)] if numbers else []
        theirs = [number for number in numbers if is_challenged(served.name, rows[number], entity, share)]
        ours = sorted({*numbers} - {*theirs})
        parts = [(versions.champion, "champion", ours), (challenger, "challenger", theirs)]
        return [score(loaded, variant, events, part, explain=explain) for loaded, variant, part in parts if part]

    def _after(self, served: Served, versions: Versions, answered: list[Work]) -> None:
        """What does not keep an answer waiting: windows learn of the events, the challenger scores in the shadow."""
        lookups, challenger = versions.champion.assembler.lookups, versions.challenger
        if lookups is not None:
            counting = [row for work in answered if not work.dry_run for row in work.rows]
            if counting:
                self.pusher.put(lookups, counting)
        if challenger is not None and served.endpoint.shadow:
            self.shadow.put(served, challenger, answered)

    def _count(self, served: Served, scored: Sequence[Scored], began: float, logging_began: float) -> None:
        parts = self.metrics.parts
        parts.labels(served.name, "log").observe(time.perf_counter() - logging_began)
        parts.labels(served.name, "batch").observe(time.perf_counter() - began)
        for one in scored:
            self.metrics.rows.labels(served.name, one.variant).inc(len(one.positions))
            for part, seconds in one.seconds.items():
                parts.labels(served.name, part).observe(seconds)
            for name, status in one.assembled.status.items():
                for word in {*status} - {OK}:
                    self.metrics.features.labels(served.name, name, word).inc(status.count(word))


class Answers:
    """What is answered of the rows of a batch."""

    def __init__(self, served: Served, scored: Sequence[Scored]) -> None:
        self._served, self._scored = served, scored
        self._feature_status = [one.feature_status(served) for one in scored]

    def of(self, work: Work, numbers: range, wait: float) -> Answer:
        """The answer to one request, all of whose rows were scored."""
        if len(self._scored) == 1:
            by_row = [0] * len(numbers)
        else:
            by_row = [next(which for which, one in enumerate(self._scored) if number in one.positions) for number in numbers]
        of_variant = [(one.variant, one.loaded.champion.version) for one in self._scored]
        predictions, features, why = [], [], []
        for number, which in zip(numbers, by_row, strict=True):
            one = self._scored[which]
            position = one.positions[number]
            predictions.append(one.predictions[position])
            features.append(self._feature_status[which][one.places[number]])
            why.append(None if one.contributions is None else one.contributions[position])
        first = self._scored[by_row[0]] if by_row else None
        return Answer(
            self._served.endpoint.model.name if first is None else first.loaded.champion.name,
            predictions,
            [of_variant[which] for which in by_row],
            features,
            why if work.explain else None,
            {"wait": wait, **({} if first is None else first.seconds)},
        )


def _errors(number: int, broken: Mapping[int, list[FieldError]], scored: Sequence[Scored]) -> list[FieldError]:
    return [*broken.get(number, ()), *(error for one in scored for error in one.refused.get(number, ()))]


def _in_row(error: FieldError, row: int) -> FieldError:
    return FieldError(error.message, error.field, row)


def _resolve(outcomes: "Sequence[tuple[Work, bytes | Refused]]") -> None:
    """Give the answers to those who wait, in the thread of the loop."""
    for work, outcome in outcomes:
        if work.future.done():
            continue
        if isinstance(outcome, Refused):
            work.future.set_exception(outcome)
        else:
            work.future.set_result(outcome)

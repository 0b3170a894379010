"""What every request for predictions passes, whatever its protocol: who asks, limits, the queue, the deadline.

What a body says is read by the protocols; they hand in rows and get the body of an answer, or `Refused`.
"""

import asyncio
import itertools
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.serving.answers import encode, encode_newest
from lakehouse_assets.platform.serving.assemble import Form
from lakehouse_assets.platform.serving.http import Scope, header
from lakehouse_assets.platform.serving.inference_log.records import InferenceRecord
from lakehouse_assets.platform.serving.limits import Limits
from lakehouse_assets.platform.serving.logged import Log
from lakehouse_assets.platform.serving.metrics import Metrics
from lakehouse_assets.platform.serving.offload import Offload
from lakehouse_assets.platform.serving.refused import FieldError, Refused, refused
from lakehouse_assets.platform.serving.rows import Row
from lakehouse_assets.platform.serving.served import Served
from lakehouse_assets.platform.serving.stored_events import StoredEvents
from lakehouse_assets.platform.serving.tokens import Caller, Forbidden, Tokens, Unauthenticated
from lakehouse_assets.platform.serving.tokens import Scope as TokenScope
from lakehouse_assets.platform.serving.work import ByKeys, Encode, Queue, Work
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

COUNTED: Final = "lakehouse.endpoint"
"""Where the scope of a request names the endpoint that it is counted for."""
REQUEST_ID: Final = "lakehouse.request_id"
"""Where the scope of a request has its id."""
_PREFIX: Final = uuid4().hex
_NUMBERS: Final = itertools.count()
_REQUEST_ID: Final = re.compile(r"[0-9a-f]{32}-[0-9]{1,18}")


def new_request_id() -> str:
    """A text that no other request has."""
    return f"{_PREFIX}-{next(_NUMBERS)}"


def is_request_id(text: str) -> bool:
    """Whether a text may be the id of a request, of this process or of another one."""
    return _REQUEST_ID.fullmatch(text) is not None


@dataclass(slots=True)
class RequestContext:
    """A request on its way.

    Attributes:
        caller: Who asks.
        request_id: Tells it from all others.
        began: By `time.perf_counter`.
        explain: Whether contributions are asked for.
        dry_run: Whether its events are not to count in the windows of later requests.
    """

    caller: Caller
    request_id: str
    began: float = field(default_factory=time.perf_counter)
    explain: bool = False
    dry_run: bool = False


class Door:
    """Takes requests for predictions."""

    def __init__(
        self,
        served: Mapping[str, Served],
        queue: Queue,
        log: Log,
        tokens: Tokens,
        *,
        metrics: Metrics,
        limits: Limits,
        lakehouse: Lakehouse,
        offload: Offload,
    ) -> None:
        self.served, self.limits, self.metrics = served, limits, metrics
        self._queue, self._log, self._tokens, self._lakehouse, self._offload = queue, log, tokens, lakehouse, offload

    def endpoint(self, name: str) -> Served:
        """An endpoint.

        Raises:
            Refused: There is none of that name.
        """
        found = self.served.get(name)
        if found is None:
            raise refused(404, f"there is no endpoint {name[:100]!r}: there are {', '.join(self.served) or 'none'}")
        return found

    def asked(self, scope: Scope) -> RequestContext:
        """A request for predictions, under the id that its answer has.

        Raises:
            Refused: Who asks may not.
        """
        return RequestContext(self.caller(scope), scope[REQUEST_ID])

    @contextmanager
    def asking(self, served: Served, asked: RequestContext, scope: Scope) -> Iterator[None]:
        """A request of another protocol to an endpoint: it is counted, and logged if it is refused."""
        scope[COUNTED] = served.name
        try:
            yield
        except Refused as error:
            self.note_refused(served.name, asked, error)
            raise

    def note_refused(self, name: str, asked: RequestContext | None, error: Refused) -> None:
        """Log a request that was not answered: its status and what was wrong, without values. Of nobody who may ask, nothing is kept."""
        served = self.served.get(name)
        if served is None or asked is None:
            return
        record = InferenceRecord(
            request_id=asked.request_id,
            row=0,
            endpoint=name,
            received_at=clock.now(),
            model_name=served.endpoint.model.name,
            requester=asked.caller.name,
            seconds={"total": time.perf_counter() - asked.began},
            status_code=error.status,
            error=error.without_values(served.fields),
        )
        self._log.append([record])

    def caller(self, scope: Scope, needs: TokenScope = "score") -> Caller:
        """Who asks.

        Raises:
            Refused: They may not.
        """
        given = header(scope, b"authorization")
        try:
            return self._tokens.check(None if given is None else given.decode("latin-1"), needs)
        except (Unauthenticated, Forbidden) as error:
            raise Refused(error.status, [FieldError(str(error))], {"WWW-Authenticate": error.www_authenticate}) from None

    def may(self, scope: Scope, needs: TokenScope) -> bool:
        """Whether who asks may do something."""
        try:
            self.caller(scope, needs)
        except Refused:
            return False
        return True

    async def score(
        self, served: Served, form: Form, rows: list[Row], asked: RequestContext, encoded: Encode = encode, *, by: ByKeys | None = None
    ) -> bytes:
        """The answer to rows, as soon as they are scored and written down.

        Args:
            served: The endpoint.
            form: Of the rows.
            rows: With a value for every field.
            asked: The request.
            encoded: Makes the body of the answer.
            by: Where the rows were read by keys, which, and for which versions.

        Raises:
            Refused: They cannot be scored, or not in time.
        """
        if not rows:
            raise refused(422, "there are no rows: send at least one")
        if len(rows) > self.limits.request_rows:
            raise refused(413, f"{len(rows)} rows are more than {self.limits.request_rows}: send them in several requests")
        served.ready()
        served.check(form, rows)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()
        deadline = time.monotonic() + self.limits.seconds
        work = Work(
            served,
            form,
            rows,
            asked.request_id,
            clock.now(),
            deadline,
            future,
            encoded,
            asked.explain,
            asked.caller.name,
            asked.began,
            asked.dry_run,
            by,
        )
        self._queue.put(work)
        timer = loop.call_later(self.limits.seconds, _expire, work, self.limits.seconds)
        try:
            return await future
        finally:
            timer.cancel()
            work.claim()  # if nobody waits any more, no answer is logged

    async def by_keys(self, served: Served, keys: list[Row], asked: RequestContext) -> bytes:
        """The answer to keys: the newest predictions, or the stored events of these keys, scored with the features that batch has of them.

        Raises:
            Refused: A key is not known, or cannot be scored.
        """
        self._check_distinct(keys)
        versions = served.ready()
        if not served.endpoint.by_keys:
            if not keys:
                raise refused(422, "there are no keys: send at least one", "keys")
            stored = StoredEvents(served, self._lakehouse)
            found = await self._offload.run(lambda: stored.rows(versions, keys), self.limits.seconds, "the stored events of these keys")
            return await self.score(served, "features", found, asked, by=ByKeys(keys, versions))
        newest, champion = versions.newest, versions.champion.champion
        assert newest is not None  # noqa: S101 an endpoint by keys is not ready without
        received = clock.now()
        answers = newest.of(keys or [{}])
        body = encode_newest(asked.request_id, champion, newest, answers)
        seconds = {"total": time.perf_counter() - asked.began}
        self._log.append(
            [
                InferenceRecord(
                    request_id=asked.request_id,
                    row=number,
                    endpoint=served.name,
                    received_at=received,
                    key={name: value for name, value in key.items() if value is not None},
                    model_name=champion.name,
                    model_version=champion.version,
                    # The predictions themselves are those of the prediction table, by version and time.
                    prediction={"rows": len(rows), "as_of": newest.as_of, "features_version": newest.features_version},
                    requester=asked.caller.name,
                    seconds=seconds,
                    form="keys",
                )
                for number, (key, rows) in enumerate(zip(keys or [{}], answers, strict=True))
            ]
        )
        return body

    def _check_distinct(self, keys: Sequence[Row]) -> None:
        """See that no prediction is asked for again and again, so that an answer is never much longer than the table.

        Raises:
            Refused: There are too many keys, or two are the same.
        """
        if len(keys) > self.limits.request_rows:
            raise refused(413, f"{len(keys)} keys are more than {self.limits.request_rows}: send them in several requests")
        seen: dict[tuple[Any, ...], int] = {}
        for number, key in enumerate(keys):
            if (first := seen.setdefault(tuple(key.items()), number)) != number:
                raise refused(422, f"it is the key of row {first}: send each key once", next(iter(key), None), number)


def _expire(work: Work, seconds: float) -> None:
    if not work.future.done() and work.claim():
        expire(work.future, seconds)


def expire(future: "asyncio.Future[bytes]", seconds: float) -> None:
    """Give a request up that nobody answered in time."""
    if not future.done():
        future.set_exception(refused(504, f"no answer within {seconds:g} seconds: ask again, with fewer rows or later", retry_after="1"))

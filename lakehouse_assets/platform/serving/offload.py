"""Reads of the lake on behalf of a request: outside of the event loop, few at once, and never waited for longer than a limit.

A bucket that is away answers after minutes, or not at all. What a request needs of it is refused in time, and other requests go on.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from lakehouse_assets.platform.serving.refused import Refused, refused

Result = TypeVar("Result")
logger = logging.getLogger(__name__)
_AT_ONCE: Final = 8


class Offload:
    """Runs functions that read the lake, in threads of their own.

    Args:
        at_once: How many may run, those included that nobody waits for any more.
    """

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._free = threading.BoundedSemaphore(at_once)

    async def run(
        self, read: Callable[[], Result], seconds: float, what: str, *, full: Refused | None = None, late: Refused | None = None
    ) -> Result:
        """What a function gives.

        Args:
            read: The function.
            seconds: It is not waited for longer.
            what: Is read, for messages: "the tables".
            full: Is raised if too many run.
            late: Is raised if it takes too long.

        Raises:
            Refused: By the function; or, with 503 unless it is said, it failed, it took too long, or too many run.
        """
        away = refused(503, f"{what} cannot be read now: ask again in some seconds", retry_after="5")
        if not self._free.acquire(blocking=False):
            raise full or away
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        # No pool: its threads would keep the process from ending as long as the bucket is away.
        try:
            threading.Thread(target=self._run, args=(read, loop, future), name="offload", daemon=True).start()
        except RuntimeError:  # the system gives no more threads
            self._free.release()
            raise away from None
        try:
            async with asyncio.timeout(seconds):
                return await future
        except Refused:
            raise
        except TimeoutError:
            raise late or away from None
        except Exception as error:
            logger.warning("%s cannot be read now: %s: %s", what, type(error).__name__, error)
            raise away from error

    def _run(self, read: Callable[[], Any], loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]") -> None:
        found, failed = None, None
        try:
            found = read()
        except Exception as error:  # noqa: BLE001 it is raised where it is waited for
            failed = error
        finally:
            self._free.release()
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, future, found, failed)


def _settle(future: "asyncio.Future[Any]", found: Any, failed: Exception | None) -> None:
    if future.done():
        return
    if failed is None:
        future.set_result(found)
    else:
        future.set_exception(failed)

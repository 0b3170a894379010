"""One deadline for a delivery as a whole, however often a receiver says a little more: what it talks through is shut down then."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Deadline:
    """Ends a conversation that is not over in time: whoever reads or writes gets an error.

    Args:
        seconds: From its begin.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.has_passed = seconds, False
        self._lock, self._watched = threading.Lock(), list[socket.socket]()
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()
        with self._lock:
            for one in self._watched:
                one.close()
            self._watched.clear()

    @property
    def reason(self) -> str:
        """Why nothing was delivered, where it has passed."""
        return f"the message was not taken within {self.seconds:g} seconds"

    def check(self) -> None:
        """Whether it was all in time.

        Raises:
            TimeoutError: It was not.
        """
        if self.has_passed:
            raise TimeoutError

    def watch(self, connection: socket.socket) -> socket.socket:
        """The connection, which is shut down when the deadline passes. Encrypting it takes its descriptor away, so another is kept."""
        with self._lock:
            self._watched.append(connection.dup())
        if self.has_passed:
            self._pass()
        return connection

    def connect(self, address: tuple[str, int], timeout: float | None = None, source: tuple[str, int] | None = None) -> socket.socket:
        """As `socket.create_connection`."""
        return self.watch(socket.create_connection(address, timeout, source))

    def _pass(self) -> None:
        with self._lock:
            self.has_passed = True
            for one in self._watched:
                with suppress(OSError):  # the other side has closed it
                    one.shutdown(socket.SHUT_RDWR)

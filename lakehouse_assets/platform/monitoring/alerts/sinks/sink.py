"""What every sink of alerts is: something with a name that takes a message, or says why not. When it is tried is decided in `delivery`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from logging import Logger
from typing import Final

from lakehouse_assets.platform.monitoring.alerts.messages import Message

SECONDS: Final = 10.0
"""So long a sink waits for each answer of its receiver."""
WHOLE: Final = 20.0
"""So many seconds a delivery may take as a whole."""


class Unreachable(Exception):
    """The receiver did not answer, or asks to come again: what is sent to it next would not be taken either.

    Its text names no address, which may be a secret.
    """


class Refused(Exception):
    """The receiver does not take this message. Its text names no address."""


@dataclass(frozen=True)
class Sink(ABC):
    """Somewhere that people are told.

    Attributes:
        name: By which its deliveries are known: stays the same if its address is corrected.
    """

    name: str

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it is, for people, without what may be a secret."""

    @abstractmethod
    def send(self, message: Message) -> None:
        """Deliver a message.

        Raises:
            Unreachable: Nothing can be delivered there now.
            Refused: This message is not taken.
        """


@dataclass(frozen=True)
class LogSink(Sink):
    """The log of the process, which is Dagster's in the daemon.

    Attributes:
        logger: Where it is written.
    """

    logger: Logger

    @property
    def place(self) -> str:
        """See `Sink.place`."""
        return "the log"

    def send(self, message: Message) -> None:
        """See `Sink.send`."""
        self.logger.warning("%s", message.text)


@dataclass(frozen=True)
class Unusable(Sink):
    """A sink that the settings do not say enough of. What it is owed waits until they do.

    Attributes:
        why: What is wrong, and what to do.
    """

    why: str

    @property
    def place(self) -> str:
        """See `Sink.place`."""
        return "nowhere"

    def send(self, message: Message) -> None:  # noqa: ARG002 nothing can be sent
        """See `Sink.send`."""
        raise Unreachable(self.why)

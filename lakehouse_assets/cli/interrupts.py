"""What Ctrl-C and the signals that end a process do to a command: it says so in a sentence, and ends with 128 and the signal's number.

What a run does when it is interrupted is in `orchestration.run`; `lakehouse dev`, which is meant to be interrupted, handles it itself.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn

import click

# What a terminal, a service manager and `docker stop` end a command with.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# So long a library that is at work outside of Python (a query of Polars) may take until the command ends all the same.
_GRACE_SECONDS: Final = 2.0
_AGAIN_SECONDS: Final = 0.05


class Signalled(KeyboardInterrupt):
    """A signal that ends the command."""

    def __init__(self, number: int) -> None:
        super().__init__(_words(number))
        self.number = number


def _words(number: int) -> str:
    return "Interrupted" if number == signal.SIGINT else f"Interrupted by {signal.Signals(number).name}"


@contextmanager
def interruptible(meaning: str) -> Iterator[None]:
    """End the process with a sentence when it is interrupted.

    Args:
        meaning: Another sentence, of what becomes of what was begun; empty if nothing was.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are for the main thread alone
        yield
        return
    try:
        with _signals_interrupt(meaning):
            yield
    except KeyboardInterrupt as interrupt:
        _end(str(interrupt) or "Interrupted", meaning, getattr(interrupt, "number", signal.SIGINT))
    except click.Abort as abort:
        if not isinstance(abort.__context__, KeyboardInterrupt):
            raise click.ClickException("there was no answer, so nothing was done. `--yes` answers for you.") from abort
        _end(str(abort.__context__) or "Interrupted", "Nothing was done.", getattr(abort.__context__, "number", signal.SIGINT))


@contextmanager
def _signals_interrupt(meaning: str) -> Iterator[None]:
    """Let each of the signals interrupt the command as Ctrl-C does. One that is ignored, as under `nohup`, stays so."""
    noticed = threading.Event()

    def interrupt(number: int, _: FrameType | None) -> NoReturn:
        noticed.set()
        raise Signalled(number)

    def watch() -> None:
        """End the process if the main thread does not notice a signal: Python tells it only between two of its own instructions."""
        with open(reader, "rb", buffering=0) as signals:  # noqa: PTH123 it is a descriptor
            while number := signals.read(1):
                if signal.getsignal(number[0]) is interrupt and not noticed.wait(_GRACE_SECONDS):
                    _end(_words(number[0]), meaning, number[0])

    report = sys.unraisablehook

    def dropped(what: "sys.UnraisableHookArgs") -> None:
        """Python drops what is raised in a finalizer or a callback of a weak reference: the signal is sent again."""
        if isinstance(what.exc_value, Signalled):
            again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), what.exc_value.number))
            again.daemon = True
            again.start()
        else:
            report(what)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    woken = signal.set_wakeup_fd(writer)
    threading.Thread(target=watch, name="interrupts", daemon=True).start()
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = report
        signal.set_wakeup_fd(woken)
        os.close(writer)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(words: str, meaning: str, number: int) -> NoReturn:
    """End the process without the interpreter's shutdown: it crashes under threads of Polars that are still in a product's function."""
    with suppress(OSError):  # the terminal may be gone
        click.echo(f"{words}. {meaning}".rstrip(), err=True)
    atexit._run_exitfuncs()  # noqa: SLF001 - temporary folders are removed there
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody may be reading any more
            stream.flush()
    os._exit(128 + number)

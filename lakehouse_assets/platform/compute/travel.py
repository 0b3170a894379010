"""What is sent to other processes: functions, items, results and errors, by pickle. What cannot be sent is refused by name.

Which processes there are, and what they are sent, does not belong here.
"""

import io
import pickle
import traceback
from collections.abc import Callable
from types import FunctionType, MappingProxyType
from typing import Any, Final

_REMEDY: Final = (
    "Give a function of a module, without closures: defined at the top of a file that can be imported, with its data as arguments of "
    "`functools.partial`. Or work in one process: LAKEHOUSE_COMPUTE=local"
)
_MAIN: Final = "__main__"


class CannotTravel(TypeError):
    """Something cannot be sent to another process. The message names it and says what can."""


class RemoteTraceback(Exception):
    """Where an error was raised in another process, as text."""

    def __str__(self) -> str:
        return str(self.args[0])


class _Pickler(pickle.Pickler):
    """Refuses what another process would not find, and takes read-only mappings along."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, FunctionType | type) and obj.__module__ == _MAIN:
            raise CannotTravel(f"{obj.__qualname__} is defined in the script or notebook that runs, which other processes do not import")
        if isinstance(obj, MappingProxyType):
            return MappingProxyType, (dict(obj),)
        return NotImplemented


def name_of(function: Callable[..., Any]) -> str:
    """What a function is called in messages: its module and name, of a partial one those of what it calls."""
    while hasattr(function, "func"):
        function = function.func
    called = function if hasattr(function, "__qualname__") else type(function)
    return f"{called.__module__}.{called.__qualname__}"


def packed(value: object, what: str) -> memoryview:
    """A value as bytes.

    Args:
        value: Is sent.
        what: It is, for the message.

    Raises:
        CannotTravel: It cannot be pickled.
    """
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    except Exception as error:
        # A value that is asked for its state may do work, as reading rows: an error of that has a place in Python, and is raised as it is.
        at = error.__traceback__
        is_own = isinstance(error, pickle.PicklingError | CannotTravel | RecursionError) or at is None or at.tb_next is None
        if not is_own:
            raise
        raise CannotTravel(f"{what} cannot be sent to another process: {error}. {_REMEDY}") from error
    return buffer.getbuffer()


def unpacked(blob: bytes, what: str) -> Any:
    """The value again.

    Raises:
        CannotTravel: This process does not find what it is made of.
    """
    try:
        return pickle.loads(blob)  # noqa: S301 - it was packed by this program
    except Exception as error:
        raise CannotTravel(f"{what} cannot be loaded in another process: {type(error).__name__}: {error}. {_REMEDY}") from error


def packed_error(error: BaseException) -> memoryview:
    """An error as bytes, with where it was raised; in place of one that would not come out as it is, a RuntimeError that tells of it."""
    told = "".join(traceback.format_exception(error))
    try:
        blob = packed((error, told), "an error")
        again, _ = pickle.loads(blob)  # noqa: S301 - it was packed here
    except Exception:  # noqa: BLE001 - a class of errors may do anything
        again = None
    if type(again) is type(error) and str(again) == str(error):
        return blob
    return packed((RuntimeError(f"{type(error).__name__}: {error}"), told), "an error")


def unpacked_error(blob: bytes) -> BaseException:
    """The error again, caused by where it was raised."""
    error: BaseException
    error, told = unpacked(blob, "an error")
    error.__cause__ = RemoteTraceback(f"\n{told}")
    return error

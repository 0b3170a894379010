"""Why a step failed, as it may leave the house: without what may be a value of its rows. Alerts and the system tables say it so.

A declared table says it in the platform's own words, which hold none. Of an error in other code its type and place are told: Dagster's log
of the run has the whole.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import dagster as dg
import polars as pl

from lakehouse_assets.platform.declarations import places
from lakehouse_assets.platform.storage.errors import StorageError

OWN: Final[Mapping[str, Any]] = {"without_values": True}
"""Metadata of the platform's own failures: their text holds no value of a row."""
_FRAME: Final = re.compile(r'\s*File "(?P<file>[^"]+)", line (?P<line>\d+)')


def reason_of_failure(event: dg.DagsterEvent) -> str:
    """Why a step failed: our own text, and of other errors their type and place."""
    failure = event.step_failure_data
    own = failure.user_failure_data
    if own is not None and own.description and OWN.keys() <= own.metadata.keys():
        return str(own.description)
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return "unknown: see the log of the run"
    if error.cls_name in _WITHOUT_VALUES:
        return error.message.strip()
    at = _place(error.stack)
    return f"{error.cls_name}{f' at {at}' if at else ''}: see the log of the run"


def holds_no_values(error: BaseException) -> bool:
    """Whether what we say of an error holds no value of a row: its text is ours, and does not repeat that of another one which is not.

    Of errors of Polars we say none of their values.
    """
    if isinstance(error, StorageError | OSError | pl.exceptions.PolarsError | pl.exceptions.PanicException):
        return True
    return places.is_ours(error) and (error.__cause__ is None or holds_no_values(error.__cause__))


def _place(stack: Iterable[str]) -> str:
    frames = [(found["file"], int(found["line"])) for frame in stack if (found := _FRAME.match(frame)) is not None]
    return places.innermost(frames)


def _classes(base: type[BaseException]) -> Iterable[str]:
    yield base.__name__
    for below in base.__subclasses__():
        yield from _classes(below)


_WITHOUT_VALUES: Final = frozenset({*_classes(StorageError), *_classes(OSError)})

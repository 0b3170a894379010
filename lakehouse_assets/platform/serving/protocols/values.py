"""Values as the clients of open protocols write them: what pandas makes of a column, and what MLflow's own server reads.

Whole floats are whole numbers, 0 and 1 are Booleans, a time without a zone is in UTC, a number is a time since 1970. What a value is not,
is left as it is: who reads rows says what is wrong.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.serving.whole_numbers import whole

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NANOSECONDS: Final = 10**16
"""From here on numbers are nanoseconds since 1970, as MLflow's server reads them; less are milliseconds, as `DataFrame.to_json` writes."""


def value(given: Any, dtype: pl.DataType | None) -> Any:
    """A value as JSON has it for a type."""
    if given is None or dtype is None:
        return given
    if isinstance(given, float) and dtype.is_integer():
        return given if (found := whole(given)) is None else found
    if dtype == pl.Boolean:
        return bool(given) if given in (0, 1) and not isinstance(given, bool) else given
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return _time(given, dtype)
    return given


def _time(given: Any, dtype: pl.DataType) -> Any:
    moment = _moment(given)
    if moment is None:
        return given
    if isinstance(dtype, pl.Datetime):
        return (moment if dtype.time_zone is not None else moment.replace(tzinfo=None)).isoformat()
    return moment.date().isoformat() if moment.time() == moment.time().min else given


def _moment(given: Any) -> datetime | None:
    """A moment in UTC; None: it is none."""
    try:
        if isinstance(given, str):
            found = datetime.fromisoformat(given)
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        if isinstance(given, int | float) and not isinstance(given, bool):
            microseconds = given / 1000 if abs(given) >= _NANOSECONDS else given * 1000
            return _EPOCH + timedelta(microseconds=microseconds)
    except (ValueError, OverflowError):
        return None
    return None

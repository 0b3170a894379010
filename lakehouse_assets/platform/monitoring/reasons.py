"""What an error says in a line that may be kept and told: without what may be a value of a row. Verdicts and alerts say it so.

Why a step of Dagster's failed is in `orchestration.step_errors`, which knows errors by what Dagster recorded of them.
"""

from typing import Final

import polars as pl

from lakehouse_assets.platform.declarations import places
from lakehouse_assets.platform.quality.masking import without_values
from lakehouse_assets.platform.storage.errors import StorageError

TROUBLE: Final = (Exception, pl.exceptions.PanicException)
"""Whatever can go wrong where rows are read: a panic of Polars is no Exception."""


def reason(error: BaseException) -> str:
    """What an error says. Messages of others may hold values of rows: of these type and place are told."""
    if isinstance(error, pl.exceptions.PolarsError | pl.exceptions.PanicException):
        return f"{type(error).__name__}: {without_values(error)}"
    if isinstance(error, StorageError | OSError) or places.is_ours(error):
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    at = places.raised_at(error)
    return type(error).__name__ + (f" at {at}" if at else "")

"""The table `platform.monitoring.accuracy`: one row for each number about the predictions of a model in a window.

Here are its columns and what tells rows apart. How numbers are worked out is in `scoring`, when, in `step`.
"""

from typing import Final

import polars as pl

from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.platform_tables import ACCURACY
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

SCHEMA: Final = pl.Schema(
    {
        "model": pl.String(),
        "predictions": pl.String(),
        "granularity": pl.String(),
        "window_start": TIMESTAMP,
        "window_end": TIMESTAMP,
        "model_version": pl.Int64(),
        "cell": pl.String(),
        "slice_key": pl.String(),
        "slice_value": pl.String(),
        "horizon": pl.String(),
        "metric": pl.String(),
        "is_estimate": pl.Boolean(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "rows": pl.Int64(),
        "labelled": pl.Int64(),
        "coverage": pl.Float64(),
        "provisional": pl.Boolean(),
        "baseline": pl.Float64(),
        "estimate": pl.Float64(),
        "difference": pl.Float64(),
        "evaluated_at": TIMESTAMP,
        "read_versions": pl.String(),
    }
)
IDENTITY: Final = ("predictions", "granularity", "window_start", "model_version", "cell", "metric", "is_estimate")
"""What tells rows apart."""
WINDOW: Final = ("predictions", "granularity", "window_start")
"""What is replaced as a whole."""
NOTES: Final = ("evaluated_at", "read_versions")
"""What says of a row when and from what it was made, and is no part of the result."""
ALL: Final = "all"
"""The cell of all rows of a window."""


def accuracy_table(lakehouse: Lakehouse) -> Table:
    """The table, made unless it is there."""
    table = lakehouse.table(ACCURACY)
    table.create(SCHEMA, description="How good predictions were, by window, slice, horizon and version of the model.")
    return table

"""What went wrong with a table, in one line that names it and holds no value of its rows. What is done about it is for the caller."""

import polars as pl

from lakehouse_assets.platform.quality.masking import without_values


def failure_text(name: str, error: Exception) -> str:
    """What went wrong with a table, in one line that names it. Polars puts values of rows into its messages: they are left out."""
    text = " ".join(str(error).split())
    if isinstance(error, pl.exceptions.PolarsError):
        text = f"its function failed with {type(error).__name__}: {without_values(error)}"
    return text if name in text else f"{name}: {text}"

"""What went wrong with a table, in one line that names it and holds no value of its rows. What is done about it is for the caller."""

import polars as pl

from lakehouse_assets.platform.quality.masking import without_values


def failure_text(name: str, error: BaseException) -> str:
    """What went wrong with a table, in one line that names it. Polars puts values of rows into its messages: they are left out."""
    text = " ".join(str(error).split())
    if isinstance(error, pl.exceptions.PolarsError):
        text = f"its function failed with {type(error).__name__}: {without_values(error)}"
    if isinstance(error, pl.exceptions.PanicException):  # as over a file of garbage
        text = f"Polars broke off: {without_values(error)}. If a table cannot be read, `lakehouse doctor` says which one, and what to do"
    return text if name in text else f"{name}: {text}"

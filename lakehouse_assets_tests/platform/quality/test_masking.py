"""What Polars says is shown without the values that it names."""

import polars as pl
import pytest

from lakehouse_assets.platform.quality.masking import without_values


@pytest.mark.parametrize(
    "failing",
    [
        pl.col("email").cast(pl.Int64),
        pl.col("email").str.to_integer(),
        pl.col("email").str.to_time("%H"),
        pl.col("email").cast(pl.Enum(["a"])),
    ],
    ids=str,
)
def test_an_error_of_polars_is_shown_without_values(failing):
    rows = pl.LazyFrame({"email": ["bob: [x], values: @secret.com"]})
    with pytest.raises(pl.exceptions.PolarsError, match="secret") as error:
        rows.select(failing).collect(engine="streaming")
    assert without_values(error.value).endswith(": …")
    assert "secret" not in without_values(error.value)

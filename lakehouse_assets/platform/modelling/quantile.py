"""What quantiles are called. How they are learnt and calibrated is in the learners and in `forecasting`."""

from typing import Final

MEDIAN: Final = 0.5


def quantile_name(quantile: float) -> str:
    """The column of a quantile: `p10` for 0.1, `p97.5` for 0.975."""
    return f"p{100 * quantile:g}"

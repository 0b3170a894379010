"""The pages by name, with their titles, in the order in which people read them."""

from collections.abc import Mapping, Sequence
from typing import Final

PAGES: Final[Mapping[str, str]] = {
    "overview": "Overview",
    "forecasts": "Forecasts",
    "review": "Review queue",
    "health": "Table health",
    "drift": "Drift",
    "models": "Models",
    "catalogue": "Catalogue",
}
NOTEBOOKS: Final[Sequence[str]] = [name for name in PAGES if name != "overview"]
"""Those that are files of `lakehouse_assets.pages`."""

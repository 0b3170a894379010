"""How a feature set is served within a request: by its newest values, or by the events that its statistics are of.

A declaration carries its form (`FeatureSet.online`); `LatestValues` is that of every set that says nothing else. How a form is read is in
`readers`, how the store is kept up to date in `sync`.
"""

from dataclasses import dataclass
from typing import Final

import polars as pl

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.online.readers import Reader, ServedSet, ValuesReader, WindowsReader
from lakehouse_assets.platform.features.online.streaming import StreamingWindows
from lakehouse_assets.platform.features.windows import Windows


@dataclass(frozen=True)
class LatestValues:
    """The newest row of the entity is looked up."""

    events: str = ""

    def reader(self, served: ServedSet, event: str, schema: pl.Schema | None) -> Reader:  # noqa: ARG002
        """What reads a set of this form, in requests about a table of events."""
        return ValuesReader(served)


@dataclass(frozen=True)
class WindowEvents:
    """The statistics are worked out at the request, of the recent events of the entity and the request's own one.

    Attributes:
        windows: What is worked out; a row at each event.
        events: The table of events.
        where: Which events count; an expression about the event alone.
        numbers: The columns of values that are made floats before.
    """

    windows: Windows
    events: str
    where: pl.Expr | None = None
    numbers: tuple[str, ...] = ()

    def reader(self, served: ServedSet, event: str, schema: pl.Schema | None) -> Reader:
        """See `LatestValues.reader`. In requests about other events the newest row of the feature table is looked up."""
        if event != self.events:
            return ValuesReader(served)
        return WindowsReader(served, self.windows, StreamingWindows(self.windows, self.numbers), self.where, schema)


Form = LatestValues | WindowEvents
_LATEST: Final = LatestValues()


def form_of(feature: FeatureSet) -> Form:
    """How a feature set is served."""
    form = feature.online
    return _LATEST if form is None else form  # type: ignore[return-value]

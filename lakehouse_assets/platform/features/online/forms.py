"""How a feature set is served within a request: by its newest values, or by the events that its statistics are of.

A declaration carries its form (`FeatureSet.online`); `LatestValues` is that of every set that says nothing else. How a form is read is in
`readers`, how the store is kept up to date in `sync`.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import polars as pl

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.online.kept import Kept, KeptEvents, KeptValues, newest_version
from lakehouse_assets.platform.features.online.readers import ServedSet, SetReader, ValuesReader
from lakehouse_assets.platform.features.online.streaming import StreamingWindows
from lakehouse_assets.platform.features.online.window_reader import WindowsReader
from lakehouse_assets.platform.features.windows import Windows
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion, version_to_read
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


@dataclass(frozen=True)
class Needs:
    """What the store has to know of feature sets.

    Attributes:
        key_of: Gives the columns that tell the rows of a table of events apart, by its name.
        events: The tables whose rows requests are about; empty: any. Of a set of windows over other events the values are kept.
        learnt: The versions of the feature set that models in use were trained on: what they read is kept besides the newest.
        keep: How late a request may be: for so long a value stays after a newer one came.
    """

    key_of: Callable[[str], tuple[str, ...]]
    events: Collection[str] = ()
    learnt: Collection[FeatureVersion] = ()
    keep: timedelta = timedelta(days=1)


@dataclass(frozen=True)
class LatestValues:
    """The newest row of the entity is looked up."""

    events: str = ""

    def reader(self, served: ServedSet, event: str | None, schema: pl.Schema | None) -> SetReader:  # noqa: ARG002
        """What reads a set of this form, in requests about a table of events."""
        return ValuesReader(served)

    def kept(self, feature: FeatureSet, lakehouse: Lakehouse, needs: Needs) -> list[Kept]:
        """What the store keeps of a set of this form: the newest version first."""
        table = lakehouse.table(feature.name)
        if not table.exists():
            return [KeptValues(feature, table, None, needs.keep)]
        newest = newest_version(table)
        meanings: dict[int | None, set[int]] = {newest: set()}
        if (known := FeatureVersion.of(table)) is not None:
            meanings[newest].add(known.meaning)
        for learnt in needs.learnt:
            if (read := version_to_read(table, learnt)) is not None and read.number is not None:
                meanings.setdefault(read.number, set()).add(learnt.meaning)
        others = sorted((number for number in meanings if number is not None and number != newest), reverse=True)
        return [KeptValues(feature, table, number, needs.keep, frozenset(meanings[number])) for number in (newest, *others)]


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

    def reader(self, served: ServedSet, event: str | None, schema: pl.Schema | None) -> SetReader:
        """See `LatestValues.reader`. In requests about other events the newest row of the feature table is looked up."""
        if event not in {None, self.events}:
            return ValuesReader(served)
        return WindowsReader(served, self.windows, StreamingWindows(self.windows, self.numbers), self.where, schema, numbers=self.numbers)

    def kept(self, feature: FeatureSet, lakehouse: Lakehouse, needs: Needs) -> list[Kept]:
        """See `LatestValues.kept`: events for requests about them, and the values for requests about others."""
        kept: list[Kept] = [] if {*needs.events} <= {self.events} else _LATEST.kept(feature, lakehouse, needs)
        if not needs.events or self.events in needs.events:
            key = needs.key_of(self.events)
            kept.append(KeptEvents(feature, lakehouse.table(self.events), self.windows, self.where, self.numbers, key, needs.keep))
        return kept


Form = LatestValues | WindowEvents
_LATEST: Final = LatestValues()


def form_of(feature: FeatureSet) -> Form:
    """How a feature set is served."""
    form = feature.online
    return _LATEST if form is None else form  # type: ignore[return-value]

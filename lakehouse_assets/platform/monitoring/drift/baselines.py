"""Baselines as they were counted: read once, and then cached, so that a new window costs what it has and not what the baseline has.

A baseline is a table at a version, or the tests of a version of a model, which never change. What it was counted from and by which code is
in the key (`monitoring.cache`), so with other slices, columns, masks or code it is counted again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from importlib.metadata import version

import polars as pl

from lakehouse_assets.platform.monitoring import cache as cached
from lakehouse_assets.platform.monitoring.drift.domain import OfBaseline
from lakehouse_assets.platform.monitoring.profiling.groups import Groups
from lakehouse_assets.platform.monitoring.profiling.profile import Profile, profile
from lakehouse_assets.platform.monitoring.profiling.stored_profile import from_frames, to_frames
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

_MONITORING = "lakehouse_assets.platform.monitoring"
_CODE = (
    *(f"{_MONITORING}.{name}" for name in ("profiling", "drift.domain", "drift.thresholds", "accuracy")),
    "lakehouse_assets.platform.features.domain_classifier",
    "lakehouse_assets.platform.modelling.metric_inputs",
    "lakehouse_assets.platform.quality.masking",
    "lakehouse_assets.platform.storage.known_at",
)


@dataclass(frozen=True)
class CountedBaseline:
    """A baseline that windows are compared with.

    Attributes:
        lakehouse: Has the cache.
        rows: Gives the rows, masked; asked only if they are not counted yet.
        made_of: Tells the rows from all others; empty: they are counted each time.
        monitor: The monitor that compares with it.
        groups: Windows and slices of what is compared with it.
        now: The moment (UTC).
    """

    lakehouse: Lakehouse
    rows: Callable[[], pl.LazyFrame]
    made_of: str
    monitor: str
    groups: Groups
    now: datetime

    @cached_property
    def profile(self) -> Profile:
        """Its profile, with what thresholds are made of."""
        groups = Groups(self.groups.time, None, self.groups.slices)
        if (frames := self._read("profile")) is not None:
            return from_frames(frames, groups)
        made = profile(self._rows, groups, blocks=True, every=self.groups.every)
        self._write(to_frames(made), "profile")
        return made

    def of_inputs(self, inputs: Sequence[str]) -> OfBaseline:
        """What is known of all its columns together, of those that take part."""
        if (frames := self._read("domain", *inputs)) is not None:
            return OfBaseline.from_frames(frames, inputs)
        made = OfBaseline.of(self.profile, self._rows, inputs)
        self._write(made.to_frames(), "domain", *inputs)
        return made

    @cached_property
    def _rows(self) -> pl.LazyFrame:
        return self.rows()

    def _key(self, *part: str) -> str:
        return cached.digest(self.made_of, self.groups.time, self.groups.every, self.groups.slices, part, _code())

    def _read(self, *part: str) -> dict[str, pl.DataFrame] | None:
        return cached.read(self.lakehouse, self._key(*part)) if self.made_of else None

    def _write(self, frames: dict[str, pl.DataFrame], *part: str) -> None:
        if self.made_of:
            cached.write(self.lakehouse, self._key(*part), f"{part[0]} of the baseline of {self.monitor}", frames, self.now)


@cache
def _code() -> str:
    """What works out the same from the same rows: hashes of texts are those of Polars."""
    return cached.digest(cached.source_of(*_CODE), *(version(name) for name in ("polars", "numpy", "lightgbm")))

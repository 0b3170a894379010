"""Guards: values that have to lie within limits, whatever the losses say. Calibration, coverage, bias, latency, size, a leak.

A guard holds a number and its limits. Who measures the number, and what it means, is for the caller to know.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse_assets.platform.declarations.gates import Limits
from lakehouse_assets.platform.wording import listed


@dataclass(frozen=True, kw_only=True)
class Guard:
    """A value and its limits.

    Attributes:
        name: What it is, as in `coverage`.
        value: What was measured; None or NaN: nothing, and the guard does not pass.
        low: The smallest value that passes; None or infinite: any, and it is kept as None.
        high: The largest value that passes; None or infinite: any, and it is kept as None. Without any limit, whatever there is passes.
        meaning: What it means if it fails, as the end of a sentence; empty: the limits say enough.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    meaning: str = ""

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            if getattr(self, name) is not None and math.isinf(getattr(self, name)):
                object.__setattr__(self, name, None)

    @property
    def passed(self) -> bool:
        """Whether the value lies within the limits."""
        if self.low is None and self.high is None:
            return True
        if self.value is None or math.isnan(self.value):
            return False
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)

    @property
    def limits(self) -> str:
        """The limits in words."""
        if self.low is None:
            return "any value" if self.high is None else f"at most {self.high:.4g}"
        return f"at least {self.low:.4g}" if self.high is None else f"{self.low:.4g} to {self.high:.4g}"

    def __str__(self) -> str:
        if self.value is None or math.isnan(self.value):
            may = "may be" if self.passed else "has to be"
            return f"{self.name} was not measured, and {may} {self.limits}" + (f": {self.meaning}." if self.meaning else ".")
        if self.passed:
            return f"{self.name} is {self.value:.4g}, within its limits ({self.limits})."
        return f"{self.name} is {self.value:.4g}, and has to be {self.limits}" + (f": {self.meaning}." if self.meaning else ".")


def within(limits: Mapping[str, Limits], measured: Mapping[str, float]) -> tuple[Guard, ...]:
    """A guard for each name that has limits, with the value that was measured for it: see `plain_name`."""
    values = {plain_name(name): value for name, value in measured.items()}
    # The scores of others are `metric/candidate`: nobody means them.
    there = f"what was measured is {listed([name for name in measured if '/' not in name], 12)}" if measured else ""
    return tuple(
        Guard(name=name, value=values.get(plain_name(name)), low=low, high=high, meaning="" if plain_name(name) in values else there)
        for name, (low, high) in limits.items()
    )


def plain_name(name: str) -> str:
    """What a guard and a measured value are matched by: `calibration_error`, `Calibration error` and `CalibrationError` are one."""
    return name.casefold().replace(" ", "").replace("_", "")

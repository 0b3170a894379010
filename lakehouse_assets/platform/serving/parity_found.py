"""What a replay of logged requests found, in numbers and in words. How they are replayed is in `parity`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lakehouse_assets.platform.serving.known_then import ASKED, LATE, STALE

EQUAL, SAID, DIFFERENT = "equal", "said", "different"
WORDS: Final = (EQUAL, LATE, STALE, SAID, ASKED, DIFFERENT)


@dataclass(frozen=True)
class Parity:
    """What a replay found.

    Attributes:
        rows: Logged rows that were replayed.
        waiting: Those of them whose event has not come into the tables yet: their features are not compared.
        full: Those of them that were sent as full rows of features: only their scores are compared.
        features: By input of the model, how many values were `equal`, `late` (known after the answer), `stale` (the online store was
            behind), `said` (the answer named the set as missing, expired or unavailable), `asked` (windows counted events that were asked
            about and are not in the table) or `different`.
        scores: How many predictions were `equal` or `different`.
        requests: Of the first that differ, the ids.
    """

    rows: int
    waiting: int
    full: int
    features: Mapping[str, Counter[str]]
    scores: Counter[str]
    requests: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether nothing is different without a reason."""
        return not self.scores[DIFFERENT] and not any(one[DIFFERENT] for one in self.features.values())

    @property
    def compared(self) -> int:
        """How many rows had their features compared."""
        return self.rows - self.waiting - self.full

    @property
    def values(self) -> int:
        """How many values of features were compared."""
        return sum(one.total() for one in self.features.values())

    @property
    def text(self) -> str:
        """What it found, in words."""
        if not self.rows:
            return "Nothing was compared: no request was logged yet."
        unequal = [f"{name} ({one[DIFFERENT]})" for name, one in self.features.items() if one[DIFFERENT]]
        said = [f"{self.rows} logged rows replayed, and {self.values} values of {self.compared} of them compared"]
        if not self.compared:
            said[0] = f"{self.rows} logged rows replayed, and the features of none of them compared"
        if self.full:
            said.append(f"{self.full} were full rows of features")
        if self.waiting:
            said.append(f"the event of {self.waiting} has not come into the tables yet")
        for word, meaning in (
            (STALE, "were behind the tables"),
            (LATE, "became known after the answer"),
            (SAID, "were said to be missing"),
            (ASKED, "count events that were asked about and are not in the tables"),
        ):
            if count := sum(one[word] for one in self.features.values()):
                said.append(f"{count} values {meaning}")
        if unequal:
            said.append(f"values that differ: {', '.join(unequal)}")
        if self.scores[DIFFERENT]:
            said.append(f"{self.scores[DIFFERENT]} scores differ although their features are the same")
        if self.requests:
            said.append(f"the first: {', '.join(self.requests)}")
        return f"{'; '.join(said)}."

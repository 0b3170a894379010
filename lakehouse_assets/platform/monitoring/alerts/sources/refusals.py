"""Signals about gates: that one refuses a version is a normal answer, but not for weeks while the champion is wrong ever more often.

How it decides is in `modelling.gate`, what it decided in the ledgers; whether a model has become worse is said by monitors of accuracy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.monitors import Monitor
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.monitoring.alerts.signals import Reading, Signal
from lakehouse_assets.platform.registry.ledger import last_move
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.wording import counted

LEAST_REFUSALS: Final = 3
"""With fewer refusals one after the other nobody is told."""
LEAST_TIME: Final = timedelta(days=14)
"""Nor with less time between the first and the last of them."""
_ACCURACY: Final = "accuracy"
_REFUSED: Final = "kept as challenger"


@dataclass(frozen=True)
class Refusals:
    """Whether the gates of models refuse one version after the other while the accuracy of the champion is bad.

    What is so now is said each time, so that it is told again after the cool-down.

    Attributes:
        lakehouse: The tables.
        catalog: The declarations.
    """

    lakehouse: Lakehouse
    catalog: Catalog

    name = "the ledgers of models"

    def read(self, watermark: Callable[[str], int | None], now: datetime) -> Reading:  # noqa: ARG002 nothing is consumed
        """See `Source.read`."""
        monitors = [one for one in self.catalog.monitors if one.kind.word == _ACCURACY and self.catalog.get(one.of) is not None]
        needs = {one.name: {source.name for source in self.catalog.needed_for([one.of])} for one in monitors}
        watched = [(model, [one for one in monitors if model.name in needs[one.name]]) for model in self.catalog.models]
        return Reading([self._signal(model, of, now) for model, of in watched if of])

    def _signal(self, model: ModelDeclaration, monitors: Sequence[Monitor], now: datetime) -> Signal:
        refused = self._refused(model.name)
        is_long = len(refused) >= LEAST_REFUSALS and abs(refused[-1]["decided_at"] - refused[0]["decided_at"]) >= LEAST_TIME
        # Few rows are read where the gate does not refuse for long, and that is mostly so.
        failed = (
            [row for rows in verdicts.latest(self.lakehouse, monitors).values() for row in rows if row["passed"] is False]
            if is_long
            else []
        )
        text = "The gate has another champion, or the accuracy of the champion is as it should be."
        if failed:
            reason = refused[-1]["reasons"].splitlines()[0]
            text = (
                f"The gate has refused {counted(len(refused), 'version')} since {refused[0]['decided_at']:%Y-%m-%d}, while the champion is "
                f"not as good as it should be ({failed[0]['monitor']}): {failed[0]['text']} Version {refused[-1]['version']} was refused: "
                f"{reason} `lakehouse models show {model.name}` has all reasons."
            )
        return Signal(
            key=f"gate:{model.name}",
            is_bad=bool(failed),
            at=now,
            text=text,
            severity="warn",
            owner=model.owner,
            value=float(len(refused)),
            threshold=float(LEAST_REFUSALS),
        )

    def _refused(self, model: str) -> list[dict[str, Any]]:
        """The refusals of the gate since the last change of the champion, in the order of the ledger."""
        ledger = self.lakehouse.table(model)
        if not ledger.exists():
            return []
        rows = ledger.scan()
        move = last_move(rows)
        since = 0 if move is None else move["sequence"]
        of_gate = rows.filter(pl.col("sequence") > since, pl.col("question").is_not_null(), pl.col("decision") == _REFUSED)
        return of_gate.select("sequence", "decided_at", "version", "reasons").sort("sequence").collect().to_dicts()

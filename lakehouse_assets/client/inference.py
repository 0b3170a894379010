"""The inference log of one endpoint: what was asked and answered, and what became true of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from lakehouse_assets.client.context import Context
from lakehouse_assets.platform.declarations.base import nearest_or_all
from lakehouse_assets.platform.storage.platform_tables import FEEDBACK_SUFFIX

if TYPE_CHECKING:
    from lakehouse_assets.platform.features.labels import Labels
    from lakehouse_assets.platform.serving.labelled import KnownLabels
    from lakehouse_assets.platform.storage.lakehouse import Lakehouse

_LAYER = "inference"


@dataclass(frozen=True)
class Inference:
    """The logged predictions of an endpoint, by its name or that of its table."""

    context: Context
    endpoint: str

    def scan(self) -> pl.LazyFrame:
        """One row for each row of a request and variant of the model, with personal data masked unless this user may see it.

        Raises:
            LookupError: Nothing was logged for such an endpoint.
        """
        return self.context.reader.scan(self._table, what="inference log")

    def with_labels(self, until: datetime | None = None) -> pl.LazyFrame:
        """The logged predictions with what became true of them: `label` (text), `label_known_at` and `label_from`.

        They are null where nothing is known. Labels come from `POST /feedback` and from the table that the model learns from; of several
        the last that became known counts. Where no product declares the model any more, a label is all that came, as JSON.

        Args:
            until: Labels count that were known then (naive: UTC); None: all.

        Raises:
            LookupError: Nothing was logged for such an endpoint.
        """
        from lakehouse_assets.platform.serving.labelled import ROW, labels_of

        with self.context.reader.opened("labels of the inference log") as lakehouse:
            logged = lakehouse.table(self._table).scan()
            feedback = lakehouse.table(self._table + FEEDBACK_SUFFIX)
            declared = self._labels(logged)
            target = declared.target if declared is not None else None
            # Met by their real keys: a masked key is that of everybody.
            known = None if declared is None else self._known(lakehouse, declared, until)
            labels = labels_of(logged, target, feedback.scan() if feedback.exists() else None, known, until)
        return self.scan().join(labels, on=list(ROW), how="left")

    @staticmethod
    def _known(lakehouse: "Lakehouse", labels: "Labels", until: datetime | None) -> "KnownLabels | None":
        from lakehouse_assets.platform.declarations.learning import LABEL_KNOWN_AT
        from lakehouse_assets.platform.serving.labelled import KnownLabels

        table = lakehouse.table(labels.table)
        if not table.exists():
            return None
        rows = labels.rows(table.scan(), known_until=until)
        return KnownLabels(rows.lazy(), labels.entity, labels.target, LABEL_KNOWN_AT, labels.from_silence(rows.schema))

    def _labels(self, logged: pl.LazyFrame) -> "Labels | None":
        """What the model of the newest prediction learns, if it learns labels."""
        newest = logged.filter(pl.col("model_name") != "").top_k(1, by="received_at").select("model_name").collect()
        models = {model.name: model for model in self.context.models}
        model = models.get(newest.item()) if newest.height else None
        return None if model is None else getattr(model.examples, "labels", None)

    @property
    def _table(self) -> str:
        logs = [table.name for table in self.context.root.lakehouse.tables() if table.name.split(".")[1] == _LAYER]
        named = [name for name in logs if self.endpoint in {name, name.rsplit(".", 1)[-1]}]
        if not named:
            raise LookupError(f"nothing was logged for an endpoint {self.endpoint!r}{nearest_or_all(self.endpoint, logs)}")
        return named[0]

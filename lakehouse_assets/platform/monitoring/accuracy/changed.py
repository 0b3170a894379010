"""What predictions are about that changed since their tables were read last: predictions that came or went, and outcomes that did."""

from collections.abc import Mapping
from datetime import datetime

import polars as pl

from lakehouse_assets.platform.monitoring.accuracy.predicted import Predicted
from lakehouse_assets.platform.storage.errors import NoSuchTable, NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.source import Source


def changed_times(predicted: Predicted, before: Mapping[str, int | None], last: datetime | None, now: datetime) -> pl.Series | None:
    """The times that predictions are about which came, changed or went, or whose outcome did; None: that is not known, and may be all.

    Args:
        predicted: The predictions, at the versions that are read now.
        before: By table, the version that was read last.
        last: The moment up to which outcomes were known then; None: there was none.
        now: The moment (UTC).
    """
    if last is None or last > now:
        return None
    times = []
    for name, version in predicted.at.items():
        had = before.get(name)
        try:
            if had != version:
                times.append(predicted.times(_source(predicted.lakehouse, name, had, version)))
        except (NoSuchVersion, NoSuchTable):  # what changed is not known any more
            return None
    times += [predicted.between(last, now), predicted.became_known(last, now)]
    return pl.concat([one.rename("time") for one in times])


def _source(lakehouse: Lakehouse, name: str, before: int | None, version: int) -> Source:
    # A table that was made again has a smaller version: all of it is new.
    return Source(lakehouse.table(name), None if before is None or before > version else before, version)

"""What the monitors of a table say, without a run."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.monitors import Monitor, Verdict
from lakehouse_assets.platform.monitoring.evaluation import Evaluation
from lakehouse_assets.platform.monitoring.kinds.implied import implied
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


def no_registry() -> Any:
    """In place of what opens MLflow."""
    raise AssertionError("no monitor here needs MLflow")


def fail(text: str) -> None:
    """In place of what is told why verdicts are not stored."""
    raise AssertionError(text)


def evaluation(lakehouse: Lakehouse, now: datetime, declarations: Iterable[Declaration] = (), run_id: str = "run") -> Evaluation:
    """Of monitors at a moment."""
    given = tuple(declarations)
    elsewhere = frozenset(source for one in given for source in one.sources())
    return Evaluation(lakehouse, Catalog(given, elsewhere), no_registry, now, run_id, fail)


def said(monitors: Iterable[Monitor], lakehouse: Lakehouse, now: datetime) -> dict[str, Verdict]:
    """By the last word of each monitor, its only verdict. Nothing is stored."""
    judgements = [evaluation(lakehouse, now).judge(one) for one in monitors]
    return {one.monitor.word: one.verdicts[0] for one in judgements}


def said_of(declaration: Declaration, lakehouse: Lakehouse, now: datetime) -> dict[str, Verdict]:
    """What the monitors say that a declaration implies."""
    return said(implied(declaration), lakehouse, now)


def words(declaration: Declaration) -> set[str]:
    """Of the monitors that a declaration implies."""
    return {one.word for one in implied(declaration)}

"""Evaluates monitors and keeps what they say. Nothing that goes wrong here reaches the tables that are watched.

What a kind of monitor judges is in the kinds, what is stored in `verdicts`. When monitors are evaluated, and how that is shown, is decided
by the caller, who also says what moment it is.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from deltalake import DeltaTable

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.monitors import OVER, Cause, Monitor, Verdict, Watched
from lakehouse_assets.platform.monitoring import judgements, verdicts
from lakehouse_assets.platform.monitoring.judgements import Judgement
from lakehouse_assets.platform.monitoring.kinds.implied import monitors_of
from lakehouse_assets.platform.monitoring.reasons import TROUBLE, reason
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

_TRIES = 4


@dataclass(frozen=True)
class Evaluation:
    """Monitors at one moment.

    Attributes:
        lakehouse: The tables.
        catalog: All declarations.
        registry: Opens MLflow; asked only by monitors that need it.
        now: The moment to judge at (UTC).
        run_id: Stands in the rows.
        warn: Told, in a line, what kept verdicts from being stored.
    """

    lakehouse: Lakehouse
    catalog: Catalog
    registry: Callable[[], Any]
    now: datetime
    run_id: str
    warn: Callable[[str], None]

    def run(self, monitors: Iterable[Monitor]) -> list[Judgement]:
        """Evaluate monitors one after the other, and add what they say to the table of verdicts.

        Returns:
            What holds now. Of a kind that judges only windows that changed, this is also what it said of others before; without any verdict
            if nothing changed.
        """
        given = list(monitors)
        judged = self._judged(given)
        try:
            for _ in range(_TRIES):
                with suppress(CursorMoved):
                    judgements.add(self.lakehouse, judged)
                    break
                judged = self._judged(given)
            else:
                judgements.add(self.lakehouse, judged)
        except TROUBLE as error:
            names = ", ".join(one.monitor.name for one in judged)
            self.warn(f"the verdicts of {names} are not stored in {verdicts.TABLE}: {reason(error)}")
            return judged
        return self.holding([replace(one, is_stored=True) for one in judged])

    def holding(self, judged: Iterable[Judgement]) -> list[Judgement]:
        """Judgements with what holds now, unless they are not stored.

        Of a kind that judges only windows that changed this is also what it said of others before, and of a monitor that said something
        since, as in another run, it is that.
        """
        given = list(judged)
        stored = [one for one in given if one.is_stored and one.verdicts]
        changing = [one.monitor for one in stored if one.monitor.kind.judges_changes]
        others = [one for one in stored if not one.monitor.kind.judges_changes]
        try:
            asked = [*changing, *(judgements.not_last(self.lakehouse, others) if others else [])]
            last = verdicts.latest(self.lakehouse, asked) if asked else {}
        except TROUBLE as error:
            self.warn(f"what {verdicts.TABLE} says now could not be read: {reason(error)}")
            return given
        holding = {name: tuple(verdicts.verdict_of(row) for row in rows) for name, rows in last.items()}
        return [replace(one, verdicts=holding.get(one.monitor.name, one.verdicts)) for one in given]

    def _judged(self, monitors: Iterable[Monitor]) -> list[Judgement]:
        """What monitors say. How they were declared when they were judged last is read once."""
        log = self._log()
        return [self._judge(monitor, log) for monitor in monitors]

    def judge(self, monitor: Monitor) -> Judgement:
        """Evaluate a monitor. If that ends with an error, this is the only verdict."""
        return self._judge(monitor, self._log())

    def _log(self) -> DeltaTable | None:
        table = self.lakehouse.table(verdicts.TABLE)
        try:
            return table.now()
        except TROUBLE:  # that it cannot be read is said where verdicts are added
            return None

    def _judge(self, monitor: Monitor, log: DeltaTable | None) -> Judgement:
        table_id: str | None = None
        version: int | None = None
        reads: tuple[Cursor, ...] = ()
        declared: int | None = None
        try:
            table = self.lakehouse.table(monitor.of)
            if table.exists():
                now = table.now()
                table_id, version = str(now.metadata().id), now.version()
            if version is None and monitor.kind.reads_table:
                said: tuple[Verdict, ...] = (Verdict(None, f"Not evaluated: {monitor.of} does not exist."),)
            else:
                watched = replace(self._watched(monitor), declared_as=judgements.declared_as(log, monitor.name))
                said, reads = tuple(monitor.kind.evaluate(watched)), tuple(watched.reads)
                # By a declaration by which nothing was judged yet, nothing is over either.
                declared = watched.declared if watched.made_of or any(one.passed is not None for one in said) else None
                if declared is not None and log is not None:
                    said = (*said, *_not_watched(watched, said))
        except TROUBLE as error:
            said = (Verdict(None, f"Not evaluated: {reason(error)}", error=type(error).__name__),)
        judgement = Judgement(monitor, table_id, version, self.now, self.run_id, said, reads, declared=declared)
        failed = sorted({one.window_start for one in said if one.passed is False and one.window_start is not None})
        return replace(judgement, verdicts=self._explained(judgement), failed_windows=tuple(failed))

    def causes(self, monitor: Monitor, rows: Iterable[Mapping[str, Any]]) -> Sequence[Cause]:
        """Where failed verdicts of a monitor come from, the likeliest first.

        Args:
            monitor: The monitor.
            rows: Of one evaluation, as the table of verdicts has them.
        """
        bad = [row for row in rows if row["passed"] is False]
        return monitor.kind.why(self._watched(monitor), bad) if bad else ()

    def _watched(self, monitor: Monitor) -> Watched:
        return Watched(monitor, self.lakehouse, self.catalog, self.now, self.run_id, self.registry)

    def _explained(self, judgement: Judgement) -> tuple[Verdict, ...]:
        """The verdicts; the failed ones say where they most likely come from. If that cannot be found out they are as they are."""
        given, rows = tuple(judgement.verdicts), list(judgement.rows)
        bad = [row["window_start"] for row in rows if row["passed"] is False and row["window_start"] is not None]
        # Where several windows failed at once, as after a pause, the first is what an alert opens by, and the last is what holds now.
        first = [row for row in rows if row["window_start"] == min(bad)] if len({*bad}) > 1 else []
        known: dict[tuple[str, datetime | None], str] = {}
        causes: list[Cause] = []
        try:
            for part in filter(None, (first, rows)):
                found = list(self.causes(judgement.monitor, part))
                known |= {(one.column, one.window): one.text for one in reversed(found) if one.steps}
                if found:  # of all rows together the likeliest cause is told
                    known["", found[0].window] = found[0].text
                causes = [*found, *causes]
        except TROUBLE as error:
            self.warn(f"why {judgement.monitor.name} failed was not found: {reason(error)}")
            return given
        # What is about no column by itself explains each.
        whole = {one.window: one.text for one in reversed(causes) if not one.column}
        return tuple(
            replace(one, why=known.get((one.column_name, one.window_start)) or whole.get(one.window_start, ""))
            if one.passed is False
            else one
            for one in given
        )


def _not_watched(watched: Watched, said: Iterable[Verdict]) -> list[Verdict]:
    """After another declaration, of what failed by an earlier one and is not watched any more: that it is over.

    A slice that is watched and has no rows now is not spoken of either: what was said of it last holds.
    """
    if not watched.is_redeclared or watched.made_of:
        return []
    failed, kind = verdicts.not_over(watched.lakehouse, watched.monitor.name), watched.monitor.kind
    unspoken = failed.keys() - {verdicts.matter_of(one) for one in said}
    return [
        Verdict(
            passed=True,
            text="It is not watched any more by the monitor as it is declared now.",
            numbers={OVER: 1},
            slice_key=key or "",
            slice_value=value,
            column_name=column or "",
        )
        for key, value, column in sorted(unspoken, key=repr)
        if not kind.watches(key, column)
    ]


def watcher(
    lakehouse: Lakehouse, catalog: Catalog, registry: Callable[[], Any], clock: Callable[[], datetime], warn: Callable[[str], None]
) -> Callable[[str, str], None]:
    """What evaluates all monitors of a table, by its name and the id of a run, for `pipeline.runner.Runner`.

    Args:
        lakehouse: As `Evaluation` has it; so are the others.
        catalog: All declarations.
        registry: Opens MLflow.
        clock: Says what moment it is (UTC).
        warn: Told what kept verdicts from being stored.
    """

    def watch(table: str, run_id: str) -> None:
        Evaluation(lakehouse, catalog, registry, clock(), run_id, warn).run(monitors_of(table, catalog.declarations))

    return watch

"""The monitors: what each watches, what it said last, and evaluating them now."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from lakehouse_assets.client.context import Context, by_last_word
from lakehouse_assets.platform import clock
from lakehouse_assets.platform.compute.progress import telling

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.monitors import Cause, Monitor
    from lakehouse_assets.platform.monitoring.evaluation import Evaluation
    from lakehouse_assets.platform.storage.lakehouse import Lakehouse

Values = list[dict[str, Any]]
_READ: Final = "monitors"


@dataclass(frozen=True)
class Monitors:
    """The monitors that are declared, and those that tables imply. What they said is the table `platform.monitoring.verdicts`."""

    context: Context

    def list(self) -> Values:
        """Each monitor with its last judgement.

        That are `monitor`, `table`, `kind`, `severity`, `owner`, `state` (passed, failed, error or not evaluated; None: never), `text`,
        `why` (where a failure most likely comes from; None: not found), `evaluated_at` and `table_version`. What says the same as
        before is stored once a day, so a monitor may have been evaluated later.
        """
        last = self._latest(self._all)
        return [_summary(one, last.get(one.name, [])) for one in self._all]

    def failed(self) -> Values:
        """Those of `list` that failed last, or whose evaluation ended with an error."""
        from lakehouse_assets.platform.monitoring.verdicts import BAD

        return [row for row in self.list() if row["state"] in BAD]

    def latest(self, names: Iterable[str]) -> dict[str, Values]:
        """By monitor, the verdicts that hold now, as rows of the table of verdicts; a monitor that never judged is left out.

        Args:
            names: Of the monitors.
        """
        wanted = set(names)
        return self._latest([one for one in self._all if one.name in wanted])

    def show(self, name: str, *, rows: int = 20) -> dict[str, Any]:
        """A monitor with what it demands, when it is an alert, and its newest verdicts, newest first.

        Args:
            name: Of the monitor, or its last word if only one has it.
            rows: Most verdicts.

        Raises:
            LookupError: There is no such monitor.
        """
        from lakehouse_assets.platform.monitoring import verdicts

        monitor, lakehouse = self._named(name), self.context.root.lakehouse
        summary = _summary(monitor, self._latest([monitor]).get(monitor.name, []))
        told = {"description": monitor.description, "declared_at": monitor.place, "alert": asdict(monitor.alert)}
        newest = self.context.reader.values(verdicts.history(lakehouse, monitor.name, rows), verdicts.TABLE, _READ)
        return summary | told | {"verdicts": newest}

    def why(self, name: str, *, window: str | datetime | None = None) -> dict[str, Any]:
        """Where the newest failure of a monitor most likely comes from.

        Args:
            name: Of the monitor, or its last word if only one has it.
            window: Begin of the window that failed, as `2026-02-03`, in UTC; None: of each column the first of the newest failure, before
                which as many windows are well as it is compared with.

        Returns:
            `monitor`, `table`, `evaluated_at`, `newest` (begin of the newest window that failed; None: it has no windows), `now` (where it
            passes now, could not be evaluated since, or failed in another table, a sentence that says so; else empty), `failed` (the failed
            verdicts) and `causes`, the likeliest first: `text`, `column`,
            `window`, `weight` (how many times its threshold the column is, times its importance), `importance` for the champion (None: not
            known), and `steps` from the watched table to where the change came in. Both lists are empty if nothing failed.

        Raises:
            LookupError: There is no such monitor, or it never judged that window as failed.
            ValueError: The window is no date or timestamp.
        """
        from lakehouse_assets.platform.monitoring import verdicts
        from lakehouse_assets.platform.monitoring.why.drifted import NEIGHBOURS

        monitor, moment, lakehouse = self._named(name), _moment(window), self.context.root.lakehouse
        newest = verdicts.newest_failed(lakehouse, monitor.name, moment)
        if moment is not None and not newest:
            raise LookupError(f"{monitor.name} has no failed window that begins at {moment:%Y-%m-%d %H:%M} UTC: `lakehouse monitors show`")
        failed = self.context.reader.values(
            newest if moment is not None else verdicts.began(lakehouse, newest, NEIGHBOURS), verdicts.TABLE, _READ
        )
        causes: list[Cause] = []
        with self.context.reader.opened(f"why {monitor.name}") as opened:  # what it tells of rows is masked
            if opened.table(monitor.of).exists():  # of a table that was deleted no row can be compared
                evaluation = self._evaluation(opened)
                begins = list(dict.fromkeys(row["window_start"] for row in failed))
                with telling() as tell:
                    for number, begin in enumerate(begins, 1):
                        tell(f"window {number} of {len(begins)} that failed is followed upstream")
                        causes += evaluation.causes(monitor, [row for row in failed if row["window_start"] == begin])
        causes.sort(key=lambda one: -one.weight)
        return {
            "monitor": monitor.name,
            "table": monitor.of,
            "evaluated_at": failed[0]["evaluated_at"] if failed else None,
            "newest": max((row["window_start"] for row in newest if row["window_start"] is not None), default=None),
            "now": self._what_is_now(monitor, failed),
            "failed": failed,
            "causes": [asdict(one) for one in causes],
        }

    def _what_is_now(self, monitor: "Monitor", failed: Values) -> str:
        """That a failure is over, or is one of another table; empty: it holds."""
        from lakehouse_assets.platform.monitoring.verdicts import FAILED, PASSED

        table, found = self.context.root.lakehouse.table(monitor.of), list[str]()
        if not failed:
            return ""
        now = _summary(monitor, self._latest([monitor]).get(monitor.name, []))
        if now["state"] == PASSED:
            found.append(f"{monitor.name} passes now, judged at {now['evaluated_at']:%Y-%m-%d %H:%M} UTC: what follows is over.")
        elif now["state"] not in {None, FAILED}:  # that ends no alert
            last = f"{monitor.name} could not be evaluated at {now['evaluated_at']:%Y-%m-%d %H:%M} UTC, after this failure"
            found.append(f"{last}: whether what follows still holds is not known.")
        if not table.exists():
            found.append(f"{monitor.of} does not exist any more.")
        elif failed[0]["table_id"] not in {None, str(table.now().metadata().id)}:
            found.append(f"{monitor.of} is another table now than the one that failed: it was made again.")
        return " ".join(found)

    def run(self, names: Iterable[str] = ()) -> Values:
        """Evaluate monitors now, keep what they say, and show it as their checks in Dagster.

        Args:
            names: Of monitors, or of tables, whose monitors are meant; none: all.

        Returns:
            As `list`, with what they say now; what they said last where nothing that they judge has changed.

        Raises:
            LookupError: A name is of no monitor, and of no table that has one.
        """
        from lakehouse_assets.platform.orchestration.monitors import report
        from lakehouse_assets.platform.storage.errors import DatabaseUnavailable

        chosen = list({one.name: one for name in names for one in self._of(name)}.values()) or self._all
        evaluation = self._evaluation(self.context.root.lakehouse)
        judgements = evaluation.run(chosen)
        try:
            judgements = report(self.context.settings, evaluation, judgements)
        except DatabaseUnavailable as error:
            self.context.notice(f"warning: {error}. So Dagster shows what the monitors said before")
        last = self._latest([one.monitor for one in judgements if not one.verdicts])
        said = self._by_monitor(row for one in judgements for row in one.rows)
        return [_summary(one.monitor, said.get(one.monitor.name) or last.get(one.monitor.name, [])) for one in judgements]

    def _evaluation(self, lakehouse: "Lakehouse") -> "Evaluation":
        from lakehouse_assets.platform.monitoring.evaluation import Evaluation

        context = self.context
        return Evaluation(lakehouse, context.loaded.catalog, context.root.registry, clock.now(), str(uuid.uuid4()), context.notice)

    def _latest(self, monitors: "Sequence[Monitor]") -> dict[str, Values]:
        """By monitor, the verdicts that hold now."""
        from lakehouse_assets.platform.monitoring import verdicts

        if not monitors:
            return {}
        found = verdicts.latest(self.context.root.lakehouse, monitors)
        return self._by_monitor(row for rows in found.values() for row in rows)

    def _by_monitor(self, rows: Iterable[dict[str, Any]]) -> dict[str, Values]:
        """Verdicts by monitor, as the reader gives them."""
        from lakehouse_assets.platform.monitoring import verdicts

        found: dict[str, Values] = {}
        for row in self.context.reader.values(rows, verdicts.TABLE, _READ):
            found.setdefault(row["monitor"], []).append(row)
        return found

    @property
    def _all(self) -> "Sequence[Monitor]":
        from lakehouse_assets.platform.monitoring.kinds.implied import all_monitors

        return all_monitors(self.context.declarations)

    def _named(self, name: str) -> "Monitor":
        known = {one.name: one for one in self._all}
        full = name if name in known else by_last_word(name, known)
        if full is None:
            raise LookupError(f"there is no monitor {name!r}{self.context.unknown_name(name, known)}")
        return known[full]

    def _of(self, name: str) -> "Sequence[Monitor]":
        tables = {one.of for one in self._all}
        table = name if name in tables else by_last_word(name, tables)
        return [self._named(name)] if table is None else [one for one in self._all if one.of == table]


def _moment(window: str | datetime | None) -> datetime | None:
    moment = datetime.fromisoformat(window) if isinstance(window, str) else window
    return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _summary(monitor: "Monitor", rows: Values) -> dict[str, Any]:
    from lakehouse_assets.platform.monitoring.in_words import in_full
    from lakehouse_assets.platform.monitoring.verdicts import is_bad, state_of

    bad = [row for row in rows if is_bad(row)]
    # What is said is what the state is by.
    first = next(iter(bad or [row for row in rows if row["passed"]] or rows), None)
    return {
        "monitor": monitor.name,
        "table": monitor.of,
        "kind": monitor.kind.word,
        "severity": monitor.severity,
        "owner": monitor.owner,
        "state": state_of(rows) if rows else None,
        "text": " ".join(in_full(row) for row in bad) or (first["text"] if first else None),
        "why": next((row["why"] for row in bad if row["why"]), None),
        "evaluated_at": first["evaluated_at"] if first else None,
        "table_version": first["table_version"] if first else None,
    }

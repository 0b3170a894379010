"""Which version of a model is in use: decisions are committed to the model's ledger, and MLflow's aliases follow it.

Whoever reads a champion reads the ledger. A `champion` alias that somebody set or removed in MLflow is recorded as a decision by hand.
What a version has to pass is in `gate`, what a row of the ledger holds in `ledger`.

Every decision carries a cursor of the ledger on itself, so of two processes that decide at once one is refused and decides again. A second
cursor holds how far the champion alias has followed: as long as it is behind, an alias with an older champion was left by a crash, and is
set; once it is not, another champion was set by hand.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA, DecisionName, LedgerEntry, Verdict, last_decision, ledger_entry
from lakehouse_assets.platform.registry.registry import CHAMPION, Aliases, ModelVersion, NoSuchModelVersion, Registry
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.writer_queue import join_queue

_DECISIONS: Final = "lakehouse.decisions"
_ALIASES: Final = "lakehouse.aliases"
_LONGEST_WAIT = 60.0  # seconds


@dataclass(frozen=True)
class LedgerState:
    """What the ledger says: the number of its last decision, 0 before the first, and the aliases since then."""

    sequence: int = 0
    aliases: Aliases = Aliases()


@dataclass(frozen=True, kw_only=True)
class ChampionChange:
    """Which version is champion after a change, and which was before it; None: there was none."""

    model_name: str
    champion: int
    champion_before: int | None

    def __str__(self) -> str:
        before = "" if self.champion_before is None or not self.changed else f" instead of version {self.champion_before}"
        return f"Version {self.champion} of {self.model_name} is champion{before}."

    @property
    def changed(self) -> bool:
        """Whether the champion is another one than before."""
        return self.champion != self.champion_before


def create_ledger(ledger: Table) -> None:
    """Create the table of all decisions about a model unless it exists."""
    ledger.create(LEDGER_SCHEMA, description=f"Every decision about which version of {ledger.name} is in use.")
    ledger.add_columns(LEDGER_SCHEMA)  # those that a ledger of an earlier release lacks


@dataclass(frozen=True)
class ModelDecisions:
    """The decisions about one model.

    Attributes:
        ledger: The table of all decisions.
        model_name: Of the registered model.
        registry: Where its versions are.
        run_id: Is written into the ledger's commits.
    """

    ledger: Table
    model_name: str
    registry: Registry
    run_id: str

    def create(self) -> None:
        """Create the ledger unless it exists."""
        create_ledger(self.ledger)

    def state(self) -> LedgerState:
        """What the ledger says now. MLflow is not asked."""
        return _state(last_decision(self.ledger.scan()))

    def versions_in_use(self) -> list[ModelVersion]:
        """Champion, previous champion and challenger by the ledger, and what has such an alias in MLflow. Nothing is recorded."""
        numbers = {*self.state().aliases.versions, *self.registry.aliases(self.model_name).versions}
        return [version for version in reversed(self.registry.versions(self.model_name)) if version.version in numbers]

    def champion(self) -> ModelVersion | None:
        """The version that is champion by the ledger, once a champion alias that was set by hand is recorded there.

        Raises:
            NoSuchModelVersion: It was deleted from MLflow at this moment.
        """
        number = self.sync().aliases.champion
        return None if number is None else self.registry.version(self.model_name, number)

    def sync(self, *, is_lost: bool = False) -> LedgerState:
        """Record a champion alias that was set or removed by hand in MLflow, then make the aliases follow the ledger.

        It is idempotent and may be called by any number of processes at once. A change by hand is recorded exactly once.

        Args:
            is_lost: Whether a champion is given up where MLflow knows no version of the model at all. Otherwise that is no decision, as it
                looks like this too when the disk with its database is not mounted, or a server came up with an empty one.
        """
        with self._exclusive():
            while True:
                done, state = self._sync_once(is_lost=is_lost)
                if done:
                    return state

    def record(
        self,
        state: LedgerState,
        verdict: Verdict,
        version: int,
        *,
        aliases: Aliases,
        cursors: tuple[Cursor, ...] = (),
    ) -> bool:
        """Commit a decision that was taken on a state of the ledger, then set the aliases.

        Args:
            state: What the decision was taken on.
            verdict: What was decided, and why.
            version: The version that the decision is about.
            aliases: After the decision.
            cursors: That the commit carries besides the ledger's own.

        Returns:
            Whether it was committed. Not if another process decided in between, or had moved the cursors: read the state and decide again.
        """
        committed = self._commit(self._entry(state, verdict, version, aliases=aliases), cursors)
        self.sync()
        if committed:
            with suppress(NoSuchModelVersion):
                self.registry.describe(self.registry.version(self.model_name, version), verdict.decision, verdict.reasons, verdict.table)
        return committed

    def advance(self, cursors: tuple[Cursor, ...]) -> None:
        """Commit cursors without a decision, unless there are none or another process has moved them."""
        if cursors:
            self._commit(None, cursors)

    def promote(self, version: int, reason: str, by: str | None = None) -> ChampionChange:
        """Make a version the champion by hand. It is idempotent.

        Args:
            version: Of the model.
            reason: Is kept in the ledger.
            by: The person who decides, if that is known.

        Raises:
            NoSuchModelVersion: MLflow does not have the version; the error lists the versions.
            ValueError: There is no reason.
        """
        if not reason.strip():
            raise ValueError(f"say why version {version} of {self.model_name} becomes champion: the ledger keeps the reason")
        self.registry.version(self.model_name, version)
        while True:
            state = self.sync()
            before = state.aliases.champion
            if before == version or self._champion_by_hand(state, "promoted by hand", version, reason, by):
                return ChampionChange(model_name=self.model_name, champion=version, champion_before=before)

    def rollback(self, by: str | None = None) -> ChampionChange:
        """Make the previous champion the champion again; a second rollback undoes the first.

        Args:
            by: The person who decides, if that is known.

        Raises:
            LookupError: There is no previous champion, it was deleted from MLflow, or another decision was taken at the same moment.
        """
        state = self.sync()
        before, previous = state.aliases.champion, state.aliases.previous
        if previous is None:
            raise LookupError(f"{self.model_name} has no previous champion to go back to: `lakehouse models` shows its versions")
        self.registry.version(self.model_name, previous)
        reason = (
            f"There was no champion, and version {previous} became it again by hand."
            if before is None
            else f"Version {before} was rolled back to version {previous} by hand."
        )
        while state.aliases.champion == before and not self._champion_by_hand(state, "rolled back", previous, reason, by):
            state = self.sync()
        if state.aliases.champion not in {before, previous}:
            raise LookupError(
                f"{self.model_name} was not rolled back: another decision at the same moment made version {state.aliases.champion} "
                "champion. See `lakehouse models`, then roll back again if that is what you want"
            )
        return ChampionChange(model_name=self.model_name, champion=previous, champion_before=before)

    def _champion_by_hand(self, state: LedgerState, decision: DecisionName, version: int, reason: str, by: str | None) -> bool:
        verdict = Verdict(decision=decision, reasons=[reason], decided_by=by)
        return self.record(state, verdict, version, aliases=state.aliases.promote(version))

    # --- ledger and MLflow in agreement

    def _sync_once(self, *, is_lost: bool) -> tuple[bool, LedgerState]:
        """One pass: at most one decision by hand, else the aliases. It is the last one if nothing had to be done."""
        # The cursor first, then the rows, then MLflow: whatever another process does in between, the commit below is refused.
        followed = self.ledger.cursor(_ALIASES)
        decisions = self.ledger.scan().filter(pl.col("sequence") >= (followed or 0)).sort("sequence").collect().to_dicts()
        state = _state(decisions[-1] if decisions else None)
        champion = self.registry.aliases(self.model_name).champion
        left_by_a_crash = {row["champion"] for row in decisions} | ({None} if followed is None else set())
        if champion not in left_by_a_crash:
            return self._by_hand(state, champion, followed, is_lost=is_lost)
        try:
            changed = self.registry.set_aliases(self.model_name, state.aliases)
        except NoSuchModelVersion:
            return self._by_hand(state, None, followed, is_lost=is_lost)
        if state.sequence != (followed or 0):
            self._commit(None, (Cursor(_ALIASES, followed, state.sequence),))
            changed = True
        return not changed, state

    def _by_hand(self, state: LedgerState, champion: int | None, followed: int | None, *, is_lost: bool) -> tuple[bool, LedgerState]:
        """Record what the champion alias says, if it says something: see `sync`."""
        if champion is None and not is_lost and not self.registry.versions(self.model_name):
            return True, state
        self._record_alias(state, champion, followed)
        return False, state

    def _record_alias(self, state: LedgerState, champion: int | None, followed: int | None) -> None:
        """Commit what the champion alias says as a decision by hand. The alias is as decided, so the commit moves its cursor too."""
        before = state.aliases.champion
        if champion is not None:
            instead = "" if before is None else f" instead of version {before}"
            reason = f"The alias {CHAMPION} was given to version {champion}{instead} in MLflow, which does not keep by whom or when."
            verdict = Verdict(decision="promoted by hand in MLflow", reasons=[reason])
            entry = self._entry(state, verdict, champion, aliases=state.aliases.promote(champion))
        else:
            assert before is not None  # noqa: S101 the ledger names a champion, or there would be no difference
            reason = (
                f"In MLflow the alias {CHAMPION} was taken from version {before}, or the version was deleted: "
                "nothing is scored until a version is promoted."
            )
            entry = self._entry(
                state, Verdict(decision="retired by hand in MLflow", reasons=[reason]), before, aliases=state.aliases.retire()
            )
        self._commit(entry, (Cursor(_ALIASES, followed, entry.sequence),))

    def _entry(self, state: LedgerState, verdict: Verdict, version: int, *, aliases: Aliases) -> LedgerEntry:
        origin = None
        with suppress(NoSuchModelVersion):
            origin = self.registry.version(self.model_name, version)
        return ledger_entry(
            verdict,
            version,
            model_name=self.model_name,
            origin=origin,
            sequence=state.sequence + 1,
            before=state.aliases,
            after=aliases,
            decided_at=clock.now(),
        )

    def _commit(self, entry: LedgerEntry | None, cursors: tuple[Cursor, ...]) -> bool:
        """Whether this process committed it; not if another one was faster."""
        own = () if entry is None else (Cursor(_DECISIONS, entry.sequence - 1 or None, entry.sequence),)
        rows = pl.DataFrame(schema=LEDGER_SCHEMA) if entry is None else entry.frame()
        try:
            return self.ledger.append(rows, Commit((*own, *cursors), self._info)).counts is not None
        except CursorMoved:
            return False

    def _info(self, _: Counts) -> Mapping[str, str]:
        return {"lakehouse.run_id": self.run_id}

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One process of this machine at a time. MLflow has no conditional write, so a slow process could set what is outdated."""
        with join_queue(f"{self.ledger.uri}#aliases", _LONGEST_WAIT):
            yield


def _state(decision: Mapping[str, Any] | None) -> LedgerState:
    if decision is None:
        return LedgerState()
    return LedgerState(decision["sequence"], Aliases(**{name: decision[name] for name in ("champion", "previous", "challenger")}))

"""Brings one declared table up to date: what changed in its sources, through its function and its contract, into one commit a batch.

It runs without Dagster, so a notebook or a test can do what a run does. A full refresh is in `full_refresh`, the release of rejected rows
in `replay`.

A batch takes two commits: rejected rows into the quarantine, then the rest into the table, both with the same watermarks. A run that died
in between left the quarantine's watermarks ahead; the next one does that batch again, so no row is in both or in neither.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import polars as pl

from lakehouse_assets.platform.compute.progress import telling
from lakehouse_assets.platform.declarations.kind import Plan, Result
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.far_times import as_python_holds
from lakehouse_assets.platform.pipeline import contracts, functions, layout, quarantine, rejections, replay, rule_results, source_ids, swap
from lakehouse_assets.platform.pipeline.batch import BATCH_ROWS, Batch, Batches, Champions, empty_rows, number
from lakehouse_assets.platform.pipeline.marks import FULL_REFRESH, PARTITIONS
from lakehouse_assets.platform.pipeline.prefetch import Prefetch
from lakehouse_assets.platform.quality.account import RowAccount, RowsLost
from lakehouse_assets.platform.quality.contract import ContractBroken, fingerprint, personal_of
from lakehouse_assets.platform.quality.masking import MASK
from lakehouse_assets.platform.quality.samples import text
from lakehouse_assets.platform.quality.split import Evidence, Split, check_columns, combined
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved, ScopeError
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.lineage import NOT_STORED
from lakehouse_assets.platform.storage.replace import replace
from lakehouse_assets.platform.storage.scopes import Everything, Scope
from lakehouse_assets.platform.storage.source import Source
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.wording import counted

_ATTEMPTS = 20
_VALUES_SHOWN = 4


def no_champions(_: Any) -> None:
    """For tables that need no champion."""


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did.

    Attributes:
        version: Of the table, afterwards.
        account: Over all batches; all zero if there was nothing new.
        evidence: What the contract's rules found.
        batches: How many there were; 0 if the table was up to date.
    """

    version: int
    account: RowAccount = field(default_factory=RowAccount)
    evidence: tuple[Evidence, ...] = ()
    batches: int = 0


@dataclass(frozen=True)
class Refresh:
    """One table on its way to being up to date.

    Attributes:
        champions: Gives the champion of a model, or None while there is none.
        batch_rows: About how many rows of changes are read at once; at least one commit of the source.
        marks: Watermarks with which the table is created.
    """

    declaration: TableDeclaration
    lakehouse: Lakehouse
    run_id: str
    champions: Champions = no_champions
    batch_rows: int = BATCH_ROWS
    marks: Mapping[str, int] = field(default_factory=dict)
    _prefetch: Prefetch = field(default_factory=Prefetch, init=False, compare=False, repr=False)

    def pending(self) -> list[str]:
        """The sources that have something new, and the quarantine if released rows are missing here; from watermarks and versions alone."""
        behind = self.batches.behind()
        unfinished = self.replays.unfinished() or swap.is_unfinished(self.declaration, self.lakehouse)
        return [*behind, self.declaration.quarantine] if unfinished else behind

    def run(self) -> Refreshed:
        """Bring the table up to date.

        Raises:
            ContractBroken: The table was not changed.
            RowsLost: The rows do not add up; the table was not changed.
            FullRefreshNeeded: The declaration changed in a way that the stored table cannot follow.
        """
        swap.finish(self.declaration, self.lakehouse, self.run_id)
        layout.follow(self.declaration, self.lakehouse)
        self.declaration.arguments(self.champions)  # an alias set by hand becomes a decision before the ledger's version is read
        self.replays.finish()
        done, more = Refreshed(-1), True
        attempts = 0
        with telling() as tell:
            while more:
                try:
                    done, more = self._step(done)
                    tell(f"{counted(done.account.written + done.account.updated, 'row')} so far")
                except CursorMoved:  # another run was faster with a part of the batch: go on from where it left the table
                    attempts += 1
                    if attempts == _ATTEMPTS:
                        raise
        if done.batches:
            self.replays.finish()  # what had to wait for these batches
        return Refreshed(self.stored.version(), done.account, done.evidence, done.batches)

    def recompute(self) -> Refreshed:
        """Give the function everything that the sources have, whatever the watermarks say, in place."""
        layout.follow(self.declaration, self.lakehouse)
        done = self._again_if_moved(self._recompute)
        return Refreshed(self.stored.version(), done.account, done.evidence, done.batches)

    def _recompute(self) -> Refreshed:
        batch = self.batches.next(from_scratch=True)
        at = self.stored.cursor(FULL_REFRESH)
        commit = (*self._watermarks(batch), Cursor(FULL_REFRESH, at, (at or 0) + 1))
        return self._do(self.batches.whole(batch), Refreshed(-1), cursors=commit)

    def recompute_partitions(self, values: Sequence[Any]) -> Refreshed:
        """Bring the table up to date, then compute the partitions with these values again from the versions that it has read.

        Other partitions stay in their files. What another run commits meanwhile is not overwritten.

        Raises:
            ContractBroken: The partitions were not changed.
            DeclarationError: The kind of the table cannot compute a partition by itself.
        """
        return self._again_if_moved(partial(self._recompute_partitions, values))

    def _again_if_moved(self, compute: Callable[[], Refreshed]) -> Refreshed:
        """Compute from where the table is, again if another run brought it further meanwhile."""
        for _ in range(_ATTEMPTS - 1):
            with suppress(CursorMoved):
                return compute()
        return compute()

    def _recompute_partitions(self, values: Sequence[Any]) -> Refreshed:
        self.run()
        versions = {name: self.stored.cursor(name) for name in self.declaration.sources()}
        sources = {name: Source(self.lakehouse.table(name), at, number(at)) for name, at in versions.items()}
        rejected = {name: self.quarantine.cursor(name) for name in sources}
        batch = Batch(sources, rejected, contracts.references_now(self.declaration, self.lakehouse))
        plan = self.declaration.kind.plan_partitions(self.batches.inputs(batch), values)
        at = self.stored.cursor(PARTITIONS)
        # The watermarks stay, and are part of the commit: it is refused if they are not where they were.
        cursors = (*(source.cursor for source in sources.values()), Cursor(PARTITIONS, at, (at or 0) + 1))
        return self._commit(batch, Part(plan, self.computed(plan), cursors), Refreshed(-1))

    @property
    def batches(self) -> Batches:
        """What there is to read."""
        return Batches(self.declaration, self.lakehouse, self.champions, self.batch_rows)

    @property
    def stored(self) -> Table:
        """The table."""
        return self.lakehouse.table(self.declaration.name)

    @property
    def quarantine(self) -> Table:
        """Its rejected rows."""
        return self.lakehouse.table(self.declaration.quarantine)

    @property
    def replays(self) -> replay.Replays:
        """The way of rejected rows back into the table."""
        return replay.Replays(self.declaration, self.lakehouse, self.run_id)

    def _step(self, done: Refreshed) -> tuple[Refreshed, bool]:
        batch = self.batches.next()
        if not batch.moved and self.stored.exists():
            return done, False
        return self._do(batch, done, cursors=self._watermarks(batch)), True

    def _watermarks(self, batch: Batch) -> tuple[Cursor, ...]:
        """What a commit says of how far the sources were read, and which Delta tables these are."""
        return (*batch.moved, *source_ids.cursors(self.stored, (source.table for source in batch.sources.values())))

    # --- from frames to commits

    def _do(self, batch: Batch, done: Refreshed, *, cursors: tuple[Cursor, ...]) -> Refreshed:
        if (prefetched := self._prefetch.take(batch)) is not None:
            return self._commit(batch, Part(*prefetched, cursors), done)
        inputs = self.batches.inputs(batch)
        plan = self.declaration.kind.plan(inputs)
        parts = self.declaration.kind.parts(plan, inputs, self.batch_rows)
        return self._do_parts(batch, parts, done, cursors)

    def _do_parts(self, batch: Batch, parts: list[Plan], done: Refreshed, cursors: tuple[Cursor, ...]) -> Refreshed:
        """Commit the parts of a batch one by one; the watermarks advance with the last."""
        declared = self.declaration
        of_sources = sorted(source_ids.number_of(source.table) for source in batch.sources.values()) if len(parts) > 1 else []
        code = f"{declared.function_number} {declared.layout_number} {fingerprint(declared.contract)} {computes_all(cursors)} {of_sources}"
        committed = layout.progress(self.stored, batch, parts, code) if len(parts) > 1 else 0
        for position, plan in enumerate(parts):
            is_last = position == len(parts) - 1
            if position < committed and not is_last:
                continue
            own = source_ids.left(self.stored, cursors) if is_last else self._progress(batch, parts, code, position + 1)
            forgets = layout.progress_names(self.stored, batch) if is_last else ()
            done = self._commit(batch, Part(plan, self.computed(plan), own, forgets), done)
        return done

    def _progress(self, batch: Batch, parts: list[Plan], code: str, committed: int) -> tuple[Cursor, ...]:
        """What the commit of a part says that is not the last; of a first reading also which Delta tables it is of."""
        new = (source.table for name, source in batch.sources.items() if self.stored.cursor(name) is None)
        return (*layout.progress_cursors(self.stored, batch, parts, code, committed), *source_ids.cursors(self.stored, new))

    def _commit(self, batch: Batch, part: "Part", done: Refreshed) -> Refreshed:
        declaration, plan, computed, cursors = self.declaration, part.plan, part.computed, part.cursors
        if plan.scope is not None and plan.scope.is_empty and self.stored.exists():
            own = functions.cursors(declaration, self.stored, all_rows=True) if computes_all(cursors) else ()
            accounted = rejections.accounted_version(self.stored, self.quarantine)
            about_it = self.info(batch) | ({} if accounted is None else {rejections.VERSION: str(accounted)})
            written = self.stored.append(self.stored.scan().limit(0).collect(), Commit((*cursors, *own), lambda _: about_it))
            return Refreshed(written.version, done.account, done.evidence, done.batches + 1)  # nothing changed: the watermarks advance
        layout.follow_rows(declaration, self.lakehouse, computed.rows.schema, self.marks)
        is_rebuild = any(cursor.source in {FULL_REFRESH, PARTITIONS} for cursor in cursors)
        judged = self._judged(batch, plan, computed.rows, all_count=is_rebuild)
        parts = judged.parts
        contracts.record(declaration, self.lakehouse, self.run_id)
        check_repeats(declaration, computed.rows, parts.evidence)
        if plan.scope is None:
            self._prefetch.begin(self, batch)
        self._write_quarantine(parts, plan, batch, cursors)
        account = RowAccount()

        def info(counts: Counts) -> Mapping[str, str]:
            nonlocal account
            duplicates, rejected = counts.duplicates + judged.repeated, parts.bad.height - judged.repeated
            account = RowAccount(computed.rows_in, counts.written, counts.updated, duplicates, rejected, counts.removed)
            account.check(declaration.name)
            about = {"lakehouse.account": account.to_json(), rejections.VERSION: str(self.quarantine.version())}
            repeats = {contracts.REBUILD: "true"} if is_rebuild else {}
            return self.info(batch) | repeats | about | rule_results.info(parts.evidence)

        kept = parts.good.drop([column for column in NOT_STORED if column in parts.good.columns])
        good = layout.with_former_columns(declaration, self.stored, kept)
        # Rows that were released are computed again from their source, which is as it was: they are released again.
        released = () if plan.scope is None or plan.scope.is_empty else self.replays.forgets()
        marks = functions.cursors(declaration, self.stored, all_rows=computes_all(cursors) or self._holds_all(plan.scope))
        commit = Commit((*cursors, *marks), info, (*part.forgets, *released))
        result = Result(good, parts.bad, plan.scope, declaration.identity, note=plan.note)
        written = declaration.kind.write(self.stored, result, commit)
        if released:
            self.replays.finish()
        counted = account if written.counts is not None else RowAccount()
        return Refreshed(written.version, done.account + counted, combined(done.evidence, parts.evidence), done.batches + 1)

    def _judged(self, batch: Batch, plan: Plan, rows: pl.DataFrame, *, all_count: bool) -> rejections.Judged:
        """The verdicts on the rows of a batch; `all_count`: rows that were rejected before count too."""
        declaration, scope = self.declaration, plan.scope

        judge = partial(contracts.judge, declaration, self.lakehouse, references=batch.references, scope=scope)
        settle = partial(declaration.kind.settle, stored=self.stored, replaces_all=isinstance(scope, Everything))
        before = None if all_count else rejections.accounted(self.stored, self.quarantine, scope)
        return rejections.judge(rows, before, judge, settle, mixes=declaration.kind.takes_rows)

    def _holds_all(self, scope: Scope | None) -> bool:
        """Whether a scope holds all rows of the table. It is looked at only where that says something new of the function."""
        if scope is None or isinstance(scope, Everything):
            return scope is not None
        if not functions.has_changed(self.declaration, self.lakehouse):
            return False
        return bool(scope.filter(self.stored.scan()).select(pl.len()).collect(engine="streaming").item() == self.stored.count())

    def _write_quarantine(self, parts: Split, plan: Plan, batch: Batch, cursors: tuple[Cursor, ...]) -> None:
        own = batch.quarantine_cursors(tuple(at for at in cursors if at.source in batch.sources and at.before != at.after))
        referenced = contracts.reference_cursors(batch.references, self.quarantine) if own else ()
        commit = Commit((*own, *referenced), lambda _: self.info(batch))
        if plan.scope is None or plan.scope.is_empty:
            if parts.bad.height:
                self.quarantine.append(quarantine.fitted(parts.bad, self.quarantine), commit)
            return
        rejected = quarantine.still_released(quarantine.fitted(parts.bad, self.quarantine), self.quarantine)
        existing = plan.scope.filter(self.quarantine.scan()).limit(1).collect() if self.quarantine.count() else rejected.clear()
        if rejected.height or existing.height:
            replace(self.quarantine, rejected, plan.scope, (), commit)

    def info(self, batch: Batch) -> dict[str, str]:
        """What a commit says of itself."""
        return {
            "lakehouse.run_id": self.run_id,
            "lakehouse.reads": json.dumps({name: source.after for name, source in batch.sources.items()}),
            **contracts.info(self.declaration, batch.references),
        }

    def computed(self, plan: Plan) -> "Computed":
        """What the function makes of a plan."""
        return compute(self.declaration, plan)


@dataclass(frozen=True)
class Part:
    """What one commit brings into the table.

    Attributes:
        plan: What the function was given, and what is replaced.
        computed: What it returned.
        cursors: The watermarks that the commit advances.
        forgets: The watermarks that the commit takes away.
    """

    plan: Plan
    computed: "Computed"
    cursors: tuple[Cursor, ...]
    forgets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Computed:
    """The rows of a function.

    Attributes:
        rows: As it returned them.
        rows_in: How many it was given; None if they are not counted.
    """

    rows: pl.DataFrame
    rows_in: int | None


def computes_all(cursors: Iterable[Cursor]) -> bool:
    """Whether a commit ends a full refresh in place, which computes all rows without replacing all: what was known stays known."""
    return any(cursor.source == FULL_REFRESH for cursor in cursors)


def compute(declaration: TableDeclaration, plan: Plan) -> Computed:
    """Call the function of a table.

    Raises:
        FunctionError: It has a mistake.
        ContractBroken: It returned other columns or types than the contract has.
        RowsLost: It has to return one row for each, and did not.
        ScopeError: It returned rows outside of what is replaced.
    """
    if plan.frames is None or (plan.scope is not None and plan.scope.is_empty):
        return Computed(empty_rows(declaration), 0 if declaration.kind.takes_rows else None)
    frame = declaration(**plan.frames)
    frame = frame.with_columns(value.alias(name) for name, value in plan.columns.items())
    check_columns(declaration.contract, frame.collect_schema(), declaration.name, declaration.place)
    rows = (plan.scope.filter(frame) if plan.scope is not None and plan.filtered else frame).collect(engine="streaming")
    counted = plan.counted if declaration.row_for_row else None
    rows_in = None if counted is None else int(plan.frames[counted].select(pl.len()).collect().item())
    if rows_in not in {None, rows.height}:
        raise RowsLost(
            f"{declaration.name}: its function was given {rows_in} rows and returned {rows.height}. Return one row for each, let the "
            "contract reject rows, or declare row_for_row=False"
        )
    if wrong := declaration.kind.check_result(rows):
        raise ScopeError(f"{declaration.name}: its function is wrong: {wrong}. Nothing was written")
    if plan.scope is not None:
        outside = plan.scope.outside(rows)
        if outside.height:
            raise ScopeError(
                f"{declaration.name}: its function returned {outside.height} rows outside of what it was given ({plan.scope}), the first: "
                f"{_shown(declaration, outside)}. Nothing was written"
            )
    return Computed(rows, rows_in)


def check_repeats(declaration: TableDeclaration, rows: pl.DataFrame, evidence: tuple[Evidence, ...]) -> None:
    """Stop a write whose function returned a key twice: which of the rows is right cannot be known, even if some break a rule.

    Raises:
        ContractBroken: So it did.
    """
    key = list(declaration.kind.result_key(declaration.contract))
    if not key:
        return
    keys = rows.select(key).drop_nulls()
    repeated = keys.filter(pl.struct(key).is_duplicated())
    if not repeated.height:
        return
    first = _shown(declaration, repeated)
    raise ContractBroken(
        f"{declaration.name}: its function returned {repeated.n_unique()} keys more than once ({repeated.height} of {rows.height} rows), "
        f"the first: {first}. A row of this table is told apart by {', '.join(key)}: group by exactly these columns, or add one to the "
        "key. Nothing was written",
        evidence,
    )


def _shown(declaration: TableDeclaration, rows: pl.DataFrame) -> str:
    """The first of some rows, for a message: personal data is masked."""
    masked, _ = personal_of(declaration.contract).masked(rows.head(1).lazy())
    shown = {name: value for name, value in as_python_holds(masked.collect()).row(0, named=True).items() if value not in {None, MASK}}
    return ", ".join(f"{name} = {text(value)}" for name, value in list(shown.items())[:_VALUES_SHOWN]) or "personal data only"


def reads_of(table: Table, version: int) -> dict[str, int]:
    """The tables that a version of a table was computed from, with their versions; maintenance in between computes nothing."""
    for commit in table.commits(version):
        if "reads" in commit["info"]:
            return dict(json.loads(commit["info"]["reads"]))
    return {}

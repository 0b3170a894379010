"""What a step used, as an event in the log of its run, which outlasts the process of the step. Measuring is in `compute.usage`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import dagster as dg
from dagster._core.events import EngineEventData
from deltalake.exceptions import DeltaError

from lakehouse_assets.platform.compute.usage import Usage, measured
from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
from lakehouse_assets.platform.storage.bucket import is_bucket
from lakehouse_assets.platform.storage.commit_log import added_bytes
from lakehouse_assets.platform.storage.errors import StorageError
from lakehouse_assets.platform.storage.table import Table

MARK: Final = "lakehouse/usage"
"""Metadata of such an event, next to the numbers."""
_NONE: Final = -1


@contextmanager
def reporting(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, table: str) -> Iterator[None]:
    """Measure what is done within it, and report it. A report that fails is no failure of the step.

    Args:
        context: Of the step.
        table: That it writes, with its quarantine, or whose monitors it evaluates.
    """
    before, usage = _versions(context, table), Usage()
    try:
        with measured() as usage:
            yield
    finally:
        try:
            _report(context, table, usage, before)
        except Exception as error:  # noqa: BLE001 whatever it is: the step is done, or fails of something else
            context.log.warning("What this step used could not be recorded: %s", error)


def _versions(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, table: str) -> list[tuple[Table, int]]:
    """The table and its quarantine, each with its version; -1 if it does not exist, and nothing where the tables cannot be opened."""
    try:
        lakehouse = context.resources.lakehouse.open()
        tables = [lakehouse.table(name) for name in (table, table + QUARANTINE_SUFFIX)]
        return [(one, one.version() if one.exists() else _NONE) for one in tables]
    except (StorageError, DeltaError, OSError):  # the step will say it
        return []


def _report(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, table: str, usage: Usage, before: Sequence[tuple[Table, int]]
) -> None:
    numbers: dict[str, Any] = {"cpu": round(usage.cpu_seconds, 3), "peak_memory": usage.peak_memory_bytes}
    after = _versions(context, table)
    if after and before:
        written = 0
        for (one, until), (_, since) in zip(after, before, strict=True):
            written += added_bytes(one.uri, one.storage_options, since, until, context.run.run_id)
        numbers |= {"bytes_written": written, "version_before": before[0][1], "version_after": after[0][1]}
        # What came through sockets is not counted.
        numbers["bytes_read"] = None if is_bucket(after[0][0].uri) else usage.bytes_read
    known = {name: number for name, number in numbers.items() if number is not None and number != _NONE}
    context.instance.report_engine_event(
        f"{table}: {_text(known)}",
        context.run,
        EngineEventData(metadata={MARK: table, **known}),
        step_key=context.op_execution_context.get_step_execution_context().step.key,
    )


def _text(numbers: Mapping[str, Any]) -> str:
    words = [f"{numbers['cpu']:,.2f} s of CPU"]
    for name, text in (("peak_memory", "MB of memory at most"), ("bytes_read", "MB read"), ("bytes_written", "MB written")):
        if name in numbers:
            words.append(f"{numbers[name] / 1e6:,.1f} {text}")
    return ", ".join(words)

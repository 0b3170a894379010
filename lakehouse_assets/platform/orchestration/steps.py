"""The step that writes a declared table: its pool, its retries, its errors in one line. What a step does is in `assets`."""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import polars as pl

from lakehouse_assets.platform.orchestration import planned
from lakehouse_assets.platform.orchestration.step_errors import OWN, holds_no_values
from lakehouse_assets.platform.orchestration.step_usage import reporting
from lakehouse_assets.platform.pipeline.failures import failure_text
from lakehouse_assets.platform.quality.account import RowsLost
from lakehouse_assets.platform.quality.contract import ContractBroken
from lakehouse_assets.platform.storage.errors import CommitConflict, StorageError

FULL_REFRESH_TAG = "lakehouse/full_refresh"

# Every write is done once however often it is tried (law 1), so a retry is safe.
RETRIES = dg.RetryPolicy(max_retries=2, delay=1, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
_CONFIG = {
    "full_refresh": dg.Field(
        bool,
        default_value=False,
        description="Compute the table from all rows of its sources, as after a change of its function. A model is trained again.",
    )
}
# What comes out the same every time is not retried.
_FINAL = (ContractBroken, RowsLost, StorageError, ValueError, TypeError, pl.exceptions.PolarsError, pl.exceptions.PanicException)


def key_of(name: str) -> dg.AssetKey:
    """The asset key of a table: the words of its name."""
    return dg.AssetKey(name.split("."))


def declared_step(
    name: str, specs: list[dg.AssetSpec], check_specs: list[dg.AssetCheckSpec], *, table: str = ""
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """The step that writes a declared table: one writer at a time, retried where that may help, and selectable in part.

    A step of another name says which `table` it writes. Several partitions are one run.

    A step may do more than was selected of it, and Dagster takes only that. Where it fails for good, each check that has no result yet
    keeps its last one.
    """
    op = name.replace(".", "__")

    def declare(function: Callable[[dg.AssetExecutionContext], Iterator[Any]]) -> dg.AssetsDefinition:
        @dg.multi_asset(
            name=op,
            specs=specs,
            check_specs=check_specs,
            required_resource_keys={"lakehouse", "mlflow"},
            retry_policy=RETRIES,
            pool=(table or name).replace(".", "__"),
            can_subset=True,
            config_schema=None if table else _CONFIG,
            backfill_policy=dg.BackfillPolicy.single_run() if specs[0].partitions_def else None,
        )
        def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
            with reporting(context, table or name):
                yield from work(context)

        def work(context: dg.AssetExecutionContext) -> Iterator[Any]:
            waiting = set(context.selected_asset_check_keys)
            try:
                for result in function(context):
                    if isinstance(result, dg.AssetCheckResult):
                        check = _check_of(result)
                        if check in waiting:
                            waiting.remove(check)
                            yield result
                    elif isinstance(result, dg.AssetMaterialization) or result.asset_key in context.selected_asset_keys:
                        yield result
            except CommitConflict:
                raise
            except _FINAL as error:
                text = failure_text(table or name, error)
                yield from (planned.kept(context.instance, check, text) for check in sorted(waiting, key=lambda check: check.name))
                # Polars puts values of rows into its messages, which may be personal: the cause is not shown.
                cause = None if isinstance(error, pl.exceptions.PolarsError | pl.exceptions.PanicException) else error
                raise dg.Failure(text, OWN if holds_no_values(error) else None, allow_retries=False) from cause

        return step

    return declare


def is_full_refresh(context: dg.AssetExecutionContext) -> bool:
    """Whether the run is to compute the table from all rows of its sources: by its tag or by the step's configuration."""
    return FULL_REFRESH_TAG in context.run.tags or bool(context.op_execution_context.op_config["full_refresh"])


def _check_of(result: dg.AssetCheckResult) -> dg.AssetCheckKey:
    assert result.asset_key is not None and result.check_name is not None  # noqa: S101, PT018 both are set in `checks`
    return dg.AssetCheckKey(result.asset_key, result.check_name)

"""Endpoints as assets: the log of what each was asked and answered, and the check that batch says the same. Services write the log."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from lakehouse_assets.platform.declarations.base import owners_of
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.check_names import PARITY_CHECK
from lakehouse_assets.platform.declarations.endpoints import Endpoint
from lakehouse_assets.platform.orchestration import columns, describe, versions
from lakehouse_assets.platform.orchestration.steps import declared_step, key_of
from lakehouse_assets.platform.pipeline.champions import scorer_of
from lakehouse_assets.platform.serving.inference_log.records import InferenceRecord
from lakehouse_assets.platform.serving.inference_log.table import INFERENCE, LoggedEndpoint, create
from lakehouse_assets.platform.serving.parity import Replay
from lakehouse_assets.platform.serving.parity_found import EQUAL, WORDS, Parity
from lakehouse_assets.platform.serving.served import Served


def asset(endpoint: Endpoint, catalog: Catalog, tables: str) -> dg.AssetsDefinition:
    """The inference log of an endpoint. To materialize it counts what was logged and replays the newest requests; it adds no row."""
    code = versions.hashed(endpoint.predictions.name, INFERENCE)
    spec = dg.AssetSpec(
        key_of(endpoint.name),
        deps=[key_of(name) for name in endpoint.sources()],
        group_name=f"{endpoint.product}/{endpoint.layer}",
        description=endpoint.description,
        kinds={"deltalake", endpoint.layer},
        owners=owners_of(endpoint.owner),
        tags=describe.tags_of(endpoint),
        metadata={
            **describe.named(endpoint.name, tables),
            **columns.described(INFERENCE, columns.OF_INFERENCE),
            **versions.references(endpoint),
        },
        code_version=code,
    )
    key = spec.key
    declared = {one.name: one for one in catalog.declarations}

    @declared_step(endpoint.name, [spec], [] if endpoint.by_keys else [_check(key)])
    def inference_log(context: dg.AssetExecutionContext) -> Iterator[Any]:
        lakehouse = context.resources.lakehouse.open()
        served = Served(endpoint, endpoint.roles(declared))
        log = create(lakehouse, endpoint.name, InferenceRecord, personal=LoggedEndpoint.of(endpoint, served.roles).personal)
        if not endpoint.by_keys:
            registry = context.resources.mlflow.open
            replay = Replay(endpoint, served.roles, lakehouse, lambda version: scorer_of(registry(), endpoint.model, version))
            yield result(key, replay.run())
        if context.selected_asset_keys:
            yield dg.MaterializeResult(key, metadata=describe.table(log), data_version=versions.of_data(log, code))

    return inference_log


def _check(key: dg.AssetKey) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        PARITY_CHECK,
        asset=key,
        description="The newest logged requests, replayed offline as of their time, have the same features and the same scores.",
    )


def result(key: dg.AssetKey, parity: Parity) -> dg.AssetCheckResult:
    """What a replay found, as the result of the check."""
    unequal = {name: counts for name, counts in parity.features.items() if counts.total() > counts[EQUAL]}
    # Dagster takes records of the same fields alone.
    rows = [dg.TableRecord({"feature": name, **{word: counts[word] for word in WORDS}}) for name, counts in unequal.items()]
    metadata: dict[str, Any] = {
        "rows": parity.rows,
        "waiting": parity.waiting,
        "full_rows": parity.full,
        "rows_compared": parity.compared,
        "values_compared": parity.values,
        "scores": dict(parity.scores),
    }
    if rows:
        schema = dg.TableSchema([dg.TableColumn("feature", "string"), *(dg.TableColumn(word, "int") for word in WORDS)])
        metadata["features"] = dg.MetadataValue.table(rows, schema=schema)
    # What was answered and not compared is not known to be right.
    is_unknown = parity.passed and parity.rows > 0 and not parity.compared
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=PARITY_CHECK,
        passed=parity.passed and not is_unknown,
        severity=dg.AssetCheckSeverity.WARN if is_unknown else dg.AssetCheckSeverity.ERROR,
        description=parity.text,
        metadata=metadata,
    )

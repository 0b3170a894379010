"""The sensor `retraining`: asks for a training of a model where its `retrain=` says so, and hands the reason on by tags of the run.

Whether to train is decided in `monitoring/retraining`. A request is committed there before Dagster is asked for its run, and is the run's
key.
"""

from collections.abc import Iterable, Iterator

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.monitoring.retraining.decision import SENSOR
from lakehouse_assets.platform.monitoring.retraining.runs import REQUEST_TAG, TRAIN, RunOfModels, Runs, tags_of
from lakehouse_assets.platform.monitoring.retraining.standing import Standing
from lakehouse_assets.platform.orchestration.automation import training_of_one
from lakehouse_assets.platform.orchestration.run_control import as_texts, end_dead_runs


def runs_of(instance: dg.DagsterInstance) -> Runs:
    """The runs, by Dagster's instance."""

    def runs(request: str | None) -> list[RunOfModels]:
        found = list(instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)))
        if request is not None:
            found += instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: request}))
        return [_of(run) for run in {run.run_id: run for run in found}.values()]

    return runs


def _of(run: dg.DagsterRun) -> RunOfModels:
    chosen = None if run.asset_selection is None else frozenset(".".join(key.path) for key in run.asset_selection)
    return RunOfModels(run.run_id, run.status.value, run.job_name, chosen, run.tags.get(REQUEST_TAG))


def sensors(catalog: Catalog) -> list[dg.SensorDefinition]:
    """The sensor, if there is a model with `retrain`.

    Args:
        catalog: All declarations.
    """
    models = [model for model in catalog.models if model.retrain is not None]
    return [_sensor(models, catalog)] if models else []


def _sensor(models: Iterable[ModelDeclaration], catalog: Catalog) -> dg.SensorDefinition:
    @dg.sensor(
        name="retraining",
        job_name=TRAIN,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"lakehouse", "mlflow"},
        description="Starts `train` for a model where its retrain= says so: failed monitors, new labels, time.",
    )
    def retraining(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        for text in as_texts(end_dead_runs(context.instance)):
            context.log.info(text)
        lakehouse, runs, now = context.resources.lakehouse.open(), runs_of(context.instance), clock.now()
        assert context.repository_def is not None  # noqa: S101 Dagster gives it
        graph = context.repository_def.asset_graph
        waiting, is_asking = [], False
        for model in models:
            try:
                standing = Standing(model, catalog, lakehouse, context.resources.mlflow.open, runs, now, SENSOR)
                request = standing.ask()
            except Exception as error:  # whatever it is, it must not hold up the other models
                context.log.exception("Whether %s is to be trained cannot be told.", model.name)
                waiting.append(f"{model.name}: cannot be told: {error}")
                continue
            if request is None:
                waiting.append(f"{model.name}: {standing.decision.why_not or 'It was asked for at the same moment elsewhere.'}")
                continue
            is_asking = True
            context.log.info("%s: %s", request.key, request.text)
            keys = sorted(training_of_one(model, catalog.models, graph))
            yield dg.RunRequest(run_key=request.key, asset_selection=keys, tags=tags_of(request))
        if waiting and not is_asking:  # Dagster takes the one or the other
            yield dg.SkipReason("\n".join(waiting))

    return retraining

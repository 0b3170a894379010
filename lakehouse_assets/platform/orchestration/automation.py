"""When things run: the jobs, the schedules and the sensor that looks for waiting files. What a run does is in `build`.

No automation keeps state. The sensor only notices that there is work: a file that the landing log does not know, or one that is not in
bronze yet.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from lakehouse_assets.platform.declarations.declare import FeedAsset, ModelAsset
from lakehouse_assets.platform.operations import maintenance
from lakehouse_assets.platform.orchestration.assets import ONLY_WITHOUT_CHAMPION, TRAINING_TAG, ingestion, key_of
from lakehouse_assets.settings import STEPS_AT_ONCE, Settings

REFRESH, TRAIN, MAINTENANCE = "refresh", "train", "maintenance"
# Runs that are under way or will be: a second one for the same files would find nothing to do.
_UNDER_WAY = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def everything() -> dg.AssetSelection:
    """What a run brings up to date when nothing is named: all but maintenance, which has a time of its own."""
    return dg.AssetSelection.all() - dg.AssetSelection.assets(key_of(maintenance.LOG))


def jobs(models: Sequence[ModelAsset]) -> list[Any]:
    """`refresh` brings everything up to date and trains a model only if it has no champion; `train` trains the models and scores anew.

    `maintenance` compacts, checkpoints, vacuums and cleans logs up.
    """
    maintain = dg.define_asset_job(
        MAINTENANCE,
        dg.AssetSelection.assets(key_of(maintenance.LOG)),
        description="Compact, checkpoint, vacuum and clean the logs up of the tables that need it.",
    )
    refresh = dg.define_asset_job(
        REFRESH,
        everything(),
        description="New files to predictions. A model is trained only while it has no champion.",
        tags={TRAINING_TAG: ONLY_WITHOUT_CHAMPION},
    )
    if not models:
        return [refresh, maintain]
    selection = dg.AssetSelection.assets(*[key_of(model.name) for model in models])
    train = dg.define_asset_job(
        TRAIN, selection.downstream(), description="Train the models, let the gate decide, and score with the champion."
    )
    return [refresh, train, maintain]


def schedules(settings: Settings, *, models: bool) -> list[dg.ScheduleDefinition]:
    """The daily refresh, the weekly training and the nightly maintenance, all on."""
    lines = {
        "daily_refresh": (REFRESH, settings.refresh_schedule),
        "weekly_training": (TRAIN, settings.train_schedule),
        "nightly_maintenance": (MAINTENANCE, settings.maintenance_schedule),
    }
    return [
        dg.ScheduleDefinition(
            name=name,
            job_name=job,
            cron_schedule=line,
            execution_timezone=settings.timezone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
        )
        for name, (job, line) in lines.items()
        if job != TRAIN or models
    ]


def landing_sensor(feeds: Sequence[FeedAsset], seconds: int) -> dg.SensorDefinition:
    """Starts a refresh when files wait, unless one is under way."""

    @dg.sensor(
        name="landing_sensor",
        job_name=REFRESH,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"lakehouse"},
        description="Starts `refresh` when files wait in the landing zone.",
    )
    def landing_sensor(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        waiting = {feed.feed.name: ingestion(feed, context.resources.lakehouse).waiting() for feed in feeds}
        waiting = {name: count for name, count in waiting.items() if count}
        if not waiting:
            yield dg.SkipReason("No files wait.")
        elif context.instance.get_runs(dg.RunsFilter(job_name=REFRESH, statuses=_UNDER_WAY), limit=1):
            yield dg.SkipReason("A refresh is under way; it or the next one takes the waiting files.")
        else:
            yield dg.RunRequest(tags={f"lakehouse/waiting_{name}": str(count) for name, count in waiting.items()})

    return landing_sensor


def executor(kind: str) -> dg.ExecutorDefinition:
    """How steps run: in the run's own process (least overhead), or each in a process that a preloaded server forks."""
    if kind == "in_process":
        return dg.in_process_executor
    forkserver = {"forkserver": {"preload_modules": ["lakehouse_assets.definitions"]}}
    return dg.multiprocess_executor.configured({"max_concurrent": STEPS_AT_ONCE, "start_method": forkserver})

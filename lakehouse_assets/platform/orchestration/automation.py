"""When things run: the jobs, the schedules and the sensor on landed files. What a run does is in `assets`.

No automation keeps state. The sensor only notices that there is work: a file that the landing log does not know, or one that is not in
bronze yet. How often the same files were tried it reads from Dagster's runs.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from hashlib import blake2b
from typing import Any

import dagster as dg
import polars as pl

from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.monitoring.retraining.runs import TRAIN
from lakehouse_assets.platform.operations import maintenance
from lakehouse_assets.platform.orchestration.assets import ingestion
from lakehouse_assets.platform.orchestration.run_control import as_texts, end_dead_runs
from lakehouse_assets.platform.orchestration.steps import key_of
from lakehouse_assets.platform.wording import counted
from lakehouse_assets.settings import Settings

REFRESH, MAINTENANCE = "refresh", "maintenance"
# On a run that the sensor started: which files were pending, as a digest.
FILES_TAG = "lakehouse/files"
_MOST_MINUTES = 60
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# Runs that are under way or will be: a second one for the same files would find nothing to do.
_UNDER_WAY = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def everything(models: Sequence[ModelDeclaration], partitioned: Iterable[dg.AssetKey] = ()) -> dg.AssetSelection:
    """What a refresh brings up to date: all but the models and maintenance, which have times of their own, and partitioned assets.

    These are products' own (`@dg.asset(partitions_def=…)`) and are run by partition.
    """
    return dg.AssetSelection.all() - dg.AssetSelection.assets(key_of(maintenance.LOG), *_keys(models), *partitioned)


def training(models: Sequence[ModelDeclaration], partitioned: Iterable[dg.AssetKey] = ()) -> dg.AssetSelection:
    """What a training brings up to date: the models, and what their champions predict."""
    return dg.AssetSelection.assets(*_keys(models)).downstream().materializable() - dg.AssetSelection.assets(*partitioned)


def training_of_one(model: ModelDeclaration, models: Sequence[ModelDeclaration], graph: Any) -> set[dg.AssetKey]:
    """What a training of one model brings up to date: the model and what its champion predicts, and no other model."""
    keys = training([model]).resolve(graph) - {key_of(other.name) for other in models if other.name != model.name}
    return {key for key in keys if graph.get(key).partitions_def is None}


def _keys(models: Sequence[ModelDeclaration]) -> list[dg.AssetKey]:
    return [key_of(model.name) for model in models]


def jobs(
    models: Sequence[ModelDeclaration], partitioned: Iterable[dg.AssetKey] = (), watched: Iterable[dg.AssetCheckKey] = ()
) -> list[Any]:
    """`refresh` brings all tables up to date and trains nothing; `train` trains the models and scores again. So do the commands.

    `maintenance` compacts, checkpoints, vacuums and cleans logs up.

    Args:
        models: The declared models.
        partitioned: Assets that are run by partition alone.
        watched: The declared monitors, all of which a refresh evaluates, also of tables that no step of it writes.
    """
    maintain = dg.define_asset_job(
        MAINTENANCE,
        dg.AssetSelection.assets(key_of(maintenance.LOG)),
        description="Compact, checkpoint, vacuum and clean the logs up of the tables that need it.",
    )
    refresh = dg.define_asset_job(
        REFRESH,
        everything(models, partitioned) | dg.AssetSelection.checks(*watched),
        description="New files to predictions with the champions that there are. No model is trained: that is the job `train`.",
    )
    if not models:
        return [refresh, maintain]
    description = "Train the models, let the gate decide, and score with the champions."
    train = dg.define_asset_job(TRAIN, training(models, partitioned), description=description)
    return [refresh, train, maintain]


def schedules(settings: Settings, models: Sequence[ModelDeclaration]) -> list[dg.ScheduleDefinition]:
    """The daily refresh, the weekly training and the nightly maintenance, all on.

    A model that says itself how often it is trained (`Retrain(every=…)`) is left out of the weekly training.
    """
    weekly = [model for model in models if model.retrain is None or model.retrain.every is None]
    lines = {
        "daily_refresh": (REFRESH, settings.refresh_schedule, "New files to predictions, also where no file came."),
        "weekly_training": (TRAIN, settings.train_schedule, "Trains the models; a gate decides which version is champion."),
        "nightly_maintenance": (MAINTENANCE, settings.maintenance_schedule, "Compacts, checkpoints and vacuums the tables that need it."),
    }
    return [
        dg.ScheduleDefinition(
            name=name,
            job_name=job,
            cron_schedule=line,
            execution_timezone=settings.timezone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description=text,
            execution_fn=_of_some(weekly, models) if job == TRAIN and len(weekly) < len(models) else None,
        )
        for name, (job, line, text) in lines.items()
        if job != TRAIN or weekly
    ]


def _of_some(chosen: Sequence[ModelDeclaration], models: Sequence[ModelDeclaration]) -> Callable[[Any], dg.RunRequest]:
    """Asks for a training of some models, each with what its champion predicts."""

    def request(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        graph = context.repository_def.asset_graph
        keys = {key for model in chosen for key in training_of_one(model, [one for one in models if one not in chosen], graph)}
        return dg.RunRequest(asset_selection=sorted(keys))

    return request


def landing_sensor(feeds: Sequence[FeedDeclaration], seconds: int) -> dg.SensorDefinition:
    """Starts a refresh when files are pending or the last one was killed.

    Not while one is under way, and not at once where runs for the same files ended without taking them.

    One sensor for all feeds, because one run takes the files of all; each feed is tried by itself, so that a folder that cannot be listed
    keeps no other feed from being noticed. After a run that left files pending, the same files start the next one after 1, 2, 4, … minutes,
    an hour at most; other files start one at once, and so do the same ones after the first run that was killed. Runs whose process is gone
    are ended first.
    """

    @dg.sensor(
        name="landing_sensor",
        job_name=REFRESH,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"lakehouse"},
        description="Starts `refresh` when files are pending in the landing zone, and again when it was killed.",
    )
    def landing_sensor(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        for text in as_texts(end_dead_runs(context.instance)):
            context.log.info(text)
        pending: dict[str, pl.DataFrame] = {}
        failures: list[str] = []
        for feed in feeds:
            try:
                files = ingestion(feed, context.resources.lakehouse).pending()
            except Exception as error:  # whatever it is, it must not hide the files of the other feeds
                context.log.exception("The files of feed %s cannot be listed.", feed.feed.name)
                failures.append(f" Feed {feed.feed.name} cannot be listed: {error}")
            else:
                if files.height:
                    pending[feed.feed.name] = files
        failed = "".join(failures)
        killed = _killed_refresh(context.instance)
        digest = _digest(pending) if pending or killed is None else killed.tags.get(FILES_TAG, killed.run_id)
        if not pending and killed is None:
            yield dg.SkipReason(f"No files are pending.{failed}")
        elif context.instance.get_runs(dg.RunsFilter(job_name=REFRESH, statuses=_UNDER_WAY), limit=1):
            yield dg.SkipReason(f"A refresh is under way; it or the next one does what is pending.{failed}")
        elif reason := _back_off(context.instance, digest):
            yield dg.SkipReason(f"{reason}{failed}")
        else:
            tags = {f"lakehouse/waiting_{name}": str(files.height) for name, files in pending.items()}
            yield dg.RunRequest(tags={FILES_TAG: digest, **tags})

    return landing_sensor


def _digest(pending: Mapping[str, pl.DataFrame]) -> str:
    """By what the same files as they are now are known again."""
    files = [(feed, *row) for feed, frame in pending.items() for row in frame.sort("path").rows()]
    return blake2b(repr(sorted(files)).encode(), digest_size=16).hexdigest()


def _killed_refresh(instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    """The newest refresh that has ended, if it was killed: it may have taken the files and left tables downstream as they were."""
    newest = instance.get_runs(dg.RunsFilter(job_name=REFRESH, statuses=_ENDED), limit=1)
    return newest[0] if newest and _was_killed(instance, newest[0]) else None


def _was_killed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run failed without a step that failed."""
    return run.status is dg.DagsterRunStatus.FAILURE and not instance.get_run_stats(run.run_id).steps_failed


def _back_off(instance: dg.DagsterInstance, digest: str) -> str | None:
    """Why no run is started for these files yet; None if one may be."""
    ended = instance.get_run_records(
        dg.RunsFilter(job_name=REFRESH, tags={FILES_TAG: digest}, statuses=_ENDED), limit=_MOST_MINUTES.bit_length() + 1
    )
    # A run that was killed once says nothing about its files; one that is killed again and again may die of them.
    count = len(ended) - any(_was_killed(instance, record.dagster_run) for record in ended)
    if count <= 0:
        return None
    pause = timedelta(minutes=min(2 ** (count - 1), _MOST_MINUTES)).total_seconds()
    since = time.time() - (ended[0].end_time or ended[0].create_timestamp.timestamp())
    if not 0 <= since < pause:  # after a clock that stepped back nothing is waited for
        return None
    runs = counted(len(ended), "run")
    last = ended[0].dagster_run
    return (
        f"{runs} for the same files ended without taking them, the last one ({last.run_id[:8]}) with {last.status.value}. The next one "
        f"starts in {math.ceil((pause - since) / 60)} minutes, or at once with `lakehouse run`."
    )

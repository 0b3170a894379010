"""Runs and trainings: whether there is anything to do, by watermarks alone, and then a run of Dagster in this process.

What is selected and how a run is carried out is in `orchestration.run`. Other people's runs are in `runs`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

from lakehouse_assets.client.context import Context, by_last_word
from lakehouse_assets.client.partitions import stored_key
from lakehouse_assets.client.runs import Runs
from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.packages import product_packages
from lakehouse_assets.platform.operations.place import note_products, products_of
from lakehouse_assets.settings import BUILT_IN_PRODUCTS, SettingError, variable

if TYPE_CHECKING:
    from lakehouse_assets.platform.monitoring.in_background import BackgroundMonitors
    from lakehouse_assets.platform.monitoring.retraining.standing import Standing
    from lakehouse_assets.platform.operations.follow import MicroBatch
    from lakehouse_assets.platform.orchestration.run import Outcome

OnProgress = Callable[["Outcome"], None]

# A table's last word, in Dagster's selections perhaps with what is upstream and downstream of it.
_TABLE = re.compile(r"[+*\d]*([a-z_]\w*(?:\.\w+)+)[+*\d]*")
_ONE_WORD = re.compile(r"(\d*\+|\*)?([a-z_][a-z0-9_]*)(\+\d*|\*)?")


def run(
    context: Context, selection: Iterable[str], *, full_refresh: bool, partition: str | None, on_progress: OnProgress
) -> "Outcome | None":
    """Bring all tables, or a selection, up to date: see `Client.run`."""
    from lakehouse_assets.platform.operations.pending import pending

    words = [_full(context, word) for word in _words(selection)]
    if not words and (forgotten := forgotten_products(context)):
        raise SettingError(forgotten)
    if partition is not None:
        partition = stored_key(context, words, partition)
    asked = words or full_refresh or partition is not None
    if not asked and not pending(context.root, context.declarations) and not context.loaded.broken:
        _note_products(context)
        Runs(context).end_dead()
        # A run of these records that what failed is well again, as where a change was taken back.
        failed = _failed(context)
        if not failed:
            return None
        words = sorted(failed & {one.name for one in context.declarations})  # none is left of a product that was broken: then all
    from lakehouse_assets.platform.orchestration.code_location import definitions
    from lakehouse_assets.platform.orchestration.run import execute, selection_of

    defs = definitions(context.settings, context.products)
    keys = selection_of(words, defs, context.models, partition)
    try:
        return execute(context.settings, defs, keys, full_refresh=full_refresh, partition=partition, on_progress=on_progress)
    finally:
        _note_products(context)


def follow(
    context: Context, tables: Iterable[str], seconds: float, on_batch: "Callable[[MicroBatch], None]", wait: Callable[[float], bool]
) -> None:
    """Keep tables up to date in micro-batches: see `Client.follow`."""
    from lakehouse_assets.platform.operations import follow as following

    words = _words(tables)
    if not words and (forgotten := forgotten_products(context)):
        raise SettingError(forgotten)
    catalog = context.loaded.catalog
    products = {one.product for one in catalog.declarations}
    names = [word if word in products else by_last_word(word, context.policy.tables) or catalog[word].name for word in words]
    _note_products(context)
    follower = following.Follower.of(context.root, catalog, names)
    monitors = _background_monitors(context, {one.name for one in follower.declarations})
    following.follow(follower, seconds, on_batch, wait, lambda: monitors.tick(clock.now()))
    monitors.close()


def _background_monitors(context: Context, tables: set[str]) -> "BackgroundMonitors":
    """What evaluates the monitors of tables, and of their quarantines, while these are followed."""
    from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
    from lakehouse_assets.platform.monitoring.evaluation import Evaluation
    from lakehouse_assets.platform.monitoring.in_background import BackgroundMonitors
    from lakehouse_assets.platform.monitoring.kinds.implied import all_monitors

    root, catalog = context.root, context.loaded.catalog
    monitors = [one for one in all_monitors(catalog.declarations) if one.of.removesuffix(QUARANTINE_SUFFIX) in tables]
    run_id = f"follow-{uuid4().hex[:12]}"
    return BackgroundMonitors(monitors, lambda now: Evaluation(root.lakehouse, catalog, root.registry, now, run_id, context.notice))


def train(context: Context, models: Iterable[str], *, force: bool, reason: str, on_progress: OnProgress) -> "Outcome | None":
    """Train models whose features have changed: see `Client.train`."""
    from lakehouse_assets.platform.monitoring.retraining.runs import REASON_TAG
    from lakehouse_assets.platform.operations.pending import untrained

    words = _words(models)
    chosen = [context.model(name) for name in words] or context.models
    if not chosen:
        raise LookupError("no product declares a model")
    for model in chosen:
        if missing := [name for name in model.sources() if not context.root.lakehouse.table(name).exists()]:
            raise LookupError(f"{model.name} learns from {', '.join(missing)}, which does not exist yet: `lakehouse run` first")
    old = _old_rows(context, chosen)
    chosen = [model for model in chosen if model.name not in old]
    nothing_to_do = not chosen or not (force or untrained(context.root, chosen))
    if old and (words or nothing_to_do):
        raise ValueError("; ".join(old.values()))
    if nothing_to_do:
        return None
    from lakehouse_assets.platform.orchestration.code_location import definitions
    from lakehouse_assets.platform.orchestration.run import execute, training_of

    defs = definitions(context.settings, context.products)
    tags = {REASON_TAG: reason.strip()} if reason.strip() else {}
    outcome = execute(context.settings, defs, training_of(chosen, defs), full_refresh=force, tags=tags, on_progress=on_progress)
    outcome.warnings += old.values()
    return outcome


def train_due(context: Context, on_progress: OnProgress) -> "dict[str, Outcome]":
    """Train the models whose declarations ask for it now: see `Client.train_due`."""
    from lakehouse_assets.platform.monitoring.retraining.runs import alone

    with alone(context.settings.dagster_home):
        return _train_due(context, on_progress)


def _train_due(context: Context, on_progress: OnProgress) -> "dict[str, Outcome]":
    Runs(context).end_dead()
    done: dict[str, Outcome] = {}
    for model in context.models:
        # Asked of the databases first: mostly nothing is to start, and Dagster takes seconds to import.
        if model.retrain is None or not standing_of(context, model).decision.starts:
            continue
        outcome = _start(context, model, on_progress)
        if outcome is not None:
            done[model.name] = outcome
    return done


def _start(context: Context, model: ModelDeclaration, on_progress: OnProgress) -> "Outcome | None":
    """Ask for a training of a model and carry it out; None if that is somebody else's business by now."""
    from lakehouse_assets.platform.monitoring.retraining.runs import tags_of
    from lakehouse_assets.platform.orchestration.code_location import definitions
    from lakehouse_assets.platform.orchestration.instance import instance
    from lakehouse_assets.platform.orchestration.retraining import runs_of
    from lakehouse_assets.platform.orchestration.run import AlreadyStarted, execute, training_of_one

    with instance(context.settings) as opened:  # which also knows runs that are kept elsewhere
        request = replace(standing_of(context, model), runs=runs_of(opened)).ask()
    if request is None:
        return None
    defs = definitions(context.settings, context.products)
    keys = training_of_one(model, context.models, defs)
    try:
        return execute(context.settings, defs, keys, run_id=request.run_id, tags=tags_of(request), on_progress=on_progress)
    except AlreadyStarted:
        return None


def standing_of(context: Context, model: ModelDeclaration) -> "Standing":
    """How a model stands now that has `retrain=`, for the command. Imports no Dagster."""
    from lakehouse_assets.platform.monitoring.retraining.decision import COMMAND
    from lakehouse_assets.platform.monitoring.retraining.runs import recorded
    from lakehouse_assets.platform.monitoring.retraining.standing import Standing

    root, runs = context.root, recorded(context.settings.dagster_home)
    return Standing(model, context.loaded.catalog, root.lakehouse, root.registry, runs, clock.now(), COMMAND)


def _old_rows(context: Context, models: Iterable[ModelDeclaration]) -> dict[str, str]:
    """The models that learn from rows which a function computed before it was changed, each with what to do about it."""
    from lakehouse_assets.platform.pipeline.functions import why_not_trained

    found = {model.name: why_not_trained(model, context.declarations, context.root.lakehouse) for model in models}
    return {name: why for name, why in found.items() if why is not None}


def forgotten_products(context: Context) -> str:
    """What to do where the setting of products was forgotten, so that a root of others would get the built-in ones; elsewhere empty."""
    others = sorted({*products_of(context.settings.root).values()} - {BUILT_IN_PRODUCTS})
    if context.given is not None or context.settings.products != BUILT_IN_PRODUCTS or not others:
        return ""
    name = variable("products")
    return (
        f"{name} is not set, and this root was run with {name}={','.join(others)}: set it. To run the built-in products in this root, name "
        "them, as in `lakehouse run group:sales`"
    )


def _note_products(context: Context) -> None:
    """Let the root know with which products it is run."""
    if context.given is None:
        packages = {package.name: package.text for package in product_packages(context.settings.products)}
        found = {product.name: packages[product.package] for product in context.loaded.products if product.package in packages}
        note_products(context.settings.root, found)


def _failed(context: Context) -> set[str]:
    """At what the last run failed, tables and broken products; models are for `lakehouse train`."""
    from lakehouse_assets.platform.operations import run_records

    return run_records.failures_of_the_last(context.settings.dagster_home).keys() - {model.name for model in context.models}


def _words(given: Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _full(context: Context, word: str) -> str:
    """A word of a selection; where it is the last word of one declared name alone, with the full name."""
    found = _ONE_WORD.fullmatch(word)
    if found is None:
        named = _TABLE.fullmatch(word)
        if named and named[1] not in context.policy.tables and context.loaded.left_out_with(named[1]) and not named[1].endswith(".broken"):
            raise ValueError(f"{named[1]!r} cannot be run{context.unknown_name(named[1], ())}")
        return word
    full = by_last_word(found[2], context.policy.tables)
    if full is None and found[2] in context.loaded.catalog.external:
        full = f'key:"{found[2]}"'
    if full is None:
        raise ValueError(f"no table matches {found[2]!r}{context.unknown_name(found[2], context.policy.tables)}")
    return f"{found[1] or ''}{full}{found[3] or ''}"

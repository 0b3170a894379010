"""`lakehouse models`: the versions of models, and decisions about which one is in use."""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import click

from lakehouse_assets.cli.complete import MODELS
from lakehouse_assets.cli.shared import JSON, Noun, client
from lakehouse_assets.cli.terminal import add_row, ago, grid, line, print_json, print_paged, right, say
from lakehouse_assets.platform.registry.ledger import by_whom, leaks_of
from lakehouse_assets.platform.wording import counted, span

_VERSIONS = 20


@click.group(cls=Noun, argument_command="show")
def models() -> None:
    """Models: their versions, and which one is in use. `lakehouse train` trains them.

    \b
    Examples:
      lakehouse models
      lakehouse models show revenue_forecast.models.daily_revenue
      lakehouse models promote revenue_forecast.models.daily_revenue 2 --reason "the old one misses the new product group"
      lakehouse models rollback revenue_forecast.models.daily_revenue
      lakehouse models compare revenue_forecast.models.daily_revenue 2 3
      lakehouse models retraining
    """


@models.command("list")
@click.option("--limit", type=click.IntRange(1), help=f"How many versions, the newest first; {_VERSIONS} on a terminal, all as JSON.")
@JSON
def list_models(limit: int | None, as_json: bool) -> None:
    """Every model version: who is champion, and how good each was. All scores and tables are in `lakehouse models show`."""
    values = client().models.list()
    if as_json:
        print_json(values[:limit])
        return
    if not values:
        say("There are no models yet: `lakehouse train` trains one once there is enough history.")
        return
    newest = values[: limit or _VERSIONS]
    parts = list[Any]()
    for model, versions in groupby(newest, key=itemgetter("model")):
        shown = grid(right("version"), "candidate", "aliases", "created", "score")
        for version in versions:
            aliases = ", ".join(version["aliases"])
            add_row(shown, version["version"], version["candidate"] or "unknown", aliases, ago(version["created_at"]), _score(version))
        parts += [line((model, "bold")), shown, line("")]
    more = f" of {len(values):,}; --limit shows more" if len(newest) < len(values) else ""
    print_paged(*parts, line((f"{counted(len(newest), 'version')}{more}", "dim")))


def _score(version: dict[str, Any]) -> str:
    """By the metric that decides."""
    name = version["metric"]
    return f"{name} {version['metrics'][name]:.4g}" if name in version["metrics"] else ""


@models.command()
@click.argument("model", shell_complete=MODELS)
@JSON
def show(model: str, as_json: bool) -> None:
    """The decisions about MODEL, the newest first, with their reasons, and the scores and tables of its versions.

    \b
    Example:
      lakehouse models show revenue_forecast.models.daily_revenue
    """
    values = client().models.show(model)
    if as_json:
        print_json(values)
        return
    champion = values["champion"]
    say((values["model"], "bold"), f": {'no champion' if champion is None else f'version {champion} is champion'}")
    details = {version["version"]: version for version in values["versions"]}
    for decision in values["decisions"]:
        say(f"\nversion {decision['version']} {decision['decision']}, {ago(decision['decided_at'])}, by {by_whom(decision)}")
        if decision.get("training_reason"):
            say(("  trained because: ", "dim"), decision["training_reason"])
        for reason in decision["reasons"]:
            say(f"  {reason}")
        for leak in leaks_of(decision["numbers"]):
            if leak.passed:  # what was refused is among the reasons
                say(("  warning     ", "dim"), f"leakage: {leak.meaning}")
        # Below the newest decision about it.
        if (version := details.pop(decision["version"], None)) is not None:
            _print_version(version)
    if not values["decisions"]:
        say("No version was trained yet: ", (f"lakehouse train {values['model']}", "bold"))


def _print_version(version: dict[str, Any]) -> None:
    """What a version is, how good it was, and what it was trained on."""
    scores = [f"{name} {value:.4g}" for name, value in version["metrics"].items() if "/" not in name]
    tables = [f"{name}@{number}" for name, number in version["tables"].items()]
    about = {"aliases": version["aliases"], "candidate": [version["candidate"] or "unknown"], "scores": scores, "trained on": tables}
    for name, parts in about.items():
        if parts:
            say((f"  {name:10}  ", "dim"), ", ".join(parts))


@models.command()
@JSON
def retraining(as_json: bool) -> None:
    """What would start a training of each model, what was asked for last, and why none starts now: see `retrain=` of the model.

    \b
    Example:
      lakehouse models retraining
    """
    values = client().models.retraining()
    if as_json:
        print_json(values)
        return
    if not values:
        say("No product declares a model.")
    for value in values:
        say((value["model"], "bold"))
        for name, text in _of_retraining(value):
            say((f"  {name:12}  ", "dim"), text)


def _of_retraining(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    declared = value["declared"]
    if declared is None:
        yield "trained", "by people and the weekly schedule alone: it has no retrain="
        return
    starters = [*(f"{monitor} fails" for monitor in declared["on"])]
    starters += [f"{counted(declared['new_labels'], 'new label')}"] if declared["new_labels"] else []
    starters += [f"{span(declared['every'])} since the last training"] if declared["every"] else ["the weekly schedule"]
    yield "trained if", ", ".join(starters)
    budget = f"{counted(declared['trainings'], 'training')} in {span(declared['per'])}"
    yield "at most", budget + (f", and none for {span(declared['cool_down'])} after one" if declared["cool_down"] else "")
    for reason in value["reasons"]:
        yield "reason", f"{reason['text']}."
    for text in value["unheeded"]:
        yield "failed", f"{text}."
    yield (
        "now",
        "A training starts: the sensor retraining asks for it, or `lakehouse train --due`." if value["starts"] else value["why_not"],
    )
    if last := value["last"]:
        yield "asked last", f"{ago(last['at'])}, {last['state']}: {last['text']}"


@models.command()
@click.argument("model", shell_complete=MODELS)
@click.argument("version", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why; it is kept in the model ledger.")
def promote(model: str, version: int, reason: str) -> None:
    """Make VERSION of MODEL the champion by hand.

    \b
    Example:
      lakehouse models promote revenue_forecast.models.daily_revenue 2 --reason "the old one misses the new product group"
    """
    change = client().models.promote(model, version, reason)
    if not change.changed:
        say(f"Version {version} of {change.model_name} is champion already: nothing is changed, and the reason is not kept.")
        return
    say(f"Version {version} of {change.model_name} is champion now.")
    say("Next: ", ("lakehouse run", "bold"), " scores with it")


@models.command()
@click.argument("model", shell_complete=MODELS)
@click.argument("version", type=click.IntRange(1))
@click.option("--by", required=True, help="Who approves; not the person who trained it.")
@click.option("--reason", default="", help="Is kept in the model ledger.")
def approve(model: str, version: int, by: str, reason: str) -> None:
    """Approve VERSION of MODEL, which passed the gate and waits: it becomes champion.

    \b
    Example:
      lakehouse models approve revenue_forecast.models.daily_revenue 3 --by "Ada Lovelace"
    """
    change = client().models.approve(model, version, by, reason)
    say(f"Version {change.champion} of {change.model_name} is approved and champion now.")
    say("Next: ", ("lakehouse run", "bold"), " scores with it")


@models.command()
@click.argument("model", shell_complete=MODELS)
@click.argument("version", type=click.IntRange(1))
@click.option("--by", required=True, help="Who rejects it.")
@click.option("--reason", required=True, help="Why; it is kept in the model ledger.")
def reject(model: str, version: int, by: str, reason: str) -> None:
    """Write down that VERSION of MODEL is not to become champion.

    \b
    Example:
      lakehouse models reject revenue_forecast.models.daily_revenue 3 --by "Ada Lovelace" --reason "trained on a broken price list"
    """
    client().models.reject(model, version, by, reason)
    say(f"Version {version} of {model} is rejected.")


@models.command()
@click.argument("model", shell_complete=MODELS)
@click.argument("one", type=click.IntRange(1))
@click.argument("other", type=click.IntRange(1))
@JSON
def compare(model: str, one: int, other: int, as_json: bool) -> None:
    """Compare the versions ONE and OTHER of MODEL on the rows that both were tested on.

    \b
    Example:
      lakehouse models compare revenue_forecast.models.daily_revenue 2 3
    """
    values = client().models.compare(model, one, other)
    if as_json:
        print_json(values)
        return
    shown = grid("fold", right(f"version {one}"), right(f"version {other}"), right("rows"))
    for fold in values["folds"]:
        add_row(shown, fold["fold"], f"{fold['score']:.4g}", f"{fold['other_score']:.4g}", fold["rows"])
    print_paged(shown, line((values["text"], "bold")))


@models.command()
@click.argument("model", shell_complete=MODELS)
def rollback(model: str) -> None:
    """Make the previous champion of MODEL the champion again.

    \b
    Example:
      lakehouse models rollback revenue_forecast.models.daily_revenue
    """
    change = client().models.rollback(model)
    before = "" if change.champion_before is None else f", in place of version {change.champion_before}"
    say(f"Version {change.champion} of {change.model_name} is champion again{before}.")
    say("Next: ", ("lakehouse run", "bold"), " scores with it")

"""What MLflow's pages say about a model and its versions: descriptions that a person reads first. What is decided is in `decisions`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from lakehouse_assets.platform.registry.training_run import TrainingRun

# Tags that MLflow's pages know.
NOTE: Final = "mlflow.note.content"
USER: Final = "mlflow.user"
# Without it the menu of MLflow's pages is about language models. The page of all models drops it again.
_TRAINING: Final = "?workflowType=machine_learning"
EXPERIMENTS: Final = f"/#/experiments{_TRAINING}"
"""Of MLflow's web server: the trainings of all models."""
_DECISION: Final = "\n\n### Decision\n\n"
_MOST_METRICS: Final = 12
_ROOM: Final = "&nbsp;" * 4
_RULE: Final = frozenset("|-: ")


def model_page(name: str, version: int | None = None) -> str:
    """The page of a model on MLflow's web server, or of one of its versions."""
    of = "" if version is None else f"/versions/{version}"
    return f"/#/models/{quote(name, safe='')}{of}{_TRAINING}"


def first_page(names: Sequence[str]) -> str:
    """What people open first, by the names of the registered models: the model if there is one alone, else all trainings."""
    return model_page(names[0]) if len(names) == 1 else EXPERIMENTS


def version_text(training: "TrainingRun") -> str:
    """The card of a version: what it was trained on, by whom, and how good it is."""
    tables = "\n".join(f"| {table.name} | {table.version} | {table.rows:,} |" for table in training.tables)
    metrics = "\n".join(f"| {name} | {value:.4g} |" for name, value in list(training.metrics.items())[:_MOST_METRICS])
    asset = "/".join(training.asset.split("."))
    made = f"Trained {training.started_at:%Y-%m-%d %H:%M} UTC by {training.user or 'nobody who is known'}, seed {training.seed}."
    why = f"\n\nTrained because: {training.reason}" if training.reason else ""
    origin = f"\n\nDagster: asset `{asset}` (page `/assets/{asset}`), run `{training.orchestrator_run}`." if training.asset else ""
    about = f"{training.description}\n\nOwner: {training.owner}. " if training.description else ""
    card = f"\n\n{training.card}" if training.card else ""
    return _spaced(
        f"{about}{made}{why}{origin}{card}\n\n### Data\n\n| table | version | rows |\n| --- | --- | --- |\n{tables}"
        f"\n\n### Metrics\n\n| metric | value |\n| --- | --- |\n{metrics}"
    )


def with_decision(text: str, decision: str, reasons: Sequence[str], table: str = "") -> str:
    """A card with what was decided about the version last, and why, and perhaps a table of what was compared."""
    said = f"**{decision}**\n\n" + "\n".join(f"- {reason}" for reason in reasons)
    return text.split(_DECISION, maxsplit=1)[0] + _DECISION + said + (_spaced(f"\n\n{table}") if table else "")


def _spaced(text: str) -> str:
    """Markdown whose tables have room between their columns: MLflow's pages draw cells without any."""
    return "\n".join(
        line.replace(" | ", f"{_ROOM} | ") if line.startswith("| ") and not set(line) <= _RULE else line for line in text.split("\n")
    )

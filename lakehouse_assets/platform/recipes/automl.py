"""A first model of a table: what its columns say about the target, which learner is best within a budget, and a report of both.

What the question is, is in `question`. A product of the answer is written by the scaffold.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.compute import deadline
from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import Learner, Split, TrainingRows
from lakehouse_assets.platform.features.leakage import Leakage, LeakageReport, sample
from lakehouse_assets.platform.modelling.automatic import BEST_RULE, default_search
from lakehouse_assets.platform.modelling.exploration_plots import columns_plot, leaderboard_plot, relations_plot
from lakehouse_assets.platform.modelling.splits import GroupSplit, StratifiedSplit
from lakehouse_assets.platform.recipes.question import NoQuestion, Question
from lakehouse_assets.platform.wording import counted

MOST_ROWS: Final = 200_000
MOST_TRIALS: Final = 1_000
_LEAST_ROWS: Final = 50
_FOLDS: Final = 5
_FOLDS_OF_MANY: Final = 3
_MANY: Final = 1_000
_MOST_MEMBERS: Final = 3
_WORTH_A_BLEND: Final = 0.01


@dataclass(frozen=True)
class FirstModel:
    """What was found about a table.

    Attributes:
        question: What is predicted from what.
        examples: The rows that were learnt from.
        leakage: What each column says alone, and what looks like a leak.
        board: The leaderboard: see `Searched.trials`.
        learner: The best one.
        metric: What the losses of the leaderboard are.
    """

    question: Question
    examples: pl.DataFrame
    leakage: LeakageReport
    board: pl.DataFrame
    learner: Learner
    metric: str

    @property
    def best(self) -> Mapping[str, Any]:
        """The row of the leaderboard of the best learner, or of the blend; baselines are not among them."""
        blend = self.board.filter(state="blend")
        return (blend if blend.height else self.board.filter(rank=1)).row(0, named=True)

    @property
    def best_baseline(self) -> Mapping[str, Any] | None:
        """The row of the best baseline."""
        baselines = self.board.filter(pl.col("state") == "baseline", pl.col("loss").is_not_null()).sort("loss")
        return baselines.row(0, named=True) if baselines.height else None

    @cached_property
    def verdict(self) -> str:
        """Whether the best learner is worth its keep, in a sentence."""
        best, baseline = self.best, self.best_baseline
        said = f"{best['candidate']} is best: {self.metric} {best['loss']:.4g}"
        if baseline is None:
            return f"{said}."
        gain = 1 - best["loss"] / baseline["loss"] if baseline["loss"] else 0.0
        than = f"the baseline {baseline['candidate']!r} ({baseline['loss']:.4g})"
        if gain > 0:
            return f"{said}, {gain:.1%} less than {than}."
        why = "one column says as much as all" if baseline["candidate"] == BEST_RULE else "there may be nothing to learn"
        return f"{said}, no better than {than}: {why}."

    @property
    def kept(self) -> list[str]:
        """Inputs that are learnt from though they seem to be made from the answer."""
        return [one for one in _answers(self.leakage, ()) if one in self.question.inputs]

    @property
    def warnings(self) -> list[str]:
        """What looks like a leak among the inputs that are learnt from."""
        found = [one for one in self.leakage.findings if one.level != "note" and (not one.column or one.column in self.question.inputs)]
        return [one.sentence.replace("without=", f"--without {one.column}") for one in found]

    def pictures(self) -> dict[str, bytes]:
        """PNG files by name: `columns`, `relations` and `leaderboard`."""
        strongest = self.leakage.inputs.sort("strength", "input", descending=[True, False])
        order = strongest["input"].to_list() or list(self.question.inputs)
        return {
            "columns": columns_plot(self.examples, self.question.target, order),
            "relations": relations_plot(strongest, self.question.target, self.leakage.measure),
            "leaderboard": leaderboard_plot(self.board, self.metric),
        }

    def report(self) -> str:
        """The exploration and the leaderboard as Markdown, with the pictures next to it."""
        asked = self.question
        strength = dict(self.leakage.inputs.select("input", "strength").iter_rows())
        lines = [
            f"# {asked.target} of {asked.table}",
            "",
            f"{counted(self.examples.height, 'row')} with a known {asked.target}. {self.verdict}",
            "",
            *(f"- {note}" for note in asked.notes),
            *(f"- {note}" for note in self.warnings),
            "",
            "![columns](columns.png)",
            "![relations](relations.png)",
            "![leaderboard](leaderboard.png)",
            "",
            "## Columns",
            "",
            "| column | type | use | missing | different | commonest | alone | |",
            "| --- | --- | --- | --: | --: | --- | --: | --- |",
        ]
        for one in asked.columns:
            alone = f"{strength[one.name]:.2f}" if one.name in strength else ""
            cells = (one.name, one.dtype, one.use, f"{one.nulls:.1%}", f"{one.distinct:,}", one.example, alone, one.note)
            lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
        lines += ["", "## Leaderboard", "", f"| | {self.metric} | state | parameters |", "| --- | --: | --- | --- |"]
        for row in self.board.filter(pl.col("state") != "pruned").iter_rows(named=True):
            loss = "" if row["loss"] is None else f"{row['loss']:.5g}"
            lines.append(f"| {row['candidate']} | {loss} | {row['state']} | {_cell(_parameters(row['parameters']))} |")
        return "\n".join(lines) + "\n"


def first_model(
    question: Question,
    rows: pl.DataFrame,
    *,
    seconds: float,
    seed: int,
    compute: Compute,
    trials: int = MOST_TRIALS,
    keep: Collection[str] = (),
    folder: Path | None = None,
) -> FirstModel:
    """Explore a table and search for the best learner.

    Args:
        question: What is predicted from what.
        rows: Of the table. Of more than `MOST_ROWS` the newest are taken, or a part by chance where there is no time.
        seconds: Until the search is over, the look at the columns included: see `Search`. Nothing is fitted to all rows.
        seed: Of every random choice.
        compute: Where work runs.
        trials: Most trials, those of an interrupted search in `folder` among them.
        keep: Columns that are learnt from even if they seem to be made from the answer.
        folder: Where trials are kept, so that a search that was interrupted goes on; None: in memory.

    Raises:
        NoQuestion: There are too few rows, or all columns seem to be made from the answer.
        NotEnoughData: No learner could be judged.
    """
    end = deadline.clock() + seconds
    examples = question.examples(rows)
    if examples.height < _LEAST_ROWS:
        raise NoQuestion(
            f"{question.table} has {counted(examples.height, 'row')} with a known {question.target}, and a search needs {_LEAST_ROWS}: "
            f"{_LEAST_ROWS - examples.height} more are missing"
        )
    if examples.height > MOST_ROWS:
        key = [*question.entity, question.at]
        examples = examples.tail(MOST_ROWS) if question.time else sample(examples, key, MOST_ROWS)
    training = TrainingRows(examples.lazy(), question.entity, question.at, question.target, tuple(question.inputs))
    leakage = Leakage().report_rows(
        examples, key=question.entity, at=question.at, target=question.target, inputs=training.inputs, seed=seed, compute=compute
    )
    question = question.without(_answers(leakage, keep))
    training = replace(training, inputs=tuple(question.inputs))
    folds = _folds(question, examples.height)
    left = max(0.0, end - deadline.clock())
    usual = default_search(question.task, rows=examples.height, trials=trials, seconds=left, folds=folds, folder=folder)
    search = replace(usual, members=_MOST_MEMBERS)
    board = _plain(search.leaderboard(training, seed=seed, compute=compute))
    return FirstModel(question, examples, leakage, board, search.learner_of(board), search.metric.name)


def _answers(leakage: LeakageReport, keep: Collection[str]) -> dict[str, str]:
    """The columns that give the answer away, each with the reason to leave it out."""
    reasons = {"equals": "it is the answer: it equals the target in {:.2%} of the rows"}
    reasons["determines"] = "it may be made from the answer: alone it tells {:.1%} of it, and the other columns far less"
    found = [one for one in leakage.findings if one.level == "error" and one.kind in reasons and one.column not in keep]
    return {one.column: f"{reasons[one.kind].format(one.number)}. If it is known in time, say --keep {one.column}" for one in found}


def _folds(question: Question, rows: int) -> Split | None:
    """By time where there is one."""
    if question.time is not None:
        return None
    folds = _FOLDS if rows < _MANY else _FOLDS_OF_MANY
    return GroupSplit(question.entity[0], folds) if question.task == "regression" else StratifiedSplit(question.target, folds)


def _plain(board: pl.DataFrame) -> pl.DataFrame:
    """A leaderboard without a blend that is hardly better than the best learner alone, which is easier to go on with."""
    blend, best = board.filter(state="blend")["loss"], board.filter(rank=1)["loss"]
    if blend.is_empty() or blend[0] <= best[0] * (1 - _WORTH_A_BLEND):
        return board
    alone = pl.when(pl.col("rank") == 1).then(1.0).when(pl.col("weight").is_not_null()).then(0.0)
    return board.filter(pl.col("state") != "blend").with_columns(alone.alias("weight"))


def _parameters(text: str) -> str:
    """The parameters of a trial as people read them."""
    values = json.loads(text)
    return ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")

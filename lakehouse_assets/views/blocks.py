"""What a page is made of: figures, notes, texts, rows and two kinds of chart, as plain values.

A view puts blocks together and knows nothing of how they are drawn; a `Medium` draws them: a marimo page (`in_marimo`) or one HTML file
(`in_html`). So a page and the report say the same.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeVar

import polars as pl

from lakehouse_assets.platform.wording import counted

Tone = Literal["plain", "good", "warn", "bad"]
T = TypeVar("T")
_MOST_POINTS: Final = 80
_MOST_TICKS: Final = 10


class Medium(ABC, Generic[T]):
    """Draws blocks."""

    @abstractmethod
    def figures(self, block: "Figures") -> T:
        """A row of numbers."""

    @abstractmethod
    def note(self, block: "Note") -> T:
        """A sentence that stands out."""

    @abstractmethod
    def text(self, block: "Text") -> T:
        """Markdown."""

    @abstractmethod
    def rows(self, block: "Rows") -> T:
        """A table."""

    @abstractmethod
    def curves(self, block: "Curves") -> T:
        """Lines over time."""

    @abstractmethod
    def bars(self, block: "Bars") -> T:
        """Bars."""


class Block(ABC):
    """A part of a page."""

    @abstractmethod
    def drawn_by(self, medium: Medium[T]) -> T:
        """What the medium makes of it."""


@dataclass(frozen=True)
class Figure:
    """A number with what it means.

    Attributes:
        label: What is counted or measured.
        value: The number with its unit.
        note: What it is compared with, or when it was so.
        tone: Whether it is as it should be.
    """

    label: str
    value: str
    note: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True)
class Figures(Block):
    """A row of numbers that a person reads first."""

    items: tuple[Figure, ...]

    def drawn_by(self, medium: Medium[T]) -> T:
        """See `Block.drawn_by`."""
        return medium.figures(self)


@dataclass(frozen=True)
class Note(Block):
    """A sentence that stands out: what is wrong, or what to do where there is nothing to show yet."""

    text: str
    tone: Tone = "plain"

    def drawn_by(self, medium: Medium[T]) -> T:
        """See `Block.drawn_by`."""
        return medium.note(self)


@dataclass(frozen=True)
class Text(Block):
    """Markdown: headings, paragraphs, lists and tables."""

    markdown: str

    def drawn_by(self, medium: Medium[T]) -> T:
        """See `Block.drawn_by`."""
        return medium.text(self)


@dataclass(frozen=True)
class Rows(Block):
    """A table with a heading.

    Attributes:
        heading: Over it.
        frame: Columns have the names that people read; values are rounded as they are to be shown.
        empty: What is said where there is no row.
    """

    heading: str
    frame: pl.DataFrame
    empty: str = "There is nothing to show."

    def drawn_by(self, medium: Medium[T]) -> T:
        """See `Block.drawn_by`."""
        return medium.rows(self)


@dataclass(frozen=True)
class Curves(Block):
    """Lines over time, one for each value of a column, perhaps with a band around some, or a limit that values should not pass.

    Attributes:
        heading: Over it: what is to be seen.
        frame: Has the columns `at` (date or moment), `value`, `line`, and perhaps `low` and `high`, the edges of the band, and `limit`.
        unit: What the vertical axis measures, with its unit.
        dashed: The lines that are drawn dashed: what is expected and not measured.
        time: What the horizontal axis is called.
        band: What the band means.
        limit: What the limit is called. It is drawn dashed, and values above it are marked.
        muted: The lines that are there for comparison alone: thin and grey, without a name.
        windows: Whether `at` are begins of windows: the axis is labelled at some of them, and nowhere else.
        remark: A sentence below it.
    """

    heading: str
    frame: pl.DataFrame
    unit: str
    dashed: tuple[str, ...] = ()
    time: str = "day"
    band: str = ""
    limit: str = ""
    muted: tuple[str, ...] = ()
    windows: bool = False
    remark: str = ""

    @property
    def lines(self) -> list[str]:
        """The names of the lines, in the order in which they come."""
        return self.frame["line"].unique(maintain_order=True).to_list()

    @property
    def named(self) -> dict[str, str]:
        """A colour for each line that has a name in the legend."""
        return colours_of([name for name in self.lines if name not in self.muted])

    @property
    def colours(self) -> dict[str, str]:
        """A colour for each line; the muted ones come first, so that the others are drawn over them."""
        return dict.fromkeys(self.muted, MUTED_COLOUR) | self.named

    @property
    def has_points(self) -> bool:
        """Whether each value gets a point: not where they would lie over one another."""
        return self.frame["at"].n_unique() <= _MOST_POINTS

    @property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers, so that the axis has no others."""
        return _is_whole(self.frame["value"])

    @property
    def ticks(self) -> list[Any]:
        """The moments at which the axis is labelled: the newest window, and every so many before it; none where it is up to the chart."""
        moments = self.frame["at"].unique().sort(descending=True).to_list() if self.windows else []
        return moments[:: math.ceil(len(moments) / _MOST_TICKS) or 1][::-1]

    @property
    def has_band(self) -> bool:
        """Whether there is a band."""
        return bool(self.band) and "low" in self.frame.columns

    @property
    def has_limit(self) -> bool:
        """Whether there is a limit."""
        return bool(self.limit) and "limit" in self.frame.columns

    @property
    def beyond(self) -> pl.DataFrame:
        """The rows whose value is above the limit."""
        return self.frame.filter(pl.col("value") > pl.col("limit"))

    @property
    def limits(self) -> dict[str, pl.DataFrame]:
        """The limit over time by line, or one under its own name, if there is one line or the same limit for all."""
        known = self.frame.drop_nulls("limit")
        if known["limit"].n_unique() > 1:
            known = known.filter(~pl.col("line").is_in(self.muted))
        if known["limit"].n_unique() == 1 or known["line"].n_unique() == 1:
            return {self.limit: known.unique("at", keep="first").sort("at")}
        return {str(name): rows.sort("at") for (name,), rows in known.partition_by("line", as_dict=True).items()}

    @property
    def beyond_called(self) -> str:
        """What points above the limit are called."""
        return f"beyond the {self.limit}"

    @property
    def marks(self) -> dict[str, str]:
        """What is drawn of the limit under a name of its own, with its colours."""
        if not self.has_limit:
            return {}
        own = {self.limit: LIMIT_COLOUR} if self.limit in self.limits else {}
        return own | ({self.beyond_called: TONES["bad"]} if self.beyond.height else {})

    @property
    def caption(self) -> str:
        """What is drawn besides the lines."""
        parts = [f"The band is {self.band}."] if self.has_band else []
        if self.has_limit:
            own = "" if self.limit in self.limits else ", of each line in its colour"
            parts.append(f"Dashed: the {self.limit}{own}. Red points are beyond it.")
        parts += [f"Grey: {counted(len(self.muted), 'more column')}."] if self.muted else []
        parts += [self.remark] if self.remark else []
        return " ".join(parts)

    def drawn_by(self, medium: Medium[T]) -> T:
        """See `Block.drawn_by`."""
        return medium.curves(self)


@dataclass(frozen=True)
class Bars(Block):
    """Bars, perhaps stacked.

    Attributes:
        heading: Over it: what is to be seen.
        frame: Has the columns `name` (text, in the order of the bars), `value`, and `part`, by which a bar is coloured and stacked.
        unit: What a bar's length measures, with its unit.
        names: What the bars are, for the axis.
        tones: By part its tone, which gives it its colour; others get colours in turn.
    """

    heading: str
    frame: pl.DataFrame
    unit: str
    names: str
    tones: Mapping[str, Tone] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers, so that the axis has no others."""
        return _is_whole(self.frame["value"])

    @property
    def parts(self) -> list[str]:
        """The parts, in the order in which they come."""
        return self.frame["part"].unique(maintain_order=True).to_list()

    def drawn_by(self, medium: Medium[T]) -> T:
        """See `Block.drawn_by`."""
        return medium.bars(self)


@dataclass(frozen=True)
class Page:
    """A page: its title, a sentence that says what it tells, and its blocks.

    Attributes:
        name: Of its file and its address.
        title: Over it.
        sentence: What a person learns here.
        blocks: In their order.
    """

    name: str
    title: str
    sentence: str
    blocks: Sequence[Block]

    def drawn_by(self, medium: Medium[T]) -> list[T]:
        """Its blocks, drawn."""
        return [block.drawn_by(medium) for block in self.blocks]


COLOURS: tuple[str, ...] = ("#1f4e79", "#d9822b", "#2f8f5b", "#8e44ad", "#d16ba5", "#16a2b8", "#7f8c8d", "#b8860b")
"""Of lines and parts in turn: told apart also by who does not see red and green well, and on paper."""
MUTED_COLOUR = "#c3cad1"
LIMIT_COLOUR = "#3a4450"
TONES: Mapping[Tone, str] = {"plain": "#1f4e79", "good": "#2f8f5b", "warn": "#d9822b", "bad": "#c0392b"}


def colours_of(names: Sequence[str], tones: Mapping[str, Tone] | None = None) -> dict[str, str]:
    """A colour for each name."""
    free = iter(COLOURS * (len(names) // len(COLOURS) + 1))
    return {name: TONES[tones[name]] if tones and name in tones else next(free) for name in names}


def _is_whole(values: pl.Series) -> bool:
    known = values.drop_nulls()
    return bool(((known % 1) == 0).all())


def short(text: str, more: str = "", most: int = 240) -> str:
    """A long text cut after a word, with the command that shows all of it."""
    if len(text) <= most:
        return text
    return text[:most].rsplit(" ", 1)[0] + " …" + (f" (all: `{more}`)" if more else "")


def filled(frame: pl.DataFrame) -> pl.DataFrame:
    """Without the columns that have no value in any row."""
    return frame.select([one.name for one in frame if one.null_count() < one.len()])


def rounded(value: float) -> float:
    """To four digits that count."""
    return float(f"{value:.4g}")


def number(value: Any, digits: int = 0) -> str:
    """A number with commas; a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"

"""Blocks as HTML that needs nothing else: charts are SVG by matplotlib. What a page says is not decided here."""

import io
import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from lakehouse_assets.platform.modelling.plots import styled
from lakehouse_assets.views.blocks import TONES, Bars, Curves, Figures, Medium, Note, Page, Rows, Text, colours_of
from lakehouse_assets.views.markup import STYLE, as_html, from_markdown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLE: Final = (
    "<style>body{font-family:system-ui,sans-serif;color:#1c2733;max-width:68rem;margin:0 auto;padding:1.5rem;line-height:1.5}"
    "h1{font-size:1.8rem}h2{margin-top:2rem}h3{margin:1.6rem 0 .5rem}section{border-top:3px solid #d5dbe1;margin-top:2.5rem}"
    "nav a{margin-right:1.1rem;color:#1f6fb2}.figures{display:grid;"
    "grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.7rem;margin:.8rem 0}"
    ".figure{border:1px solid #d5dbe1;border-left:4px solid;border-radius:6px;padding:.6rem .9rem}"
    ".figure div{font-size:.8rem;color:#5b6673}.figure b{font-size:1.35rem}"
    ".note{border-left:4px solid;background:#f4f6f8;padding:.1rem 1rem;margin:.8rem 0}code{background:#eef1f4;padding:0 .2rem}</style>"
)
_MOST_ROWS: Final = 60
_WIDTH: Final = 9.6
_BAR: Final = 0.28
_FIGURE: Final[Any] = {
    "figure.dpi": 72,
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e8ecf0",
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "lakehouse",
}


class Html(Medium[str]):
    """Draws blocks as HTML."""

    def figures(self, block: Figures) -> str:
        """See `Medium.figures`."""
        cards = "".join(
            f'<div class="figure" style="border-left-color:{TONES[one.tone]}"><div>{escape(one.label)}</div><b>{escape(one.value)}</b>'
            f"<div>{escape(one.note)}</div></div>"
            for one in block.items
        )
        return f'<div class="figures">{cards}</div>'

    def note(self, block: Note) -> str:
        """See `Medium.note`."""
        return f'<div class="note" style="border-left-color:{TONES[block.tone]}">{from_markdown(block.text)}</div>'

    def text(self, block: Text) -> str:
        """See `Medium.text`."""
        return from_markdown(block.markdown)

    def rows(self, block: Rows) -> str:
        """See `Medium.rows`."""
        heading = f"<h3>{escape(block.heading)}</h3>"
        if block.frame.is_empty():
            return f"{heading}<p><em>{escape(block.empty)}</em></p>"
        more = block.frame.height - _MOST_ROWS
        rest = f"<p><em>and {more:,} more: the pages of `lakehouse dev` show all</em></p>" if more > 0 else ""
        return heading + as_html(block.frame.head(_MOST_ROWS)) + rest

    def curves(self, block: Curves) -> str:
        """See `Medium.curves`."""

        def draw(axes: "Axes") -> None:
            colours = block.colours
            for name, colour in colours.items():
                line = block.frame.filter(pl.col("line") == name)
                at: Any = line["at"].to_list()
                style = "--" if name in block.dashed else "-"
                is_muted = name in block.muted
                points: Any = {"marker": "o", "markersize": 2} if block.has_points and not is_muted else {}
                label, width = (None, 0.8) if is_muted else (name, 1.6)
                axes.plot(at, _floats(line["value"]), style, color=colour, linewidth=width, label=label, **points)
                if block.has_band and line["low"].null_count() < line.height:
                    axes.fill_between(at, _floats(line["low"]), _floats(line["high"]), color=colour, alpha=0.2, linewidth=0)
            if block.has_limit:
                _limits(axes, block, colours)
            axes.set_xlabel(block.time)
            axes.set_ylabel(block.unit)
            axes.yaxis.set_major_locator(_steps(is_whole=block.is_whole))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
            axes.figure.autofmt_xdate(rotation=0, ha="center")
            if ticks := block.ticks:
                days = "%d %b %y" if all(f"{at:%H:%M}" == "00:00" for at in ticks) else "%d %b %H:%M"
                axes.set_xticks(ticks, [f"{at:{days}}" for at in ticks])
            _legend(axes, block.lines if len(block.lines) + len(block.marks) > 1 else [])

        caption = f"<p><em>{escape(block.caption)}</em></p>" if block.caption else ""
        return f"<h3>{escape(block.heading)}</h3>{_svg(draw, 3.6, block.heading)}{caption}"

    def bars(self, block: Bars) -> str:
        """See `Medium.bars`."""
        names = block.frame["name"].unique(maintain_order=True).to_list()

        def draw(axes: "Axes") -> None:
            left = dict.fromkeys(names, 0.0)
            for part, colour in colours_of(block.parts, block.tones).items():
                values = dict(block.frame.filter(pl.col("part") == part).select("name", "value").iter_rows())
                axes.barh(names, [values.get(name, 0) for name in names], left=[left[name] for name in names], color=colour, label=part)
                left = {name: left[name] + values.get(name, 0) for name in names}
            axes.invert_yaxis()
            axes.grid(visible=False, axis="y")
            axes.set_xlabel(block.unit)
            # Above the bars: next to a few bars it would be longer than they are high.
            axes.set_title(block.names, loc="right", fontsize=10)
            axes.xaxis.set_major_locator(_steps(is_whole=block.is_whole))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
            _legend(axes, block.parts if len(block.parts) > 1 or block.tones else [])

        return f"<h3>{escape(block.heading)}</h3>{_svg(draw, 1.1 + _BAR * len(names), block.heading)}"


def content(page: Page) -> str:
    """What a page says, under its title."""
    return f"<h1>{escape(page.title)}</h1><p>{escape(page.sentence)}</p>{''.join(page.drawn_by(Html()))}"


def document(title: str, body: str) -> str:
    """A whole document.

    Args:
        title: Already escaped.
        body: HTML.
    """
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>{_STYLE}{STYLE}'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _steps(*, is_whole: bool) -> Any:
    """Where an axis of numbers is labelled."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=8, steps=[1, 2, 2.5, 5, 10], integer=is_whole)


def _floats(values: pl.Series) -> Any:
    """Numbers as Matplotlib takes them, also where all or some are missing."""
    return values.cast(pl.Float64).to_numpy()


def _limits(axes: "Axes", block: Curves, colours: Mapping[str, str]) -> None:
    """The limits as dashed lines, and points where a value is beyond its own."""
    own = block.marks
    for name, rows in block.limits.items():
        at, limit = rows["at"].to_list(), _floats(rows["limit"])
        axes.plot(at, limit, "--", color=own.get(name) or colours[name], linewidth=1.2, label=name if name in own else None)
    if block.beyond.height:
        at, value = block.beyond["at"].to_list(), _floats(block.beyond["value"])
        axes.plot(at, value, "o", color=own[block.beyond_called], markersize=6, label=block.beyond_called)


def _legend(axes: "Axes", names: list[str]) -> None:
    if names:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(names), 4), frameon=False)


def _svg(draw: Any, height: float, title: str) -> str:
    """A chart as an SVG element; drawn without the state that matplotlib's `pyplot` keeps."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with styled(_FIGURE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    text = target.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" style="max-width:100%;height:auto" ', 1)

"""Blocks in a marimo page: charts are Altair's, tables are marimo's. What a page says is not decided here."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from html import escape
from typing import Any, Final

import altair as alt
import marimo as mo
import polars as pl

from lakehouse_assets.views.blocks import TONES, Bars, Block, Curves, Figures, Medium, Note, Page, Rows, Text, Tone, colours_of
from lakehouse_assets.views.markup import STYLE, as_html, from_markdown, links

_KINDS: Final[Mapping[Tone, Any]] = {"plain": "info", "good": "success", "warn": "warn", "bad": "danger"}
_CARD: Final = "border:1px solid #d5dbe1;border-radius:6px;padding:.6rem .9rem"
_SMALL: Final = "font-size:.8rem;color:#5b6673"
_LARGE: Final = "font-size:1.35rem;font-weight:600;line-height:1.3"
_PAGE_ROWS: Final = 15
_WIDTH: Final = 1_000
_WIDEST: Final = 420
_NARROW: Final = 130
_LETTER: Final = 7
_FEW_DAYS: Final = timedelta(days=4)
_HEIGHT: Final = 320


class Marimo(Medium[Any]):
    """Draws blocks as marimo shows them."""

    def figures(self, block: Figures) -> Any:
        """See `Medium.figures`."""
        cards = "".join(
            f'<div style="{_CARD};border-left:4px solid {TONES[one.tone]}"><div style="{_SMALL}">{escape(one.label)}</div>'
            f'<div style="{_LARGE}">{escape(one.value)}</div><div style="{_SMALL}">{escape(one.note)}</div></div>'
            for one in block.items
        )
        return mo.Html(f'<div style="display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.7rem">{cards}</div>')

    def note(self, block: Note) -> Any:
        """See `Medium.note`."""
        return mo.callout(_markdown(block.text), kind=_KINDS[block.tone])

    def text(self, block: Text) -> Any:
        """See `Medium.text`."""
        return _markdown(block.markdown)

    def rows(self, block: Rows) -> Any:
        """See `Medium.rows`."""
        heading = _heading(block.heading)
        if block.frame.is_empty():
            return mo.vstack([heading, mo.Html(f"<p><em>{escape(block.empty)}</em></p>")])
        if block.frame.height <= _PAGE_ROWS:
            return mo.vstack([heading, mo.Html(STYLE + as_html(block.frame))])
        table = mo.ui.table(
            block.frame.with_columns(pl.col(pl.String).fill_null("")),
            column_widths=_widths(block.frame),
            selection=None,
            page_size=_PAGE_ROWS,
            pagination=True,
            show_column_summaries=False,
            show_data_types=False,
            wrapped_columns=[name for name, kind in block.frame.schema.items() if kind == pl.String],
        )
        return mo.vstack([heading, table])

    def curves(self, block: Curves) -> Any:
        """See `Medium.curves`."""
        colours, told = block.colours, [*block.named, *block.marks]
        named = colours | block.marks
        moment = "%Y-%m-%d" if str(block.frame.schema["at"]) == "Date" else "%Y-%m-%d %H:%M"
        base = alt.Chart(block.frame).encode(
            x=alt.X("at:T", title=block.time, axis=_time_axis(block)),
            color=alt.Color(
                "line:N",
                title=None,
                scale=alt.Scale(domain=[*named], range=[*named.values()]),
                legend=None
                if len(named) == 1
                else alt.Legend(orient="top", values=told, symbolStrokeWidth=3, symbolOpacity=1, labelLimit=400),
            ),
        )
        tooltip = [
            alt.Tooltip("at:T", title=block.time, format=moment),
            alt.Tooltip("line:N", title="what"),
            alt.Tooltip("value:Q", title=block.unit, format=",.4~f"),
        ]
        y = alt.Y("value:Q", title=block.unit, axis=_number_axis(6, is_whole=block.is_whole))
        layers: list[Any] = []
        if block.has_band:
            tooltip += [alt.Tooltip(f"{edge}:Q", title=f"{block.band}, {edge}", format=",.4~f") for edge in ("low", "high")]
            layers.append(base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", title=block.unit), y2="high:Q"))
        if block.muted:
            thin = base.transform_filter(alt.FieldOneOfPredicate("line", [*block.muted]))
            layers.append(thin.mark_line(strokeWidth=1).encode(y=y, tooltip=tooltip))
        point: Any = {"size": 18, "opacity": 0.7} if block.has_points else False
        for dashed in (False, True):
            names = [name for name in block.named if (name in block.dashed) == dashed]
            if names:
                drawn = base.transform_filter(alt.FieldOneOfPredicate("line", names))
                dash: Any = {"strokeDash": [6, 3]} if dashed else {}
                layers.append(drawn.mark_line(strokeWidth=2, point=point, **dash).encode(y=y, tooltip=tooltip))
        if block.has_limit:
            layers += _limits(block, tooltip)
        chart = alt.layer(*layers).properties(width="container", height=_HEIGHT)
        return _under(block.heading, chart, block.caption)

    def bars(self, block: Bars) -> Any:
        """See `Medium.bars`."""
        colours = colours_of(block.parts, block.tones)
        names = block.frame["name"].unique(maintain_order=True).to_list()
        chart = (
            alt.Chart(block.frame)
            .mark_bar()
            .encode(
                y=alt.Y(
                    "name:N",
                    title=block.names,
                    sort=names,
                    axis=alt.Axis(labelLimit=260, titleAngle=0, titleAlign="left", titleX=0, titleY=-9),
                ),
                x=alt.X("value:Q", title=block.unit, axis=_number_axis(8, is_whole=block.is_whole)),
                color=alt.Color(
                    "part:N",
                    title=None,
                    scale=alt.Scale(domain=[*colours], range=[*colours.values()]),
                    legend=alt.Legend(orient="bottom") if len(colours) > 1 or block.tones else None,
                ),
                order=alt.Order("part:N"),
                tooltip=[
                    alt.Tooltip("name:N", title=block.names),
                    alt.Tooltip("part:N", title="part"),
                    alt.Tooltip("value:Q", title=block.unit, format=",.4~f"),
                ],
            )
            .properties(width="container", height=alt.Step(22))
        )
        return _under(block.heading, chart)


def _number_axis(ticks: int, *, is_whole: bool) -> Any:
    """An axis of numbers, without halves where there are none."""
    step: Any = {"tickMinStep": 1} if is_whole else {}
    return alt.Axis(format=",.6~f", tickCount=ticks, **step)


def _time_axis(block: Curves) -> Any:
    """An axis of moments, labelled where the block says so."""
    ticks: Any = {"values": [_moment(at) for at in block.ticks]} if block.ticks else {"tickCount": 10}
    return alt.Axis(format=_format(block.frame["at"]), labelOverlap=True, grid=False, **ticks)


def _moment(at: date | datetime) -> Any:
    """A moment as the chart takes it: one with time zone as milliseconds, another one as what a clock shows."""
    if isinstance(at, datetime) and at.tzinfo is not None:
        return int(at.timestamp() * 1000)
    return alt.DateTime(year=at.year, month=at.month, date=at.day, hours=getattr(at, "hour", 0), minutes=getattr(at, "minute", 0))


def _limits(block: Curves, tooltip: Sequence[Any]) -> list[Any]:
    """The limits as dashed lines, and points where a value is beyond its own."""
    said = [*tooltip, alt.Tooltip("limit:Q", title=block.limit, format=",.4~f")]
    x = alt.X("at:T", title=block.time)
    layers: list[Any] = []
    for name, rows in block.limits.items():
        drawn = alt.Chart(rows).mark_line(strokeDash=[7, 4], strokeWidth=1.5)
        layers.append(drawn.encode(x=x, y=alt.Y("limit:Q", title=block.unit), color=alt.datum(name), tooltip=said))
    if block.beyond.height:
        marked = alt.Chart(block.beyond).mark_point(size=90, filled=True, opacity=1)
        layers.append(marked.encode(x=x, y=alt.Y("value:Q", title=block.unit), color=alt.datum(block.beyond_called), tooltip=said))
    return layers


def _markdown(text: str) -> Any:
    """Markdown with names in it that are data: marimo's own would take HTML in them for HTML."""
    return mo.Html(f'{STYLE}<span class="markdown prose dark:prose-invert contents">{from_markdown(text)}</span>')


def _heading(text: str) -> Any:
    """A heading that may have names of groups in it, which are data and no Markdown."""
    return mo.Html(f'<h3 class="markdown prose" style="font-size:1.25rem;font-weight:500;margin:.6rem 0">{escape(text)}</h3>')


def _widths(frame: pl.DataFrame) -> dict[str, int]:
    """Pixels for each column: as much as its longest text needs, but all together what fits; the last one gets what is left."""
    longest = frame.select(pl.all().cast(pl.String).fill_null("").str.len_chars().max()).row(0)
    wanted = {name: min(max(len(name), length) * _LETTER + 28, _WIDEST) for name, length in zip(frame.columns, longest, strict=True)}
    wide = {name: pixels for name, pixels in wanted.items() if pixels > _NARROW}
    if (over := sum(wanted.values()) - _WIDTH) > 0 and wide:
        # Texts are wrapped, so that no column stands where only who scrolls sees it.
        spare = sum(wide.values()) - _NARROW * len(wide)
        share = min(1.0, over / spare)
        wanted |= {name: int(pixels - share * (pixels - _NARROW)) for name, pixels in wide.items()}
    last = frame.columns[-1]
    return wanted | {last: max(wanted[last], _WIDTH - sum(wanted.values()) + wanted[last])}


def _format(at: pl.Series) -> str:
    """How moments are written below an axis: with the hour where all lie within a few days."""
    if at.dtype == pl.Date or not at.len():
        return "%d %b %y"
    span: Any = at.cast(pl.Datetime).sort().diff().sum()
    return "%d %b %H:%M" if span < _FEW_DAYS else "%d %b %y"


def _under(heading: str, chart: Any, caption: str = "") -> Any:
    styled = chart.configure_view(stroke=None).configure_axis(labelFontSize=12, titleFontSize=12).configure_legend(labelFontSize=12)
    return mo.vstack([_heading(heading), styled, *([mo.md(f"*{caption}*")] if caption else [])])


def head(title: str, sentence: str) -> Any:
    """The top of a page: the way to the others, its title, and what it tells."""
    is_page = mo.app_meta().mode == "run"
    return mo.vstack([*([mo.Html(links(title))] if is_page else []), mo.md(f"# {title}\n\n{sentence}")])


def shown(blocks: Sequence[Block] | Page) -> Any:
    """Blocks, one under the other."""
    parts = blocks.blocks if isinstance(blocks, Page) else blocks
    return mo.vstack([block.drawn_by(Marimo()) for block in parts], gap=1.2)

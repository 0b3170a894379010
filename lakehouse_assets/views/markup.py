"""Small tables and Markdown as HTML, the same in a page and in the report.

Texts have names in them that came with the data: HTML in them is shown as text, and a picture of another machine is not asked for.
"""

from html import escape
from typing import Any, Final

import polars as pl
from markdown_it import MarkdownIt

from lakehouse_assets.views.listed import PAGES

STYLE: Final = (
    "<style>.lake-rows{border-collapse:collapse;font-size:.86rem;width:100%}.lake-rows th{text-align:left;color:#5b6673;font-weight:600;"
    "border-bottom:2px solid #d5dbe1;padding:.35rem .7rem;white-space:nowrap}.lake-rows td{border-bottom:1px solid #e8ecf0;"
    "padding:.35rem .7rem;vertical-align:top}.lake-rows .n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}"
    ".lake-wide{overflow-x:auto}</style>"
)
_MARKDOWN: Final = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
_LONGEST: Final = 2_000


def as_html(frame: pl.DataFrame) -> str:
    """The rows of a frame; numbers to the right, with commas, and nothing where a value is missing."""
    numeric = [kind.is_numeric() for kind in frame.dtypes]
    kinds = [' class="n"' if is_number else "" for is_number in numeric]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for name, kind in zip(frame.columns, kinds, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{_cell(value)}</td>" for value, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in frame.iter_rows()
    )
    return f'<div class="lake-wide"><table class="lake-rows"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def from_markdown(text: str) -> str:
    """Markdown as HTML."""
    rendered = str(_MARKDOWN.render(text))
    return rendered.replace("<table>", '<div class="lake-wide"><table class="lake-rows">').replace("</table>", "</table></div>")


def links(here: str) -> str:
    """The way to the other pages.

    Args:
        here: The title of the page that has it.
    """
    bar = " ".join(_link(page, title, here) for page, title in PAGES.items())
    return f'<nav aria-label="Pages" style="display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;padding-bottom:.6rem">{bar}</nav>'


def _link(page: str, title: str, here: str) -> str:
    current = ' aria-current="page" style="font-weight:700;text-decoration:none;color:inherit"'
    shown = current if title == here else ' style="color:#1f6fb2"'
    return f'<a href="../{page}/" target="_self"{shown}>{escape(title)}</a>'


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.10g}"
        case _:
            text = str(value)
            return escape(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")

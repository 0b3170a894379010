"""All pages as one HTML file that needs nothing else: no server, no network, no script."""

from html import escape
from pathlib import Path
from typing import Final

from lakehouse_assets.client import Client
from lakehouse_assets.platform import clock
from lakehouse_assets.views import catalogue, drift, forecasts, health, models, overview, review
from lakehouse_assets.views.in_html import Html
from lakehouse_assets.views.markup import STYLE

_VIEWS: Final = (overview, forecasts, review, health, drift, models, catalogue)
_STYLE: Final = (
    "<style>body{font-family:system-ui,sans-serif;color:#1c2733;max-width:68rem;margin:0 auto;padding:1.5rem;line-height:1.5}"
    "h1{font-size:1.8rem}h2{margin-top:2rem}h3{margin:1.6rem 0 .5rem}section{border-top:3px solid #d5dbe1;margin-top:2.5rem}"
    "nav a{margin-right:1.1rem;color:#1f6fb2}.figures{display:flex;flex-wrap:wrap;gap:.7rem;margin:.8rem 0}"
    ".figure{flex:1 1 150px;border:1px solid #d5dbe1;border-left:4px solid;border-radius:6px;padding:.6rem .9rem}"
    ".figure div{font-size:.8rem;color:#5b6673}.figure b{font-size:1.35rem}"
    ".note{border-left:4px solid;background:#f4f6f8;padding:.1rem 1rem;margin:.8rem 0}code{background:#eef1f4;padding:0 .2rem}</style>"
)


def write(lake: Client, file: Path | None = None) -> Path:
    """Write the report; its file.

    Args:
        lake: What it is about.
        file: By default `report.html` among the pictures of the root.
    """
    target = file or lake.settings.reports / "report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(as_html(lake), encoding="utf-8")
    return target


def as_html(lake: Client) -> str:
    """The report as text."""
    pages, medium = [view.page(lake) for view in _VIEWS], Html()
    links = "".join(f'<a href="#{page.name}">{escape(page.title)}</a>' for page in pages)
    sections = "".join(
        f'<section id="{page.name}"><h1>{escape(page.title)}</h1><p>{escape(page.sentence)}</p>{"".join(page.drawn_by(medium))}</section>'
        for page in pages
    )
    made = f"Lakehouse {escape(str(lake.settings.root))}, {clock.now():%Y-%m-%d %H:%M} UTC"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{made}</title>{_STYLE}{STYLE}</head>'
        f"<body><p>{made}</p><nav>{links}</nav>{sections}</body></html>\n"
    )

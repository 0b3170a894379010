"""All pages as one HTML file that needs nothing else: no server, no network, no script."""

from html import escape
from pathlib import Path
from typing import Final

from lakehouse_assets.client import Client
from lakehouse_assets.platform import clock
from lakehouse_assets.views import catalogue, drift, forecasts, health, models, overview, review
from lakehouse_assets.views.in_html import content, document

_VIEWS: Final = (overview, forecasts, review, health, drift, models, catalogue)


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
    pages = [view.page(lake) for view in _VIEWS]
    links = "".join(f'<a href="#{page.name}">{escape(page.title)}</a>' for page in pages)
    sections = "".join(f'<section id="{page.name}">{content(page)}</section>' for page in pages)
    made = f"Lakehouse {escape(str(lake.settings.root))}, {clock.now():%Y-%m-%d %H:%M} UTC"
    return document(made, f"<p>{made}</p><nav>{links}</nav>{sections}")

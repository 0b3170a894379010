"""The documentation site: `make docs` builds it with Sphinx, a warning is an error. Pages are Markdown (MyST)."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from lakehouse_assets.settings import Settings, variable

project = "lakehouse-assets"
author = "The authors of lakehouse-assets"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "lakehouse-assets"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures of declarations are read by people; the types stand in the text
myst_heading_anchors = 3
language = "en"


def _settings_table() -> str:
    rows = ["| variable | default | what it does |", "| --- | --- | --- |"]
    for setting in fields(Settings):
        default = f"`{setting.default}`" if str(setting.default) else "(empty)"
        rows.append(f"| `{variable(setting.name)}` | {default} | {setting.metadata['doc']} |")
    return "\n".join(rows)


GENERATED: dict[str, Callable[[], str]] = {"{{ settings }}": _settings_table}


def _generate(_app: Any, _name: str, source: list[str]) -> None:
    for mark, text in GENERATED.items():
        if mark in source[0]:
            source[0] = source[0].replace(mark, text())


# Pages of the repository's root are pages of the site too, where links lead elsewhere. The site shows mermaid as text.
REWRITTEN = {
    "](docs/decisions/)": "](decisions/index.md)",
    "](docs/": "](",
    "](ARCHITECTURE.md)": "](architecture.md)",
    "](CHANGELOG.md)": "](changelog.md)",
    "```mermaid": "```text",
}


def _included(_app: Any, _path: Path, _parent: str, content: list[str]) -> None:
    for written, shown in REWRITTEN.items():
        content[0] = content[0].replace(written, shown)


def _literal(_app: Any, _context: Any, lines: list[str]) -> None:
    """Helps of commands are plain text: a star in them is no emphasis."""
    lines[:] = [line.replace("*", r"\*") for line in lines]


def setup(app: Any) -> None:
    """Sphinx's hook."""
    app.connect("source-read", _generate)
    app.connect("include-read", _included)
    app.connect("sphinx-click-process-description", _literal)

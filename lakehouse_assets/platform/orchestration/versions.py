"""Code versions, data versions and code references of assets: how Dagster sees that a table is out of date, and where it is declared.

They follow from declarations and tables. What is computed is decided by watermarks, not here.
"""

import warnings
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import dagster as dg

from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.code import source_of
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.quality.contract import fingerprint
from lakehouse_assets.platform.storage import feature_versions
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.table import Table

_DIGEST_BYTES = 6

# --- code


def of_table(table: TableDeclaration) -> str:
    """Moves when the function, the contract, the kind, an input, a dimension or the layout of a table changes.

    Not when a description, a comment, the formatting or the owner does. Nor when another function does that the table's function calls:
    after such a change, run with `--full-refresh`; the code version stays.
    """
    return hashed(
        source_of(table.function),
        fingerprint(table.contract),
        table.kind,
        sorted(table.inputs.items()),
        sorted(table.dimensions.items()),
        table.sources(),
        table.row_for_row,
        table.layout,
    )


def of_feed(feed: FeedDeclaration) -> str:
    """Moves when the headers or policies of a feed change; which columns are personal decides no row."""
    return hashed(replace(feed.feed, personal=()))


def of_model(model: ModelDeclaration) -> str:
    """Moves when the examples or the learner changes. The code behind them is in the code hash of each training."""
    return hashed(model.examples.identity(), repr(model.learner))


def hashed(*parts: Any) -> str:
    """A short text that is another for other parts, and the same in every process. Parts are compared by their `repr`."""
    return blake2b(repr(parts).encode(), digest_size=_DIGEST_BYTES).hexdigest()


# --- data

OUT_OF_DATE: Final = {"dagster/code_version": "left out"}
"""The tags of a result that brought nothing up to date. Without a result Dagster would skip what comes after the asset in the run; by a
code version that the asset does not have, it goes on showing the asset as out of date."""


def of_data(table: Table, code: str) -> dg.DataVersion:
    """The last version of a table with which rows came, changed or went, and its code version.

    Maintenance makes versions too, but no other data version; nor does a run that had nothing to do. Where the commit of the last change
    has left the log, the newest version is taken: then a table that did not change may be shown as changed.
    """
    try:
        version = feature_versions.changed_at(table, 0)
    except NoSuchVersion:
        version = table.version()
    return dg.DataVersion(f"{version}-{code}")


# --- places in the code


def references(declaration: Declaration) -> dict[str, Any]:
    """The metadata by which the web UI links to the code. It is made when the definitions are loaded and stored nowhere."""
    file, line = declaration.written_at
    if not Path(file).is_file():
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        place = dg.LocalFileCodeReference(file_path=str(Path(file).absolute()), line_number=line, label=declaration.name)
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[place])}

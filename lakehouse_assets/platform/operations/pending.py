"""Which tables a run and which models a training has something to do for, and why, from watermarks and versions alone."""

from collections.abc import Iterable, Sequence

from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline import functions, layout
from lakehouse_assets.platform.pipeline.champions import champion_by_ledger
from lakehouse_assets.platform.pipeline.model_step import newest_versions
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.wording import counted


def waiting_files(root: Root, declarations: Iterable[Declaration]) -> dict[str, int]:
    """How many files wait, by feed; feeds without any are left out."""
    counts = {asset.feed.name: root.ingestion(asset).waiting() for asset in declarations if isinstance(asset, FeedDeclaration)}
    return {name: count for name, count in counts.items() if count}


def nothing_landed(root: Root, declarations: Iterable[Declaration]) -> bool:
    """Whether there are feeds, and no file of any of them has ever landed."""
    feeds = [asset.feed for asset in declarations if isinstance(asset, FeedDeclaration)]
    if not feeds or (root.landing_log.exists() and root.landing_log.count()):
        return False
    return not any(feed.takes(file.path) for feed in feeds for file in root.zone(feed.name).files())


def with_changed_function(root: Root, declarations: Iterable[Declaration]) -> list[str]:
    """The tables with rows that their functions computed before they were changed; a damaged one is left to the doctor."""
    return functions.tables_with_changed(declarations, root.lakehouse)


def pending(root: Root, declarations: Sequence[Declaration]) -> dict[str, str]:
    """The tables that the next run would bring up to date, each with the reason; models are not among them.

    Before the first file has landed, what is made of feeds has nothing to do.
    """
    idle = _made_of_feeds(declarations) if nothing_landed(root, declarations) else set()
    tables = [asset for asset in declarations if not asset.is_log]
    reasons = {asset.name: reason_of(root, asset) for asset in tables if asset.name not in idle}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def untrained(root: Root, models: Iterable[ModelDeclaration]) -> dict[str, str]:
    """The models that a training would train, each with the reason; those whose features do not exist yet are not among them."""
    reasons = {model.name: _untrained(root, model) for model in models}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def without_champion(root: Root, models: Iterable[ModelDeclaration]) -> list[str]:
    """The models without a champion whose tables have rows, by their ledgers."""
    return [model.name for model in models if _has_rows(root, model) and champion_by_ledger(root.lakehouse, model) is None]


def _has_rows(root: Root, model: ModelDeclaration) -> bool:
    tables = [root.lakehouse.table(name) for name in model.sources()]
    return all(table.exists() and table.count() for table in tables)


def _untrained(root: Root, model: ModelDeclaration) -> str | None:
    ledger = root.lakehouse.table(model.name)
    if not all(root.lakehouse.table(name).exists() for name in model.sources()):
        return None
    trained_on = {name: ledger.cursor(name) if ledger.exists() else None for name in model.sources()}
    if not any(version is not None for version in trained_on.values()):
        return "was never trained"
    newest = newest_versions(root.lakehouse, trained_on)
    changed = [name for name, version in trained_on.items() if version != newest[name]]
    return f"{', '.join(changed)} {'has' if len(changed) == 1 else 'have'} changed" if changed else None


def _made_of_feeds(declarations: Sequence[Declaration]) -> set[str]:
    """The names of the tables of feeds, and of what reads them, directly or not."""
    made = {asset.name for asset in declarations if isinstance(asset, FeedDeclaration)}
    while more := {asset.name for asset in declarations if asset.name not in made and made.intersection(asset.sources())}:
        made |= more
    return made


def reason_of(root: Root, asset: Declaration) -> str | None:
    """Why a table is not up to date; None if it is, or is a model."""
    table = root.lakehouse.table(asset.name)
    if not table.exists():
        return "does not exist yet"
    if isinstance(asset, FeedDeclaration):
        files = root.ingestion(asset).waiting()
        return counted(files, "file waits", "files wait") if files else None
    if not isinstance(asset, TableDeclaration):
        return None
    behind = Refresh(asset, root.lakehouse, "").pending()
    if behind:
        return f"{', '.join(behind)} has changed"
    return "its declaration has changed" if layout.differs(asset, root.lakehouse) else None

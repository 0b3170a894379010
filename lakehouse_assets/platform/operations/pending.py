"""Which tables and models have something to do, and why, from watermarks and versions alone: nothing is read or written."""

from collections.abc import Iterable, Sequence

from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline import layout
from lakehouse_assets.platform.pipeline.model_step import newest_features
from lakehouse_assets.platform.pipeline.refresh import Refresh


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


def pending(root: Root, declarations: Sequence[Declaration]) -> dict[str, str]:
    """The tables and models that the next run would bring up to date, each with the reason.

    Before the first file has landed, what is made of feeds has nothing to do.
    """
    idle = _made_of_feeds(declarations) if nothing_landed(root, declarations) else set()
    reasons = {asset.name: _reason(root, asset) for asset in declarations if asset.name not in idle}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _made_of_feeds(declarations: Sequence[Declaration]) -> set[str]:
    """The names of the tables of feeds, and of what reads them, directly or not."""
    made = {asset.name for asset in declarations if isinstance(asset, FeedDeclaration)}
    while more := {asset.name for asset in declarations if asset.name not in made and made.intersection(asset.sources())}:
        made |= more
    return made


def _reason(root: Root, asset: Declaration) -> str | None:
    table = root.lakehouse.table(asset.name)
    if not table.exists():
        return "does not exist yet"
    if isinstance(asset, FeedDeclaration):
        files = root.ingestion(asset).waiting()
        return f"{files} files wait" if files else None
    if isinstance(asset, ModelDeclaration):
        features = root.lakehouse.table(asset.features)
        trained_on = table.cursor(asset.features)
        moved = features.exists() and trained_on != newest_features(features, trained_on)
        return f"{asset.features} has changed" if moved else None
    if not isinstance(asset, TableDeclaration):
        return None
    behind = Refresh(asset, root.lakehouse, "").pending()
    if behind:
        return f"{', '.join(behind)} has changed"
    return "its declaration has changed" if layout.differs(asset, root.lakehouse) else None

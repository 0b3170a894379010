"""What a run would do with files that have not landed yet. Nothing is written; the contracts of silver are not checked here."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import polars as pl

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.ingestion.bronze import Ingestion
from lakehouse_assets.platform.ingestion.child import Child
from lakehouse_assets.platform.ingestion.compression import ENDINGS
from lakehouse_assets.platform.ingestion.feed import LINEAGE, is_seen
from lakehouse_assets.platform.ingestion.file_state import CHANGED, IGNORED, REREAD, TOUCHED, FeedState, classify
from lakehouse_assets.platform.ingestion.opened import MOST_COLUMNS, parse_by_policy
from lakehouse_assets.platform.ingestion.parse import Parsed, RefusedFile
from lakehouse_assets.platform.ingestion.zone import content_hash
from lakehouse_assets.platform.quality.masking import RESCUED

NEW, REPLACES, KNOWN, REFUSED = "new", "replaces", "known", "refused"


@dataclass(frozen=True)
class Preview:
    """What would become of one file.

    Attributes:
        name: Under which it would land.
        format: The ending of its name.
        becomes: `new`; `replaces` the rows that its name brought before; `known`: it was read or is there already; `refused`.
        reason: Why, unless it is new; of a new file, remarks about what is read of it.
        rows: How many would come into bronze.
        new_columns: What bronze has no column for: gained under the policy `evolve`, rescued under `rescue`.
        rescued: How many rows hold something that no column takes.
        frame: The rows as bronze would hold them, if any would come in.
    """

    name: str
    format: str
    becomes: str
    reason: str | None = None
    rows: int = 0
    new_columns: tuple[str, ...] = ()
    rescued: int = 0
    frame: pl.LazyFrame | None = field(default=None, repr=False)


def preview(ingestion: Ingestion, files: list[Path], resources: ExitStack) -> Iterator[Preview]:
    """What would become of files if they landed in this order; the frames can be read until `resources` is closed."""
    state = ingestion.state()
    columns = [
        name for name in (ingestion.bronze.schema() if ingestion.bronze.exists() else ingestion.feed.schema()) if name not in LINEAGE
    ]
    contents = dict(state.ingested_contents(newest_only=ingestion.feed.snapshot).iter_rows())
    previewer = _Previewer(ingestion, state, resources, contents, columns, resources.enter_context(Child()))
    for file in files:
        ending = "".join(file.suffixes[-2:] if file.suffix.lower() in ENDINGS else file.suffixes[-1:]).lstrip(".")
        try:
            yield previewer.preview(file, ending)
        except RefusedFile as error:
            yield Preview(file.name, ending, REFUSED, str(error))
        except OSError as error:
            yield Preview(file.name, ending, REFUSED, f"{file} cannot be read ({error.strerror or error})")


@dataclass(frozen=True)
class _Previewer:
    """Knows what was read, and learns from each file what the next one is compared with: `contents` by hash, `columns` of bronze."""

    ingestion: Ingestion
    state: FeedState
    resources: ExitStack
    contents: dict[str, str]
    columns: list[str]
    child: Child

    def preview(self, file: Path, ending: str) -> Preview:
        name, feed = file.name, self.ingestion.feed
        if not file.is_file():
            raise RefusedFile(f"{file.absolute()} is not a file")
        if not is_seen(PurePosixPath(name)) or not feed.takes(name):
            raise RefusedFile(f"{name} does not fit the pattern of the feed or looks unfinished: no run would see it")
        with file.open("rb") as opened:
            content = content_hash(opened)
        becomes, reason = _by_name(self.ingestion, name, content, self.state)
        if becomes == NEW and feed.identity == "content" and content in self.contents:
            becomes, reason = KNOWN, f"{name} has the same content as {self.contents[content]}, which is read already"
        if becomes == KNOWN:
            return Preview(name, ending, becomes, reason)
        before = set(self.columns)
        parsed, remarks = parse_by_policy(file, name, feed, tuple(self.columns), child=self.child, gain=self._gain)
        self.resources.enter_context(parsed)
        new = tuple(column for column in self.columns if column not in before) or parsed.unknown
        self._learn(content, name)
        rescued = int(parsed.frame.select(pl.col(RESCUED).is_not_null().sum()).collect(engine="streaming").item())
        frame = _as_bronze(parsed, name, feed.schema())
        return Preview(name, ending, becomes, reason or "; ".join(remarks) or None, parsed.rows, new, rescued, frame)

    def _gain(self, names: Sequence[str]) -> bool:
        if len(self.columns) + len(names) > MOST_COLUMNS:
            return False
        self.columns.extend(names)
        return True

    def _learn(self, content: str, name: str) -> None:
        if self.ingestion.feed.snapshot:
            self.contents.clear()
        self.contents[content] = name


def _by_name(ingestion: Ingestion, name: str, content: str, state: FeedState) -> tuple[str, str | None]:
    """What follows from the name: another file may be there under it, or have been read."""
    try:
        with ingestion.zone.open(name) as existing:
            same = content_hash(existing) == content
    except FileNotFoundError:
        pass
    else:
        if same:
            return KNOWN, f"{name} is there already"
        raise RefusedFile(f"{name} is there with another content: `--replace` puts this one there; another delivery lands under a new name")
    event, reason = classify(name, content, state.of_paths([name]).get(name), ingestion.feed.changed)
    if event in {CHANGED, IGNORED}:
        raise RefusedFile(str(reason))
    if event == TOUCHED:
        return KNOWN, f"{name} was read already with this content"
    return (REPLACES, "its rows take the place of those that it brought before") if event == REREAD else (NEW, None)


def _as_bronze(parsed: Parsed, name: str, schema: pl.Schema) -> pl.LazyFrame:
    lineage = {"_file": name, "_sequence": 0, "_ingested_at": clock.now(), "_run_id": "dry run"}
    return parsed.frame.with_columns(pl.lit(value, dtype=schema[column]).alias(column) for column, value in lineage.items())

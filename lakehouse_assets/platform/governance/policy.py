"""Which columns of which table are personal, as the declarations state it. Who may see them is decided in `reader`.

The policy is small and is cached in a file, under a digest of the code that it was made from: a command that only shows rows does not have
to import the products, and with them Pandera and pandas.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
from lakehouse_assets.platform.quality.masking import Personal

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.base import Declaration


@dataclass(frozen=True)
class Described:
    """What a policy knows of one declared table.

    Attributes:
        personal: Its personal columns.
        sources: The tables that it reads.
        feed: The feed whose files it takes, if it is a bronze table.
    """

    personal: Personal
    sources: tuple[str, ...] = ()
    feed: str | None = None


@dataclass(frozen=True)
class Policy:
    """The personal columns of every declared table, by name."""

    tables: Mapping[str, Described] = field(default_factory=dict)

    def of(self, table: str) -> Personal | None:
        """The personal columns of a table or of a quarantine; None if no declaration tells.

        A bronze table has the personal columns of its feed and of the tables that read it, by name. If its feed marks nothing, only those
        of its other columns are known not to be personal that such a table has too. The rows of a quarantine may carry columns of their
        table and of its sources.
        """
        if table in self.tables:
            return self._of_table(table)
        of = table.removesuffix(QUARANTINE_SUFFIX)
        if of == table or of not in self.tables:
            return None
        personal = self._of_table(of)
        for source in self.tables[of].sources:
            personal = personal.together(self._of_table(source) if source in self.tables else Personal())
        return personal

    def feeds(self) -> dict[str, str]:
        """The bronze table of each feed, by the feed's name."""
        return {described.feed: name for name, described in self.tables.items() if described.feed is not None}

    def _of_table(self, name: str) -> Personal:
        described = self.tables[name]
        if described.feed is None:
            return described.personal
        own, readers = described.personal, [other.personal for other in self.tables.values() if name in other.sources]
        columns = own.columns.union(*(reader.columns for reader in readers))
        told = own.not_personal if own.columns else frozenset[str]().union(*(reader.not_personal for reader in readers))
        return Personal(columns, told - columns)


# --- from declarations


def policy_of(declarations: Iterable["Declaration"]) -> Policy:
    """The policy that declarations state. One that promises no columns states none: its writer records what is personal."""
    return Policy({declaration.name: _described(declaration) for declaration in declarations if declaration.schema})


def _described(declaration: "Declaration") -> Described:
    columns = frozenset(name for name in declaration.schema if not name.startswith("_"))
    return Described(Personal(declaration.personal, columns - declaration.personal), declaration.sources(), declaration.feed_name)


# --- the cached policy


def load_policy(
    file: Path, code: Iterable[Path], declarations: Callable[[], Iterable["Declaration"]], is_whole: Callable[[], bool] = lambda: True
) -> Policy:
    """The cached policy of this code; without one, it is made from the declarations and cached.

    Args:
        file: Where it is cached. If it cannot be written, the policy is made again each time.
        code: The Python files that decide what a policy says.
        declarations: Loads them; called only if the code has changed.
        is_whole: Whether they are all, asked after they were loaded. If some are missing, the cached policy goes on to say what is personal
            in their tables, and nothing is cached.
    """
    digest = _digest(code)
    before: dict[str, Described] = {}
    try:
        cached = json.loads(file.read_text(encoding="utf-8"))
        before = {name: _from_json(entry) for name, entry in cached["tables"].items()}
        if cached["code"] == digest:
            return Policy(before)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no file yet, or one that something else wrote
    policy = policy_of(declarations())
    if not is_whole():
        # What is personal may be so by a declaration that is missing: nothing is less personal than it was.
        known = {
            name: replace(one, personal=before[name].personal.together(one.personal)) if name in before else one
            for name, one in policy.tables.items()
        }
        return Policy({**before, **known})
    _write(file, {"code": digest, "tables": {name: _as_json(described) for name, described in policy.tables.items()}})
    return policy


def _digest(code: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(code):
        content = path.read_bytes()
        digest.update(f"{path}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _as_json(described: Described) -> dict[str, Any]:
    personal = described.personal
    return {
        "personal": sorted(personal.columns),
        "not_personal": sorted(personal.not_personal),
        "sources": list(described.sources),
        "feed": described.feed,
    }


def _from_json(entry: Mapping[str, Any]) -> Described:
    personal = Personal(frozenset(entry["personal"]), frozenset(entry["not_personal"]))
    return Described(personal, tuple(entry["sources"]), entry["feed"])


def _write(file: Path, content: Any) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as part:
            json.dump(content, part)
        Path(part.name).replace(file)
    except OSError:
        pass  # the root is read-only

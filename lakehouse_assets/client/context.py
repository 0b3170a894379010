"""What all parts of a client share: the root, the declarations of its products, and the reader. Each is made when it is first needed."""

import difflib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import lakehouse_assets
from lakehouse_assets.platform.declarations.base import nearest_or_all
from lakehouse_assets.platform.declarations.copied_columns import tell_copies
from lakehouse_assets.platform.declarations.packages import product_packages
from lakehouse_assets.platform.governance.audit import AuditLog
from lakehouse_assets.platform.governance.policy import Policy, load_policy, policy_of
from lakehouse_assets.platform.governance.principal import this_user
from lakehouse_assets.platform.governance.reader import Notices, Reader, to_stderr
from lakehouse_assets.platform.operations.place import check_in
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.settings import Settings

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.base import Declaration
    from lakehouse_assets.platform.declarations.features import FeatureSet
    from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
    from lakehouse_assets.platform.declarations.loading import Loaded
    from lakehouse_assets.platform.declarations.models import ModelDeclaration
    from lakehouse_assets.platform.declarations.modules import ProductModules
    from lakehouse_assets.platform.declarations.tables import TableDeclaration
    from lakehouse_assets.platform.orchestration.autoload import Products

T = TypeVar("T")
_PACKAGE = Path(lakehouse_assets.__file__).parent
# Rooms whose code decides nothing about what is personal.
_NO_POLICY = ("products", "simulator", "showcase", "cli")


@dataclass(frozen=True)
class Context:
    """A root with the products of this code, or with given declarations.

    Attributes:
        settings: Of the root.
        given: Declarations in place of the products'.
        notice: Told what the person should know about their reads.
    """

    settings: Settings
    given: "Sequence[Declaration] | None" = None
    notice: Callable[[str], None] = to_stderr

    @cached_property
    def root(self) -> Root:
        """The root, opened. That it was moved or copied since it was used last is told once."""
        root = Root(self.settings)
        if told := check_in(self.settings.root):
            self.notice(told)
        return root

    @cached_property
    def reader(self) -> Reader:
        """The reader of this process's user."""
        principal = this_user(str(self.settings.root), self.settings.show_personal)
        notices = Notices(self.notice)
        return Reader(self.root.lakehouse, self._policy, principal, AuditLog(self.settings.audit, notices), notices)

    @cached_property
    def policy(self) -> Policy:
        """The personal columns of every declared table; from the cache unless code has changed."""
        if self.given is not None:
            tell_copies(self.given)
            return policy_of(self.given)
        return load_policy(
            self.settings.cache / "policy.json", self._code(), lambda: self.declarations, is_whole=lambda: not self.loaded.broken
        )

    def _policy(self) -> Policy:
        return self.policy

    # --- what the products declare. Importing them takes a second or more

    @cached_property
    def loaded(self) -> "Loaded":
        """What the products declare. Imports Dagster only where a product does; a broken product is told of, once."""
        from lakehouse_assets.platform.declarations.catalog import Catalog
        from lakehouse_assets.platform.declarations.loading import Loaded, load_products

        if self.given is None:
            loaded = load_products(self.settings.products, _with_plain)
            for product in loaded.broken:
                self.notice(f"warning: {product.text}")
            return loaded
        # Tables that none of the given declarations write are taken to exist.
        elsewhere = {source for one in self.given for source in one.sources()} - {one.name for one in self.given}
        return Loaded(Catalog(tuple(self.given), frozenset(elsewhere)))

    @cached_property
    def products(self) -> "Products":
        """The declarations, and what products define with Dagster's own means. Imports Dagster."""
        from lakehouse_assets.platform.orchestration.autoload import Products

        return Products.of(self.loaded)

    @property
    def declarations(self) -> "Sequence[Declaration]":
        """The declarations. Imports the products, but not Dagster."""
        return self.loaded.catalog.declarations

    def feed(self, name: str) -> "FeedDeclaration":
        """A declared feed.

        Raises:
            LookupError: No product declares it.
        """
        from lakehouse_assets.platform.declarations.feeds import FeedDeclaration

        feeds = {asset.feed.name: asset for asset in self.declarations if isinstance(asset, FeedDeclaration)}
        return self._declared("feed", name, feeds)

    def table(self, name: str) -> "TableDeclaration":
        """A declared table with a contract.

        Raises:
            LookupError: No product declares it.
        """
        return self._declared("table with a contract", name, {asset.name: asset for asset in self.tables})

    def model(self, name: str) -> "ModelDeclaration":
        """A declared model, by its name.

        Raises:
            LookupError: No product declares it.
        """
        return self._declared("model", name, {asset.name: asset for asset in self.models})

    def feature_set(self, name: str) -> "FeatureSet":
        """A declared feature set.

        Raises:
            LookupError: No product declares it.
        """
        return self._declared("feature set", name, {one.name: one for one in self.loaded.catalog.feature_sets})

    @property
    def tables(self) -> "list[TableDeclaration]":
        """The declared tables with a contract."""
        from lakehouse_assets.platform.declarations.tables import TableDeclaration

        return [asset for asset in self.declarations if isinstance(asset, TableDeclaration)]

    @property
    def models(self) -> "list[ModelDeclaration]":
        """The declared models."""
        from lakehouse_assets.platform.declarations.models import ModelDeclaration

        return [asset for asset in self.declarations if isinstance(asset, ModelDeclaration)]

    def unknown_name(self, name: str, known: Iterable[str]) -> str:
        """The end of a message about a name that is none of these: the broken product that it belongs to, or the nearest name, or all."""
        product = self.loaded.left_out_with(name)
        if product is not None:
            return f": it belongs to the product {product}, which is left out until its error is fixed (`lakehouse doctor` shows it)"
        return _nearest_name(name, known)

    def _declared(self, what: str, name: str, declared: Mapping[str, T]) -> T:
        full = name if name in declared else by_last_word(name, declared)
        if full is None:
            raise LookupError(f"no product declares a {what} {name!r}{self.unknown_name(name, declared)}")
        return declared[full]

    def _code(self) -> Iterator[Path]:
        """The Python files that decide what is personal."""
        for path in _PACKAGE.rglob("*.py"):
            if path.relative_to(_PACKAGE).parts[0] not in _NO_POLICY:
                yield path
        for package in product_packages(self.settings.products):
            yield from package.folder.rglob("*.py")

    def sync_champions(self) -> None:
        """Record champion aliases that were set by hand in MLflow. MLflow is opened only if something was decided about a model."""
        from lakehouse_assets.platform.pipeline.champions import sync_aliases

        for model in self.models:
            sync_aliases(self.root.lakehouse, model, self.root.registry, "by hand")


def by_last_word(name: str, known: Iterable[str]) -> str | None:
    """The full name of a table, where one word is given that is the last word of one name alone; None if it is of none.

    Raises:
        LookupError: Several names have that last word.
    """
    named = sorted(full for full in known if full.rsplit(".", 1)[-1] == name)
    if len(named) > 1:
        raise LookupError(f"several tables are called {name!r}: name one of {', '.join(named)}")
    return named[0] if named else None


def _nearest_name(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is none: the nearest, also by its last word alone, or all."""
    names = list(known)
    if "." not in name and (near := difflib.get_close_matches(name, {full.rsplit(".", 1)[-1] for full in names}, 1)):
        return f": did you mean {' or '.join(sorted(full for full in names if full.rsplit('.', 1)[-1] == near[0]))}?"
    return nearest_or_all(name, names)


def _with_plain(product: "ProductModules") -> "ProductModules":
    """A product with what it defines with Dagster's own means: without Dagster in the process there is nothing of the kind."""
    if "dagster" not in sys.modules and not product.components:
        return product
    from lakehouse_assets.platform.orchestration.autoload import with_plain

    return with_plain(product)

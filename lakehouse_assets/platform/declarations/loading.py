"""What the products declare together. Each product is loaded by itself: one with an error is left out by name, and takes no other down.

Tables of other products that need a table of a broken one are left out too, and say so. How modules are imported is in `modules`, what is
checked in `checks`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType

from lakehouse_assets.platform.declarations import places
from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX, Declaration
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.checks import Problem, problems
from lakehouse_assets.platform.declarations.copied_columns import tell_copies
from lakehouse_assets.platform.declarations.importing import importing, is_interrupt
from lakehouse_assets.platform.declarations.modules import ProductModules, products_in
from lakehouse_assets.platform.declarations.packages import ProductPackage, product_packages
from lakehouse_assets.settings import SettingError

Extend = Callable[[ProductModules], ProductModules]
"""Adds to an imported product what it defines besides its declarations, or the error that this has."""


@dataclass(frozen=True)
class BrokenProduct:
    """A product that cannot be used.

    Attributes:
        name: Of its folder.
        error: Why, with file and line, in one to three lines.
        mentions: The tables that its files name.
        waiting: The tables of other products that are left out because of it.
    """

    name: str
    error: str
    mentions: frozenset[str] = frozenset()
    waiting: tuple[str, ...] = ()

    def owns(self, table: str) -> bool:
        """Whether a table that no other product declares is one of its own."""
        base = table.removesuffix(QUARANTINE_SUFFIX)
        return base.split(".")[0] == self.name or base in self.mentions

    @property
    def last_words(self) -> frozenset[str]:
        """Of the tables of its own that its files name."""
        return frozenset(table.rsplit(".", 1)[-1] for table in self.mentions if table.split(".")[0] == self.name)

    @property
    def text(self) -> str:
        """For people: what is wrong, and what is left out."""
        waiting = f"\n    Left out until it is fixed: {', '.join(self.waiting)}, which need it." if self.waiting else ""
        return f"The product {self.name} is left out. {self.error}{waiting}"


@dataclass(frozen=True)
class Loaded:
    """What the products declare.

    Attributes:
        catalog: The declarations that can be used.
        products: The products that can be used.
        broken: Those that cannot.
        waiting: By table of a product that can be used, the broken product without which it cannot be computed.
    """

    catalog: Catalog
    products: tuple[ProductModules, ...] = ()
    broken: tuple[BrokenProduct, ...] = ()
    waiting: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        """The modules of the products that can be used."""
        return tuple(module for product in self.products for module in product.modules)

    def is_left_out(self, table: str) -> bool:
        """Whether a table that is not among the declarations belongs to a product all the same."""
        return self.left_out_with(table) is not None

    def left_out_with(self, table: str) -> str | None:
        """The broken product because of which a table is not among the declarations; None if there is none.

        Args:
            table: Its name, or the last word of it.
        """
        base = table.removesuffix(QUARANTINE_SUFFIX)
        named = {full.rsplit(".", 1)[-1]: product for full, product in self.waiting.items()}
        owners = (broken.name for broken in self.broken if broken.owns(base) or base in broken.last_words)
        return self.waiting.get(base) or named.get(base) or next(owners, None)


def load_products(setting: str, extend: Extend) -> Loaded:
    """What the products of the packages declare that `LAKEHOUSE_PRODUCTS` names.

    Raises:
        SettingError: A package does not exist.
    """
    return load_packages(product_packages(setting), extend)


def load_packages(packages: Iterable[ProductPackage | ModuleType], extend: Extend) -> Loaded:
    """What the products of packages declare; a package that cannot be imported is one broken product."""
    found = [product for package in packages for product in _products(package)]
    return put_together([product if product.error is not None else extend(product) for product in found])


def _products(package: ProductPackage | ModuleType) -> list[ProductModules]:
    if isinstance(package, ModuleType):
        return products_in(package)
    try:
        with importing(package.name):
            module = package.load()
        return products_in(module)
    except BaseException as error:
        if isinstance(error, SettingError) or is_interrupt(error, [package.folder]):
            raise
        at = places.of_error(error, [package.folder])
        where = places.place(*at) if at else package.name
        return [ProductModules(package.name, package.folder, package.name, error=f"{where}: {places.reason(error)}")]


def put_together(products: Sequence[ProductModules]) -> Loaded:
    """The products without those that are broken, and without the tables that need one of these."""
    return _Assembly(products).loaded()


class _Assembly:
    """Products on their way to declarations that fit together."""

    def __init__(self, products: Sequence[ProductModules]) -> None:
        self._all, self._whole = products, list(products)
        self._broken: dict[str, BrokenProduct] = {}
        self._waiting: dict[str, str] = {}
        for name, same in _by_name(products).items():
            if len(same) > 1:
                shown = [places.shown(product.path) for product in same]
                paths = shown if len(set(shown)) == len(shown) else [str(product.path) for product in same]
                self._break(same, f"two products have the name {name}: {', '.join(paths)}. Rename one")
        for product in products:
            if product.error is not None:
                self._break([product], product.error)

    def loaded(self) -> Loaded:
        """The products that can be used, after all others were taken out."""
        while found := self._problems():
            waits = {one.name: product for problem in found if (product := self._owner(problem)) for one in problem.declarations}
            self._waiting |= waits
            if not waits:
                for guilty, text in [(self._guilty(problem), problem.text) for problem in found]:
                    self._break(guilty, text)
        declarations = tuple(self._declarations())
        broken = tuple(
            BrokenProduct(one.name, one.error, one.mentions, tuple(sorted(name for name, of in self._waiting.items() if of == one.name)))
            for one in self._broken.values()
        )
        own = {one.name for product in self._whole for one in self._of(product)}
        waiting = {name: product for name, product in self._waiting.items() if name in own}
        return Loaded(Catalog(declarations, self._external()), tuple(self._whole), broken, waiting)

    def _problems(self) -> list[Problem]:
        declarations = self._declarations()
        tell_copies(declarations)  # what does not fit may be so because a column is personal
        return problems(declarations, self._external())

    def _declarations(self) -> list[Declaration]:
        found = {id(one): one for product in self._whole for one in self._of(product)}
        return [one for one in found.values() if one.name not in self._waiting]

    def _external(self) -> frozenset[str]:
        return frozenset(name for product in self._whole for name in product.external)

    def _of(self, product: ProductModules) -> Iterator[Declaration]:
        """What a product declares: not what it only imports from another one that has it too."""
        for one in product.declarations:
            home = next((other for other in self._all if other.has(one.written_at[0])), product)
            if home is product or all(one is not its for its in home.declarations):
                yield one

    def _owner(self, problem: Problem) -> str | None:
        """The broken product whose table a declaration lacks."""
        if problem.missing is None:
            return None
        owners = (broken.name for broken in self._broken.values() if broken.owns(problem.missing))
        return self._waiting.get(problem.missing.removesuffix(QUARANTINE_SUFFIX)) or next(owners, None)

    def _guilty(self, problem: Problem) -> list[ProductModules]:
        """The products of what is wrong; of two that declare one name, not the one whose name it begins with."""
        having = [product for product in self._whole for one in self._of(product) if any(one is its for its in problem.declarations)]
        names = {one.name for one in problem.declarations}
        if len(names) == 1 and len({product.name for product in having}) > 1:
            return [product for product in having if product.name != next(iter(names)).split(".")[0]]
        return having

    def _break(self, products: Iterable[ProductModules], error: str) -> None:
        for product in products:
            self._broken.setdefault(product.name, BrokenProduct(product.name, error, product.mentions))
            self._whole = [other for other in self._whole if other is not product]


def _by_name(products: Iterable[ProductModules]) -> dict[str, list[ProductModules]]:
    found: dict[str, list[ProductModules]] = {}
    for product in products:
        found.setdefault(product.name, []).append(product)
    return found

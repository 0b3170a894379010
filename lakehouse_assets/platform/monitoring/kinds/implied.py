"""The monitors that a declaration implies: what a contract says about freshness, and what a kind, a feed or a model asks for besides.

Each is called as its table and what it watches, as `sales.gold.daily_revenue.freshness`, and warns. Those that are declared by the word
`monitor` are in the products.
"""

from collections.abc import Iterable, Iterator
from functools import singledispatch

from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.monitors import Monitor, MonitorKind
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.monitoring.kinds.champion import FeaturesOfChampion, HasChampion
from lakehouse_assets.platform.monitoring.kinds.freshness import Freshness
from lakehouse_assets.platform.monitoring.kinds.not_ahead import NotAhead
from lakehouse_assets.platform.monitoring.kinds.volume import Volume, rows_come_to
from lakehouse_assets.platform.quality.contract import freshness_of


def implied(declaration: Declaration) -> list[Monitor]:
    """The monitors that a declaration implies, in the order of their checks; none of most."""
    return [
        Monitor(f"{declaration.name}.{kind.word}", kind.demands, declaration.owner, declaration.name, kind) for kind in _kinds(declaration)
    ]


def all_monitors(declarations: Iterable[Declaration]) -> list[Monitor]:
    """All monitors of some declarations, those that are implied first."""
    given = list(declarations)
    return [*(monitor for one in given for monitor in implied(one)), *(one for one in given if isinstance(one, Monitor))]


def monitors_of(table: str, declarations: Iterable[Declaration]) -> list[Monitor]:
    """The monitors of one table."""
    return [one for one in all_monitors(declarations) if one.of == table]


@singledispatch
def _kinds(declaration: Declaration) -> Iterator[MonitorKind]:  # noqa: ARG001 most imply none
    yield from ()


@_kinds.register
def _(_: FeedDeclaration) -> Iterator[MonitorKind]:
    yield Volume()


@_kinds.register
def _(declaration: TableDeclaration) -> Iterator[MonitorKind]:
    if fresh := freshness_of(declaration.contract):
        yield Freshness(fresh.column, fresh.within)
    if rows_come_to(declaration):
        yield Volume()
    if time := declaration.kind.waits_for:
        yield NotAhead(time, tuple(declaration.inputs.values()))
    if model := declaration.scored_by:
        yield HasChampion(model)
        yield FeaturesOfChampion(model, declaration.sources())

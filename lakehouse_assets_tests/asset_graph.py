"""The asset graph of the shipped products as text: what people and other tools see of it in Dagster.

`asset_graph.txt` has what it is meant to be; `python -m lakehouse_assets_tests.asset_graph` writes it after a change that is meant.
"""

from pathlib import Path

from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from lakehouse_assets import products
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.orchestration.code_location import definitions
from lakehouse_assets.settings import Settings

SNAPSHOT = Path(__file__).with_suffix(".txt")
COMMAND = "python -m lakehouse_assets_tests.asset_graph"


def shown(graph: AssetGraph) -> str:
    """One block an asset, by its key: group, kinds, owners, pool, what it depends on, and its checks."""
    return "\n".join(_asset(graph, key) for key in sorted(graph.get_all_asset_keys()))


def _asset(graph: AssetGraph, key) -> str:
    node = graph.get(key)
    checks = sorted((graph.get_check_spec(check) for check in node.check_keys), key=lambda check: check.name)
    lines = [
        ".".join(key.path),
        f"  group: {node.group_name}",
        f"  kinds: {', '.join(sorted(node.kinds))}",
        f"  owners: {', '.join(node.owners)}",
        f"  pools: {', '.join(sorted(node.pools or ())) or 'none'}",
        f"  depends on: {', '.join(sorted('.'.join(parent.path) for parent in node.parent_keys)) or 'nothing'}",
    ]
    if node.freshness_policy is not None:
        lines.append(f"  freshness: {node.freshness_policy.fail_window.to_timedelta()}")
    return "\n".join([*lines, *(f"  check: {check.name}{' (blocking)' if check.blocking else ''}" for check in checks)]) + "\n"


def current() -> str:
    return shown(definitions(Settings.load({}), load(products)).resolve_asset_graph())


if __name__ == "__main__":
    SNAPSHOT.write_text(current(), encoding="utf-8")

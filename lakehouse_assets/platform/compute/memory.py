"""How much memory queries may hold before they spill to disk, from what this machine, or the container on it, has.

Polars reads the budget once, before its first streaming query. What spills is its sorts, group-bys and windows; what a step reads at once
is bounded by the rooms above.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path

_BUDGET = "POLARS_OOC_MEMORY_BUDGET_MB"
_MEGABYTE = 1024 * 1024
# The other half is for what does not spill: join tables, the writer, Python, and the page cache.
_SHARE = 0.5
_LIMITS_OF_A_CONTAINER = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")


def machine_megabytes(root: Path = Path("/")) -> int:
    """The memory of this machine, or less where its container is given less, in megabytes."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _LIMITS_OF_A_CONTAINER:
        limit = root / path
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits) // _MEGABYTE


def limit_memory(megabytes: int = 0, environment: MutableMapping[str, str] = os.environ) -> int:
    """Set the budget of this process's queries, unless the environment names one.

    Args:
        megabytes: The budget; 0 is half of the machine's memory.
        environment: Where the budget is kept.

    Returns:
        The budget in force, in megabytes.
    """
    environment.setdefault(_BUDGET, str(megabytes or max(1, int(machine_megabytes() * _SHARE))))
    return int(environment[_BUDGET])

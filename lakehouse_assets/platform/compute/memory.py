"""How much memory the queries of a process may use before they spill to disk: its share of what this machine, or its container, has.

Polars reads the budget from the environment once, before its first streaming query. So an entry point (the command line, the code
location) sets it when a process starts; nothing that is merely opened does. Sorts, group-bys and windows spill; how much a step reads at
once is bounded by the rooms above.
"""

import os
from collections.abc import Mapping, MutableMapping
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


def limit_memory(megabytes: int = 0, processes: int = 1, environment: MutableMapping[str, str] = os.environ) -> int:
    """Set the budget of this process's queries, unless the environment names one.

    Every process gets the same share, so that all together stay below the budget whichever of them work. A process that this one starts
    inherits it.

    Args:
        megabytes: The budget of all processes together; 0 is half of the machine's memory.
        processes: How many may work at once, at least 1.
        environment: Where the budget is set.

    Returns:
        The budget of this process in force, in megabytes.
    """
    together = megabytes or int(machine_megabytes() * _SHARE)
    environment.setdefault(_BUDGET, str(max(1, together // processes)))
    return int(environment[_BUDGET])


def shared_memory(workers: int, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What stands in the environment of each of some workers, so that all together stay below the budget of this process.

    Args:
        workers: How many there are, at least 1.
        environment: Of this process; without a budget in it, that of one process alone counts.
    """
    together = int(environment.get(_BUDGET) or machine_megabytes() * _SHARE)
    return {_BUDGET: str(max(1, together // workers))}

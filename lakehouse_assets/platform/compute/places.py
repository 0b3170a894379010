"""The places of work, by the names that the setting `LAKEHOUSE_COMPUTE` has for them.

Whoever opens a root gets one here and hands it on; what works never asks for one.
"""

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.compute.processes import Processes
from lakehouse_assets.platform.compute.protocol import Compute


def place_of_work(name: str, workers: int = 0) -> Compute:
    """A place of work.

    Args:
        name: As the setting has it.
        workers: Most processes at once, where there are several; 0: one for each core.

    Raises:
        LookupError: There is no such place.
    """
    places: dict[str, Compute] = {"local": Local(), "processes": Processes(workers)}
    if name not in places:
        raise LookupError(f"no work can be done in {name!r}: choose one of {', '.join(places)}")
    return places[name]

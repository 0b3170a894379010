"""A service in a process of its own, for tests that end it: `python -m … ROOT SECONDS`, where looking features up takes so long."""

import sys
from pathlib import Path

from lakehouse_assets.platform.serving.server import run
from lakehouse_assets_tests.platform.serving.till import Till, constant, settings_in


def main() -> None:
    till = Till(settings_in(Path(sys.argv[1])))
    if till.decisions.state().aliases.champion is None:
        till.promote(till.add(constant(0.75)))
    till.online.seconds = float(sys.argv[2])
    service = till.service()
    service.reloader.once()
    run(service.application(), "127.0.0.1", 0, lambda address: print(address, flush=True))


if __name__ == "__main__":
    main()

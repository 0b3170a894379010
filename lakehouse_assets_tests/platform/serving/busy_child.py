"""The service of `busy` in a process of its own, which has another one in the background: `python -m … ROOT`."""

import sys
from pathlib import Path

from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.serving.server import run
from lakehouse_assets_tests.platform.serving import busy
from lakehouse_assets_tests.platform.serving.till import settings_in


def main() -> None:
    service = busy.service_of(Root(settings_in(Path(sys.argv[1]))), declared=busy.declared)
    run(service.application(), "127.0.0.1", 0, lambda address: print(address, flush=True))


if __name__ == "__main__":
    main()

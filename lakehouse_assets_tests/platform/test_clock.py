"""The clock is read in one place, so that a test can move it for all that judges, records or waits."""

import re
from pathlib import Path

import lakehouse_assets
from lakehouse_assets.platform import clock

PACKAGE = Path(lakehouse_assets.__file__).parent
READS = re.compile(r"\b(datetime\.(now|utcnow|today)|date\.today)\(")


def test_nothing_else_reads_it():
    """Files that `lakehouse new` writes are products' own."""
    files = [path for path in PACKAGE.rglob("*.py") if "scaffold" not in path.parts]
    found = {path.relative_to(PACKAGE).as_posix() for path in files if READS.search(path.read_text(encoding="utf-8"))}
    assert found == {Path(clock.__file__).relative_to(PACKAGE).as_posix()}

"""How the code of a product is imported: what it does to the process is undone, and what it raises is told apart from the person's Ctrl-C.

Which modules are imported, and what they declare, is in `modules`.
"""

import dis
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

_LONG = 5.0  # seconds after which a person wants to know what they wait for
_RAISES = dis.opmap["RAISE_VARARGS"]
_noted: list[list["Made"]] = []


@dataclass(frozen=True)
class Made:
    """Something that was declared while modules were imported, and the statement of a module by which."""

    declared: object
    file: str
    line: int


@contextmanager
def noting() -> Iterator[list[Made]]:
    """Gives a list to which everything is added that is declared meanwhile."""
    made: list[Made] = []
    _noted.append(made)
    try:
        yield made
    finally:
        _noted.pop()


def note(declared: object) -> None:
    """Add something to the lists that are open."""
    if not _noted:
        return
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 `inspect.stack` reads files
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    if frame is not None:
        _noted[-1].append(Made(declared, frame.f_code.co_filename, frame.f_lineno))


@contextmanager
def importing(product: str) -> Iterator[None]:
    """While a product is imported: if that takes long, the standard error says so once; afterwards the standard streams are as before."""
    output, errors = sys.stdout, sys.stderr
    note = threading.Timer(_LONG, lambda: print(f"loading product {product} …", file=errors, flush=True))
    note.daemon = True
    note.start()
    try:
        yield
    finally:
        note.cancel()
        sys.stdout, sys.stderr = output, errors


def is_interrupt(error: BaseException, folders: Iterable[Path]) -> bool:
    """Whether the person, or a signal, stopped the import: a KeyboardInterrupt that no `raise` below some folders raised."""
    if not isinstance(error, KeyboardInterrupt):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return True
    code = trace.tb_frame.f_code
    is_own = any(Path(code.co_filename).is_relative_to(folder) for folder in folders)
    return not (is_own and code.co_code[trace.tb_lasti] == _RAISES)  # a signal comes in between other instructions

"""What a worker process does: it applies one function to the items that it is sent, until the process that started it has no more.

Who starts workers, and what they are sent, is in `pool`. Nothing heavy is imported before the function is.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Final, NoReturn

from lakehouse_assets.platform.compute import deadline
from lakehouse_assets.platform.compute.travel import packed, packed_error, unpacked

RESULT: Final = b"result"
ERROR: Final = b"error"
_LOOK_SECONDS: Final = 0.5


def serve() -> None:
    """Answer each item. The arguments of the process are Python's path, the descriptor of the line, and the number of the parent."""
    _, _, line, parent = sys.argv
    os.dup2(2, 1)  # whatever libraries print is no output of the command
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    connection = Connection(int(line))
    try:
        name = connection.recv_bytes().decode()
        work = _work(name, connection.recv_bytes())
        while True:
            until = float(connection.recv_bytes())
            for part in _answer(name, work, until, connection.recv_bytes()):
                connection.send_bytes(part)
    except (EOFError, OSError):
        return  # nobody asks any more


def _work(name: str, function: bytes) -> Callable[[Any], Any]:
    """The function; one that cannot be loaded here is the answer to its first item."""
    try:
        loaded: Callable[[Any], Any] = unpacked(function, name)
    except Exception as error:  # noqa: BLE001 - importing its module may fail of anything
        return partial(_refuse, error)
    return loaded


def _refuse(error: Exception, _: object) -> NoReturn:
    raise error


def _answer(name: str, work: Callable[[Any], Any], until: float, item: bytes) -> tuple[bytes, memoryview]:
    """The kind of the answer, and the answer.

    Args:
        name: Of the function.
        work: The function.
        until: The deadline.
        item: As it was sent.
    """
    try:
        with deadline.stopping_at(until):
            return RESULT, packed(work(unpacked(item, f"an item of {name}")), f"the result of {name}")
    except BaseException as error:  # noqa: BLE001 - it is raised where the work was asked for
        return ERROR, packed_error(error)


def _end_with(parent: int) -> None:
    """Ends this process when the parent is gone, also in the middle of an item."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(0)

"""The garbage collector in a process that does nothing but serve: what stays is not looked through at the expense of each request."""

import gc
from typing import Final

_YOUNG_OBJECTS: Final = 5_000


def serve_only() -> None:
    """From now on this process serves: what is loaded stays for ever, and of the thousands of objects that a batch makes none does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)


def reloaded() -> None:
    """What was loaded before may go, what is loaded now stays.

    Only in a process that `serve_only` was called in: a notebook or a test is left as it is.
    """
    if gc.get_threshold()[0] == _YOUNG_OBJECTS:
        gc.unfreeze()
        gc.collect()
        gc.freeze()

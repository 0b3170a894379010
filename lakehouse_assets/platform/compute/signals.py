"""Who hears the signal that interrupts a process. What a command does when it hears it is in `cli.interrupts`."""

import signal
import threading


def keep_polars_from_signals() -> None:
    """Take SIGINT from Polars, which hears it once it is imported, and leave it to whom Python tells.

    Polars would end the queries of all threads, and one that is collected in batches without an error: its reader takes the batches that
    came for all there are. It does so even where the process ignores the signal, as under `nohup`.

    This holds for the rest of the process: a query in the main thread then comes to its end before it is interrupted. Outside of the main
    thread, where Python sets no handlers, nothing is done.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is threading.main_thread() and handler is not None:
        signal.signal(signal.SIGINT, handler)  # the system keeps one: Polars called this one after its own

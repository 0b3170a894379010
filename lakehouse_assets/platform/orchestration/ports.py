"""Whether a port is free, and which process has it if it is not."""

import socket
from contextlib import suppress
from pathlib import Path

_LISTENS = "0A"


class PortTaken(ValueError):
    """Another process listens on a port that is needed."""


def check_free(host: str, port: int, option: str) -> None:
    """Check that a server can listen.

    Raises:
        PortTaken: It cannot; the text names the process, and the option that chooses another port.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            who = process_on(port)
            by = f"process {who[0]} ({who[1]}) listens on it: end that one" if who else f"{error.strerror}: end what listens on it"
            raise PortTaken(f"port {port} of {host} cannot be used. {by}, or choose another port with {option}") from None


def process_on(port: int) -> tuple[int, str] | None:
    """Id and command of the process that listens on a port; None if it is not known, as for another user's process or without /proc."""
    inodes = {f"socket:[{inode}]" for inode in _listening(port)}
    for folder in Path("/proc").glob("[0-9]*") if inodes else ():
        with suppress(OSError):  # another user's, or gone since
            if any(str(link.readlink()) in inodes for link in (folder / "fd").iterdir()):
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                return int(folder.name), " ".join(words).strip()[:120]
    return None


def _listening(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rsplit(":", 1)[1], 16) == port and fields[3] == _LISTENS:
                    found.add(fields[9])
    return found

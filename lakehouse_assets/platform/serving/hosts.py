"""Who may ask a service that needs no token: programs of this machine, and pages that the service itself has given out.

A page of another site runs in a browser of this machine. It may lead its own name to loopback (DNS rebinding), or post without asking
first (a simple request): both are told by the headers Host and Origin, which a page cannot choose.
"""

from collections.abc import Iterable
from typing import Final

from lakehouse_assets.platform.serving.http import Scope
from lakehouse_assets.platform.serving.refused import Refused, refused

_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
_SCHEMES: Final = ("http://", "https://")
_LONGEST: Final = 100


class Hosts:
    """The names under which a service answers.

    Args:
        names: Besides those of loopback, without a port; `*`: any.
        setting: The variable that lists further names.
    """

    def __init__(self, names: Iterable[str] = (), setting: str = "LAKEHOUSE_SERVE_HOSTS") -> None:
        self._setting = setting
        self._names = frozenset(name.strip().lower() for name in (*_LOOPBACK, *names) if name.strip())
        self._known: set[bytes] = set()

    def check(self, scope: Scope) -> None:
        """Refuse a request that came under another name, or from a page of another site.

        Raises:
            Refused: With 403.
        """
        host = origin = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
        if host is not None and host not in self._known:
            if not self._has(host.decode("latin-1")):
                raise self._unknown("the header Host names", host)
            if len(self._known) < _LONGEST:
                self._known.add(host)
        if origin is not None and not self._is_own(origin.decode("latin-1"), host):
            raise self._unknown("a page asks of", origin)

    def _has(self, host: str) -> bool:
        return "*" in self._names or _without_port(host.lower()) in self._names

    def _is_own(self, origin: str, host: bytes | None) -> bool:
        """Whether a page is of this service: of the same name and port, or of a name that a setting lists."""
        place = next((origin[len(scheme) :] for scheme in _SCHEMES if origin.startswith(scheme)), None)
        if place is None:
            return False
        return (host is not None and place.lower() == host.decode("latin-1").lower()) or (
            _without_port(place.lower()) in self._names.difference(_LOOPBACK)
        )

    def _unknown(self, what: str, value: bytes) -> Refused:
        return refused(
            403,
            f"{what} {value.decode('latin-1')[:_LONGEST]!r}, and this service answers without a token under localhost alone: "
            f"set {self._setting} to further names, or LAKEHOUSE_SERVE_TOKENS=always",
        )


def _without_port(host: str) -> str:
    end = host.rfind(":")
    return host if end < 0 or host.endswith("]") else host[:end]

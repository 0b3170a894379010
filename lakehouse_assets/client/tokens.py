"""Tokens of the REST service: made, listed and revoked. How a request's token is checked is in `serving.tokens`."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from lakehouse_assets.client.context import Context
from lakehouse_assets.platform import clock
from lakehouse_assets.platform.governance.audit import Action
from lakehouse_assets.platform.serving.tokens import Token, TokenFile


@dataclass(frozen=True)
class Tokens:
    """The tokens of this home."""

    context: Context

    def create(self, name: str, scopes: Collection[str], days: int | None = None) -> dict[str, Any]:
        """Make a token; under `token` is its text, which is shown this once and not kept.

        Args:
            name: By which it is revoked, and which stands in the inference log.
            scopes: Any of `score`, `features`, `feedback`, `ingest`, `administer`, `pages`.
            days: For how long it is good; None: until it is revoked.

        Raises:
            ValueError: A token in force has the name, or there is no such scope.
        """
        token, text = self._file.create(name, scopes, days)
        self._write_down(f"token create {name}", {"id": token.id, "scopes": list(token.scopes), "expires_at": token.expires_at})
        return {"token": text, **_shown(token)}

    def list(self) -> "list[dict[str, Any]]":
        """All tokens, newest first, also those that are not in force any more; without their texts, which nobody has."""
        tokens = self._file.tokens().values()
        return [_shown(token) for token in sorted(tokens, key=lambda token: token.created_at, reverse=True)]

    def revoke(self, name: str) -> dict[str, Any]:
        """Revoke a token: it is refused from the next request on.

        Raises:
            LookupError: None of the name is in force.
        """
        token = self._file.revoke(name)
        self._write_down(f"token revoke {name}", {"id": token.id})
        return _shown(token)

    @property
    def _file(self) -> TokenFile:
        return TokenFile(self.context.settings.home_folder)

    def _write_down(self, what: str, details: dict[str, Any]) -> None:
        reader = self.context.reader
        reader.audit.add(Action(reader.principal.name, what, details))


def _shown(token: Token) -> dict[str, Any]:
    return {
        "name": token.name,
        "id": token.id,
        "scopes": list(token.scopes),
        "state": token.state(clock.now()),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    }

"""Bearer tokens of the REST service: who may do what. Which scope a path needs is decided in the service.

A token is 256 random bits with the id of its entry in front, shown once and stored as its SHA-256. No salt and no slow hash are needed, as
they are for passwords: there is nothing to guess, and a check must not cost a request its time. The entries are in one file for the owner
alone, written whole; every check asks the file system whether it has changed, so that a revoked token is refused at once by all processes.
"""

import fcntl
import hashlib
import hmac
import ipaddress
import json
import os
import pwd
import secrets
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, Self

from lakehouse_assets.platform import clock

Scope = Literal["score", "features", "feedback", "ingest", "administer", "pages"]
SCOPES: Final[Mapping[Scope, str]] = {
    "score": "ask for predictions",
    "features": "read features of the online store",
    "feedback": "send labels",
    "ingest": "land rows of a feed",
    "administer": "reload models, and see why one was not taken",
    "pages": "open the pages of `lakehouse dev`",
}
ALWAYS, AUTO = "always", "auto"
"""The values of LAKEHOUSE_SERVE_TOKENS."""
_PREFIX, _ID_BYTES, _SECRET_BYTES = "lh_", 6, 32
_ID_LENGTH = 2 * _ID_BYTES
_REALM = 'Bearer realm="lakehouse"'
_RESERVED: Final = frozenset({"anonymous", "none", "root", "owner"})
"""Names that logs and metrics give to others than the owner of a token; those of users of this machine too."""
_HOW = "`lakehouse token create NAME --scope score` makes one"


class Unauthenticated(Exception):
    """No token that is known and in force: HTTP 401.

    Attributes:
        www_authenticate: The header of the answer.
    """

    status = 401

    def __init__(self, text: str, www_authenticate: str = f'{_REALM}, error="invalid_token"') -> None:
        super().__init__(text)
        self.www_authenticate = www_authenticate


class Forbidden(Exception):
    """The token is in force, but not for this: HTTP 403.

    Attributes:
        www_authenticate: The header of the answer.
    """

    status = 403

    def __init__(self, text: str, scope: str) -> None:
        super().__init__(text)
        self.www_authenticate = f'{_REALM}, error="insufficient_scope", scope="{scope}"'


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        name: Of the token, or `anonymous`.
        scopes: What they may do.
    """

    name: str
    scopes: frozenset[str]


ANONYMOUS: Final = Caller("anonymous", frozenset(SCOPES))
"""Who asks without a token where none is needed."""


@dataclass(frozen=True)
class Token:
    """The entry of a token, without its secret.

    Attributes:
        id: Stands in the token.
        name: Given by who made it.
        scopes: What it is good for.
        digest: SHA-256 of the secret, in hexadecimal.
        created_at: In UTC.
        expires_at: In UTC; None: never.
        revoked_at: In UTC; None: it was not.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    digest: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """From the file."""
        times = {name: datetime.fromisoformat(text) if (text := entry[name]) else None for name in ("expires_at", "revoked_at")}
        return cls(**{**entry, **times, "created_at": datetime.fromisoformat(entry["created_at"]), "scopes": tuple(entry["scopes"])})

    def state(self, now: datetime) -> str:
        """`revoked`, `expired` or `in force`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "in force"


# What a token is compared with whose id nobody has: every check does the same work.
_NOBODY = Token("", "", (), hashlib.sha256(secrets.token_bytes(_SECRET_BYTES)).hexdigest(), datetime.min.replace(tzinfo=UTC))


class TokenFile:
    """The tokens of one home.

    Args:
        home: The folder of this machine that the settings call home.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / "serving" / "tokens.json"
        self._seen: tuple[int, ...] | None = None
        self._tokens: Mapping[str, Token] = {}

    def tokens(self) -> Mapping[str, Token]:
        """All tokens by id, also those that are not in force any more. Cheap while the file does not change.

        Raises:
            OSError, ValueError: The file cannot be read.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._seen, self._tokens = None, {}
            return self._tokens
        seen = (status.st_mtime_ns, status.st_ino, status.st_size)
        if seen != self._seen:
            entries = json.loads(self.path.read_text(encoding="utf-8"))["tokens"]
            self._tokens = {token.id: token for token in map(Token.from_json, entries)}
            self._seen = seen
        return self._tokens

    def create(self, name: str, scopes: Collection[str], days: int | None = None) -> tuple[Token, str]:
        """Make a token; its entry, and the text that its owner sends. The text is not kept.

        Args:
            name: By which it is revoked, and which stands in the inference log.
            scopes: At least one of `SCOPES`.
            days: For how long it is good; None: until it is revoked.

        Raises:
            ValueError: A token in force has the name, logs give it to somebody else, or there is no such scope.
        """
        if unknown := sorted(set(scopes) - set(SCOPES)):
            raise ValueError(f"there is no scope {unknown[0]!r}: choose of {', '.join(SCOPES)}")
        if not scopes or not name.strip() or not name.isprintable():
            raise ValueError("a token needs a name and at least one scope, as in `lakehouse token create shop --scope score`")
        if _is_reserved(name):
            raise ValueError(f"a token cannot be called {name!r}: logs give that name to somebody else, so choose another one")
        now = clock.now()
        with self._changing() as tokens:
            if any(token.name == name and token.state(now) == "in force" for token in tokens):
                raise ValueError(f"a token {name!r} is in force: choose another name, or revoke it with `lakehouse token revoke {name}`")
            secret = secrets.token_urlsafe(_SECRET_BYTES)
            expires_at = None if days is None else now + timedelta(days=days)
            chosen = tuple(scope for scope in SCOPES if scope in scopes)
            token = Token(secrets.token_hex(_ID_BYTES), name, chosen, _digest(secret), now, expires_at)
            tokens.append(token)
        return token, f"{_PREFIX}{token.id}_{secret}"

    def revoke(self, name: str) -> Token:
        """Revoke the token of a name. It is refused from the next request on.

        Raises:
            LookupError: None of the name is in force.
        """
        now = clock.now()
        with self._changing() as tokens:
            for number, token in enumerate(tokens):
                if token.name == name and token.state(now) == "in force":
                    tokens[number] = replace(token, revoked_at=now)
                    return tokens[number]
            there = [token.name for token in tokens if token.state(now) == "in force"]
            raise LookupError(f"no token {name!r} is in force. There {'are: ' + ', '.join(there) if there else 'is none'}")

    @contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        """The tokens to change; they are written if nothing was raised. One process changes them at a time."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            tokens = list(self.tokens().values())
            yield tokens
            self._write(tokens)
        finally:
            os.close(descriptor)

    def _write(self, tokens: Sequence[Token]) -> None:
        content = json.dumps({"tokens": [asdict(token) for token in tokens]}, default=datetime.isoformat, indent=1)
        part, name = tempfile.mkstemp(dir=self.path.parent, prefix=".tokens")  # for its owner alone
        try:
            with os.fdopen(part, "w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(part)
            Path(name).replace(self.path)
        finally:
            Path(name).unlink(missing_ok=True)


class Tokens:
    """Checks the tokens of requests.

    Args:
        home: The folder of this machine that the settings call home.
        needed: Whether a request needs one: see `tokens_needed`.
    """

    def __init__(self, home: Path, *, needed: bool) -> None:
        self._file, self._needed = TokenFile(home), needed
        self.refused: Counter[str] = Counter()
        """How many requests were refused, by reason: missing, unknown, expired, revoked, scope."""

    def check(self, header: str | None, scope: Scope) -> Caller:
        """Who asks, by the `Authorization` header of a request. It takes as long whatever is wrong with the token.

        Raises:
            Unauthenticated: There is no token, or it is unknown, expired or revoked.
            Forbidden: It is not for this scope.
        """
        if not self._needed and not _is_ours(header):
            return ANONYMOUS
        try:
            known = self._file.tokens()
        except (OSError, ValueError, KeyError, TypeError):
            self.refused["unknown"] += 1
            raise Unauthenticated(f"the tokens of the service cannot be read: see {self._file.path.name} on its machine") from None
        identity, secret = _parts(header)
        token = known.get(identity, _NOBODY)
        is_right = hmac.compare_digest(_digest(secret), token.digest)
        state, has_scope = token.state(clock.now()), scope in token.scopes
        if header is None:
            self._refuse("missing", Unauthenticated(f"no token was sent: send the header `Authorization: Bearer TOKEN`; {_HOW}", _REALM))
        if not is_right:
            self._refuse("unknown", Unauthenticated(f"the token is not known: {_HOW}"))
        if state != "in force":
            when = token.revoked_at or token.expires_at or token.created_at
            self._refuse(state, Unauthenticated(f"the token {token.name!r} {_STATES[state]} {when:%Y-%m-%d %H:%M} UTC: {_HOW}"))
        if not has_scope:
            text = f"the token {token.name!r} is for {', '.join(token.scopes)}; this needs the scope {scope}, to {SCOPES[scope]}"
            self._refuse("scope", Forbidden(text, scope))
        return Caller(token.name, frozenset(token.scopes))

    def _refuse(self, reason: str, error: Exception) -> None:
        self.refused[reason] += 1
        raise error


_STATES: Final = {"revoked": "was revoked on", "expired": "expired on"}


def tokens_needed(host: str, setting: str) -> bool:
    """Whether requests need a token, for the address that the service listens on.

    On another address than loopback they always do: no setting turns that off.

    Args:
        host: The address or name; empty: all addresses.
        setting: The value of LAKEHOUSE_SERVE_TOKENS.
    """
    return setting == ALWAYS or not is_loopback(host)


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]").split("%", 1)[0])
    except ValueError:
        return False  # a name, whatever it means
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _is_reserved(name: str) -> bool:
    """Whether a name is that of somebody else in the inference log, the audit log or the metrics."""
    word = name.strip().casefold()
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = ""
    return word in _RESERVED or word == user.casefold() or word.startswith("uid ")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _is_ours(header: str | None) -> bool:
    return header is not None and header[:7].lower() == "bearer " and header[7:].lstrip().startswith(_PREFIX)


def _parts(header: str | None) -> tuple[str, str]:
    """The id and the secret of a token; empty ones if there is none."""
    if not _is_ours(header) or header is None:
        return "", ""
    text = header[7:].strip()[len(_PREFIX) :]
    return text[:_ID_LENGTH], text[_ID_LENGTH + 1 :]

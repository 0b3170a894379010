"""Tokens: each is refused for what is wrong with it, kept as a digest alone, and revoked for processes that run."""

import json
import os
import pwd
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.serving.tokens import (
    ANONYMOUS,
    SCOPES,
    Forbidden,
    TokenFile,
    Tokens,
    Unauthenticated,
    is_loopback,
    tokens_needed,
)


def bearer(text: str) -> str:
    return f"Bearer {text}"


def expire(home: Path, name: str) -> None:
    """Put the end of a token into the past."""
    path = TokenFile(home).path
    content = json.loads(path.read_text())
    for token in content["tokens"]:
        if token["name"] == name:
            token["expires_at"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    path.write_text(json.dumps(content))


def test_a_token_is_good_for_its_scopes_and_nothing_else(tmp_path: Path) -> None:
    _, text = TokenFile(tmp_path).create("shop", ["feedback", "score"])
    tokens = Tokens(tmp_path, needed=True)
    assert tokens.check(bearer(text), "score").name == "shop"
    assert tokens.check(f"bearer   {text} ", "feedback").scopes == {"score", "feedback"}
    for scope in set(SCOPES) - {"score", "feedback"}:
        with pytest.raises(Forbidden, match=f"this needs the scope {scope}") as refused:
            tokens.check(bearer(text), scope)
        assert refused.value.status == 403
        assert f'scope="{scope}"' in refused.value.www_authenticate
    assert tokens.refused == {"scope": len(SCOPES) - 2}


def test_what_is_wrong_with_a_token_is_said_to_who_has_it_and_to_nobody_else(tmp_path: Path) -> None:
    file = TokenFile(tmp_path)
    (_, revoked), (_, expired), (_, good) = (file.create(name, ["score"], days=1) for name in ("gone", "old", "good"))
    file.revoke("gone")
    expire(tmp_path, "old")
    tokens = Tokens(tmp_path, needed=True)
    swapped = revoked[:15] + good[15:]
    cases = {
        None: "no token was sent",
        "": "not known",
        "Basic abc": "not known",
        bearer(""): "not known",
        bearer("lh_"): "not known",
        bearer("lh_é\udc80" + "x" * 60): "not known",
        bearer(good[:-1]): "not known",
        bearer(good + "x"): "not known",
        bearer(swapped): "not known",
        bearer(revoked[:20]): "not known",
        bearer(revoked): "'gone' was revoked on",
        bearer(expired): "'old' expired on",
    }
    for header, text in cases.items():
        with pytest.raises(Unauthenticated, match=text) as refused:
            tokens.check(header, "score")
        assert refused.value.status == 401
        assert refused.value.www_authenticate.startswith("Bearer realm=")
    assert tokens.check(bearer(good), "score").name == "good"


def test_a_running_process_sees_tokens_that_are_made_and_revoked(tmp_path: Path) -> None:
    tokens, file = Tokens(tmp_path, needed=True), TokenFile(tmp_path)
    for number in range(20):
        _, text = file.create(f"token {number}", ["score"])
        assert tokens.check(bearer(text), "score").name == f"token {number}"
        file.revoke(f"token {number}")
        with pytest.raises(Unauthenticated, match="revoked"):
            tokens.check(bearer(text), "score")


def test_a_file_that_cannot_be_read_lets_nobody_in(tmp_path: Path) -> None:
    _, text = TokenFile(tmp_path).create("shop", ["score"])
    tokens = Tokens(tmp_path, needed=True)
    assert tokens.check(bearer(text), "score")
    TokenFile(tmp_path).path.write_text("{")
    with pytest.raises(Unauthenticated, match="cannot be read"):
        tokens.check(bearer(text), "score")


def test_the_text_of_a_token_is_kept_nowhere(tmp_path: Path) -> None:
    file = TokenFile(tmp_path)
    _, text = file.create("shop", ["score"])
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert text[16:] not in file.path.read_text()
    assert {path.name for path in file.path.parent.iterdir()} == {"tokens.json", "tokens.lock"}


def test_tokens_that_are_made_at_once_are_all_kept(tmp_path: Path) -> None:
    threads = [threading.Thread(target=TokenFile(tmp_path).create, args=(f"n{number}", ["score"])) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {token.name for token in TokenFile(tmp_path).tokens().values()} == {f"n{number}" for number in range(16)}


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.4", False),
        ("::ffff:10.0.0.1", False),
        ("shop.example", False),
        ("127.0.0.1.example", False),
    ],
)
def test_tokens_are_off_on_loopback_alone(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback
    assert tokens_needed(host, "auto") == (not loopback)
    assert tokens_needed(host, "always")


def test_where_none_is_needed_a_token_is_checked_all_the_same(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path, needed=False)
    assert tokens.check(None, "administer") == ANONYMOUS
    assert tokens.check("Basic of another program", "score") == ANONYMOUS
    _, text = TokenFile(tmp_path).create("shop", ["score"])
    assert tokens.check(bearer(text), "score").name == "shop"
    with pytest.raises(Forbidden):
        tokens.check(bearer(text), "administer")


def test_the_command_makes_lists_and_revokes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_ROOT", str(tmp_path))

    def call(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["token", *words])
        return done.exit_code, done.output

    code, made = call("create", "shop", "--scope", "score", "--days", "90", "--json")
    assert code == 0
    text = json.loads(made)["token"]
    assert Tokens(tmp_path, needed=True).check(bearer(text), "score").name == "shop"
    assert call("create", "shop", "--scope", "score")[0] == 1
    assert call("create", "x", "--scope", "everything")[0] == 2
    code, listed = call("list", "--json")
    assert [(row["name"], row["state"]) for row in json.loads(listed)] == [("shop", "in force")]
    assert text not in listed
    assert call("revoke", "shop")[0] == 0
    assert call("revoke", "shop")[0] == 1
    lines = [json.loads(line)["what"] for file in (tmp_path / "audit").iterdir() for line in file.read_text().splitlines()]
    assert lines == ["token create shop", "token revoke shop"]


@pytest.mark.parametrize("name", ["anonymous", " Anonymous ", "none", "root", pwd.getpwuid(os.getuid()).pw_name, "uid 1000"])
def test_a_name_that_logs_give_to_somebody_else_is_no_name_of_a_token(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="somebody else"):
        TokenFile(tmp_path).create(name, ["score"])

"""Each sink against a real receiver: what arrives, what is escaped, and what is said of one that hangs, refuses or is away."""

import dataclasses
import logging
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lakehouse_assets.platform.monitoring.alerts.delivery import try_out
from lakehouse_assets.platform.monitoring.alerts.machine import Entry
from lakehouse_assets.platform.monitoring.alerts.messages import Message
from lakehouse_assets.platform.monitoring.alerts.routing import sinks_of
from lakehouse_assets.platform.monitoring.alerts.sinks.http import Slack, Webhook
from lakehouse_assets.platform.monitoring.alerts.sinks.mail import Mail, MailServer
from lakehouse_assets.platform.monitoring.alerts.sinks.sink import Refused, Unreachable
from lakehouse_assets.settings import HIDDEN, Settings
from lakehouse_assets_tests.platform.monitoring.alerts import receivers

AT = datetime(2024, 3, 1, 12, tzinfo=UTC)
ENTRY = Entry(7, "step:sales.silver.lines", "opened", "0a1b2c", 1, AT, AT, "error", "team:risk", "it broke\nbadly", 0, run_id="0123456789")
OTHER = replace(ENTRY, sequence=8, key="check:sales.silver.lines:contract", number=2, event="resolved")
LOG = logging.getLogger("test")


@pytest.fixture
def hook():
    with receivers.webhook() as opened:
        yield opened


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return receivers.certificate(tmp_path_factory.mktemp("certificate"))


def message(*entries: Entry) -> Message:
    return Message(entries or (ENTRY,), "s3://shop/lake")


# --- webhook and Slack


def test_a_webhook_gets_each_event_with_its_id_and_number(hook):
    Webhook("webhook", hook.address).send(message(ENTRY, OTHER))
    [posted] = hook.posted
    assert {name: posted[name] for name in ("source", "lakehouse")} == {"source": "lakehouse-assets", "lakehouse": "s3://shop/lake"}
    assert [(alert["id"], alert["number"], alert["event"]) for alert in posted["alerts"]] == [
        ("0a1b2c", 1, "opened"),
        ("0a1b2c", 2, "resolved"),
    ]
    assert posted["alerts"][0]["at"] == "2024-03-01T12:00:00+00:00"
    assert posted["alerts"][0]["owner"] == "team:risk"
    assert posted["text"].startswith(
        "[error] step sales.silver.lines: alert opened\nit broke\nbadly\nalert 0a1b2c, event 1; owner: team:risk; run: 01234567\n"
    )


def test_a_number_that_json_does_not_have_is_null(hook):
    Webhook("webhook", hook.address).send(message(replace(ENTRY, value=float("nan"), threshold=float("inf"))))
    [alert] = hook.alerts
    assert (alert["value"], alert["threshold"]) == (None, None)


def test_slack_gets_blocks_in_which_nothing_is_formatting_link_or_mention(hook):
    nasty = replace(ENTRY, text="<!channel> <https://evil|click> *a* & `b`\n" + "<&>" * 3_000, key="check:a.b.c:<@U1>")
    Slack("slack", hook.address).send(message(nasty, *[OTHER] * 19))
    [posted] = hook.posted
    assert len(posted["blocks"]) == 22, "Slack takes 50"
    texts = [block["text"] for block in posted["blocks"] if "text" in block] + posted["blocks"][-1]["elements"]
    assert {text["type"] for text in texts} == {"plain_text"}
    assert all(len(text["text"]) <= 3_000 for text in texts)
    assert len(texts[0]["text"]) <= 150
    assert posted["mrkdwn"] is False
    for text in (posted["text"], *(text["text"] for text in texts)):
        assert "<" not in text
        assert ">" not in text
    assert "&lt;!channel&gt; &lt;https://evil|click&gt; *a* &amp; `b`" in texts[1]["text"]
    assert texts[2]["text"].startswith("🟢 check of sales.silver.lines, contract: alert resolved")


@pytest.mark.parametrize(("code", "kind"), [(500, Unreachable), (503, Unreachable), (429, Unreachable), (404, Refused), (302, Refused)])
def test_what_a_receiver_answers_decides_whether_it_is_tried_with_the_others_again(hook, code, kind):
    hook.answers = [code]
    with pytest.raises(kind, match=f"answered {code}"):
        Webhook("webhook", hook.address).send(message())
    assert hook.paths == ["/hook/t0ken"], "a redirect is not followed: the alert would get lost"


def test_a_receiver_that_hangs_or_is_away_is_unreachable(hook):
    hook.hangs.set()
    with pytest.raises(Unreachable, match="no answer"):
        Webhook("webhook", hook.address, seconds=0.2).send(message())
    with pytest.raises(Unreachable, match="ConnectionRefusedError"):
        Webhook("webhook", "http://127.0.0.1:9/t0ken").send(message())


@pytest.mark.parametrize("address", ["no address/t0ken", "file:///etc/t0ken", "http://[t0ken", "http://127.0.0.1:port/t0ken"])
def test_an_address_that_cannot_be_used_is_not_repeated(address):
    with pytest.raises((Refused, Unreachable)) as raised:
        Webhook("webhook", address).send(message())
    assert "t0ken" not in str(raised.value)
    assert "t0ken" not in repr(Webhook("webhook", address))


# --- mail


def server(port: int, security: str = "none", **more) -> MailServer:
    given = {"user": "", "password": "", "sender": "lake@example.com"} | more
    return MailServer("localhost" if security != "none" else "127.0.0.1", port, security, **given)


def test_a_mail_is_plain_text_with_the_severity_in_its_subject():
    with receivers.mail_server() as (box, port):
        sink = Mail("mail", server(port), ("ann@example.com", "bob@example.com"))
        sink.send(message(replace(ENTRY, text="ß\r\n.\r\nBcc: eve@example.com", owner="team:risk\r\nBcc: eve@example.com")))
        sink.send(message(ENTRY, OTHER))
        sink.send(message(ENTRY, OTHER))
    first, second, again = box.mails
    assert first["Subject"] == "[error] step sales.silver.lines: alert opened"
    assert first["From"] == "lake@example.com"
    assert first["To"] == "ann@example.com, bob@example.com"
    assert first["Bcc"] is None
    assert box.recipients[0] == ["ann@example.com", "bob@example.com"]
    assert first.get_content_type() == "text/plain"
    assert first.get_content().splitlines()[:3] == ["[error] step sales.silver.lines: alert opened", "ß", "."]
    assert second["Subject"] == "[error] step sales.silver.lines: alert opened, 1 more resolved"
    assert second["X-Lakehouse-Alerts"] == "0a1b2c/1 0a1b2c/2"
    assert second["Message-ID"] == again["Message-ID"] != first["Message-ID"], "a repeated delivery is known by it"


def test_a_subject_has_one_line_whatever_its_key_has():
    with receivers.mail_server() as (box, port):
        Mail("mail", server(port), ("ann@example.com",)).send(
            message(replace(ENTRY, key="monitor:a.b.c:country=x\r\nBcc: eve@example.com"))
        )
    assert box.mails[0]["Subject"].strip() == r"[error] monitor a.b.c, country=x\r\nBcc,  eve@example.com: alert opened"
    assert box.mails[0]["Bcc"] is None
    assert box.recipients == [["ann@example.com"]]


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_is_encrypted_and_logged_in(certificate, monkeypatch, security):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with receivers.mail_server(certificate, security=security, login=True) as (box, port):
        Mail("mail", server(port, security, user="lake", password="s3cret"), ("ann@example.com",)).send(message())
        with pytest.raises(Unreachable, match="SMTPAuthenticationError 535") as raised:
            Mail("mail", server(port, security, user="lake", password="wr0ng"), ("ann@example.com",)).send(message())
    assert "wr0ng" not in str(raised.value)
    assert box.encrypted == [True]
    assert box.logins == [("lake", "s3cret"), ("lake", "wr0ng")]


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_server_that_nobody_vouches_for_is_told_nothing(certificate, security):
    with receivers.mail_server(certificate, security=security) as (box, port), pytest.raises(Unreachable, match="SSLCertVerificationError"):
        Mail("mail", server(port, security, user="lake", password="s3cret"), ("ann@example.com",)).send(message())
    assert not box.mails
    assert not box.logins


def test_a_server_without_starttls_is_told_nothing():
    with receivers.mail_server() as (box, port), pytest.raises(Unreachable, match="SMTPNotSupportedError"):
        Mail("mail", server(port, "starttls"), ("ann@example.com",)).send(message())
    assert not box.mails


def test_what_a_mail_server_says_decides_whether_it_is_tried_again():
    with receivers.mail_server() as (box, port):
        box.unknown = {"nobody@example.com"}
        box.replies = ["451 come again", "554 no"]
        sink = Mail("mail", server(port), ("ann@example.com",))
        with pytest.raises(Unreachable, match="SMTPDataError 451"):
            sink.send(message())
        with pytest.raises(Refused, match="SMTPDataError 554"):
            sink.send(message())
        with pytest.raises(Refused, match="SMTPRecipientsRefused 550"):
            Mail("mail", server(port), ("nobody@example.com",)).send(message())
        Mail("mail", server(port), ("nobody@example.com", "ann@example.com")).send(message())
    assert box.recipients == [["ann@example.com"]]
    with pytest.raises(Unreachable, match="ConnectionRefusedError"):
        sink.send(message())


@pytest.mark.parametrize("greeting", [b"", b"nonsense\r\n"])
def test_what_is_neither_a_web_nor_a_mail_server_is_unreachable(greeting):
    with receivers.port_that_says(greeting) as port:
        with pytest.raises(Unreachable):
            Webhook("webhook", f"http://127.0.0.1:{port}/t0ken", seconds=0.2).send(message())
        with pytest.raises(Unreachable):
            Mail("mail", server(port, seconds=0.2), ("ann@example.com",)).send(message())


# --- routing


def test_an_owner_has_sinks_of_their_own_in_place_of_those_of_the_same_kind(settings):
    routes = "team:risk=risk@example.com, team:risk=slack:https://chat.example.com/t0ken,ann@example.com=https://hook.example.com/t0ken"
    found = sinks_of(
        dataclasses.replace(
            settings,
            alert_webhook="https://all.example.com/t0ken",
            alert_mail_to="ops@example.com,boss@example.com",
            alert_mail_host="mail.example.com",
            alert_routes=routes,
        ),
        LOG,
    )
    assert found.names_for("team:sales") == ["log", "webhook", "mail"]
    assert found.names_for("") == ["log", "webhook", "mail"]
    assert found.names_for("team:risk") == ["log", "webhook", "mail team:risk", "slack team:risk"]
    assert found.names_for("team:risk, ann@example.com") == [
        *("log", "webhook", "mail team:risk", "slack team:risk"),
        *("webhook ann@example.com", "mail"),
    ]
    assert found.by_name["mail"].place == "ops@example.com, boss@example.com"
    assert found.by_name["slack team:risk"].place == f"https://chat.example.com/{HIDDEN}"
    assert isinstance(found.by_name["slack team:risk"], Slack)
    assert found.by_name["mail"].server.sender == "ops@example.com"


@pytest.mark.parametrize("routes", ["risk", "team:risk", "team:risk=", "risk=a@example.com", "team:risk=t0ken", "team:risk=ftp://t0ken"])
def test_a_route_that_cannot_be_meant_is_said_and_nobody_else_suffers(settings, routes):
    found = sinks_of(dataclasses.replace(settings, alert_webhook="https://all.example.com", alert_routes=routes), LOG)
    assert found.problem.startswith("LAKEHOUSE_ALERT_ROUTES: number 1 is no route")
    assert "t0ken" not in found.problem
    assert found.names_for("team:risk") == ["log", "webhook"]


def test_mail_without_a_server_says_what_to_do(settings):
    found = sinks_of(dataclasses.replace(settings, alert_mail_to="ops@example.com"), LOG)
    with pytest.raises(Unreachable, match="LAKEHOUSE_ALERT_MAIL_HOST is empty"):
        found.by_name["mail"].send(message())


def test_settings_show_no_secret():
    values = {
        "alert_webhook": "https://hooks.example.com/s3cret",
        "alert_slack": "https://hooks.slack.com/services/s3cret",
        "alert_mail_password": "s3cret",
        "alert_routes": "team:risk=slack:https://a.example.com/s3cret,team:a=https://u:s3cret@b.example.com/s3cret,team:b=ops@example.com,s3cret",
    }
    settings = Settings(**values)
    assert "s3cret" not in repr(settings)
    shown = {name: settings.shown(name) for name in values}
    assert "s3cret" not in str(shown)
    assert (
        shown["alert_routes"]
        == f"team:risk=https://a.example.com/{HIDDEN},team:a=https://b.example.com/{HIDDEN},team:b=ops@example.com,{HIDDEN}"
    )
    assert Settings().shown("alert_mail_password") == ""


# --- a receiver that says a little more for ever


ENDLESS = {
    "100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n",
    "one header after the other": b"X-More: of it\r\n",
    "one letter after the other": b"x",
}


@pytest.mark.parametrize("more", ENDLESS.values(), ids=ENDLESS)
def test_a_web_server_that_never_comes_to_an_end_is_given_up(more):
    first = b"" if more.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\nX-First: "
    with receivers.port_that_goes_on(first, more) as (port, gone):
        with pytest.raises(Unreachable, match=r"the message was not taken within 0\.5 seconds"):
            Webhook("webhook", f"http://127.0.0.1:{port}/", seconds=30, whole=0.5).send(message())
        assert gone.wait(30), "the connection is closed"


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
@pytest.mark.parametrize("more", [b"220-and there is more\r\n", b"2"])
def test_a_mail_server_that_never_comes_to_an_end_is_given_up(more, security):
    with receivers.port_that_goes_on(b"", more) as (port, gone):
        with pytest.raises(Unreachable, match=r"not taken within 0\.5 seconds|SSLError"):
            Mail("mail", server(port, security, seconds=30, whole=0.5), ("ops@example.com",)).send(message())
        assert gone.wait(30), "the connection is closed"


def test_all_sinks_are_tried_at_once_and_none_for_ever(hook):
    class Endless(Webhook):
        def send(self, _: Message) -> None:
            hook.over.wait(60)

    tried = try_out([Endless("a", ""), Webhook("b", hook.address), Endless("c", "")], message(), seconds=0.5)
    assert [(sink.name, outcome, why) for sink, outcome, why in tried] == [
        ("a", "unreachable", "no answer within 0.5 seconds"),
        ("b", "delivered", ""),
        ("c", "unreachable", "no answer within 0.5 seconds"),
    ]

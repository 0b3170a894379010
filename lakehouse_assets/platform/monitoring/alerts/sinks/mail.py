"""The sink that sends e-mail through a server of SMTP: plain text, with the severity in the subject."""

import smtplib
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import format_datetime
from hashlib import blake2b
from typing import Any, Final, Literal

from lakehouse_assets.platform.monitoring.alerts.messages import Message
from lakehouse_assets.platform.monitoring.alerts.sinks.deadline import Deadline
from lakehouse_assets.platform.monitoring.alerts.sinks.sink import SECONDS, WHOLE, Refused, Sink, Unreachable

Security = Literal["starttls", "tls", "none"]
_SUBJECT: Final = 200


class _Plain(smtplib.SMTP):
    def __init__(self, deadline: Deadline, *args: Any, **options: Any) -> None:
        self._deadline = deadline
        super().__init__(*args, **options)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._deadline.watch(super()._get_socket(host, port, timeout))  # type: ignore[misc]  # the types do not have it


class _Tls(smtplib.SMTP_SSL, _Plain):
    def __init__(self, deadline: Deadline, *args: Any, **options: Any) -> None:
        self._deadline = deadline
        smtplib.SMTP_SSL.__init__(self, *args, **options)


@dataclass(frozen=True)
class MailServer:
    """A server of SMTP.

    Attributes:
        host: Its name.
        port: Its port.
        security: starttls: encrypted before anything is said; tls: encrypted from the first byte; none: not encrypted.
        user: Who logs in; empty: nobody.
        password: Theirs.
        sender: What mails come from.
        seconds: How long it waits for each answer.
        whole: How long a delivery may take as a whole, whatever is answered meanwhile.
    """

    host: str
    port: int
    security: Security
    user: str
    password: str = field(repr=False)
    sender: str
    seconds: float = SECONDS
    whole: float = WHOLE

    def connect(self, deadline: Deadline) -> smtplib.SMTP:
        """A connection, encrypted and logged in as it is set.

        Args:
            deadline: When it passes, the connection is shut down.

        Raises:
            OSError: As `smtplib` does.
            SMTPException: As `smtplib` does.
        """
        if self.security == "tls":
            context = ssl.create_default_context()
            connection: smtplib.SMTP = _Tls(deadline, self.host, self.port, timeout=self.seconds, context=context)
        else:
            connection = _Plain(deadline, self.host, self.port, timeout=self.seconds)
        try:
            if self.security == "starttls":
                connection.starttls(context=ssl.create_default_context())
            if self.user:
                connection.login(self.user, self.password)
        except BaseException:
            connection.close()
            raise
        return connection


@dataclass(frozen=True)
class Mail(Sink):
    """A mail for some addresses.

    Attributes:
        server: Who takes it.
        to: The addresses.
    """

    server: MailServer
    to: tuple[str, ...]

    @property
    def place(self) -> str:
        """See `Sink.place`."""
        return ", ".join(self.to)

    def mail(self, message: Message) -> EmailMessage:
        """The mail of a message. Its Message-ID is the same each time, by which repeated deliveries are known."""
        mail = EmailMessage()
        mail["Subject"] = message.subject[:_SUBJECT]
        mail["From"] = self.server.sender
        mail["To"] = ", ".join(self.to)
        mail["Date"] = format_datetime(message.entries[-1].at)
        events = " ".join(f"{entry.alert_id}/{entry.number}" for entry in message.entries)
        digest = blake2b(f"{self.name} {events}".encode(), digest_size=12).hexdigest()
        mail["Message-ID"] = f"<{digest}@lakehouse-assets>"
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Lakehouse-Alerts"] = events
        mail.set_content(message.text)
        return mail

    def send(self, message: Message) -> None:
        """See `Sink.send`. It is delivered if the server takes it for one of the addresses."""
        try:
            mail = self.mail(message)
        except ValueError as error:
            raise Refused(f"no mail can be made: {type(error).__name__}: check the addresses") from None
        with Deadline(self.server.whole) as deadline:
            try:
                self._send(mail, deadline)
            except Unreachable:
                if deadline.has_passed:
                    raise Unreachable(deadline.reason) from None
                raise

    def _send(self, mail: EmailMessage, deadline: Deadline) -> None:
        try:
            connection = self.server.connect(deadline)
        except (OSError, smtplib.SMTPException) as error:
            raise Unreachable(f"no connection: {_words_of(error)}") from None
        try:
            connection.send_message(mail)
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused, smtplib.SMTPDataError, smtplib.SMTPNotSupportedError) as error:
            kind = Unreachable if _is_transient(error) else Refused
            raise kind(f"the server refused it: {_words_of(error)}") from None
        except (OSError, smtplib.SMTPException) as error:
            raise Unreachable(f"no answer: {_words_of(error)}") from None
        finally:
            with suppress(OSError, smtplib.SMTPException):  # it is delivered, whatever becomes of taking leave
                connection.quit()
            connection.close()


def _codes(error: Exception) -> list[int]:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return [code for code, _ in error.recipients.values()]
    return [error.smtp_code] if isinstance(error, smtplib.SMTPResponseException) else []


def _is_transient(error: Exception) -> bool:
    """Whether the server asks to come again."""
    codes = _codes(error)
    return bool(codes) and all(400 <= code < 500 for code in codes)


def _words_of(error: Exception) -> str:
    """The kind of an error and its codes: what a server says may have an address or a user in it."""
    codes = sorted(set(_codes(error)))
    return type(error).__name__ + (f" {', '.join(map(str, codes))}" if codes else "")

"""Receivers of alerts on loopback: of webhooks and of mail, which answer as they are told, hang, and go away."""

import json
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Webhook:
    """A server that keeps what is posted, and answers with given codes first."""

    def __init__(self, port: int = 0) -> None:
        self.posted: list[dict] = []
        self.refused: list[dict] = []
        self.paths: list[str] = []
        self.answers: list[int] = []
        self.hangs = threading.Event()
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.paths.append(self.path)
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.hangs.is_set():
                    outer.over.wait(60)
                code = outer.answers.pop(0) if outer.answers else 200
                (outer.posted if code == 200 else outer.refused).append(content)
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                outer.paths.append(f"GET {self.path}")
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_args) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_args) -> None:
                """Whoever asked may have gone."""

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self.address = f"http://127.0.0.1:{self.port}/hook/t0ken"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def alerts(self) -> list[dict]:
        """All events that were taken, in their order."""
        return [alert for posted in self.posted for alert in posted["alerts"]]

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def webhook(port: int = 0):
    opened = Webhook(port)
    try:
        yield opened
    finally:
        opened.close()


class Mailbox:
    """What an SMTP server took: mails as they can be read, with the recipients; it answers with given replies first."""

    def __init__(self) -> None:
        self.mails: list = []
        self.recipients: list[list[str]] = []
        self.replies: list[str] = []
        self.unknown: set[str] = set()
        self.logins: list[tuple[str, str]] = []
        self.encrypted: list[bool] = []

    async def handle_RCPT(self, server, session, envelope, address, options) -> str:  # noqa: N802
        if address in self.unknown:
            return "550 there is nobody of this name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope) -> str:  # noqa: N802
        if self.replies:
            return self.replies.pop(0)
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        self.recipients.append(list(envelope.rcpt_tos))
        self.encrypted.append(server.transport.get_extra_info("ssl_object") is not None)
        return "250 OK"

    def authenticate(self, server, session, envelope, mechanism, data) -> AuthResult:
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password == b"s3cret", handled=False)


@contextmanager
def mail_server(certificate: Path | None = None, *, security: str = "none", login: bool = False, port: int = 0):
    """An SMTP server; gives the mailbox and its port."""
    mailbox = Mailbox()
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    options: dict = {"hostname": "127.0.0.1"}
    if login:
        is_starttls = security == "starttls"  # aiosmtpd does not take a connection for encrypted that was so from its first byte
        options |= {"authenticator": mailbox.authenticate, "auth_required": is_starttls, "auth_require_tls": is_starttls}
        options |= {"auth_exclude_mechanism": ["LOGIN"]}
    if security == "starttls":
        options |= {"tls_context": context, "require_starttls": True}

    class Server(Controller):
        def _trigger_server(self) -> None:
            self.port = self.server.sockets[0].getsockname()[1]
            super()._trigger_server()

    server = Server(mailbox, port=port, ssl_context=context if security == "tls" else None, **options)
    server.start()
    try:
        yield mailbox, server.server.sockets[0].getsockname()[1]
    finally:
        server.stop()


@contextmanager
def port_that_says(greeting: bytes):
    """A port on which everybody who connects is told the same, and nothing more."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with suppress(OSError):  # it was closed
                while True:
                    connection, _ = listening.accept()
                    connections.append(connection)
                    connection.sendall(greeting)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    for connection in connections:
        connection.close()


@contextmanager
def port_that_goes_on(first: bytes, more: bytes):
    """A port on which everybody who connects is told something, and more for as long as they listen; gives an event: somebody hung up."""
    over, gone = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.sendall(first)
                    while not over.wait(0.02):
                        connection.sendall(more)
                except OSError:
                    gone.set()

        def accept() -> None:
            with suppress(OSError):  # it was closed
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=talk, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listening.getsockname()[1], gone
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def certificate(folder: Path) -> Path:
    """A certificate of localhost with its key, signed by itself."""
    key, now = rsa.generate_private_key(65537, 2048), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1)
    )
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    path = folder / "localhost.pem"
    kept = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(kept + made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return path

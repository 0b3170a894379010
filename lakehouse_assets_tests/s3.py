"""A real S3 API on loopback for tests: moto's server in a process of its own, which `python -m lakehouse_assets_tests.s3 [careless]` is.

moto looks whether an object is there, and then puts it: two puts at once could both be first, which no real store allows. So the server
takes one request after the other. It counts them, and a `careless` one forgets the condition of a put, as an old store or a proxy does.
"""

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUCKET = "lake"
SECRET = "loopback-secret-of-the-tests"
_PROJECT = Path(__file__).parents[1]
_ANSWER_COUNTS = "/__requests"


@dataclass(frozen=True)
class S3:
    """A running server with one empty bucket.

    Attributes:
        endpoint: Its address.
        process: Kill it to see what a run does when its store goes away.
    """

    endpoint: str
    process: subprocess.Popen[str]

    def environment(self, prefix: str = "") -> dict[str, str]:
        """What a process needs to work on the bucket; with a prefix also the root."""
        own = {
            "AWS_ACCESS_KEY_ID": "loopback",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,  # MLflow keeps its clients by this one, in tests of one process too
        }
        return own | ({"LAKEHOUSE_ROOT": f"s3://{BUCKET}/{prefix}"} if prefix else {})

    def make_bucket(self, name: str) -> None:
        with urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT"), timeout=60):
            pass

    def copy(self, prefix: str, to: str) -> None:
        """Copy everything below a prefix of the bucket, as one copies a folder to break the copy."""
        from obstore.store import from_url

        own = {"endpoint": self.endpoint, "access_key_id": "loopback", "secret_access_key": SECRET, "region": "us-east-1"}
        store = from_url(f"s3://{BUCKET}", config=own, client_options={"allow_http": True})
        for entry in store.list(prefix).collect():
            store.copy(entry["path"], to + entry["path"].removeprefix(prefix))

    def requests(self) -> Counter[str]:
        """How many requests of each kind came since the last call: `PUT`, `GET`, `HEAD`, `DELETE`, `POST`, and `LIST`."""
        with urllib.request.urlopen(self.endpoint + _ANSWER_COUNTS, timeout=30) as answer:
            return Counter(json.load(answer))


@contextmanager
def s3_server(*, careless: bool = False) -> Iterator[S3]:
    """Start a server and stop it by its process."""
    command = [sys.executable, "-m", "lakehouse_assets_tests.s3", *(["careless"] if careless else [])]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean, cwd=_PROJECT) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().strip()
            assert endpoint, "the server did not start"
            server = S3(endpoint, process)
            server.make_bucket(BUCKET)
            yield server
        finally:
            process.terminate()


class _OneAfterTheOther:
    """The server's WSGI application around moto's."""

    def __init__(self, application: Any, *, careless: bool) -> None:
        self.application, self.careless = application, careless
        self.lock, self.counts = threading.Lock(), Counter[str]()

    def __call__(self, environment: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self.lock:
            if environment["PATH_INFO"] == _ANSWER_COUNTS:
                counted, self.counts = json.dumps(self.counts).encode(), Counter()
                start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(counted)))])
                return [counted]
            self.counts["LIST" if "list-type=" in environment["QUERY_STRING"] else environment["REQUEST_METHOD"]] += 1
            if self.careless:
                environment.pop("HTTP_IF_NONE_MATCH", None)
            return list(self.application(environment, start_response))


def main(careless: str = "") -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    class Silent(MotoRequestHandler):
        def log(self, *_: Any, **__: Any) -> None:
            pass

    application = _OneAfterTheOther(DomainDispatcherApplication(create_backend_app), careless=bool(careless))
    # Threads keep connections open; what they ask for is answered one after the other all the same.
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Silent)
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""An object store on loopback that fails now and then: moto's S3 server behind a proxy that spoils its answers."""

from __future__ import annotations

import http.client
import logging
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

from moto.moto_server.threaded_moto_server import ThreadedMotoServer

_OWNER = "AWS4-HMAC-SHA256 Credential=tests/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
"""Moto looks at no signature, but asks who overwrites an object."""


@dataclass(frozen=True)
class Faults:
    """Say how often an answer to GET or HEAD is spoilt, and how; the shares may add up to 1.

    errors: 500 or 503 SlowDown. cut: the connection ends in the middle of the body. short: fewer bytes come than were
    asked for, as if that were all. reset: the connection ends before an answer. slow: the answer takes `delay_s`, which
    is no fault, and goes with the others.
    """

    errors: float = 0.0
    cut: float = 0.0
    short: float = 0.0
    reset: float = 0.0
    slow: float = 0.0
    delay_s: float = 0.05


@dataclass
class FaultyStore:
    """Be a served object store. `faults` may be changed at any time; `injected` counts what was done, by its name.

    `requests` counts what was asked: GET, HEAD, and `bytes` of bodies sent.
    """

    endpoint_url: str
    upstream: tuple[str, int]
    faults: Faults
    rng: random.Random
    injected: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store an object, without any fault; the bucket is made where it is not there."""
        for path, body in ((f"/{bucket}", b""), (f"/{bucket}/{key}", data)):
            status, _, _ = self.ask("PUT", path, {"Authorization": _OWNER}, body)
            assert status in (200, 409), status

    def put_folder(self, bucket: str, folder: Path) -> None:
        """Store every file of a folder."""
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.put(bucket, file.relative_to(folder).as_posix(), file.read_bytes())

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Ask the store itself."""
        connection = http.client.HTTPConnection(*self.upstream, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def draw(self, method: str) -> tuple[str, float]:
        """Draw what happens to a request: a fault or nothing, and a delay."""
        if method not in ("GET", "HEAD"):
            return "", 0.0
        with self.lock:
            self.requests[method] += 1
            place, is_slow = self.rng.random(), self.rng.random() < self.faults.slow
            fault = ""
            for name in ("errors", "cut", "short", "reset"):
                share = getattr(self.faults, name)
                if 0 <= place < share:
                    fault = name
                place -= share
            if method == "HEAD" and fault in ("cut", "short"):
                fault = "reset"  # there is no body to spoil
            self.injected.update([name for name in (fault, "slow" if is_slow else "") if name])
            return fault, self.faults.delay_s if is_slow else 0.0


class _Proxy(BaseHTTPRequestHandler):
    """Pass requests on, and spoil some of the answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    store: FaultyStore

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault, delay_s = self.store.draw(self.command)
        if delay_s:
            time.sleep(delay_s)
        if fault == "reset":
            self._hang_up()
        elif fault == "errors":
            self._fail()
        else:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            self._answer(*self.store.ask(self.command, self.path, headers, body), fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - so it is called there

    def _answer(self, status: int, headers: dict[str, str], body: bytes, fault: str) -> None:
        if fault == "short":
            body = body[: len(body) // 2]
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        sent = body[: len(body) // 2] if fault == "cut" else body
        self.wfile.write(sent)
        with self.store.lock:
            self.store.requests["bytes"] += len(sent)
        if fault == "cut":
            self._hang_up()

    def _fail(self) -> None:
        status, code = self.store.rng.choice([(500, "InternalError"), (503, "SlowDown")])
        body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address) -> None:
        """Say nothing of clients that went away."""


@contextmanager
def faulty_store(faults: Faults | None = None, seed: int = 0) -> Iterator[FaultyStore]:
    """Serve an empty object store, to which the environment points s3:// for this process and those that it starts."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    handler = type("_Handler", (_Proxy,), {})
    proxy = _Server(("127.0.0.1", 0), handler)
    url = f"http://127.0.0.1:{proxy.server_port}"
    store = FaultyStore(url, moto.get_host_and_port(), faults or Faults(), random.Random(seed))
    store.ask("POST", "/moto-api/reset", {}, b"")  # what moto holds is the whole process's, whatever its server
    handler.store = store
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        with mock.patch.dict(os.environ, _environment(url)):
            for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
                os.environ.pop(name, None)
            yield store
    finally:
        proxy.shutdown()
        proxy.server_close()
        moto.stop()


def _environment(url: str) -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}
    return {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1", **keys}

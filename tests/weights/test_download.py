"""Downloads against a real server that cuts connections, changes its file, and answers with errors."""

from __future__ import annotations

import base64
import errno
import hashlib
import http.server
import json
import logging
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import namedtuple
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from filelock import FileLock

from fourd.weights import download as module
from fourd.weights.download import download

CONTENT = bytes(range(256)) * 4000
SUM = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


@dataclass
class Site:
    """Say what the server does, and keep what it was asked."""

    content: bytes = CONTENT
    tag: str | None = '"one"'
    modified: str | None = None
    cut_after: list[int] = field(default_factory=list)
    """For each of the next answers: how many bytes it sends before it drops the connection."""
    statuses: list[int] = field(default_factory=list)
    """For each of the next answers: the error it is."""
    goes_down: bool = False
    """Whether a cut is the last thing that it does."""
    has_ranges: bool = True
    tells_length: bool = True
    extra: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("range") for headers in self.asked]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serve the one file of a site."""

    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self):
        site = self.site
        site.asked.append({name.lower(): value for name, value in self.headers.items()})
        if self.path == "/moved":
            return self.answer(302, b"", {"Location": "/file.npz"})
        if site.statuses:
            return self.answer(site.statuses.pop(0), b"")
        validators = {name: value for name, value in (("ETag", site.tag), ("Last-Modified", site.modified)) if value}
        first = self.first_byte()
        if first is None:
            return self.answer(200, site.content, validators | site.extra)
        if first >= len(site.content):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(site.content)}"})
        place = f"bytes {first}-{len(site.content) - 1}/{len(site.content)}"
        return self.answer(206, site.content[first:], {"Content-Range": place} | validators | site.extra)

    def first_byte(self) -> int | None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        is_same = self.headers.get("If-Range") in (self.site.tag, self.site.modified)
        return int(asked[1]) if asked and is_same and self.site.has_ranges else None

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        if self.site.tells_length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.send_body(body)

    def send_body(self, body: bytes) -> None:
        is_file = bool(body)
        sent = self.site.cut_after.pop(0) if is_file and self.site.cut_after else len(body)
        if not self.site.tells_length:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
            sent = len(body) if sent >= len(self.site.content) else sent
        self.wfile.write(body[:sent])
        if sent < len(body):
            self.wfile.flush()
            self.close_connection = True
            self.site.statuses += [503] * 9 * self.site.goes_down

    def log_message(self, *arguments):
        """Keep quiet."""


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    site = Site()
    handler = type("OfSite", (Handler,), {"site": site})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # a reader that goes away
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        site.url = f"http://127.0.0.1:{server.server_port}/file.npz"
        yield site
        server.shutdown()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "weights" / "file.npz"


def get(site: Site, path: Path, **options) -> Path:
    return download(site.url, path, what="4DS-x", **{"first_wait_s": 0.005, **options})


def leftovers(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir() if file.suffix != ".lock"}


def start_and_stop(site: Site, path: Path) -> None:
    """Leave half of the file behind, as a machine does whose server goes away in the middle."""
    site.cut_after, site.goes_down = [HALF], True
    with pytest.raises(ConnectionError):
        get(site, path)
    site.goes_down, site.statuses, site.asked[:] = False, [], []


# ----------------------------------------------------------------------------- a whole file


def test_a_file_arrives_whole_with_its_sum(site, path):
    assert get(site, path, expected_bytes=len(CONTENT), sha256=SUM.upper()) == path
    assert path.read_bytes() == CONTENT
    assert leftovers(path) == {"file.npz", "file.npz.sha256"}
    record = (path.parent / "file.npz.sha256").read_text()
    assert record.splitlines()[0] == f"# {site.url}"
    assert record.splitlines()[-1] == f"{SUM}  file.npz"
    assert site.asked[0]["accept-encoding"] == "identity"


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="only where the tool is installed")
def test_the_record_is_read_by_sha256sum(site, path):
    get(site, path)
    command = ["sha256sum", "--check", "--strict", "file.npz.sha256"]
    assert subprocess.run(command, cwd=path.parent, check=False).returncode == 0


def test_a_file_that_is_there_is_neither_fetched_nor_read_again(site, path, monkeypatch):
    get(site, path)
    site.asked.clear()
    monkeypatch.setattr(module, "sha256_of", None)
    assert get(site, path, sha256=SUM) == path
    assert site.asked == []


def test_redirects_are_followed(site, path):
    download(site.url.replace("file.npz", "moved"), path, first_wait_s=0.005)
    assert path.read_bytes() == CONTENT


def test_a_server_that_does_not_tell_the_length(site, path):
    site.tells_length = False
    get(site, path, expected_bytes=len(CONTENT))
    assert path.read_bytes() == CONTENT


# ----------------------------------------------------------------------------- interrupted


def test_a_cut_connection_is_taken_up_where_it_ended(site, path):
    site.cut_after = [HALF, 1000]
    get(site, path)
    assert path.read_bytes() == CONTENT
    assert site.ranges == [None, f"bytes={HALF}-", f"bytes={HALF + 1000}-"]
    assert [headers.get("if-range") for headers in site.asked] == [None, '"one"', '"one"']


def test_many_cuts_are_no_failure_while_each_brings_something(site, path):
    site.cut_after = [1000] * 10
    get(site, path)
    assert path.read_bytes() == CONTENT
    assert len(site.asked) == 11


def test_a_later_call_goes_on_with_the_part(site, path):
    start_and_stop(site, path)
    assert leftovers(path) == {"file.npz.part", "file.npz.part.json"}
    assert (path.parent / "file.npz.part").read_bytes() == CONTENT[:HALF]
    get(site, path)
    assert path.read_bytes() == CONTENT
    assert site.ranges == [f"bytes={HALF}-"]
    assert leftovers(path) == {"file.npz", "file.npz.sha256"}


def test_a_server_that_never_gets_further_is_given_up(site, path):
    site.cut_after = [HALF] * 20
    site.has_ranges = False
    with pytest.raises(ConnectionError, match=f"{HALF:,} of {len(CONTENT):,} bytes are here; the same command goes on"):
        get(site, path)
    assert len(site.asked) == 4


def test_a_killed_process_is_gone_on_with(site, path):
    code = (
        "import sys; from pathlib import Path; from fourd.weights import download as d; import os\n"
        "def die(self, n, total):\n    if n >= 300_000: os._exit(9)\n"
        "d._Bar.update = die\n"
        "d.download(sys.argv[1], Path(sys.argv[2]))"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, site.url, str(path)]
    assert subprocess.run(command, cwd=root, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode == 9
    site.asked.clear()
    get(site, path)
    assert path.read_bytes() == CONTENT


# ----------------------------------------------------------------------------- a file that changes


def test_a_file_changed_on_the_server_is_never_spliced(site, path):
    start_and_stop(site, path)
    site.content, site.tag = CONTENT[::-1], '"two"'
    get(site, path)
    assert path.read_bytes() == CONTENT[::-1]
    assert site.ranges == [f"bytes={HALF}-"]  # answered with the whole new file


def test_a_time_of_change_serves_where_there_is_no_strong_tag(site, path):
    site.tag, site.modified = 'W/"one"', "Wed, 01 Jan 2025 00:00:00 GMT"
    start_and_stop(site, path)
    get(site, path)
    assert path.read_bytes() == CONTENT
    assert site.asked[0]["if-range"] == site.modified


def test_without_a_tag_it_starts_again(site, path):
    site.tag = None
    start_and_stop(site, path)
    get(site, path)
    assert path.read_bytes() == CONTENT
    assert site.ranges == [None]


def test_a_server_without_ranges_sends_all_again(site, path):
    site.has_ranges = False
    start_and_stop(site, path)
    get(site, path)
    assert path.read_bytes() == CONTENT
    assert site.ranges == [f"bytes={HALF}-"]


@pytest.mark.parametrize("lie", [{"Content-Range": "bytes 7-9/10"}, {"ETag": '"two"'}, {"Content-Range": "what?"}])
def test_a_rest_that_does_not_fit_costs_the_part_not_the_file(site, path, lie):
    start_and_stop(site, path)
    site.extra = lie
    get(site, path)
    assert path.read_bytes() == CONTENT
    assert site.ranges == [f"bytes={HALF}-", None]


def test_a_part_longer_than_the_file_is_thrown_away(site, path):
    start_and_stop(site, path)
    (path.parent / "file.npz.part").write_bytes(CONTENT + b"more")
    get(site, path)
    assert path.read_bytes() == CONTENT
    assert site.ranges == [f"bytes={len(CONTENT) + 4}-", None]


def test_a_part_that_turns_out_to_be_whole_is_kept(site, path):
    site.tells_length = False
    start_and_stop(site, path)
    part = path.parent / "file.npz.part"
    part.write_bytes(CONTENT)  # all of it, before the end could be noted
    get(site, path)
    assert path.read_bytes() == CONTENT
    assert site.ranges == [f"bytes={len(CONTENT)}-"]  # answered with 416


def test_a_part_of_another_address_or_with_a_damaged_note_is_not_used(site, path):
    for damage in ('{"url": "https://elsewhere", "total": 9, "tag": "x"}', '{"url"'):
        start_and_stop(site, path)
        (path.parent / "file.npz.part").write_bytes(b"other bytes")
        (path.parent / "file.npz.part.json").write_text(damage)
        get(site, path)
        assert path.read_bytes() == CONTENT
        assert site.ranges == [None]
        path.unlink()


def test_a_published_file_that_changed_names_both_sums_and_is_kept_aside(site, path):
    get(site, path)
    path.unlink()
    site.content, site.tag = CONTENT[::-1], '"two"'
    new = hashlib.sha256(site.content).hexdigest()
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"has SHA-256 {new}; .* had {SUM}\. .*delete \S*file\.npz\.sha256"):
            get(site, path)
        assert not path.exists()
    assert len(site.asked) == 2  # what is whole already is not fetched a third time
    (path.parent / "file.npz.sha256").unlink()
    get(site, path)
    assert path.read_bytes() == site.content
    assert len(site.asked) == 2


def test_a_file_changed_on_this_machine_is_noticed(site, path):
    get(site, path)
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(ValueError, match=rf"what was fetched before from \S+ had {SUM}"):
        get(site, path)
    path.write_bytes(CONTENT)
    get(site, path)


def test_a_file_from_another_address_is_not_taken_for_this_one(site, path):
    get(site, path)
    with pytest.raises(ValueError, match=rf"came from {site.url}, expected http://other/file"):
        download("http://other/file", path)


# ----------------------------------------------------------------------------- a wrong file


def test_another_sum_is_refused_and_nothing_takes_the_name(site, path):
    with pytest.raises(ValueError, match=rf"has SHA-256 {SUM}, expected {'0' * 64}\. .*Delete it"):
        get(site, path, sha256="0" * 64)
    assert not path.exists()
    assert not (path.parent / "file.npz.sha256").exists()


@pytest.mark.parametrize(
    ("expected", "text"), [(10, "expected 10"), ((2, len(CONTENT) - 1), f"expected 2 to {len(CONTENT) - 1:,}")]
)
def test_another_size_is_refused_before_it_is_fetched(site, path, expected, text):
    with pytest.raises(ValueError, match=rf"4DS-x: {site.url} has {len(CONTENT):,} bytes, {text}\."):
        get(site, path, expected_bytes=expected)
    assert leftovers(path) == set()


def test_another_size_is_refused_when_the_server_did_not_tell(site, path):
    site.tells_length = False
    with pytest.raises(ValueError, match="expected 10"):
        get(site, path, expected_bytes=10)
    assert not path.exists()


def test_bytes_in_another_encoding_are_refused(site, path):
    site.extra = {"Content-Encoding": "gzip"}
    with pytest.raises(ConnectionError, match="sends it as 'gzip'"):
        get(site, path)


# ----------------------------------------------------------------------------- answers that are errors


def test_a_file_that_is_not_there_is_not_asked_for_twice(site, path):
    site.statuses = [404] * 9
    with pytest.raises(ConnectionError, match=rf"cannot fetch 4DS-x: {site.url} answers 404 Not Found\. .*put it at"):
        get(site, path)
    assert len(site.asked) == 1


def test_a_server_that_is_busy_is_asked_again(site, path, caplog):
    site.statuses = [500, 503, 429]
    get(site, path)
    assert path.read_bytes() == CONTENT
    assert "answers 503 Service Unavailable; trying again in 0.01 s" in caplog.text


def test_the_waits_double(site, path, caplog):
    site.statuses = [503] * 9
    with pytest.raises(ConnectionError, match="answers 503"):
        get(site, path)
    waits = [float(wait) for wait in re.findall(r"trying again in (\S+) s", caplog.text)]
    assert waits == [0.005, 0.01, 0.02]
    assert len(site.asked) == 4


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_without_network_it_says_which_file_from_where_to_where(site, path, monkeypatch):
    monkeypatch.chdir(path.parents[1])
    url = f"http://127.0.0.1:{closed_port()}/file.npz"
    with pytest.raises(ConnectionError) as error:
        download(url, Path("weights/file.npz"), what="4DS-e", first_wait_s=0.005)
    assert f"cannot fetch 4DS-e from {url}: " in str(error.value)
    assert "0 bytes are here; the same command goes on from there" in str(error.value)
    assert f"fetch {url} elsewhere, put it at {path}, and run the same command again" in str(error.value)


# A certificate that nobody signed, and its key, made for this test alone: they guard nothing.
KEY = (
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg2ku+DA6YDS9czBo5EoTdS7Z2ZzQ8SNOygyYP1nlK1x6hRANCAATMzGsUt3Hke2"
    "DYe4X3kfXlj865a5SeuhWXQGj8RZ7AsrxV3XgUZcHQTc8cSSSVyFBpzptwu7aOXCFwJADiX3nx"
)
CERTIFICATE = (
    "MIIBkTCCATagAwIBAgIUbZkiPg3Bk/py0VxqwIKrT7rt++YwCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJMTI3LjAuMC4xMCAXDTI2MTEyMjE3NTgx"
    "MVoYDzIxMjYxMDI5MTc1ODExWjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATMzGsUt3Hke2DYe4X3kfXl"
    "j865a5SeuhWXQGj8RZ7AsrxV3XgUZcHQTc8cSSSVyFBpzptwu7aOXCFwJADiX3nxo2QwYjAdBgNVHQ4EFgQU0aPNPHpE6Yd8RTJZWKgMEERGFNow"
    "HwYDVR0jBBgwFoAU0aPNPHpE6Yd8RTJZWKgMEERGFNowDwYDVR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0kAMEYC"
    "IQDYhetGYHlSpD0oxBxSBYf/0f4H5pZ08tuL0U1TKlqlGwIhALOMoRPGGvVNcKulW6T6K5aDfUoP7JxNLwOKC4wGGV/H"
)


def test_a_certificate_that_nobody_signed_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    certificate = ssl.DER_cert_to_PEM_cert(base64.b64decode(CERTIFICATE))
    label = "PRIVATE KEY"
    pem = tmp_path / "pem"
    pem.write_text(f"{certificate}-----BEGIN {label}-----\n{KEY}\n-----END {label}-----\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with http.server.HTTPServer(("127.0.0.1", 0), type("OfSite", (Handler,), {"site": Site()})) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        with pytest.raises(ConnectionError, match=r"(?i)certificate"):
            download(f"https://127.0.0.1:{server.server_port}/file.npz", path, first_wait_s=0.001)
        server.shutdown()
    assert leftovers(path) == set()


# ----------------------------------------------------------------------------- put there by hand


def test_a_file_put_there_by_hand_is_checked_and_recorded(path, caplog):
    caplog.set_level(logging.INFO)
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    url = f"http://127.0.0.1:{closed_port()}/file.npz"
    assert download(url, path, expected_bytes=len(CONTENT), sha256=SUM) == path
    assert (path.parent / "file.npz.sha256").read_text().endswith(f"\n{SUM}  file.npz\n")
    assert caplog.text.count("computing the SHA-256") == 1
    download(url, path)
    assert caplog.text.count("computing the SHA-256") == 1


@pytest.mark.parametrize("wrong", [{"expected_bytes": 10}, {"sha256": "0" * 64}])
def test_a_wrong_file_put_there_by_hand_is_refused_each_time(path, wrong):
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"Delete it"):
            download("http://127.0.0.1:1/file.npz", path, **wrong)
    assert path.read_bytes() == CONTENT
    download("http://127.0.0.1:1/file.npz", path)
    with pytest.raises(ValueError, match=r"Delete it"):
        download("http://127.0.0.1:1/file.npz", path, **wrong)


def test_a_damaged_record_says_so(site, path):
    get(site, path)
    (path.parent / "file.npz.sha256").write_text("?")
    with pytest.raises(ValueError, match=r"file\.npz\.sha256 is no record of a download\. Delete it"):
        get(site, path)


# ----------------------------------------------------------------------------- the disk, other processes, what is shown


def test_too_little_room_is_said_before_anything_is_fetched(site, path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 5000))
    with pytest.raises(OSError, match=r"no room for 4DS-x: 1\.0 MB are to come, 5\.0 kB are free") as error:
        get(site, path)
    assert error.value.errno == errno.ENOSPC
    assert leftovers(path) == set()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_disk_that_fills_up_keeps_what_arrived(site, path):
    path.parent.mkdir()
    (path.parent / "file.npz.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"no room for 4DS-x: the disk is full after .*; what arrived is kept"):
        get(site, path)
    assert (path.parent / "file.npz.part").is_symlink()


def test_only_one_process_downloads_and_the_other_waits_for_it(site, path, caplog):
    path.parent.mkdir()
    lock = FileLock(path.parent / "file.npz.lock")
    lock.acquire()
    waiting = threading.Thread(target=get, args=(site, path))
    waiting.start()
    time.sleep(0.1)
    assert site.asked == []
    assert "another process downloads it already" in caplog.text
    path.write_bytes(CONTENT)  # what the other process does
    lock.release()
    waiting.join(5)
    assert site.asked == []
    assert SUM in (path.parent / "file.npz.sha256").read_text()


def test_two_at_once_fetch_it_once(site, path):
    threads = [threading.Thread(target=get, args=(site, path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert path.read_bytes() == CONTENT
    assert len(site.asked) == 1


def test_off_a_terminal_plain_lines_say_how_far_it_is(site, path, capsys, monkeypatch):
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LINES", 0.0)
    site.content = CONTENT * 4
    get(site, path)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"4DS-x: \S+ \S+ of 4\.1 MB", lines[0])
    assert re.fullmatch(r"4DS-x: 4\.1 MB of 4\.1 MB  \S+ .?B/s, 0 s left", lines[-1])


def test_the_note_of_a_part_names_its_file(site, path):
    start_and_stop(site, path)
    note = json.loads((path.parent / "file.npz.part.json").read_text())
    assert note == {"url": site.url, "total": len(CONTENT), "tag": '"one"'}

"""Fetch a published file: going on where it was stopped, checked, and recorded, so that a change is noticed.

Beside `path` there may lie `path.part` (what has arrived so far), `path.part.json` (which file on the server that is
a part of), `path.sha256` (what arrived in the end, readable by `sha256sum --check`) and `path.lock`.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx2
from filelock import FileLock, Timeout
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from fourd import provenance
from fourd.weights.files import sha256 as sha256_of

log = logging.getLogger(__name__)

_TRIES = 4
_SECONDS_BETWEEN_LINES = 15.0
_TIMEOUT = httpx2.Timeout(30.0)
_BUSY = (408, 425, 429, 500, 502, 503, 504)
"""Answers of a server that may be another one in a moment."""
_DELETE = "It is not the published file, or not all of it. Delete it, and it is downloaded again"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def download(
    url: str,
    path: Path,
    *,
    expected_bytes: int | tuple[int, int] | None = None,
    sha256: str | None = None,
    what: str = "the file",
    first_wait_s: float = 1.0,
) -> Path:
    """Fetch `url` into `path`, or go on where an earlier call was stopped, or take the file that is there.

    expected_bytes: how large the file is, or the least and the most; sha256: of the whole file; what: its name in
    messages; first_wait_s: before the second try, twice as long before each further one. A file that somebody put
    there is taken after the same checks. One process at a time downloads, others wait for it.
    Raises ConnectionError where the server cannot be reached or has no such file (what arrived is kept), OSError
    where the disk is full, ValueError where size or sum are not those expected, or not those of an earlier download.
    """
    sizes = (expected_bytes, expected_bytes) if isinstance(expected_bytes, int) else expected_bytes
    wanted = _Wanted(url, Path(path), sizes, sha256.lower() if sha256 else None, what)
    if _is_known(wanted):
        return wanted.path
    wanted.path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(wanted):
        if not wanted.path.exists():
            _fetch(wanted, first_wait_s)
            _record(wanted, wanted.part)
            wanted.part.replace(wanted.path)
        elif not _is_known(wanted):
            _record(wanted, wanted.path)
        for leftover in (wanted.part, wanted.note):
            leftover.unlink(missing_ok=True)
    return wanted.path


@dataclass(frozen=True)
class _Wanted:
    """Say what is fetched from where to where, and what it has to be."""

    url: str
    path: Path
    sizes: tuple[int, int] | None
    sha256: str | None
    what: str

    @property
    def part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part.json")

    @property
    def record(self) -> Path:
        return self.path.with_name(f"{self.path.name}.sha256")

    @property
    def way_out(self) -> str:
        """Say how a machine without network gets the file."""
        return (
            f"On a machine without network: fetch {self.url} elsewhere, put it at {self.path.absolute()}, "
            "and run the same command again"
        )

    def require_size(self, num_bytes: int, where: str, advice: str) -> None:
        """Raise ValueError for a file that is too small or too large."""
        if self.sizes is None or self.sizes[0] <= num_bytes <= self.sizes[1]:
            return
        least, most = self.sizes
        expected = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        raise ValueError(f"{self.what}: {where} has {num_bytes:,} bytes, expected {expected}. {advice}")


def _locked(wanted: _Wanted) -> FileLock:
    """Lock the file against other processes, and say so where that means to wait."""
    lock = FileLock(wanted.path.with_name(f"{wanted.path.name}.lock"))
    try:
        lock.acquire(timeout=0)
        lock.release()
    except Timeout:
        log.warning("%s: another process downloads it already; waiting for %s", wanted.what, wanted.path)
    return lock


# ----------------------------------------------------------------------------- the record of what arrived


class _Record(NamedTuple):
    url: str
    num_bytes: int
    mtime_ns: int
    sha256: str

    def text(self, name: str) -> str:
        return f"# {self.url}\n# {self.num_bytes} bytes, changed at {self.mtime_ns} ns\n{self.sha256}  {name}\n"


_RECORD_PATTERN = re.compile(r"# (\S+)\n# (\d+) bytes, changed at (\d+) ns\n([0-9a-f]{64})  ")


def _read_record(wanted: _Wanted) -> _Record | None:
    if not wanted.record.exists():
        return None
    match = _RECORD_PATTERN.match(wanted.record.read_text())
    if match is None:
        raise ValueError(f"{wanted.record} is no record of a download. Delete it, and {wanted.path} is checked anew")
    return _Record(match[1], int(match[2]), int(match[3]), match[4])


def _is_known(wanted: _Wanted) -> bool:
    """Tell whether the file is there, and is what was recorded, without reading it again."""
    record = _read_record(wanted) if wanted.path.exists() else None
    if record is None:
        return False
    status = wanted.path.stat()
    if (record.url, record.num_bytes, record.mtime_ns) != (wanted.url, status.st_size, status.st_mtime_ns):
        return False
    _require_wanted(wanted, wanted.path, status.st_size, record.sha256)
    return True


def _record(wanted: _Wanted, file: Path) -> None:
    """Check a whole file, and write down what it is; it may still lie under the name of the part."""
    status = file.stat()
    wanted.require_size(status.st_size, str(file), _DELETE)
    log.info("%s: computing the SHA-256 of %s", wanted.what, file)
    digest = sha256_of(file)
    _require_wanted(wanted, file, status.st_size, digest)
    _require_as_before(wanted, file, digest)
    aside = wanted.record.with_name(f"{wanted.record.name}.tmp")
    aside.write_text(_Record(wanted.url, status.st_size, status.st_mtime_ns, digest).text(wanted.path.name))
    aside.replace(wanted.record)


def _require_wanted(wanted: _Wanted, file: Path, num_bytes: int, digest: str) -> None:
    wanted.require_size(num_bytes, str(file), _DELETE)
    if wanted.sha256 not in (None, digest):
        raise ValueError(f"{wanted.what}: {file} has SHA-256 {digest}, expected {wanted.sha256}. {_DELETE}")


def _require_as_before(wanted: _Wanted, file: Path, digest: str) -> None:
    """Raise ValueError where an earlier download from this address, or this very file, was another one."""
    record = _read_record(wanted)
    if record is None:
        return
    if record.url != wanted.url and file == wanted.path:
        raise ValueError(
            f"{wanted.what}: {file} came from {record.url}, expected {wanted.url}. If it is what you want, delete "
            f"{wanted.record}; if not, delete {file}"
        )
    if record.url == wanted.url and record.sha256 != digest:
        raise ValueError(
            f"{wanted.what}: {file} has SHA-256 {digest}; what was fetched before from {record.url} had "
            f"{record.sha256}. If the new file is what you want, delete {wanted.record}; if not, delete {file}"
        )


# ----------------------------------------------------------------------------- the part that has arrived


class _Part(NamedTuple):
    """Say how much has arrived, of which file: its size, and the tag by which the server knows it; None if unknown."""

    num_bytes: int
    total: int | None
    tag: str | None

    @property
    def is_whole(self) -> bool:
        return self.total is not None and self.num_bytes == self.total

    def headers(self) -> Mapping[str, str]:
        """Ask for the rest, if the file is still the one that this is a part of, and for all of it otherwise."""
        if not self.num_bytes or self.tag is None:
            return {}
        return {"Range": f"bytes={self.num_bytes}-", "If-Range": self.tag}


def _read_part(wanted: _Wanted) -> _Part:
    if not (wanted.part.exists() and wanted.note.exists()):
        return _Part(0, None, None)
    try:
        note = json.loads(wanted.note.read_text())
    except json.JSONDecodeError:
        log.warning("%s: %s is damaged, so that %s cannot be gone on with", wanted.what, wanted.note, wanted.part)
        return _Part(0, None, None)
    if note["url"] != wanted.url:
        return _Part(0, None, None)
    return _Part(wanted.part.stat().st_size, note["total"], note["tag"])


def _write_note(wanted: _Wanted, total: int | None, tag: str | None) -> None:
    provenance.write_json(wanted.note, {"url": wanted.url, "total": total, "tag": tag})


def _tag_of(response: httpx2.Response) -> str | None:
    """Take what a server accepts in `If-Range`: a strong tag, else the time of the last change."""
    tag = response.headers.get("etag", "")
    return tag if tag.startswith('"') else response.headers.get("last-modified")


# ----------------------------------------------------------------------------- from the server to the part


class _RetryableError(Exception):
    """Say that another try may go better."""


def _fetch(wanted: _Wanted, first_wait_s: float) -> None:
    """Complete the part, trying again while that brings it forward, and a few times when it does not."""
    furthest, failures = _read_part(wanted).num_bytes, 0
    with _Bar(wanted) as bar, httpx2.Client(follow_redirects=True, timeout=_TIMEOUT) as client:
        while not _read_part(wanted).is_whole:
            try:
                _receive(wanted, client, bar)
            except (httpx2.RequestError, _RetryableError) as error:
                num_bytes = _read_part(wanted).num_bytes
                failures = 1 if num_bytes > furthest else failures + 1
                furthest = max(furthest, num_bytes)
                if failures == _TRIES:
                    raise ConnectionError(_gave_up(wanted, error)) from error
                wait = first_wait_s * 2 ** (failures - 1)
                log.warning("%s: %s; trying again in %.3g s", wanted.what, _reason(error), wait)
                time.sleep(wait)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _gave_up(wanted: _Wanted, error: Exception) -> str:
    part = _read_part(wanted)
    of = f" of {part.total:,}" if part.total is not None else ""
    return (
        f"cannot fetch {wanted.what} from {wanted.url}: {_reason(error)}. {part.num_bytes:,}{of} bytes are here; "
        f"the same command goes on from there. {wanted.way_out}"
    )


def _receive(wanted: _Wanted, client: httpx2.Client, bar: _Bar) -> None:
    """Ask for what is missing, and add it to the part."""
    part = _read_part(wanted)
    headers = {"Accept-Encoding": "identity", **part.headers()}
    with client.stream("GET", wanted.url, headers=headers) as response:
        _require_answer(wanted, response)
        if _says_whole(response, part):
            _write_note(wanted, part.num_bytes, part.tag)
            return
        first = _first_byte(wanted, response, part)
        total = _total(response, first, part)
        if total is not None:
            wanted.require_size(total, wanted.url, "It is not the file that was published: nothing is downloaded")
            _require_room(wanted, first, total)
        _append(wanted, response, first, total, bar)


def _total(response: httpx2.Response, first: int, part: _Part) -> int | None:
    """Work out the size of the whole file; None where the server does not tell."""
    length = response.headers.get("content-length")
    if length is not None:
        return first + int(length)
    return part.total if first else None


def _require_answer(wanted: _Wanted, response: httpx2.Response) -> None:
    """Raise ConnectionError for an answer that will stay as it is, and ask for another try where it may not."""
    if wanted.url.startswith("https:") and response.url.scheme != "https":
        raise ConnectionError(f"{wanted.url} leads to {response.url}, which is not encrypted: not fetched")
    status = f"{response.url} answers {response.status_code} {response.reason_phrase}".rstrip()
    if response.status_code in _BUSY:
        raise _RetryableError(status)
    if response.status_code not in (200, 206, 416):
        raise ConnectionError(f"cannot fetch {wanted.what}: {status}. {wanted.way_out}")
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise ConnectionError(f"cannot fetch {wanted.what}: {response.url} sends it as {encoding!r}, not as it is")


def _says_whole(response: httpx2.Response, part: _Part) -> bool:
    """Tell whether there is no rest to ask for because everything has arrived (its size was not known before)."""
    is_end = response.headers.get("content-range") == f"bytes */{part.num_bytes}"
    return response.status_code == 416 and is_end and part.total is None


def _first_byte(wanted: _Wanted, response: httpx2.Response, part: _Part) -> int:
    """Say at which byte the answer begins; a rest that does not fit the part costs the part."""
    if response.status_code == 200:
        return 0
    place = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("content-range", ""))
    if response.status_code == 206 and place and int(place[1]) == part.num_bytes:
        same_size = part.total is None or place[2] in ("*", str(part.total))
        if same_size and _tag_of(response) in (None, part.tag):
            return part.num_bytes
    wanted.part.unlink(missing_ok=True)
    raise _RetryableError(f"{wanted.url} has no rest that fits what is here; starting again")


def _require_room(wanted: _Wanted, first: int, total: int) -> None:
    free = shutil.disk_usage(wanted.path.parent).free
    if free < total - first:
        raise _disk_full(wanted, f"{decimal(total - first)} are to come, {decimal(free)} are free")


def _disk_full(wanted: _Wanted, reason: str) -> OSError:
    text = f"no room for {wanted.what}: {reason}; what arrived is kept. Make room, and the same command goes on"
    return OSError(errno.ENOSPC, text, str(wanted.path))


def _append(wanted: _Wanted, response: httpx2.Response, first: int, total: int | None, bar: _Bar) -> None:
    """Write the answer to the part; the note of a new file is written only when nothing is left of the old one."""
    num_bytes = first
    try:
        with wanted.part.open("ab" if first else "wb") as file:
            if not first:
                _write_note(wanted, total, _tag_of(response))
            for chunk in response.iter_raw():  # of no fixed size, which would lose what arrived before a cut
                file.write(chunk)
                num_bytes += len(chunk)
                bar.update(num_bytes, total)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise _disk_full(wanted, f"the disk is full after {decimal(num_bytes)}") from error
        raise
    if total is None:
        _write_note(wanted, num_bytes, _tag_of(response))
    elif num_bytes != total:
        raise _RetryableError(f"the answer ended after {num_bytes:,} of {total:,} bytes")


# ----------------------------------------------------------------------------- what is shown


class _Bar:
    """Show bytes, speed and time left: a live line on a terminal, a plain line now and then elsewhere."""

    def __init__(self, wanted: _Wanted) -> None:
        self._what = wanted.what
        self._started = self._last_line = time.monotonic()
        self._first: int | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(wanted.what, total=None)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.stop()

    def update(self, num_bytes: int, total: int | None) -> None:
        """Show how much has arrived."""
        self._bar.update(self._task, completed=num_bytes, total=total)
        now = time.monotonic()
        is_first = self._first is None
        if is_first:
            self._first, self._started = num_bytes, now
        due = is_first or now - self._last_line > _SECONDS_BETWEEN_LINES or num_bytes == total
        if self._bar.disable and due:
            self._last_line = now
            print(self._line(num_bytes, total, now - self._started), file=sys.stderr, flush=True)

    def _line(self, num_bytes: int, total: int | None, seconds: float) -> str:
        speed = (num_bytes - (self._first or 0)) / seconds if seconds else 0.0
        line = f"{self._what}: {decimal(num_bytes)}" + (f" of {decimal(total)}" if total is not None else "")
        if not speed:
            return line
        left = f", {(total - num_bytes) / speed:.0f} s left" if total is not None else ""
        return f"{line}  {decimal(int(speed))}/s{left}"

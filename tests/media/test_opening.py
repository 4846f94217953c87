"""A film opens nothing but itself, and errors of reading are never taken for damage of the film."""

from __future__ import annotations

import errno
import io
import os
import socket
from pathlib import Path

import av
import numpy as np
import pytest

from fourd.media import StoredFile, UnreadableVideo, decode_pictures, probe
from tests.damaged_films import HLS_HEAD, SPECIMENS, Specimen
from tests.films import read_number, write_film


class Faulty(io.BytesIO):
    """Raise an error at the n-th read, and say when it was closed."""

    def __init__(self, data: bytes, failing_read: int = -1, error: BaseException | None = None) -> None:
        super().__init__(data)
        self.countdown, self.error = failing_read, error

    def read(self, size: int | None = -1) -> bytes:
        if self.countdown == 0 and self.error is not None:
            raise self.error
        self.countdown -= 1
        return super().read(size)


def stored(data: bytes, opened: list[Faulty] | None = None, **faults) -> StoredFile:
    """Keep a film in memory, and list the files that are opened on it."""

    def open_() -> Faulty:
        file = Faulty(data, **faults)
        if opened is not None:
            opened.append(file)
        return file

    return StoredFile("memory/film", len(data), open_)


def numbers(source, info, wanted) -> list[int]:
    return [read_number(picture) for _, picture in decode_pictures(source, np.array(wanted), info, 1)]


# ----------------------------------------------------------------------------- what is stored elsewhere


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.ts", "film.avi", "film.mpg"])
def test_bytes_give_what_a_file_gives(name: str, tmp_path: Path):
    codec = {".avi": "mpeg4", ".mpg": "mpeg2video"}.get(Path(name).suffix, "libx264")
    path = write_film(tmp_path / name, codec=codec)
    source = stored(path.read_bytes())
    info, local = probe(source), probe(path)
    np.testing.assert_array_equal(info.pts, local.pts)
    np.testing.assert_array_equal(info.key_pts, local.key_pts)
    assert numbers(source, info, [0, 7, 39]) == numbers(path, local, [0, 7, 39]) == [0, 7, 39]


@pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda specimen: repr(specimen.name))
def test_a_damaged_film_in_memory_is_judged_as_a_file_is(specimen: Specimen, tmp_path: Path):
    path = tmp_path / "corpus" / specimen.name
    path.parent.mkdir()
    specimen.make(path)
    if not path.is_file() or path.is_symlink():
        pytest.skip("nothing that could lie in a store")
    assert _verdict(path) == _verdict(stored(path.read_bytes()))


def _verdict(source) -> object:
    try:
        info = probe(source)
    except UnreadableVideo as error:
        return error.reason
    return info.damage, info.pts.tolist(), info.key_pts.tolist(), info.width, info.height, info.rotation


def test_files_are_closed_when_done(tmp_path: Path):
    opened: list[Faulty] = []
    data = write_film(tmp_path / "film.mp4").read_bytes()
    source = stored(data, opened)
    info = probe(source)
    numbers(source, info, [3])
    left_early = decode_pictures(source, np.arange(40), info, 1)
    next(left_early)
    left_early.close()
    for bad in (b"no film at all", data[: len(data) // 2], data[:200]):
        with pytest.raises(UnreadableVideo):
            probe(stored(bad, opened))
    assert len(opened) >= 6
    assert all(file.closed for file in opened)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a list of this process's open files")
def test_no_file_stays_open(tmp_path: Path):
    path = write_film(tmp_path / "film.mp4")
    (tmp_path / "bad.mp4").write_bytes(path.read_bytes()[:2000])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        info = probe(path)
        numbers(path, info, [20])
        with pytest.raises(UnreadableVideo):
            probe(tmp_path / "bad.mp4")
    assert len(os.listdir("/proc/self/fd")) == before


# ----------------------------------------------------------------------------- errors of reading


DISK = OSError(errno.EIO, "disk")
FAULTS = [
    *((name, DISK) for name in ("film.mp4", "first.mp4", "film.mkv", "film.ts", "film.avi", "film.mpg")),
    ("film.mp4", OSError(errno.ESTALE, "stale")),
    ("film.mp4", TimeoutError(errno.ETIMEDOUT, "late")),
    ("film.mp4", KeyError("no file's error at all")),
    ("film.mp4", KeyboardInterrupt()),
]


@pytest.mark.parametrize(("name", "error"), FAULTS, ids=[f"{name}-{error!r}" for name, error in FAULTS])
def test_what_a_file_raises_comes_out_as_it_is(name: str, error: BaseException, tmp_path: Path):
    codec = {".avi": "mpeg4", ".mpg": "mpeg2video"}.get(Path(name).suffix, "libx264")
    noise = np.random.default_rng(0)
    path = write_film(
        tmp_path / name,
        size=(160, 120),
        codec=codec,
        index_first=name == "first.mp4",
        picture=lambda _, size: noise.integers(0, 255, (size[1], size[0], 3), np.uint8),
    )
    data = path.read_bytes()
    assert len(data) > 3 * 2**15, "too small to be read in several pieces"
    info = probe(stored(data))
    for work in (probe, lambda source: numbers(source, info, range(info.num_frames))):
        opened: list[Faulty] = []
        work(stored(data, opened))
        num_reads = max(-file.countdown - 1 for file in opened)
        assert num_reads >= 3
        for failing_read in {*range(3), *np.linspace(0, num_reads - 1, 9, dtype=int).tolist()}:
            with pytest.raises(type(error)) as raised:
                work(stored(data, failing_read=failing_read, error=error))
            assert raised.value is error
    assert probe(path).num_frames == info.num_frames  # no error is left over for the next film


def test_what_opening_raises_comes_out_as_it_is():
    def refuse() -> io.BytesIO:
        raise PermissionError(errno.EACCES, "not your bucket")

    with pytest.raises(PermissionError, match="not your bucket"):
        probe(StoredFile("memory/film", 1000, refuse))


def test_a_disk_that_fails_is_not_a_bad_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_film(tmp_path / "film.mp4")
    stat = os.stat

    def failing(name, *args, **kwargs):
        if os.fspath(name) == os.fspath(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return stat(name, *args, **kwargs)

    monkeypatch.setattr(os, "stat", failing)
    with pytest.raises(OSError, match="Input/output error"):
        probe(path)


def test_too_little_memory_is_not_a_bad_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_film(tmp_path / "film.mp4")

    def refuse(*_args, **_options):
        raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(MemoryError, match=r"film\.mp4: more memory is needed"):
        probe(path)


# ----------------------------------------------------------------------------- what films name


@pytest.fixture
def server():
    """Listen on a port of this machine, and tell whether anybody came."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        yield listening


@pytest.mark.parametrize(
    "text",
    [
        HLS_HEAD + "#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
        HLS_HEAD + '#EXT-X-KEY:METHOD=AES-128,URI="http://127.0.0.1:{port}/key"\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n',
        "ffconcat version 1.0\nfile http://127.0.0.1:{port}/a.mp4\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>http://127.0.0.1:{port}/</BaseURL></MPD>',
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ts"])
def test_a_text_that_names_an_address_reaches_nobody(text: str, suffix: str, server: socket.socket, tmp_path: Path):
    path = tmp_path / f"film{suffix}"
    path.write_text(text.format(port=server.getsockname()[1]))
    for source in (path, stored(path.read_bytes())):
        with pytest.raises(UnreadableVideo):
            probe(source)
    with pytest.raises(TimeoutError):
        server.accept()


def test_an_address_as_a_name_is_a_file(server: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnreadableVideo, match="no such file"):
        probe(f"http://127.0.0.1:{server.getsockname()[1]}/film.mp4")
    with pytest.raises(TimeoutError):
        server.accept()

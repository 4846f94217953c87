"""torchcodec gives the frames that PyAV gives, whatever the form of the film, or says how it can be had."""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fourd import video
from fourd.media import UnreadableVideo
from fourd.media.opening import StoredFile
from tests.films import truncate, write_film
from tests.test_video import FORMS, numbers_in


def is_there() -> bool:
    try:
        return importlib.util.find_spec("torchcodec.decoders") is not None
    except (ImportError, RuntimeError, OSError):
        return False


PYAV_STANDS_IN = ("open-groups.ts", "ntsc.mpg")
needs_torchcodec = pytest.mark.skipif(not is_there(), reason="torchcodec, or FFmpeg's libraries, are not installed")


def test_where_it_is_missing_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    path = write_film(tmp_path / "film.mp4")
    with pytest.raises(ImportError, match=r"install one that suits this torch .* or choose decoder pyav"):
        video.decode(path, [0], video.probe(path), decoder="torchcodec")


def write(folder: Path, name: str) -> Path:
    return write_film(folder / name, **FORMS[name])


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Hold what is logged: that PyAV has to decode in torchcodec's place, among others."""
    caplog.set_level("WARNING", "fourd.media.torchcodec")
    return caplog


def compare(path: Path, indices: list[int], info: video.VideoInfo) -> tuple[float, float]:
    """Compare colours; give the largest and the mean difference in grey levels."""
    ours = video.decode(path, indices, info)
    theirs = video.decode(path, indices, info, decoder="torchcodec")
    assert ours.shape == theirs.shape
    difference = (ours.int() - theirs.int()).abs().float()
    return difference.max().item(), difference.mean().item()


@needs_torchcodec
@pytest.mark.parametrize("name", FORMS)
def test_frames_are_those_of_pyav(tmp_path: Path, name: str, told: pytest.LogCaptureFixture):
    path = write(tmp_path, name)
    info = video.probe(path)
    rng = np.random.default_rng(0)
    last = info.num_frames - 1
    for indices in ([0], [last], [last, 0, last], *(rng.integers(0, info.num_frames, 4).tolist() for _ in range(5))):
        assert numbers_in(video.decode(path, indices, info, decoder="torchcodec")) == numbers_in(
            video.decode(path, indices, info)
        )
        largest, mean = compare(path, indices, info)
        assert largest <= 3
        assert mean <= 0.4
    # where PyAV stands in, it was compared with itself: that shall be no more films than are known
    assert bool(told.messages) == (name in PYAV_STANDS_IN), told.messages


@needs_torchcodec
@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_turned_films_are_turned_once(tmp_path: Path, rotation: int, told: pytest.LogCaptureFixture):
    path = write_film(tmp_path / "film.mp4", rotation=rotation)
    assert compare(path, [3, 17], video.probe(path))[0] <= 3
    assert told.messages == []


@needs_torchcodec
def test_what_reading_raises_comes_out_as_it_is(tmp_path: Path):
    path = write_film(tmp_path / "film.mp4", 200)
    info = video.probe(path)
    opened = []

    class Broken(io.BufferedReader):
        def read(self, size: int | None = -1) -> bytes:
            if len(opened) > 1 and self.tell() > 0:
                raise OSError(5, "the disk is gone")
            return super().read(size)

    def open_again() -> io.BufferedReader:
        opened.append(1)
        return Broken(io.FileIO(path))

    with pytest.raises(OSError, match="the disk is gone"):
        video.decode(StoredFile("piece", path.stat().st_size, open_again), [150], info, decoder="torchcodec")


class Failing:
    def __init__(self, *_: object, **__: object) -> None:
        raise RuntimeError("no codec for this")


def test_where_torchcodec_fails_pyav_decodes_and_it_is_told(
    tmp_path: Path, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    path = write_film(tmp_path / "film.mp4")
    info = video.probe(path)
    monkeypatch.setattr("fourd.media.torchcodec._decoder_class", lambda: Failing)
    assert torch.equal(video.decode(path, [3], info, decoder="torchcodec"), video.decode(path, [3], info))
    assert told.messages == [f"torchcodec: {path}: no codec for this; PyAV decodes it"]


@needs_torchcodec
def test_bytes_are_decoded_as_the_file_is(tmp_path: Path):
    path = write_film(tmp_path / "film.mp4")
    info = video.probe(path)
    source = StoredFile("piece", path.stat().st_size, lambda: path.open("rb"))
    one, other = (video.decode(place, [3, 30], info, decoder="torchcodec") for place in (path, source))
    assert torch.equal(one, other)


@needs_torchcodec
def test_a_cut_film_gives_its_first_frames_and_says_what_is_wrong_with_the_rest(tmp_path: Path):
    whole = write_film(tmp_path / "whole.mp4", 120, index_first=True)
    info = video.probe(whole)
    path = truncate(whole, tmp_path / "cut.mp4", 0.6)
    assert numbers_in(video.decode(path, [0, 5, 20], info, decoder="torchcodec")) == [0, 5, 20]
    with pytest.raises(UnreadableVideo, match="cannot be decoded: damaged, or changed since"):
        video.decode(path, [119], info, decoder="torchcodec")


@needs_torchcodec
def test_a_playlist_is_refused_before_torchcodec_sees_it(tmp_path: Path):
    film = write_film(tmp_path / "film.mp4")
    info = video.probe(film)
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1.0,\n{film}\n#EXT-X-ENDLIST\n")
    with pytest.raises(UnreadableVideo):
        video.decode(playlist, [0], info, decoder="torchcodec")

"""What an MP4 claims is read from its boxes, wherever they lie, and sound that costs nothing counts for nothing."""

from __future__ import annotations

import errno
import io
import os
import struct
from pathlib import Path

import av
import pytest

from fourd.media import StoredFile, UnreadableVideo, limits, probe
from fourd.media.boxes import boxes, claims, is_cut_matroska
from fourd.media.opening import open_film
from tests.damaged_films import overwrite, write_fragments, write_with_sound
from tests.films import truncate, write_film


def box(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def claimed_by(data: bytes) -> tuple[int, int]:
    return claims(io.BytesIO(data), len(data))


def test_boxes_are_found_by_32_and_64_bit_sizes_and_to_the_end():
    data = box(b"ftyp", b"isom") + struct.pack(">I4sQ", 1, b"mdat", 20) + b"data" + struct.pack(">I4s", 0, b"free")
    found = [(box.name, box.start, box.stop) for box in boxes(io.BytesIO(data), len(data))]
    assert found == [(b"ftyp", 8, 12), (b"mdat", 28, 32), (b"free", 40, 40)]


@pytest.mark.parametrize("data", [b"", b"1234567", b"no film at all", bytes(100), box(b"moov") * 3, box(b"stsz")])
def test_what_holds_no_samples_claims_none(data: bytes):
    assert claimed_by(data) == (0, 0)


def test_frames_are_counted(tmp_path: Path):
    film = write_film(tmp_path / "film.mp4")
    with av.open(str(film)) as container:
        largest = max(packet.size for packet in container.demux(video=0))
    assert claimed_by(film.read_bytes()) == (40, largest)
    assert claimed_by(write_fragments(tmp_path / "fragments.mp4").read_bytes())[0] == 40


def test_tracks_and_fragments_are_added_up():
    film = box(b"moov", box(b"trak", box(b"stsz", bytes(4) + struct.pack(">II", 9, 3))) * 2)
    fragment = box(b"moof", box(b"traf", box(b"trun", bytes(4) + struct.pack(">I", 5))))
    assert claimed_by(film + fragment * 2) == (3 * 2 + 5 * 2, 9)


def test_uncompressed_sound_counts_for_nothing_but_compressed_sound_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_with_sound(plain := tmp_path / "plain.mov")
    assert claimed_by(plain.read_bytes())[0] == 25
    monkeypatch.setattr(limits, "MAX_SAMPLES", 1000)
    info = probe(plain)
    assert (info.num_frames, info.has_sound, info.damage) == (25, True, None)
    write_with_sound(packed := tmp_path / "packed.mov", "aac")
    assert 25 + 40 < claimed_by(packed.read_bytes())[0] < 25 + 60


def test_a_film_that_calls_itself_sound_is_counted(tmp_path: Path):
    film = bytearray(write_film(tmp_path / "film.mp4").read_bytes())
    assert claimed_by(bytes(overwrite((b"vide", -4, b"soun"))(film)))[0] == 40


def test_a_matroska_file_without_its_end_is_found(tmp_path: Path):
    whole = write_film(tmp_path / "film.mkv")
    for path, is_cut in ((whole, False), (truncate(whole, tmp_path / "cut.mkv"), True)):
        with path.open("rb") as file:
            assert is_cut_matroska(file, path.stat().st_size) == is_cut
    assert not is_cut_matroska(io.BytesIO(b"no film at all"), 14)


# ----------------------------------------------------------------------------- films that mean harm, disks that fail

CLAIMING = box(b"moov", box(b"trak", box(b"stsz", bytes(4) + struct.pack(">II", 9, 2**32 - 1))))


@pytest.mark.parametrize("count", [0, 65_535, 65_536])
def test_no_number_of_boxes_before_it_hides_what_is_claimed(count: int):
    assert claimed_by(box(b"ftyp") + box(b"free") * count + CLAIMING) == (2**32 - 1, 9)


@pytest.mark.parametrize("parents", [(), (b"moov",), (b"moov", b"trak"), (b"moov", b"trak", b"mdia", b"minf")])
def test_a_film_of_too_many_boxes_is_refused_after_a_bounded_number_of_reads(
    parents: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(limits, "MAX_BOXES", 100)
    data = box(b"free") * 1000
    for parent in reversed(parents):
        data = box(parent, data) * 3
    reads: list[int] = []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            reads.append(1)
            return super().read(size)

    film = StoredFile("film.mp4", len(data) + len(CLAIMING), lambda: Counted(data + CLAIMING))
    with pytest.raises(UnreadableVideo, match=r"film\.mp4: more than 800 boxes"):
        probe(film)
    assert len(reads) < 1000


def test_a_disk_that_fails_while_boxes_are_read_names_the_film(tmp_path: Path):
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match=r"Input/output error: 'deep/film\.mp4'"):
        probe(StoredFile("deep/film.mp4", 1000, Failing))


def test_what_goes_wrong_while_a_film_is_open_is_not_laid_to_the_film(tmp_path: Path):
    film = write_film(tmp_path / "film.mp4")
    with pytest.raises(OSError, match="No space left") as caught, open_film(film):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename is None

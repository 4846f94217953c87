"""What an MP4 claims is read from its boxes, wherever they lie, and sound that costs nothing counts for nothing."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import pytest

from fourd.media import limits, probe
from fourd.media.boxes import boxes, claims, is_cut_matroska
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

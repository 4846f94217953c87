"""Films that cost more than the limits are refused, by numbers that are the same on every machine."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from fourd.media import UnreadableVideo, decode_pictures, limits, probe
from fourd.media.boxes import boxes
from tests.films import write_film

ONE_KEY = {"gop": 250, "options": {"sc_threshold": "0"}}


def test_a_film_of_too_many_packets_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_film(tmp_path / "film.mkv")
    monkeypatch.setattr(limits, "MAX_PACKETS", 39)
    with pytest.raises(UnreadableVideo, match="more than 39 packets"):
        probe(path)
    monkeypatch.setattr(limits, "MAX_PACKETS", 40)
    assert probe(path).num_frames == 40


def test_an_mp4_that_claims_too_much_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_film(tmp_path / "film.mp4")
    monkeypatch.setattr(limits, "MAX_SAMPLES", 39)
    with pytest.raises(UnreadableVideo, match="claims 40 pieces of picture and sound: expected 39 at most"):
        probe(path)


def test_a_film_of_which_much_is_hidden_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_film(tmp_path / "cut.mp4", first_s=-0.52)
    assert probe(path).num_frames == 27
    monkeypatch.setattr(limits, "MAX_HIDDEN_PACKETS", 0)
    with pytest.raises(UnreadableVideo, match="hides more than 0 frames: encode it again"):
        probe(path)


def test_too_large_a_packet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "MAX_PACKET_BYTES", 300)
    with pytest.raises(UnreadableVideo, match=r"a packet of \d+ bytes: expected at most 300"):
        probe(write_film(tmp_path / "film.mp4"))


def test_frames_far_behind_their_key_frame_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_film(tmp_path / "film.mp4", 120, **ONE_KEY)
    info = probe(path)
    monkeypatch.setattr(limits, "MAX_DECODED_PIXELS", 100 * 64 * 48)
    assert len(list(decode_pictures(path, np.array([0, 100]), info, 1))) == 2
    assert len(list(decode_pictures(path, np.arange(120), info, 1))) == 120  # a whole film goes frame by frame
    with pytest.raises(UnreadableVideo, match="frame 101 of 120 is 101 frames of 64x48 behind its key frame"):
        list(decode_pictures(path, np.array([101, 102]), info, 1))


def test_a_film_that_is_too_long_to_be_counted_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_film(tmp_path / "film.avi", codec="mpeg4")
    assert probe(path).counted
    monkeypatch.setattr(limits, "MAX_DECODED_PIXELS", 39 * 64 * 48)
    with pytest.raises(UnreadableVideo, match="too long to count"):
        probe(path)


def test_boxes_without_end_are_not_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(limits, "MAX_BOXES", 100)
    path = tmp_path / "boxes"
    path.write_bytes(struct.pack(">I4s", 8, b"free") * 1000)
    with path.open("rb") as file:
        assert len(list(boxes(file, 8000))) == 100


def test_gigabytes_of_nothing_behind_a_film_need_no_memory(tmp_path: Path):
    path = write_film(tmp_path / "film.mp4")
    with path.open("r+b") as file:
        file.truncate(8 * 2**30)  # sparse
    assert probe(path).num_frames == 40


def test_a_film_of_many_years_is_refused_and_one_of_months_is_not(tmp_path: Path):
    day = 86400.0
    assert probe(write_film(tmp_path / "months.mkv", times_s=[0.0, 100 * day, 200 * day], b_frames=0)).num_frames == 3
    years = write_film(tmp_path / "years.mkv", times_s=[0.0, 1.0, 1000 * day], b_frames=0)
    with pytest.raises(UnreadableVideo, match="its time stamps span 1000 days: expected at most 366"):
        probe(years)

"""What an index of pieces says of them is what is in them."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest

from fourd.datasets.video_shards import tiny
from fourd.index.pieces import Piece, Timing
from fourd.media import StoredFile, probe

TIMING = Timing("h264", Fraction(1, 12800), 1024, 4)
PIECE = Piece("a-0", "a", "shards/train-0.tar", 512, 1000, 7, 456, 256, 10, 30.0)


def test_a_timing_is_written_as_text_and_read_again():
    assert all(isinstance(value, str) for value in TIMING.metadata().values())
    assert Timing.from_metadata(TIMING.metadata()) == TIMING


@pytest.mark.parametrize("name", ["codec", "time_base", "frame_ticks", "gop"])
def test_missing_metadata_is_told_with_its_name(name: str):
    metadata = TIMING.metadata()
    del metadata[name]
    with pytest.raises(
        ValueError, match=rf"train.parquet does not say how its frames are spaced \(KeyError\('{name}'\)"
    ):
        Timing.from_metadata(metadata, "train.parquet")


@pytest.mark.parametrize(
    "change", [{"time_base": "1/0"}, {"time_base": "-1/25"}, {"gop": "0"}, {"frame_ticks": "x"}, {"frame_ticks": "-1"}]
)
def test_impossible_metadata_is_refused(change: dict[str, str]):
    with pytest.raises(ValueError, match=r"train\.parquet.*(make it again|above 0)"):
        Timing.from_metadata(TIMING.metadata() | change, "train.parquet")


def test_frames_are_evenly_spaced():
    info = TIMING.describe(PIECE)
    assert (info.width, info.height, info.num_frames) == (456, 256, 10)
    np.testing.assert_allclose(info.frame_times_s, np.arange(10) / 12.5)
    assert info.keyframes.tolist() == [0, 4, 8]


def test_a_piece_is_described_as_a_look_into_it_describes_it():
    dataset = tiny().build()
    for number in range(len(dataset)):
        piece = dataset.piece(number)
        data = dataset._bytes(piece)
        seen = probe(StoredFile(piece.key, len(data), lambda data=data: io.BytesIO(data)))
        told = Timing.from_metadata(dataset._table.metadata).describe(piece)
        np.testing.assert_allclose(told.frame_times_s, seen.frame_times_s)
        assert told.keyframes.tolist() == seen.keyframes.tolist()
        assert (told.width, told.height, told.rotation, told.codec) == (seen.width, seen.height, 0, seen.codec)

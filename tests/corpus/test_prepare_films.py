import dataclasses
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from fourd.corpus.prepare.encode import PieceRow, SpanJob, encode_span
from fourd.corpus.prepare.plan import spans_of
from fourd.index.build import sample_sha256
from fourd.index.films import Film
from tests.corpus.small_corpus import SMALL, film_at, pictures_of
from tests.films import numbered_picture, read_number, write_film

WHOLE = dataclasses.replace(SMALL, piece_s=None)


@dataclass(frozen=True)
class Encoded:
    rows: tuple[PieceRow, ...]
    pictures: list[list[np.ndarray]]

    @property
    def numbers(self) -> list[list[int]]:
        return [[read_number(picture) for picture in piece] for piece in self.pictures]


def encoded(film: Film, path: Path, config=WHOLE, **values) -> Encoded:
    """Encode a film, as a worker does."""
    config = dataclasses.replace(config, **values)
    (span,) = spans_of(film, config)
    rows = encode_span(SpanJob(str(path.parent), span, config, path.with_suffix(".span"))).rows
    content = path.with_suffix(".span").read_bytes()
    pieces = [content[row.offset : row.offset + row.num_bytes] for row in rows if row.num_bytes]
    return Encoded(rows, [pictures_of(piece) for piece in pieces])


def test_frames_of_a_variable_rate_are_found_by_their_times(tmp_path):
    times_s = [0, 0.04, 0.08, 0.12, 0.5, 0.54, 0.58, 0.62, 0.66, 1.2, 1.24, 1.28]
    film = write_film(tmp_path / "a.mkv", len(times_s), times_s=times_s)
    nearest = [int(np.abs(np.array(times_s) - number * 0.08).round(9).argmin()) for number in range(17)]
    assert encoded(film_at(film), film).numbers == [nearest]


def test_a_slow_film_repeats_frames_and_a_fast_one_leaves_some_out(tmp_path):
    slow, fast = write_film(tmp_path / "slow.mp4", 8, fps=5), write_film(tmp_path / "fast.mp4", 120, fps=60)
    assert encoded(film_at(slow), slow, fps=10.0).numbers == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7]]
    assert encoded(film_at(fast), fast, fps=10.0).numbers == [list(range(0, 120, 6))]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_pictures_are_stored_upright(tmp_path, rotation):
    stands = rotation % 180 != 0

    def lying(index, size):
        return np.rot90(numbered_picture(index, size[::-1] if stands else size), -rotation // 90)

    film = write_film(tmp_path / "a.mp4", 30, size=(96, 64), rotation=rotation, picture=lying)
    found = encoded(film_at(film), film, short_side=48)
    assert (found.rows[0].width, found.rows[0].height) == ((48, 72) if stands else (72, 48))
    assert found.numbers == [list(range(0, 30, 2))]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 360), (114, 64)), ((360, 640), (64, 114)), ((66, 36), (66, 36)), ((34, 258), (34, 258))],
)
def test_the_short_side_is_brought_to_its_size_and_never_enlarged(tmp_path, size, expected):
    film = write_film(tmp_path / "a.mp4", 15, size=size)
    found = encoded(film_at(film), film, short_side=64)
    assert (found.rows[0].width, found.rows[0].height) == expected
    assert found.pictures[0][0].shape == (expected[1], expected[0], 3)


def test_odd_sizes_lose_a_line_at_most(tmp_path):
    film = write_film(tmp_path / "a.mp4", 15, size=(67, 49), pix_fmt="yuv444p")
    row = encoded(film_at(film), film).rows[0]
    assert (row.width, row.height) == (66, 48)


@pytest.mark.parametrize("colours", [(1, 1, "yuv420p"), (2, 2, "yuv420p"), (2, 1, "yuv444p10le"), (1, 2, "yuv422p")])
def test_colours_survive_whatever_the_film_stores_them_in(tmp_path, colours):
    film = _two_colours(tmp_path / "a.mp4", *colours)
    picture = encoded(film_at(film), film, crf=10).pictures[0][3].astype(int)
    assert np.abs(picture[24, 10] - (200, 40, 30)).max() < 8
    assert np.abs(picture[24, 50] - (30, 120, 220)).max() < 8


def _two_colours(path, space, extent, pix_fmt):
    """Write red beside blue, in a matrix (1 is BT.709), a range (2 is full) and a format."""
    drawn = np.empty((48, 64, 3), np.uint8)
    drawn[:, :32], drawn[:, 32:] = (200, 40, 30), (30, 120, 220)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        stream.codec_context.colorspace, stream.codec_context.color_range = space, extent
        for index in range(15):
            frame = av.VideoFrame.from_ndarray(drawn, "rgb24")
            frame = frame.reformat(format=pix_fmt, dst_colorspace=space, dst_color_range=extent)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_damage_within_a_film_ends_its_use_and_what_came_before_is_kept(tmp_path):
    path = write_film(tmp_path / "a.mp4", 100, gop=25, b_frames=0)
    film = film_at(path)
    _spoil(path, frame=44)
    film = dataclasses.replace(film, fingerprint=sample_sha256(str(path), film.num_bytes))
    found = encoded(film, path, SMALL)
    assert [row.num_bytes > 0 for row in found.rows] == [True, True, False, False]
    assert found.numbers == [list(range(0, 26, 2)), list(range(25, 44, 2))]
    assert all("of 100 cannot be decoded" in row.unusable for row in found.rows[1:])


def _spoil(path, frame):
    """Put bytes that are no H.264 in the place of a frame."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][frame]
        place, size = packet.pos, packet.size
    content = bytearray(path.read_bytes())
    content[place : place + size] = b"\xff" * size
    path.write_bytes(content)


def test_a_film_whose_first_frame_is_damaged_is_listed_and_nothing_else(tmp_path):
    path = write_film(tmp_path / "a.mp4", 60, gop=100, b_frames=0)
    film = film_at(path)
    _spoil(path, frame=0)
    film = dataclasses.replace(film, fingerprint=sample_sha256(str(path), film.num_bytes))
    found = encoded(film, path, SMALL)
    assert not found.pictures
    assert all(row.unusable or row.dropped for row in found.rows)


def test_a_piece_without_a_single_frame_is_listed_however_short_pieces_may_be(tmp_path):
    path = write_film(tmp_path / "a.mp4", 60, gop=100, b_frames=0)
    film = film_at(path)
    _spoil(path, frame=0)
    film = dataclasses.replace(film, fingerprint=sample_sha256(str(path), film.num_bytes))
    found = encoded(film, path, SMALL, min_piece_s=0.0)
    assert not found.pictures
    assert all(row.unusable for row in found.rows)


def test_the_same_film_gives_the_same_bytes(tmp_path):
    path = write_film(tmp_path / "a.mp4", 60)
    encoded(film_at(path), path)
    first = path.with_suffix(".span").read_bytes()
    encoded(film_at(path), path)
    assert path.with_suffix(".span").read_bytes() == first

"""Windows come in order, a few ahead; images are read upright, or it is said why not."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fourd.extraction.config import ExtractConfig
from fourd.extraction.inputs import find_inputs
from fourd.extraction.reading import End, Piece, ahead, read_all
from tests.extraction.small import backbone, film


def test_reading_ahead_keeps_order_and_a_bound():
    made = []

    def numbers():
        for number in range(50):
            made.append(number)
            yield number

    for taken, number in enumerate(ahead(numbers(), 4)):
        assert number == taken
        assert len(made) <= taken + 1 + 4 + 1
    assert made == list(range(50))


def test_reading_ahead_runs_while_the_taker_works():
    started = threading.Event()

    def items():
        yield threading.get_ident()
        started.set()
        yield 0

    taken = ahead(items(), 2)
    assert next(taken) != threading.get_ident()
    assert started.wait(5)


def test_an_error_while_reading_ahead_reaches_the_taker_in_its_place():
    def items():
        yield 1
        raise OSError("broken")

    taken = ahead(items(), 3)
    assert next(taken) == 1
    with pytest.raises(OSError, match="broken"):
        next(taken)


def test_leaving_early_ends_the_thread_and_closes_what_is_read():
    closed = []

    def items():
        try:
            while True:
                time.sleep(0.001)
                yield 0
        finally:
            closed.append(True)

    before = threading.active_count()
    taken = ahead(items(), 3)
    next(taken)
    taken.close()
    assert closed == [True]
    assert threading.active_count() == before


def read(path: Path, **options):
    """Read one input to its end."""
    (source,), _ = find_inputs([path], path.parent / "out")
    config = ExtractConfig(num_frames=4, **options)
    *pieces, end = read_all([source], config, backbone().native_input, 1)
    assert isinstance(end, End)
    return pieces, end


def test_an_input_gives_its_windows_and_then_its_end(tmp_path: Path):
    pieces, end = read(film(tmp_path / "a.mp4", 10), overlap=2)
    assert all(isinstance(piece, Piece) for piece in pieces)
    assert [piece.window.first_step for piece in pieces] == [0, 2, 3, 4][: len(pieces)]
    assert sum(piece.window.num_kept for piece in pieces) == 5
    assert pieces[0].window.clip.shape == (4, 3, 32, 32)
    assert (end.num_frames, end.problem) == (10, None)


def test_times_without_a_frame_are_told(tmp_path: Path):
    pieces, end = read(film(tmp_path / "a.mp4", 10), start_s=5.0)
    assert pieces == []
    assert end.problem == "no frame between start_s 5.0 and end_s None: the video lasts 0.400 s"


PICTURE = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)


def image_window(path: Path) -> torch.Tensor:
    """Read the one window of an image."""
    (piece,), end = read(path)
    assert (end.num_frames, end.problem) == (1, None)
    assert (piece.window.first_step, piece.window.kept, piece.chosen.times_s.tolist()) == (0, slice(0, 1), [0.0])
    assert (piece.window.clip == piece.window.clip[:1]).all()
    return piece.window.clip[0].permute(1, 2, 0)


def test_an_image_is_a_video_of_one_frame(tmp_path: Path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    assert torch.equal(image_window(tmp_path / "a.png"), torch.from_numpy(PICTURE))


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK"])
def test_images_of_other_kinds_come_in_rgb(mode: str, tmp_path: Path):
    image = Image.fromarray(PICTURE).convert(mode)
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    image.save(path)
    np.testing.assert_array_equal(image_window(path).numpy(), np.array(image.convert("RGB")))


def test_an_image_that_is_stored_turned_comes_upright(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(PICTURE).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(image_window(tmp_path / "a.png").numpy(), np.rot90(PICTURE, -1))


def bad_image(kind: str, path: Path) -> Path:
    """Make an image that is not read."""
    if kind == "text":
        path.write_text("no image")
    elif kind == "16 bits":
        Image.fromarray(np.zeros((8, 8), np.uint16)).save(path)
    elif kind == "animated":
        frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (0, 90)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    elif kind == "cut":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:4000])
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("text", "not an image, or its header is damaged"),
        ("16 bits", "pixels of kind I;16: expected 8 bits per colour"),
        ("animated", "an image of several frames: make a video of it"),
        ("cut", "cannot be read: "),
    ],
)
def test_an_image_that_cannot_be_read_says_why(kind: str, reason: str, tmp_path: Path):
    pieces, end = read(bad_image(kind, tmp_path / "a.png"))
    assert (pieces, end.num_frames) == ([], 0)
    assert end.problem.startswith(reason)


def test_an_image_of_too_many_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fourd.extraction.reading.MAX_PIXELS", 1000)
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png")[1].problem == "32x32 pixels: expected 1 to 1000 in all"

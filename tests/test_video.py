"""Films of every form give the frames that reading them from their start gives, and bad files say what is wrong."""

from __future__ import annotations

import os
import pickle
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fourd import video
from fourd.media import frames as media_frames
from fourd.media import limits
from fourd.video import CropBox, UnreadableVideo
from tests.films import hide_vp8_frame, numbered_picture, read_number, truncate, write_film, write_sound

UNEVEN_S = np.cumsum([0.0, *np.random.default_rng(3).uniform(0.01, 0.2, 39)])
ONE_KEY = {"gop": 250, "options": {"sc_threshold": "0"}}
FORMS = {
    "constant.mp4": {},
    "variable.mp4": {"times_s": UNEVEN_S},
    "variable.mkv": {"times_s": UNEVEN_S},
    "variable-vp9.webm": {"times_s": UNEVEN_S, "codec": "libvpx-vp9"},
    "one-key-frame.mp4": {"num_frames": 120, **ONE_KEY},
    "only-key-frames.mp4": {"gop": 1},
    "short-groups.mp4": {"gop": 3},
    "open-groups.ts": {"options": {"x264-params": "open-gop=1:keyint=10:bframes=3"}},
    "odd-size-444.mp4": {"size": (33, 17), "pix_fmt": "yuv444p"},
    "vp8.webm": {"codec": "libvpx", "b_frames": 0},
    "reordered.avi": {"codec": "mpeg4"},
    "plain.avi": {"codec": "mpeg4", "b_frames": 0},
    "ntsc.mpg": {"codec": "mpeg2video", "fps": 30000 / 1001},
    "high-dynamic-range.mp4": {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": "log-level=0"}},
    "single.mp4": {"num_frames": 1},
}


def read_from_start(path: Path) -> list[np.ndarray]:
    """Read a film from start to end, without seeking."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def numbers_in(clip: torch.Tensor) -> list[int]:
    """Read the numbers of frames, T 3 H W."""
    return [read_number(frame.permute(1, 2, 0).numpy()) for frame in clip]


# ----------------------------------------------------------------------------- exact frames


@pytest.mark.parametrize("name", FORMS)
def test_any_order_of_frames_is_exact(name: str, tmp_path: Path):
    codec = FORMS[name].get("codec", "libx264")
    if codec not in av.codec.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    path = write_film(tmp_path / name, **FORMS[name])
    expected = read_from_start(path)
    assert [read_number(picture) for picture in expected] == list(range(len(expected)))
    info = video.probe(path)
    assert info.num_frames == len(expected) == FORMS[name].get("num_frames", 40)
    assert (info.width, info.height) == FORMS[name].get("size", (64, 48))
    rng = np.random.default_rng(0)
    last = info.num_frames - 1
    for indices in ([0], [last], [last, 0, last], *(rng.integers(0, info.num_frames, 4) for _ in range(5))):
        clip = video.decode(path, indices, info)
        for index, frame in zip(indices, clip, strict=True):
            np.testing.assert_array_equal(frame.permute(1, 2, 0).numpy(), expected[index])


@pytest.mark.parametrize(
    ("name", "expected_s"),
    [
        ("variable.mp4", UNEVEN_S),
        ("variable.mkv", UNEVEN_S),
        ("constant.mp4", np.arange(40) / 25),
        ("reordered.avi", np.arange(40) / 25),
        ("ntsc.mpg", np.arange(40) * 1001 / 30000),
    ],
)
def test_frame_times_are_those_that_were_written(name: str, expected_s: np.ndarray, tmp_path: Path):
    info = video.probe(write_film(tmp_path / name, **FORMS[name]))
    np.testing.assert_allclose(info.frame_times_s, expected_s, atol=0.6e-3)  # Matroska keeps milliseconds
    assert info.duration_s == pytest.approx(2 * expected_s[-1] - expected_s[-2], abs=2e-3)


def test_threads_change_nothing(tmp_path: Path):
    path = write_film(tmp_path / "film.mp4")
    info = video.probe(path)
    assert torch.equal(video.decode(path, range(40), info, num_threads=2), video.decode(path, range(40), info))


def test_jumps_over_key_frames_instead_of_decoding_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_film(tmp_path / "film.mp4", 200, gop=10, options={"sc_threshold": "0"})
    info = video.probe(path)
    assert info.keyframes.tolist() == list(range(0, 200, 10))
    decoded = []
    monkeypatch.setattr(media_frames, "decoded", counting(media_frames.decoded, decoded))
    assert numbers_in(video.decode(path, [3, 105, 191], info)) == [3, 105, 191]
    assert len(decoded) <= 4 + 6 + 2


def counting(decode, decoded: list):
    def counted(*args):
        for frame in decode(*args):
            decoded.append(frame)
            yield frame

    return counted


def test_a_file_that_cannot_seek_is_read_from_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_film(tmp_path / "film.mp4", 60)
    info = video.probe(path)
    packets_from = media_frames._packets_from
    monkeypatch.setattr(
        media_frames,
        "_packets_from",
        lambda container, stream, start: [] if start else packets_from(container, stream, None),
    )
    assert numbers_in(video.decode(path, [50, 20], info)) == [50, 20]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_film_comes_upright(rotation: int, tmp_path: Path):
    as_stored = read_from_start(write_film(tmp_path / "stored.mp4", 3))
    path = write_film(tmp_path / "turned.mp4", 3, rotation=rotation)
    info = video.probe(path)
    assert (info.rotation, info.width, info.height) == (rotation, *((64, 48) if rotation == 180 else (48, 64)))
    for frame, stored in zip(video.decode(path, range(3), info), as_stored, strict=True):
        np.testing.assert_array_equal(frame.permute(1, 2, 0).numpy(), np.rot90(stored, rotation // 90))


def test_the_matrix_of_a_phone_held_upright_turns_clockwise(tmp_path: Path):
    """QuickTime maps (x, y) to (a x + c y, b x + d y): a=0 b=1 c=-1 d=0 sends the picture's right to the bottom."""

    def red_at_the_right(index: int, size: tuple[int, int]) -> np.ndarray:
        picture = numbered_picture(0, size)
        picture[:, -size[0] // 4 :] = (255, 0, 0)
        return picture

    path = write_film(tmp_path / "phone.mp4", 2, rotation=270, picture=red_at_the_right)
    film = path.read_bytes()
    header = film.index(b"tkhd") + 4
    matrix = np.frombuffer(film[header + 40 : header + 76], ">i4").reshape(3, 3)[:2, :2] / 65536
    assert matrix.tolist() == [[0, 1], [-1, 0]]
    upright = video.decode(path, [0], video.probe(path))[0]
    red = (upright[0].int() - upright[1].int()) > 100
    assert red[-8:].all()
    assert not red[:8].any()


def test_frames_hidden_by_an_edit_list_do_not_count(tmp_path: Path):
    path = write_film(tmp_path / "cut.mp4", first_s=-0.52)
    info = video.probe(path)
    assert info.num_frames == 27
    assert numbers_in(video.decode(path, [0, 9, 26], info)) == [13, 22, 39]


def test_hidden_vp8_frames_do_not_count(tmp_path: Path):
    path = hide_vp8_frame(write_film(tmp_path / "film.webm", codec="libvpx", b_frames=0), 5)
    info = video.probe(path)
    assert info.num_frames == 39
    assert numbers_in(video.decode(path, [4, 5, 6], info)) == [4, 6, 7]


@pytest.mark.parametrize("indices", [[40], [-1], []])
def test_frames_that_are_not_there_are_refused(indices: list[int], tmp_path: Path):
    path = write_film(tmp_path / "film.mp4")
    with pytest.raises(IndexError, match="expected 0 to 39"):
        video.decode(path, indices, video.probe(path))


# ----------------------------------------------------------------------------- one frame after the other


@pytest.mark.parametrize("name", FORMS)
def test_a_stream_gives_what_decoding_gives(name: str, tmp_path: Path):
    codec = FORMS[name].get("codec", "libx264")
    if codec not in av.codec.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    path = write_film(tmp_path / name, **FORMS[name])
    info = video.probe(path)
    rng = np.random.default_rng(0)
    for indices in (range(info.num_frames), sorted(rng.integers(0, info.num_frames, 6).tolist()), [0, 0, 0]):
        streamed = torch.stack(list(video.stream(path, indices, info)))
        assert torch.equal(streamed, video.decode(path, indices, info))


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_film_streams_upright(rotation: int, tmp_path: Path):
    path = write_film(tmp_path / "turned.mp4", 5, rotation=rotation)
    info = video.probe(path)
    streamed = torch.stack(list(video.stream(path, range(5), info, num_threads=2)))
    assert torch.equal(streamed, video.decode(path, range(5), info))


def test_a_stream_decodes_each_frame_once_and_jumps_where_that_is_cheaper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_film(tmp_path / "film.mp4", 200, gop=10, options={"sc_threshold": "0"})
    info = video.probe(path)
    decoded = []
    monkeypatch.setattr(media_frames, "decoded", counting(media_frames.decoded, decoded))
    assert len(list(video.stream(path, range(200), info))) == 200
    assert len(decoded) == 200
    decoded.clear()
    assert numbers_in(torch.stack(list(video.stream(path, [3, 3, 105, 191], info)))) == [3, 3, 105, 191]
    assert len(decoded) <= 4 + 6 + 2


def test_a_stream_holds_few_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_film(tmp_path / "film.mp4", 120, **ONE_KEY)
    info = video.probe(path)
    decoded = []
    monkeypatch.setattr(media_frames, "decoded", counting(media_frames.decoded, decoded))
    for number, _ in enumerate(video.stream(path, range(120), info)):
        assert len(decoded) <= number + 1, "a frame was decoded before it was asked for"


def test_a_stream_that_is_left_early_closes_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_film(tmp_path / "film.mp4")
    info = video.probe(path)
    opened = []

    @contextmanager
    def noted(path, open_film=media_frames.open_film):
        with open_film(path) as container:
            opened.append(container)
            yield container

    monkeypatch.setattr(media_frames, "open_film", noted)
    frames = video.stream(path, range(40), info)
    next(frames)
    frames.close()
    with pytest.raises(AssertionError, match="Container is not open"):
        next(opened[0].demux())


def test_frames_that_come_in_a_wrong_order_are_put_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_film(tmp_path / "film.mp4", 40)
    info = video.probe(path)
    decoded = media_frames.decoded

    def swapped(*args):
        frames = list(decoded(*args))
        for pair in range(0, len(frames) - 4, 4):
            frames[pair], frames[pair + 3] = frames[pair + 3], frames[pair]
        yield from frames

    monkeypatch.setattr(media_frames, "decoded", swapped)
    assert numbers_in(torch.stack(list(video.stream(path, range(40), info)))) == list(range(40))


def test_a_stream_ends_at_the_first_frame_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_film(tmp_path / "film.mp4", 60, gop=10, options={"sc_threshold": "0"})
    info = video.probe(path)
    decoded = media_frames.decoded

    def without_25(*args):
        yield from (frame for frame in decoded(*args) if frame.pts != info.pts[25])

    monkeypatch.setattr(media_frames, "decoded", without_25)
    got = []
    with pytest.raises(UnreadableVideo, match="frame 25 of 60 cannot be decoded"):
        got.extend(frame.clone() for frame in video.stream(path, range(60), info))
    # extend keeps what came before the error
    assert numbers_in(torch.stack(got)) == list(range(25))


def test_a_stream_of_a_file_that_cannot_seek_is_read_from_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_film(tmp_path / "film.mp4", 60)
    info = video.probe(path)
    packets_from = media_frames._packets_from
    monkeypatch.setattr(
        media_frames,
        "_packets_from",
        lambda container, stream, start: [] if start else packets_from(container, stream, None),
    )
    assert numbers_in(torch.stack(list(video.stream(path, [20, 50], info)))) == [20, 50]


def test_frames_that_cannot_be_streamed_are_refused_at_once(tmp_path: Path):
    path = write_film(tmp_path / "film.mp4")
    info = video.probe(path)
    with pytest.raises(IndexError, match="expected 0 to 39"):
        video.stream(path, [0, 40], info)
    with pytest.raises(ValueError, match="go backwards"):
        video.stream(path, [4, 3], info)


# ----------------------------------------------------------------------------- bad files


def bad_file(kind: str, folder: Path) -> Path:
    """Make a file that is no readable film."""
    path = folder / "film.mp4"
    if kind in {"text", "playlist", "concat"}:
        text = {
            "playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.ts\n",
            "concat": "ffconcat version 1.0\nfile other.mp4\n",
        }
        write_film(folder / "other.ts")
        write_film(folder / "other.mp4")
        path = path.with_suffix(".m3u8") if kind == "playlist" else path
        path.write_text(text.get(kind, "This is no film.\n" * 20))
    elif kind == "empty":
        path.touch()
    elif kind == "picture":
        Image.new("RGB", (64, 48)).save(path, format="png")
    elif kind == "sound":
        write_sound(path)
    elif kind == "cut before its index":
        truncate(write_film(folder / "whole.mp4"), path)
    elif kind == "cut at once":
        truncate(write_film(folder / "whole.mp4", index_first=True), path, share=0.01)
    elif kind == "mirrored":
        write_film(path, mirrored=True)
    elif kind == "aslant":
        write_film(path, rotation=30)
    elif kind == "folder":
        path.mkdir()
    return path


REASONS = {
    "text": "not a media file",
    "playlist": "not a media file",
    "concat": "not a film",
    "empty": "empty file (0 bytes)",
    "picture": "not a film",
    "sound": "no video stream (sound only)",
    "cut before its index": "truncated: the index (moov) at the end of the file is missing",
    "cut at once": "no frame intact",
    "mirrored": "mirrored",
    "aslant": "only quarter turns",
    "folder": "not a regular file",
    "missing": "no such file",
}


@pytest.mark.parametrize("kind", REASONS)
def test_a_bad_file_says_what_is_wrong(kind: str, tmp_path: Path):
    path = bad_file(kind, tmp_path)
    with pytest.raises(UnreadableVideo) as caught:
        video.probe(path)
    assert REASONS[kind] in caught.value.reason
    assert caught.value.path == str(path)
    again = pickle.loads(pickle.dumps(caught.value))  # as it comes from a worker process
    assert (again.path, again.reason, str(again)) == (caught.value.path, caught.value.reason, str(caught.value))


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="nothing is forbidden to root")
def test_a_forbidden_file_says_so(tmp_path: Path):
    path = write_film(tmp_path / "film.mp4")
    path.chmod(0)
    with pytest.raises(UnreadableVideo, match="permission denied"):
        video.probe(path)


def test_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_film(tmp_path / "film.mp4")
    monkeypatch.setattr(limits, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(UnreadableVideo, match="64x48 pixels: expected 1 to 3071"):
        video.probe(path)


@pytest.mark.parametrize("share", [0.15, 0.4, 0.6, 0.85])
def test_all_frames_before_a_cut_are_read(share: float, tmp_path: Path):
    whole = write_film(tmp_path / "whole.mp4", 60, index_first=True, b_frames=3)
    expected = read_from_start(whole)
    path = truncate(whole, tmp_path / "cut.mp4", share)
    info = video.probe(path)
    assert 0 < info.num_frames < 60
    assert info.damage == f"truncated or damaged: {info.num_frames} of 60 frames intact"
    with av.open(str(path)) as container:
        num_packets = sum(1 for packet in container.demux(video=0) if packet.size and not packet.is_corrupt)
    assert info.num_frames >= num_packets - 4  # all but what waits for a lost frame
    clip = video.decode(path, range(info.num_frames), info)
    for frame, picture in zip(clip, expected, strict=False):
        np.testing.assert_array_equal(frame.permute(1, 2, 0).numpy(), picture)


def test_a_cut_between_two_frames_is_noticed(tmp_path: Path):
    whole = write_film(tmp_path / "whole.mp4", index_first=True)
    with av.open(str(whole)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.size]
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: starts[21]])
    info = video.probe(path)
    assert info.damage is not None
    assert numbers_in(video.decode(path, range(info.num_frames), info)) == list(range(info.num_frames))


@pytest.mark.parametrize("name", ["film.webm", "film.mkv", "film.avi", "film.flv"])
def test_a_cut_film_in_another_container_is_read_to_the_cut(name: str, tmp_path: Path):
    codec = {"film.webm": "libvpx-vp9", "film.avi": "mpeg4"}.get(name, "libx264")
    path = truncate(write_film(tmp_path / f"whole-{name}", codec=codec, b_frames=0), tmp_path / name)
    info = video.probe(path)
    assert 10 <= info.num_frames <= 30
    assert numbers_in(video.decode(path, range(info.num_frames), info)) == list(range(info.num_frames))


def test_damage_in_the_middle_names_the_frame(tmp_path: Path):
    path = write_film(tmp_path / "film.mp4")
    info = video.probe(path)
    film = bytearray(path.read_bytes())
    film[len(film) // 2 - 300 : len(film) // 2] = bytes(300)
    path.write_bytes(film)
    assert numbers_in(video.decode(path, [0, 5], info)) == [0, 5]
    with pytest.raises(UnreadableVideo, match=r"frame \d+ of 40 cannot be decoded"):
        video.decode(path, range(40), info)


def test_a_film_that_became_another_is_noticed(tmp_path: Path):
    path = write_film(tmp_path / "film.mp4")
    info = video.probe(path)
    write_film(path, size=(32, 32))
    with pytest.raises(UnreadableVideo, match="from 64x48 to 32x32"):
        video.decode(path, [3], info)


@pytest.mark.parametrize("name", ["new\nline é 漢.mp4", "http:film.mp4", "per%03d.mp4", "concat:a|b.mp4", "-i.mp4"])
def test_any_name_is_a_local_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_film(tmp_path / "film.mp4", 3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert numbers_in(video.decode(name, [2], video.probe(name))) == [2]


# ----------------------------------------------------------------------------- clips


@given(st.integers(1, 80), st.integers(1, 16), st.integers(1, 5), st.integers(0, 99))
def test_strided_clips_fit(film_frames: int, num_frames: int, stride: int, seed: int):
    times_s = np.arange(film_frames) / 25
    rng = np.random.default_rng(seed)
    if film_frames < (num_frames - 1) * stride + 1:
        assert video.latest_clip_start(times_s, num_frames, stride=stride) == -1
        with pytest.raises(ValueError, match="too short"):
            video.clip_frame_indices(times_s, num_frames, rng, stride=stride)
        return
    indices = video.clip_frame_indices(times_s, num_frames, rng, stride=stride)
    assert len(indices) == num_frames
    assert (np.diff(indices) == stride).all()
    assert 0 <= indices[0] <= indices[-1] < film_frames


def test_every_start_is_drawn():
    starts = {video.clip_frame_indices(np.arange(10.0), 4, np.random.default_rng(s))[0] for s in range(200)}
    assert starts == {0, 1, 2, 3}


def test_a_clip_of_a_given_rate_follows_time():
    times_s = np.array([0.0, 0.1, 0.2, 0.25, 0.3, 0.4, 0.7, 0.8, 1.02])
    assert video.latest_clip_start(times_s, 5, fps=5.0) == 2  # 0.2 s + 4 / 5 s is before the end, 0.25 s is not
    rng = np.random.default_rng(0)
    starts = {0: [0, 2, 5, 6, 7], 1: [1, 4, 5, 6, 7], 2: [2, 5, 6, 7, 8]}
    drawn = {int(c[0]): c.tolist() for c in (video.clip_frame_indices(times_s, 5, rng, fps=5.0) for _ in range(50))}
    assert drawn == starts
    assert video.latest_clip_start(times_s, 7, fps=5.0) == -1


def test_half_the_rate_is_every_second_frame():
    times_s = np.arange(100) / 29.97
    rng, again = np.random.default_rng(5), np.random.default_rng(5)
    by_rate = video.clip_frame_indices(times_s, 16, rng, fps=29.97 / 2)
    np.testing.assert_array_equal(by_rate, video.clip_frame_indices(times_s, 16, again, stride=2))


# ----------------------------------------------------------------------------- crops


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 999))
def test_crops_lie_in_the_picture(height: int, width: int, seed: int):
    box = video.random_resized_crop(height, width, np.random.default_rng(seed))
    assert min(box.left, box.top) >= 0
    assert 1 <= box.width <= width - box.left
    assert 1 <= box.height <= height - box.top


def test_crops_keep_to_scale_and_ratio():
    rng = np.random.default_rng(0)
    boxes = [video.random_resized_crop(400, 400, rng, scale=(0.3, 0.5), ratio=(0.8, 1.25)) for _ in range(300)]
    areas = np.array([box.width * box.height / 400**2 for box in boxes])
    ratios = np.array([box.width / box.height for box in boxes])
    assert 0.29 < areas.min() < 0.32 < 0.48 < areas.max() < 0.51
    assert 0.79 < ratios.min() < 0.85 < 1.2 < ratios.max() < 1.27


def test_a_long_picture_falls_back_to_its_centre():
    box = video.random_resized_crop(10, 1000, np.random.default_rng(0), scale=(0.9, 1.0))
    assert box == video.center_crop(10, 1000, 1.33) == CropBox(493, 0, 13, 10)


def spot(x: int, y: int) -> torch.Tensor:
    """Draw a clip of one frame, 96x128, with a bright square of 8 pixels whose corner is at (x, y)."""
    frame = torch.zeros(1, 3, 96, 128, dtype=torch.uint8)
    frame[..., y : y + 8, x : x + 8] = 255
    return frame


def centroid_px(clip: torch.Tensor) -> torch.Tensor:
    """Find the centre of brightness, (x, y)."""
    weight = clip[0, 0].double()
    y, x = (torch.arange(n, dtype=torch.float64) + 0.5 for n in weight.shape)
    return torch.stack(((weight.sum(0) * x).sum(), (weight.sum(1) * y).sum())) / weight.sum()


@pytest.mark.parametrize("size", [(64, 64), (40, 24), (150, 200)])
def test_points_and_boxes_move_with_the_pixels(size: tuple[int, int]):
    clip, box = spot(40, 30), CropBox(17, 9, 80, 61)
    point, corners = torch.tensor([44.0, 34.0]), torch.tensor([40.0, 30.0, 48.0, 38.0])
    moved = video.crop_resize(clip, box, size)
    assert moved.shape == (1, 3, *size)
    xy = video.crop_resize_points(point, box, size)
    torch.testing.assert_close(centroid_px(moved), xy.double(), atol=0.03, rtol=0)
    xyxy = video.crop_resize_boxes(corners, box, size)
    torch.testing.assert_close((xyxy[:2] + xyxy[2:]) / 2, xy)
    torch.testing.assert_close(xyxy[2:] - xyxy[:2], torch.tensor([8 * size[1] / 80, 8 * size[0] / 61]))
    mirrored = video.flip(moved)
    torch.testing.assert_close(centroid_px(mirrored), video.flip_points(xy, size[1]).double(), atol=0.03, rtol=0)
    flipped = video.flip_boxes(xyxy, size[1])
    torch.testing.assert_close((flipped[:2] + flipped[2:]) / 2, video.flip_points(xy, size[1]))
    assert (flipped[2:] > flipped[:2]).all()


def test_a_whole_crop_at_the_same_size_changes_nothing():
    clip = torch.randint(0, 256, (2, 3, 20, 30), dtype=torch.uint8)
    assert torch.equal(video.crop_resize(clip, CropBox(0, 0, 30, 20), (20, 30)), clip)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(32, 48), (120, 180)])
def test_resizing_is_that_of_pillow_to_a_grey_level(interpolation: str, size: tuple[int, int]):
    clip = torch.randint(0, 256, (2, 3, 60, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = video.crop_resize(clip, CropBox(10, 4, 70, 50), size, interpolation)
    for frame, resized in zip(clip, found, strict=True):
        picture = Image.fromarray(frame.permute(1, 2, 0).numpy()).crop((10, 4, 80, 54))
        expected = picture.resize(size[::-1], Image.Resampling[interpolation.upper()])
        difference = resized.permute(1, 2, 0).int() - torch.from_numpy(np.array(expected)).int()
        assert difference.abs().max() <= 1


def test_shrinking_does_not_alias():
    checkerboard = ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255).to(torch.uint8).expand(1, 3, 64, 64)
    small = video.crop_resize(checkerboard, CropBox(0, 0, 64, 64), (16, 16))
    assert (small.int() - 127).abs().max() <= 3

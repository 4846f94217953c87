"""TAP-Vid: all four sets give their points where tapnet puts them, and what does not fit is named."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fourd.datasets.tap_vid import TapVidConfig
from fourd.media import UnreadableVideo
from tests.datasets.files import tap_vid as files
from tests.datasets.files._pickles import poisoned
from tests.films import read_number

SIZE = np.array((files.WIDTH, files.HEIGHT))


@pytest.fixture
def davis(tmp_path: Path) -> TapVidConfig:
    """Describe DAVIS's films among those of all sets."""
    return files.write(tmp_path / "root")


def read(dataset, index: int):
    return dataset.read(index, np.random.default_rng(0))


def shown(batch) -> list[int]:
    return [read_number(frame.permute(1, 2, 0).numpy()) for frame in batch.video[0]]


def asked(batch) -> int:
    """Count the queries, which come first."""
    return int(batch.tasks[0].target.valid[0, :, 0].sum())


def test_points_are_shares_of_the_whole_width_and_height(davis: TapVidConfig):
    dataset = davis.build()
    assert [(r.key, r.num_frames, r.num_points) for r in dataset.recordings] == [
        ("davis/goat", 11, 4),
        ("davis/car-roundabout", 14, 6),
    ]
    assert dataset.num_points == 6
    batch = read(dataset, 3)
    assert batch.key == ("tap_vid/davis/car-roundabout/1",)
    assert batch.group == ("tap_vid/davis/car-roundabout",)
    assert shown(batch) == [44, 45, 46, 47]
    truth = files.points(40, 14, 6)[:, 4:8] * SIZE
    np.testing.assert_allclose(batch.tasks[0].target.xy_px[0], truth, rtol=1e-6)
    assert batch.tasks[0].target.visible.all()
    np.testing.assert_allclose(batch.time_s[0].diff(), 1 / 24, rtol=1e-5)


def test_hidden_points_are_not_visible_and_those_hidden_first_not_asked(davis: TapVidConfig):
    batch = read(davis.build(), 0)
    target = batch.tasks[0].target
    assert asked(batch) == 3
    assert target.visible[0, :3].tolist() == [[True, True, True, False], [True] * 4, [True] * 4]
    assert target.valid[0].any(-1).tolist() == [True, True, True, False, False, False]
    np.testing.assert_allclose(target.xy_px[0, 0], files.points(0, 11)[0, :4] * SIZE, rtol=1e-6)


@pytest.mark.parametrize(
    ("split", "keys", "first"),
    [
        ("rgb_stacking", ["rgb_stacking/0000", "rgb_stacking/0001"], [0, 1, 2, 3]),
        ("robotap", ["robotap/pick", "robotap/place"], [10, 11, 12, 13]),
    ],
)
def test_lists_and_parts_are_read(davis: TapVidConfig, split: str, keys: list[str], first: list[int]):
    dataset = replace(davis, split=split).build()
    assert [recording.key for recording in dataset.recordings] == keys
    assert len(dataset) == 4
    batch = read(dataset, 0)
    assert shown(batch) == first
    np.testing.assert_allclose(batch.tasks[0].target.xy_px[0, 1], files.points(first[0], 8)[1, :4] * SIZE, rtol=1e-6)


def test_the_half_pixel_of_kinetics_is_given_back(davis: TapVidConfig):
    dataset = replace(davis, split="kinetics").build()
    assert [recording.num_frames for recording in dataset.recordings] == [8, 10, 8]
    batch = read(dataset, 3)
    assert shown(batch) == [54, 55, 56, 57]
    truth = files.points(50, 10)[:, 4:8] * SIZE
    np.testing.assert_allclose(batch.tasks[0].target.xy_px[0], truth, atol=1e-4)


def test_films_of_kinetics_are_named_by_their_labels(davis: TapVidConfig):
    dataset = replace(davis, split="kinetics").build()
    keys = [recording.key for recording in dataset.recordings]
    assert len(set(keys)) == 3
    held = [files.kinetics_example(50, 10), files.kinetics_example(90, 8)]  # the first film cannot be had any more
    (Path(davis.root) / "kinetics" / "0001_of_0002.pkl").unlink()
    files.save(Path(davis.root) / "kinetics" / "0000_of_0002.pkl", held)
    again = replace(davis, split="kinetics").build()
    assert [recording.key for recording in again.recordings] == keys[1:]
    assert again.fingerprint != dataset.fingerprint


def test_jpeg_in_a_list_is_read_too(davis: TapVidConfig):
    example = files.example(0, 6)
    example["video"] = files.encoded(example["video"])
    files.save(Path(davis.root) / "tapvid_rgb_stacking.pkl", [example])
    assert shown(read(replace(davis, split="rgb_stacking").build(), 0)) == [0, 1, 2, 3]


@pytest.mark.parametrize("protocol", [3, 5])
def test_other_protocols_give_the_same(davis: TapVidConfig, protocol: int):
    before = read(davis.build(), 4)
    path = Path(davis.root) / "tapvid_davis" / "tapvid_davis.pkl"
    files.save(path, pickle.loads(path.read_bytes()), protocol)
    after = read(davis.build(), 4)
    assert torch.equal(after.video, before.video)
    assert torch.equal(after.tasks[0].target.xy_px, before.tasks[0].target.xy_px)


# ----------------------------------------------------------------------------- what is refused


def damaged(config: TapVidConfig, **changes):
    """Change the labels of one of two films."""
    good, bad = files.example(0, 8), files.example(20, 8)
    bad |= changes
    bad = {name: value for name, value in bad.items() if value is not None}
    files.save(Path(config.root) / "tapvid_davis" / "tapvid_davis.pkl", {"good": good, "bad": bad})
    return config.build()


BROKEN = {
    "no points": ({"points": None}, "expected a table with video, points, occluded"),
    "fewer frames of points": ({"points": files.points(0, 7)}, r"8 frames, 'points' of shape \(4, 7, 2\)"),
    "frames before points": ({"points": files.points(0, 8).swapaxes(0, 1)}, r"expected \(N, 8, 2\) and \(N, 8\)"),
    "fewer hidden": ({"occluded": files.occluded(8, 3)}, r"'occluded' of shape \(3, 8\)"),
    "points in a list": ({"points": files.points(0, 8).tolist()}, "field 'points': found list, expected an array"),
    "grey film": ({"video": files.video(0, 8)[..., 0]}, r"'video': found uint8 of shape \(8, 48, 64\), expected uint8"),
    "film of fractions": ({"video": files.video(0, 8) / 255}, "'video': found float64 of shape"),
    "texts for pictures": ({"video": ["a.jpg"] * 8}, "'video': found list"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_films_are_listed_with_their_field(name: str, davis: TapVidConfig):
    changes, reason = BROKEN[name]
    dataset = damaged(davis, **changes)
    assert [recording.key for recording in dataset.recordings] == ["davis/good"]
    (lost,) = dataset.unreadable
    assert lost.path.endswith("tapvid_davis.pkl[bad]")
    with pytest.raises(UnreadableVideo, match=reason):
        raise UnreadableVideo(lost.path, lost.reason)


def test_points_in_pixels_are_refused(davis: TapVidConfig):
    dataset = damaged(davis, points=files.points(20, 8) * SIZE.astype(np.float32))
    with pytest.raises(UnreadableVideo, match=r"\[bad\]: field 'points': visible ones from .* expected shares"):
        read(dataset, 2)
    points = files.points(20, 8)
    points[1, 5] = np.nan
    with pytest.raises(UnreadableVideo, match="field 'points'"):
        read(damaged(davis, points=points), 3)


def test_places_of_hidden_points_need_not_be_known(davis: TapVidConfig):
    points = files.points(20, 8)
    points[0, 3] = np.nan
    target = read(damaged(davis, points=points), 2).tasks[0].target
    assert not target.visible[0, 0, 3]
    assert torch.isfinite(target.xy_px).all()


def test_a_picture_that_cannot_be_decoded_is_named(davis: TapVidConfig):
    pictures = files.encoded(files.video(0, 8))
    pictures[1] = pictures[1][:80]
    dataset = damaged(davis, video=pictures)
    with pytest.raises(UnreadableVideo, match=r"\[bad\].video\[1\]"):
        read(dataset, 2)
    assert shown(read(dataset, 3)) == [4, 5, 6, 7]


def test_a_malicious_file_is_not_loaded(davis: TapVidConfig, tmp_path: Path):
    files.save(Path(davis.root) / "robotap" / "robotap_split1.pkl", poisoned(f"touch {tmp_path / 'ran'}"))
    dataset = replace(davis, split="robotap").build()
    assert [recording.key for recording in dataset.recordings] == ["robotap/pick"]
    (lost,) = dataset.unreadable
    assert lost.path.endswith("robotap_split1.pkl")
    assert "names posix.system" in lost.reason
    assert not (tmp_path / "ran").exists()


def test_a_file_that_was_cut_off_or_is_not_there_is_named(davis: TapVidConfig):
    path = Path(davis.root) / "tapvid_davis" / "tapvid_davis.pkl"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"tapvid_davis.pkl: cut off: \d+ bytes should follow"):
        davis.build()
    path.unlink()
    with pytest.raises(ValueError, match=r"tapvid_davis\.pkl: no such file"):
        davis.build()
    files.save(path, 3)
    with pytest.raises(ValueError, match=r"\[whole\]: found NoneType, expected a table"):
        davis.build()


def test_an_unknown_set_is_refused(davis: TapVidConfig):
    with pytest.raises(ValueError, match="found 'train'; expected one of davis, rgb_stacking, robotap, kinetics"):
        replace(davis, split="train")

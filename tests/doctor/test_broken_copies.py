"""The doctor finds a good copy good, and says of each broken one what is wrong with it."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fourd.cli.data import doctor
from tests.datasets.files import movi, perception_test, scannet, ssv2, visp_castle
from tests.doctor import fake_reader
from tests.doctor.room import Room
from tests.films import write_film

ROOMS = "tests.doctor.fake_reader"


@pytest.fixture(scope="module")
def good_rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rooms") / "root"
    fake_reader.write(root)
    return root


@pytest.fixture
def rooms(good_rooms: Path, tmp_path: Path) -> Path:
    """Copy the good rooms, for a test to break."""
    return Path(shutil.copytree(good_rooms, tmp_path / "rooms"))


def examine(capsys: pytest.CaptureFixture[str], name: str, root: Path, *options: str) -> tuple[str, str, dict]:
    """Run the command; return the verdict, what was printed, and the report."""
    out = root.parent / "out"
    if "--num-pictures" not in options:
        options += ("--num-pictures", "1")
    code = 0
    try:
        doctor.run([name, str(root), "--out", str(out), *options])
    except SystemExit as ended:
        code = ended.code
    report = json.loads((out / "doctor.json").read_text())
    assert code == (report["verdict"] == "broken")
    return report["verdict"], capsys.readouterr().out, report


def faulty(report: dict, split: str = "train") -> set[str]:
    """Name the checks that found faults in every clip that they judged."""
    checks = report["splits"][split]["checks"]
    return {name for name, check in checks.items() if check["judged"] and check["faults"] == check["judged"]}


# ----------------------------------------------------------------------------- good copies


def test_a_good_copy_is_good_and_its_clips_are_named(rooms: Path, capsys: pytest.CaptureFixture[str]):
    verdict, said, report = examine(capsys, ROOMS, rooms)
    assert verdict == "good"
    assert "FAULT" not in said
    assert "  odd  " not in said
    train = report["splits"]["train"]
    assert (train["official"], train["found"], train["missing"], train["clips"]) == (4, 4, 0, 8)
    assert all(check["judged"] == 8 for check in train["checks"].values())
    assert train["checks"]["depth_fits_poses"]["measured"]["moves_enough_to_tell"]["least"] == 1
    assert train["classes"] == {"calm": 4, "busy": 2, "odd": 2}
    listed = (rooms.parent / "out" / "train" / "clips.txt").read_bytes()
    assert listed.decode().split("\n")[:3] == ["rooms/room0/0", "rooms/room0/1", "rooms/room1/0"]
    assert hashlib.sha256(listed).hexdigest() == train["clips_sha256"]
    assert train["clips_sha256"] in said
    assert report["splits"]["test"]["clips"] == 2


def test_the_page_shows_every_clip_that_was_looked_at(rooms: Path, capsys: pytest.CaptureFixture[str]):
    examine(capsys, ROOMS, rooms, "--num-pictures", "16")
    page = (rooms.parent / "out" / "pictures.html").read_text()
    assert page.count("data:image/webp;base64,") == 10
    assert "rooms/room2/1, 64 x 48, frames 6 to 11" in page
    assert "class 1: busy" in page


def test_the_sample_is_seeded_and_spread_over_the_recordings(rooms: Path, capsys: pytest.CaptureFixture[str]):
    for seed in ("3", "3", "4"):
        _, said, report = examine(capsys, ROOMS, rooms, "--split", "train", "--num-clips", "4", "--seed", seed)
        assert "looked at:  4 clips" in said
        assert sum(report["splits"]["train"]["classes"].values()) == 4
        assert report["splits"]["train"]["classes"]["calm"] == 2  # rooms 0 and 3: each of the four rooms once


def test_depth_of_a_noisy_sensor_and_a_resting_camera_are_no_faults(rooms: Path, capsys: pytest.CaptureFixture[str]):
    noise = np.random.default_rng(0)
    fake_reader.rewrite(rooms, depth=lambda depth: depth * noise.normal(1, 0.04, depth.shape))
    verdict, _, report = examine(capsys, ROOMS, rooms, "--split", "train")
    assert verdict == "good"
    assert report["splits"]["train"]["checks"]["depth_fits_poses"]["measured"]["disagreement"]["least"] > 0.02
    resting = {name: (lambda held: held[:1].repeat(len(held), 0)) for name in ("video", "depth", "poses")}
    fake_reader.rewrite(rooms, **resting, points=lambda held: held[:, 5:6].repeat(held.shape[1], 1))
    _, _, report = examine(capsys, ROOMS, rooms, "--split", "train")
    fits = report["splits"]["train"]["checks"]["depth_fits_poses"]
    assert (fits["faults"], fits["measured"]["moves_enough_to_tell"]["most"]) == (0, 0)
    assert {reason.split(":")[1].strip() for reason in report["reasons"]} == {"pictures_show_something", "points_move"}


# ----------------------------------------------------------------------------- labels that are wrong


def turned(poses: np.ndarray) -> np.ndarray:
    return poses @ np.diag([1.0, -1.0, -1.0, 1.0])


WRONG: dict[str, tuple[dict[str, Callable], set[str], str]] = {
    "depth in millimetres": (
        {"depth": lambda depth: depth * 1000},
        {"depth_range", "depth_fits_poses"},
        "it looks like millimetres",
    ),
    "depth in another unit than poses": (
        {"depth": lambda depth: depth / 5},
        {"depth_fits_poses"},
        "with depth 5 times larger",
    ),
    "inverted poses": ({"poses": np.linalg.inv}, {"depth_fits_poses"}, "with inverted poses"),
    "axes of OpenGL": ({"poses": turned}, {"depth_fits_poses"}, "with camera axes of OpenGL"),
    "rotation that mirrors": (
        {"poses": lambda poses: poses @ np.diag([-1.0, 1, 1, 1])},
        {"poses_are_rigid"},
        "a rotation mirrors (determinant -1)",
    ),
    "intrinsics of larger pictures": (
        {"intrinsics": lambda matrix: np.diag([2.0, 2, 1]) @ matrix},
        {"intrinsics_fit", "depth_fits_poses"},
        "principal point (61.4, 50.9) in 64 x 48 pixels, expected about the middle",
    ),
    "focal lengths of larger pictures": (
        {"intrinsics": lambda matrix: np.diag([2.0, 2, 1]) @ matrix + [[0, 0, -30.72], [0, 0, -25.44], [0, 0, 0]]},
        {"depth_fits_poses"},
        "with focal lengths half as large",
    ),
    "points as (y, x)": (
        {"points": lambda points: points[..., ::-1]},
        {"points_follow_the_picture"},
        "x and y are swapped",
    ),
    "points as shares": (
        {"points": lambda points: points / (64, 48)},
        {"points_inside"},
        "shares of the picture, not pixels",
    ),
    "boxes as x, y, width, height": (
        {"boxes": lambda boxes: np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], -1)},
        {"box_corners"},
        "they look like x, y, width, height",
    ),
    "labels from 1": ({"label": lambda label: label * 0 + 3}, {"label_range"}, "class 3, expected 0 to 2"),
    "times that fall": ({"time_s": lambda time_s: time_s[::-1]}, {"times_rise"}, "time_s does not rise"),
    "pictures of one colour": (
        {"video": lambda video: video * 0},
        {"pictures_show_something"},
        "pictures of one colour",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_label_is_found_and_named(wrong: str, rooms: Path, capsys: pytest.CaptureFixture[str]):
    changes, checks, words = WRONG[wrong]
    fake_reader.rewrite(rooms, **changes)
    verdict, said, report = examine(capsys, ROOMS, rooms)
    assert verdict == "broken"
    assert faulty(report) >= checks
    assert words in said
    judged = {name.partition("_")[0] for name in faulty(report)}
    assert judged <= {name.partition("_")[0] for name in checks}, "a check blames labels that are right"
    assert any(words in reason for reason in report["reasons"])
    assert report["advice"]


def test_one_wrong_recording_of_many_is_a_gap(rooms: Path, capsys: pytest.CaptureFixture[str]):
    """Fewer than one clip in ten are at fault, and all of them are listed."""
    names = [f"copy{number}" for number in range(20)]
    for name in names:
        shutil.copy(rooms / "room1.npz", rooms / f"{name}.npz")
    with np.load(rooms / "room0.npz") as held:
        np.savez(rooms / "copy3.npz", **(dict(held) | {"depth": held["depth"] * 1000}))
    (rooms / "train.txt").write_text("".join(f"{name} 12\n" for name in names))
    verdict, _, report = examine(capsys, ROOMS, rooms, "--split", "train", "--all", "--num-pictures", "1")
    assert verdict == "usable with gaps"
    told = report["splits"]["train"]["checks"]["depth_range"]["told"]
    assert [each["clip"] for each in told] == ["rooms/copy3/0", "rooms/copy3/1"]
    page = (rooms.parent / "out" / "pictures.html").read_text()
    assert "copy3/0" in page[page.index("<h2>") :], "what is at fault is drawn, whatever the number of pictures"


# ----------------------------------------------------------------------------- files that are wrong


def test_missing_recordings_are_counted_and_listed(rooms: Path, capsys: pytest.CaptureFixture[str]):
    (rooms / "room1.npz").unlink()
    (rooms / "room3.npz").unlink()
    verdict, said, report = examine(capsys, ROOMS, rooms)
    assert verdict == "usable with gaps"
    assert "found:      2 of 4, 2 missing" in said
    assert report["splits"]["train"]["missing"] == 2
    with (rooms.parent / "out" / "train" / "unreadable.csv").open(newline="") as file:
        lost = list(csv.DictReader(file))
    assert [Path(line["path"]).name for line in lost] == ["room1.npz", "room3.npz"]
    assert {line["reason"] for line in lost} == {"listed, no such file"}


def test_a_truncated_file_is_named(rooms: Path, capsys: pytest.CaptureFixture[str]):
    path = rooms / "room2.npz"
    path.write_bytes(path.read_bytes()[:9000])
    verdict, said, report = examine(capsys, ROOMS, rooms)
    assert verdict == "broken"
    assert [each["path"] for each in report["splits"]["train"]["not_loaded"]] == ["rooms/room2/0", "rooms/room2/1"]
    assert "2 of 8 clips cannot be loaded, frames 0 to 5 of 12: BadZipFile: " in said


def test_a_film_with_other_frames_than_its_list_says(rooms: Path, capsys: pytest.CaptureFixture[str]):
    """The clips would all be well: only the recording's last frame tells."""
    (rooms / "train.txt").write_text("room0 16\nroom1 12\n")
    verdict, said, _ = examine(capsys, ROOMS, rooms, "--split", "train")
    assert verdict == "broken"
    assert "frames 15 to 15 of 16" in said
    assert "room0.npz: video: found 12 frames, expected 16" in said


def test_recordings_that_are_all_too_short(rooms: Path, capsys: pytest.CaptureFixture[str]):
    verdict, said, report = examine(capsys, ROOMS, rooms, "--split", "train", "--num-frames", "13")
    assert verdict == "broken"
    assert "no clip can be had" in said
    assert len(report["splits"]["train"]["too_short"]) == 4


def test_a_split_that_is_absent_is_a_gap_unless_it_is_asked_for(rooms: Path, capsys: pytest.CaptureFixture[str]):
    (rooms / "test.txt").unlink()
    verdict, said, _ = examine(capsys, ROOMS, rooms)
    assert verdict == "usable with gaps"
    assert "because test: cannot be opened: " in said
    verdict, _, report = examine(capsys, ROOMS, rooms, "--split", "test")
    assert verdict == "broken"
    assert "test.txt" in report["reasons"][0]


# ----------------------------------------------------------------------------- real formats


def write_scans(root: Path, unit: float = 1000.0, inverted: bool = False) -> None:
    """Write rooms as ScanNet does: `.sens` files that say that depth is in millimetres."""
    width, height = scannet.DEPTH
    for number, scan in enumerate(scannet.SCANS[:2]):
        seen = Room(width, height, scannet.NUM_FRAMES, number)
        matrix = np.eye(4)
        matrix[:3, :3] = seen.intrinsics
        matrix[:2, 2] -= 0.5  # the files count from the middle of the first pixel
        scannet.write_sens(
            root / "scans" / scan,
            pose=lambda scan, frame, seen=seen: np.linalg.inv(seen.pose(frame)) if inverted else seen.pose(frame),
            depth=lambda scan, frame, seen=seen: np.round(seen.depth(frame) * unit).astype(np.uint16),
        )


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the fixture's camera be the room's: in pixels of the colour pictures, which are twice as large."""
    room = Room(*scannet.DEPTH)
    kept = np.eye(4)
    kept[:3, :3] = room.intrinsics
    kept[:2] *= np.array([[2.0], [2.0]])
    kept[:2, 2] -= 0.5
    monkeypatch.setattr(scannet, "COLOUR_K", kept)
    root = tmp_path / "scannet"
    root.mkdir()
    (root / "scannetv2_val.txt").write_text("\n".join(scannet.SCANS[:2]))
    return root


def test_a_good_copy_of_scannet(scans: Path, capsys: pytest.CaptureFixture[str]):
    write_scans(scans)
    verdict, said, report = examine(capsys, "scannet", scans, "--split", "val", "--num-frames", "4")
    assert verdict == "usable with gaps"
    assert "found:      2 of 312, 310 missing" in said
    assert len(report["reasons"]) == 1
    assert report["splits"]["val"]["checks"]["depth_fits_poses"]["measured"]["disagreement"]["most"] < 0.02


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"inverted": True}, "with inverted poses"),
        ({"unit": 5000.0}, "with depth 5 times smaller"),
        ({"unit": 1.0}, "it looks like kilometres"),
    ],
)
def test_a_wrong_copy_of_scannet(wrong: dict, words: str, scans: Path, capsys: pytest.CaptureFixture[str]):
    write_scans(scans, **wrong)
    verdict, said, _ = examine(capsys, "scannet", scans, "--split", "val", "--num-frames", "4")
    assert verdict == "broken"
    assert words in said


def test_a_good_copy_of_movi(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Depth, points, boxes and poses of a rendered world, through the real format."""
    movi.write(tmp_path / "movi")
    verdict, _, report = examine(capsys, "movi", tmp_path / "movi", "--split", "train", "--num-frames", "4")
    assert verdict == "good"
    checks = report["splits"]["train"]["checks"]
    unjudged = {name for name, check in checks.items() if not check["judged"]}
    assert unjudged <= {"label_range", "points_follow_the_picture"}


def test_classes_that_a_list_does_not_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Something-Something counts against its official list, and names the classes that it saw."""
    ssv2.write(tmp_path / "ssv2")
    verdict, said, report = examine(capsys, "ssv2", tmp_path / "ssv2", "--split", "train", "--num-frames", "4")
    assert verdict == "usable with gaps"
    assert report["splits"]["train"]["num_classes"] == 4
    assert "classes:    3 of 4 seen; most often " in said


def test_a_film_of_perception_test_that_is_too_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = tmp_path / "perception"
    perception_test.write(root)
    write_film(root / "videos" / "video_7.mp4", 25, size=(perception_test.WIDTH, perception_test.HEIGHT), fps=10.0)
    verdict, said, _ = examine(capsys, "perception_test", root, "--split", "valid", "--num-frames", "2")
    assert verdict == "broken"
    assert "video_7" in said
    assert "found:      2 of 73, 71 missing" in said


def test_a_truncated_depth_map_of_the_castle(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = tmp_path / "castle"
    visp_castle.write(root)
    path = sorted(root.rglob("Depth_*.bin"))[2]
    path.write_bytes(path.read_bytes()[:-7])
    verdict, said, _ = examine(capsys, "visp_castle", root, "--split", "all", "--num-frames", "3")
    assert verdict == "broken"
    assert path.name in said

"""RealEstate10K: cameras are where the numbers put them, in whichever form, and every clip that is lost is named."""

from __future__ import annotations

import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fourd.datasets import realestate10k
from fourd.datasets._sampling import Spread, Windows
from fourd.datasets.realestate10k import RealEstate10KConfig
from fourd.media import UnreadableVideo
from tests.datasets.files import realestate10k as files
from tests.films import read_number, write_film

FIRST, FILMED, LAST = files.CLIPS


@pytest.fixture
def config(tmp_path: Path) -> RealEstate10KConfig:
    """Describe the camera files."""
    return files.write(tmp_path / "root")


@pytest.fixture
def whole(config: RealEstate10KConfig) -> RealEstate10KConfig:
    """Describe clips of eight frames in a row, as large as they are stored."""
    return replace(config, num_frames=8, sampling=Windows(hop=100), size=(files.HEIGHT, files.WIDTH))


@pytest.fixture
def chunks(tmp_path: Path, whole: RealEstate10KConfig) -> RealEstate10KConfig:
    """Describe the same clips as chunks."""
    files.write_chunks(tmp_path / "chunks")
    return replace(whole, root=str(tmp_path / "chunks"))


def read(config: RealEstate10KConfig, index: int):
    return config.build().read(index, np.random.default_rng(0))


def shown(batch) -> list[int]:
    return [read_number(frame.permute(1, 2, 0).numpy()) for frame in batch.video[0]]


def refusals(config: RealEstate10KConfig) -> str:
    return "\n".join(f"{lost.path}: {lost.reason}" for lost in config.build().unreadable)


def text(config: RealEstate10KConfig, clip: str = FIRST) -> Path:
    return Path(config.root) / "test" / f"{clip}.txt"


def change(config: RealEstate10KConfig, edit, clip: str = FIRST) -> None:
    """Change the words of each line of cameras."""
    first, *lines = text(config, clip).read_text().splitlines()
    lines = [" ".join(edit(number, line.split())) for number, line in enumerate(lines)]
    text(config, clip).write_text("\n".join([first, *lines]))


def change_chunk(config: RealEstate10KConfig, edit, name: str = "000000.torch") -> None:
    path = Path(config.root) / "test" / name
    examples = torch.load(path, weights_only=True)
    edit(examples)
    torch.save(examples, path)


# ----------------------------------------------------------------------------- what is read


def test_poses_are_those_that_were_written(whole: RealEstate10KConfig):
    for index, clip in enumerate(files.CLIPS):
        batch = read(whole, index)
        assert batch.key == (f"realestate10k/{clip}/0",)
        truth = np.stack([files.world_from_camera(clip, frame) for frame in range(8)])
        assert np.allclose(batch.tasks[0].target.world_from_camera[0], truth, atol=1e-6)


def test_a_point_of_the_world_is_projected_where_the_camera_file_says(whole: RealEstate10KConfig):
    camera = read(whole, 0).tasks[0].target
    point = np.array([1.9, -0.4, 6.0, 1.0])
    for frame in range(8):
        numbers = np.array(files.camera(FIRST, frame))
        x, y, z = numbers[6:].reshape(3, 4) @ point
        fx, fy, cx, cy = files.INTRINSICS
        expected = ((fx * x / z + cx) * files.WIDTH, (fy * y / z + cy) * files.HEIGHT)
        ours = np.linalg.inv(camera.world_from_camera[0, frame].double().numpy()) @ point
        image = camera.intrinsics_px[0].double().numpy() @ ours[:3]
        assert np.allclose(image[:2] / image[2], expected, atol=1e-3)


def test_intrinsics_follow_the_crop(config: RealEstate10KConfig):
    intrinsics = read(replace(config, size=(18, 18)), 0).tasks[0].target.intrinsics_px[0]
    fx, fy, cx, cy = files.INTRINSICS
    left = (files.WIDTH - files.HEIGHT) / 2
    expected = [[fx * 32, 0, (cx * files.WIDTH - left) / 2], [0, fy * 18, cy * 18], [0, 0, 1]]
    assert torch.allclose(intrinsics, torch.tensor(expected), atol=1e-4)


def test_pictures_and_films_show_the_frames_that_the_cameras_took(whole: RealEstate10KConfig):
    assert shown(read(whole, 0)) == list(range(8))
    assert shown(read(whole, 1)) == [files.first_frame(FILMED) + 2 * frame for frame in range(8)]


def test_times_are_those_of_the_cameras(whole: RealEstate10KConfig):
    times = np.array([files.time_us(FIRST, frame) for frame in range(8)])
    assert np.allclose(read(whole, 0).time_s[0], (times - times[0]) / 1e6, atol=1e-5)


def test_clips_of_one_film_share_a_group(config: RealEstate10KConfig):
    groups = [recording.group for recording in config.build().recordings]
    assert groups == ["3pLcrRXmvAA", "zQ1gVSoJ1fo", "3pLcrRXmvAA"]


@pytest.mark.parametrize(
    ("url", "film"),
    [
        ("https://www.youtube.com/watch?v=-aB_9", "-aB_9"),
        ("https://www.youtube.com/watch?t=3&v=q-1", "q-1"),
        ("https://youtu.be/xyz", "xyz"),
    ],
)
def test_films_are_known_by_their_names(url: str, film: str):
    assert realestate10k._film_of(url) == film


def test_a_clip_spreads_over_the_whole_walk(whole: RealEstate10KConfig):
    spread = replace(whole, num_frames=4, sampling=Spread())
    assert shown(read(spread, 0)) == [0, 4, 7, 11]
    base = realestate10k.base("anywhere")
    assert (base.num_frames, base.size, base.sampling) == (16, (224, 224), Spread())


def test_a_walk_shorter_than_a_clip_repeats_frames(whole: RealEstate10KConfig):
    spread = replace(whole, num_frames=16, sampling=Spread())
    assert shown(read(spread, 2)) == [0, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6, 7, 7, 8, 8, 9]


def test_both_forms_give_the_same_poses_and_frames(whole: RealEstate10KConfig, chunks: RealEstate10KConfig):
    for index in (0, 2):
        one, other = read(whole, index), read(chunks, index)
        assert (one.key, one.group, shown(one)) == (other.key, other.group, shown(other))
        assert torch.equal(one.time_s, other.time_s)
        poses = [batch.tasks[0].target for batch in (one, other)]
        assert torch.allclose(poses[0].world_from_camera, poses[1].world_from_camera, atol=1e-5)
        assert torch.allclose(poses[0].intrinsics_px, poses[1].intrinsics_px, atol=1e-5)


def test_a_dataset_of_chunks_can_be_sent_to_another_process(chunks: RealEstate10KConfig):
    dataset = chunks.build()
    here = dataset.read(2, np.random.default_rng(0))
    there = pickle.loads(pickle.dumps(dataset)).read(2, np.random.default_rng(0))
    assert torch.equal(here.video, there.video)


def test_frames_may_lie_elsewhere(whole: RealEstate10KConfig):
    root = Path(whole.root)
    (root / "frames/test").mkdir(parents=True)
    shutil.move(root / "test" / FIRST, root / "frames/test" / FIRST)
    assert f"realestate10k/{FIRST}: no pictures" in refusals(whole)
    assert shown(read(replace(whole, pictures="frames"), 0)) == list(range(8))


def test_one_film_serves_all_of_its_clips(whole: RealEstate10KConfig):
    root = Path(whole.root)
    shutil.rmtree(root / "test" / LAST)
    (root / "videos").mkdir()
    write_film(root / "videos/3pLcrRXmvAA.mp4", 40, size=(files.WIDTH, files.HEIGHT), fps=files.FPS)
    assert shown(read(whole, 2)) == [files.first_frame(LAST) + 2 * frame for frame in range(8)]


def test_a_film_may_begin_with_its_clip(whole: RealEstate10KConfig):
    film = text(whole).with_name(f"{FILMED}.mp4")
    write_film(film, 20, size=(files.WIDTH, files.HEIGHT), fps=files.FPS)
    change(whole, lambda number, row: [str(round(2 * number / files.FPS * 1e6) + 5_000_000), *row[1:]], FILMED)
    with pytest.raises(UnreadableVideo, match=r"its frame nearest to 5\.\d+ s is .*films_are_cut"):
        read(whole, 1)
    assert shown(read(replace(whole, films_are_cut=True), 1)) == list(range(0, 16, 2))


# ----------------------------------------------------------------------------- what is lost, by name


def test_a_clip_without_pictures_is_named_by_its_key(config: RealEstate10KConfig):
    text(config).with_name(f"{FILMED}.mp4").unlink()
    assert f"realestate10k/{FILMED}: no pictures of https://www.youtube.com/watch?v=zQ1gVSoJ1fo" in refusals(config)


def test_a_clip_that_lacks_frames_is_named_or_told_as_damaged(whole: RealEstate10KConfig):
    (text(whole).with_suffix("") / f"{files.time_us(FIRST, 2)}.png").unlink()
    assert re.search(rf"realestate10k/{FIRST}: 1 of 12 frames have no picture.*least_frames \(1\.0\)", refusals(whole))
    dataset = replace(whole, least_frames=0.9).build()
    assert [lost.path for lost in dataset.damaged] == [f"realestate10k/{FIRST}"]
    batch = dataset.read(0, np.random.default_rng(0))
    assert shown(batch) == [0, 1, 3, 4, 5, 6, 7, 8]
    truth = np.stack([files.world_from_camera(FIRST, frame) for frame in shown(batch)])
    assert np.allclose(batch.tasks[0].target.world_from_camera[0], truth, atol=1e-6)


def test_a_film_at_another_rate_is_refused(whole: RealEstate10KConfig):
    write_film(text(whole).with_name(f"{FILMED}.mp4"), 40, size=(files.WIDTH, files.HEIGHT), fps=12)
    with pytest.raises(UnreadableVideo, match=r"\.mp4: its frame nearest to .* expected at most 0\.008"):
        read(whole, 1)


def test_pictures_of_another_shape_are_named_and_can_be_kept(tmp_path: Path):
    config = files.write_chunks(tmp_path / "root", height=files.HEIGHT - 4)
    assert f"realestate10k/{LAST}: pictures of (32, 64) (height, width), expected (36, 64)" in refusals(config)
    assert len(replace(config, chunk_shape=None).build()) == 3


# ----------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda number, row: row[:-1] if number == 3 else row, "line 5 has 18 numbers, expected 19"),
        (lambda number, row: [row[0], "x", *row[2:]], "found something that is no number"),
        (lambda number, row: ["7", *row[1:]], "timestamp of frame 1 is 7: expected rising"),
        (lambda number, row: [row[0], "300.0", *row[2:4], "-3", *row[5:]], "intrinsics fx, fy, cx, cy are"),
        (lambda number, row: [*row[:-1], "nan"], "cameras: some numbers are not finite"),
    ],
)
def test_a_broken_camera_file_is_named(config: RealEstate10KConfig, edit, reason: str):
    change(config, edit)
    assert f"{text(config)}: {reason}" in refusals(config)


def test_an_empty_camera_file_is_named(config: RealEstate10KConfig):
    text(config).write_text("")
    assert f"{text(config)}: found '' and 0 lines, expected an address" in refusals(config)


def test_a_matrix_that_is_no_rotation_is_named(whole: RealEstate10KConfig):
    change(whole, lambda number, row: [*row[:7], str(2 * float(row[7])), *row[8:]])
    with pytest.raises(UnreadableVideo, match=f"realestate10k/{FIRST}: the camera of frame . of the clip is turned by"):
        read(whole, 0)


def test_a_zoom_is_named(whole: RealEstate10KConfig):
    change(whole, lambda number, row: [row[0], str(float(row[1]) + 0.01 * number), *row[2:]])
    with pytest.raises(UnreadableVideo, match="intrinsics change within the clip"):
        read(whole, 0)


def test_a_folder_with_both_forms_asks_which(config: RealEstate10KConfig):
    (Path(config.root) / "test/index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds camera files and chunks: say which by RealEstate10KConfig\.form"):
        config.build()
    assert len(replace(config, form="files").build()) == 3


def test_nothing_at_all_says_what_is_expected(tmp_path: Path):
    with pytest.raises(ValueError, match=r"holds no clips: expected camera files \(\*\.txt\) or chunks"):
        realestate10k.base(str(tmp_path)).build()


def test_a_truncated_chunk_names_its_clips(chunks: RealEstate10KConfig):
    path = Path(chunks.root) / "test/000000.torch"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert re.search(rf"000000\.torch: not a file of tensors .*cut off.*{FIRST}, {FILMED}", refusals(chunks))


def test_a_chunk_that_is_not_there_names_its_clips(chunks: RealEstate10KConfig):
    (Path(chunks.root) / "test/000001.torch").unlink()
    assert re.search(rf"000001\.torch: no such file.*{LAST}", refusals(chunks))


def test_a_clip_that_its_chunk_lacks_is_named(chunks: RealEstate10KConfig):
    change_chunk(chunks, lambda examples: examples.pop())
    expected = rf"realestate10k/{FILMED}: .*index\.json puts it into 000000\.torch, which lacks it"
    assert re.search(expected, refusals(chunks))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda clip: clip.pop("cameras"), "field 'cameras': found a NoneType, expected a Tensor"),
        (lambda clip: clip["images"].pop(), r"field 'timestamps': found shape \(12,\) beside 11 images, expected"),
        (lambda clip: clip.update(cameras=clip["cameras"][:, :16].clone()), r"field 'cameras': found shape \(12, 16\)"),
        (lambda clip: clip["images"].__setitem__(0, clip["images"][0][:9].clone()), "not a picture"),
    ],
)
def test_a_broken_clip_of_a_chunk_is_named(chunks: RealEstate10KConfig, edit, reason: str):
    change_chunk(chunks, lambda examples: edit(examples[0]))
    assert re.search(rf"000000\.torch\[0\].*{reason}", refusals(chunks))


def test_a_chunk_that_would_run_code_is_not_loaded(chunks: RealEstate10KConfig):
    class Runs:
        def __reduce__(self):
            return (print, ("it ran",))

    path = Path(chunks.root) / "test/000000.torch"
    torch.save([Runs()], path)
    assert "000000.torch: a pickle of more than tensors" in refusals(chunks)

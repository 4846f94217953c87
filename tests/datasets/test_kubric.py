"""Kubric in CoTracker's form: points are where the table puts them, and hidden where it says visible."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fourd.datasets._sampling import Windows
from fourd.datasets.kubric import FPS, KubricConfig
from fourd.media import UnreadableVideo
from tests.datasets.files import kubric as files
from tests.datasets.files._pickles import poisoned
from tests.films import read_number


@pytest.fixture
def config(tmp_path: Path) -> KubricConfig:
    """Describe both films, in windows that touch."""
    return replace(files.write(tmp_path / "root"), sampling=Windows())


def read(dataset, index: int):
    return dataset.read(index, np.random.default_rng(0))


def shown(batch) -> list[int]:
    return [read_number(frame.permute(1, 2, 0).numpy()) for frame in batch.video[0]]


def labels(config: KubricConfig, key: str = "movi_f_10") -> Path:
    return Path(config.root) / key / f"{key}.npy"


def test_points_are_where_the_table_puts_them(config: KubricConfig):
    dataset = config.build()
    assert [(r.key, r.num_frames, r.num_points) for r in dataset.recordings] == [
        ("movi_f_9", 12, 5),
        ("movi_f_10", 12, 3),
    ]
    batch = read(dataset, 3)
    assert batch.key == ("kubric/movi_f_10/1",)
    assert batch.group == ("kubric/movi_f_10",)
    assert shown(batch) == list(range(6, 12))
    np.testing.assert_allclose(batch.time_s[0], np.arange(6, 12) / FPS, rtol=1e-6)
    target = batch.tasks[0].target
    np.testing.assert_allclose(target.xy_px[0, :3], files.coords("movi_f_10")[:, 6:], rtol=1e-6)
    assert target.visible[0].any(-1).tolist() == [True] * 3 + [False] * 2


def test_what_is_called_visibility_is_occlusion(config: KubricConfig):
    target = read(config.build(), 0).tasks[0].target
    assert (~target.visible[0]).nonzero().tolist() == [[1, 4]]
    assert target.valid.all()
    np.testing.assert_allclose(target.xy_px[0], files.coords("movi_f_9")[:, :6], rtol=1e-6)


def test_windows_are_drawn_at_random_for_training(config: KubricConfig):
    dataset = files.KubricConfig(**(vars(config) | {"sampling": files.base("").sampling})).build()
    starts = {shown(dataset.read(0, np.random.default_rng(seed)))[0] for seed in range(40)}
    assert starts == set(range(7))


def test_a_folder_of_the_splits_name_is_looked_into(config: KubricConfig, tmp_path: Path):
    Path(config.root).rename(tmp_path / "train")
    assert len(replace(config, root=str(tmp_path)).build()) == 4


def test_numbers_that_are_not_finite_do_not_count(config: KubricConfig):
    coords = files.coords("movi_f_10")
    coords[2, 3] = np.inf
    np.save(labels(config), {"coords": coords, "visibility": files.hidden("movi_f_10").astype(np.float32)})
    target = read(config.build(), 2).tasks[0].target
    assert target.valid[0, 2].tolist() == [True, True, True, False, True, True]
    assert (~target.visible[0, :3]).nonzero().tolist() == [[1, 4], [2, 3]]
    assert torch.isfinite(target.xy_px).all()


BROKEN = {
    "no coords": ({"visibility": files.hidden("movi_f_10")}, "field 'coords': found NoneType"),
    "other frames": (
        {"coords": files.coords("movi_f_10")[:, 1:], "visibility": files.hidden("movi_f_10")[:, 1:]},
        r"'coords' of shape \(3, 11, 2\).*beside 12 pictures: expected \(N, 12, 2\)",
    ),
    "frames first": (
        {"coords": files.coords("movi_f_10").swapaxes(0, 1), "visibility": files.hidden("movi_f_10").T},
        r"'visibility' of shape \(12, 3\)",
    ),
    "an array": (np.zeros((3, 12, 2)), r"float64 of shape \(3, 12, 2\): expected one table"),
    "a list": ([1, 2], r"expected one table with 'coords'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_labels_are_listed_with_their_field(name: str, config: KubricConfig):
    held, reason = BROKEN[name]
    np.save(labels(config), held)
    dataset = config.build()
    assert [recording.key for recording in dataset.recordings] == ["movi_f_9"]
    (lost,) = dataset.unreadable
    assert lost.path.endswith("movi_f_10.npy")
    with pytest.raises(UnreadableVideo, match=reason):
        raise UnreadableVideo(lost.path, lost.reason)


def test_a_malicious_file_is_not_loaded(config: KubricConfig, tmp_path: Path):
    np.save(labels(config), poisoned(f"touch {tmp_path / 'ran'}"))
    (lost,) = config.build().unreadable
    assert "names posix.system" in lost.reason
    assert not (tmp_path / "ran").exists()


def test_files_that_are_cut_off_missing_or_none_are_listed(config: KubricConfig):
    whole = labels(config).read_bytes()
    for data, reason in (
        (whole[:-40], "cut off"),
        (whole[:60], "not an .npy file"),
        (pickle.dumps({"coords": 1}), "not an .npy file"),
    ):
        labels(config).write_bytes(data)
        (lost,) = config.build().unreadable
        assert reason in lost.reason
    labels(config).unlink()
    (lost,) = config.build().unreadable
    assert lost.reason.startswith("no such file")


def test_a_missing_or_damaged_picture_is_noticed(config: KubricConfig):
    frames = Path(config.root) / "movi_f_9" / "frames"
    dataset = config.build()
    (frames / "002.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableVideo, match=r"002.png: not a picture"):
        read(dataset, 0)
    (frames / "002.png").unlink()
    with pytest.raises(UnreadableVideo, match="11 pictures, frame 11 is asked"):
        read(dataset, 1)
    (lost,) = config.build().unreadable
    assert "beside 11 pictures" in lost.reason

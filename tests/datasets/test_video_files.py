"""A folder of films gives exact clips, lists what it does not read, and starts fast the second time."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch

from fourd.datasets import video_files
from fourd.datasets.video_files import VideoFilesConfig, folder, tiny
from fourd.index import build
from fourd.index.films import Film, FilmIndex, write_films
from fourd.storage import CacheConfig, LocalStore, open_store
from fourd.types import Unreadable
from fourd.video import UnreadableVideo
from tests.films import read_number, truncate, write_film, write_sound

WHOLE_PICTURE = {"size": (48, 64), "crop_scale": (1.0, 1.0), "crop_ratio": (4 / 3, 4 / 3), "flip": False}


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a folder with two films, one of them below."""
    path = tmp_path / "films"
    (path / "below").mkdir(parents=True)
    write_film(path / "b.mp4")
    write_film(path / "below" / "a.webm", codec="libvpx-vp9", b_frames=0)
    return path


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the names of the films that are looked into."""
    names: list[str] = []
    probe_all = build.probe_all

    def listed(root, files, *options):
        files = list(files)
        names.extend(Path(file.path).name for file in files)
        return probe_all(root, files, *options)

    monkeypatch.setattr(build, "probe_all", listed)
    return names


# ----------------------------------------------------------------------------- clips


def test_a_clip_is_what_its_times_say(root: Path):
    dataset = VideoFilesConfig(str(root), num_frames=5, stride=3, **WHOLE_PICTURE).build()
    assert [film.path for film in dataset.films] == ["b.mp4", "below/a.webm"]
    starts = set()
    for seed in range(30):
        batch = dataset.read(0, generator(seed))
        numbers = [read_number(frame.permute(1, 2, 0).numpy()) for frame in batch.video[0]]
        assert np.diff(numbers).tolist() == [3] * 4
        np.testing.assert_allclose(batch.time_s[0].numpy(), np.array(numbers) / 25, atol=1e-6)
        starts.add(numbers[0])
    assert len(starts) > 15


def test_a_batch_names_its_film(root: Path):
    batch = VideoFilesConfig(str(root), num_frames=4, size=(24, 32)).build().read(1, generator())
    assert batch.video.shape == (1, 4, 3, 24, 32)
    assert batch.video.dtype == torch.uint8
    assert batch.video.is_contiguous()
    assert batch.key == batch.group == ("below/a.webm",)
    assert batch.seed.dtype == torch.int64


def test_reading_depends_on_nothing_but_index_and_random_numbers(root: Path):
    dataset = VideoFilesConfig(str(root), num_frames=4, size=32).build()
    first = dataset.read(0, generator(3))
    dataset.read(1, generator(3))
    again_built = VideoFilesConfig(str(root), num_frames=4, size=32).build()
    for other in (dataset, pickle.loads(pickle.dumps(dataset)), again_built):
        again = other.read(0, generator(3))
        assert torch.equal(again.video, first.video)
        assert torch.equal(again.time_s, first.time_s)
        assert torch.equal(again.seed, first.seed)
    assert not torch.equal(dataset.read(0, generator(4)).seed, first.seed)


def test_flips_half_of_the_clips(root: Path):
    values = WHOLE_PICTURE | {"flip": True}
    dataset = VideoFilesConfig(str(root), num_frames=1, **values).build()
    # the leftmost stripe is black for frames below 128, and the rightmost is white for odd ones
    clips = [dataset.read(0, generator(seed)) for seed in range(60)]
    odd = [clip.video[0, 0] for clip in clips if round(float(clip.time_s) * 25) % 2]
    flipped = [bool(frame[:, :, :4].float().mean() > 128) for frame in odd]
    assert 0.2 < np.mean(flipped) < 0.8


def test_films_of_different_rates_give_clips_of_one_rate(tmp_path: Path):
    write_film(tmp_path / "fast.mp4", 60, fps=50)
    write_film(tmp_path / "slow.mp4", 30, fps=25)
    dataset = VideoFilesConfig(str(tmp_path), num_frames=4, fps=12.5, size=32).build()
    for index in range(2):
        steps = dataset.read(index, generator()).time_s[0].diff()
        torch.testing.assert_close(steps, torch.full((3,), 0.08))


@pytest.mark.parametrize("index", [-1, 2])
def test_a_film_that_is_not_there_is_refused(index: int, root: Path):
    with pytest.raises(IndexError, match="expected 0 to 1"):
        VideoFilesConfig(str(root), num_frames=4).build().read(index, generator())


def test_damage_in_the_middle_names_the_film_as_the_list_does(root: Path):
    dataset = VideoFilesConfig(str(root), num_frames=16, stride=2, size=32).build()
    film = bytearray((root / "b.mp4").read_bytes())
    film[48:1200] = bytes(1152)
    (root / "b.mp4").write_bytes(film)
    with pytest.raises(UnreadableVideo) as caught:
        dataset.read(0, generator())
    assert caught.value.path == "b.mp4"


# ----------------------------------------------------------------------------- what a folder holds


def test_everything_that_is_not_read_is_listed(root: Path, tmp_path: Path):
    whole = write_film(tmp_path / "whole.mp4", index_first=True)
    truncate(whole, root / "cut-early.mp4", 0.2)
    truncate(whole, root / "cut-late.mp4", 0.9)
    truncate(write_film(tmp_path / "end.mp4"), root / "no-index.mp4")
    write_film(root / "short.mp4", 1)
    write_sound(root / "sound.mp4")
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("no film\n" * 50)
    (root / "labels.csv").write_text("a,b\n")
    (root / "picture.png").write_bytes(b"\x89PNG\r\n")
    (root / ".hidden.mp4").touch()
    (root / ".folder").mkdir()
    (root / ".folder" / "film.mp4").touch()
    (root / "link.mp4").symlink_to(whole)
    (root / "folder-link").symlink_to(tmp_path)
    os.mkfifo(root / "pipe.mp4")
    shutil.copy(whole, root / "new\nline é 漢.mp4")
    shutil.copy(whole, os.fsencode(root) + b"/bytes-\xff.mp4")
    dataset = VideoFilesConfig(str(root), num_frames=8, stride=4, size=32).build()
    assert [film.path for film in dataset.films] == ["b.mp4", "below/a.webm", "cut-late.mp4", "new\nline é 漢.mp4"]
    reasons = {item.path: item.reason for item in dataset.unreadable}
    assert reasons.pop("cut-early.mp4").endswith("of 40 frames intact, 29 frames needed")
    assert reasons.pop("link.mp4") == reasons.pop("folder-link")
    assert reasons == {
        "bytes-\\udcff.mp4": "its name is not valid UTF-8: rename it",
        "empty.mp4": "empty file (0 bytes)",
        "labels.csv": "not a video file",
        "no-index.mp4": "truncated: the index (moov) at the end of the file is missing",
        "picture.png": "not a video file",
        "pipe.mp4": "not a regular file",
        "short.mp4": "too short: 1 frames, 29 frames needed",
        "sound.mp4": "no video stream (sound only)",
        "text.mp4": "not a media file, or its header is damaged",
    }
    assert [item.path for item in dataset.damaged] == ["cut-late.mp4"]
    for index in range(len(dataset)):
        dataset.read(index, generator(index))


def test_a_film_cut_short_is_read_wherever_a_clip_starts(tmp_path: Path):
    whole = write_film(tmp_path / "whole.mp4", 60, index_first=True, b_frames=3)
    truncate(whole, tmp_path / "films.mp4", 0.6)
    (tmp_path / "films").mkdir()
    (tmp_path / "films.mp4").rename(tmp_path / "films" / "cut.mp4")
    dataset = VideoFilesConfig(str(tmp_path / "films"), num_frames=4, stride=2, size=32).build()
    for seed in range(60):
        dataset.read(0, generator(seed))


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="nothing is forbidden to root")
def test_forbidden_folders_are_listed(root: Path):
    (root / "below").chmod(0)
    try:
        dataset = VideoFilesConfig(str(root), num_frames=4).build()
    finally:
        (root / "below").chmod(0o755)
    assert dataset.unreadable == (Unreadable("below/", "folder: permission denied"),)


def test_a_folder_that_gives_nothing_says_why(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere: expected a folder"):
        folder(str(tmp_path / "nowhere")).build()
    film = write_film(tmp_path / "film.mp4", 12)
    with pytest.raises(NotADirectoryError, match=r"film\.mp4 is a file"):
        folder(str(film)).build()
    with pytest.raises(ValueError, match=r"the longest has 12 frames, 31 frames are needed"):
        folder(str(tmp_path)).build()
    with pytest.raises(ValueError, match=r"the longest has 0\.44 s, 1\.88 s are needed"):
        VideoFilesConfig(str(tmp_path), fps=8.0).build()
    film.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no file: expected films \(\.mp4"):
        folder(str(tmp_path)).build()
    (tmp_path / "text.mp4").write_text("no film\n" * 50)
    with pytest.raises(ValueError, match=r"no readable film among 1 files\. The first: text\.mp4: not a media file"):
        folder(str(tmp_path)).build()


@pytest.mark.parametrize(
    "values",
    [
        {"num_frames": 0},
        {"stride": 0},
        {"size": (0, 4)},
        {"fps": 0.0},
        {"crop_scale": (0.5, 1.5)},
        {"crop_ratio": (2.0, 1.0)},
    ],
)
def test_values_that_no_clip_can_have_are_refused(values: dict):
    with pytest.raises(ValueError, match=f"VideoFilesConfig.{next(iter(values))} is "):
        VideoFilesConfig("films", **values)


# ----------------------------------------------------------------------------- the index


def test_a_second_start_probes_nothing(root: Path, tmp_path: Path, probed: list[str]):
    write_film(root / "turned.mp4", rotation=90)
    truncate(write_film(tmp_path / "whole.mp4", index_first=True), root / "cut.mp4", 0.8)
    config = VideoFilesConfig(str(root), num_frames=4, size=32, index_path=str(tmp_path / "kept" / "films.parquet"))
    first = config.build()
    assert sorted(probed) == ["a.webm", "b.mp4", "cut.mp4", "turned.mp4"]
    probed.clear()
    second = config.build()
    assert probed == []
    assert second.unreadable == first.unreadable
    assert second.damaged == first.damaged != ()
    for film, other in zip(first.films, second.films, strict=True):
        assert film.path == other.path
        assert vars(film.info).keys() == vars(other.info).keys()
        for one, two in zip(vars(film.info).values(), vars(other.info).values(), strict=True):
            np.testing.assert_array_equal(one, two)
    for index in range(len(first)):
        assert torch.equal(first.read(index, generator()).video, second.read(index, generator()).video)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["films.parquet"]


def test_only_new_and_changed_films_are_probed_again(root: Path, tmp_path: Path, probed: list[str]):
    index_path = str(tmp_path / "films.parquet")
    VideoFilesConfig(str(root), num_frames=4, index_path=index_path).build()
    write_film(root / "b.mp4", 30)
    write_film(root / "c.mp4")
    (root / "below" / "a.webm").rename(root / "gone.txt")
    probed.clear()
    dataset = VideoFilesConfig(str(root), num_frames=8, index_path=index_path).build()
    assert sorted(probed) == ["b.mp4", "c.mp4"]
    assert [film.info.num_frames for film in dataset.films] == [30, 40]


def test_an_index_in_the_folder_or_of_another_kind_is_refused(root: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"index_path.*expected a place outside"):
        VideoFilesConfig(str(root), index_path=str(root / "below" / "films.parquet")).build()
    wrong = tmp_path / "notes.txt"
    wrong.write_text("mine")
    with pytest.raises(ValueError, match=r"index_path.*no Parquet file.*delete it, or name another"):
        VideoFilesConfig(str(root), index_path=str(wrong)).build()
    assert wrong.read_text() == "mine"


def test_nothing_is_written_into_the_folder(root: Path, tmp_path: Path):
    before = sorted(path.name for path in root.rglob("*"))
    VideoFilesConfig(str(root), num_frames=4, index_path=str(tmp_path / "i.parquet")).build().read(0, generator())
    assert sorted(path.name for path in root.rglob("*")) == before


def test_the_tiny_film_is_made_once():
    dataset = tiny().build()
    film = Path(dataset.root) / dataset.films[0].path
    changed = film.stat().st_mtime_ns
    assert dataset.read(0, generator()).video.shape == (1, 4, 3, 32, 32)
    tiny()
    assert film.stat().st_mtime_ns == changed
    assert [path.name for path in Path(dataset.root).iterdir()] == [film.name]


# ----------------------------------------------------------------------------- an index made before


def test_films_of_an_index_are_read_without_a_look_at_the_folder(root: Path, tmp_path: Path, probed: list[str]):
    path = str(tmp_path / "films.parquet")
    build.build_index([str(root)], path)
    write_film(root / "later.mp4")
    probed.clear()
    dataset = video_files.index(path).build()
    assert probed == []
    assert [film.path for film in dataset.films] == ["b.mp4", "below/a.webm"]
    by_folder = VideoFilesConfig(str(root), index_path=path).build()
    assert [film.path for film in by_folder.films] == ["b.mp4", "below/a.webm", "later.mp4"]


def test_a_film_that_changed_since_it_was_indexed_is_not_read(root: Path, tmp_path: Path):
    path = str(tmp_path / "films.parquet")
    build.build_index([str(root)], path)
    dataset = VideoFilesConfig(index_path=path, num_frames=4).build()
    write_film(root / "b.mp4", 60)
    with pytest.raises(UnreadableVideo, match=r"b.mp4: changed since it was indexed: run fourd data index again"):
        dataset.read(0, generator())
    (root / "b.mp4").unlink()
    with pytest.raises(FileNotFoundError, match=r"b.mp4 is in the index and no longer there: is its disk away"):
        dataset.read(0, generator())


def test_held_out_films_stay_when_the_clip_changes_and_parts_share_nothing(tmp_path: Path):
    (tmp_path / "films").mkdir()
    for number in range(12):
        write_film(tmp_path / "films" / f"{number}.mp4", 8, gop=4)
    path = str(tmp_path / "films.parquet")
    build.build_index([str(tmp_path / "films")], path)
    parts = {
        part: [film.path for film in VideoFilesConfig(index_path=path, num_frames=4, part=part).build().films]
        for part in ("all", "train", "held_out")
    }
    assert len(parts["held_out"]) == 1
    assert sorted(parts["train"] + parts["held_out"]) == parts["all"]


def test_the_films_with_the_lowest_hashes_are_held_out(root: Path, tmp_path: Path):
    (info,) = (film.info for film in VideoFilesConfig(str(root)).build().films[:1])
    names = sorted(f"{number}.mp4" for number in range(5000))
    path = tmp_path / "films.parquet"
    write_films(path, (Film(name, 1, "v", "f", info) for name in names), str(root))
    held_out = VideoFilesConfig(index_path=str(path), num_frames=4, part="held_out").build()
    lowest = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:250]
    assert [film.path for film in held_out.films] == sorted(lowest)
    train = VideoFilesConfig(index_path=str(path), num_frames=4, part="train").build()
    assert len(train) == 4750
    assert train.films[4749].path == max(set(names) - set(lowest))
    assert len({train.fingerprint, held_out.fingerprint}) == 2


def test_the_fingerprint_follows_names_lengths_and_contents(root: Path, tmp_path: Path):
    films = VideoFilesConfig(str(root), num_frames=4).build().films
    path = tmp_path / "films.parquet"
    shorter = replace(films[0].info, pts=films[0].info.pts[:-1])
    prints = set()
    for change in ({}, {"path": "c.mp4"}, {"fingerprint": "other"}, {"info": shorter}):
        write_films(path, [replace(films[0], **change)], str(root))
        prints.add(video_files.index(str(path)).build().fingerprint)
    assert len(prints) == 4
    write_films(path, [replace(films[0], version="moved", num_bytes=1)], str(root))
    assert video_files.index(str(path)).build().fingerprint in prints


def test_neither_a_folder_nor_an_index_is_refused():
    with pytest.raises(ValueError, match="neither root nor index_path"):
        VideoFilesConfig()


def test_a_path_that_leaves_its_root_is_refused(root: Path, tmp_path: Path):
    path = tmp_path / "films.parquet"
    build.build_index([str(root)], path)
    (film, _) = FilmIndex(path).films()
    write_films(path, [replace(film, path="../films/b.mp4")], str(root))
    with pytest.raises(ValueError, match="leaves its root"):
        video_files.index(str(path)).build().read(0, generator())


# ----------------------------------------------------------------------------- what is not the film's fault


def test_a_disk_that_fails_is_not_the_films_fault(root: Path, monkeypatch: pytest.MonkeyPatch):
    dataset = VideoFilesConfig(str(root), num_frames=4).build()

    def broken(store, path):
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(LocalStore, "about", broken)
    with pytest.raises(OSError, match="Input/output error"):
        dataset.read(0, generator())


def test_a_folder_that_is_gone_is_not_the_films_fault(root: Path):
    dataset = VideoFilesConfig(str(root), num_frames=4).build()
    root.rename(root.with_name("unmounted"))
    with pytest.raises(FileNotFoundError):
        dataset.read(0, generator())


# ----------------------------------------------------------------------------- an object store


@pytest.fixture
def remote(root: Path, tmp_path: Path) -> Iterator[VideoFilesConfig]:
    """Put the films into an object store in memory, and index them there."""
    store = fsspec.filesystem("memory")
    for path in ("b.mp4", "below/a.webm"):
        store.pipe(f"/films/{path}", (root / path).read_bytes())
    films = VideoFilesConfig(str(root)).build().films
    there = [replace(film, version=open_store("memory://films").about(film.path)[1]) for film in films]
    write_films(tmp_path / "remote.parquet", there, "memory://films")
    yield VideoFilesConfig(index_path=str(tmp_path / "remote.parquet"), num_frames=4, size=32)
    store.store.clear()


@pytest.mark.parametrize("cached", [False, True])
def test_films_of_an_object_store_give_the_same_clips(
    cached: bool, remote: VideoFilesConfig, root: Path, tmp_path: Path
):
    cache = CacheConfig(str(tmp_path / "cache"), max_bytes=10**9, block_bytes=2**16) if cached else None
    dataset = replace(remote, cache=cache).build()
    local = VideoFilesConfig(str(root), num_frames=4, size=32).build()
    for index in range(2):
        for again in (dataset, pickle.loads(pickle.dumps(dataset))):
            clip = again.read(index, generator(index))
            assert torch.equal(clip.video, local.read(index, generator(index)).video)
    assert (tmp_path / "cache").exists() == cached


def test_an_object_that_was_changed_is_not_read_and_one_that_is_gone_stops(remote: VideoFilesConfig, root: Path):
    dataset = remote.build()
    store = fsspec.filesystem("memory")
    store.pipe("/films/b.mp4", (root / "b.mp4").read_bytes())  # of the same length, at another time
    with pytest.raises(UnreadableVideo, match=r"b\.mp4: changed since it was indexed: run fourd data index again"):
        dataset.read(0, generator())
    store.rm("/films/b.mp4")
    with pytest.raises(FileNotFoundError):
        dataset.read(0, generator())

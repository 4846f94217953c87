"""Clips on disk: the same bytes whatever happens on the way."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from fourd.datasets.toy_world import clips as clips_module
from fourd.datasets.toy_world import store
from fourd.datasets.toy_world.clips import ToyClips, World

WORLD = World(seed=1, num_frames=2, height=16, width=16, duration_s=0.7, num_points=4, query_frames="first")
COUNT = 3 * store.CHUNK


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.setattr(store.os, "cpu_count", lambda: 1)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.npy")) if "/." not in str(p)}


def filled(cache_dir: Path, first: int, count: int) -> store.ClipStore:
    opened = store.ClipStore(WORLD, cache_dir)
    opened.fill(first, count)
    return opened


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("whole"), 0, COUNT).folder


def test_every_chunk_holds_every_field(whole):
    assert len(contents(whole)) == 3 * len(ToyClips.__dataclass_fields__)


def test_a_killed_generation_goes_on_and_gives_the_same_bytes(whole, tmp_path, monkeypatch):
    real, calls = store.np.save, []

    def save_until_killed(path, values):
        calls.append(path)
        if len(calls) == len(ToyClips.__dataclass_fields__) + 4:
            raise KeyboardInterrupt
        real(path, values)

    monkeypatch.setattr(store.np, "save", save_until_killed)
    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path, 0, COUNT)
    monkeypatch.setattr(store.np, "save", real)
    folder = tmp_path / "toy_world" / WORLD.name
    finished = store.chunk_folder(folder, 0) / "video.npy"
    assert finished.is_file()
    assert not store.chunk_folder(folder, 1).exists(), "a half-written chunk stands in the place of a whole one"
    written = finished.stat().st_mtime_ns
    filled(tmp_path, 0, COUNT)
    assert finished.stat().st_mtime_ns == written, "a finished chunk was made again"
    assert contents(folder) == contents(whole)


def test_several_processes_give_the_same_bytes(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(store.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(store, "_SMALLEST_SHARE", 1)
    assert contents(filled(tmp_path, 0, 2 * store.CHUNK).folder).items() <= contents(whole).items()


def test_what_is_stored_is_not_made_again(whole, monkeypatch):
    def fail(*_):
        raise AssertionError("a stored chunk was made again")

    monkeypatch.setattr(store, "make_chunk", fail)
    filled(whole.parent.parent, store.CHUNK - 1, 2)


def test_any_part_of_the_world_shares_its_chunks(whole, tmp_path):
    part = filled(tmp_path, store.CHUNK + 5, 1)
    assert contents(part.folder).items() <= contents(whole).items()
    assert len(contents(part.folder)) == len(ToyClips.__dataclass_fields__)


def test_a_faster_process_keeps_its_chunk(whole, tmp_path):
    folder = filled(tmp_path, 0, 1).folder
    store.make_chunk(WORLD, folder, 0)
    assert [path.name for path in folder.iterdir()] == ["chunk-000000"]


def test_name_changes_with_version_and_parameters(monkeypatch):
    names = {WORLD.name, World(1, 2, 16, 16, 0.8, 4, "first").name, World(1, 2, 16, 16, 0.7, 4, "random").name}
    monkeypatch.setattr(clips_module, "VERSION", clips_module.VERSION + 1)
    assert len(names | {WORLD.name}) == 4


def test_store_travels_to_other_processes_without_its_data(whole):
    opened = filled(whole.parent.parent, 0, COUNT)
    video = opened.read(40, "video")
    assert len(pickle.dumps(opened)) < 2000
    assert np.array_equal(pickle.loads(pickle.dumps(opened)).read(40, "video"), video)


def test_what_was_not_made_is_made_when_it_is_read_and_no_more(whole, tmp_path):
    opened = store.ClipStore(WORLD, tmp_path)
    assert not opened.folder.exists()
    video = opened.read(store.CHUNK + 3, "video")
    assert contents(opened.folder).items() <= contents(whole).items()
    assert len(contents(opened.folder)) == len(ToyClips.__dataclass_fields__)
    assert np.array_equal(video, np.load(store.chunk_folder(whole, 1) / "video.npy")[3])

"""The same command does only what is missing, whenever it was killed, and refuses what does not belong together."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fourd.extraction import ExtractConfig, extract, read_index
from fourd.extraction.files import read_metadata
from tests.extraction.small import backbone, film, stored

ROOT = Path(__file__).parents[2]
CONFIG = ExtractConfig(overlap=2)

SLOW = """
import sys, time
from fourd.extraction import ExtractConfig, extract
from tests.extraction.small import backbone
model = backbone()
model.register_forward_pre_hook(lambda *_: time.sleep(0.02))
extract(sys.argv[1], sys.argv[2], model, ExtractConfig(overlap=2), batch_size=2)
"""


def features_in(out: Path) -> dict[str, int]:
    """Name the files of features with the times at which they were written."""
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}


def kill_half_way(videos: Path, out: Path) -> None:
    """Start an extraction, and kill it once two files are done and another is being written."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(videos), str(out)], env=environment)
    try:
        deadline = time.monotonic() + 60
        while not (len(features_in(out)) >= 2 and list(out.rglob(".*.part"))):
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_killed_and_started_again_gives_what_one_go_gives(tmp_path: Path):
    videos, out = tmp_path / "videos", tmp_path / "out"
    for number in range(6):
        film(videos / f"part-{number % 2}" / f"{number}.mp4", 24 + number)
    kill_half_way(videos, out)
    before = features_in(out)
    assert 2 <= len(before) < 6
    assert all(read_metadata(out / name) for name in before), "half a file was taken for whole"
    entries = extract(videos, out, backbone(), CONFIG, batch_size=2)
    after = features_in(out)
    assert len(after) == 6
    assert {name: after[name] for name in before} == before, "work was done twice"
    assert not list(out.rglob("*.part"))
    assert read_index(out / "index.parquet") == entries
    expected = extract(videos, tmp_path / "one go", backbone(), CONFIG, batch_size=2)
    for entry in expected:
        found, whole = stored(out, entry.key), stored(tmp_path / "one go", entry.key)
        assert all(torch.allclose(found[name].float(), whole[name].float(), atol=2e-3) for name in whole)
        assert read_metadata(out / f"{entry.key}.safetensors") == read_metadata(
            tmp_path / "one go" / f"{entry.key}.safetensors"
        )
    assert entries == expected


def test_a_finished_folder_is_left_alone(tmp_path: Path):
    path, out, model = film(tmp_path / "a.mp4"), tmp_path / "out", backbone()
    first = extract(path, out, model, CONFIG)
    before = features_in(out)
    model.register_forward_pre_hook(lambda *_: pytest.fail("it was encoded again"))
    assert extract(path, out, model, CONFIG, batch_size=3, num_threads=1) == first
    assert features_in(out) == before


def test_other_videos_join_a_folder_and_earlier_rows_stay(tmp_path: Path):
    one, other, out = film(tmp_path / "a.mp4"), film(tmp_path / "b.mp4"), tmp_path / "out"
    extract(one, out, backbone(), CONFIG)
    before = features_in(out)
    assert [entry.key for entry in extract(other, out, backbone(), CONFIG)] == ["b.mp4"]
    assert before.items() <= features_in(out).items()
    assert [row.key for row in read_index(out / "index.parquet")] == ["a.mp4", "b.mp4"]


def test_a_video_that_has_changed_is_encoded_again(tmp_path: Path):
    path, out = film(tmp_path / "a.mp4", 12), tmp_path / "out"
    extract(path, out, backbone(), CONFIG)
    film(path, 18)
    (entry,) = extract(path, out, backbone(), CONFIG)
    assert (entry.num_frames, len(stored(out, "a.mp4")["features"])) == (18, 9)
    path.write_text("no film any more")
    with pytest.raises(ValueError, match="none of 1 files can be read"):
        extract(path, out, backbone(), CONFIG)
    assert features_in(out) == {}
    assert read_index(out / "index.parquet")[0].status.startswith("unreadable")


def test_a_video_that_has_only_moved_is_not_encoded_again(tmp_path: Path):
    path, out = film(tmp_path / "old" / "a.mp4"), tmp_path / "out"
    extract(path, out, backbone(), CONFIG)
    before = features_in(out)
    (tmp_path / "old").rename(tmp_path / "new")
    (entry,) = extract(tmp_path / "new", out, backbone(), CONFIG)
    assert entry.path == str(tmp_path / "new" / "a.mp4")
    assert features_in(out) == before


def test_another_video_under_a_key_in_use_is_refused(tmp_path: Path):
    out = tmp_path / "out"
    extract(film(tmp_path / "x" / "a.mp4", 12), out, backbone(), CONFIG)
    before = features_in(out)
    with pytest.raises(ValueError, match=r"a\.mp4 is .*x/a\.mp4 already, and not .*y/a\.mp4: name another --out"):
        extract(film(tmp_path / "y" / "a.mp4", 13), out, backbone(), CONFIG)
    assert features_in(out) == before


@pytest.mark.parametrize(
    ("options", "seed", "message"),
    [
        ({"overlap": 0}, 0, "config.json belongs to another run: overlap was 2 and is 0"),
        ({"overlap": 2, "depths": (0.5,)}, 0, "depths.0 was"),
        ({"overlap": 2}, 1, "inputs.json belongs to another run: weights_sha256 was"),
    ],
)
def test_a_folder_of_other_features_is_refused(options: dict, seed: int, message: str, tmp_path: Path):
    path, out = film(tmp_path / "a.mp4"), tmp_path / "out"
    extract(path, out, backbone(), CONFIG)
    before = {item: item.read_bytes() for item in out.iterdir()}
    with pytest.raises(ValueError, match=message):
        extract(path, out, backbone(seed=seed), ExtractConfig(**options))
    assert {item: item.read_bytes() for item in out.iterdir()} == before


def test_a_file_of_other_features_in_the_folder_is_refused(tmp_path: Path):
    path = film(tmp_path / "a.mp4")
    for name, seed in (("one", 0), ("other", 1)):
        extract(path, tmp_path / name, backbone(seed=seed), CONFIG)
    shutil.copy(tmp_path / "one" / "a.mp4.safetensors", tmp_path / "other")
    with pytest.raises(ValueError, match="holds features of another config or backbone"):
        extract(path, tmp_path / "other", backbone(seed=1), CONFIG)


def test_a_file_that_was_cut_or_deleted_is_made_again(tmp_path: Path):
    path, out = film(tmp_path / "a.mp4"), tmp_path / "out"
    entries = extract(path, out, backbone(), CONFIG)
    whole = (out / "a.mp4.safetensors").read_bytes()
    (out / "a.mp4.safetensors").write_bytes(whole[:-10])
    assert extract(path, out, backbone(), CONFIG) == entries
    assert (out / "a.mp4.safetensors").read_bytes() == whole
    (out / "index.parquet").unlink()
    assert extract(path, out, backbone(), CONFIG) == entries
    assert read_index(out / "index.parquet") == entries
    (out / "a.mp4.safetensors").unlink()
    extract(film(tmp_path / "b.mp4"), out, backbone(), CONFIG)
    assert [row.key for row in read_index(out / "index.parquet")] == ["b.mp4"], "a row without its file stays"


def test_what_an_earlier_call_left_half_written_is_removed(tmp_path: Path):
    path, out = film(tmp_path / "a.mp4"), tmp_path / "out"
    (out / "deep").mkdir(parents=True)
    (out / "deep" / ".b.mp4.safetensors.part").write_bytes(b"half")
    extract(path, out, backbone(), CONFIG)
    assert not list(out.rglob("*.part"))


def test_two_at_once_in_a_folder_are_refused(tmp_path: Path):
    path, out, model = film(tmp_path / "a.mp4"), tmp_path / "out", backbone()
    refused = []

    def second(*_) -> None:
        with pytest.raises(ValueError, match="is at work in"):
            extract(path, out, backbone(), CONFIG)
        refused.append(True)

    model.register_forward_pre_hook(second)
    extract(path, out, model, CONFIG)
    assert refused


@pytest.mark.parametrize(("kind", "message"), [("file", "is a file: name a folder"), ("index", "no index of features")])
def test_a_place_that_is_no_folder_of_features_is_refused(kind: str, message: str, tmp_path: Path):
    path, out = film(tmp_path / "a.mp4"), tmp_path / "out"
    if kind == "file":
        out.touch()
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        out.mkdir()
        pq.write_table(pa.table({"x": [1]}), out / "index.parquet")
    with pytest.raises(ValueError, match=message):
        extract(path, out, backbone(), CONFIG)


def test_an_error_on_the_way_keeps_what_is_done(tmp_path: Path):
    for number in range(3):
        film(tmp_path / "videos" / f"{number}.mp4", 8)
    model, calls = backbone(), []

    def fails_at_last(*_) -> None:
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("out of memory")

    model.register_forward_pre_hook(fails_at_last)
    with pytest.raises(RuntimeError, match="out of memory"):
        extract(tmp_path / "videos", tmp_path / "out", model, ExtractConfig(), batch_size=1)
    assert features_in(tmp_path / "out").keys() == {"0.mp4.safetensors", "1.mp4.safetensors"}
    assert not list((tmp_path / "out").rglob("*.part"))
    assert [row.key for row in read_index(tmp_path / "out" / "index.parquet")] == ["0.mp4", "1.mp4"]


def test_a_video_keeps_its_key_whatever_else_is_named(tmp_path: Path):
    first = film(tmp_path / "films/a.mp4", 8)
    extract(tmp_path / "films", tmp_path / "out", backbone(), CONFIG)
    before = features_in(tmp_path / "out")
    entries = extract([first, film(tmp_path / "more/b.mp4", 8)], tmp_path / "out", backbone(), CONFIG)
    assert [entry.key for entry in entries] == ["a.mp4", "more/b.mp4"]
    assert before.items() <= features_in(tmp_path / "out").items()
    assert len(read_index(tmp_path / "out/index.parquet")) == 2


def test_another_video_of_the_same_size_and_time_is_not_taken_for_it(tmp_path: Path):
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    for folder, pixels in (("x", picture), ("y", 255 - picture)):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "a.bmp")
        os.utime(tmp_path / folder / "a.bmp", (0, 0))
    extract(tmp_path / "x/a.bmp", tmp_path / "out", backbone())
    with pytest.raises(ValueError, match=r"a\.bmp is .*x/a\.bmp already, and not .*y/a\.bmp: name another --out"):
        extract(tmp_path / "y/a.bmp", tmp_path / "out", backbone())


def test_what_others_are_writing_is_left_alone(tmp_path: Path):
    out = tmp_path / "out"
    extract(film(tmp_path / "a.mp4", 8), out, backbone(), CONFIG)
    extract(film(tmp_path / "b.mp4", 8), out / "nested", backbone(), CONFIG)
    others = [out / ".movie.mkv.part", out / ".movie.mp4.part", out / "nested/.c.mp4.safetensors.part"]
    for path in others:
        path.touch()
    extract(tmp_path / "a.mp4", out, backbone(), CONFIG)
    assert all(path.exists() for path in others)

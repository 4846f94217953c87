"""Pieces of shards are exact, are the ones that were indexed, and come from a disk or a store alike."""

from __future__ import annotations

import io
import pickle
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import fsspec
import numpy as np
import pytest
import torch

from fourd.datasets.video_shards import VideoShardsConfig, index, tiny, write_pieces
from fourd.index import table as tables
from fourd.index.pieces import KIND, SCHEMA
from fourd.index.table import RowTable, RowWriter
from fourd.media import UnreadableVideo
from fourd.storage import CacheConfig, StorageError
from tests.films import numbered_picture, read_number
from tests.storage.faulty_store import Faults, faulty_store

WHOLE_PICTURE = {"size": (48, 64), "crop_scale": (1.0, 1.0), "crop_ratio": (4 / 3, 4 / 3), "flip": False}


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def encode(first: int, num_frames: int = 24) -> bytes:
    """Encode numbered frames as prepared pieces are encoded: 12.5 per second, groups of 4."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(25, 2), options={"x264-params": "scenecut=0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 4, 0
        for number in range(first, first + num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_picture(number, (64, 48)))))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    write_pieces(folder, [encode(0), encode(100)], num_frames=24)
    return folder


def config(corpus: Path, **changes) -> VideoShardsConfig:
    return VideoShardsConfig(str(corpus / "train.parquet"), **{"num_frames": 5, **WHOLE_PICTURE, **changes})


def rewrite(corpus: Path, **changes) -> None:
    """Write the index again with other values in its first row."""
    table = RowTable(corpus / "train.parquet", KIND)
    rows = [table.row(number) for number in range(len(table))]
    metadata = {name: table.metadata[name] for name in ("codec", "time_base", "frame_ticks", "gop")}
    with RowWriter(corpus / "train.parquet", SCHEMA, KIND, **metadata) as writer:
        for row in [rows[0] | changes, *rows[1:]]:
            writer.write(row)


@pytest.mark.parametrize(("stride", "fps"), [(1, None), (3, None), (1, 6.25)])
def test_the_frames_are_those_that_the_clip_names(corpus: Path, stride: int, fps: float | None):
    dataset = config(corpus, stride=stride, fps=fps, aligned=False).build()
    step = stride if fps is None else 2
    starts = set()
    for seed in range(30):
        batch = dataset.read(1, generator(seed))
        numbers = [read_number(frame.permute(1, 2, 0).numpy()) for frame in batch.video[0]]
        starts.add(numbers[0])
        assert numbers == list(range(numbers[0], numbers[0] + 5 * step, step))
        assert 100 <= numbers[0] <= 124 - 4 * step - 1
        torch.testing.assert_close(batch.time_s[0], (torch.tensor(numbers) - 100) / 12.5)
        assert (batch.key, batch.group) == (("piece1",), ("film1",))
    assert len(starts) > 5


def test_aligned_clips_start_at_key_frames_alone_and_at_all_that_fit(corpus: Path):
    dataset = config(corpus, num_frames=5).build()
    batches = [dataset.read(1, generator(seed)) for seed in range(60)]
    starts = {read_number(batch.video[0, 0].permute(1, 2, 0).numpy()) - 100 for batch in batches}
    assert starts == {0, 4, 8, 12, 16}


def test_a_dataset_goes_to_other_processes(corpus: Path):
    dataset = config(corpus).build()
    other = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(other.read(1, generator()).video, dataset.read(1, generator()).video)


def test_short_pieces_are_left_out_and_counted_once(corpus: Path):
    rewrite(corpus, num_frames=4)
    dataset = config(corpus).build()
    assert [dataset.piece(number).key for number in range(len(dataset))] == ["piece1"]
    assert [item.reason for item in dataset.unreadable] == ["1 of 2 pieces are too short: 5 frames needed"]
    with pytest.raises(ValueError, match="none of 2 pieces has the 30 frames of a clip"):
        config(corpus, num_frames=30).build()


def test_a_shard_that_changed_is_refused_and_not_called_undecodable(corpus: Path):
    dataset = config(corpus).build()
    shard = corpus / "shards" / "train-00000.tar"
    data = bytearray(shard.read_bytes())
    data[dataset.piece(0).offset + 600] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StorageError, match=r"train-00000.tar: piece0 at byte \d+ is not what .*train.parquet says"):
        dataset.read(0, generator())
    dataset.read(1, generator())
    shard.write_bytes(data[:-20000])
    with pytest.raises(StorageError, match="Was it cut off"):
        dataset.read(1, generator())
    shard.unlink()
    with pytest.raises(FileNotFoundError):
        dataset.read(1, generator())


def test_a_piece_that_cannot_be_decoded_is_named(corpus: Path):
    write_pieces(corpus, [b"\0" * 5000, encode(100)], num_frames=24)
    with pytest.raises(UnreadableVideo, match=r"train-00000.tar:piece0.mp4: "):
        config(corpus).build().read(0, generator())


@pytest.mark.parametrize("shard", ["../shards/train-00000.tar", "/etc/passwd"])
def test_a_shard_outside_of_the_root_is_refused(corpus: Path, shard: str):
    rewrite(corpus, shard=shard)
    with pytest.raises(ValueError, match="leaves its root"):
        config(corpus).build().read(0, generator())


def test_a_link_that_leads_out_of_the_root_is_refused(corpus: Path, tmp_path: Path):
    shard = corpus / "shards" / "train-00000.tar"
    shard.rename(tmp_path / "elsewhere.tar")
    shard.symlink_to(tmp_path / "elsewhere.tar")
    with pytest.raises(ValueError, match="a link that leads out of"):
        config(corpus).build().read(0, generator())


def test_an_object_store_gives_the_same_clips(corpus: Path, tmp_path: Path):
    memory = fsspec.filesystem("memory")
    memory.put(str(corpus / "shards"), "/bucket/shards", recursive=True)
    cache = CacheConfig(str(tmp_path / "cache"), 10**7, 10_000)
    local = config(corpus).build()
    for remote in (config(corpus, root="memory://bucket"), config(corpus, root="memory://bucket", cache=cache)):
        dataset = remote.build()
        for number in (0, 1, 1):
            assert torch.equal(dataset.read(number, generator()).video, local.read(number, generator()).video)
    memory.rm("/bucket", recursive=True)
    assert torch.equal(dataset.read(1, generator()).video, local.read(1, generator()).video), "the cache is not used"
    shutil.rmtree(cache.folder)
    with pytest.raises(FileNotFoundError):
        dataset.read(1, generator())


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_store_that_fails_now_and_then_gives_the_same_clips(corpus: Path, tmp_path: Path, is_cached: bool):
    cache = CacheConfig(str(tmp_path / "cache"), 2 * 10**5, 10_000) if is_cached else None
    faults = Faults(errors=0.2, cut=0.1, short=0.1, reset=0.05)
    local = config(corpus).build()
    with faulty_store(faults) as server:
        server.put_folder("bucket", corpus)
        dataset = config(corpus, root="s3://bucket", cache=cache).build()
        for number in range(20):
            found = dataset.read(number % 2, generator(number))
            assert torch.equal(found.video, local.read(number % 2, generator(number)).video)
    assert sum(server.injected.values()) > 0


def test_the_index_may_lie_in_the_object_store_too(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "COPIES", str(tmp_path / "copies"))
    local, memory = config(corpus).build(), fsspec.filesystem("memory")
    memory.put(str(corpus), "/whole", recursive=True)
    dataset = replace(config(corpus), index="memory://whole/train.parquet").build()
    assert dataset.fingerprint == local.fingerprint
    for copy in (dataset, pickle.loads(pickle.dumps(dataset))):
        assert torch.equal(copy.read(1, generator()).video, local.read(1, generator()).video)


def test_the_fingerprint_is_the_indexs(corpus: Path):
    before = config(corpus).build().fingerprint
    assert config(corpus, flip=True).build().fingerprint == before
    rewrite(corpus, start_s=1.0)
    assert config(corpus).build().fingerprint != before


def test_named_configs():
    assert index("a.parquet") == VideoShardsConfig("a.parquet")
    assert index("a.parquet").stride == 1
    assert replace(tiny(), num_frames=4) == tiny()

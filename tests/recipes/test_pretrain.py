"""`--data` is taken for what lies there, and an error says what was found instead."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fourd.datasets import video_shards
from fourd.datasets.video_files import VideoFilesConfig, index_in_cache
from fourd.datasets.video_shards import VideoShardsConfig, write_pieces
from fourd.index.build import build_index
from fourd.index.pieces import KIND, SCHEMA
from fourd.index.table import RowTable, RowWriter
from fourd.recipes.pretrain import clips_of, laptop
from tests.datasets.test_video_shards import encode
from tests.films import write_film


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Make a folder of shards whose held-out part is the training part once more."""
    folder = tmp_path / "corpus"
    made = Path(video_shards.tiny().index)
    folder.mkdir()
    for name in ("train", "held_out"):
        (folder / f"{name}.parquet").write_bytes(made.read_bytes())
    (folder / "shards").symlink_to(made.parent / "shards")
    return folder


def test_a_folder_or_url_is_of_films(tmp_path: Path):
    for data in (str(tmp_path), "memory://bucket/films", str(tmp_path / "nowhere")):
        clips, held_out = clips_of(data, 16, 112)
        films = {"num_frames": 16, "size": 112, "index_path": index_in_cache(data)}
        assert clips == VideoFilesConfig(data, part="train", **films)
        assert held_out == VideoFilesConfig(data, part="held_out", **films)


def test_an_index_of_films_is_known_by_what_it_says(tmp_path: Path):
    (tmp_path / "films").mkdir()
    for number in range(4):
        write_film(tmp_path / "films" / f"{number}.mp4", 8, gop=4)
    path = tmp_path / "no ending"
    build_index([str(tmp_path / "films")], path)
    clips, held_out = clips_of(str(path), 2, 32)
    assert (len(clips.build()), len(held_out.build())) == (3, 1)
    assert laptop(str(path)).data.index_path == str(path)


def test_a_prepared_corpus_is_known_by_its_indexes(corpus: Path):
    clips, held_out = clips_of(str(corpus), 4, 32)
    assert clips == VideoShardsConfig(str(corpus / "train.parquet"), num_frames=4, size=32)
    assert clips.stride == 1  # the pieces have the rate of the clips already
    assert held_out == VideoShardsConfig(str(corpus / "held_out.parquet"), num_frames=4, size=32)
    assert len(clips.build()) == 3
    only, nothing = clips_of(str(corpus / "train.parquet"), 4, 32)
    assert only == clips
    assert nothing is None


def test_a_corpus_that_holds_nothing_out_has_no_held_out_clips(corpus: Path):
    metadata = RowTable(corpus / "train.parquet", KIND).metadata
    with RowWriter(corpus / "held_out.parquet", SCHEMA, KIND, **{k: v for k, v in metadata.items() if k != "kind"}):
        pass
    assert clips_of(str(corpus), 4, 32)[1] is None


@pytest.mark.parametrize("missing", ["train.parquet", "held_out.parquet"])
def test_a_corpus_that_is_not_complete_is_refused(missing: str, corpus: Path):
    (corpus / missing).unlink()
    with pytest.raises(ValueError, match=r"is a corpus that is not complete.*Go on with the same `fourd data prepare`"):
        clips_of(str(corpus), 4, 32)


def test_another_file_is_refused_with_what_it_is(tmp_path: Path):
    path = tmp_path / "x.parquet"
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"x\.parquet is a file, not even of Parquet: expected a folder of films"):
        clips_of(str(path), 4, 32)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(ValueError, match=r"x\.parquet is a file, no index of fourd: expected a folder of films"):
        clips_of(str(path), 4, 32)


def test_a_prepared_corpus_in_an_object_store_is_found(tmp_path: Path):
    folder = tmp_path / "corpus"
    write_pieces(folder, [encode(0), encode(50)], num_frames=24)
    memory = fsspec.filesystem("memory")
    memory.put(str(folder / "shards"), "/prepared/shards", recursive=True)
    memory.put(str(folder / "train.parquet"), "/prepared/train.parquet")
    with pytest.raises(ValueError, match=r"not complete: expected train\.parquet and held_out\.parquet"):
        clips_of("memory://prepared", 4, 32)
    memory.put(str(folder / "train.parquet"), "/prepared/held_out.parquet")
    train, held_out = clips_of("memory://prepared/", 4, 32)
    assert (len(train.build()), len(held_out.build())) == (2, 2)
    train.build().read(0, np.random.default_rng(0))
    only, nothing = clips_of("memory://prepared/train.parquet", 4, 32)
    assert (len(only.build()), nothing) == (2, None)
    memory.rm("/prepared", recursive=True)

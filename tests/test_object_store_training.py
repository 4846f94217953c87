"""Training over an object store that delays, cuts and refuses answers is the training over a local disk."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fourd.backbones.video_vit import VideoViTConfig
from fourd.datasets.video_shards import VideoShardsConfig, write_pieces
from fourd.loader import BlockShuffle
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.optim import OptimConfig
from fourd.storage import CacheConfig, StorageError
from fourd.trainer import RunConfig, fit
from tests.datasets.test_video_shards import encode
from tests.storage.faulty_store import Faults, FaultyStore, faulty_store

NUM_PIECES = 16
FAULTS = Faults(errors=0.05, cut=0.1, short=0.1, slow=0.3, delay_s=0.02)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_pieces(folder, [encode(14 * number, 12) for number in range(NUM_PIECES)])
    return folder


def run(corpus: Path, **changes: Any) -> RunConfig:
    """Describe eight steps of four clips: two passes over sixteen pieces."""
    backbone = VideoViTConfig(24, 2, 2, 48, patch=(2, 8, 8), num_frames=4, size=(16, 16))
    objective = SimpleMAEConfig(backbone, mask_ratio=0.5, decoder_patch=(4, 8, 8), num_decoder_blocks=1)
    data = VideoShardsConfig(str(corpus / "train.parquet"), num_frames=4, size=16)
    shuffle = BlockShuffle(block=2, blocks_open=4)
    values = {"steps": 8, "batch_size": 4, "save_every": 2, "log_every": 1, "device": "cpu", "num_workers": 2}
    return RunConfig(objective, data, None, OptimConfig(1e-3), shuffle=shuffle, **{**values, **changes})


def over_store(config: RunConfig, cache: Path) -> RunConfig:
    kept = CacheConfig(str(cache), max_bytes=2**20, block_bytes=2**10)
    return replace(config, data=replace(config.data, root="s3://bucket/corpus", cache=kept))


def lines_of(out: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in lines_of(out, "metrics.jsonl")]


def test_a_faulty_store_changes_nothing(corpus: Path, tmp_path: Path):
    local = fit(run(corpus), tmp_path / "local")
    with faulty_store(FAULTS, seed=1) as store:
        _put(store, corpus)
        remote = fit(over_store(run(corpus), tmp_path / "cache"), tmp_path / "remote")
    assert sum(store.injected[name] for name in ("errors", "cut", "short")) >= 1
    assert losses(tmp_path / "remote") == losses(tmp_path / "local")
    for (name, one), other in zip(local.state_dict().items(), remote.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    ledger = lines_of(tmp_path / "remote", "ledger.jsonl")
    assert ledger == lines_of(tmp_path / "local", "ledger.jsonl")
    assert lines_of(tmp_path / "remote", "quarantine.jsonl") == []
    for first in (0, 4):
        shown = Counter(key for line in ledger[first : first + 4] for key in line["keys"])
        assert len(shown) == NUM_PIECES
        assert set(shown.values()) == {1}


def _put(store: FaultyStore, corpus: Path) -> None:
    for file in (corpus / "shards").iterdir():
        store.put("bucket", f"corpus/shards/{file.name}", file.read_bytes())


def _break_after(store: FaultyStore, num_reads: int) -> None:
    """Let every answer fail from some reading on."""
    draw = store.draw

    def counting(method: str) -> tuple[str, float]:
        if store.requests["GET"] >= num_reads:
            store.faults = Faults(errors=1.0)
        return draw(method)

    store.draw = counting  # type: ignore[method-assign]


def test_a_store_that_fails_for_good_stops_the_run_and_it_goes_on_later(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fourd.storage.retrying.time.sleep", lambda seconds: None)
    whole, config = tmp_path / "whole", over_store(run(corpus, num_workers=0), tmp_path / "cache")
    fit(run(corpus, num_workers=0), whole)
    out = tmp_path / "stopped"
    with faulty_store(seed=2) as store:
        _put(store, corpus)
        _break_after(store, 8)
        with pytest.raises(StorageError, match=r"step \d+: clip \d+ cannot be read: s3://bucket/corpus"):
            fit(config, out)
        done = [line["step"] for line in lines_of(out, "ledger.jsonl")]
        assert 2 <= len(done) < 8, "it should have stopped in the middle"
        store.faults, store.draw = Faults(), type(store).draw.__get__(store)  # type: ignore[method-assign]
        fit(config, out)
    assert losses(out) == losses(whole)
    assert lines_of(out, "ledger.jsonl") == lines_of(whole, "ledger.jsonl")
    name = "final/model.safetensors"
    assert (out / name).read_bytes() == (whole / name).read_bytes()

"""Pretraining on your own videos: `fourd pretrain [RECIPE] --data DATA --out RUN`, where DATA is what `clips_of` takes.

All of them are SimpleMAE as published: 95% of the patches hidden, plain pixels, the last two blocks.
Frames are 2 apart, crops and flips are random, the decoder starts from an even grey; none of that, nor
any number of the optimiser, is from the paper.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fourd.backbones import video_vit
from fourd.backbones.video_vit import VideoViTConfig
from fourd.datasets.toy_world import ToyWorldConfig
from fourd.datasets.video_files import VideoFilesConfig, index_in_cache
from fourd.datasets.video_shards import VideoShardsConfig
from fourd.index import films, pieces
from fourd.index.remote import is_url
from fourd.index.table import kind_of, num_rows
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.optim import OptimConfig
from fourd.trainer import RunConfig
from fourd.types import DatasetConfig


def laptop(data: str) -> RunConfig:
    """Pretrain 4DS-S on clips of 16 frames of 112 pixels: about 11 clips/s on two CPU cores.

    `fourd pretrain --data DIR --out RUN`. Meant to be seen working, not to give good features.
    """
    backbone = video_vit.small().at(112)
    return _run(data, backbone, learning_rate=1e-3, steps=1000, batch_size=8, warmup_steps=50, num_workers=1)


def small(data: str) -> RunConfig:
    """Pretrain 4DS-S at 224 pixels on one GPU."""
    return _run(data, video_vit.small(), 3e-4, steps=500_000, batch_size=256)


def base(data: str) -> RunConfig:
    """Pretrain 4DS-B at 224 pixels on one GPU."""
    return _run(data, video_vit.base(), 3e-4, steps=500_000, batch_size=256)


def large(data: str) -> RunConfig:
    """Pretrain 4DS-L at 224 pixels on one large GPU."""
    return _run(data, video_vit.large(), 3e-4, steps=500_000, batch_size=256)


def _run(
    data: str,
    backbone: VideoViTConfig,
    learning_rate: float,
    steps: int,
    batch_size: int,
    warmup_steps: int = 10_000,
    num_workers: int = 8,
) -> RunConfig:
    clips, held_out = clips_of(data, backbone.num_frames, backbone.size)
    return RunConfig(
        objective=SimpleMAEConfig(backbone, decoder_bias=0.5, decoder_gain=0.0),
        data=clips,
        held_out=held_out,
        optim=OptimConfig(learning_rate=learning_rate, warmup_steps=warmup_steps),
        steps=steps,
        batch_size=batch_size,
        num_workers=num_workers,
        save_every=100 if steps < 10_000 else 1000,
        held_out_every=100 if steps < 10_000 else 1000,
    )


Clips = tuple[DatasetConfig, DatasetConfig | None]
"""Those to train on, and those held out, if there are any."""


def clips_of(data: str, num_frames: int, size: int | tuple[int, int]) -> Clips:
    """Describe the clips to train on, and those held out, of whatever `--data` names.

    data: a folder or URL of films, an index of films (`fourd data index`), a folder of prepared shards (`fourd data
    prepare`), or one index of such. Raises ValueError for a file that is none of these, and for a corpus that is not
    complete.
    """
    place = Path(data).expanduser()
    if not is_url(data) and place.is_file():
        return _clips_of_index(place, num_frames, size)
    if not is_url(data) and any((place / name).exists() for name in _PREPARED):
        return _clips_of_corpus(place, num_frames, size)
    clips = VideoFilesConfig(data, num_frames=num_frames, size=size, index_path=index_in_cache(data), part="train")
    return clips, replace(clips, part="held_out")


_PREPARED = ("train.parquet", "held_out.parquet", "work/claim.json")
"""What tells a prepared corpus, complete or not, from a folder of films."""


def _clips_of_corpus(folder: Path, num_frames: int, size: int | tuple[int, int]) -> Clips:
    """Describe the clips of a folder of shards; its held-out part may be empty."""
    train, held_out = folder / "train.parquet", folder / "held_out.parquet"
    if not train.exists() or not held_out.exists():
        raise ValueError(
            f"--data {folder} is a corpus that is not complete: expected train.parquet and held_out.parquet in it. "
            "Go on with the same `fourd data prepare` command"
        )
    clips = VideoShardsConfig(str(train), num_frames=num_frames, size=size)
    return clips, replace(clips, index=str(held_out)) if num_rows(held_out) else None


def _clips_of_index(path: Path, num_frames: int, size: int | tuple[int, int]) -> Clips:
    """Describe the clips of an index, which says of itself whether it is of films or of pieces in shards."""
    kind = _kind_of(path)
    if kind == pieces.KIND:
        return VideoShardsConfig(str(path), num_frames=num_frames, size=size), None
    if kind == films.KIND:
        clips = VideoFilesConfig(index_path=str(path), num_frames=num_frames, size=size, part="train")
        return clips, replace(clips, part="held_out")
    raise ValueError(
        f"--data {path} is a file, {kind}: expected a folder of films, an index of films ({films.KIND!r}, made by "
        f"`fourd data index`), a folder made by `fourd data prepare`, or an index in it ({pieces.KIND!r})"
    )


def _kind_of(path: Path) -> str:
    try:
        return kind_of(path)
    except ValueError:
        return "not even of Parquet"


def toy_world() -> RunConfig:
    """Pretrain 4DS-S on the embedded world at 112 pixels, with nothing to download."""
    backbone = video_vit.small().at(112)
    world = ToyWorldConfig(num_frames=16, height=112, width=112, duration_s=1.4, flip=True)
    return RunConfig(
        objective=SimpleMAEConfig(backbone, decoder_bias=0.5, decoder_gain=0.0),
        data=world,
        optim=OptimConfig(5e-4, warmup_steps=100),
        batch_size=8,
    )

"""`fourd extract`: features out of any video, however long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fourd.extraction import Entry, ExtractConfig, extract
from fourd.extraction.inputs import absolute
from fourd.feature_film import FeatureFilm

_ABOUT = """Encode videos of any length, and images: one file of features each, and an index of all.

Examples:
  fourd extract videos --out features                                the whole grid, t h w D
  fourd extract videos --out vectors --pooling clip --fps 8          one vector for each video
  fourd extract a.mp4 b.jpg --out wide --no-native-size --fit keep   the aspect kept
  fourd extract videos --out smooth --overlap 8 --picture            films of the features beside

DIR/<key>.safetensors holds the features and, in seconds after the first frame, the times of their time steps
(time_s); a key is the input's path from the folder that holds all inputs. DIR/index.parquet has a row for all that was
found, and says what is wrong with it. The same command again does only what is missing."""


@dataclass(frozen=True)
class Arguments:
    """Hold what the command line says."""

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Videos, images, and folders of videos, which are searched with those below them."""
    out: Path
    """Folder of the features. It may gather several calls with the same options and backbone."""
    backbone: str = "4ds-b-dist-e"
    """A published name, a file or folder of weights, or OWNER/NAME of the Hugging Face Hub."""
    native_size: bool = True
    """Bring frames to the backbone's size, in windows of its length; if not, positions are resampled to others."""
    config: Annotated[ExtractConfig, tyro.conf.arg(name="")] = field(default_factory=ExtractConfig)
    batch_size: int = 8
    """Windows that are encoded at once, whichever videos they come from."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    num_threads: int = 4
    """Threads of the decoder, which works ahead of the backbone."""
    picture: bool = False
    """Write DIR/<key>.mp4, too: the input beside the first three principal components of its features."""


def run(arguments: list[str]) -> None:
    """Extract what is missing, and say what there is."""
    from fourd.weights.load import load

    options = tyro.cli(Arguments, prog="fourd extract", description=_ABOUT, args=arguments)
    absolute(options.paths)  # a mistaken name is told before weights are fetched
    backbone = load(options.backbone, native_size=options.native_size)
    entries = extract(
        options.paths,
        options.out,
        backbone,
        options.config,
        batch_size=options.batch_size,
        device=options.device,
        num_threads=options.num_threads,
        film=FeatureFilm if options.picture else None,
    )
    print(summary(entries))
    print(f"features: {options.out}/<key>.safetensors")
    print(f"index:    {options.out}/index.parquet")


def summary(entries: Sequence[Entry]) -> str:
    """Count what became of the inputs."""
    kinds = [entry.status.partition(":")[0] for entry in entries]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("done", "damaged", "unreadable") if kind in kinds)
    return f"inputs:   {counts}"

"""Measure how fast clips come from films as they are, from prepared shards and from decoded clips, in one run.

    python benchmarks/feed_training.py --film FILM --folder FOLDER --out results/feeding.parquet

FILM should be a real film of 720 lines. It is written again with long groups of pictures (250 frames), once at its size
and once at 360 lines; both are indexed, and prepared with `fourd data prepare`'s defaults. Measured, in turns so that
whatever else the machine does falls on all alike:

1. clips/s of one process, 16 frames of 224 pixels, from each source;
2. ms per clip of each decoder that can be imported (PyAV, torchcodec, decord), at the same frames of the same films;
3. the share of time that a SimpleMAE step (4DS-S, 16 frames of 112 pixels, batches of 8 samples) waits for one worker,
   with 1, 2 and 4 masks per decoded clip.

What was written is kept for the next run; delete FOLDER afterwards.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from fourd import provenance, video
from fourd.backbones import video_vit
from fourd.datasets.decoded_clips import DecodedClipsConfig
from fourd.datasets.video_files import VideoFilesConfig
from fourd.datasets.video_shards import VideoShardsConfig
from fourd.loader import draw
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.trainer import RunConfig, fit
from fourd.types import DatasetConfig

NUM_FILMS, SECONDS, LONG_GROUP = 6, 20, 250
READ_SIZE, TRAIN_SIZE = 224, 112


def write_long(source: Path, out: Path, height: int) -> None:
    """Encode a film again and again until it lasts `SECONDS`, `height` lines high, with long groups of pictures."""
    aside = out.with_name(f"part-{out.name}")
    with av.open(str(source)) as film, av.open(str(aside), "w") as target:
        given = film.streams.video[0]
        width = round(given.width * height / given.height / 2) * 2
        rate = round(given.average_rate)
        stream = target.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = LONG_GROUP
        for number, frame in zip(range(SECONDS * rate), _again(film, given), strict=False):
            resized = frame.reformat(width, height)
            resized.pts, resized.time_base = number, 1 / stream.codec_context.rate
            target.mux(stream.encode(resized))
        target.mux(stream.encode(None))
    aside.rename(out)


def _again(film: Any, stream: Any) -> Iterator[Any]:
    while True:
        film.seek(0)
        yield from film.decode(stream)


def write_sources(source: Path, folder: Path, size: int) -> dict[str, DatasetConfig]:
    """Write what is measured, unless an earlier run did, and describe each as a dataset of the same kind of clips."""
    sources: dict[str, DatasetConfig] = {}
    for height in (720, 360):
        films = folder / f"films-{height}"
        films.mkdir(parents=True, exist_ok=True)
        for number in range(NUM_FILMS):
            if not (films / f"{number}.mp4").exists():
                write_long(source, films / f"{number}.mp4", height)
        index, prepared = folder / f"films-{height}.parquet", folder / f"prepared-{height}"
        fourd("data", "index", films, "--out", index)
        fourd("data", "prepare", index, "--out", prepared, "--held-out", "0")
        sources[f"films, {height} lines"] = VideoFilesConfig(root="", index_path=str(index), size=size)
        shards = VideoShardsConfig(str(prepared / "train.parquet"), size=size)
        sources[f"shards, from {height} lines"] = shards
    sources["decoded clips"] = DecodedClipsConfig(shards, str(folder / f"decoded-{size}"), clips_per_item=8)
    return sources


def fourd(*arguments: object) -> None:
    """Run a command of ours."""
    subprocess.run([sys.executable, "-m", "fourd", *map(str, arguments)], check=True)


# ----------------------------------------------------------------------------- what is measured


def in_turns(work: dict[str, Callable[[int], int]], rounds: int) -> Iterator[dict[str, Any]]:
    """Time each piece of work once per round; it is called with the round and says how many clips it gave."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(-1, rounds):  # the first is to warm up
        for name, run in work.items():
            start = time.perf_counter()
            clips = run(number)
            if number >= 0:
                seconds[name].append((time.perf_counter() - start) / clips)
    for name, per_clip in seconds.items():
        ms = [1000 * value for value in sorted(per_clip)]
        found = {"ms_per_clip": statistics.median(ms), "least_ms": ms[0], "most_ms": ms[-1], "rounds": rounds}
        yield {"name": name, **found, "clips_per_s": 1000 / found["ms_per_clip"]}


def read_clips(config: DatasetConfig, num_clips: int) -> Callable[[int], int]:
    """Read random clips in this process."""
    dataset = config.build()

    def run(number: int) -> int:
        for position in range((number + 1) * num_clips, (number + 2) * num_clips):
            found = draw(position, len(dataset), seed=0)
            dataset.read(found.index, found.rng())
        return num_clips

    return run


def decoders(config: VideoFilesConfig, num_clips: int) -> dict[str, Callable[[int], int]]:
    """Decode the same frames of the same films through each decoder that is here, at their own size."""
    root = Path(config.index_path or "").with_suffix("")
    films = [(root / f"{number}.mp4", video.probe(root / f"{number}.mp4")) for number in range(NUM_FILMS)]

    def clips(number: int) -> Iterator[tuple[Path, Any, np.ndarray[Any, Any]]]:
        rng = np.random.default_rng(number + 1)
        for _ in range(num_clips):
            path, info = films[rng.integers(NUM_FILMS)]
            yield path, info, video.clip_frame_indices(info.frame_times_s, 16, rng)

    def ours(decoder: str) -> Callable[[int], int]:
        return lambda number: sum(
            video.decode(path, frames, info, decoder=decoder).shape[0] == 16 for path, info, frames in clips(number)
        )

    def decord(number: int) -> int:
        import decord as peer

        readers = (peer.VideoReader(str(path), num_threads=1).get_batch(frames) for path, _, frames in clips(number))
        return sum(pixels.asnumpy().shape[0] == 16 for pixels in readers)

    found: dict[str, Callable[[int], int]] = {"PyAV (ours)": ours("pyav")}
    if importlib.util.find_spec("torchcodec"):
        found["torchcodec (ours)"] = ours("torchcodec")
    if importlib.util.find_spec("decord"):
        found["decord"] = decord
    return found


def waiting(config: DatasetConfig, repeat: int, steps: int, out: Path) -> dict[str, float]:
    """Train 4DS-S at 112 pixels for a few steps, and say how long they waited for data after the first ones."""
    backbone = video_vit.small().at(TRAIN_SIZE)
    run = RunConfig(SimpleMAEConfig(backbone), config, steps=steps, batch_size=8, num_workers=1, log_every=1)
    fit(replace(run, repeat=repeat, save_every=steps, device="cpu"), out)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    later = lines[len(lines) // 2 :]
    names = ("data_wait", "clips_per_s", "unique_clips_per_s")
    return {name: statistics.mean(line[name] for line in later) for name in names}


def main() -> None:
    """Write the sources, measure, print tables and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--film", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num-clips", type=int, default=16)
    parser.add_argument("--steps", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sources = {size: write_sources(options.film, options.folder, size) for size in (READ_SIZE, TRAIN_SIZE)}
    rows = measure(sources, options)
    for row in rows:
        print(json.dumps(row))
    if options.out:
        about = {"command": _command(), **_machine()}
        pq.write_table(pa.Table.from_pylist([{**row, **about} for row in rows]), options.out)
        print(f"rows: {options.out}")


def measure(sources: dict[int, dict[str, DatasetConfig]], options: argparse.Namespace) -> Sequence[dict[str, Any]]:
    """Measure reading, decoders and waiting."""
    work = {name: read_clips(config, options.num_clips) for name, config in sources[READ_SIZE].items()}
    rows = [{"measured": "reading", **row} for row in in_turns(work, options.rounds)]
    for name, config in sources[READ_SIZE].items():
        if isinstance(config, VideoFilesConfig):
            timed = in_turns(decoders(config, options.num_clips), options.rounds)
            rows += [{"measured": f"decoding {name}", **row} for row in timed]
    for name, config in sources[TRAIN_SIZE].items():
        for repeat in (1, 2, 4):
            out = options.folder / "runs" / f"{name}-{repeat}-{time.time_ns()}".replace(" ", "-").replace(",", "")
            found = waiting(config, repeat, options.steps, out)
            rows.append({"measured": f"training, {repeat} masks per clip", "name": name, **found})
    return rows


def _command() -> str:
    """Give the command without the places of this machine."""
    return shlex.join(["python", *(Path(word).name if os.sep in word else word for word in sys.argv)])


def _machine() -> dict[str, str]:
    environment = provenance.environment()
    names = ("processor", "num_cpus", "num_threads", "gpu", "platform", "python", "torch", "decoders")
    return {"commit": str(environment["git"]["commit"]), **{name: str(environment[name]) for name in names}}


if __name__ == "__main__":
    main()

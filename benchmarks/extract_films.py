"""Measure extraction beside decoding alone, and peak memory against the length of a film.

    python benchmarks/extract_films.py --film FILM --backbone NAME_OR_PATH --folder FOLDER --minutes 1 10 60

loops a film to each length (its packets are copied, not encoded again), then measures in fresh processes: decoding and
resizing every frame alone, and `fourd.extract` of the same frames, in turns. A second extraction finds its work done.
Peak memory is the largest resident set that the system saw, less that of a process which only imports and loads.
What was written is kept for the next run; delete FOLDER afterwards.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import av

_START = """
import json, resource, shutil, sys, time
from pathlib import Path
import fourd
from fourd import video
from fourd.extraction.config import framing
film, source, threads, out = sys.argv[1:]
backbone = fourd.load(source)
config = fourd.ExtractConfig(depths=(0.95,), pooling="space")
fourd.extract  # imports what it needs
native = backbone.native_input
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, start = peak(), time.perf_counter()
"""
_DECODE = """
info = video.probe(film)
fit = framing(info.height, info.width, "squash", native)
count = 0
for frame in video.stream(film, range(info.num_frames), info, num_threads=int(threads)):
    fit.apply(frame, native)
    count += 1
"""
_EXTRACT = """
(entry,) = fourd.extract([film], out, backbone, config, num_threads=int(threads))
count = entry.num_frames
"""
_END = """
print(json.dumps({"frames": count, "seconds": time.perf_counter() - start, "peak_bytes": peak() - before}))
"""


def loop(film: Path, out: Path, minutes: float) -> None:
    """Repeat a film until it is long enough, by copying its packets."""
    if out.exists():
        return
    aside = out.with_name(f"part-{out.name}")
    with av.open(str(film)) as source, av.open(str(aside), "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        step = packets[1].duration or 1
        length = max(packet.pts for packet in packets) - min(packet.pts for packet in packets) + step
        per_film = float(length * stream.time_base)
        for turn in range(max(round(60 * minutes / per_film), 1)):
            source.seek(0)
            for packet in source.demux(stream):
                if packet.size:
                    packet.pts, packet.dts = packet.pts + turn * length, packet.dts + turn * length
                    packet.stream = copied
                    target.mux(packet)
    aside.rename(out)


def measure(work: str, film: Path, options: argparse.Namespace, out: Path) -> dict[str, float]:
    """Run one piece of work in a process of its own."""
    arguments = [str(film), options.backbone, str(options.num_threads), str(out)]
    answer = subprocess.run(
        [sys.executable, "-c", _START + work + _END, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    measured: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return measured


def main() -> None:
    """Make the films, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--film", type=Path, required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60])
    parser.add_argument("--num-threads", type=int, default=2)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(
        "| minutes | frames | decoding alone, frames/s | extraction, frames/s | ratio | peak MB, decoding | peak MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for minutes in options.minutes:
        film = options.folder / f"{minutes:g}-minutes.mp4"
        loop(options.film, film, minutes)
        out = options.folder / f"features-{minutes:g}"
        alone, whole = (measure(work, film, options, out) for work in (_DECODE, _EXTRACT))
        speeds = [found["frames"] / found["seconds"] for found in (alone, whole)]
        peaks = [found["peak_bytes"] / 1e6 for found in (alone, whole)]
        ratio = speeds[1] / speeds[0]
        cells = f"{speeds[0]:.0f} | {speeds[1]:.0f} | {ratio:.2f} | {peaks[0]:.0f} | {peaks[1]:.0f}"
        print(f"| {minutes:g} | {whole['frames']} | {cells} |", flush=True)
    again = measure(_EXTRACT, film, options, out)
    print(f"\nThe last extraction again, all done: {again['seconds']:.2f} s")


if __name__ == "__main__":
    main()

r"""Follow points and boxes through films without labels, by readouts that were learned on the embedded world.

    python benchmarks/tracks_on_films.py FILM... --bench runs/toy_four_d --backbone runs/toy/final/model.safetensors \
        --out tracks

A test of the road, not of quality: films are decoded, cut, encoded and read out by what `fourd evaluate` learned, and
drawn. Nothing of these films was learned from, and they have no truth to compare with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fourd import pictures, video
from fourd.benchmark.contenders import resolve
from fourd.benchmark.matrix import lay_out
from fourd.benchmark.units import Unit, Wanted
from fourd.benchmark.work import Means, rebuild
from fourd.objectives.probe import Probe
from fourd.recipes.suites import toy_four_d
from fourd.types import BoxQuery, BoxTracks, ClipShape, PointQuery, PointTracks

SECONDS = 0.7  # as long as a clip of the embedded world


def read_clip(path: Path, clip: ClipShape) -> Tensor:
    """Read a clip from the middle of a film: `1 T 3 H W`."""
    info = video.probe(path)
    times = info.frame_times_s
    middle = times[len(times) // 2]
    wanted = middle + np.linspace(0, SECONDS, clip.num_frames)
    frames = np.searchsorted(times, np.minimum(wanted, times[-1]))
    box = video.center_crop(info.height, info.width, clip.width / clip.height)
    return video.crop_resize(video.decode(path, frames, info), box, (clip.height, clip.width))[None]


def grid_of_points(clip: ClipShape) -> PointQuery:
    """Ask for points on a grid."""
    at = (torch.arange(5) + 0.5) / 5
    xy = torch.cartesian_prod(at * clip.width, at * clip.height)[None]
    return PointQuery(torch.zeros(1, len(xy[0]), dtype=torch.long), xy)


def some_boxes(clip: ClipShape) -> BoxQuery:
    """Ask for two boxes side by side."""
    xyxy = torch.tensor([[0.1, 0.3, 0.45, 0.8], [0.5, 0.25, 0.9, 0.75]])
    xyxy = xyxy * torch.tensor([clip.width, clip.height] * 2, dtype=torch.float32)
    return BoxQuery(torch.zeros(1, 2, dtype=torch.long), xyxy[None])


def answers(probe: Probe, clip: Tensor, task: str, query: PointQuery | BoxQuery) -> Tensor:
    """Read out one task's attention readout at the deepest depth, and draw it beside the film."""
    number = [
        n for n, head in enumerate(probe.heads) if head.kind == "attention" and probe.tasks[head.task].name == task
    ]
    head = max(number, key=lambda n: probe.config.depths[probe.heads[n].depth])
    with torch.no_grad():
        features = probe.backbone(clip, probe.config.depths)
        answer = probe.readouts[head](features[probe.heads[head].depth], query)
    # without a truth, the panel of the truth shows the answer too
    if isinstance(query, PointQuery):
        xy_px = answer.tracks().xy_px
        everywhere = torch.ones(xy_px.shape[:3], dtype=torch.bool)
        tracks = PointTracks(xy_px, everywhere, everywhere)
        return pictures.point_film(clip, query, tracks, tracks)
    boxes = answer.xyxy_px()
    tracks_of_boxes = BoxTracks(boxes, torch.ones(boxes.shape[:3], dtype=torch.bool))
    return pictures.box_film(clip, query, tracks_of_boxes, tracks_of_boxes)


def main() -> None:
    """Draw every film."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", nargs="+", type=Path)
    parser.add_argument("--bench", type=Path, required=True, help="a folder of fourd evaluate, with the toy suite")
    parser.add_argument("--backbone", required=True, help="as fourd evaluate was given it")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    suite = toy_four_d()
    matrix = lay_out(suite, resolve([options.backbone]), Wanted(("frozen",), cached=True), options.bench.resolve())
    unit = next(unit for unit in matrix.units if isinstance(unit, Unit))
    probe = rebuild(unit, options.bench.resolve(), Means(device="cpu"))
    shape = suite.exams[0].clip
    for path in options.films:
        clip = read_clip(path, shape)
        for task, query in (("point_tracking", grid_of_points(shape)), ("box_tracking", some_boxes(shape))):
            film = answers(probe, clip, task, query)
            options.out.mkdir(parents=True, exist_ok=True)
            pictures.save_film(film, options.out / f"{path.stem}_{task}.webp")
            print(pictures.save_picture(pictures.filmstrip(film), options.out / f"{path.stem}_{task}.png"))


if __name__ == "__main__":
    main()

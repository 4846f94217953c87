"""Draw a clip with its labels: a few frames with tracks and boxes, depth as colours, the camera's path."""

from __future__ import annotations

import colorsys

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw

from fourd.datasets import Labelled
from fourd.geometry import relative_pose
from fourd.pictures import BACKGROUND, GUTTER_PX, INK, MUTED, PAPER, TRUE, UNKNOWN, Colour
from fourd.types import CameraPoses, Depth

_HEIGHT = 200
_FRAMES = 4
_POINTS = 48
_TRAIL = 8
_MOST_METRES_SHARE = (2, 98)  # percentiles that the colours of depth span
_AXIS_PX = 14.0


def draw_clip(clip: Labelled) -> Image.Image:
    """Draw frames from left to right, depth below them, and the camera's path at the end of the first row."""
    shown = sorted({round(at) for at in np.linspace(0, len(clip.video) - 1, _FRAMES)})
    rows = [[_frame(clip, at) for at in shown]]
    if clip.depth is not None:
        size = rows[0][0].size
        rows.append([image.resize(size, Image.Resampling.NEAREST) for image in _depth(clip.depth, shown)])
    if clip.camera is not None:
        rows[0].append(_path(clip.camera, (0, 2), "from above: right, forward"))
        if len(rows) > 1:
            rows[1].append(_path(clip.camera, (2, 1), "from the side: forward, down"))
    return _grid(rows)


def _frame(clip: Labelled, at: int) -> Image.Image:
    """Enlarge or shrink a frame, and paint its points and boxes."""
    pixels = clip.video[at].permute(1, 2, 0).contiguous().numpy()
    scale = _HEIGHT / pixels.shape[0]
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC
    image = Image.fromarray(pixels).resize((max(1, round(pixels.shape[1] * scale)), _HEIGHT), how)
    draw = ImageDraw.Draw(image)
    if clip.boxes is not None:
        _paint_boxes(draw, clip, at, scale)
    if clip.points is not None:
        _paint_points(draw, clip, at, scale)
    return image


def _paint_boxes(draw: ImageDraw.ImageDraw, clip: Labelled, at: int, scale: float) -> None:
    assert clip.boxes is not None
    boxes, valid = clip.boxes.xyxy_px[0, :, at] * scale, clip.boxes.valid[0, :, at]
    for number in valid.nonzero().flatten().tolist():
        left, top, right, bottom = boxes[number].nan_to_num().tolist()
        corners = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
        draw.rectangle(corners, outline=_colour(number, len(valid)), width=2)


def _paint_points(draw: ImageDraw.ImageDraw, clip: Labelled, at: int, scale: float) -> None:
    """Draw points with their trails; a hidden one is a ring."""
    assert clip.points is not None
    points = clip.points
    known = points.valid[0].any(-1).nonzero().flatten()
    chosen = known[torch.linspace(0, len(known) - 1, min(_POINTS, len(known))).round().long()]
    for place, number in enumerate(chosen.tolist()):
        if not points.valid[0, number, at]:
            continue
        colour = _colour(place, len(chosen))
        xy = (points.xy_px[0, number].nan_to_num() * scale).tolist()
        valid = points.valid[0, number].tolist()
        trail = [tuple(xy[past]) for past in range(max(0, at - _TRAIL), at + 1) if valid[past]]
        draw.line(trail, fill=colour, width=1)
        x, y = xy[at]
        filled = colour if points.visible[0, number, at] else None
        draw.ellipse((x - 2.5, y - 2.5, x + 2.5, y + 2.5), outline=colour, fill=filled)


def _depth(depth: Depth, shown: list[int]) -> list[Image.Image]:
    """Colour depth alike in all frames: near is bright, far is dark, unknown is grey."""
    metres, valid = depth.metres[0].numpy(), depth.valid[0].numpy()
    known = metres[valid]
    near, far = np.percentile(known, _MOST_METRES_SHARE) if len(known) else (0.0, 1.0)
    images = []
    for at in shown:
        share = np.nan_to_num((metres[at] - near) / max(float(far - near), 1e-6)).clip(0, 1)
        pixels = matplotlib.colormaps["magma_r"](share, bytes=True)[..., :3]
        images.append(
            Image.fromarray(np.where(valid[at][..., None], pixels, np.array(UNKNOWN, np.uint8)).astype(np.uint8))
        )
    return images


def _path(camera: CameraPoses, axes: tuple[int, int], title: str) -> Image.Image:
    """Draw where the camera goes and looks, in the first camera's frame, along two of its axes."""
    image = Image.new("RGB", (_HEIGHT, _HEIGHT), PAPER)
    draw = ImageDraw.Draw(image)
    poses = relative_pose(camera.world_from_camera[0].double()).nan_to_num()
    sign = np.array([1.0, -1.0 if axes == (0, 2) else 1.0])  # forward is up when seen from above
    places = poses[:, :3, 3].numpy()[:, list(axes)] * sign
    looks = poses[:, :3, 2].numpy()[:, list(axes)] * sign
    middle, extent = (places.max(0) + places.min(0)) / 2, float(np.ptp(places, axis=0).max())
    on_paper = (places - middle) * (0.6 * _HEIGHT / max(extent, 1e-9)) + _HEIGHT / 2
    draw.line([tuple(place) for place in on_paper.tolist()], fill=MUTED, width=1)
    for at, (place, look) in enumerate(zip(on_paper, looks, strict=True)):
        colour = INK if at == 0 else TRUE
        draw.line([tuple(place), tuple(place + _AXIS_PX * look)], fill=colour, width=1)
        draw.ellipse((*(place - 2), *(place + 2)), fill=colour)
    draw.text((4, 2), title, fill=MUTED)
    draw.text((4, _HEIGHT - 14), f"{extent:.3g} across", fill=MUTED)
    return image


def _colour(number: int, count: int) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb((number + 0.5) / max(count, 1), 0.9, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _grid(rows: list[list[Image.Image]]) -> Image.Image:
    """Put pictures into rows, with gutters."""
    width = max(sum(image.width + GUTTER_PX for image in row) for row in rows)
    height = sum(row[0].height + GUTTER_PX for row in rows)
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    top = 0
    for row in rows:
        left = 0
        for image in row:
            sheet.paste(image, (left, top))
            left += image.width + GUTTER_PX
        top += row[0].height + GUTTER_PX
    return sheet

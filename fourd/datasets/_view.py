"""What is seen of a labelled clip: pixels and labels cropped, resized and mirrored together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fourd import video
from fourd.geometry import box_area
from fourd.types import BoxTracks, CameraPoses, Depth, Label, PointTracks
from fourd.video import CropBox


@dataclass(frozen=True, eq=False)
class Labelled:
    """Hold the frames of a clip with all that its files know of them, in our conventions, as large as they are kept.

    time_s: when each frame was taken, rising. Labels are batches of one; what the files do not tell is None. Points,
    boxes and intrinsics are in pixels of `video`. `depth` may be of another size than the video, of which it is then
    a stretched picture.
    """

    video: UInt8[Tensor, "T 3 H W"]
    time_s: Float[Tensor, " T"]
    depth: Depth | None = None
    points: PointTracks | None = None
    boxes: BoxTracks | None = None
    camera: CameraPoses | None = None
    label: Label | None = None


@dataclass(frozen=True)
class View:
    """Say which part of a picture is seen, at which size (height, width), and whether mirrored."""

    box: CropBox
    size: tuple[int, int]
    flipped: bool = False


def see(clip: Labelled, view: View, least_area: float, least_share: float) -> Labelled:
    """Show a part of a clip, with its labels.

    Points outside of the view are not visible. Boxes are cut off at its border; one that covers less than
    `least_area` of the view, or less than `least_share` of itself, does not count. A mirrored world is one with x
    turned round, so depth stays, and poses turn with it.
    """
    seen = Labelled(
        video=video.crop_resize(clip.video, view.box, view.size),
        time_s=clip.time_s,
        depth=clip.depth and _crop_depth(clip.depth, clip.video.shape[2:], view),
        points=clip.points and _crop_points(clip.points, view),
        boxes=clip.boxes and _crop_boxes(clip.boxes, view, least_area, least_share),
        camera=clip.camera and _crop_camera(clip.camera, view),
        label=clip.label,
    )
    return _mirrored(seen, view.size[1]) if view.flipped else seen


def _crop_depth(depth: Depth, picture: tuple[int, ...], view: View) -> Depth:
    """Take for each pixel the depth at its centre: a mean across an edge would lie between two things."""
    rows, columns = (
        ((start + (torch.arange(count) + 0.5) * length / count) * kept / whole).long().clamp(0, kept - 1)
        for start, length, count, kept, whole in (
            (view.box.top, view.box.height, view.size[0], depth.metres.shape[2], picture[0]),
            (view.box.left, view.box.width, view.size[1], depth.metres.shape[3], picture[1]),
        )
    )
    return Depth(*(values[:, :, rows[:, None], columns].contiguous() for values in (depth.metres, depth.valid)))


def _crop_points(points: PointTracks, view: View) -> PointTracks:
    xy = video.crop_resize_points(points.xy_px, view.box, view.size)
    height, width = view.size
    inside = ((xy >= 0) & (xy < xy.new_tensor((width, height)))).all(-1)
    return replace(points, xy_px=xy, visible=points.visible & inside)


def _crop_boxes(boxes: BoxTracks, view: View, least_area: float, least_share: float) -> BoxTracks:
    height, width = view.size
    whole = video.crop_resize_boxes(boxes.xyxy_px, view.box, view.size)
    cut = torch.minimum(whole.clamp(min=0), whole.new_tensor((width, height, width, height)))
    area = box_area(cut)
    enough = (area > 0) & (area >= least_area * height * width) & (area >= least_share * box_area(whole))
    return BoxTracks(cut, boxes.valid & enough)


def _crop_camera(camera: CameraPoses, view: View) -> CameraPoses:
    (height, width), box = view.size, view.box
    scale, shift = torch.eye(3), torch.eye(3)
    scale[0, 0], scale[1, 1] = width / box.width, height / box.height
    shift[0, 2], shift[1, 2] = -float(box.left), -float(box.top)
    intrinsics = (scale @ shift).to(camera.intrinsics_px) @ camera.intrinsics_px
    return replace(camera, intrinsics_px=intrinsics)


def _mirrored(clip: Labelled, width: int) -> Labelled:
    return Labelled(
        video=video.flip(clip.video),
        time_s=clip.time_s,
        depth=clip.depth and Depth(clip.depth.metres.flip(-1), clip.depth.valid.flip(-1)),
        points=clip.points and replace(clip.points, xy_px=video.flip_points(clip.points.xy_px, width)),
        boxes=clip.boxes and replace(clip.boxes, xyxy_px=video.flip_boxes(clip.boxes.xyxy_px, width)),
        camera=clip.camera and _mirrored_camera(clip.camera, width),
        label=clip.label,
    )


def _mirrored_camera(camera: CameraPoses, width: int) -> CameraPoses:
    turned = camera.world_from_camera.new_tensor([-1.0, 1.0, 1.0, 1.0]).diag()
    intrinsics = camera.intrinsics_px.clone()
    intrinsics[..., 0, 2] = width - intrinsics[..., 0, 2]
    return CameraPoses(turned @ camera.world_from_camera @ turned, intrinsics)

"""Do depth, intrinsics and poses belong together? One frame's depth is moved onto another's.

Where they do not, other readings of the same numbers are tried: a pose that is inverted, axes of OpenGL, depth in
another unit. The one that fits says what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fourd.datasets import Labelled
from fourd.doctor.findings import Finding, Plausible
from fourd.geometry import pixel_centres, project, rigid_inverse, transform_points, unproject

_MOST_PIXELS = 4096
_LEAST_PIXELS = 64
_LEAST_OVERLAP = 0.2
_CLEARLY = 0.5  # one reading fits clearly better than another
_NOISE = 0.01  # relative depth
_OPENGL = (1.0, -1.0, -1.0, 1.0)
_NOTHING_IN_COMMON = 1.0
_INVERTED, _AXES = "inverted poses", "camera axes of OpenGL (y up, z backward)"
_BOTH = "inverted poses in axes of OpenGL"
_UNITS = {0.001: "1000 times smaller", 0.2: "5 times smaller", 5.0: "5 times larger", 1000.0: "1000 times larger"}
_LENGTHS = {0.5: "half as large", 2 / 3: "two thirds as large", 1.5: "half as large again", 2.0: "twice as large"}
_ADVICE = {
    _INVERTED: "world-from-camera and camera-from-world are mixed up: invert the poses",
    _AXES: "turn the camera axes to x right, y down, z forward",
    _BOTH: "invert the poses, and turn the camera axes to x right, y down, z forward",
}
_OTHER_ADVICE = "bring depth and poses to one unit, and intrinsics to pixels of these pictures"


@dataclass(frozen=True)
class Views:
    """Hold what moving depth between frames needs; intrinsics in pixels of the depth."""

    metres: Float[Tensor, "T H W"]
    valid: Bool[Tensor, "T H W"]
    world_from_camera: Float[Tensor, "T 4 4"]
    intrinsics: Float[Tensor, "3 3"]


def depth_fits_poses(clip: Labelled, plausible: Plausible) -> Finding | None:
    """Compare the depth of frames with that of others, moved by the poses; refuse it where another reading fits."""
    views = _views(clip)
    if views is None:
        return None
    readings = _readings(views)
    pairs = _pairs(views)
    errors = {name: _error(reading, pairs) for name, reading in readings.items()}
    return _judged(errors, plausible) if min(errors.values()) < _NOTHING_IN_COMMON else None


def disagreement(views: Views, i: int, j: int) -> tuple[float, float]:
    """Move the depth of frame i into frame j: the median relative difference, and the share that both see."""
    xy = pixel_centres(*views.metres.shape[1:]).double()[views.valid[i]]
    z = views.metres[i][views.valid[i]]
    step = max(1, len(z) // _MOST_PIXELS)
    xy, z = xy[::step], z[::step]
    j_from_i = rigid_inverse(views.world_from_camera[j]) @ views.world_from_camera[i]
    moved = transform_points(j_from_i, unproject(xy, z, views.intrinsics))
    moved = moved[moved[:, 2] > 0]
    place = project(moved, views.intrinsics).floor()
    height, width = views.metres.shape[1:]
    inside = ((place >= 0) & (place < place.new_tensor((width, height)))).all(-1)
    column, row = place[inside].long().unbind(-1)
    both = views.valid[j][row, column]
    there = views.metres[j][row, column][both]
    if len(there) < _LEAST_PIXELS:
        return _NOTHING_IN_COMMON, 0.0
    median = float(((moved[inside][both][:, 2] - there).abs() / there).median())
    return min(median, _NOTHING_IN_COMMON), len(there) / max(len(z), 1)


def _views(clip: Labelled) -> Views | None:
    if clip.camera is None or clip.depth is None or len(clip.video) < 2:
        return None
    camera, depth = clip.camera, clip.depth
    rotation = camera.world_from_camera[..., :3, :3]
    if not bool(rotation.isfinite().all()) or not bool(camera.intrinsics_px.isfinite().all()):
        return None
    (height, width), (tall, wide) = clip.video.shape[2:], depth.metres.shape[2:]
    scale = torch.tensor([wide / width, tall / height, 1.0]).double().diag()
    valid = depth.valid[0] & (depth.metres[0] > 0) & depth.metres[0].isfinite()
    return Views(
        depth.metres[0].double(), valid, camera.world_from_camera[0].double(), scale @ camera.intrinsics_px[0].double()
    )


def _readings(views: Views) -> Mapping[str, Views]:
    """Read the same numbers in other ways; the first is as they are."""
    readings = {"as they are": views}
    poses, turned = views.world_from_camera, torch.tensor(_OPENGL).double().diag()
    inverted = rigid_inverse(poses)
    for name, read in ((_INVERTED, inverted), (_AXES, poses @ turned), (_BOTH, inverted @ turned)):
        readings[name] = replace(views, world_from_camera=read)
    for factor, unit in _UNITS.items():
        readings[f"depth {unit}"] = replace(views, metres=views.metres * factor)
    height, width = views.metres.shape[1:]
    middle = views.intrinsics.clone()
    middle[:2, 2] = middle.new_tensor((width / 2, height / 2))
    readings["the principal point in the middle"] = replace(views, intrinsics=middle)
    for factor, told in _LENGTHS.items():
        for name, (along, point) in {"focal lengths": (factor, 1.0), "all intrinsics": (factor, factor)}.items():
            scale = torch.tensor([[along, 1, point], [1, along, point], [1, 1, 1]]).double()
            readings[f"{name} {told}"] = replace(views, intrinsics=views.intrinsics * scale)
    return readings


def _pairs(views: Views) -> Sequence[tuple[int, int]]:
    """Take far apart frames that see the same, or neighbours where there are none."""
    last = len(views.metres) - 1
    far = {(0, last), (0, last // 2), (last // 2, last)}
    apart = [(i, j) for i, j in sorted(far) if i != j]
    common = [pair for pair in apart if disagreement(views, *pair)[1] >= _LEAST_OVERLAP]
    return common or [(at, at + 1) for at in range(last)]


def _error(views: Views, pairs: Sequence[tuple[int, int]]) -> float:
    return sum(disagreement(views, i, j)[0] for i, j in pairs) / len(pairs)


def _judged(errors: Mapping[str, float], plausible: Plausible) -> Finding:
    name, as_is, inverted = "depth_fits_poses", errors["as they are"], errors[_INVERTED]
    best = min(errors, key=lambda reading: errors[reading])
    measured = {"disagreement": as_is, "disagreement_inverted": inverted, "moves_enough_to_tell": 1.0}
    if errors[best] < _CLEARLY * as_is and as_is - errors[best] > _NOISE:
        told = (
            f"depth of frames disagrees by {as_is:.1%} when moved by the poses, and by {errors[best]:.1%} with {best}"
        )
        return Finding(name, "fault", told, _ADVICE.get(best, _OTHER_ADVICE), measured)
    if as_is > plausible.most_disagreement:
        told = f"depth of frames disagrees by {as_is:.1%} when moved by intrinsics and poses"
        told += f" (with inverted poses by {inverted:.1%}), expected at most {plausible.most_disagreement:.0%}"
        return Finding(
            name, "fault", told, "wrong intrinsics, poses of other frames, or depth of another camera", measured
        )
    tells = as_is < _CLEARLY * inverted or inverted - as_is > _NOISE
    return Finding(name, "fine", measured={**measured, "moves_enough_to_tell": float(tells)})

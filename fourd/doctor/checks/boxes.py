"""Are a box's corners in order, and does it lie in the picture?"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from fourd.datasets import Labelled
from fourd.doctor.findings import Finding, Plausible
from fourd.geometry import box_area

_SEEN_SHARE = 0.3  # of a box, that must lie in the picture: boxes may reach beyond it
_ORDER = "xyxy (left, top, right, bottom), in pixels"


def box_corners(clip: Labelled, plausible: Plausible) -> Finding | None:
    """Refuse boxes whose corners are not in order or that have no area, and say what they look like."""
    boxes = _counted(clip)
    if boxes is None:
        return None
    wrong = int((~(box_area(boxes) > 0)).sum())
    measured = {"num_boxes": float(len(boxes)), "num_without_area": float(wrong)}
    if not wrong:
        return Finding("box_corners", "fine", measured=measured)
    told = f"{wrong} of {len(boxes)} boxes have corners out of order or no area, expected {_ORDER}"
    height, width = clip.video.shape[2:]
    if _all_inside(_from_size(boxes), width, height):
        told += "; they look like x, y, width, height"
    return Finding("box_corners", "fault", told, "bring the boxes into the form that the reader expects", measured)


def box_places(clip: Labelled, plausible: Plausible) -> Finding | None:
    """Refuse boxes that lie outside of the picture, and say what they look like."""
    boxes = _counted(clip)
    if boxes is None:
        return None
    height, width = clip.video.shape[2:]
    inside = _inside_share(boxes, width, height) >= _SEEN_SHARE
    ordered = box_area(boxes) > 0
    outside = float((ordered & ~inside).float().mean())
    measured = {"outside_share": outside}
    if float(boxes.max()) <= 2 < min(width, height) / 4:
        told = f"boxes between {float(boxes.min()):.2g} and {float(boxes.max()):.2g}: shares of the picture, not pixels"
    elif outside > plausible.most_boxes_outside:
        told = f"{outside:.0%} of the boxes lie outside of the picture of {width} x {height} pixels"
        if _all_inside(boxes[:, [1, 0, 3, 2]], width, height):
            told += "; with x and y swapped all would lie inside"
    else:
        return Finding("box_places", "fine", measured=measured)
    return Finding("box_places", "fault", told, f"bring the boxes to {_ORDER} of these pictures", measured)


def _counted(clip: Labelled) -> Float[Tensor, "N 4"] | None:
    if clip.boxes is None or not bool(clip.boxes.valid.any()):
        return None
    return clip.boxes.xyxy_px[clip.boxes.valid].double()


def _from_size(boxes: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    """Read boxes as left, top, width, height."""
    corners = boxes.clone()
    corners[:, 2:] += corners[:, :2]
    return corners


def _inside_share(boxes: Float[Tensor, "N 4"], width: int, height: int) -> Float[Tensor, " N"]:
    border = boxes.new_tensor((width, height, width, height))
    cut = boxes.clamp(min=0).minimum(border)
    return box_area(cut) / box_area(boxes).clamp(min=1e-9)


def _all_inside(boxes: Float[Tensor, "N 4"], width: int, height: int) -> bool:
    return bool(((box_area(boxes) > 0) & (_inside_share(boxes, width, height) >= _SEEN_SHARE)).all())

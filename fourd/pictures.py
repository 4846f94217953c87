"""Draw what a model saw, what is true and what it answered, as films and stills.

A film is a uint8 tensor `T H W 3` with three panels side by side: input, truth, prediction. Small
clips are enlarged so that they can be looked at; lines are painted at twice the size and shrunk,
which makes them smooth. Everything drawn is a batch of one.

Convention: continuous pixels, origin at the top-left corner, pixel centres at `.5`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fourd.types import BoxQuery, BoxTracks, Depth, Label, PointQuery, PointTracks, map_tensors

Film = UInt8[Tensor, "T film_height film_width 3"]
Picture = UInt8[Tensor, "height width 3"]
_Panel = UInt8[Tensor, "T _ _ 3"]
_Tile = UInt8[Tensor, "_ _ 3"]
Colour = tuple[int, int, int]
Paint = Callable[[ImageDraw.ImageDraw, float, int], None]
"""Called as `paint(draw, scale, frame)`: draw on one frame, `scale` canvas pixels per clip pixel."""

NUM_PANELS = 3
PANEL_PX = 224  # a panel's longer side, about: small clips are enlarged by a whole factor
GUTTER_PX = 4
STRIP_PANEL_PX = 128
SMOOTHING = 2  # paint this much larger, then shrink
TRAIL_FRAMES = 6
MAX_BARS = 8
MAX_POINTS = 24  # more than these hide the clip below them

BACKGROUND: Colour = (24, 26, 30)
PAPER: Colour = (36, 39, 45)
TRACK: Colour = (58, 63, 72)
INK: Colour = (226, 229, 233)
MUTED: Colour = (134, 141, 151)
TRUE: Colour = (76, 201, 167)
PREDICTED: Colour = (255, 159, 67)
UNKNOWN: Colour = (128, 128, 128)
CAMERAS = (("start", MUTED), ("true", TRUE), ("predicted", PREDICTED))

# ----------------------------------------------------------------------------- films of the five tasks


def depth_film(video: UInt8[Tensor, "1 T 3 H W"], true: Depth, predicted_metres: Float[Tensor, "1 T h w"]) -> Film:
    """Draw depth in colours that both panels share: near is bright, far is dark, unknown is grey.

    The range is that of the valid truth (1st to 99th percentile). Raises ValueError where no pixel is valid.
    """
    _require_one_clip("depth_film", video)
    known = true.metres[true.valid]
    if known.numel() == 0:
        raise ValueError("depth_film: no pixel of the true depth is valid, expected at least one; draw another clip")
    near, far = np.percentile(known.float().cpu().numpy(), [1, 99])
    truth = _colour_depth(true.metres[0], true.valid[0], near, far)
    prediction = _colour_depth(predicted_metres[0], predicted_metres[0].isfinite(), near, far)
    shown = [_enlarge(video[0]), _enlarge(truth, like=video[0]), _enlarge(prediction, like=video[0])]
    return _side_by_side(shown)


def point_film(video: UInt8[Tensor, "1 T 3 H W"], query: PointQuery, true: PointTracks, predicted: PointTracks) -> Film:
    """Draw each point as a dot with a trail, hollow while hidden; white lines lead from prediction to truth.

    The input shows each query in its own frame. Points are drawn in the frames where the truth is valid;
    of more than 24 points, 24 are drawn, evenly picked.
    """
    _require_one_clip("point_film", video)
    _require_finite("point_film: predicted.xy_px", predicted.xy_px)
    query, true, predicted = _thin_out(query, true, predicted)
    colours = _spread_colours(query.frame.shape[1])

    def paint_query(draw: ImageDraw.ImageDraw, scale: float, frame: int) -> None:
        for point in torch.nonzero(query.frame[0] == frame).flatten().tolist():
            _draw_dot(draw, query.xy_px[0, point], scale, colours[point], filled=True)

    def paint_truth(draw: ImageDraw.ImageDraw, scale: float, frame: int) -> None:
        _draw_tracks(draw, true, true.valid, scale, frame, colours)

    def paint_prediction(draw: ImageDraw.ImageDraw, scale: float, frame: int) -> None:
        for point in torch.nonzero(true.valid[0, :, frame]).flatten().tolist():
            _draw_line(draw, predicted.xy_px[0, point, frame], true.xy_px[0, point, frame], scale, INK)
        _draw_tracks(draw, predicted, true.valid, scale, frame, colours)

    return _side_by_side([_enlarge(video[0], paint) for paint in (paint_query, paint_truth, paint_prediction)])


def box_film(video: UInt8[Tensor, "1 T 3 H W"], query: BoxQuery, true: BoxTracks, predicted: BoxTracks) -> Film:
    """Draw boxes in one colour each; beside a prediction the truth stands as a thin white outline.

    The input shows each query in its own frame. Boxes are drawn in the frames where the truth is valid.
    """
    _require_one_clip("box_film", video)
    _require_finite("box_film: predicted.xyxy_px", predicted.xyxy_px)
    colours = _spread_colours(query.frame.shape[1])

    def paint_query(draw: ImageDraw.ImageDraw, scale: float, frame: int) -> None:
        for box in torch.nonzero(query.frame[0] == frame).flatten().tolist():
            _draw_box(draw, query.xyxy_px[0, box], scale, colours[box])

    def paint_truth(draw: ImageDraw.ImageDraw, scale: float, frame: int) -> None:
        for box in torch.nonzero(true.valid[0, :, frame]).flatten().tolist():
            _draw_box(draw, true.xyxy_px[0, box, frame], scale, colours[box])

    def paint_prediction(draw: ImageDraw.ImageDraw, scale: float, frame: int) -> None:
        for box in torch.nonzero(true.valid[0, :, frame]).flatten().tolist():
            _draw_box(draw, true.xyxy_px[0, box, frame], scale, INK, thin=True)
            _draw_box(draw, predicted.xyxy_px[0, box, frame], scale, colours[box])

    return _side_by_side([_enlarge(video[0], paint) for paint in (paint_query, paint_truth, paint_prediction)])


def camera_film(
    video: UInt8[Tensor, "1 T 3 H W"],
    true_first_from_last: Float[Tensor, "1 4 4"],
    predicted_first_from_last: Float[Tensor, "1 4 4"],
) -> Film:
    """Draw where the camera stands at the end, true and predicted, seen from above and from the side.

    Here the second panel looks from above (right is x, up is forward) and the third from the side
    (right is forward, down is y), so that truth and prediction lie on top of each other.

    Convention: OpenCV camera axes; the transform takes points of the last camera to the first one.
    """
    _require_one_clip("camera_film", video)
    _require_finite("camera_film: predicted_first_from_last", predicted_first_from_last)
    start, true, predicted = (
        torch.eye(4).double(),
        *(pose[0].double().cpu() for pose in (true_first_from_last, predicted_first_from_last)),
    )
    pyramid = 0.5 * max(float(end[:3, 3].norm()) for end in (true, predicted)) or 1.0
    cameras = torch.stack([_camera_edges(pose, pyramid) for pose in (start, true, predicted)])
    right, down, forward = torch.eye(3).double()
    above = _draw_cameras("from above", cameras, torch.stack([right, -forward]), _panel_size(video[0]))
    side = _draw_cameras("from the side", cameras, torch.stack([forward, down]), _panel_size(video[0]))
    return _side_by_side([_enlarge(video[0]), _hold(above, video.shape[1]), _hold(side, video.shape[1])])


def label_film(
    video: UInt8[Tensor, "1 T 3 H W"],
    class_names: Sequence[str],
    true: Label,
    probabilities: Float[Tensor, "1 C"],
) -> Film:
    """Draw class probabilities as bars, at most eight; the true class is green in both panels."""
    _require_one_clip("label_film", video)
    if len(class_names) != probabilities.shape[1]:
        raise ValueError(
            f"label_film: {len(class_names)} class names for {probabilities.shape[1]} probabilities, expected one each"
        )
    answer = int(true.index[0])
    rows = _bars_to_show(probabilities[0], answer)
    size, num_frames = _panel_size(video[0]), video.shape[1]
    certain = torch.nn.functional.one_hot(true.index[0].long(), len(class_names))
    truth, prediction = (_draw_bars(class_names, values, rows, answer, size) for values in (certain, probabilities[0]))
    return _side_by_side([_enlarge(video[0]), _hold(truth, num_frames), _hold(prediction, num_frames)])


# ----------------------------------------------------------------------------- stills


def reconstruction_picture(
    video: Float[Tensor, "B T 3 H W"],
    visible: Bool[Tensor, "B t h w"],
    prediction: Float[Tensor, "B T 3 H W"],
    num_frames: int = 3,
    panel_px: int = STRIP_PANEL_PX,
) -> Picture:
    """Draw one row per clip and, for a few frames: the input, the visible patches, the prediction.

    video, prediction: in [0, 1]; the prediction is clamped. Patches that the model did not see are grey.
    Raises ValueError when the token grid does not divide the clip.
    """
    seen = torch.where(_mask_of_pixels(visible, video), video, 0.5)
    frames = _evenly_spaced(video.shape[1], num_frames)
    rows = []
    for clip in range(video.shape[0]):
        triples = [[part[clip, frame] for part in (video, seen, prediction)] for frame in frames]
        rows.append(_join([_join([_still(cell, panel_px) for cell in triple]) for triple in triples], 4 * GUTTER_PX))
    body = _join(rows, axis=0)
    titles = [title for frame in frames for title in (f"input, frame {frame}", "visible patches", "prediction")]
    return torch.cat([_header(titles, body.shape[1], panel_px), body])


def filmstrip(film: Film, num_frames: int = 6, panel_px: int = STRIP_PANEL_PX) -> Picture:
    """Lay a film of three panels out in one wide still: a row per panel, time from left to right.

    Where only the input moves (camera, label) the other panels stand once, at the end of its row.
    """
    panels = _split_panels(film)
    frames = _evenly_spaced(film.shape[0], num_frames)
    rows = [[_still(panel[frame], panel_px) for frame in frames] for panel in panels]
    if all(bool((panel == panel[:1]).all()) for panel in panels[1:]):
        rows = [rows[0] + [row[0] for row in rows[1:]]]
    return _join([_join(row) for row in rows], axis=0)


# ----------------------------------------------------------------------------- files


def save_film(film: Film, path: Path, fps: float = 8.0, quality: int = 80) -> Path:
    """Write a film as an animated WebP that repeats for ever."""
    _require_suffix(path, ".webp")
    first, *rest = [Image.fromarray(frame) for frame in film.cpu().numpy()]
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, quality=quality, method=4)
    return path


def save_picture(picture: Picture, path: Path) -> Path:
    """Write a still as a PNG."""
    _require_suffix(path, ".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.cpu().numpy()).save(path, optimize=True)
    return path


# ----------------------------------------------------------------------------- marks on a frame


def _thin_out(
    query: PointQuery, true: PointTracks, predicted: PointTracks
) -> tuple[PointQuery, PointTracks, PointTracks]:
    """Keep at most `MAX_POINTS` of the points, evenly picked."""
    kept = torch.tensor(_evenly_spaced(query.frame.shape[1], MAX_POINTS))
    chosen = map_tensors(lambda tensor: tensor.cpu()[:, kept], (query, true, predicted))
    return chosen[0], chosen[1], chosen[2]


def _draw_tracks(
    draw: ImageDraw.ImageDraw,
    tracks: PointTracks,
    valid: Bool[Tensor, "1 Q T"],
    scale: float,
    frame: int,
    colours: Sequence[Colour],
) -> None:
    """Draw where points are at `frame`, with a thinning trail of where they came from."""
    for point in torch.nonzero(valid[0, :, frame]).flatten().tolist():
        path = tracks.xy_px[0, point]
        for past in range(max(0, frame - TRAIL_FRAMES), frame):
            if valid[0, point, past] and valid[0, point, past + 1]:
                _draw_line(draw, path[past], path[past + 1], scale, colours[point])
        _draw_dot(draw, path[frame], scale, colours[point], filled=bool(tracks.visible[0, point, frame]))


def _draw_dot(
    draw: ImageDraw.ImageDraw, xy_px: Float[Tensor, " 2"], scale: float, colour: Colour, filled: bool
) -> None:
    """Draw one point: a dot with a dark rim, or a ring while it is hidden."""
    x, y = _on_canvas(xy_px, scale)
    outer, inner = 4.5 * SMOOTHING, 3.5 * SMOOTHING
    if filled:
        draw.ellipse((x - outer, y - outer, x + outer, y + outer), fill=BACKGROUND)
        draw.ellipse((x - inner, y - inner, x + inner, y + inner), fill=colour)
    else:
        draw.ellipse((x - outer, y - outer, x + outer, y + outer), outline=colour, width=2 * SMOOTHING)


def _draw_line(
    draw: ImageDraw.ImageDraw, start_px: Float[Tensor, " 2"], end_px: Float[Tensor, " 2"], scale: float, colour: Colour
) -> None:
    """Draw a thin line between two points of the clip."""
    draw.line([_on_canvas(start_px, scale), _on_canvas(end_px, scale)], fill=colour, width=round(1.5 * SMOOTHING))


def _draw_box(
    draw: ImageDraw.ImageDraw, xyxy_px: Float[Tensor, " 4"], scale: float, colour: Colour, thin: bool = False
) -> None:
    """Draw a box's outline; corners may come in any order, as a poor model may give them."""
    (left, top), (right, bottom) = _on_canvas(xyxy_px[:2], scale), _on_canvas(xyxy_px[2:], scale)
    corners = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
    draw.rectangle(corners, outline=colour, width=SMOOTHING * (1 if thin else 2))


def _on_canvas(xy_px: Float[Tensor, " 2"], scale: float) -> tuple[float, float]:
    """Convert continuous clip pixels to Pillow's coordinates, where whole numbers are pixel centres."""
    x, y = (xy_px.double() * scale - 0.5).tolist()
    return x, y


def _spread_colours(count: int) -> list[Colour]:
    """Give `count` bright colours that differ as much as they can."""
    table = matplotlib.colormaps["hsv"]
    return [tuple(int(255 * part) for part in table((i + 0.5) / count)[:3]) for i in range(count)]  # type: ignore[misc]


def _colour_depth(
    metres: Float[Tensor, "T h w"], known: Bool[Tensor, "T h w"], near: float, far: float
) -> UInt8[Tensor, "T 3 h w"]:
    """Map metres to colours between `near` and `far`; what is not known is grey."""
    fraction = (metres.float() - near) / max(float(far - near), 1e-6)
    fraction = fraction.nan_to_num(0.0).clamp(0, 1).cpu()
    colours = torch.from_numpy(matplotlib.colormaps["magma_r"](fraction.numpy(), bytes=True))[..., :3]
    colours = torch.where(known.cpu()[..., None], colours, torch.tensor(UNKNOWN, dtype=torch.uint8))
    return rearrange(colours, "T h w c -> T c h w")


# ----------------------------------------------------------------------------- diagrams


def _camera_edges(world_from_camera: Float[Tensor, "4 4"], size: float) -> Float[Tensor, "8 2 3"]:
    """Give the eight edges of a camera drawn as a pyramid that opens towards what it sees."""
    apex = torch.zeros(3, dtype=torch.float64)
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    corners = [torch.tensor([0.55 * x, 0.4 * y, 0.8], dtype=torch.float64) * size for x, y in signs]
    edges = [torch.stack([apex, corner]) for corner in corners]
    edges += [torch.stack([corners[i], corners[(i + 1) % 4]]) for i in range(4)]
    return torch.stack(edges) @ world_from_camera[:3, :3].T + world_from_camera[:3, 3]


def _draw_cameras(
    title: str, cameras: Float[Tensor, "3 8 2 3"], screen_from_world: Float[Tensor, "2 3"], size: tuple[int, int]
) -> _Tile:
    """Draw the start, the true and the predicted camera as seen along one axis, with a legend."""
    image, draw = _blank(size)
    # The scale comes from all three axes, so that the views from above and from the side can be compared.
    corners = cameras.reshape(-1, 3)
    fit = 0.7 * min(image.size) / float((corners.amax(dim=0) - corners.amin(dim=0)).max())
    flat = cameras @ screen_from_world.T
    middle = (flat.reshape(-1, 2).amin(dim=0) + flat.reshape(-1, 2).amax(dim=0)) / 2
    placed = (flat - middle) * fit + torch.tensor(image.size) / 2
    text_x = 8.0
    for edges, (word, colour) in zip(placed.tolist(), CAMERAS, strict=True):
        for start, end in edges:
            draw.line([tuple(start), tuple(end)], fill=colour, width=round(1.5 * SMOOTHING))
        text_x += _write(draw, text_x, size[0] - 22.0, word, colour) + 12
    _write(draw, 8.0, 6.0, title, INK)
    return _shrink(image)


def _bars_to_show(probabilities: Float[Tensor, " C"], answer: int) -> list[int]:
    """Pick the likeliest classes and the true one, in the order of the classes."""
    likeliest = probabilities.argsort(descending=True).tolist()
    kept = likeliest[:MAX_BARS]
    return sorted(kept if answer in kept else [*kept[:-1], answer])


def _draw_bars(
    class_names: Sequence[str], values: Tensor, rows: Sequence[int], answer: int, size: tuple[int, int]
) -> _Tile:
    """Draw one bar per class, its name and value written on it."""
    image, draw = _blank(size)
    height, width = size
    row_height = (height - 12) / len(rows)
    for row, index in enumerate(rows):
        value = float(values[index])
        top, bottom = (6 + row_height * row + 2) * SMOOTHING, (6 + row_height * (row + 1) - 2) * SMOOTHING
        left, right = 8 * SMOOTHING, (width - 8) * SMOOTHING
        draw.rectangle((left, top, right, bottom), fill=TRACK)
        if value > 0:
            colour = TRUE if index == answer else PREDICTED
            draw.rectangle((left, top, left + value * (right - left), bottom), fill=_darker(colour))
        text_y = 6 + row_height * (row + 0.5) - 8
        _write(draw, 14.0, text_y, class_names[index], INK, max_width=width - 72.0)
        percent = f"{100 * value:.0f} %"
        _write(draw, width - 14 - _text_width(percent), text_y, percent, INK)
    return _shrink(image)


def _darker(colour: Colour) -> Colour:
    """Darken a colour so that light text can be read on it."""
    red, green, blue = (round(0.55 * part) for part in colour)
    return red, green, blue


def _header(titles: Sequence[str], width: int, panel_px: int) -> _Tile:
    """Write a title over each column of a picture made of triples of panels."""
    image, draw = _blank((22, width), BACKGROUND)
    for column, title in enumerate(titles):
        triple, place = divmod(column, NUM_PANELS)
        x = triple * (NUM_PANELS * panel_px + (NUM_PANELS - 1) * GUTTER_PX + 4 * GUTTER_PX)
        x += place * (panel_px + GUTTER_PX)
        _write(draw, x + 2.0, 2.0, title, INK, max_width=panel_px - 4.0)
    return _shrink(image)


def _blank(size: tuple[int, int], colour: Colour = PAPER) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Open an empty canvas for a panel of `(height, width)`, enlarged for smooth lines."""
    height, width = size
    image = Image.new("RGB", (width * SMOOTHING, height * SMOOTHING), colour)
    return image, ImageDraw.Draw(image)


def _write(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, colour: Colour, max_width: float = 1e9) -> float:
    """Write text at a place given in panel pixels, cut to `max_width`; return its width there."""
    shown = text
    while _text_width(shown) > max_width and len(shown) > 1:
        shown = shown.removesuffix("…")[:-1] + "…"
    draw.text((x * SMOOTHING, y * SMOOTHING), shown, fill=colour, font=_font())
    return _text_width(shown)


def _text_width(text: str) -> float:
    """Measure text in panel pixels."""
    return _font().getlength(text) / SMOOTHING


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    """Load the font that comes with Pillow, so that a picture looks the same everywhere."""
    font = ImageFont.load_default(size=13 * SMOOTHING)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType, which draws labels; install its binary wheel")
    return font


# ----------------------------------------------------------------------------- panels


def _panel_size(frames: UInt8[Tensor, "T 3 H W"]) -> tuple[int, int]:
    """Give a panel's height and width: a whole multiple of a small clip, about `PANEL_PX`."""
    height, width = frames.shape[-2:]
    ratio = PANEL_PX / max(height, width)
    factor = round(ratio) if ratio >= 1 else ratio
    return round(height * factor), round(width * factor)


def _enlarge(
    frames: UInt8[Tensor, "T 3 h w"], paint: Paint | None = None, like: UInt8[Tensor, "T 3 H W"] | None = None
) -> _Panel:
    """Enlarge frames to a panel and paint on them; frames shaped `like` others become cells, unsmoothed."""
    height, width = _panel_size(frames if like is None else like)
    resample = Image.Resampling.BICUBIC if like is None else Image.Resampling.NEAREST
    canvas = (width * SMOOTHING, height * SMOOTHING)
    panels = []
    for index, frame in enumerate(rearrange(frames, "T c h w -> T h w c").cpu().numpy()):
        image = Image.fromarray(np.ascontiguousarray(frame)).resize(canvas, resample)
        if paint is not None:
            paint(ImageDraw.Draw(image), canvas[0] / frames.shape[-1], index)
        panels.append(_shrink(image))
    return torch.stack(panels)


def _shrink(image: Image.Image) -> _Tile:
    """Shrink a canvas to its panel."""
    return torch.from_numpy(np.array(image.reduce(SMOOTHING)))


def _hold(picture: _Tile, num_frames: int) -> _Panel:
    """Show a still for as long as a film lasts."""
    return repeat(picture, "H W c -> T H W c", T=num_frames)


def _side_by_side(panels: Sequence[_Panel]) -> Film:
    """Put panels beside each other, with a thin gutter between."""
    return torch.stack([_join(list(frames)) for frames in zip(*panels, strict=True)])


def _join(pictures: Sequence[_Tile], gutter: int = GUTTER_PX, axis: int = 1) -> _Tile:
    """Join pictures from left to right (`axis` 1) or from top to bottom (0), with gutters."""
    shape = list(pictures[0].shape)
    shape[axis] = gutter
    between = torch.tensor(BACKGROUND, dtype=torch.uint8).expand(*shape)
    parts = [part for picture in pictures for part in (between, picture)]
    return torch.cat(parts[1:], dim=axis)


def _split_panels(film: Film) -> list[_Panel]:
    """Take a film apart into its panels."""
    panel, rest = divmod(film.shape[2] - (NUM_PANELS - 1) * GUTTER_PX, NUM_PANELS)
    if rest:
        raise ValueError(
            f"filmstrip: a film {film.shape[2]} px wide is not {NUM_PANELS} equal panels with gutters of "
            f"{GUTTER_PX} px; make it with one of the film functions of this file"
        )
    return [film[:, :, i * (panel + GUTTER_PX) :][:, :, :panel] for i in range(NUM_PANELS)]


def _still(frame: Tensor, panel_px: int) -> _Tile:
    """Resize one frame (float `3 H W` in [0, 1], or uint8 `H W 3`) so that its longer side is `panel_px`."""
    if frame.dtype != torch.uint8:
        frame = rearrange((frame.detach().float().clamp(0, 1) * 255).round().to(torch.uint8), "c h w -> h w c")
    image = Image.fromarray(frame.cpu().contiguous().numpy())
    ratio = panel_px / max(image.size)
    resample = Image.Resampling.BICUBIC if ratio < 1 else Image.Resampling.NEAREST
    size = (round(image.width * ratio), round(image.height * ratio))
    return torch.from_numpy(np.array(image.resize(size, resample)))


def _mask_of_pixels(visible: Bool[Tensor, "B t h w"], video: Float[Tensor, "B T 3 H W"]) -> Bool[Tensor, "B T 1 H W"]:
    """Spread a mask over the token grid onto the pixels of its patches."""
    _, frames, _, height, width = video.shape
    t, h, w = visible.shape[1:]
    if frames % t or height % h or width % w:
        raise ValueError(
            f"reconstruction_picture: a token grid of {t} x {h} x {w} does not divide a clip of "
            f"{frames} x {height} x {width}; pass the mask of this clip"
        )
    spread = repeat(visible, "B t h w -> B (t p) 1 (h q) (w r)", p=frames // t, q=height // h, r=width // w)
    return spread.to(video.device)


def _evenly_spaced(length: int, count: int) -> list[int]:
    """Pick `count` indices from the first to the last, fewer where there are fewer."""
    return sorted({round(place) for place in np.linspace(0, length - 1, min(count, length))})


# ----------------------------------------------------------------------------- what is refused


def _require_one_clip(name: str, video: Tensor) -> None:
    if video.shape[0] != 1:
        raise ValueError(f"{name}: got {video.shape[0]} clips, expected a batch of one; draw them one at a time")


def _require_finite(name: str, values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise ValueError(f"{name}: found a value that is not finite, expected numbers; check the prediction")


def _require_suffix(path: Path, suffix: str) -> None:
    if path.suffix != suffix:
        raise ValueError(f"{path}: found the ending '{path.suffix}', expected '{suffix}'; rename the file")

"""Reading pictures and tables of labelled datasets, with errors that say what is wrong with which file."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from fourd.media import UnreadableVideo

Image.MAX_IMAGE_PIXELS = None  # limits stand in `picture`: an error of ours, not a warning
_MAX_PIXELS = 2**26


def picture(source: Path | bytes, name: str = "") -> np.ndarray:
    """Decode a picture: uint8 `H W 3` for colour, uint16 or uint8 `H W` for one channel.

    name: what errors call bytes. Raises: UnreadableVideo where it cannot be decoded or is absurdly large; OSError
    where it is not there.
    """
    called = name or str(source)
    data = source if isinstance(source, bytes) else source.read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise UnreadableVideo(called, f"{image.width} x {image.height} pixels, expected at most {_MAX_PIXELS}")
            return np.asarray(image if image.mode in ("L", "I;16", "I") else image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableVideo(called, f"not a picture that can be decoded ({error}): get it again") from error


def colour(source: Path | bytes, name: str = "") -> UInt8[np.ndarray, "H W 3"]:
    """Decode a picture as RGB."""
    pixels = picture(source, name)
    return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels


def raster(source: Path | bytes, name: str = "") -> np.ndarray:
    """Decode a picture of one channel, such as 16-bit depth, as it is stored.

    Raises UnreadableVideo where it has colours.
    """
    pixels = picture(source, name)
    if pixels.ndim != 2:
        raise UnreadableVideo(name or str(source), "a picture in colour, expected one channel")
    return pixels


def frames_of(pictures: Sequence[np.ndarray], name: str) -> UInt8[Tensor, "T 3 H W"]:
    """Stack pictures of one size as a clip; raise UnreadableVideo where they differ."""
    sizes = {pixels.shape for pixels in pictures}
    if len(sizes) > 1:
        raise UnreadableVideo(name, f"frames of different sizes, {sorted(sizes)}: expected one size")
    return torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2)


def read_json(path: Path) -> Any:
    """Read a JSON file; raise UnreadableVideo where it is none, FileNotFoundError where it is not there."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UnreadableVideo(str(path), f"not JSON ({error}): get it again") from error


def by_number(paths: Sequence[Path]) -> list[Path]:
    """Sort paths by the numbers in their names: 2 before 10."""
    return sorted(
        paths, key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
    )


def identity(*paths: Path) -> str:
    """Describe files by their sizes and times of change."""
    return ",".join(f"{status.st_size}-{status.st_mtime_ns}" for status in (path.stat() for path in paths))

"""A page of small pictures to look at."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

_TILE = 160
_CAPTION = 26
_COLUMNS = 8
_LETTERS = 26
_MOST_LINES = 9


def contact_sheet(pictures: Sequence[tuple[str, UInt8[np.ndarray, "h w 3"] | None]]) -> Image.Image:
    """Draw pictures in a grid, each over its name; where there is none, the text stands on a grey tile instead.

    Raises: ValueError for no pictures.
    """
    if not pictures:
        raise ValueError("nothing was checked: there is no picture to draw")
    columns = min(_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * _TILE, rows * (_TILE + _CAPTION)), (24, 24, 24))
    for place, (text, picture) in enumerate(pictures):
        corner = (place % columns * _TILE, place // columns * (_TILE + _CAPTION))
        _draw(sheet, corner, text, picture)
    return sheet


def _draw(sheet: Image.Image, corner: tuple[int, int], text: str, picture: UInt8[np.ndarray, "h w 3"] | None) -> None:
    left, top = corner
    draw = ImageDraw.Draw(sheet)
    lines = textwrap.wrap(_plain(text), _LETTERS)
    if picture is None:
        draw.rectangle((left + 2, top + 2, left + _TILE - 3, top + _TILE + _CAPTION - 3), fill=(96, 96, 96))
        draw.multiline_text((left + 6, top + 6), "\n".join(lines[:_MOST_LINES]), fill=(255, 255, 255))
        return
    image = Image.fromarray(picture)
    image.thumbnail((_TILE - 4, _TILE - 4))
    sheet.paste(image, (left + (_TILE - image.width) // 2, top + (_TILE - image.height) // 2))
    caption = lines if len(lines) <= 2 else [*lines[:1], "..." + _plain(text)[-_LETTERS + 3 :]]
    draw.multiline_text((left + 4, top + _TILE), "\n".join(caption), fill=(200, 200, 200), spacing=1)


def _plain(text: str) -> str:
    """Keep what the built-in letters can draw."""
    return text.encode("ascii", "replace").decode()

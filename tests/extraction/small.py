"""A small backbone, small films, and the features that they must give, worked out frame by frame."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from safetensors.torch import load_file

from fourd import video
from fourd.backbones import mean_pixel, video_vit
from fourd.types import Backbone, NativeInput
from fourd.video import CropBox
from tests.films import write_film

WINDOW, PATCH, SIZE = 4, 2, (32, 32)


def backbone(native_size: bool = True, seed: int = 0) -> Backbone:
    """Make the tiny encoder: windows of 4 frames, token steps of 2, 32 pixels."""
    config = video_vit.VideoViTConfig(32, 4, 2, 64, (PATCH, 8, 8), WINDOW, SIZE, native_size=native_size)
    model = config.build()
    model.init_weights(torch.Generator().manual_seed(seed))
    return model.eval()


class EachFrame(mean_pixel.MeanPixel):
    """Stand for an image encoder: it looks at frames of any number, each by itself."""

    @property
    def native_input(self) -> NativeInput:
        return NativeInput(None, SIZE, (1, 8, 8), fixed=self.config.native_size)


def image_encoder() -> Backbone:
    """Make a backbone that takes clips of any length."""
    return EachFrame(mean_pixel.MeanPixelConfig((1, 8, 8), 1, SIZE))


def moving_picture(index: int, size: tuple[int, int]) -> np.ndarray:
    """Draw a picture whose every part changes from frame to frame: uint8, H W 3."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(0.3 * index + phase + (0.1 + 0.05 * phase) * x + 0.07 * y * (phase - 1)) for phase in range(3)]
    return (127 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def film(path: Path, num_frames: int = 20, **form) -> Path:
    """Write a film in which every frame is another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_film(path, num_frames, **{"picture": moving_picture, **form})


def spoil(path: Path, packet: int) -> Path:
    """Overwrite the picture data of a packet with zeros."""
    with av.open(str(path)) as container:
        place = [packet for packet in container.demux(video=0) if packet.size][packet]
        start, size = place.pos, place.size
    data = bytearray(path.read_bytes())
    data[start + 8 : start + size] = bytes(size - 8)
    path.write_bytes(data)
    return path


def frames_of(path: Path, indices=None, size: tuple[int, int] = SIZE, box: CropBox | None = None) -> torch.Tensor:
    """Decode frames all at once, and bring them to the size of the backbone."""
    info = video.probe(path)
    clip = video.decode(path, range(info.num_frames) if indices is None else indices, info)
    return video.crop_resize(clip, box or CropBox(0, 0, info.width, info.height), size)


@torch.no_grad()
def features_of(frames: torch.Tensor, model: Backbone, overlap: int = 0, depth: float = 0.95) -> torch.Tensor:
    """Encode a clip of any length by trying every window for every token step: t h w D."""
    num_steps, window_steps = -(-len(frames) // PATCH), WINDOW // PATCH
    last = max(num_steps - window_steps, 0)
    starts = [*range(0, last, (WINDOW - overlap) // PATCH), last]
    padded = torch.cat([frames, frames[-1:].expand(WINDOW, -1, -1, -1)])
    grids = [model(padded[None, PATCH * s : PATCH * s + WINDOW], [depth])[0].grid[0] for s in starts]
    middles = np.array(starts) + (window_steps - 1) / 2
    owners = [int(np.abs(middles - step).argmin()) for step in range(num_steps)]
    return torch.stack([grids[owner][step - starts[owner]] for step, owner in enumerate(owners)])


def stored(out: Path, key: str) -> dict[str, torch.Tensor]:
    """Read a file of features with the format's own library."""
    return load_file(out / f"{key}.safetensors")


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Compare up to rounding."""
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)

"""Cut videos of any length into windows that a backbone takes, and say which of their token steps count.

Frames are pushed one by one, so a film being decoded and a live camera are handled alike, in memory bounded by two
windows, without knowing the length beforehand. How windows are joined is not from the paper; `RULE` states it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from fourd.types import Backbone, Features

RULE = (
    "Each token step is taken from the window in whose middle it lies nearest (the earlier of two alike); nothing is "
    "averaged. The last window is moved back, by whole token steps, so that it is full. Where a video is shorter than "
    "a window, or no multiple of a token step, its last frame is repeated, and token steps that cover repeated frames "
    "alone are dropped."
)
"""How the token steps of overlapping windows become one sequence."""


@dataclass(frozen=True)
class Window:
    """Hold frames to encode, and say which token steps of the result count.

    clip: the frames, in the form in which they were pushed. frames: their numbers in the video, counted from 0; the
    last one is repeated where the video has ended. kept: the token steps of this window that count. first_step: the
    number in the video of the first of them; those of one window follow those of the window before without a gap.
    """

    clip: Shaped[Tensor, "T 3 H W"]
    frames: tuple[int, ...]
    kept: slice
    first_step: int

    @property
    def num_kept(self) -> int:
        """Count the token steps that count."""
        return int(self.kept.stop - self.kept.start)


class SlidingWindows:
    """Turn a stream of frames into windows, whose kept token steps are those of the stream, each once, in order.

    num_frames: frames of a window. overlap: frames that a window shares with the one before, unless it is the last,
    which may share more. patch: frames that a token step covers. Which window a step is taken from: see `RULE`.

    A window is given once it is known where the next one begins, at the latest after a window less the overlap.
    live: give each window as soon as it is full; the rule then holds for all but the very last steps, which are taken
    from the last window even where they lie nearer to the middle of the one before.

    Raises ValueError for an overlap that leaves no step ahead, and for numbers that are no multiples of `patch`.
    """

    def __init__(self, num_frames: int, overlap: int = 0, patch: int = 1, live: bool = False) -> None:
        if patch < 1 or num_frames < patch or num_frames % patch:
            raise ValueError(f"a window has {num_frames} frames; expected a multiple of {patch}, the frames of a token")
        if not 0 <= overlap < num_frames or overlap % patch:
            raise ValueError(
                f"the overlap is {overlap} frames; expected a multiple of {patch} from 0 to {num_frames - patch}"
            )
        self.num_frames, self.patch, self.live = num_frames, patch, live
        self._num_steps = num_frames // patch
        self._advance = (num_frames - overlap) // patch
        self._held: deque[Shaped[Tensor, "3 H W"]] = deque()
        self._num_pushed = 0
        self._start = 0  # of the next window, in token steps
        self._num_given = 0  # token steps
        self._finished = False

    def push(self, frame: Shaped[Tensor, "3 H W"]) -> tuple[Window, ...]:
        """Take the next frame, and give the window that this completes, if it does."""
        if self._finished:
            raise RuntimeError("finish() was called: make new SlidingWindows for another video")
        self._held.append(frame)
        self._num_pushed += 1
        windows = (self._step_on(),) if self._is_due() else ()
        self._forget()
        return windows

    def finish(self) -> tuple[Window, ...]:
        """Give the windows that are left when no frame is to come; none where there was no frame."""
        self._finished = True
        if self._num_given == self._steps_seen:
            return ()
        last = max(self._steps_seen - self._num_steps, 0)
        if self.live or last == self._start:
            return (self._give(last, self._steps_seen),)
        return (self._give(self._start, self._border(self._start, last)), self._give(last, self._steps_seen))

    def slide(self, frames: Iterable[Shaped[Tensor, "3 H W"]]) -> Iterator[Window]:
        """Give all windows of a video."""
        for frame in frames:
            yield from self.push(frame)
        yield from self.finish()

    @property
    def _steps_seen(self) -> int:
        """Count the token steps that the frames so far begin."""
        return -(-self._num_pushed // self.patch)

    def _is_due(self) -> bool:
        """Tell whether the next window is full and, unless live, whether another full one follows at its place."""
        end = self._start + self._num_steps
        if self.live:
            return self._num_pushed == end * self.patch
        return self._steps_seen == end + self._advance

    def _border(self, start: int, next_start: int) -> int:
        """Find the first token step that lies nearer to the middle of the window that starts next."""
        return (start + next_start + self._num_steps - 1) // 2 + 1

    def _step_on(self) -> Window:
        """Give the window whose turn it is, and turn to the next."""
        window = self._give(self._start, self._border(self._start, self._start + self._advance))
        self._start += self._advance
        return window

    def _give(self, start: int, end_step: int) -> Window:
        """Make the window that starts at step `start`, and keep what is not given yet, up to `end_step`."""
        oldest, newest = self._num_pushed - len(self._held), self._num_pushed - 1
        first = start * self.patch
        frames = tuple(min(index, newest) for index in range(first, first + self.num_frames))
        clip = torch.stack([self._held[index - oldest] for index in frames])
        kept = slice(self._num_given - start, end_step - start)
        window = Window(clip, frames, kept, self._num_given)
        self._num_given = end_step
        return window

    def _forget(self) -> None:
        """Drop the frames that no window to come can hold."""
        first = self._num_pushed - self.num_frames if self.live else self._start * self.patch
        while self._num_pushed - len(self._held) < first:
            self._held.popleft()


def encode_in_windows(
    backbone: Backbone,
    video: Shaped[Tensor, "B T 3 H W"],
    depths: Sequence[float],
    *,
    num_frames: int | None = None,
    overlap: int = 0,
) -> tuple[Features, ...]:
    """Encode clips of any length, window by window; the token steps are joined by `RULE`.

    num_frames: of a window; by default the backbone's own, or 16 where it takes any number. overlap: see
    `SlidingWindows`. Raises ValueError for clips without a frame.
    """
    native = backbone.native_input
    if video.shape[1] == 0:
        raise ValueError(f"video has shape {tuple(video.shape)}; expected at least one frame")
    windows = SlidingWindows(num_frames or native.clip_frames, overlap, native.patch[0])
    parts: list[list[Tensor]] = [[] for _ in depths]
    for window in windows.slide(video[0]):
        for part, features in zip(parts, backbone(video[:, list(window.frames)], depths), strict=True):
            part.append(features.grid[:, window.kept])
    return tuple(Features(torch.cat(part, dim=1)) for part in parts)


def still_clip(image: UInt8[Tensor, "3 H W"], num_frames: int) -> UInt8[Tensor, "1 T 3 H W"]:
    """Repeat an image to a clip, as a backbone takes it: RGB, colours first (`H W 3` needs `.permute(2, 0, 1)`).

    Raises ValueError for another shape or fewer frames than one.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"the image has shape {tuple(image.shape)}; expected 3 H W")
    if num_frames < 1:
        raise ValueError(f"num_frames is {num_frames}; expected 1 or more")
    return image.expand(1, num_frames, -1, -1, -1)

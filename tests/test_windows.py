"""Windows cover every token step exactly once, from the window that sees most around it, in bounded memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fourd.backbones import video_vit
from fourd.types import Backbone
from fourd.windows import SlidingWindows, encode_in_windows, still_clip
from tests.contracts.nouns import shapes_unchecked


def frame(number: int) -> torch.Tensor:
    """Make a small frame that carries its number."""
    return torch.full((3, 1, 2), number, dtype=torch.int32)


@st.composite
def cuts(draw) -> tuple[int, int, int, int]:
    """Draw (length, window, overlap, patch)."""
    patch = draw(st.integers(1, 4))
    steps = draw(st.integers(1, 9))
    overlap = draw(st.integers(0, steps - 1))
    return draw(st.integers(1, 70)), steps * patch, overlap * patch, patch


def starts_and_owners(windows) -> tuple[list[int], dict[int, int]]:
    """List where windows start, in token steps, and which window gives each step."""
    windows, owners = list(windows), {}
    for number, window in enumerate(windows):
        for step in range(window.first_step, window.first_step + window.num_kept):
            assert step not in owners
            owners[step] = number
    return [window.first_step - window.kept.start for window in windows], owners


@given(cuts(), st.booleans())
def test_every_token_step_is_given_once_and_in_order(cut, live):
    length, window, overlap, patch = cut
    windows = list(SlidingWindows(window, overlap, patch, live).slide(map(frame, range(length))))
    _, owners = starts_and_owners(windows)
    assert list(owners) == list(range(-(-length // patch)))
    assert all(0 <= w.kept.start < w.kept.stop <= window // patch for w in windows)


@given(cuts(), st.booleans())
def test_each_window_is_full_and_holds_the_frames_it_names(cut, live):
    length, window, overlap, patch = cut
    for w in SlidingWindows(window, overlap, patch, live).slide(map(frame, range(length))):
        first = (w.first_step - w.kept.start) * patch
        assert w.frames == tuple(min(first + n, length - 1) for n in range(window))
        assert w.clip[:, 0, 0, 0].tolist() == list(w.frames)


@given(cuts())
def test_each_step_comes_from_the_window_in_whose_middle_it_lies(cut):
    length, window, overlap, patch = cut
    starts, owners = starts_and_owners(SlidingWindows(window, overlap, patch).slide(map(frame, range(length))))
    middle = (window // patch - 1) / 2
    for step, owner in owners.items():
        distances = [abs(step - start - middle) for start in starts]
        assert owner == distances.index(min(distances)), "the earlier of two alike"


@given(cuts())
def test_windows_start_at_even_steps_but_for_the_last(cut):
    length, window, overlap, patch = cut
    starts, _ = starts_and_owners(SlidingWindows(window, overlap, patch).slide(map(frame, range(length))))
    advance, num_steps = (window - overlap) // patch, -(-length // patch)
    assert starts[:-1] == [advance * number for number in range(len(starts) - 1)]
    assert starts[-1] == max(num_steps - window // patch, 0)


@given(cuts(), st.booleans())
def test_no_more_than_two_windows_are_held(cut, live):
    length, window, overlap, patch = cut
    windows = SlidingWindows(window, overlap, patch, live)
    for number in range(length):
        windows.push(frame(number))
        assert len(windows._held) <= (window if live else 2 * window - overlap)


@given(cuts())
def test_a_live_window_comes_with_its_last_frame(cut):
    length, window, overlap, patch = cut
    windows = SlidingWindows(window, overlap, patch, live=True)
    ends = [number for number in range(length) for _ in windows.push(frame(number))]
    assert ends == list(range(window - 1, length, window - overlap))


def test_what_the_rule_says_of_seven_steps_in_windows_of_four():
    windows = list(SlidingWindows(8, 4, 2).slide(map(frame, range(13))))
    assert [(w.frames[0], w.kept.start, w.kept.stop) for w in windows] == [(0, 0, 3), (4, 1, 3), (6, 2, 4)]
    assert windows[-1].frames == (6, 7, 8, 9, 10, 11, 12, 12)


def test_a_video_shorter_than_a_token_step_gives_one():
    (window,) = SlidingWindows(8, 0, 4).slide([frame(5)])
    assert (window.frames, window.kept, window.num_kept) == ((0,) * 8, slice(0, 1), 1)


def test_no_frames_give_no_window():
    assert list(SlidingWindows(8).slide([])) == []


def test_a_finished_stream_takes_no_more_frames():
    windows = SlidingWindows(2)
    windows.finish()
    with pytest.raises(RuntimeError, match="make new SlidingWindows"):
        windows.push(frame(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "a window has 0 frames; expected a multiple of 1"),
        ((7, 0, 2), "a window has 7 frames; expected a multiple of 2"),
        ((8, 3, 2), "the overlap is 3 frames; expected a multiple of 2 from 0 to 6"),
        ((8, 8, 2), "the overlap is 8 frames"),
        ((8, -2, 2), "the overlap is -2 frames"),
        ((8, 0, 0), "expected a multiple of 0"),
    ],
)
def test_impossible_windows_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SlidingWindows(*arguments)


def test_a_still_clip_repeats_the_image():
    image = torch.randint(0, 256, (3, 4, 6), dtype=torch.uint8)
    clip = still_clip(image, 5)
    assert clip.shape == (1, 5, 3, 4, 6)
    assert (clip[0] == image).all()


@pytest.mark.parametrize(("shape", "num_frames"), [((4, 6, 3), 2), ((1, 3, 4, 6), 2), ((3, 4, 6), 0)])
def test_what_is_no_image_makes_no_clip(shape, num_frames):
    with shapes_unchecked(), pytest.raises(ValueError, match="expected"):
        still_clip(torch.zeros(shape, dtype=torch.uint8), num_frames)


# ----------------------------------------------------------------------------- clips that are longer

TINY = video_vit.tiny()


def tiny_backbone() -> Backbone:
    backbone = TINY.build()
    backbone.init_weights(torch.Generator().manual_seed(0))
    return backbone.eval()


@torch.no_grad()
def test_a_clip_of_the_native_length_is_encoded_as_it_is():
    backbone, video = tiny_backbone(), torch.rand(2, TINY.num_frames, 3, 32, 32)
    for found, expected in zip(
        encode_in_windows(backbone, video, (0.5, 1.0)), backbone(video, (0.5, 1.0)), strict=True
    ):
        assert torch.equal(found.grid, expected.grid)


@torch.no_grad()
def test_a_longer_clip_is_joined_from_its_windows():
    backbone, video = tiny_backbone(), torch.rand(2, 7, 3, 32, 32)  # windows of 4 frames, token steps of 2
    (found,) = encode_in_windows(backbone, video, (1.0,), overlap=2)
    repeated = torch.cat([video, video[:, -1:]], dim=1)
    first, second, third = (backbone(repeated[:, start : start + 4], (1.0,))[0].grid for start in (0, 2, 4))
    # the middle of a window lies between its two steps: of two windows alike the earlier gives the step
    expected = torch.cat([first, second[:, 1:], third[:, 1:]], dim=1)
    torch.testing.assert_close(found.grid, expected)


def test_a_clip_without_frames_is_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        encode_in_windows(tiny_backbone(), torch.rand(1, 0, 3, 32, 32), (1.0,))

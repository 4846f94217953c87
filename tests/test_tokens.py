from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fourd.tokens import (
    as_mask,
    cubic_resampling,
    fourier_features,
    grid_of,
    native_pixels,
    patchify,
    resample_positions,
    resample_time,
    resize_frames,
    sincos_positions,
    take_tokens,
    unit_range,
    unpatchify,
)
from fourd.types import NativeInput
from tests.contracts.nouns import shapes_unchecked

small = st.integers(1, 3)
triples = st.tuples(small, small, small)

# ----------------------------------------------------------------------------- pixels


def test_bytes_become_shares_and_floats_pass():
    video = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 3, 1, 1)
    assert unit_range(video).flatten().tolist() == pytest.approx([0, 0.2, 1])
    floats = torch.rand(1, 1, 3, 2, 2)
    assert unit_range(floats) is floats


@pytest.mark.parametrize(("scale", "shift"), [(255, 0), (4, -2)], ids=["bytes", "normalised"])
def test_floats_that_are_no_shares_are_refused(scale, shift):
    with pytest.raises(ValueError, match=r"video holds floats from .* expected \[0, 1\], or uint8"):
        unit_range(scale * torch.rand(1, 2, 3, 8, 8) + shift)


def test_other_integers_are_refused():
    with pytest.raises(ValueError, match=r"dtype torch\.int64; expected uint8"):
        unit_range(torch.zeros(1, 1, 3, 1, 1, dtype=torch.int64))


def test_native_size_is_left_untouched():
    video = torch.rand(2, 3, 3, 8, 12)
    assert resize_frames(video, (8, 12)) is video


def test_shrinking_averages_what_it_drops():
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    checkerboard = ((rows + columns) % 2).float().expand(1, 2, 3, 32, 32)
    grey = resize_frames(checkerboard, (8, 4))
    assert grey.shape == (1, 2, 3, 8, 4)
    assert (grey - 0.5).abs().max() < 0.03


def test_every_frame_is_resized_by_itself():
    video = torch.rand(2, 3, 3, 8, 8)
    one = resize_frames(video[1:, 2:], (5, 7))
    torch.testing.assert_close(resize_frames(video, (5, 7))[1:, 2:], one)


def test_bicubic_resizing_stays_within_the_range():
    edge = torch.zeros(1, 1, 3, 8, 8)
    edge[..., 4:] = 1
    smooth, sharp = (resize_frames(edge, (12, 12), how) for how in ("bilinear", "bicubic"))
    assert not torch.equal(smooth, sharp)
    assert sharp.min() >= 0
    assert sharp.max() <= 1


FIXED = NativeInput(4, (16, 16), (2, 8, 8))


def test_pixels_are_brought_to_the_native_size_or_kept():
    video = torch.rand(1, 4, 3, 24, 40)
    assert native_pixels(video, FIXED).shape == (1, 4, 3, 16, 16)
    assert native_pixels(video, replace(FIXED, fixed=False)) is video


@pytest.mark.parametrize(
    ("native", "shape", "message"),
    [
        (FIXED, (1, 8, 3, 16, 16), "clips have 8 frames; this backbone takes 4"),
        (FIXED, (4, 3, 16, 16), r"video has shape \(4, 3, 16, 16\); expected B T 3 H W"),
        (replace(FIXED, fixed=False), (1, 4, 3, 20, 16), r"\(4, 20, 16\).*patches of \(2, 8, 8\)"),
        (NativeInput(None, (16, 16), (2, 8, 8)), (1, 3, 3, 16, 16), r"\(3, 16, 16\).*patches of \(2, 8, 8\)"),
    ],
)
def test_clips_that_cannot_be_taken_are_refused(native, shape, message):
    with shapes_unchecked(), pytest.raises(ValueError, match=message):
        native_pixels(torch.rand(shape), native)


# ----------------------------------------------------------------------------- patches


def test_grid_counts_patches():
    assert grid_of(16, (224, 256), (2, 16, 16)) == (8, 14, 16)


@pytest.mark.parametrize(("frames", "size"), [(15, (32, 32)), (16, (33, 32)), (16, (32, 8)), (0, (32, 32))])
def test_a_clip_that_cannot_be_cut_is_an_error(frames, size):
    with pytest.raises(ValueError, match="cannot be cut into patches"):
        grid_of(frames, size, (2, 16, 16))


@given(grid=triples, patch=triples, channels=small)
def test_patches_go_back_to_where_they_came_from(grid, patch, channels):
    frames, height, width = (cells * side for cells, side in zip(grid, patch, strict=True))
    video = torch.arange(2 * frames * channels * height * width).view(2, frames, channels, height, width)
    patches = patchify(video, patch)
    assert patches.shape == (2, math.prod(grid), math.prod(patch) * channels)
    assert torch.equal(unpatchify(patches, grid, patch), video)


@given(grid=triples, patch=triples, data=st.data())
def test_tokens_run_t_h_w_and_numbers_within_one_run_t_h_w_c(grid, patch, data):
    shape = tuple(cells * side for cells, side in zip(grid, patch, strict=True))
    video = torch.rand(1, shape[0], 3, *shape[1:])
    t, y, x = (data.draw(st.integers(0, extent - 1)) for extent in shape)
    channel = data.draw(st.integers(0, 2))
    token = (t // patch[0] * grid[1] + y // patch[1]) * grid[2] + x // patch[2]
    inside = ((t % patch[0] * patch[1] + y % patch[1]) * patch[2] + x % patch[2]) * 3 + channel
    assert patchify(video, patch)[0, token, inside] == video[0, t, channel, y, x]


# ----------------------------------------------------------------------------- some tokens of all


def test_taking_and_marking_tokens():
    tokens, index = torch.rand(2, 5, 3), torch.tensor([[0, 4], [1, 2]])
    taken = take_tokens(tokens, index)
    assert torch.equal(taken, torch.stack([tokens[0, [0, 4]], tokens[1, [1, 2]]]))
    assert as_mask(index, 5).tolist() == [[True, False, False, False, True], [False, True, True, False, False]]


# ----------------------------------------------------------------------------- positions


@pytest.mark.parametrize("width", [8, 32, 192, 385])
def test_sincos_positions_tell_all_places_apart(width):
    table = sincos_positions((4, 3, 5), width)
    assert table.shape == (60, width)
    assert table.abs().max() <= 1
    assert torch.cdist(table, table).add(torch.eye(60)).min() > 0.1


def test_sincos_positions_give_each_axis_its_own_share():
    table = sincos_positions((4, 3, 5), 30).view(4, 3, 5, 30)
    for axis, part in enumerate(table.split(10, dim=-1)):
        assert not torch.equal(part, part.select(axis, 0).unsqueeze(axis).expand_as(part))
        for other in {0, 1, 2} - {axis}:
            assert torch.equal(part, part.select(other, 0).unsqueeze(other).expand_as(part))


def test_positions_of_the_same_grid_pass_unchanged():
    table = torch.rand(24, 5)
    assert resample_positions(table, (2, 3, 4), (2, 3, 4)) is table


def test_positions_are_resampled_along_each_axis_like_a_picture():
    table = torch.rand(12, 5)
    wanted = resample_positions(table, (1, 3, 4), (1, 6, 5)).reshape(6, 5, 5)
    picture = table.reshape(1, 3, 4, 5).permute(0, 3, 1, 2)
    expected = F.interpolate(picture, (6, 5), mode="bicubic", antialias=True)[0].permute(1, 2, 0)
    torch.testing.assert_close(wanted, expected)


def test_positions_that_fall_along_time_fall_evenly_when_there_are_more_of_them():
    ramp = torch.arange(8.0)[:, None].repeat_interleave(4, dim=0)  # 8 x 2 x 2 tokens, each its own time
    finer = resample_positions(ramp, (8, 2, 2), (16, 2, 2)).reshape(16, 4)
    torch.testing.assert_close(finer[4:12, 0].diff(), torch.full((7,), 0.5))
    assert torch.equal(finer, finer[:, :1].expand(-1, 4))


def test_fourier_features_follow_the_formula():
    point, octaves = [0.3, 0.8], 3
    angles = [math.pi * 2**octave * x for octave in range(octaves) for x in point]
    expected = [math.sin(a) for a in angles] + [math.sin(a + math.pi / 2) for a in angles]
    ours = fourier_features(torch.tensor([[point]]), octaves)
    assert ours.shape == (1, 1, 12)
    torch.testing.assert_close(ours[0, 0], torch.tensor(expected), atol=1e-6, rtol=0)


# ----------------------------------------------------------------------------- time


@pytest.mark.parametrize(("num_in", "num_out"), [(8, 16), (16, 8), (4, 8), (5, 13), (3, 3), (13, 5)])
def test_cubic_resampling_agrees_with_torch(num_in, num_out):
    x = torch.rand(num_in, 4)
    size = (num_out, 4)
    expected = F.interpolate(x[None, None], size=size, mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(cubic_resampling(num_in, num_out) @ x, expected[0, 0], atol=1e-6, rtol=0)


def test_cubic_resampling_from_8_to_16_has_the_known_rows():
    matrix = cubic_resampling(8, 16)
    assert matrix[0, :3].tolist() == pytest.approx([1.08824, -0.08824, 0], abs=1e-5)
    assert matrix[3, :4].tolist() == pytest.approx([-0.07031, 0.86719, 0.22656, -0.02344], abs=1e-5)
    assert torch.equal(matrix, matrix.flip(0, 1))


@given(num_in=st.integers(1, 20), num_out=st.integers(1, 20))
def test_cubic_resampling_keeps_a_constant(num_in, num_out):
    torch.testing.assert_close(cubic_resampling(num_in, num_out).sum(dim=1), torch.ones(num_out))


def test_features_of_the_right_length_pass_unchanged():
    grid = torch.rand(2, 4, 3, 2, 5)
    assert resample_time(grid, 4) is grid


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resampling_changes_time_alone(dtype):
    grid = torch.rand(2, 4, 3, 2, 5).to(dtype)
    longer = resample_time(grid, 8)
    assert longer.shape == (2, 8, 3, 2, 5)
    assert longer.dtype == dtype
    expected = cubic_resampling(4, 8).to(dtype) @ grid[1, :, 2, 1]
    torch.testing.assert_close(longer[1, :, 2, 1], expected)

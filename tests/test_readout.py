from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from fourd.readout import (
    AttentionReadout,
    DeepAttentionReadout,
    DenseReadout,
    LinearReadout,
    ReadoutSize,
    TrackingReadout,
    build_attention,
    pool_tokens,
    require_first_frame,
    sample_first_frame,
)
from fourd.tokens import fourier_features, resample_time
from fourd.types import ClipShape, Features, FeatureShape, ReadoutKind

SHAPE = FeatureShape(2, 3, 4, 16)
CLIP = ClipShape(num_frames=8, height=32, width=32)


def features(num_clips: int = 2) -> Features:
    return Features(torch.randn(num_clips, SHAPE.t, SHAPE.h, SHAPE.w, SHAPE.width))


def filled(module: nn.Module) -> nn.Module:
    """Give every parameter a random value, biases and scales too."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return module.eval()


def learned(num_queries: int = 5, **changes: object) -> AttentionReadout:
    size = ReadoutSize(**({"width": 8, "num_heads": 2} | changes))
    return filled(AttentionReadout(SHAPE, size, 3, num_queries=num_queries))


def asked(**changes: object) -> AttentionReadout:
    size = ReadoutSize(**({"width": 8, "num_heads": 2} | changes))
    return filled(AttentionReadout(SHAPE, size, 3, query_width=6))


def deep(num_queries: int = 5, **changes: object) -> DeepAttentionReadout:
    size = ReadoutSize(**({"width": 8, "num_heads": 2, "num_blocks": 2} | changes))
    return filled(DeepAttentionReadout(SHAPE, size, 3, num_queries=num_queries))


def dense(shape: FeatureShape = SHAPE, clip: ClipShape = CLIP, **changes: object) -> DenseReadout:
    return filled(DenseReadout(shape, clip, ReadoutSize(**({"width": 8, "num_heads": 2} | changes))))


def tracker(kind: ReadoutKind = "attention") -> TrackingReadout:
    size = ReadoutSize(width=8, num_heads=2, num_frames=8)
    return filled(TrackingReadout(SHAPE, CLIP, size, 2, 4, num_tiles=4, num_octaves=3, kind=kind))


# ----------------------------------------------------------------------------- attention


@pytest.mark.parametrize("arguments", [{}, {"num_queries": 3, "query_width": 4}])
def test_queries_are_learned_or_given_never_both(arguments):
    with pytest.raises(ValueError, match="give either num_queries or query_width"):
        AttentionReadout(SHAPE, ReadoutSize(8, 2), 3, **arguments)


@torch.no_grad()
def test_full_form_by_hand():
    readout, seen = learned(num_frames=4), features()
    x = readout.feature_norm(resample_time(seen.grid, 4)) + readout.time_positions[None, :, None, None]
    key, value = readout.key(x.flatten(1, 3)), readout.value(x.flatten(1, 3))
    mixed = [
        (readout.query[:, h] @ key[..., h].transpose(1, 2) / math.sqrt(4)).softmax(dim=-1) @ value[..., h]
        for h in (slice(0, 4), slice(4, 8))
    ]
    answer = readout.query + readout.out(torch.cat(mixed, dim=-1))
    answer = answer + readout.mlp(readout.mlp_norm(answer))
    torch.testing.assert_close(readout(seen), readout.head(answer))


@torch.no_grad()
def test_each_query_is_answered_by_itself():
    readout, seen, queries = asked(), features(), torch.randn(2, 5, 6)
    answers = readout(seen, queries)
    assert answers.shape == (2, 5, 3)
    torch.testing.assert_close(readout(seen, queries[:, 2:3]), answers[:, 2:3])
    torch.testing.assert_close(readout(seen, queries.flip(1)), answers.flip(1))


@torch.no_grad()
def test_each_clip_is_answered_by_itself():
    readout, seen = learned(), features()
    torch.testing.assert_close(readout(Features(seen.grid[1:])), readout(seen)[1:])


def test_full_form_tells_time_steps_apart_and_simple_form_does_not():
    seen = features()
    backwards = Features(seen.grid.flip(1))
    with torch.no_grad():
        assert not torch.allclose(learned()(seen), learned()(backwards), atol=1e-3)
        torch.testing.assert_close(learned(simple=True)(seen), learned(simple=True)(backwards))


def test_simple_form_has_only_query_key_value_and_head():
    names = {name for name, _ in learned(simple=True).named_parameters()}
    assert names == {"query", "key.weight", "value.weight", "head.weight", "head.bias"}


def test_dropout_acts_in_training_alone():
    readout, seen = learned(dropout=0.5), features()
    assert torch.equal(readout(seen), readout(seen))
    readout.train()
    assert not torch.equal(readout(seen), readout(seen))


@pytest.mark.parametrize("simple", [False, True])
def test_attention_readout_in_bf16_stays_close(simple):
    readout, seen, queries = asked(simple=simple), features(), torch.randn(2, 5, 6)
    readout.init_weights(torch.Generator().manual_seed(0))
    exact = readout(seen, queries)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = readout(Features(seen.grid.bfloat16()), queries)
    error = (exact - rounded).detach().square().mean().sqrt() / exact.detach().std()
    assert 0 < error < 0.03


# ----------------------------------------------------------------------------- attention with blocks before it


@torch.no_grad()
def test_deep_form_by_hand():
    readout, seen = deep(num_frames=4), features()
    x = readout.input_projection(readout.input_norm(resample_time(seen.grid, 4)))
    x = (x + readout.time_positions[None, :, None, None]).flatten(1, 3)
    for block in readout.blocks:
        x = block(x)
    x = readout.feature_norm(x)
    key, value = readout.key(x), readout.value(x)
    mixed = [
        (readout.query[:, h] @ key[..., h].transpose(1, 2) / math.sqrt(4)).softmax(dim=-1) @ value[..., h]
        for h in (slice(0, 4), slice(4, 8))
    ]
    answer = readout.query + readout.out(torch.cat(mixed, dim=-1))
    answer = answer + readout.mlp(readout.mlp_norm(answer))
    torch.testing.assert_close(readout(seen), readout.head(answer))


def test_the_number_of_blocks_is_the_deep_kinds_alone():
    assert [len(deep(num_blocks=n).blocks) for n in (1, 4)] == [1, 4]
    assert ReadoutSize().num_blocks + 1 == 4  # those of V-JEPA 2's probe, its cross-attention counted
    few, many = (learned(num_blocks=n) for n in (1, 4))
    assert [name for name, _ in few.named_parameters()] == [name for name, _ in many.named_parameters()]
    assert torch.equal(initial(few, seed=0), initial(many, seed=0))


@torch.no_grad()
def test_deep_form_answers_each_query_and_each_clip_by_itself():
    readout = filled(build_attention("attention_deep", SHAPE, ReadoutSize(8, 2), 3, query_width=6))
    seen, queries = features(), torch.randn(2, 5, 6)
    answers = readout(seen, queries)
    torch.testing.assert_close(readout(seen, queries[:, 2:3]), answers[:, 2:3])
    torch.testing.assert_close(readout(Features(seen.grid[1:]), queries[1:]), answers[1:])


@pytest.mark.parametrize("changes", [{"simple": True}, {"num_blocks": 0}])
def test_deep_form_refuses_a_size_without_blocks_or_norms(changes):
    with pytest.raises(ValueError, match="'attention_deep' readout needs simple=False and 1 block or more"):
        deep(**changes)


def test_only_attention_is_built_as_attention():
    assert type(build_attention("attention", SHAPE, ReadoutSize(8, 2), 3, 1)) is AttentionReadout
    assert type(build_attention("attention_deep", SHAPE, ReadoutSize(8, 2), 3, 1)) is DeepAttentionReadout
    with pytest.raises(ValueError, match="'dense' is no readout by attention"):
        build_attention("dense", SHAPE, ReadoutSize(8, 2), 3, 1)


def test_deep_form_in_bf16_stays_close():
    readout, seen = deep(), features()
    readout.init_weights(torch.Generator().manual_seed(0))
    exact = readout(seen)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = readout(Features(seen.grid.bfloat16()))
    assert 0 < (exact - rounded).detach().square().mean().sqrt() / exact.detach().std() < 0.03


# ----------------------------------------------------------------------------- dense


@torch.no_grad()
def test_a_time_step_answers_for_its_frames_alone():
    readout, seen = dense(), features()
    before = readout(seen)
    assert before.shape == (2, CLIP.num_frames, CLIP.height, CLIP.width)
    seen.grid[1, 1] += torch.randn(SHAPE.width)
    changed = (readout(seen) != before).flatten(2).any(-1)
    assert changed.tolist() == [[False] * 8, [False] * 4 + [True] * 4]


@torch.no_grad()
def test_what_moves_by_a_token_moves_by_its_pixels():
    shape = FeatureShape(1, 14, 12, 16)
    readout = dense(shape, ClipShape(1, 4 * 14, 4 * 12))
    grid = torch.randn(1, 1, 14, 12, 16)
    before, moved = readout(Features(grid)), readout(Features(grid.roll((1, 2), dims=(2, 3))))
    inside = (..., slice(24, 32), slice(24, 28))  # further from the edges than convolutions look
    torch.testing.assert_close(moved[inside], before.roll((4, 8), dims=(2, 3))[inside])
    assert not torch.allclose(moved[inside], before[inside], atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("grid", [(2, 3), (4, 32), (48, 48), (5, 7)])
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_any_grid_answers_in_the_clips_shape(grid, steps):
    shape = FeatureShape(steps, *grid, 16)
    answers = dense(shape)(Features(torch.randn(2, steps, *grid, 16)))
    assert answers.shape == (2, CLIP.num_frames, CLIP.height, CLIP.width)


@torch.no_grad()
def test_the_grid_gets_as_fine_as_the_clip_by_doubling():
    widths = [unit.conv_in.in_channels for unit in dense(width=256, num_frames=4).units]
    assert widths == [64, 32, 16, 16]  # 3 x 4 tokens to 24 x 32, the rest is stretched
    assert dense(num_frames=4).head.out_features == 2
    assert len(dense(FeatureShape(2, 32, 32, 16)).units) == 1


@pytest.fixture
def deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("grid", [(3, 4), (4, 4)])
def test_dense_gradients_repeat_themselves_to_the_bit(grid):
    readout, seen = dense(FeatureShape(2, *grid, 16)), torch.randn(2, 2, *grid, 16)
    found = []
    for _ in range(2):
        readout.zero_grad()
        readout(Features(seen)).square().mean().backward()
        found.append([parameter.grad.clone() for parameter in readout.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert all(gradient.any() for gradient in found[0])


def test_dense_readout_in_bf16_stays_close():
    readout, seen = dense(), features()
    readout.init_weights(torch.Generator().manual_seed(0))
    exact = readout(seen)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = readout(Features(seen.grid.bfloat16()))
    assert rounded.dtype == torch.float32
    assert 0 < (exact - rounded).detach().square().mean().sqrt() / exact.detach().std() < 0.03


# ----------------------------------------------------------------------------- tracking


@torch.no_grad()
def test_a_tile_answers_for_its_share_of_the_frames():
    readout, seen, points = tracker(), features(), torch.rand(2, 5, 2)
    frame = torch.zeros(2, 5, dtype=torch.long)
    before = readout(seen, frame, points)
    assert before.shape == (2, 5, 8, 4)
    readout.tile_positions[2] += 1
    changed = (readout(seen, frame, points) - before).abs().amax(dim=(0, 1, 3)) > 1e-6
    assert changed.tolist() == [False, False, False, False, True, True, False, False]


@torch.no_grad()
def test_tracking_by_hand():
    readout, seen, points = tracker(), features(), torch.rand(2, 5, 2)
    embedded = readout.embed_in(fourier_features(points, 3))
    embedded = readout.embed_out(nn.functional.gelu(embedded, approximate="tanh"))
    expected = torch.empty(2, 5, 8, 4)
    for tile in range(4):
        numbers = readout.attention(seen, embedded + readout.tile_positions[tile])
        expected[:, :, 2 * tile], expected[:, :, 2 * tile + 1] = numbers[..., :4], numbers[..., 4:]
    ours = readout(seen, torch.zeros(2, 5, dtype=torch.long), points)
    torch.testing.assert_close(ours, expected)


def test_queries_after_the_first_frame_are_refused():
    with pytest.raises(ValueError, match="queries start at frame 3"):
        tracker()(features(1), torch.tensor([[0, 3]]), torch.rand(1, 2, 2))
    require_first_frame(torch.zeros(1, 2, dtype=torch.long))


def test_frames_must_be_shared_evenly_among_tiles():
    with pytest.raises(ValueError, match="8 frames cannot be shared among 3 tiles"):
        TrackingReadout(SHAPE, CLIP, ReadoutSize(8, 2), 2, 4, num_tiles=3, num_octaves=3)


# ----------------------------------------------------------------------------- linear


def test_linear_readout_forgets_scale_and_offset():
    readout, x = filled(LinearReadout(16, 3)), torch.randn(4, 5, 16)
    assert readout(x).shape == (4, 5, 3)
    torch.testing.assert_close(readout(7 * x + 2), readout(x), atol=1e-4, rtol=1e-4)


def test_pooling_averages_all_tokens():
    seen = features()
    torch.testing.assert_close(pool_tokens(seen), seen.grid.flatten(1, 3).mean(dim=1))
    assert pool_tokens(Features(seen.grid.bfloat16())).dtype == torch.float32


def test_a_feature_is_found_at_the_centre_of_its_cell():
    seen = features()
    xy = torch.tensor([[[(x + 0.5) / SHAPE.w, (y + 0.5) / SHAPE.h] for y in range(3) for x in range(4)]] * 2)
    torch.testing.assert_close(sample_first_frame(seen, xy), seen.grid[:, 0].flatten(1, 2))


def test_between_centres_features_are_mixed_and_beyond_them_held():
    seen = features()
    between = sample_first_frame(seen, torch.tensor([[[2 / SHAPE.w, 1.5 / SHAPE.h]]] * 2))
    torch.testing.assert_close(between[:, 0], seen.grid[:, 0, 1, 1:3].mean(dim=1))
    corner = sample_first_frame(seen, torch.tensor([[[0.0, 0.0], [1.0, 1.0]]] * 2))
    torch.testing.assert_close(corner, torch.stack([seen.grid[:, 0, 0, 0], seen.grid[:, 0, 2, 3]], dim=1))


# ----------------------------------------------------------------------------- initial values


@pytest.mark.parametrize(
    "module",
    [
        *(learned(), learned(simple=True), asked(), asked(simple=True), deep(), dense()),
        *(tracker(), tracker("attention_deep"), LinearReadout(16, 3)),
    ],
    ids=[
        *("learned", "learned-simple", "asked", "asked-simple", "deep", "dense"),
        *("tracking", "tracking-deep", "linear"),
    ],
)
def test_init_fills_everything_from_its_generator_alone(module):
    assert torch.equal(initial(module, seed=0), initial(module, seed=0))
    assert not torch.equal(initial(module, seed=0), initial(module, seed=1))


def initial(module: nn.Module, seed: int) -> Tensor:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(math.nan)
    module.init_weights(torch.Generator().manual_seed(seed))
    numbers = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
    assert numbers.isfinite().all()
    return numbers

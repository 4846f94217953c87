from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fourd.readout import (
    AttentionReadout,
    LinearReadout,
    ReadoutSize,
    TrackingReadout,
    pool_tokens,
    require_first_frame,
    sample_first_frame,
)
from fourd.tokens import fourier_features, resample_time
from fourd.types import ClipShape, Features, FeatureShape

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


def tracker() -> TrackingReadout:
    size = ReadoutSize(width=8, num_heads=2, num_frames=8)
    return filled(TrackingReadout(SHAPE, CLIP, size, num_coordinates=2, num_outputs=4, num_tiles=4, num_octaves=3))


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
    [learned(), learned(simple=True), asked(), asked(simple=True), tracker(), LinearReadout(16, 3)],
    ids=["learned", "learned-simple", "asked", "asked-simple", "tracking", "linear"],
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

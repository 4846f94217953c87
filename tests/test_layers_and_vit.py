from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import config as shape_checks
from torch import Tensor, nn

from fourd.backbones import video_vit
from fourd.backbones.video_vit import SIZES, VideoViT, VideoViTConfig, feature_index
from fourd.layers import MLP, Block, LayerNorm, SelfAttention, attention, init_lecun_normal
from fourd.tokens import take_tokens
from fourd.types import ClipShape, FeatureShape

TINY = video_vit.tiny()


def filled(module: nn.Module) -> nn.Module:
    """Give every parameter a random value, biases and scales too."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    return module.requires_grad_(False)


def clips(num_clips: int = 2, num_frames: int = 4, size: int = 32) -> Tensor:
    return torch.rand(num_clips, num_frames, 3, size, size)


@pytest.fixture
def unchecked_shapes():
    """Let a wrong shape through to the error that people see who run without shape checks."""
    shape_checks.update("jaxtyping_disable", True)
    yield
    shape_checks.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def tiny() -> VideoViT:
    return filled(TINY.build())


# ----------------------------------------------------------------------------- layers


@pytest.mark.parametrize("num_kept", [None, 3, 7, 12])
def test_tokens_that_clips_share_are_computed_once_with_the_same_result_and_gradient(num_kept):
    block = Block(32, 4, 64)
    block.init_weights(torch.Generator().manual_seed(0))
    own, common = torch.randn(3, 5, 32, requires_grad=True), torch.randn(7, 32, requires_grad=True)
    plain = block(torch.cat([common.expand(3, -1, -1), own], dim=1))[:, :num_kept]
    clever = block(own, common, num_kept)
    torch.testing.assert_close(clever, plain)
    direction, numbers = torch.randn_like(plain), (own, common, *block.parameters())
    pairs = zip(*(torch.autograd.grad(result, numbers, direction) for result in (clever, plain)), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_explicit_softmax_equals_the_fused_kernel_and_its_gradient():
    query, key, value = (torch.randn(2, 3, n, 8, requires_grad=True) for n in (5, 9, 9))
    explicit = attention(query, key, value)
    with torch.no_grad():
        torch.testing.assert_close(attention(query, key, value), explicit)
    fused = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(explicit, fused)
    direction = torch.randn_like(fused)
    for ours, theirs in zip(
        torch.autograd.grad(explicit, (query, key, value), direction),
        torch.autograd.grad(fused, (query, key, value), direction),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_attention_of_one_query_by_hand():
    query = torch.tensor([[[[2.0, 0, 0, 0]]]])
    key = torch.tensor([[[[math.log(3), 0, 0, 0], [0.0, 5, 0, 0]]]])
    value = torch.tensor([[[[4.0, 0, 0, 0], [0.0, 8, 0, 0]]]])
    torch.testing.assert_close(attention(query, key, value), torch.tensor([[[[3.0, 2, 0, 0]]]]))


def test_self_attention_keeps_its_heads_apart():
    layer = filled(SelfAttention(8, 2))
    x = torch.randn(1, 5, 8)
    query, key, value = (x @ p.weight.T + p.bias for p in (layer.query, layer.key, layer.value))
    heads = [slice(0, 4), slice(4, 8)]
    mixed = [(query[..., h] @ key[..., h].transpose(1, 2) / 2).softmax(-1) @ value[..., h] for h in heads]
    torch.testing.assert_close(layer(x), torch.cat(mixed, -1) @ layer.out.weight.T + layer.out.bias)


def test_width_must_split_into_heads():
    with pytest.raises(ValueError, match="width 10 cannot be split into 4 heads"):
        SelfAttention(10, 4)


def test_layer_norm_has_the_official_epsilon():
    x = torch.tensor([[1e-3, -1e-3]])
    torch.testing.assert_close(LayerNorm(2)(x), x / math.sqrt(1e-6 + 1e-6))


@pytest.mark.parametrize("parameters", [torch.float32, torch.bfloat16])
def test_layer_norm_computes_in_float32_and_answers_in_kind(parameters):
    norm, x = LayerNorm(64).to(parameters), (torch.randn(3, 64) + 300).bfloat16()
    answer = norm(x)
    assert answer.dtype == torch.bfloat16
    torch.testing.assert_close(answer, F.layer_norm(x.double(), (64,), eps=1e-6).bfloat16())


def test_mlp_uses_the_tanh_form_of_gelu():
    mlp, x = filled(MLP(3, 5)), 3 * torch.randn(4, 3)
    hidden = x @ mlp.dense_in.weight.T + mlp.dense_in.bias
    gelu = 0.5 * hidden * (1 + torch.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
    torch.testing.assert_close(mlp(x), gelu @ mlp.dense_out.weight.T + mlp.dense_out.bias)


def test_block_adds_attention_then_mlp_each_after_its_norm():
    block, x = filled(Block(8, 2, 16)), torch.randn(2, 5, 8)
    middle = x + block.attention(block.attention_norm(x))
    torch.testing.assert_close(block(x), middle + block.mlp(block.mlp_norm(middle)))


def test_lecun_normal_has_unit_gain_and_short_tails():
    linear = nn.Linear(400, 500).requires_grad_(False)
    init_lecun_normal(linear, torch.Generator().manual_seed(0))
    assert float(linear.weight.std()) == pytest.approx(1 / 20, rel=0.01)
    assert float(linear.weight.abs().max()) <= 2 / 20 / 0.8796 + 1e-6
    assert not linear.bias.any()


# ----------------------------------------------------------------------------- which features


@pytest.mark.parametrize(
    ("name", "entry"), [("S", 11), ("B", 11), ("L", 22), ("H", 30), ("G", 45), ("e", 53), ("j", 60)]
)
def test_depth_095_is_the_official_entry(name, entry):
    assert feature_index(0.95, SIZES[name]().depth) == entry


@pytest.mark.parametrize("num_blocks", [4, 12, 24, 32, 48, 56, 64])
def test_depth_1_is_the_last_entry_and_every_entry_can_be_reached(num_blocks):
    assert feature_index(1.0, num_blocks) == num_blocks
    depths = [(index + 1.5) / (num_blocks + 1) for index in range(num_blocks)]
    assert [feature_index(depth, num_blocks) for depth in depths] == list(range(num_blocks))


@pytest.mark.parametrize("depth", [0.0, -0.5, 1.01])
def test_depth_is_a_fraction(depth):
    with pytest.raises(ValueError, match="expected 0 < depth <= 1"):
        feature_index(depth, 12)


def test_a_depth_before_the_first_entry_is_an_error():
    with pytest.raises(ValueError, match=r"depth 0\.05 lies below .* use 0\.077 up"):
        feature_index(0.05, 12)


# ----------------------------------------------------------------------------- the video transformer


def test_features_are_the_outputs_of_the_blocks(tiny):
    video = clips()
    x = tiny.patch_embedding(naive_patches(video)) + tiny.positions
    outputs = [x, x]
    for block in tiny.blocks[:3]:
        outputs.append(block(outputs[-1]))
    for index, features in enumerate(tiny(video, [0.2, 0.4, 0.6, 0.8, 1.0])):
        assert features.grid.shape == (2, 2, 4, 4, 32)
        torch.testing.assert_close(features.grid.flatten(1, 3), outputs[index])


def naive_patches(video: Tensor) -> Tensor:
    """Cut patches of (2, 8, 8) one by one, channels last."""
    places = [(t, y, x) for t in range(0, 4, 2) for y in range(0, 32, 8) for x in range(0, 32, 8)]
    pieces = [video[:, t : t + 2, :, y : y + 8, x : x + 8].movedim(2, -1).flatten(1) for t, y, x in places]
    return torch.stack(pieces, dim=1)


def test_depths_may_come_in_any_order_and_twice(tiny):
    video = clips()
    late, early, again = tiny(video, [0.95, 0.4, 0.95])
    torch.testing.assert_close(late.grid, tiny(video, [0.95])[0].grid)
    torch.testing.assert_close(early.grid, tiny(video, [0.4])[0].grid)
    assert torch.equal(late.grid, again.grid)
    assert not torch.allclose(late.grid, early.grid)


@pytest.mark.parametrize(("depth", "num_run"), [(0.3, 0), (0.4, 0), (0.6, 1), (1.0, 3)])
def test_no_block_runs_in_vain(tiny, depth, num_run):
    ran = []
    hooks = [block.register_forward_hook(lambda *_, n=n: ran.append(n)) for n, block in enumerate(tiny.blocks)]
    tiny(clips(), [depth])
    for hook in hooks:
        hook.remove()
    assert ran == list(range(num_run))


def test_bytes_and_floats_give_the_same_features(tiny):
    video = torch.randint(0, 256, (2, 4, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(tiny(video, [1.0])[0].grid, tiny(video.float() / 255, [1.0])[0].grid)


def test_native_input_is_untouched_and_larger_input_is_resized(tiny):
    video = clips()
    assert tiny.pixels(video) is video
    large = clips(size=48)
    small = torch.stack([F.interpolate(clip, size=(32, 32), mode="bilinear", antialias=True) for clip in large])
    torch.testing.assert_close(tiny.pixels(large), small)
    torch.testing.assert_close(tiny(large, [1.0])[0].grid, tiny(small, [1.0])[0].grid)


def test_a_clip_knows_nothing_of_its_batch(tiny):
    video = clips(num_clips=3)
    torch.testing.assert_close(tiny(video, [1.0])[0].grid[1:2], tiny(video[1:2], [1.0])[0].grid)


def test_embedding_some_tokens_equals_embedding_all_and_picking(tiny):
    video, visible = clips(), torch.tensor([[0, 7, 31], [3, 4, 5]])
    torch.testing.assert_close(tiny.embed(video, visible), take_tokens(tiny.embed(video), visible))


def test_another_number_of_frames_is_an_error(tiny):
    with pytest.raises(ValueError, match="clips have 8 frames; this backbone takes 4"):
        tiny(clips(num_frames=8), [0.95])
    with pytest.raises(ValueError, match="clips have 8 frames; this backbone takes 4"):
        tiny.feature_shape(ClipShape(8, 32, 32))


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("shape", [(4, 3, 32, 32), (2, 4, 32, 32, 3), (2, 3, 4, 32, 32)])
def test_another_layout_is_an_error(tiny, shape):
    with pytest.raises(ValueError, match=r"video has shape \(.*\); expected B T 3 H W"):
        tiny(torch.rand(shape), [0.95])


def test_a_size_that_patches_do_not_fill_is_an_error():
    with pytest.raises(ValueError, match="cannot be cut into patches"):
        VideoViTConfig(32, 1, 2, 64, size=(224, 230)).build()


def test_feature_shape_is_the_shape_of_the_features(tiny):
    shape = tiny.feature_shape(ClipShape(4, 100, 60))
    assert shape == FeatureShape(2, 4, 4, 32)
    assert tiny(torch.rand(1, 4, 3, 100, 60), [0.5])[0].grid.shape[1:] == (shape.t, shape.h, shape.w, shape.width)


@pytest.mark.parametrize("with_grad", [False, True], ids=["fused-softmax", "explicit-softmax"])
def test_bf16_autocast_stays_close(with_grad):
    backbone, video = TINY.build(), clips()
    backbone.init_weights(torch.Generator().manual_seed(0))
    with torch.set_grad_enabled(with_grad):
        exact = backbone(video, [1.0])[0].grid
        with torch.autocast("cpu", torch.bfloat16):
            rounded = backbone(video, [1.0])[0].grid
    error = (exact - rounded).detach().square().mean().sqrt() / exact.detach().std()
    assert 0 < error < 0.02


def test_gradients_reach_what_the_features_come_from_and_nothing_later():
    backbone = TINY.build()
    backbone.init_weights(torch.Generator().manual_seed(0))
    backbone(clips(), [0.8])[0].grid.square().sum().backward()
    used = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    late = {name for name, _ in backbone.named_parameters() if name.startswith(("blocks.2.", "blocks.3."))}
    assert used == {name for name, _ in backbone.named_parameters()} - late


# ----------------------------------------------------------------------------- initial values


@pytest.mark.parametrize("how", ["normal", "sincos"])
def test_init_fills_everything_from_its_generator_alone(how):
    config = VideoViTConfig(32, 2, 2, 64, patch=(2, 8, 8), num_frames=4, size=(32, 32), position_init=how)
    states = []
    for seed in (0, 0, 1):
        backbone = config.build()
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.fill_(math.nan)
        backbone.init_weights(torch.Generator().manual_seed(seed))
        states.append(torch.cat([parameter.detach().flatten() for parameter in backbone.parameters()]))
    assert all(state.isfinite().all() for state in states)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_positions_start_small_and_random_as_published():
    backbone = VideoViTConfig(96, 1, 2, 64).build().requires_grad_(False)
    backbone.init_weights(torch.Generator().manual_seed(0))
    assert float(backbone.positions.std()) == pytest.approx(0.02, rel=0.02)
    assert abs(float(backbone.positions.mean())) < 1e-3


def test_signal_keeps_its_size_through_the_stack():
    backbone = video_vit.toy().build()
    backbone.init_weights(torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, last = backbone(clips(1, 8), [0.2, 1.0])
    assert 0.5 < last.grid.std() / first.grid.std() < 20

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fourd import provenance
from fourd.backbones import video_vit
from fourd.backbones.video_vit import VideoViTConfig
from fourd.masks import Mask, random_visible
from fourd.objectives import simple_mae
from fourd.objectives._pixel_error import pixel_error
from fourd.objectives.simple_mae import SimpleMAE, SimpleMAEConfig
from fourd.tokens import as_mask, unpatchify
from fourd.types import Batch, map_tensors
from tests.objectives.learning import deviation, learn, moving_squares

# The full number of tokens, 1568 of which 78 stay visible, at a width that runs at once.
FULL = SimpleMAEConfig(VideoViTConfig(width=12, depth=4, num_heads=2, mlp_width=24))
TINY = simple_mae.tiny()


def built(config: SimpleMAEConfig = TINY) -> SimpleMAE:
    objective = config.build()
    objective.init_weights(torch.Generator().manual_seed(0))
    return objective


def batch_of(video: Tensor, seeds: list[int]) -> Batch:
    names = tuple(f"clip-{seed}" for seed in seeds)
    times = torch.arange(float(video.shape[1])).expand(len(video), -1) / 25
    return Batch(video, times, names, names, torch.tensor(seeds))


def noise(num_clips: int, frames: int, size: int) -> Tensor:
    return torch.randint(0, 256, (num_clips, frames, 3, size, size), dtype=torch.uint8)


@pytest.fixture
def batch() -> Batch:
    return batch_of(noise(3, 4, 32), [11, 12, 13])


# ----------------------------------------------------------------------------- the mask


def test_78_of_1568_stay_visible():
    objective = built(FULL)
    _, visible, _ = objective.reconstruct(batch_of(noise(2, 16, 224), [1, 2]))
    assert visible.shape == (2, 8, 14, 14)
    assert visible.sum(dim=(1, 2, 3)).tolist() == [78, 78]


def test_a_mask_belongs_to_its_seed_in_any_batch_and_order(batch):
    objective = built()
    _, together, _ = objective.reconstruct(batch)
    flipped = dataclasses.replace(batch, video=batch.video.flip(0), seed=batch.seed.flip(0))
    _, reversed_, _ = objective.reconstruct(flipped)
    assert torch.equal(reversed_.flip(0), together)
    for number, seed in enumerate(batch.seed.tolist()):
        _, alone, _ = objective.reconstruct(batch_of(noise(1, 4, 32), [seed]))
        assert torch.equal(alone[0], together[number])
    assert not torch.equal(together[0], together[1])


def test_the_loss_of_a_batch_is_the_mean_of_its_clips(batch):
    objective = built()
    losses = [objective(batch_of(batch.video[i : i + 1], [seed])).loss for i, seed in enumerate(batch.seed.tolist())]
    torch.testing.assert_close(objective(batch).loss, torch.stack(losses).mean())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dataclasses.replace(TINY, mask_ratio=0.99), "leaves none of 32 tokens visible"),
        (dataclasses.replace(TINY, mask_ratio=1.0), "expected 0 <= mask_ratio < 1"),
        (dataclasses.replace(TINY, mask_ratio=0.0, masked_only=True), "hides nothing"),
        (dataclasses.replace(TINY, num_decoder_blocks=5), "num_decoder_blocks is 5; expected 1 to 4"),
        (dataclasses.replace(TINY, num_decoder_blocks=0), "num_decoder_blocks is 0; expected 1 to 4"),
        (dataclasses.replace(TINY, decoder_patch=(3, 8, 8)), "cannot be cut into patches"),
    ],
)
def test_a_config_that_cannot_be_trained_is_an_error(config, message):
    with pytest.raises(ValueError, match=message):
        config.build()


STRUCTURED = [("tube", 0.75), ("frame", 0.5), ("block", 0.75), ("causal", 0.5)]
"""Patterns, and ratios that the tiny grid of 2 x 4 x 4 tokens has a unit for."""


@pytest.mark.parametrize(
    ("pattern", "ratio", "visible"),
    [
        *[("random", ratio, kept) for ratio, kept in ((0.7, 470), (0.85, 235), (0.95, 78), (0.99, 15))],
        *[("tube", ratio, 8 * kept) for ratio, kept in ((0.7, 58), (0.85, 29), (0.95, 9), (0.99, 1))],
        *[("block", 0.95, 8 * 9), ("frame", 0.85, 196), ("causal", 0.7, 392)],
    ],
)
def test_every_pattern_and_ratio_of_the_study_shows_its_number_of_tokens(pattern, ratio, visible):
    with torch.device("meta"):
        objective = dataclasses.replace(FULL, mask_pattern=pattern, mask_ratio=ratio).build()
        blank = map_tensors(lambda tensor: tensor.to("meta"), batch_of(noise(2, 16, 224), [1, 2]))
        caught = tokens_of_blocks(objective, lambda: objective(blank))
    assert objective.num_visible == visible
    assert [x.shape[1] for x in caught] == [visible, visible, visible + 784, visible + 784]


@pytest.mark.parametrize(("pattern", "ratio"), STRUCTURED)
def test_a_pattern_is_that_of_the_mask(batch, pattern, ratio):
    objective = built(dataclasses.replace(TINY, mask_pattern=pattern, mask_ratio=ratio))
    _, visible, _ = objective.reconstruct(batch)
    expected = as_mask(Mask(pattern, ratio).visible(batch.seed, (2, 4, 4)), 32)
    assert torch.equal(visible.flatten(1), expected)


def test_a_pattern_without_a_unit_left_is_an_error():
    with pytest.raises(ValueError, match=r"none of 2 frame groups visible; the largest that works is 0\.5"):
        dataclasses.replace(TINY, mask_pattern="frame").build()


def test_configs_that_name_no_pattern_stay_random(batch):
    described = provenance.describe(TINY)
    del described["mask_pattern"]
    assert provenance.rebuild(described) == TINY
    _, visible, _ = built().reconstruct(batch)
    assert torch.equal(visible.flatten(1), as_mask(random_visible(batch.seed, 32, 8), 32))


def test_names_of_weights_stay_those_of_stored_runs():
    others = [name for name in built(dataclasses.replace(TINY, final_norm=True)).state_dict() if "blocks" not in name]
    assert others == [
        *["latents", "backbone.positions", "backbone.patch_embedding.weight", "backbone.patch_embedding.bias"],
        *["norm.weight", "norm.bias", "decoder.weight", "decoder.bias"],
    ]


# ----------------------------------------------------------------------------- what sees what


def per_pixel(visible: Tensor, objective: SimpleMAE) -> Tensor:
    """Spread a mask of patches over their pixels: `B T 3 H W`."""
    patch = objective.config.backbone.patch
    numbers = patch[0] * patch[1] * patch[2] * 3
    return unpatchify(visible.flatten(1)[..., None].repeat(1, 1, numbers), objective.backbone.grid, patch)


@pytest.mark.parametrize(("pattern", "ratio"), [("random", 0.75), *STRUCTURED])
def test_hidden_pixels_never_reach_the_prediction_and_visible_ones_do(batch, pattern, ratio):
    objective = built(dataclasses.replace(TINY, mask_pattern=pattern, mask_ratio=ratio))
    _, visible, before = objective.reconstruct(batch)
    seen = per_pixel(visible, objective)
    other = noise(3, 4, 32)
    hidden_changed = dataclasses.replace(batch, video=torch.where(seen, batch.video, other))
    visible_changed = dataclasses.replace(batch, video=torch.where(seen, other, batch.video))
    assert torch.equal(objective.reconstruct(hidden_changed)[2], before)
    assert (objective.reconstruct(visible_changed)[2] != before).flatten(1).any(dim=1).all()


def test_every_visible_patch_reaches_the_prediction(batch):
    objective = built()
    _, visible, before = objective.reconstruct(batch)
    other = noise(3, 4, 32)
    for token in random_visible(batch.seed, 32, 8).T:
        place = per_pixel(as_mask(token[:, None], 32).view(visible.shape), objective)
        changed = dataclasses.replace(batch, video=torch.where(place, other, batch.video))
        assert (objective.reconstruct(changed)[2] != before).flatten(1).any(dim=1).all()


def prediction_of(objective: SimpleMAE, batch: Batch) -> Tensor:
    """Take the prediction from the decoder of a training step."""
    caught: list[Tensor] = []
    hook = objective.decoder.register_forward_hook(lambda _module, _inputs, output: caught.append(output))
    objective(batch)
    hook.remove()
    return caught[0]


def tokens_of_blocks(objective: SimpleMAE, run: Callable[[], object]) -> list[Tensor]:
    """Catch all tokens that each block sees, whether all clips share them or not."""
    caught: list[Tensor] = []

    def catch(_module: object, inputs: tuple[Tensor, ...]) -> None:
        own, common, *_ = *inputs, None
        shared = [] if common is None else [common.expand(len(own), -1, -1)]
        caught.append(torch.cat([*shared, own], dim=1))

    hooks = [block.register_forward_pre_hook(catch) for block in objective.backbone.blocks]
    run()
    for hook in hooks:
        hook.remove()
    return caught


def test_only_visible_tokens_and_late_latents_run_through_the_blocks():
    objective, batch = built(FULL), batch_of(noise(2, 16, 224), [1, 2])
    caught = tokens_of_blocks(objective, lambda: objective(batch))
    assert [x.shape[1] for x in caught] == [78, 78, 78 + 784, 78 + 784]


def test_latents_are_put_in_front_and_predict(batch):
    objective = built()
    caught = tokens_of_blocks(objective, lambda: objective(batch))
    num_latents = len(objective.latents)
    assert num_latents == 16
    encoded = objective.backbone.blocks[1](caught[1])
    torch.testing.assert_close(caught[2][:, :num_latents], objective.latents.expand(3, -1, -1))
    torch.testing.assert_close(caught[2][:, num_latents:], encoded)
    # the plain block over all tokens: what is computed once, or not at all, changes nothing
    torch.testing.assert_close(caught[3], objective.backbone.blocks[2](caught[2]))
    final = objective.backbone.blocks[3](caught[3])
    torch.testing.assert_close(prediction_of(objective, batch), objective.decoder(final[:, :num_latents]))


@pytest.mark.parametrize(
    ("patch", "grid"),
    [((2, 16, 16), (8, 14, 14)), ((4, 16, 16), (4, 14, 14)), ((8, 16, 16), (2, 14, 14)), ((4, 32, 32), (4, 7, 7))],
    ids=["1568", "784", "392", "196"],
)
def test_the_decoder_grids_of_the_study_cover_the_clip(patch, grid):
    with torch.device("meta"):
        objective = dataclasses.replace(FULL, decoder_patch=patch).build()
        blank = map_tensors(lambda tensor: tensor.to("meta"), batch_of(noise(2, 16, 224), [1, 2]))
        _, _, video = objective.reconstruct(blank)
        caught = tokens_of_blocks(objective, lambda: objective(blank))
    assert objective.latent_grid == grid
    num_latents = grid[0] * grid[1] * grid[2]
    assert [x.shape[1] for x in caught] == [78, 78, 78 + num_latents, 78 + num_latents]
    assert video.shape == (2, 16, 3, 224, 224)


@pytest.mark.parametrize("num_blocks", [1, 2, 3, 4])
@pytest.mark.parametrize("patch", [(2, 8, 8), (4, 16, 16)])
def test_any_number_of_decoder_blocks_sees_the_latents(batch, num_blocks, patch):
    objective = built(dataclasses.replace(TINY, num_decoder_blocks=num_blocks, decoder_patch=patch))
    caught = tokens_of_blocks(objective, lambda: objective(batch))
    num_latents = len(objective.latents)
    assert [x.shape[1] for x in caught] == [8] * (4 - num_blocks) + [8 + num_latents] * num_blocks
    objective(batch).loss.backward()
    assert objective.latents.grad.any()


def test_a_single_decoder_block_gives_the_latents(batch):
    objective = built(dataclasses.replace(TINY, num_decoder_blocks=1))
    caught = tokens_of_blocks(objective, lambda: objective(batch))
    final = objective.backbone.blocks[3](caught[3])[:, : len(objective.latents)]
    torch.testing.assert_close(prediction_of(objective, batch), objective.decoder(final))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_error_of_pixels_and_its_gradient_are_the_plain_ones(dtype):
    prediction = torch.randn(3, 5, 7).to(dtype).requires_grad_()
    target = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    plain = (prediction.float() - target.float() / 255).square().mean()
    (expected,) = torch.autograd.grad(plain, prediction)
    for given in (target, target.float() / 255):
        fused = pixel_error(prediction, given)
        (found,) = torch.autograd.grad(3 * fused, prediction)
        torch.testing.assert_close(fused, plain)
        torch.testing.assert_close(found, 3 * expected)
        assert found.dtype == dtype


def test_a_step_looks_at_no_number_on_the_host(batch):
    """Without numbers it runs as well: nothing waits for the device."""
    blank = map_tensors(lambda tensor: tensor.to("meta"), batch)
    with torch.device("meta"):
        objective = TINY.build()
        objective(blank).loss.backward()
    assert objective.latents.grad.shape == objective.latents.shape


def test_the_final_norm_stands_before_the_decoder(batch):
    plain, normed = built(), built(dataclasses.replace(TINY, final_norm=True))
    assert not torch.equal(plain(batch).loss, normed(batch).loss)
    inputs: list[Tensor] = []
    normed.decoder.register_forward_pre_hook(lambda _module, given: inputs.append(given[0]))
    normed(batch)
    torch.testing.assert_close(inputs[0].std(dim=-1, unbiased=False), torch.ones(3, 16), atol=1e-2, rtol=0)


# ----------------------------------------------------------------------------- the loss


def test_the_loss_over_all_pixels_is_the_plain_mean_square(batch):
    objective = built()
    pixels, _, video = objective.reconstruct(batch)
    assert pixels.shape == video.shape == (3, 4, 3, 32, 32)
    torch.testing.assert_close(pixels, batch.video / 255)
    torch.testing.assert_close(objective(batch).loss, (video - batch.video / 255).square().mean())


@pytest.mark.parametrize(("pattern", "ratio"), [("random", 0.75), *STRUCTURED])
def test_the_loss_over_hidden_pixels_is_counted_by_hand(batch, pattern, ratio):
    objective = built(dataclasses.replace(TINY, masked_only=True, mask_pattern=pattern, mask_ratio=ratio))
    _, visible, video = objective.reconstruct(batch)
    total, count = 0.0, 0
    for clip, t, y, x in (~visible).nonzero().tolist():
        place = (clip, slice(2 * t, 2 * t + 2), slice(None), slice(8 * y, 8 * y + 8), slice(8 * x, 8 * x + 8))
        error = (video[place] - batch.video[place] / 255).square()
        total, count = total + float(error.sum()), count + error.numel()
    assert count == 3 * (32 - objective.num_visible) * 2 * 8 * 8 * 3
    assert float(objective(batch).loss.detach()) == pytest.approx(total / count, rel=1e-5)


def test_the_prediction_stands_where_its_latent_patch_is(batch):
    objective = built()
    with torch.no_grad():
        objective.decoder.weight.zero_()
        objective.decoder.bias.copy_(torch.arange(4 * 8 * 8 * 3))
    _, _, video = objective.reconstruct(batch)
    t, y, x, c = torch.meshgrid(*(torch.arange(n) for n in (4, 32, 32, 3)), indexing="ij")
    expected = ((t * 8 + y % 8) * 8 + x % 8) * 3 + c
    torch.testing.assert_close(video[0], expected.movedim(-1, 1).float())


def test_the_decoder_starts_at_its_given_brightness(batch):
    dark, bright = (built(dataclasses.replace(TINY, decoder_bias=bias)) for bias in (0.0, 0.5))
    torch.testing.assert_close(
        bright.reconstruct(batch)[2] - dark.reconstruct(batch)[2], torch.full((3, 4, 3, 32, 32), 0.5)
    )


# ----------------------------------------------------------------------------- learning


@pytest.mark.parametrize("config", [TINY, dataclasses.replace(TINY, masked_only=True, final_norm=True)])
def test_gradients_reach_everything(batch, config):
    objective = built(config)
    objective(batch).loss.backward()
    unreached = [name for name, p in objective.named_parameters() if p.grad is None or not p.grad.any()]
    # softmax does not see what is added to all keys, so the true gradient of their bias is zero
    assert [name for name in unreached if not name.endswith("attention.key.bias")] == []
    assert all(parameter.grad is not None for parameter in objective.parameters())


def test_hidden_positions_get_no_gradient(batch):
    objective = built()
    objective(batch).loss.backward()
    used = random_visible(batch.seed, 32, 8).unique()
    assert objective.backbone.positions.grad.abs().sum(dim=1).nonzero().flatten().tolist() == used.tolist()


@pytest.mark.parametrize("masked_only", [False, True])
@pytest.mark.parametrize(("pattern", "ratio"), STRUCTURED)
def test_every_pattern_learns_and_does_not_collapse(pattern, ratio, masked_only):
    config = dataclasses.replace(TINY, mask_pattern=pattern, mask_ratio=ratio, masked_only=masked_only)
    objective, clips = built(config), moving_squares(4)
    losses = learn(objective, clips, steps=25)
    assert losses[-1] < losses[0] / 5
    assert deviation(objective.backbone, clips.video) > 0.2


def test_the_loss_falls_on_one_batch():
    objective, batch = built(), simple_mae.tiny_batch()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = objective(batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 5
    assert losses[-1] < min(losses[:20])


def test_bf16_autocast_stays_close(batch):
    objective = built()
    exact = objective(batch).loss.detach()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = objective(batch).loss.detach()
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=0, rtol=0.02)


def test_what_is_exported_is_the_encoder_and_the_rest_and_nothing_twice():
    objective = built()
    parts = objective.export()
    assert set(parts) == {"model", "decoder"}
    assert parts["model"] is objective.backbone
    exported = [parameter for part in parts.values() for parameter in part.parameters()]
    assert sorted(map(id, exported)) == sorted(map(id, objective.parameters()))


def test_the_default_is_the_papers_base():
    config = simple_mae.base()
    assert (config.backbone, config.mask_ratio, config.num_decoder_blocks) == (video_vit.base(), 0.95, 2)


def test_clips_of_another_length_are_refused_in_words():
    objective = simple_mae.tiny().build()
    objective.init_weights()
    batch = simple_mae.tiny_batch()
    with pytest.raises(ValueError, match="clips have 2 frames; this backbone takes 4"):
        objective(dataclasses.replace(batch, video=batch.video[:, :2], time_s=batch.time_s[:, :2]))

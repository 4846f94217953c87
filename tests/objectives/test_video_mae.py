"""VideoMAE, against the reference that `transformers` has of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import transformers
from torch import Tensor

from fourd.backbones import video_vit
from fourd.masks import hidden_tokens
from fourd.objectives import video_mae
from fourd.objectives.video_mae import VideoMAE, VideoMAEConfig, normalised_patches
from fourd.parallel import materialise
from fourd.parallel.sharding import transformer_blocks
from fourd.tokens import as_mask, patchify, take_tokens, unpatchify
from fourd.types import Batch, map_tensors
from tests.objectives.learning import deviation, learn, moving_squares

TINY = video_mae.tiny()
FULL = VideoMAEConfig(video_vit.VideoViTConfig(width=12, depth=2, num_heads=2, mlp_width=24), num_decoder_blocks=1)
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
"""What the reference takes for a pixel's mean and deviation, to undo it for its target."""


def built(config: VideoMAEConfig = TINY) -> VideoMAE:
    objective = config.build()
    objective.init_weights(torch.Generator().manual_seed(0))
    return objective


@pytest.fixture
def batch() -> Batch:
    return video_mae.tiny_batch()


# ----------------------------------------------------------------------------- the reference


def reference_of(objective: VideoMAE) -> transformers.VideoMAEForPreTraining:
    """Build the reference with the weights of ours; it takes ImageNet's normalised pixels."""
    config, decoder = objective.config, objective.decoder
    backbone = config.backbone
    reference = transformers.VideoMAEForPreTraining(
        transformers.VideoMAEConfig(
            image_size=backbone.size[0],
            patch_size=backbone.patch[1],
            num_frames=backbone.num_frames,
            tubelet_size=backbone.patch[0],
            hidden_size=backbone.width,
            num_hidden_layers=backbone.depth,
            num_attention_heads=backbone.num_heads,
            intermediate_size=backbone.mlp_width,
            decoder_hidden_size=config.decoder_width,
            decoder_num_hidden_layers=config.num_decoder_blocks,
            decoder_num_attention_heads=config.decoder_heads,
            decoder_intermediate_size=4 * config.decoder_width,
            hidden_act="gelu_pytorch_tanh",
            layer_norm_eps=1e-6,
            use_mean_pooling=False,
            norm_pix_loss=config.normalised_target,
        )
    )
    reference.decoder.norm.eps = 1e-6
    encoder = reference.videomae
    copy_patch_embedding(objective.backbone.patch_embedding, encoder.embeddings.patch_embeddings.projection)
    encoder.embeddings.position_embeddings = objective.backbone.positions.detach()[None].clone()
    reference.position_embeddings = decoder.positions[None].clone()
    for ours, theirs in (
        *zip(objective.backbone.blocks, encoder.encoder.layer, strict=True),
        *zip(decoder.blocks, reference.decoder.decoder_layers, strict=True),
    ):
        copy_block(ours, theirs)
    for ours, theirs in (
        (objective.norm, encoder.layernorm),
        (decoder.norm, reference.decoder.norm),
        (decoder.narrow, reference.encoder_to_decoder),
        (decoder.head, reference.decoder.head),
    ):
        theirs.load_state_dict(ours.state_dict())
    reference.mask_token.data.copy_(decoder.mask_token)
    return reference.eval()


def copy_patch_embedding(ours: torch.nn.Linear, theirs: torch.nn.Conv3d) -> None:
    """Copy a projection of pixels in [0, 1] into one of normalised pixels."""
    pt, ph, pw = theirs.kernel_size
    weight = ours.weight.detach().view(-1, pt, ph, pw, 3)
    theirs.bias.data.copy_(ours.bias + (weight * MEAN).sum(dim=(1, 2, 3, 4)))
    theirs.weight.data.copy_((weight * STD).movedim(-1, 1))


def copy_block(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    attention = theirs.attention.attention
    for mine, other in (
        (ours.attention_norm, theirs.layernorm_before),
        (ours.mlp_norm, theirs.layernorm_after),
        (ours.attention.query, attention.query),
        (ours.attention.value, attention.value),
        (ours.attention.out, theirs.attention.output.dense),
        (ours.mlp.dense_in, theirs.intermediate.dense),
        (ours.mlp.dense_out, theirs.output.dense),
    ):
        other.load_state_dict(mine.state_dict())
    attention.key.weight.data.copy_(ours.attention.key.weight)
    assert not ours.attention.key.bias.any(), "the reference has no such bias"


def perturbed(objective: VideoMAE) -> VideoMAE:
    """Move norms and biases away from ones and zeros, so that one left out is seen."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in objective.named_parameters():
        if parameter.ndim == 1 and not name.endswith("key.bias"):
            parameter.data.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return objective


@pytest.mark.parametrize("pattern", ["tube", "random"])
@pytest.mark.parametrize("normalised", [True, False])
def test_loss_and_gradients_are_those_of_the_reference(batch, normalised, pattern):
    objective = perturbed(built(replace(TINY, normalised_target=normalised, mask_pattern=pattern)))
    reference = reference_of(objective)
    visible = objective.mask.visible(batch.seed, objective.backbone.grid)
    pixels = (batch.video / 255 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
    theirs = reference(pixels, bool_masked_pos=~as_mask(visible, 32)).loss
    ours = objective(batch).loss
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    ours.backward()
    theirs.backward()
    for mine, other in (
        (objective.decoder.mask_token, reference.mask_token),
        (objective.decoder.narrow.weight, reference.encoder_to_decoder.weight),
        (objective.norm.weight, reference.videomae.layernorm.weight),
        (
            objective.backbone.blocks[0].attention.value.weight,
            reference.videomae.encoder.layer[0].attention.attention.value.weight,
        ),
    ):
        torch.testing.assert_close(mine.grad, other.grad.view_as(mine), rtol=1e-3, atol=1e-6)


# ----------------------------------------------------------------------------- the target


def test_every_colour_of_every_patch_is_normalised_by_itself():
    video = torch.rand(2, 4, 3, 32, 32)
    patches = normalised_patches(patchify(video, (2, 8, 8)))
    back = unpatchify(patches, (2, 4, 4), (2, 8, 8))
    place = (1, slice(2, 4), 2, slice(8, 16), slice(24, 32))  # frames 2 and 3, blue
    pixels = video[place]
    deviation_ = ((pixels - pixels.mean()).square().sum() / (pixels.numel() - 1)).sqrt()
    torch.testing.assert_close(back[place], (pixels - pixels.mean()) / (deviation_ + 1e-6))


def test_an_even_patch_is_zero():
    video = torch.full((1, 2, 3, 8, 8), 0.5)
    assert not normalised_patches(patchify(video, (2, 8, 8))).any()


def test_a_prediction_of_nothing_costs_one(batch):
    objective = built()
    torch.nn.init.zeros_(objective.decoder.head.weight)
    pixels_of_a_patch = 2 * 8 * 8
    assert float(objective(batch).loss.detach()) == pytest.approx(1 - 1 / pixels_of_a_patch, rel=1e-3)


# ----------------------------------------------------------------------------- what sees what


def test_the_default_is_the_papers():
    config = video_mae.base()
    assert (config.mask_pattern, config.mask_ratio, config.normalised_target) == ("tube", 0.9, True)
    assert (config.num_decoder_blocks, config.decoder_width, config.decoder_heads) == (4, 384, 6)


@pytest.mark.parametrize(("size", "width", "heads"), [("S", 192, 3), ("L", 512, 8), ("G", 832, 8), ("e", 896, 8)])
def test_the_decoder_is_half_as_wide_with_heads_as_wide(size, width, heads):
    config = VideoMAEConfig(video_vit.SIZES[size]())
    assert (config.decoder_width, config.decoder_heads) == (width, heads)


def num_tokens_seen(objective: VideoMAE, batch: Batch) -> list[int]:
    """Count the tokens that each block is given."""
    seen: list[int] = []
    for block in transformer_blocks(objective):
        block.register_forward_pre_hook(lambda _module, given: seen.append(given[0].shape[1]))
    objective(batch)
    return seen


def test_the_encoder_sees_visible_tokens_only_and_the_decoder_all():
    objective = built(FULL)
    video = torch.randint(0, 256, (1, 16, 3, 224, 224), dtype=torch.uint8)
    assert num_tokens_seen(objective, Batch(video, torch.zeros(1, 16), ("a",), ("a",), torch.tensor([3]))) == [
        *[19 * 8, 19 * 8],
        1568,
    ]


def per_pixel(marks: Tensor) -> Tensor:
    """Spread marks `B N` of the tiny grid over pixels."""
    return unpatchify(marks[..., None].expand(-1, -1, 2 * 8 * 8 * 3), (2, 4, 4), (2, 8, 8))


@pytest.mark.parametrize("pattern", ["tube", "random", "frame", "block"])
def test_hidden_pixels_never_reach_the_prediction_and_visible_ones_do(batch, pattern):
    objective = built(replace(TINY, mask_pattern=pattern, mask_ratio=0.5))
    _, visible, hidden, before = objective._predict(batch)
    assert torch.equal(hidden, hidden_tokens(visible, 32))
    seen, other = per_pixel(as_mask(visible, 32)), torch.randint(0, 256, batch.video.shape, dtype=torch.uint8)
    hidden_changed = replace(batch, video=torch.where(seen, batch.video, other))
    visible_changed = replace(batch, video=torch.where(seen, other, batch.video))
    assert torch.equal(objective._predict(hidden_changed)[-1], before)
    assert (objective._predict(visible_changed)[-1] != before).flatten(1).any(dim=1).all()


def test_only_hidden_patches_count(batch):
    objective = built()
    _, _, hidden, prediction = objective._predict(batch)
    target = take_tokens(normalised_patches(patchify(batch.video / 255, (2, 8, 8))), hidden)
    assert prediction.shape == (2, 24, 2 * 8 * 8 * 3)
    torch.testing.assert_close(objective(batch).loss, (prediction - target).square().mean())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(TINY, mask_ratio=0.99), "leaves none of 16 tubes visible; the largest that works is 0.9375"),
        (replace(TINY, mask_ratio=0.0), "hides nothing"),
        (
            replace(TINY, backbone=replace(TINY.backbone, native_size=False)),
            "VideoMAE pretrains at .* native_size=True",
        ),
        (replace(TINY, num_decoder_blocks=0), "num_decoder_blocks is 0; expected 1 or more"),
        (replace(TINY, decoder_share=0.0), r"decoder_share is 0.0; expected more than 0"),
    ],
)
def test_a_config_that_cannot_be_trained_is_an_error(config, message):
    with pytest.raises(ValueError, match=message):
        config.build()


# ----------------------------------------------------------------------------- training


def test_it_is_made_without_memory_and_filled(batch):
    config = replace(TINY, mask_ratio=0.75)
    objective = materialise(config, torch.device("cpu"), seed=0)
    assert objective.decoder.positions.isfinite().all()
    assert "decoder.positions" not in objective.state_dict()
    assert objective(batch).loss.isfinite()


def test_a_step_looks_at_no_number_on_the_host(batch):
    blank = map_tensors(lambda tensor: tensor.to("meta"), batch)
    with torch.device("meta"):
        objective = TINY.build()
        objective(blank).loss.backward()
    assert objective.decoder.mask_token.grad is not None


def test_gradients_reach_everything(batch):
    objective = built()
    objective(batch).loss.backward()
    unreached = [name for name, p in objective.named_parameters() if p.grad is None or not p.grad.any()]
    # softmax does not see what is added to all keys
    assert [name for name in unreached if not name.endswith("attention.key.bias")] == []


def test_bf16_autocast_stays_close(batch):
    objective = built()
    exact = objective(batch).loss.detach()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = objective(batch).loss.detach()
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=0, rtol=0.02)


def test_the_loss_falls_and_features_do_not_collapse():
    objective, batch = built(replace(TINY, mask_pattern="random", mask_ratio=0.5)), moving_squares(8)
    losses = learn(objective, batch)
    assert losses[-1] < losses[0] / 2
    assert deviation(objective.backbone, batch.video) > 0.2
    assert deviation(objective.backbone, batch.video[:1].expand_as(batch.video)) < 1e-3, "the control differs"


def test_every_weight_is_exported_once():
    objective = built()
    parts = objective.export()
    assert parts["model"] is objective.backbone
    exported = [parameter for part in parts.values() for parameter in part.parameters()]
    assert sorted(map(id, exported)) == sorted(map(id, objective.parameters()))


@pytest.mark.parametrize("normalised", [True, False])
def test_a_reconstruction_shows_the_target_where_it_is_seen(batch, normalised):
    objective = built(replace(TINY, normalised_target=normalised))
    true, visible, predicted = objective.reconstruct(batch)
    seen = per_pixel(visible.flatten(1))
    assert torch.equal(true[seen], predicted[seen])
    assert not torch.equal(true[~seen], predicted[~seen])
    assert torch.equal(true, batch.video / 255) == (not normalised)

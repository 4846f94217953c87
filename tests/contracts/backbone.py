"""What every backbone must keep. Each check takes a plug-in module, which exports `tiny()`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import pytest
import torch
from torch import Tensor, nn

from fourd.types import Backbone, BackboneConfig, ClipShape
from tests.contracts.nouns import assert_close, fill_with_nan, names_with_nan, random_video, shapes_unchecked

SIZE = (48, 64)  # no backbone's own size, so that it has to resize
DEPTHS = (0.5, 0.75, 1.0)


class BackbonePlugin(Protocol):
    """A module that exports a backbone."""

    def tiny(self) -> BackboneConfig:
        """Describe a backbone that runs within a second on a CPU."""


def fresh(plugin: BackbonePlugin) -> Backbone:
    """Build the tiny backbone, the same weights each time."""
    return initialised(plugin.tiny().build())


def initialised(backbone: Backbone) -> Backbone:
    """Fill the weights, always with the same numbers."""
    backbone.init_weights(torch.Generator().manual_seed(0))
    return backbone.eval()


def clip_for(backbone: Backbone) -> ClipShape:
    """Find a length of clip that the backbone takes; the contract leaves that to the backbone."""
    for num_frames in (4, 8, 16, 2, 32, 1):
        clip = ClipShape(num_frames, *SIZE)
        with suppress(ValueError):
            backbone.feature_shape(clip)
            return clip
    raise AssertionError(f"{type(backbone).__name__}.feature_shape takes no clip of 1 to 32 frames of {SIZE} pixels")


def video_for(backbone: Backbone, num_clips: int = 2, seed: int = 0) -> Tensor:
    """Make clips that the backbone takes."""
    return random_video(num_clips, clip_for(backbone), seed)


def describes_a_backbone(plugin: BackbonePlugin) -> None:
    """`tiny()` gives a BackboneConfig that builds a Backbone."""
    config = plugin.tiny()
    assert isinstance(config, BackboneConfig)
    assert isinstance(config.build(), Backbone)
    assert config == plugin.tiny(), "two calls of tiny() differ: a config must compare by its values"


def fills_every_parameter(plugin: BackbonePlugin) -> None:
    """`init_weights` leaves no parameter and no buffer as it was, with a generator and without."""
    backbone = plugin.tiny().build()
    for generator in (torch.Generator().manual_seed(0), None):
        fill_with_nan(backbone)
        backbone.init_weights(generator)
        assert not names_with_nan(backbone), "init_weights left these as they were"


def draws_weights_from_the_generator(plugin: BackbonePlugin) -> None:
    """The same generator gives the same weights, whatever the global random numbers are."""
    first = fresh(plugin)
    torch.manual_seed(1)
    assert_close(tuple(fresh(plugin).state_dict().values()), tuple(first.state_dict().values()), tolerance=0)


def builds_on_the_meta_device(plugin: BackbonePlugin) -> None:
    """A backbone built without memory, then materialised and initialised, is the one built directly."""
    with torch.device("meta"):
        backbone = plugin.tiny().build()
    assert all(tensor.is_meta for tensor in (*backbone.parameters(), *backbone.buffers()))
    backbone.to_empty(device="cpu")
    fill_with_nan(backbone)
    direct = fresh(plugin)
    video = video_for(direct)
    with torch.no_grad():
        assert_close(initialised(backbone)(video, DEPTHS), direct(video, DEPTHS))


def exposes_its_blocks(plugin: BackbonePlugin) -> None:
    """`blocks` is a registered ModuleList, so that sharding can wrap each."""
    backbone = fresh(plugin)
    assert isinstance(backbone.blocks, nn.ModuleList)
    assert dict(backbone.named_children()).get("blocks") is backbone.blocks


def says_its_feature_shape(plugin: BackbonePlugin) -> None:
    """`feature_shape` is the shape that `forward` gives, at every depth."""
    backbone = fresh(plugin)
    said = backbone.feature_shape(clip_for(backbone))
    for features in backbone(video_for(backbone), DEPTHS):
        assert tuple(features.grid.shape) == (2, said.t, said.h, said.w, said.width)
        assert features.grid.isfinite().all()


def reads_uint8_and_float_alike(plugin: BackbonePlugin) -> None:
    """uint8 pixels and the same pixels in [0, 1] give the same features."""
    backbone = fresh(plugin)
    video = video_for(backbone)
    assert_close(backbone(video.float() / 255, DEPTHS), backbone(video, DEPTHS))


def gives_each_depth_alone_or_together(plugin: BackbonePlugin) -> None:
    """Several depths at once, in any order, equal each asked alone."""
    backbone = fresh(plugin)
    video = video_for(backbone)
    order = (1.0, 0.5, 0.75, 0.5)
    together = backbone(video, order)
    assert len(together) == len(order)
    for depth, features in zip(order, together, strict=True):
        assert_close(backbone(video, (depth,)), (features,))


def refuses_impossible_depths(plugin: BackbonePlugin) -> None:
    """A depth outside of 0 < depth <= 1 is a ValueError."""
    backbone = fresh(plugin)
    for depth in (0.0, 1.5, -0.5, float("nan")):
        with pytest.raises(ValueError):  # noqa: PT011 -- the wording is the backbone's own
            backbone(video_for(backbone), (depth,))


def keeps_clips_apart(plugin: BackbonePlugin) -> None:
    """A clip's features do not depend on the clips around it."""
    backbone = fresh(plugin)
    video, other = video_for(backbone), video_for(backbone, seed=1)
    around = torch.cat([video[:1], other])
    for together, alone in zip(backbone(around, DEPTHS), backbone(video[:1], DEPTHS), strict=True):
        assert_close(together.grid[:1], alone.grid, tolerance=1e-4)


def looks_at_the_pixels(plugin: BackbonePlugin) -> None:
    """Other pixels give other features."""
    backbone = fresh(plugin)
    (one,), (other,) = (backbone(video_for(backbone, seed=seed), (1.0,)) for seed in (0, 1))
    assert (one.grid - other.grid).abs().max() > 1e-4


def learns_what_it_uses(plugin: BackbonePlugin) -> None:
    """Every parameter on which the features depend gets a gradient, so that finetuning reaches it."""
    backbone = fresh(plugin)
    video = video_for(backbone)
    parameters = dict(backbone.named_parameters())
    if not parameters:
        return  # a floor such as the mean pixel has nothing to learn
    (features,) = backbone(video, (1.0,))
    direction = torch.randn(features.grid.shape, generator=torch.Generator().manual_seed(0))
    (features.grid * direction).sum().backward()
    unreached = {name: p for name, p in parameters.items() if p.grad is None or not p.grad.any()}
    assert len(unreached) < len(parameters), "no parameter gets a gradient"
    for name, parameter in unreached.items():
        assert not _changes(backbone, video, parameter), f"{name} changes the features but gets no gradient"


@torch.no_grad()
def _changes(backbone: Backbone, video: Tensor, parameter: nn.Parameter) -> bool:
    (before,) = backbone(video, (1.0,))
    kept = parameter.clone()
    parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    (after,) = backbone(video, (1.0,))
    parameter.copy_(kept)
    return bool((after.grid - before.grid).abs().max() > 1e-4)


def refuses_other_shapes_of_video(plugin: BackbonePlugin) -> None:
    """A video without the time axis, of one channel, or with channels last is a ValueError."""
    backbone = fresh(plugin)
    video = video_for(backbone)
    for wrong in (video[:, 0], video[:, :, :1], video.movedim(2, -1)):
        with shapes_unchecked(), pytest.raises(ValueError):  # noqa: PT011 -- the wording is the backbone's own
            backbone(wrong, (1.0,))


def says_which_clips_it_takes(plugin: BackbonePlugin) -> None:
    """`native_input` gives the grid of `feature_shape`, and refuses the lengths that `feature_shape` refuses."""
    backbone = fresh(plugin)
    native = backbone.native_input
    assert native.fixed, "native_size is True by default"
    clip = clip_for(backbone)
    said = backbone.feature_shape(clip)
    assert native.grid(clip) == (said.t, said.h, said.w)
    assert (said.h, said.w) == tuple(pixels // side for pixels, side in zip(native.size, native.patch[1:], strict=True))
    if native.num_frames is not None:
        for refuse in (native.grid, backbone.feature_shape):
            with pytest.raises(ValueError, match=str(native.num_frames)):
                refuse(replace(clip, num_frames=2 * native.num_frames))


def names_its_blocks(plugin: BackbonePlugin) -> None:
    """`block_at` never falls with depth, stays within the blocks, and refuses what is no depth."""
    backbone = fresh(plugin)
    numbers = [backbone.block_at(depth) for depth in DEPTHS]
    assert numbers == sorted(numbers)
    assert 0 <= numbers[0] <= numbers[-1] <= len(backbone.blocks)
    for depth in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError):  # noqa: PT011 -- the wording is the backbone's own
            backbone.block_at(depth)


def _free(plugin: BackbonePlugin) -> Backbone:
    return initialised(replace(plugin.tiny(), native_size=False).build())


def keeps_other_sizes_when_asked(plugin: BackbonePlugin) -> None:
    """With `native_size=False` a longer, larger, wider clip gives a grid of its own, as `feature_shape` says."""
    backbone = _free(plugin)
    native = backbone.native_input
    assert not native.fixed
    num_frames = 2 * (native.num_frames or native.patch[0])
    clip = ClipShape(num_frames, 2 * native.size[0], 3 * native.size[1])
    said = backbone.feature_shape(clip)
    assert (said.t, said.h, said.w) == native.grid(clip)
    assert said.h * said.w == 6 * (native.size[0] // native.patch[1]) * (native.size[1] // native.patch[2])
    (features,) = backbone(random_video(1, clip), (1.0,))
    assert tuple(features.grid.shape) == (1, said.t, said.h, said.w, said.width)
    assert features.grid.isfinite().all()
    with shapes_unchecked(), pytest.raises(ValueError, match="patches"):
        backbone(random_video(1, replace(clip, height=clip.height + 1)), (1.0,))


def gives_the_same_at_its_native_size(plugin: BackbonePlugin) -> None:
    """At the native size and length `native_size=False` changes nothing, to the bit."""
    fixed, free = fresh(plugin), _free(plugin)
    native = fixed.native_input
    clip = ClipShape(native.num_frames or 2 * native.patch[0], *native.size)
    video = random_video(2, clip)
    assert_close(free(video, DEPTHS), fixed(video, DEPTHS), tolerance=0)


CHECKS = (
    describes_a_backbone,
    fills_every_parameter,
    draws_weights_from_the_generator,
    builds_on_the_meta_device,
    exposes_its_blocks,
    says_its_feature_shape,
    reads_uint8_and_float_alike,
    gives_each_depth_alone_or_together,
    refuses_impossible_depths,
    keeps_clips_apart,
    looks_at_the_pixels,
    learns_what_it_uses,
    refuses_other_shapes_of_video,
    says_which_clips_it_takes,
    names_its_blocks,
    keeps_other_sizes_when_asked,
    gives_the_same_at_its_native_size,
)

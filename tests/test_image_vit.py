"""The image encoder of ours looks at each frame by itself, with the weights of a video encoder of one frame."""

from __future__ import annotations

import pytest
import torch

from fourd.backbones import image_vit, video_vit
from fourd.backbones.video_vit import VideoViTConfig


@pytest.fixture
def encoder():
    model = image_vit.tiny().build()
    model.init_weights(torch.Generator().manual_seed(0))
    return model.eval()


def frames(number: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, number, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_a_frame_changes_its_own_features_alone(encoder):
    video = frames(5)
    other = video.clone()
    other[:, 3] = 255 - other[:, 3]
    (before,), (after,) = encoder(video, (1.0,)), encoder(other, (1.0,))
    moved = (before.grid - after.grid).abs().amax((0, 2, 3, 4))
    assert moved[3] > 0.1
    assert moved[[0, 1, 2, 4]].max() == 0


def test_it_takes_the_weights_of_a_video_encoder_of_one_frame(encoder):
    config = image_vit.tiny()
    video = VideoViTConfig(
        config.width, config.depth, config.num_heads, config.mlp_width, (1, 8, 8), 1, (32, 32)
    ).build()
    video.load_state_dict(encoder.state_dict())
    one = frames(1)
    assert torch.equal(encoder(one, (1.0,))[0].grid, video(one, (1.0,))[0].grid)


def test_the_counterpart_of_a_video_encoder_has_its_blocks():
    video, image = video_vit.toy(), image_vit.of_frames(video_vit.toy())
    assert (image.width, image.depth, image.patch, image.size) == (video.width, video.depth, (1, 8, 8), video.size)
    blocks = [sum(p.numel() for p in config.build().blocks.parameters()) for config in (video, image)]
    assert blocks[0] == blocks[1]


@pytest.mark.parametrize("config", [{"patch": (2, 8, 8)}, {"num_frames": 2}])
def test_more_than_a_frame_is_refused(config):
    with pytest.raises(ValueError, match="expected one frame of each"):
        image_vit.ImageViTConfig(32, 4, 2, 64, size=(32, 32), **{"patch": (1, 8, 8), **config})

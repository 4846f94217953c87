"""Views of a clip share its pixels, have masks of their own, and depend on the clip alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fourd.loader import masked_views
from fourd.masks import random_visible
from fourd.objectives import probe, simple_mae


def test_one_view_is_the_batch_itself():
    batch = simple_mae.tiny_batch()
    assert masked_views(batch, 1) is batch


def test_views_share_pixels_and_have_masks_of_their_own():
    batch = simple_mae.tiny_batch()
    views = masked_views(batch, 4)
    assert torch.equal(views.video, batch.video[[0, 0, 0, 0, 1, 1, 1, 1]])
    assert views.key == ("a",) * 4 + ("b",) * 4
    assert views.seed[[0, 4]].tolist() == batch.seed.tolist()
    assert views.seed.min() >= 0
    masks = random_visible(views.seed, 64, 16)
    assert len({tuple(mask.tolist()) for mask in masks}) == 8


def test_a_view_depends_on_its_clip_alone():
    batch = simple_mae.tiny_batch()
    alone = dataclasses.replace(
        batch, video=batch.video[1:], time_s=batch.time_s[1:], key=("b",), group=("b",), seed=batch.seed[1:]
    )
    assert torch.equal(masked_views(alone, 3).seed, masked_views(batch, 3).seed[3:])
    assert torch.equal(masked_views(batch, 2).seed, masked_views(batch, 3).seed[[0, 1, 3, 4]])


def test_the_loss_of_views_is_the_mean_over_their_masks():
    objective = simple_mae.tiny().build()
    objective.init_weights(torch.Generator().manual_seed(0))
    batch = simple_mae.tiny_batch()
    views = masked_views(batch, 2)
    alone = [objective(dataclasses.replace(batch, seed=views.seed[place::2])).loss for place in range(2)]
    torch.testing.assert_close(objective(views).loss, torch.stack(alone).mean())


def test_a_batch_with_tasks_is_refused():
    with pytest.raises(ValueError, match="only pretraining shows a clip several times"):
        masked_views(probe.tiny_batch(), 2)

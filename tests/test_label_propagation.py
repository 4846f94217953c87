"""Objects are followed by the likeness of features, and only by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fourd import results
from fourd.backbones import mean_pixel
from fourd.label_propagation import LabelPropagationConfig, evaluate_label_propagation, propagate
from fourd.results import Cell
from tests.datasets.files import davis as files

CELL = Cell("suite_v1", "davis_objects", "mean_pixel", "none", "propagation", "segmentation", 1.0, 0, 0)


def colours(film: str) -> torch.Tensor:
    """Give features that are the colours of cells of 4 x 4 pixels, centred, so that their directions differ."""
    numbers = files.masks(film)
    pictures = np.full((*numbers.shape, 3), 0.0)
    for number, colour in files.COLOURS.items():
        pictures[numbers == number] = np.array(colour) - 120
    pictures[numbers == 0] = (0.0, 100.0, 0.0)
    cells = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    return torch.nn.functional.avg_pool2d(cells, 4).permute(0, 2, 3, 1)


def overlap(film: str, features: torch.Tensor, config: LabelPropagationConfig) -> float:
    true = torch.from_numpy(files.masks(film))
    found = propagate(features, true[0], config)
    both = [(found[1:] == k) & (true[1:] == k) for k in (1, 2)]
    either = [(found[1:] == k) | (true[1:] == k) for k in (1, 2)]
    return float(sum(b.sum() / e.sum() for b, e in zip(both, either, strict=True)) / 2)


@pytest.mark.parametrize("film", files.STEPS)
def test_colours_follow_what_is_coloured(film: str):
    config = LabelPropagationConfig(num_nearest=3)
    assert overlap(film, colours(film), config) > 0.8
    shuffled = colours(film)[:, torch.randperm(12, generator=torch.Generator().manual_seed(0))]
    shuffled[0] = colours(film)[0]
    assert overlap(film, shuffled, config) < 0.5


def test_exchanging_objects_exchanges_the_answer():
    mask = torch.from_numpy(files.masks("bear"))[0]
    exchanged = torch.tensor([0, 2, 1], dtype=torch.uint8)[mask.long()]
    one, other = (propagate(colours("bear"), m, LabelPropagationConfig()) for m in (mask, exchanged))
    assert torch.equal(torch.tensor([0, 2, 1], dtype=torch.uint8)[one.long()], other)


def turned(angle_deg: float) -> torch.Tensor:
    """Give frame 0 of a film whose object 1 has a feature turned away from that of the ground's plane."""
    mask = torch.from_numpy(files.masks("bear"))[0, 2::4, 2::4] == 1
    angle = np.deg2rad(angle_deg)
    of_object = torch.tensor([np.cos(angle), np.sin(angle), 0.0], dtype=torch.float32)
    return torch.where(mask[..., None], of_object, torch.tensor([0.0, 0.0, 1.0]))


def test_frames_before_count_within_the_radius_and_the_first_one_everywhere():
    first_mask = torch.from_numpy(files.masks("bear"))[0] % 2
    changed = torch.stack([turned(0), turned(50), turned(100).roll(10, dims=1)])  # its last look is unlike its first
    jumped = torch.stack([turned(0), turned(0).roll(10, dims=1)])
    wide, narrow = (LabelPropagationConfig(num_nearest=3, radius=radius) for radius in (30, 3))
    assert (propagate(changed, first_mask, wide)[2] == 1).sum() > 200
    assert (propagate(changed, first_mask, narrow)[2] == 1).sum() == 0
    assert (propagate(jumped, first_mask, narrow)[1] == 1).sum() > 200


def slowly(features: torch.Tensor, mask: torch.Tensor, config: LabelPropagationConfig) -> torch.Tensor:
    """Follow objects by the rule as it is stated, cell by cell."""
    _, h, w, _ = features.shape
    unit = features / features.norm(dim=-1, keepdim=True)
    numbers = mask.unique().tolist()
    one_hot = torch.stack([mask == number for number in numbers]).float()[None]
    first = torch.nn.functional.interpolate(one_hot, (h, w), mode="bilinear")[0].permute(1, 2, 0)
    past, answers = [(unit[0], first)] * config.num_context, []
    for frame in unit:
        shares = torch.zeros_like(first)
        for y in range(h):
            for x in range(w):
                seen = [(float(unit[0, j, i] @ frame[y, x]), first[j, i]) for j in range(h) for i in range(w)]
                for before, labels in past[-config.num_context :]:
                    near = [(j, i) for j in range(h) for i in range(w) if np.hypot(j - y, i - x) < config.radius]
                    seen += [(float(before[j, i] @ frame[y, x]), labels[j, i]) for j, i in near]
                best = sorted(seen, key=lambda pair: -pair[0])[: config.num_nearest]
                weights = torch.tensor([likeness / config.temperature for likeness, _ in best]).softmax(0)
                shares[y, x] = sum(weight * labels for weight, (_, labels) in zip(weights, best, strict=True))
        past.append((frame, shares))
        large = torch.nn.functional.interpolate(shares.permute(2, 0, 1)[None], mask.shape, mode="bilinear")
        answers.append(torch.tensor(numbers, dtype=torch.uint8)[large[0].argmax(0)])
    return torch.stack(answers)


def test_the_rule_is_kept_to_the_letter():
    config = LabelPropagationConfig(num_context=2, num_nearest=4, radius=2)
    mask = torch.zeros(20, 28, dtype=torch.uint8)
    mask[4:12, 4:20], mask[12:, 16:] = 3, 7
    generator = torch.Generator().manual_seed(0)
    labels = torch.nn.functional.one_hot((mask[2::4, 2::4] // 3).long(), 3).float()
    features = torch.stack([labels.roll(step, dims=1) for step in range(4)])
    features = features + 0.4 * torch.randn(features.shape, generator=generator)
    found = propagate(features, mask, config)
    assert torch.equal(found, slowly(features, mask, config))
    assert set(found[3].unique().tolist()) == {0, 3, 7}


def test_an_object_that_leaves_is_not_invented():
    features = colours("bear")
    features[2:] = torch.tensor([0.0, 100.0, 0.0])
    found = propagate(features, torch.from_numpy(files.masks("bear"))[0], LabelPropagationConfig(num_nearest=3))
    assert set(found[2:].unique().tolist()) == {0}


def test_films_are_scored_from_files_by_a_backbone(tmp_path: Path):
    config = files.write(tmp_path)
    backbone = replace(mean_pixel.base(), patch=(1, 4, 4), native_size=False).build().eval()
    rows = evaluate_label_propagation(backbone, config.build(), CELL, LabelPropagationConfig(), "fp32")
    j = results.select(rows.table, metric="j_mean")
    assert j["clip"].to_pylist() == ["davis/bear/0", "davis/bike/0"]
    assert j["weight"].to_pylist() == [2.0, 2.0]
    assert min(j["score"].to_pylist()) > 0.3


@pytest.mark.parametrize("frames", [1, 2])
def test_steps_of_several_frames_and_masks_of_another_size_are_met(tmp_path: Path, frames: int):
    config = replace(files.write(tmp_path), size=(64, 64))  # films have 48 x 96 pixels, and 6 frames
    patch = (frames, 4, 4)
    backbone = replace(mean_pixel.base(), patch=patch, num_frames=4, size=(64, 64), width=3).build().eval()
    rows = evaluate_label_propagation(backbone, config.build(), CELL, LabelPropagationConfig(num_nearest=3), "fp32")
    assert min(results.select(rows.table, metric="j_mean")["score"].to_pylist()) > (0.75 if frames == 1 else 0.5)

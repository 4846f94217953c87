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


def test_what_lies_beyond_the_radius_is_not_taken():
    features = colours("bear")
    mask = torch.from_numpy(files.masks("bear"))[0]
    jumped = features.clone()
    jumped[1:] = features[0].roll(12, dims=1)  # all objects jump by half of the picture
    far = propagate(jumped, mask, LabelPropagationConfig(num_nearest=3, radius=30))
    near = propagate(jumped, mask, LabelPropagationConfig(num_nearest=3, radius=2))
    assert (far[1] == 1)[:, 84:96].sum() > 100
    assert (near[1] == 1)[:, 84:96].sum() == 0


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
    assert j["clip"].to_pylist() == ["davis/bear", "davis/bike"]
    assert j["weight"].to_pylist() == [2.0, 2.0]
    assert min(j["score"].to_pylist()) > 0.3

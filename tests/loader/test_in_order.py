"""Every clip once, in order, with all its views; what cannot be decoded is left out whole, and listed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fourd import loader
from fourd.media import UnreadableVideo
from fourd.types import Batch, Dataset, Unreadable


class Numbered(Dataset):
    """Give clips whose pixels are their number; some views cannot be decoded."""

    def __init__(self, num_clips: int, num_views: int = 1, broken: tuple[int, ...] = ()) -> None:
        self.num_clips, self.num_views, self.broken = num_clips, num_views, broken

    def __len__(self) -> int:
        return self.num_clips * self.num_views

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        if index in self.broken:
            raise UnreadableVideo(f"clip{index}", "made to fail")
        name = (f"clip{index}",)
        pixels = torch.full((1, 1, 3, 2, 2), index, dtype=torch.uint8)
        return Batch(pixels, torch.zeros(1, 1), name, name, torch.from_numpy(rng.integers(2**63 - 1, size=1)))


def numbers(dataset: Dataset, batch_size: int, **more: object) -> list[list[int]]:
    return [batch.video[:, 0, 0, 0, 0].tolist() for batch in loader.in_order(dataset, batch_size, **more)]  # type: ignore[arg-type]


def test_the_last_batch_is_as_short_as_it_comes():
    assert numbers(Numbered(5), 2) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_views_of_a_clip_are_never_parted(batch_size: int):
    for batch in numbers(Numbered(4, num_views=3), batch_size):
        assert len(batch) % 3 == 0
        assert batch[0] % 3 == 0


def test_workers_change_nothing():
    dataset = Numbered(5, num_views=2)
    one, two = ([batch.seed for batch in loader.in_order(dataset, 4, num_workers=n)] for n in (0, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert numbers(dataset, 4, num_workers=2) == numbers(dataset, 4)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_clip_with_a_broken_view_is_left_out_whole_and_listed_once(num_workers: int):
    lost: list[Unreadable] = []
    dataset = Numbered(4, num_views=2, broken=(3, 6))
    for _ in range(2):
        found = numbers(dataset, 4, num_workers=num_workers, unreadable=lost)
        assert [number for batch in found for number in batch] == [0, 1, 4, 5]
    assert lost == [Unreadable("clip3", "made to fail"), Unreadable("clip6", "made to fail")]


def test_without_a_list_a_broken_clip_ends_it():
    with pytest.raises(UnreadableVideo, match="clip1: made to fail"):
        numbers(Numbered(3, broken=(1,)), 2)


def test_a_spread_takes_whole_clips_from_end_to_end():
    spread = loader.Thinned(Numbered(10, num_views=2), 4)
    assert numbers(spread, 100) == [[0, 1, 4, 5, 10, 11, 14, 15]]
    assert len(loader.Thinned(Numbered(3), 5)) == 3

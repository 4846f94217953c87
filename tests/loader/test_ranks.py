"""Ranks, workers and restarts are real processes here, and change nothing of the global batches."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fourd.loader import BlockShuffle, batches
from tests.noise_clips import ClipsConfig

CLIPS = ClipsConfig(37, unreadable=(5, 11))
SEED, BATCH_SIZE, STEPS = 9, 12, 24

ONE_RANK = """
import json, sys
from fourd.loader import batches
from tests.noise_clips import ClipsConfig
rank, world, workers, start, stop, batch_size, seed = map(int, sys.argv[2:])
if __name__ == "__main__":
    dataset, steps = ClipsConfig(**json.loads(sys.argv[1])).build(), range(start, stop)
    found = batches(dataset, batch_size, seed, steps, workers, rank=rank, world=world)
    for step, loaded in zip(steps, found, strict=True):
        lost = [vars(item) for item in loaded.replaced]
        print(json.dumps([step, rank, list(loaded.batch.key), loaded.batch.seed.tolist(), lost]))
"""


def run_ranks(folder: Path, world: int, workers: int, start: int, stop: int) -> list[list]:
    """Read steps in `world` processes at once, and put their shares together."""
    script = folder / "one_rank.py"
    script.write_text(ONE_RANK)
    clips = json.dumps({"num_clips": CLIPS.num_clips, "unreadable": CLIPS.unreadable})
    ranks = [
        subprocess.Popen(
            [sys.executable, script, clips, *map(str, (rank, world, workers, start, stop, BATCH_SIZE, SEED))],
            cwd=Path(__file__).parents[2],
            env={"PYTHONPATH": ".", "OMP_NUM_THREADS": "1", "PATH": ""},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    lines = [json.loads(line) for rank in ranks for line in rank.communicate(timeout=120)[0].splitlines()]
    assert [rank.returncode for rank in ranks] == [0] * world
    return lines


def global_batches(lines: list[list]) -> dict[int, list]:
    """Join the ranks' shares of each step, in the order of ranks."""
    joined: dict[int, list] = {}
    for step, _, keys, seeds, lost in sorted(lines):
        share = joined.setdefault(step, [[], [], []])
        for whole, part in zip(share, (keys, seeds, lost), strict=True):
            whole += part
    return joined


def test_ranks_workers_and_restarts_change_nothing(tmp_path):
    whole = global_batches(run_ranks(tmp_path, 1, 0, 0, STEPS))
    first, second = sorted(random.Random(1).sample(range(1, STEPS), 2))
    parts = [(2, 2, 0, first), (1, 0, first, second), (3, 0, second, STEPS)]
    found = [line for world, workers, *steps in parts for line in run_ranks(tmp_path, world, workers, *steps)]
    assert global_batches(found) == whole
    assert sorted(whole) == list(range(STEPS))
    lost = [item["path"] for step in whole.values() for item in step[2]]
    assert len(lost) >= 2 * (STEPS * BATCH_SIZE // CLIPS.num_clips), "a clip at fault was not reached in every pass"
    assert Counter(key for keys, _, _ in whole.values() for key in keys).total() == STEPS * BATCH_SIZE


def test_blocks_are_the_same_for_any_number_of_ranks_and_from_any_step():
    dataset, shuffle = CLIPS.build(), BlockShuffle(4, 3)

    def read(world: int, steps: range) -> list[tuple[str, ...]]:
        shares = [
            batches(dataset, BATCH_SIZE, SEED, steps, shuffle=shuffle, rank=rank, world=world) for rank in range(world)
        ]
        return [sum((loaded.batch.key for loaded in step), ()) for step in zip(*shares, strict=True)]

    whole = read(1, range(STEPS))
    for world in (2, 3, 5):
        assert read(world, range(7)) + read(1, range(7, 11)) + read(4, range(11, STEPS)) == whole


def test_each_pass_of_all_ranks_together_shows_every_clip_once():
    dataset = ClipsConfig(36).build()
    shares = [
        [loaded.batch.key for loaded in batches(dataset, 9, 0, range(8), rank=rank, world=3)] for rank in range(3)
    ]
    steps = [[key for share in shares for key in share[step]] for step in range(8)]
    for number in range(2):
        assert len({key for step in steps[4 * number : 4 * number + 4] for key in step}) == 36


def test_a_batch_that_ranks_cannot_part_evenly_is_parted_all_the_same():
    dataset = ClipsConfig(36).build()
    whole = [loaded.batch.key for loaded in batches(dataset, 8, 0, range(3))]
    shares = [
        [loaded.batch.key for loaded in batches(dataset, 8, 0, range(3), rank=rank, world=3)] for rank in range(3)
    ]
    assert [sum((share[step] for share in shares), ()) for step in range(3)] == whole
    assert {len(share[0]) for share in shares} == {2, 3}


def test_a_share_in_parts_is_the_same_share():
    dataset = ClipsConfig(36).build()
    whole = [loaded.batch.key for loaded in batches(dataset, 14, 0, range(2, 5), rank=1, world=2)]
    parts = [loaded.batch.key for loaded in batches(dataset, 14, 0, range(2, 5), rank=1, world=2, micro=3)]
    assert [len(part) for part in parts] == [2, 2, 3] * 3
    assert [sum(parts[start : start + 3], ()) for start in (0, 3, 6)] == whole


@pytest.mark.parametrize("micro", [0, 5])
def test_more_parts_than_clips_are_refused(micro):
    with pytest.raises(ValueError, match=f"micro is {micro}: expected 1 to the clips of a rank, 4"):
        batches(ClipsConfig().build(), 8, 0, range(1), world=2, micro=micro)


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (-1, 2), (0, 9)])
def test_a_rank_without_a_share_is_refused(rank, world):
    with pytest.raises(ValueError, match=f"rank {rank} of {world} in batches of 8"):
        batches(ClipsConfig().build(), 8, 0, range(1), rank=rank, world=world)

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from fourd.corpus.backends import Workers
from fourd.corpus.prepare.items import ROWS
from fourd.corpus.prepare.looks import HASH_BYTES, bits_apart, earlier_duplicate, look_bits, motion
from fourd.corpus.prepare.run import prepare
from fourd.corpus.prepare.selection import choose
from tests.corpus.small_corpus import SMALL, all_rows, counts_of, dropped_of
from tests.films import write_film

SEED = 11


def blobs(seed, frame, size, speed=3.0):
    """Draw soft spots that move: what a film looks like when it is small."""
    rng = np.random.default_rng(seed)
    width, height = size
    x, y = np.meshgrid(np.arange(width) / width, np.arange(height) / height)
    picture = np.full((height, width), 60.0)
    for cx, cy, vx, vy, weight in rng.uniform(-1, 1, (8, 5)):
        at = ((cx + vx * speed * frame / 100) % 1, (cy + vy * speed * frame / 100) % 1)
        picture += 120 * weight * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 0.05)
    return np.repeat(picture.clip(0, 255).astype(np.uint8)[:, :, None], 3, 2)


def film(path, seed, size=(160, 120), speed=3.0, **options):
    return write_film(path, 50, size=size, picture=lambda index, size: blobs(seed, index, size, speed), **options)


# ----------------------------------------------------------------------------- with real films


def test_still_films_and_copies_are_dropped_whatever_their_size_and_codec(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    film(folder / "a.mp4", 1)
    film(folder / "a again.mkv", 1, size=(96, 72), codec="libvpx", options={"crf": "40", "b": "60k"}, b_frames=0)
    film(folder / "b.mp4", 2)
    film(folder / "still.mp4", 3, speed=0.0)
    config = dataclasses.replace(SMALL, piece_s=None, min_motion=0.5, drop_duplicates=True)
    prepare([str(folder)], tmp_path / "out", config, Workers(workers=1))
    kept = {piece.group for piece in all_rows(tmp_path / "out")}
    dropped = {row["path"]: row for row in dropped_of(tmp_path / "out")}
    assert len(kept) == len(dropped) == 2
    assert kept | dropped.keys() == {"a.mp4", "a again.mkv", "b.mp4", "still.mp4"}
    assert dropped["still.mp4"]["reason"] == "near-static"
    (copy,) = dropped.keys() - {"still.mp4"}
    assert {copy} | kept == {"a.mp4", "a again.mkv", "b.mp4"}
    (first,) = {piece.key for piece in all_rows(tmp_path / "out") if piece.group.startswith("a")}
    assert dropped[copy]["detail"].startswith(f"of {first}: ")
    assert first < dropped[copy]["key"]  # the first by key stays
    assert counts_of(tmp_path / "out")["dropped"] == {"near-duplicate": 1, "near-static": 1}


def test_nothing_is_dropped_unless_it_is_asked_for(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    film(folder / "a.mp4", 1, speed=0.0)
    film(folder / "b.mp4", 1, speed=0.0)
    prepare([str(folder)], tmp_path / "out", dataclasses.replace(SMALL, piece_s=None), Workers(workers=1))
    assert len(all_rows(tmp_path / "out")) == 2


# ----------------------------------------------------------------------------- the measures


def greys(seed, speed=3.0, count=12):
    return np.stack([blobs(seed, frame, (32, 32), speed)[:, :, 0] for frame in range(0, 6 * count, 6)])


def test_motion_is_a_median_of_mean_differences():
    flat = np.zeros((4, 32, 32), np.uint8)
    steps = flat + np.array([0, 2, 4, 104], np.uint8)[:, None, None]
    assert motion(flat) == 0.0
    assert motion(steps) == 2.0  # one cut, of 100, does not make a slide show a film
    assert motion(flat[:1]) == 0.0


def test_looks_change_little_with_noise_and_much_with_the_film():
    rng = np.random.default_rng(SEED)
    noisy = (greys(1).astype(int) + rng.integers(-6, 7, (12, 32, 32))).clip(0, 255).astype(np.uint8)
    assert bits_apart(look_bits(greys(1)), look_bits(noisy)) <= 10
    assert min(bits_apart(look_bits(greys(1)), look_bits(greys(seed))) for seed in range(2, 12)) > 40


def test_flat_pictures_look_the_same_with_noise_or_without():
    rng = np.random.default_rng(SEED)
    flat = np.full((5, 32, 32), 40, np.uint8)
    noisy = (flat + rng.integers(0, 3, flat.shape)).astype(np.uint8)
    assert look_bits(flat) == look_bits(noisy) == bytes(HASH_BYTES)


@pytest.mark.parametrize("max_bits", [0, 3, 15, 31])
def test_duplicates_are_those_that_comparing_all_pairs_finds(max_bits):
    rng = np.random.default_rng(SEED)
    looks = rng.integers(0, 256, (12, HASH_BYTES), dtype=np.uint8)[rng.integers(0, 12, 150)]
    flips = np.packbits(rng.random((150, 256)) < rng.choice([0, 0.01, 0.05], (150, 1)), axis=1)
    looks = looks ^ flips
    expected = []
    for place in range(len(looks)):
        kept = [other for other in range(place) if expected[other] < 0]
        bits = [int(np.bitwise_count(looks[place] ^ looks[other]).sum()) for other in kept]
        expected.append(next((other for other, found in zip(kept, bits, strict=True) if found <= max_bits), -1))
    found = earlier_duplicate(looks, max_bits)
    assert np.array_equal(found < 0, np.array(expected) < 0)
    for place in np.flatnonzero(found >= 0):
        assert found[found[place]] < 0  # what it is a copy of is kept
        assert bits_apart(looks[place].tobytes(), looks[found[place]].tobytes()) <= max_bits
    assert 0 < np.count_nonzero(found >= 0) < 150


def test_no_pieces_have_no_duplicates():
    assert len(earlier_duplicate(np.empty((0, HASH_BYTES), np.uint8), 15)) == 0


# ----------------------------------------------------------------------------- into shards


def rows(count, num_bytes=1000, films=10):
    row = dict.fromkeys(ROWS.names) | {"num_frames": 12, "offset": 0, "crc32": 0, "motion": 1.0, "looks": bytes(32)}
    named = [{"key": f"k{n:05d}", "path": f"{n % films}.mp4", "number": n, "start_s": 0.0} for n in range(count)]
    return pa.Table.from_pylist([row | {"num_bytes": num_bytes} | name for name in named], schema=ROWS)


def test_the_choice_does_not_depend_on_the_order_in_which_pieces_come():
    table = rows(300)
    shuffled = table.take(np.random.default_rng(SEED).permutation(300))
    config = dataclasses.replace(SMALL, drop_duplicates=True, duplicate_bits=0, held_out=0.4)
    for config_ in (config, dataclasses.replace(config, drop_duplicates=False)):
        first, second = choose(table, config_), choose(shuffled, config_)
        assert first.kept.equals(second.kept)
        assert first.dropped.equals(second.dropped)
    assert len(choose(table, config).kept) == 1


def test_shards_are_of_like_size_and_a_piece_may_be_larger_than_one():
    kept = choose(rows(300), dataclasses.replace(SMALL, held_out=0.0)).kept
    counts = [count["counts"] for count in kept["shard"].value_counts().to_pylist()]
    assert len(counts) == 15  # 300 kB in shards of 20 kB
    assert max(counts) - min(counts) <= 1
    large = choose(rows(3, num_bytes=50_000), dataclasses.replace(SMALL, held_out=0.0)).kept
    assert large["shard"].to_pylist() == ["train-00000", "train-00001", "train-00002"]


def test_shards_are_of_like_size_where_bytes_times_shards_pass_64_bits():
    config = dataclasses.replace(SMALL, held_out=0.0, shard_mb=200_000_000.0)
    kept = choose(rows(300, num_bytes=10**16), config).kept  # 3 * 10**18 bytes in 15000 shards, of which 300 are used
    assert len(kept["shard"].unique()) == 300
    kept = choose(rows(300, num_bytes=10**16), dataclasses.replace(config, shard_mb=10.0**11)).kept
    counts = [count["counts"] for count in kept["shard"].value_counts().to_pylist()]
    assert counts == [10] * 30
    assert kept["shard"].to_pylist() == sorted(kept["shard"].to_pylist())


def test_another_seed_gives_another_order():
    orders = [choose(rows(50), dataclasses.replace(SMALL, seed=seed)).kept["key"].to_pylist() for seed in (0, 1)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])

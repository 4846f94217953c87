"""The cache gives what the store holds, whatever happens to its folder, and never outgrows it."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import random
import time
from pathlib import Path

import pytest
from filelock import FileLock

import fourd.storage.block_folder
from fourd.storage import CacheConfig, CachedStore, CutOffError
from tests.storage.cache_reader import CountedStore, read_at_random, read_once

BLOCK = 1000
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def truth(tmp_path: Path) -> bytes:
    data = random.Random(0).randbytes(10 * BLOCK + 300)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "shard.tar").write_bytes(data)
    return data


def counted(tmp_path: Path) -> CountedStore:
    return CountedStore(str(tmp_path / "store"), tmp_path / "log")


def config_of(tmp_path: Path, max_bytes: int = 100 * BLOCK, block_bytes: int = BLOCK) -> CacheConfig:
    return CacheConfig(str(tmp_path / "cache"), max_bytes, block_bytes)


def cached(tmp_path: Path, **changes: int) -> CachedStore:
    return CachedStore(counted(tmp_path), config_of(tmp_path, **changes))


def blocks_of(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "cache" / "blocks").rglob("*") if path.is_file())


def kept_bytes(tmp_path: Path) -> int:
    """Sum what the folder holds, while nobody writes or removes anything."""
    cache = tmp_path / "cache"
    cache.mkdir(exist_ok=True)
    with FileLock(cache / "lock", poll_interval=0.001):
        paths = [path for name in ("blocks", "aside") for path in (cache / name).rglob("*")]
        return sum(path.stat().st_size for path in paths if path.is_file())


def test_every_range_is_what_the_store_holds(tmp_path: Path, truth: bytes):
    store, rng = cached(tmp_path), random.Random(1)
    ranges = [(0, 0), (0, len(truth)), (BLOCK, 2 * BLOCK), (len(truth) - 1, len(truth)), (5 * BLOCK, 5 * BLOCK)]
    for _ in range(200):
        start = rng.randrange(len(truth))
        ranges.append((start, rng.randrange(start, len(truth) + 1)))
    for start, stop in ranges:
        assert store.read("shard.tar", start, stop) == truth[start:stop]
    assert len(counted(tmp_path).reads()) == 1, "the first read of everything had brought it all"


def test_a_large_block_is_read_in_part(tmp_path: Path):
    data = random.Random(0).randbytes(700_000)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a").write_bytes(data)
    store = cached(tmp_path, block_bytes=300_001, max_bytes=10**7)
    for _ in range(2):
        for start, stop in [(0, 1), (131_071, 131_073), (299_999, 300_002), (1, 699_999), (600_002, 700_000)]:
            assert store.read("a", start, stop) == data[start:stop]


def test_neighbours_that_are_missing_are_one_request(tmp_path: Path, truth: bytes):
    store = cached(tmp_path)
    store.read("shard.tar", 3 * BLOCK + 10, 4 * BLOCK)
    store.read("shard.tar", 10, 8 * BLOCK - 10)
    assert counted(tmp_path).reads()[1:] == [("shard.tar", 0, 3 * BLOCK), ("shard.tar", 4 * BLOCK, 8 * BLOCK)]


def test_what_lies_behind_the_end_is_an_error(tmp_path: Path, truth: bytes):
    with pytest.raises(CutOffError, match=r"shard.tar, bytes 5 to 10301: the file ends at byte 10300"):
        cached(tmp_path).read("shard.tar", 5, len(truth) + 1)


def test_a_changed_file_is_not_read_from_old_blocks(tmp_path: Path, truth: bytes):
    cached(tmp_path).read("shard.tar", 0, len(truth))
    changed = truth[::-1]
    (tmp_path / "store" / "shard.tar").write_bytes(changed)
    assert cached(tmp_path).read("shard.tar", 0, len(truth)) == changed


@pytest.mark.parametrize("place", [0, 5, 200, -1])
def test_a_block_that_was_changed_on_the_disk_is_fetched_again(tmp_path: Path, truth: bytes, place: int):
    cached(tmp_path).read("shard.tar", 0, len(truth))
    for block in blocks_of(tmp_path):
        data = bytearray(block.read_bytes())
        data[place] ^= 4
        block.write_bytes(data)
    assert cached(tmp_path).read("shard.tar", 0, len(truth)) == truth
    assert len(counted(tmp_path).reads()) == 2
    assert cached(tmp_path).read("shard.tar", 0, len(truth)) == truth
    assert len(counted(tmp_path).reads()) == 2, "the good blocks took the place of the changed ones"


@pytest.mark.parametrize("num_bytes", [0, 3, 500])
def test_a_torn_block_is_fetched_again(tmp_path: Path, truth: bytes, num_bytes: int):
    cached(tmp_path).read("shard.tar", 0, len(truth))
    for block in blocks_of(tmp_path):
        os.truncate(block, num_bytes)
    assert cached(tmp_path).read("shard.tar", 0, len(truth)) == truth


def test_a_block_under_the_name_of_another_is_not_served(tmp_path: Path, truth: bytes):
    cached(tmp_path).read("shard.tar", 0, 10 * BLOCK)
    blocks = blocks_of(tmp_path)
    contents = [block.read_bytes() for block in blocks]
    for block, content in zip(blocks, contents[1:] + contents[:1], strict=True):
        block.write_bytes(content)
    assert cached(tmp_path).read("shard.tar", 0, len(truth)) == truth


def test_the_blocks_used_last_are_kept(tmp_path: Path, truth: bytes):
    for name in ("old", "used"):
        (tmp_path / "store" / name).write_bytes(truth[:BLOCK])
    store = cached(tmp_path, max_bytes=11 * BLOCK)
    for name in ("old", "used"):
        store.read(name, 0, BLOCK)
        time.sleep(0.01)
    store.read("shard.tar", 0, 8 * BLOCK)
    time.sleep(0.01)
    store.read("used", 0, 1)
    store.read("shard.tar", 8 * BLOCK, 10 * BLOCK)
    assert kept_bytes(tmp_path) <= 11 * BLOCK
    before = len(counted(tmp_path).reads())
    store.read("used", 0, BLOCK)
    assert len(counted(tmp_path).reads()) == before
    store.read("old", 0, BLOCK)
    assert len(counted(tmp_path).reads()) == before + 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_stops_nothing(tmp_path: Path, truth: bytes, monkeypatch, caplog, number: int):
    def write_block(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fourd.storage.block_folder, "write_block", write_block)
    store = cached(tmp_path)
    for _ in range(3):
        assert store.read("shard.tar", 0, len(truth)) == truth
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot be written" in caplog.text
    assert not blocks_of(tmp_path)


def test_a_place_that_is_no_folder_stops_nothing(tmp_path: Path, truth: bytes, caplog):
    (tmp_path / "cache").write_text("a file")
    store = cached(tmp_path)
    for start in (0, 5):
        assert store.read("shard.tar", start, 500) == truth[start:500]
    assert caplog.text.count("reading goes on without it") == 1


def test_a_cache_for_a_few_blocks_only_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="expected room for ten blocks"):
        config_of(tmp_path, max_bytes=9 * BLOCK)


def test_a_cached_store_goes_to_other_processes(tmp_path: Path, truth: bytes):
    store = cached(tmp_path)
    assert store.read("shard.tar", 1, 9) == pickle.loads(pickle.dumps(store)).read("shard.tar", 1, 9)


# ----------------------------------------------------------------------------- several processes


def start(function, *arguments: object) -> multiprocessing.process.BaseProcess:
    process = SPAWN.Process(target=function, args=arguments)
    process.start()
    return process


def test_processes_that_want_a_block_at_once_fetch_it_once(tmp_path: Path, truth: bytes):
    names = [f"{number}.tar" for number in range(20)]
    for name in names:
        (tmp_path / "store" / name).write_bytes(truth)
    arguments = (str(tmp_path / "store"), str(tmp_path / "log"), config_of(tmp_path, 10**6, 10**5), names)
    readers = [start(read_once, *arguments, time.time() + 2) for _ in range(3)]
    for reader in readers:
        reader.join(30)
        assert reader.exitcode == 0
    assert sorted(counted(tmp_path).reads()) == sorted((name, 0, len(truth)) for name in names)


def test_processes_share_a_small_folder_while_some_are_killed(tmp_path: Path):
    """Three processes read more than the folder holds, and are killed and replaced; no byte is wrong."""
    (tmp_path / "store").mkdir()
    rng = random.Random(0)
    for number in range(6):
        (tmp_path / "store" / f"{number}.tar").write_bytes(rng.randbytes(400_000 + number))
    config = config_of(tmp_path, max_bytes=700_000, block_bytes=20_000)
    arguments = (str(tmp_path / "store"), str(tmp_path / "log"), config)
    readers = [start(read_at_random, *arguments, seed) for seed in range(3)]
    most, num_killed = 0, 0
    while len(counted(tmp_path).reads()) < 400 or num_killed < 4:  # a busy machine lets readers run ahead
        assert all(reader.is_alive() for reader in readers), "a reader met a wrong byte"
        most = max(most, kept_bytes(tmp_path))
        if len(counted(tmp_path).reads()) > 80 * (num_killed + 1):
            readers[0].kill()
            readers = [*readers[1:], start(read_at_random, *arguments, 3 + num_killed)]
            num_killed += 1
        time.sleep(0.01 * rng.random())
    for reader in readers:
        reader.kill()
        reader.join()
    assert num_killed >= 4
    assert 400_000 < most <= config.max_bytes
    whole = sum(file.stat().st_size for file in (tmp_path / "store").iterdir())
    fetched = sum(stop - start for _, start, stop in counted(tmp_path).reads())
    assert fetched > 3 * whole, "nothing had to be removed: the test tests nothing"


def test_a_file_without_a_version_is_not_kept(tmp_path: Path, truth: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(CountedStore, "about", lambda self, path: (len(truth), ""))
    store = cached(tmp_path)
    assert store.read("shard.tar", 0, 100) == truth[:100]
    changed = bytes(reversed(truth))
    (tmp_path / "store" / "shard.tar").write_bytes(changed)
    assert store.read("shard.tar", 0, 100) == changed[:100]


def test_a_count_that_is_no_text_is_taken_again(tmp_path: Path, truth: bytes):
    store = cached(tmp_path)
    store.read("shard.tar", 0, 100)
    (counted_file,) = (tmp_path / "cache").rglob("used-bytes")
    counted_file.write_bytes(b"\xff\xfe\xfd")
    assert cached(tmp_path).read("shard.tar", 0, len(truth)) == truth
    assert counted_file.read_bytes().isdigit()

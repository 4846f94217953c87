"""Local reads are complete, stay below their root, and survive what network disks say now and then."""

from __future__ import annotations

import errno
import os
import pickle
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

import fourd.storage.retrying
from fourd.storage import CutOffError, LocalStore, Retries, StorageError, open_store

QUICK = Retries(tries=3, first_s=0.001, longest_s=0.01)


def forbid_waiting(monkeypatch) -> None:
    def sleep(_: float) -> None:
        raise AssertionError("waited for what cannot pass")

    monkeypatch.setattr(fourd.storage.retrying, "time", SimpleNamespace(sleep=sleep))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "corpus" / "shards").mkdir(parents=True)
    (tmp_path / "corpus" / "shards" / "a.tar").write_bytes(bytes(range(256)))
    return tmp_path / "corpus"


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_range_of_a_file_is_read(root: Path, scheme: str):
    store = open_store(f"{scheme}{root}")
    assert isinstance(store, LocalStore)
    assert store.read("shards/a.tar", 3, 9) == bytes(range(3, 9))
    assert store.read("shards/a.tar", 256, 256) == b""
    assert store.num_bytes("shards/a.tar") == 256
    assert store.address("shards/a.tar") == f"{root}/shards/a.tar"


def test_a_missing_file_is_told_at_once(root: Path, monkeypatch):
    forbid_waiting(monkeypatch)
    with pytest.raises(FileNotFoundError):
        open_store(str(root)).read("shards/b.tar", 0, 1)
    with pytest.raises(FileNotFoundError):
        open_store(str(root / "nowhere")).num_bytes("shards/b.tar")


def test_a_file_that_is_too_short_is_told_at_once(root: Path, monkeypatch):
    forbid_waiting(monkeypatch)
    with pytest.raises(CutOffError, match=r"a.tar, bytes 200 to 300: the file ends at byte 256"):
        open_store(str(root)).read("shards/a.tar", 200, 300)


@pytest.mark.parametrize("path", ["../corpus/shards/a.tar", "shards/../../x", "/etc/passwd", "", "a\0b"])
def test_paths_that_leave_the_root_are_refused(root: Path, path: str):
    for ask in (lambda: open_store(str(root)).read(path, 0, 1), lambda: open_store(str(root)).num_bytes(path)):
        with pytest.raises(ValueError, match="leaves its root"):
            ask()


def test_links_are_followed_only_within_the_root(root: Path, tmp_path: Path):
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "file").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    (root / "inside").symlink_to(root / "shards")
    store = open_store(str(root))
    for path in ("file", "folder/secret"):
        with pytest.raises(ValueError, match="link that leads out"):
            store.read(path, 0, 1)
    assert store.read("inside/a.tar", 0, 2) == b"\0\1"


def test_a_root_that_is_a_link_or_a_whole_disk_can_be_read(root: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(root)
    assert LocalStore(str(tmp_path / "link")).read("shards/a.tar", 0, 1) == b"\0"
    assert LocalStore("/").read(str(root / "shards" / "a.tar")[1:], 0, 1) == b"\0"


def failing(monkeypatch, numbers: list[int]) -> list[int]:
    """Let reads fail with these errors, one after the other, and then succeed."""
    pread, left = os.pread, list(numbers)

    def fail_first(file: int, count: int, offset: int) -> bytes:
        if left:
            number = left.pop(0)
            raise OSError(number, os.strerror(number))
        return pread(file, count, offset)

    monkeypatch.setattr(os, "pread", fail_first)
    return left


def test_errors_of_network_disks_pass(root: Path, monkeypatch):
    left = failing(monkeypatch, [errno.EIO, errno.ESTALE])
    assert LocalStore(str(root), QUICK).read("shards/a.tar", 0, 2) == b"\0\1"
    assert not left


def test_a_disk_that_keeps_failing_ends_in_a_storage_error(root: Path, monkeypatch):
    left = failing(monkeypatch, [errno.ETIMEDOUT] * 5)
    with pytest.raises(StorageError, match=r"a.tar, bytes 0 to 2: 3 tries failed, the last with TimeoutError"):
        LocalStore(str(root), QUICK).read("shards/a.tar", 0, 2)
    assert len(left) == 2


def test_reads_that_end_early_go_on(root: Path, monkeypatch):
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, count, offset: pread(file, min(count, 7), offset))
    assert open_store(str(root)).read("shards/a.tar", 5, 250) == bytes(range(5, 250))


def test_waiting_draws_from_no_seeded_generator(root: Path, monkeypatch):
    random.seed(0)
    before = random.getstate()
    failing(monkeypatch, [errno.EIO])
    LocalStore(str(root), QUICK).read("shards/a.tar", 0, 2)
    assert random.getstate() == before


def test_waits_grow_up_to_a_bound():
    retries = Retries(tries=9, first_s=1.0, longest_s=5.0)
    for number, middle in enumerate([1, 2, 4, 5, 5]):
        waits = [retries.wait_s(number) for _ in range(200)]
        assert middle / 2 <= min(waits) < 0.75 * middle < 1.25 * middle < max(waits) <= 1.5 * middle


def test_a_store_goes_to_other_processes(root: Path):
    store = pickle.loads(pickle.dumps(LocalStore(str(root), QUICK)))
    assert store.read("shards/a.tar", 0, 2) == b"\0\1"
    assert store.retries == QUICK

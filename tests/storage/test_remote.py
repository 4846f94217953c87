"""What an object store holds is read to the byte, through every fault that passes; the others end in a clear error."""

from __future__ import annotations

import concurrent.futures
import functools
import gc
import http.server
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest

import fourd.storage.retrying
from fourd.storage import (
    CacheConfig,
    CutOffError,
    LocalStore,
    RemoteStore,
    Retries,
    StorageError,
    Store,
    local_copy,
    open_ranged,
    open_store,
)
from tests.storage.faulty_store import Faults, FaultyStore, faulty_store

QUICK = Retries(tries=8, first_s=0.002, longest_s=0.02)
DATA = random.Random(0).randbytes(300_000)


def forbid_waiting(monkeypatch) -> None:
    def sleep(_: float) -> None:
        raise AssertionError("waited for what cannot pass")

    monkeypatch.setattr(fourd.storage.retrying, "time", SimpleNamespace(sleep=sleep))


@pytest.fixture(scope="module")
def served() -> Iterator[FaultyStore]:
    with faulty_store() as store:
        store.put("corpus", "shards/a.tar", DATA)
        yield store


@pytest.fixture
def server(served: FaultyStore) -> Iterator[FaultyStore]:
    yield served
    served.faults = Faults()
    served.injected.clear()


def ranges(count: int, seed: int = 0) -> Iterator[tuple[int, int]]:
    rng = random.Random(seed)
    for _ in range(count):
        start = rng.randrange(len(DATA))
        yield start, min(start + rng.randrange(1, 50_000), len(DATA))


def check(store: Store, count: int, seed: int = 0) -> int:
    for start, stop in ranges(count, seed):
        assert store.read("shards/a.tar", start, stop) == DATA[start:stop]
    return count


# ----------------------------------------------------------------------------- any store


def test_a_store_in_memory_is_read():
    fsspec.filesystem("memory").pipe_file("/bucket/deep/a.tar", DATA)
    store = open_store("memory://bucket/deep/", retries=QUICK)
    assert isinstance(store, RemoteStore)
    assert store.read("a.tar", 5, 9) == DATA[5:9]
    assert store.num_bytes("a.tar") == len(DATA)
    with pytest.raises(CutOffError, match=rf"a.tar, bytes 299999 to 300001: the file ends at byte {len(DATA)}"):
        store.read("a.tar", 299_999, 300_001)
    with pytest.raises(FileNotFoundError, match=r"no such object: 'memory://bucket/deep/b.tar'"):
        store.read("b.tar", 0, 1)
    with pytest.raises(FileNotFoundError):
        open_store("memory://bucket").num_bytes("deep")
    with pytest.raises(ValueError, match="leaves its root"):
        store.read("../a.tar", 0, 1)


def test_a_missing_package_is_named_with_the_way_out(monkeypatch):
    def filesystem(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", filesystem)
    with pytest.raises(ImportError, match=r"s3://bucket: Install s3fs.* pip install 'fourd\[s3\]'"):
        open_store("s3://bucket").read("a", 0, 1)


def test_an_unknown_scheme_is_told_at_once():
    with pytest.raises(ValueError, match="nonsense"):
        open_store("nonsense://bucket").read("a", 0, 1)


# ----------------------------------------------------------------------------- a served one


def test_every_byte_is_right_through_all_faults(server: FaultyStore):
    server.faults = Faults(errors=0.05, cut=0.05, short=0.05, reset=0.05, slow=0.05, delay_s=0.02)
    check(open_store("s3://corpus", retries=QUICK), 150)
    assert all(server.injected[name] > 0 for name in ("errors", "cut", "short", "reset", "slow")), server.injected


@pytest.mark.parametrize("faults", [Faults(errors=1.0), Faults(reset=1.0), Faults(cut=1.0), Faults(short=1.0)])
def test_a_store_that_keeps_failing_ends_in_a_storage_error_after_the_stated_tries(server: FaultyStore, faults: Faults):
    server.faults = faults
    before = server.requests["GET"]
    store = open_store("s3://corpus", retries=Retries(tries=3, first_s=0.001, longest_s=0.01))
    with pytest.raises(StorageError, match=r"s3://corpus/shards/a.tar, bytes 7 to 99: 3 tries failed, the last with "):
        store.read("shards/a.tar", 7, 99)
    connection_is_tried_again = faults.reset > 0  # by aiohttp, once, where a server closed it between two requests
    assert server.requests["GET"] - before in ((3, 4, 5, 6) if connection_is_tried_again else (3,))


def test_no_server_at_all_ends_in_a_storage_error(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    with pytest.raises(StorageError, match=r"2 tries failed, .* connect"):
        open_store("s3://corpus", retries=Retries(2, 0.001, 0.01)).read("a", 0, 1)


def test_wrong_requests_are_told_at_once(server: FaultyStore, monkeypatch):
    forbid_waiting(monkeypatch)
    store = open_store("s3://corpus")
    with pytest.raises(FileNotFoundError, match=r"s3://corpus/shards/b.tar"):
        store.read("shards/b.tar", 0, 1)
    with pytest.raises(FileNotFoundError, match=r"s3://elsewhere/a"):
        open_store("s3://elsewhere").num_bytes("a")
    for start in (len(DATA) - 1, len(DATA) + 10):
        with pytest.raises(CutOffError, match=rf"the file ends at byte {len(DATA)}"):
            store.read("shards/a.tar", start, start + 20)


def test_missing_credentials_are_told_with_the_way_out(server: FaultyStore, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(PermissionError, match="check the store's credentials"):
        open_store("s3://corpus").read("shards/a.tar", 0, 1)


def test_refused_rights_are_told_at_once(monkeypatch):
    class Refusing:
        def cat_file(self, *_: object, **__: object) -> bytes:
            raise PermissionError("Access Denied")

    monkeypatch.setattr(fsspec, "filesystem", lambda *_, **__: Refusing())
    forbid_waiting(monkeypatch)
    with pytest.raises(PermissionError, match=r"Access Denied.*check the store's credentials.*'s3://corpus/a'"):
        open_store("s3://corpus").read("a", 0, 1)


def test_the_endpoint_may_be_named_for_fsspec_alone(server: FaultyStore):
    code = (
        "from fourd.storage import open_store; import sys;"
        "sys.stdout.buffer.write(open_store('s3://corpus').read('shards/a.tar', 10, 20))"
    )
    environment = {**os.environ, "FSSPEC_S3_ENDPOINT_URL": server.endpoint_url}
    del environment["AWS_ENDPOINT_URL"]
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout == DATA[10:20]


def test_a_changed_object_has_another_version(server: FaultyStore):
    store = open_store("s3://corpus", retries=QUICK)
    server.put("corpus", "b", b"one")
    before = store.about("b")
    server.put("corpus", "b", b"two")
    assert before[0] == store.about("b")[0] == 3
    assert before[1] != store.about("b")[1]


def test_threads_and_a_pickled_copy_read_the_same(server: FaultyStore):
    server.faults = Faults(errors=0.05)
    store = open_store("s3://corpus", retries=QUICK)
    check(store, 1)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(lambda seed: check(store, 10, seed), range(8))) == 80
    assert check(pickle.loads(pickle.dumps(store)), 3) == 3


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_store_that_was_used_goes_to_other_processes(server: FaultyStore, method: str):
    store = open_store("s3://corpus", retries=QUICK)
    check(store, 1)
    process = multiprocessing.get_context(method).Process(target=check, args=(store, 5))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    check(store, 1)


def read_after_dropping(stores: list[Store]) -> None:
    """Let go of what a parent had opened, and collect it where connections are served."""
    gc.disable()
    stores.clear()
    store = open_store("s3://corpus", retries=QUICK)
    check(store, 1)
    fsspec.asyn.get_loop().call_soon_threadsafe(gc.collect)
    time.sleep(0.2)
    check(store, 1)


def test_forks_leave_the_connections_of_their_parent_alone(server: FaultyStore, capfd):
    """A child that closed what it got from its parent would take it from there, and the parent would wait in vain."""
    for seed in range(3):
        stores = [open_store("s3://corpus", retries=QUICK) for _ in range(3)]
        for store in stores:
            check(store, 1, seed)
        process = multiprocessing.get_context("fork").Process(target=read_after_dropping, args=(stores,))
        process.start()
        process.join(30)
        assert process.exitcode == 0
        begin = time.monotonic()
        for store in stores:
            check(store, 1, seed)
        assert time.monotonic() - begin < 10
    assert "attached to a different loop" not in capfd.readouterr().err


def test_a_cache_asks_for_each_block_once(server: FaultyStore, tmp_path: Path):
    server.faults = Faults(errors=0.1, cut=0.1)
    cache = CacheConfig(str(tmp_path / "cache"), 10**6, 32_768)
    check(open_store("s3://corpus", cache, QUICK), 60)
    server.faults = Faults()
    before = server.requests["GET"]
    check(open_store("s3://corpus", cache, QUICK), 60)
    assert server.requests["GET"] == before
    server.put("corpus", "shards/a.tar", DATA)


def test_an_object_is_read_as_a_file(server: FaultyStore):
    server.faults = Faults(errors=0.1, short=0.1)
    rng = random.Random(0)
    with open_ranged(open_store("s3://corpus", retries=QUICK), "shards/a.tar") as file:
        assert file.seek(0, os.SEEK_END) == len(DATA)
        assert file.read(1) == b""
        for _ in range(30):
            place = rng.randrange(len(DATA))
            assert file.seek(place) == place
            assert file.read(1000) == DATA[place : place + 1000]
            assert file.tell() == min(place + 1000, len(DATA))
        file.seek(-10, os.SEEK_END)
        assert file.read() == DATA[-10:]
        file.seek(len(DATA) + 5)
        assert file.read(3) == b""
        with pytest.raises(ValueError, match=r"s3://corpus/shards/a.tar: byte -1 is before"):
            file.seek(-1)


def test_a_file_that_changes_while_it_is_copied_is_not_kept(tmp_path: Path):
    class Changing(LocalStore):
        def read(self, path: str, start: int, stop: int) -> bytes:
            found = super().read(path, start, stop)
            (tmp_path / "a" / path).write_bytes(DATA[:7])
            return found

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.parquet").write_bytes(DATA)
    with pytest.raises(StorageError, match=r"a/index.parquet changed while it was copied"):
        local_copy(Changing(str(tmp_path / "a")), "index.parquet", tmp_path / "b")
    assert not [path for path in (tmp_path / "b").iterdir() if path.suffix != ".lock"]


def test_a_file_is_copied_to_this_machine_once(server: FaultyStore, tmp_path: Path):
    server.faults = Faults(errors=0.1, cut=0.1)
    store = open_store("s3://corpus", retries=QUICK)
    server.put("corpus", "index.parquet", DATA[:1000])
    copy = local_copy(store, "index.parquet", tmp_path)
    assert (copy.read_bytes(), copy.suffix) == (DATA[:1000], ".parquet")
    before = server.requests["GET"]
    assert local_copy(store, "index.parquet", tmp_path) == copy
    assert server.requests["GET"] == before
    server.put("corpus", "index.parquet", DATA[:2000])
    assert local_copy(store, "index.parquet", tmp_path).read_bytes() == DATA[:2000]
    assert copy.read_bytes() == DATA[:1000], "a run that reads the old version is not disturbed"


def test_a_file_without_a_version_is_copied_each_time(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(LocalStore, "about", lambda self, path: (7, ""))
    (tmp_path / "a").mkdir()
    for content in (DATA[:7], DATA[7:14]):
        (tmp_path / "a" / "index.parquet").write_bytes(content)
        copy = local_copy(LocalStore(str(tmp_path / "a")), "index.parquet", tmp_path / "b")
        assert copy.read_bytes() == content


def test_a_server_without_ranges_is_told_after_one_download(tmp_path: Path):
    (tmp_path / "a.tar").write_bytes(DATA)
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = open_store(f"http://127.0.0.1:{server.server_port}", retries=QUICK)
        with pytest.raises(ValueError, match=r"a.tar, bytes 0 to 100: 300000 bytes came: the server does not serve"):
            store.read("a.tar", 0, 100)
        server.shutdown()
    assert asked == ["/a.tar"]

import time

import psutil
import pytest

from fourd.corpus.backends import Workers, do_all
from fourd.corpus.prepare.run import prepare
from tests.corpus.small_corpus import MANY_ITEMS, bytes_of, index_of, write_films


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return index_of(write_films(tmp_path_factory.mktemp("films") / "films", count=6))


@pytest.fixture(scope="module")
def undisturbed(films, tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    prepare([films], out, MANY_ITEMS, Workers(workers=2))
    return bytes_of(out)


def square(number):
    if number == 13:
        raise OSError("unlucky")
    time.sleep(0.01)
    return number * number


def test_all_tasks_are_done_and_taken_up_as_they_are_needed():
    taken = []

    def tasks():
        for number in range(20, 220):
            taken.append(number)
            yield number

    results = do_all(square, tasks(), Workers(workers=2))
    first = next(results)
    assert len(taken) < 100
    assert sorted([first, *results]) == [number * number for number in range(20, 220)]


def test_what_a_task_raises_ends_the_work():
    with pytest.raises(OSError, match="unlucky"):
        list(do_all(square, range(20), Workers(workers=2)))


def test_an_address_without_a_cluster_and_no_workers_are_refused():
    with pytest.raises(ValueError, match="--address auto needs --backend ray or --backend dask"):
        Workers(address="auto")
    with pytest.raises(ValueError, match="--workers is 0: expected 1 or more"):
        Workers(workers=0)


def test_ray_gives_the_same_bytes_and_leaves_no_process(films, undisturbed, tmp_path):
    pytest.importorskip("ray")
    before = {process.pid for process in psutil.process_iter()}
    prepare([films], tmp_path / "out", MANY_ITEMS, Workers("ray", workers=2))
    assert bytes_of(tmp_path / "out") == undisturbed
    for _ in range(100):
        left = [p for p in psutil.process_iter(["pid", "cmdline"]) if p.pid not in before]
        left = [p for p in left if "ray" in " ".join(p.info["cmdline"] or [])]
        if not left:
            return
        time.sleep(0.1)
    raise AssertionError(f"left behind: {left}")


def test_dask_gives_the_same_bytes(films, undisturbed, tmp_path):
    pytest.importorskip("distributed")
    prepare([films], tmp_path / "out", MANY_ITEMS, Workers("dask", workers=2))
    assert bytes_of(tmp_path / "out") == undisturbed

"""Pickled arrays are found without running anything, and what is no array is refused."""

from __future__ import annotations

import collections
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fourd.datasets._pickles import StoredArray, StoredBytes, look_into
from fourd.media import UnreadableVideo
from tests.datasets.files._pickles import poisoned

ARRAYS = {
    "pictures": np.arange(4 * 3 * 5 * 3, dtype=np.uint8).reshape(4, 3, 5, 3),
    "large": np.arange(100_000, dtype=np.int64).reshape(50, 2000),
    "small": np.array([0.5, -2.25], np.float32),
    "bits": np.array([[True, False, True]]),
    "by column": np.asfortranarray(np.arange(12, dtype=np.float64).reshape(3, 4)),
    "other byte order": np.arange(5, dtype=">i4"),
    "bytes": np.array([b"\xff\xd8 one", b"two"]),
    "empty": np.zeros((0, 2), np.float32),
    "scalar": np.array(7, np.int16),
}


def save(path: Path, held: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(held, protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("pickler", [pickle.dumps, pickle._dumps])
def test_arrays_come_back_as_they_were(pickler, protocol: int, tmp_path: Path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickler(ARRAYS, protocol))
    held = look_into(path)
    assert list(held) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert isinstance(held[name], StoredArray)
        read = held[name].read(path)
        assert (read.dtype, read.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_part_is_read_by_itself(protocol: int, tmp_path: Path):
    path = save(tmp_path / "a.pkl", ARRAYS, protocol)
    held = look_into(path)
    rows = np.array([3, 0, 3])
    np.testing.assert_array_equal(held["pictures"].read(path, rows), ARRAYS["pictures"][rows])
    columns = (slice(None), np.array([1999, 5]))
    np.testing.assert_array_equal(held["large"].read(path, columns), ARRAYS["large"][columns])


@pytest.mark.parametrize("new", [False, True])
def test_both_names_of_numpys_core_are_known(new: bool, tmp_path: Path):
    path = save(tmp_path / "a.pkl", ARRAYS, 3)
    data = path.read_bytes().replace(b"numpy._core.", b"numpy.core.")
    assert b"numpy.core.multiarray" in data
    if new:
        data = data.replace(b"numpy.core.", b"numpy._core.")
    path.write_bytes(data)
    np.testing.assert_array_equal(look_into(path)["large"].read(path), ARRAYS["large"])


def test_tables_lists_texts_and_numbers_are_kept(tmp_path: Path):
    held = {"a": [1, -70_000, 2**70, 0.5, None, True, False], "é": ("x", (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))}
    held["many"] = [{"number": number} for number in range(3000)]
    held["same"] = held["a"]
    for protocol in (3, 4, 5):
        assert look_into(save(tmp_path / "a.pkl", held, protocol)) == held


def test_bytes_are_found_where_they_stand(tmp_path: Path):
    path = save(tmp_path / "a.pkl", [b"one", b"x" * 70_000, b""])
    found = look_into(path)
    assert all(isinstance(data, StoredBytes) for data in found)
    assert [data.read(path) for data in found] == [b"one", b"x" * 70_000, b""]


def test_a_pickle_of_gigabytes_is_listed_without_being_read(tmp_path: Path):
    start = pickle.dumps(np.zeros(8, np.uint8), 3)
    length = 3 * 2**30
    wide = start.replace(b"K\x08\x85", b"\x8a\x05" + length.to_bytes(5, "little") + b"\x85")
    payload = b"C\x08" + bytes(8)
    before, after = wide.split(payload)
    path = tmp_path / "a.pkl"
    with path.open("wb") as file:  # a file with a hole takes no room
        file.write(before + b"\x8e" + length.to_bytes(8, "little"))
        file.seek(length - 1, io.SEEK_CUR)
        file.write(b"\x07" + after)
    assert look_into(path).read(path, np.array([0, length - 1])).tolist() == [0, 7]


# ----------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_refused_and_not_run(protocol: int, tmp_path: Path):
    ran = tmp_path / "ran"
    path = save(tmp_path / "evil.pkl", poisoned(f"touch {ran}"), protocol)
    with pytest.raises(UnreadableVideo, match=r"evil\.pkl"):
        look_into(path)
    assert not ran.exists()
    if protocol >= 3:
        with pytest.raises(UnreadableVideo, match=r"names posix.system, which no array needs"):
            look_into(path)
    pickle.loads(path.read_bytes())
    assert ran.exists(), "the pickle would have run nothing anyway"


DISGUISED = {
    "a name inside an allowed module": b"cnumpy\nload\n.",
    "a name inside an allowed name": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
    "an array type that is called": b"cnumpy\nndarray\n(K\x02tR.",
    "an opcode that imports": b"\x80\x02(X\x01\x00\x00\x00aios\nsystem\n.",
    "an opcode that makes an object": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "a number that is called": b"K\x01)R.",
    "the state of a table": b"\x80\x04}}b.",
    "an item for a number": b"K\x01K\x02a.",
    "an extension": b"\x82\x01.",
    "a persistent name": b"Pfile\n.",
    "too little on the stack": b"\x87.",
    "nothing": b".",
    "no memo": b"h\x05.",
    "a list as a key": b"}]K\x01s.",
    "a text without end": b"\x8d" + (2**62).to_bytes(8, "little"),
    "bytes without end": b"\x8e" + (2**62).to_bytes(8, "little"),
    "no pickle": b"PK\x03\x04 a zip file",
    "an empty file": b"",
}


@pytest.mark.parametrize("name", DISGUISED)
def test_what_is_no_array_is_refused(name: str, tmp_path: Path):
    path = tmp_path / "evil.pkl"
    path.write_bytes(DISGUISED[name])
    with pytest.raises(UnreadableVideo, match=r"evil\.pkl"):
        look_into(path)


REFUSED = {
    "another class": (collections.OrderedDict(a=1), "names collections.OrderedDict"),
    "numbers that are complex": (np.zeros(2, np.complex64), "an array of type <c8"),
    "dates": (np.zeros(2, "datetime64[s]"), "an array of type"),
    "fields": (np.zeros(2, [("a", "i4")]), "an array of type"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_types_are_named(name: str, tmp_path: Path):
    held, reason = REFUSED[name]
    with pytest.raises(UnreadableVideo, match=reason):
        look_into(save(tmp_path / "a.pkl", held))


def test_arrays_whose_bytes_do_not_fit_their_shape_are_refused(tmp_path: Path):
    path = save(tmp_path / "a.pkl", np.zeros((2, 3), np.float32), 3)
    path.write_bytes(path.read_bytes().replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86"))
    with pytest.raises(UnreadableVideo, match=r"shape \(2, 4\) with 24 bytes: expected 32"):
        look_into(path)


def test_every_cut_is_noticed(tmp_path: Path):
    whole = pickle.dumps({"a": ARRAYS["pictures"], "b": [1, 2, "text"], "c": ARRAYS["bytes"]}, 4)
    path = tmp_path / "a.pkl"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UnreadableVideo, match=r"cut off|cannot be|not a pickle"):
            look_into(path)


def test_a_file_that_shrank_since_is_named(tmp_path: Path):
    path = save(tmp_path / "a.pkl", ARRAYS)
    held = look_into(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UnreadableVideo, match=r"a.pkl: it was cut off or changed"):
        held["large"].read(path)


def test_objects_are_listed_and_are_no_numbers(tmp_path: Path):
    path = save(tmp_path / "a.pkl", np.array([{"a": 1}, None], object))
    held = look_into(path)
    assert held.data == [{"a": 1}, None]
    with pytest.raises(TypeError, match="objects"):
        held.read(path)

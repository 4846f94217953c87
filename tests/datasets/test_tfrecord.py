"""TFRecord files: what was written is read, only that, and damage is named."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from fourd.datasets._tfrecord import Example, Record, find_records, masked_crc32c
from fourd.media import UnreadableVideo
from tests.datasets.files.movi import example, message, record, varint

FEATURES = {
    "name": [b"first", b"", b"third" * 100],
    "numbers": np.array([0, 1, 127, 128, 300, 2**40 + 5, -1, -(2**63), 2**63 - 1]),
    "shares": np.array([0.5, -1.25, 3e30, 0.0]),
    "nothing": np.zeros(0),
}


def write(path: Path, *payloads: bytes) -> Path:
    path.write_bytes(b"".join(record(payload) for payload in payloads))
    return path


@pytest.fixture(params=[True, False], ids=["packed", "singly"])
def read(request, tmp_path: Path) -> Example:
    [found] = find_records(write(tmp_path / "a.tfrecord", example(FEATURES, packed=request.param)))
    return Example(found)


def test_the_checksum_is_the_published_one():
    # CRC-32C of "123456789" is E3069283; TFRecord turns it by 15 bits and adds a constant
    crc = 0xE3069283
    assert masked_crc32c(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def test_records_are_found_without_reading_them(tmp_path: Path):
    path = write(tmp_path / "a.tfrecord", b"one", b"", b"three" * 1000)
    assert find_records(path) == (Record(path, 12, 3), Record(path, 31, 0), Record(path, 47, 5000))


def test_features_are_read_as_they_were_written(read: Example):
    assert set(read.names) == set(FEATURES)
    assert read.ints("numbers", (3, 3)).flatten().tolist() == FEATURES["numbers"].tolist()
    assert read.floats("shares", (2, -1)).tolist() == FEATURES["shares"].astype(np.float32).reshape(2, 2).tolist()
    assert read.blobs("name", [2, 0, 1, 0]) == [b"third" * 100, b"first", b"", b"first"]
    assert read.count("name") == 3
    assert read.floats("nothing", (-1, 4)).shape == (0, 4)


def test_only_what_is_asked_for_is_read(tmp_path: Path):
    features = {"large": [bytes(10**6)], "small": np.array([7])}
    path = write(tmp_path / "a.tfrecord", example(features))
    [found] = find_records(path)
    part = path.read_bytes()
    start = part.index(bytes(10**6))
    path.write_bytes(part[:start] + b"\xff" * 10**6 + part[start + 10**6 :])
    assert Example(found).ints("small", (1,)).tolist() == [7]


def test_unknown_fields_are_passed_over(tmp_path: Path):
    inner = message(1, b"x") + message(2, message(3, message(1, varint(5))))
    odd = varint(9 << 3) + varint(300) + varint(10 << 3 | 1) + bytes(8) + varint(11 << 3 | 5) + bytes(4)
    path = write(tmp_path / "a.tfrecord", odd + message(1, message(1, inner + odd) + message(7, b"?")))
    assert Example(find_records(path)[0]).ints("x", (1,)).tolist() == [5]


# ----------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (lambda read: read.ints("absent", (1,)), "feature 'absent': found none, expected a list of ints"),
        (
            lambda read: read.floats("numbers", (9,)),
            "feature 'numbers': found a list of ints, expected a list of floats",
        ),
        (lambda read: read.ints("numbers", (2, 4)), "feature 'numbers': found 9 values, expected as many as fit"),
        (lambda read: read.floats("shares", (-1, 3)), "feature 'shares': found 4 values, expected as many as fit"),
        (lambda read: read.blobs("name", [3]), "feature 'name': found 3 values, expected more than 3"),
    ],
)
def test_what_is_not_there_is_named(read: Example, ask, reason: str):
    with pytest.raises(UnreadableVideo, match=reason):
        ask(read)


def test_a_truncated_file_is_named(tmp_path: Path):
    path = write(tmp_path / "a.tfrecord", b"one", b"two" * 50)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(UnreadableVideo, match=r"record at byte 19 should end at 185, the file ends at 184: cut off"):
        find_records(path)
    path.write_bytes(whole[:25])
    with pytest.raises(UnreadableVideo, match="cut off within the length of the record at byte 19"):
        find_records(path)


def test_a_length_that_does_not_fit_its_checksum_is_named(tmp_path: Path):
    path = write(tmp_path / "a.tfrecord", b"one")
    path.write_bytes(struct.pack("<Q", 2**50) + path.read_bytes()[8:])
    with pytest.raises(UnreadableVideo, match=r"record at byte 0: its length is \d+, which its checksum does not fit"):
        find_records(path)


def test_an_empty_file_is_named(tmp_path: Path):
    with pytest.raises(UnreadableVideo, match="an empty file"):
        find_records(write(tmp_path / "a.tfrecord"))


@pytest.mark.parametrize("payload", [b"\x0a\xff\x01", b"\xff" * 12, b"\x0b\x01", message(1, message(1, b"\x0a\x7f"))])
def test_data_that_are_no_example_are_named(tmp_path: Path, payload: bytes):
    [found] = find_records(write(tmp_path / "a.tfrecord", payload))
    with pytest.raises(UnreadableVideo, match=r"a\.tfrecord\[byte 12\]: .* no tf\.train\.Example, or damaged"):
        Example(found)


def test_a_number_that_does_not_end_is_named(tmp_path: Path):
    entry = message(1, b"x") + message(2, message(3, message(1, b"\x05\x80")))
    [found] = find_records(write(tmp_path / "a.tfrecord", message(1, message(1, entry))))
    with pytest.raises(UnreadableVideo, match="feature 'x' holds a number that does not end"):
        Example(found).ints("x", (-1,))

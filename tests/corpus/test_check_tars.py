"""Tar files that anyone may have made are checked, and do no harm."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from fourd.corpus.check import subjects_of
from fourd.corpus.check.tars import Member, Refused, read_members
from tests.corpus.checking import checked
from tests.datasets.test_video_shards import encode

FILM = b"a film" * 100


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", **pax: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.pax_headers = kind, target, pax
    return made


def write_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def refused(path: Path) -> dict[str, str]:
    return {found.name: found.reason for found in read_members(path) if isinstance(found, Refused)}


def test_films_in_a_tar_file_are_checked_without_an_index(tmp_path: Path):
    film = encode(0)
    members = [("a.mp4", film), ("a.json", b"{}"), ("b.mp4", film[: len(film) // 2]), ("../c.mp4", film)]
    path = write_tar(tmp_path / "shard.tar", [(member(name), data) for name, data in members])
    result = checked(path)
    assert (result.report.num_usable, result.report.num_rows) == (1, 3)
    assert set(result.reasons) == {"shard.tar:b.mp4", "shard.tar:../c.mp4"}
    assert list(tmp_path.iterdir()) == [path]


def test_members_that_could_do_harm_are_refused(tmp_path: Path):
    members = [
        (member("../out.mp4"), FILM),
        (member("a/../../out.mp4"), FILM),
        (member("/etc/out.mp4"), FILM),
        (member("hidden", path="../pax.mp4"), FILM),
        (member("link.mp4", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (member("hard.mp4", tarfile.LNKTYPE, "/etc/passwd"), b""),
        (member("device.mp4", tarfile.CHRTYPE), b""),
        (member("pipe.mp4", tarfile.FIFOTYPE), b""),
        (member("folder", tarfile.DIRTYPE), b""),
        (member("twice.mp4"), FILM),
        (member("./twice.MP4"), FILM),
        (member("well.mp4"), FILM),
    ]
    found = read_members(write_tar(tmp_path / "shard.tar", members))
    assert [item.name for item in found if isinstance(item, Member)] == ["twice.mp4", "well.mp4"]
    assert Counter(item.reason for item in found if isinstance(item, Refused)) == {
        "its name leads out of the folder": 4,
        "not a plain file (a link, a device, with holes)": 4,
        "its name stands twice in the file": 1,
    }


@pytest.mark.parametrize("size", [10**12, 2**62])
def test_a_member_that_claims_more_than_is_there_is_refused(tmp_path: Path, size: int):
    info = tarfile.TarInfo("a.mp4")
    info.size = size
    path = tmp_path / "shard.tar"
    path.write_bytes(info.tobuf() + b"x" * 10_000)
    assert "bytes: expected at most" in refused(path)["a.mp4"]
    info.size = 20_000
    path.write_bytes(info.tobuf() + b"x" * 10_000)
    assert "beyond the end" in refused(path)["a.mp4"]


def test_a_negative_size_does_not_lead_in_a_circle(tmp_path: Path):
    path = write_tar(tmp_path / "shard.tar", [(member("a.mp4"), FILM)])
    header = bytearray(path.read_bytes()[:512])
    header[124:136] = (-1024).to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + path.read_bytes()[512:])
    assert refused(path)
    assert not any(isinstance(found, Member) for found in read_members(path))


def test_a_long_name_that_asks_for_all_memory_ends_a_worker_and_no_more(tmp_path: Path):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**45
    path = tmp_path / "shard.tar"
    path.write_bytes(info.tobuf() + bytes(2048))
    result = checked(path)
    assert (len(result.report.at_fault), result.report.is_well) == (1, False)


def test_headers_that_lead_on_to_headers_without_end_are_refused(tmp_path: Path):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 0
    path = tmp_path / "shard.tar"
    path.write_bytes(info.tobuf() * 5000 + bytes(1024))
    assert "damaged" in refused(path)[""]


def test_what_python_reads_over_without_a_word_is_told(tmp_path: Path):
    whole = write_tar(tmp_path / "a.tar", [(member(name), FILM) for name in ("a.mp4", "b.mp4")]).read_bytes()
    path = tmp_path / "shard.tar"
    damaged = bytearray(whole)
    damaged[512 + 1024 + 148] ^= 0xFF  # the second header's checksum
    for content, reason in (
        (bytes(damaged), "the header at byte 1536 is damaged"),
        (whole[:3072], "without the mark of its end"),
        (whole + whole, "something follows its end"),
    ):
        path.write_bytes(content)
        assert reason in refused(path)[""]
    path.write_bytes(whole)
    assert not refused(path)


def test_more_members_than_are_looked_at_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_tar(tmp_path / "a.tar", [(member(f"{number}.mp4"), FILM) for number in range(4)])
    monkeypatch.setattr("fourd.corpus.check.tars.MAX_MEMBERS", 3)
    assert refused(path) == {"": "more than 3 members: the rest is not looked at"}


def test_a_compressed_tar_and_what_is_none_are_at_fault(tmp_path: Path):
    packed = write_tar(tmp_path / "a.tar", [(member("a.mp4"), FILM)], "w:gz")
    (tmp_path / "b.tar").write_bytes(b"no tar file" * 1000)
    (tmp_path / "c.tar").write_bytes(b"")
    for path in (packed, tmp_path / "b.tar", tmp_path / "c.tar"):
        assert "no tar file, a compressed one, or damaged" in refused(path)[""]


def test_what_cannot_be_checked_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="index films first"):
        subjects_of([str(tmp_path)])
    with pytest.raises(FileNotFoundError, match="there is no"):
        subjects_of([str(tmp_path / "gone.parquet")])
    (tmp_path / "a.parquet").write_bytes(b"no Parquet")
    with pytest.raises(ValueError, match="is no Parquet file"):
        subjects_of([str(tmp_path / "a.parquet")])

"""Write a folder of damaged, odd and hostile films, and say what has to come of each.

`python -m tests.damaged_films FOLDER` writes it and lists it.
"""

from __future__ import annotations

import gzip
import os
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from PIL import Image

from tests.films import numbered_picture, truncate, write_film, write_sound

Outcome = Literal["usable", "damaged", "unusable"]


@dataclass(frozen=True)
class Specimen:
    """Say how a file is made and what has to come of it.

    outcome: damaged films are used up to the damage. reason: a regular expression of what is said of it.
    breaks: whether reading a clip from it may fail, which no look at its index tells.
    """

    name: str
    make: Callable[[Path], object]
    outcome: Outcome
    reason: str = ""
    breaks: bool = False


def write_corpus(folder: Path, specimens: tuple[Specimen, ...] | None = None) -> tuple[Specimen, ...]:
    """Write all files that this system can hold, and give those that were written."""
    folder.mkdir(parents=True, exist_ok=True)
    specimens = SPECIMENS if specimens is None else specimens
    for specimen in specimens:
        specimen.make(folder / specimen.name)
    return specimens


# ----------------------------------------------------------------------------- ways to make a file


def film(**form: Any) -> Callable[[Path], object]:
    """Write a sound film in the given form, with `tests.films.write_film`."""
    return lambda path: write_film(path, **form)


def content(data: bytes) -> Callable[[Path], object]:
    """Write the bytes that stand here."""
    return lambda path: path.write_bytes(data)


def changed(
    change: Callable[[bytearray], bytes | bytearray], suffix: str = "", **form: Any
) -> Callable[[Path], object]:
    """Write a sound film, and change its bytes."""

    def make(path: Path) -> None:
        hidden = path.with_name(f".whole{suffix or path.suffix}")
        path.write_bytes(change(bytearray(write_film(hidden, **form).read_bytes())))
        hidden.unlink()

    return make


def cut(share: float, **form: Any) -> Callable[[Path], object]:
    """Write the first part of a film's picture data."""

    def make(path: Path) -> None:
        hidden = path.with_name(f".whole{path.suffix}")
        truncate(write_film(hidden, **form), path, share)
        hidden.unlink()

    return make


def repacked(change: Callable[[list[av.Packet]], list[av.Packet]], **form: Any) -> Callable[[Path], object]:
    """Write the packets of a film anew, in their order of decoding, after they were changed."""

    def make(path: Path) -> None:
        hidden = path.with_name(f".whole{path.suffix}")
        with av.open(str(write_film(hidden, **form))) as source, av.open(str(path), "w") as sink:
            stream = sink.add_stream_from_template(source.streams.video[0])
            for packet in change([packet for packet in source.demux(video=0) if packet.size]):
                packet.stream = stream
                sink.mux(packet)
        hidden.unlink()

    return make


def with_packets_of_bytes(change: Callable[[bytes], bytes]) -> Callable[[list[av.Packet]], list[av.Packet]]:
    """Change the bytes of each packet, and keep its stamps."""

    def all_of_them(packets: list[av.Packet]) -> list[av.Packet]:
        new = []
        for packet in packets:
            other = av.Packet(change(bytes(packet)))
            other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
            other.is_keyframe, other.duration = packet.is_keyframe, packet.duration
            new.append(other)
        return new

    return all_of_them


# ----------------------------------------------------------------------------- changes to bytes


def first(share: float) -> Callable[[bytearray], bytearray]:
    """Keep the first part of a file."""
    return lambda data: data[: int(len(data) * share)]


def flip_bits(share: float, since: bytes, skip: int = 0) -> Callable[[bytearray], bytearray]:
    """Flip a share of all bits behind the bytes `since`, seeded."""

    def change(data: bytearray) -> bytearray:
        start = data.index(since) + len(since) + skip
        bits = np.unpackbits(np.frombuffer(data, np.uint8)[start:])
        bits ^= np.random.default_rng(0).random(len(bits)) < share
        return data[:start] + np.packbits(bits).tobytes()

    return change


def overwrite(*patches: tuple[bytes, int, bytes]) -> Callable[[bytearray], bytearray]:
    """Write bytes at a distance behind the name of an MP4's box, for each of (name, distance, bytes)."""

    def change(data: bytearray) -> bytearray:
        for name, distance, new in patches:
            start = data.index(name) + len(name) + distance
            data[start : start + len(new)] = new
        return data

    return change


def lose_ts_packets(data: bytearray) -> bytearray:
    """Leave out every seventh packet of the middle of an MPEG transport stream."""
    packets = [data[start : start + 188] for start in range(0, len(data), 188)]
    middle = range(len(packets) // 3, 2 * len(packets) // 3)
    return bytearray().join(p for number, p in enumerate(packets) if number not in middle or number % 7)


def name_another_file(data: bytearray) -> bytearray:
    """Let an MP4's data lie in another file: its `url ` entry becomes an alias that names the film beside it."""
    url = data.index(b"url ") - 4
    name = b"/rotated-0.mp4"
    path = struct.pack(">hh", 2, len(name)) + name + struct.pack(">hh", -1, 0)
    alias = bytes(10) + b"\4Disk".ljust(28, b"\0") + bytes(12) + b"\rrotated-0.mp4".ljust(64, b"\0") + bytes(16)
    alias += struct.pack(">hh", 1, 1) + bytes(16) + path
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        size = data.index(parent) - 4
        data[size : size + 4] = (int.from_bytes(data[size : size + 4]) + len(entry) - 12).to_bytes(4)
    return data[:url] + entry + data[url + 12 :]


def nest_boxes(data: bytearray) -> bytes:
    """Put thousands of boxes into one another before the film's own, each of which holds no more than the next."""
    depth = 5000
    nest = b"".join(struct.pack(">I4s", 8 * (depth - level), b"moov") for level in range(depth))
    return bytes(data[:32]) + nest + bytes(data[32:])


def empty_boxes(data: bytearray) -> bytes:
    """Write an MP4 of nothing but empty boxes behind its name."""
    return bytes(data[:32]) + b"".join(struct.pack(">I4s", 8, name) for name in (b"moov", b"trak", b"mdia") * 500)


# ----------------------------------------------------------------------------- pictures larger than they may be


def large_sps(data: bytes) -> bytes:
    """Put an H.264 header for 16000 x 16000 pixels where a stream's own stands."""
    start = data.find(b"\x00\x00\x01\x67")
    if start < 0:
        return data
    end = data.index(b"\x00\x00\x01", start + 4)
    side = _exp_golomb(16000 // 16 - 1)
    bits = _exp_golomb(0) * 3 + _exp_golomb(2) + _exp_golomb(1) + "0" + side * 2 + "1100" + "1"
    bits += "0" * (-len(bits) % 8)
    sps = b"\x00\x00\x01\x67" + bytes([66, 0, 62]) + int(bits, 2).to_bytes(len(bits) // 8)
    return data[:start] + sps + data[end:]


def _exp_golomb(number: int) -> str:
    code = f"{number + 1:b}"
    return "0" * (len(code) - 1) + code


def large_jpeg(data: bytes) -> bytes:
    """Let a JPEG claim 65500 x 65500 pixels."""
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + struct.pack(">HH", 65500, 65500) + data[start + 4 :]


def large_png(data: bytes) -> bytes:
    """Let a PNG claim 30000 x 30000 pixels."""
    start = data.index(b"IHDR") + 4
    return data[:start] + struct.pack(">II", 30000, 30000) + data[start + 8 :]


def large_vp8(data: bytes) -> bytes:
    """Let a VP8 key frame claim 16383 x 16383 pixels."""
    return data if data[0] & 1 else data[:6] + struct.pack("<HH", 16383, 16383) + data[10:]


# ----------------------------------------------------------------------------- changes to packets


def with_stamps(stamp: Callable[[int], int | None]) -> Callable[[list[av.Packet]], list[av.Packet]]:
    """Give the n-th packet the n-th stamp."""

    def change(packets: list[av.Packet]) -> list[av.Packet]:
        for number, packet in enumerate(packets):
            packet.pts = packet.dts = stamp(number)
        return packets

    return change


def without_first_key(packets: list[av.Packet]) -> list[av.Packet]:
    """Leave out the key frame at the start, as a recording that begins anywhere does."""
    return packets[1:]


# ----------------------------------------------------------------------------- files of other kinds


def picture(kind: str) -> Callable[[Path], object]:
    """Write a still picture."""
    return lambda path: Image.new("RGB", (64, 48)).save(path, format=kind)


def write_with_alpha(path: Path) -> None:
    """Write pictures that are half transparent, PNG by PNG."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgba"
        for index in range(20):
            rgba = np.dstack([numbered_picture(index, (64, 48)), np.full((48, 64), 128, np.uint8)])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba")))
        container.mux(stream.encode(None))


def write_two_sizes(path: Path) -> None:
    """Write a film whose picture changes its size in the middle."""
    parts = [write_film(path.with_name(f".{width}.ts"), 20, size=(width, 48)) for width in (64, 128)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()


def write_fragments(path: Path) -> Path:
    """Write an MP4 in fragments, as cameras and streaming do."""
    whole = write_film(path.with_name(".whole.mp4"))
    with (
        av.open(str(whole)) as source,
        av.open(str(path), "w", options={"movflags": "frag_keyframe+empty_moov"}) as sink,
    ):
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                sink.mux(packet)
    whole.unlink()
    return path


def write_fragments_that_lie(path: Path) -> None:
    """Write an MP4 in fragments, the first of which claims frames without number."""
    path.write_bytes(
        overwrite((b"trun", 4, struct.pack(">I", 80_000_000)))(bytearray(write_fragments(path).read_bytes()))
    )


def hide_samples(data: bytearray) -> bytearray:
    """Claim seventy thousand frames of one byte, of which the edit list shows those that were there before."""
    number = 70_000
    count = struct.pack(">I", number)
    data = overwrite((b"stsz", 4, struct.pack(">I", 1) + count), (b"stts", 8, count), (b"stsc", 12, count))(data)
    return data + bytes(number)


def write_with_sound(path: Path, codec: str = "pcm_s16le") -> None:
    """Write one second of a film with 48000 instants of sound, uncompressed as cameras record it."""
    with av.open(str(path), "w") as container:
        film, sound = container.add_stream("libx264", rate=25), container.add_stream(codec, rate=48000)
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        for index in range(25):
            container.mux(film.encode(av.VideoFrame.from_ndarray(numbered_picture(index, (64, 48)), format="rgb24")))
            instants = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 1920), np.int16), "s16", "stereo")
            instants.sample_rate, instants.pts = 48000, 1920 * index
            container.mux(sound.encode(instants))
        container.mux(film.encode(None))
        container.mux(sound.encode(None))


def write_symlink_out(path: Path) -> None:
    """Point out of the folder, at a film."""
    path.symlink_to(write_film(path.resolve().parent.parent / f"{path.parent.name}-outside.mp4"))


def write_forbidden(path: Path) -> None:
    """Write a film that nobody may read."""
    write_film(path).chmod(0)


def playlist(*names: str, head: str = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n", line: str = "#EXTINF:1,\n{}\n") -> Any:
    """Write a text that names films, or what else lies on the machine."""
    return lambda path: path.write_text(head + "".join(line.format(name) for name in names))


HLS_HEAD = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n"
SMALL: Mapping[str, Any] = {"num_frames": 40}
ONE_KEY: Mapping[str, Any] = {"gop": 250, "options": {"sc_threshold": "0"}}
QUIET: Mapping[str, Any] = {"codec": "libx265", "options": {"x265-params": "log-level=0:pools=1:frame-threads=1"}}

SPECIMENS = (
    # nothing, or not a film
    Specimen("zero-bytes.mp4", content(b""), "unusable", r"empty file \(0 bytes\)"),
    Specimen("one-byte.mp4", content(b"\0"), "unusable", "not a media file"),
    Specimen("text.mp4", content(b"This is no film.\n" * 20), "unusable", "not a media file"),
    Specimen("random.mp4", content(np.random.default_rng(0).bytes(100_000)), "unusable", "not a (media file|film)"),
    Specimen("random-with-header.mp4", changed(flip_bits(0.5, b"ftyp", 24)), "unusable", "not a media file|moov"),
    Specimen("picture.mp4", picture("png"), "unusable", "not a film"),
    Specimen("photo.mp4", picture("jpeg"), "unusable", "not a film"),
    Specimen("moving-picture.mp4", picture("gif"), "unusable", "not a film"),
    Specimen("sound-only.mp4", write_sound, "unusable", r"no video stream \(sound only\)"),
    Specimen("compressed.mp4", content(gzip.compress(bytes(2**24))), "unusable", "not a (media file|film)"),
    Specimen("notes.txt", content(b"no film"), "unusable", "not a video file"),
    # cut off
    Specimen("cut-10.mp4", changed(first(0.1)), "unusable", "truncated|not a media file"),
    Specimen("cut-50.mp4", changed(first(0.5)), "unusable", "moov"),
    Specimen("cut-95.mp4", changed(first(0.95)), "unusable", "not a media file"),
    Specimen("cut-99.mp4", changed(first(0.99)), "usable"),
    Specimen("no-moov.mp4", changed(overwrite((b"moov", -4, b"junk"))), "unusable", "moov"),
    Specimen("cut-10-index-first.mp4", cut(0.1, index_first=True), "damaged", r"\d of 40 frames intact"),
    Specimen("cut-50-index-first.mp4", cut(0.5, index_first=True), "damaged", r"\d+ of 40 frames intact"),
    Specimen("cut-99-index-first.mp4", cut(0.99, index_first=True), "damaged", r"\d+ of 40 frames intact"),
    Specimen("cut.avi", cut(0.5, codec="mpeg4", b_frames=0), "damaged", "frames intact"),
    Specimen("cut.mkv", cut(0.5), "damaged", "frames intact"),
    Specimen("cut.ts", changed(first(0.5)), "usable"),
    # damaged within
    Specimen("flipped.mp4", changed(flip_bits(0.001, b"mdat", 1000), index_first=True), "usable", breaks=True),
    Specimen("flipped-all.mp4", changed(flip_bits(0.001, b"mdat"), index_first=True), "usable", breaks=True),
    Specimen("flipped.mkv", changed(flip_bits(0.001, b"Lavf", 600)), "usable", breaks=True),
    Specimen(
        "flipped.avi", changed(flip_bits(0.001, b"movi", 600), codec="mpeg4"), "damaged", "frames intact", breaks=True
    ),
    Specimen("flipped.ts", changed(flip_bits(0.001, b"Service", 600)), "damaged", "frames intact", breaks=True),
    Specimen("lost-packets.ts", changed(lose_ts_packets, num_frames=120), "damaged", "frames intact"),
    # lies about its size
    Specimen("wide-header.mp4", changed(overwrite((b"avc1", 24, b"\x40\0\x40\0"))), "usable"),
    Specimen("wide-sps.ts", repacked(with_packets_of_bytes(large_sps)), "unusable", "16000x16000 pixels"),
    Specimen(
        "wide-jpeg.mov",
        repacked(
            with_packets_of_bytes(large_jpeg),
            codec="mjpeg",
            b_frames=0,
            pix_fmt="yuvj420p",
            options={"color_range": "pc"},
        ),
        "unusable",
        "cannot be decoded",
    ),
    Specimen(
        "wide-png.mov",
        repacked(with_packets_of_bytes(large_png), codec="png", pix_fmt="rgb24"),
        "unusable",
        "cannot be decoded",
    ),
    Specimen(
        "wide-vp8.webm", repacked(with_packets_of_bytes(large_vp8), codec="libvpx", b_frames=0), "unusable", "decod"
    ),
    Specimen("two-sizes.ts", write_two_sizes, "damaged", "frames intact"),
    # lies about its length
    Specimen("year.mp4", changed(overwrite((b"mvhd", 16, b"\xff" * 4), (b"mdhd", 16, b"\xff" * 4))), "usable"),
    Specimen("slow.mp4", changed(overwrite((b"stts", 8, b"\0\0\0\x28\x7f\xff\xff\xff"))), "usable"),
    Specimen("many-frames.mp4", changed(overwrite((b"stts", 8, b"\x3b\x9a\xca\0"))), "usable"),
    Specimen("many-offsets.mp4", changed(overwrite((b"ctts", 8, b"\x3b\x9a\xca\0"))), "usable", breaks=True),
    Specimen(
        "far-stamps.mkv",
        repacked(with_stamps(lambda n: 40 * n + 2**50 * (n > 20)), b_frames=0),
        "unusable",
        "span 13031249 days",
    ),
    Specimen("many-samples-in-fragments.mp4", write_fragments_that_lie, "unusable", "claims 800000(00|36) pieces"),
    Specimen(
        "many-samples.mp4", changed(overwrite((b"stsz", 8, b"\x3b\x9a\xca\0"))), "unusable", "claims 1000000000 pieces"
    ),
    Specimen(
        "many-equal-samples.mp4",
        changed(overwrite((b"stsz", 4, struct.pack(">II", 1, 80_000_000)))),
        "unusable",
        "claims 800000(00|36) pieces",
    ),
    Specimen(
        "huge-sample.mp4",
        changed(overwrite((b"stsz", 12, b"\x7f\xff\xff\xff"))),
        "unusable",
        "packet of 2147483647 bytes",
    ),
    Specimen(
        "long-description.mp4",
        changed(overwrite((b"stsd", 8, struct.pack(">I", 2**30 + 158)))),
        "unusable",
        "ends within",
    ),
    Specimen(
        "large-sample.mp4",
        changed(overwrite((b"stsz", 12 + 4 * 14, struct.pack(">I", 2**29)))),
        "unusable",
        "packet of 536870912",
    ),
    Specimen("hidden-frames.mp4", changed(hide_samples, b_frames=0), "unusable", "hides more than 65536 frames"),
    Specimen("huge-box.mp4", changed(overwrite((b"moov", -8, b"\x7f\xff\xff\xff"))), "usable"),
    Specimen("nested-boxes.mp4", changed(nest_boxes), "unusable", "not a media file"),
    Specimen("empty-boxes.mp4", changed(empty_boxes), "unusable", "no video stream"),
    # odd, but sound
    Specimen("one-frame.mp4", film(num_frames=1), "usable"),
    Specimen("fifteen-frames.mp4", film(num_frames=15), "usable"),
    Specimen("variable-rate.mp4", film(times_s=np.cumsum(np.linspace(0.01, 0.2, 40)).tolist()), "usable"),
    Specimen("rotated-90.mp4", film(rotation=90), "usable"),
    Specimen("rotated-180.mp4", film(rotation=180), "usable"),
    Specimen("rotated-270.mp4", film(rotation=270), "usable"),
    Specimen("rotated-0.mp4", film(), "usable"),
    Specimen("rotated-30.mp4", film(rotation=30), "unusable", "only quarter turns"),
    Specimen("mirrored.mp4", film(mirrored=True), "unusable", "mirrored"),
    Specimen("odd-size.mp4", film(size=(33, 17), pix_fmt="yuv444p"), "usable"),
    Specimen("ten-bits.mp4", film(pix_fmt="yuv420p10le", **QUIET), "usable"),
    Specimen("grey.mp4", film(pix_fmt="gray"), "usable"),
    Specimen("alpha.mov", write_with_alpha, "usable"),
    Specimen("prores-4444.mov", film(codec="prores_ks", pix_fmt="yuva444p10le", options={"profile": "4444"}), "usable"),
    Specimen("interlaced.mp4", film(options={"x264-params": "interlaced=1"}), "usable"),
    Specimen(
        "av1.mp4", film(codec="libsvtav1", b_frames=0, options={"preset": "12", "svtav1-params": "lp=1"}), "usable"
    ),
    Specimen("vp9.webm", film(codec="libvpx-vp9", options={"cpu-used": "8"}), "usable"),
    Specimen("hevc.mp4", film(**QUIET), "usable"),
    Specimen("lossless.mkv", film(codec="ffv1", b_frames=0), "usable"),
    Specimen("broadcast.mpg", film(codec="mpeg2video"), "usable"),
    Specimen("with-sound.mov", write_with_sound, "usable"),
    Specimen("fragments.mp4", write_fragments, "usable"),
    Specimen("matroska.mp4", changed(bytes, ".mkv"), "usable"),
    Specimen("cut-by-edit-list.mp4", film(first_s=-0.52), "usable"),
    Specimen("negative-stamps.mkv", repacked(with_stamps(lambda n: 40 * n - 400), b_frames=0), "usable"),
    Specimen("equal-stamps.mkv", repacked(with_stamps(lambda n: 80 * (n // 2)), b_frames=0), "usable"),
    Specimen("open-groups.ts", film(options={"x264-params": "open-gop=1:keyint=10:bframes=3"}), "usable"),
    Specimen("no-key-frame-first.ts", repacked(without_first_key), "damaged", "lack a key frame"),
    Specimen("one-key-frame.mp4", film(num_frames=240, size=(32, 32), **ONE_KEY), "usable"),
    # names
    Specimen("Привет 世界 🎬.mp4", film(), "usable"),
    Specimen("two\nlines.mp4", film(), "usable"),
    Specimen("-y.mp4", film(), "usable"),
    Specimen(" with spaces .mp4", film(), "usable"),
    Specimen("file:%d*?[a]'\"$(x).mp4", film(), "usable"),
    # reach for something else
    Specimen(
        "playlist.mp4",
        playlist("file:///etc/passwd", "rotated-0.mp4", head=HLS_HEAD),
        "unusable",
        "not a (media file|film)",
    ),
    Specimen(
        "playlist.ts", playlist("http://127.0.0.1:9/film.ts", head=HLS_HEAD), "unusable", "not a (media file|film)"
    ),
    Specimen(
        "concat.mp4",
        playlist("rotated-0.mp4", "file:///etc/passwd", head="ffconcat version 1.0\n", line="file {}\n"),
        "unusable",
        "not a film",
    ),
    Specimen("external-data.mov", changed(name_another_file), "unusable", "no decoder"),
)

if hasattr(os, "mkfifo"):
    SPECIMENS += (
        Specimen("link-out.mp4", write_symlink_out, "unusable", "symbolic link"),
        Specimen("pipe.mp4", os.mkfifo, "unusable", "not a regular file"),
    )
if hasattr(os, "getuid") and os.getuid() != 0:
    SPECIMENS += (Specimen("forbidden.mp4", write_forbidden, "unusable", "permission denied"),)


if __name__ == "__main__":
    for written in write_corpus(Path(sys.argv[1])):
        print(f"{written.outcome:9}{written.name!r:32}{written.reason}")

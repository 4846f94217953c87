"""Encode one span of a film: its pieces, one after the other in one file, and a row for each. It needs no torch."""

from __future__ import annotations

import time
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from av.video.frame import VideoFrame
from jaxtyping import UInt8

from fourd.corpus.prepare.config import PrepareConfig
from fourd.corpus.prepare.looks import HASH_BYTES, look_bits, motion
from fourd.corpus.prepare.pictures import Shrinker
from fourd.corpus.prepare.piece_file import PieceFile
from fourd.corpus.prepare.plan import PiecePlan, Span, is_short, piece_key, piece_plan, source_frames
from fourd.corpus.prepare.sources import checked_source
from fourd.media import UnreadableVideo
from fourd.media.frames import decode_span

TOO_SHORT = "too short"


@dataclass(frozen=True)
class SpanJob:
    """Say what to encode: a span of a film below `root`, into a file at `path` and others beside it."""

    root: str
    span: Span
    config: PrepareConfig
    path: Path


@dataclass(frozen=True)
class PieceRow:
    """Say what became of a piece. `dropped` and `unusable` hold the reason why it is not there, or nothing."""

    key: str
    path: str
    number: int
    start_s: float
    num_frames: int
    dropped: str | None = None
    unusable: str | None = None
    width: int = 0
    height: int = 0
    offset: int = 0
    num_bytes: int = 0
    crc32: int = 0
    motion: float = 0.0
    looks: bytes = bytes(HASH_BYTES)


@dataclass(frozen=True)
class SpanResult:
    """Hold the rows of a span, and how many seconds of a processor it took."""

    rows: tuple[PieceRow, ...]
    cpu_s: float


def encode_span(job: SpanJob) -> SpanResult:
    """Encode all pieces of a span up to its end, or to the first damage; what lies behind is listed as unusable."""
    started = time.process_time()
    with job.path.open("wb") as out:
        rows = tuple(_rows(job, out))
    return SpanResult(rows, time.process_time() - started)


def unusable_span(span: Span, config: PrepareConfig, reason: str) -> tuple[PieceRow, ...]:
    """Make the rows of a span of which nothing can be used."""
    rows = [_row(span, plan) for plan in _plans(span, config)]
    short = [is_short(row.num_frames, config) for row in rows]
    return tuple(
        replace(row, dropped=TOO_SHORT) if too_short else replace(row, unusable=reason)
        for row, too_short in zip(rows, short, strict=True)
    )


def _plans(span: Span, config: PrepareConfig) -> list[PiecePlan]:
    assert span.film.info is not None
    return [piece_plan(span.film.info, number, config) for number in range(span.first, span.stop)]


def _rows(job: SpanJob, out: BinaryIO) -> Iterator[PieceRow]:
    problem = None
    with closing(_Pictures(job)) as pictures:
        for plan in _plans(job.span, job.config):
            if is_short(plan.num_frames, job.config):
                yield replace(_row(job.span, plan), dropped=TOO_SHORT)
            elif problem is not None:
                yield replace(_row(job.span, plan), unusable=problem)
            else:
                row = _encoded(job, plan, pictures, out)
                problem = row.unusable
                yield row


def _row(span: Span, plan: PiecePlan) -> PieceRow:
    path = span.film.path
    return PieceRow(piece_key(path, plan.number), path, plan.number, plan.start_s, plan.num_frames)


def _encoded(job: SpanJob, plan: PiecePlan, pictures: _Pictures, out: BinaryIO) -> PieceRow:
    """Encode a piece, or the part of it before the first damage, and append it to `out` if it is long enough."""
    aside, row = job.path.with_name(f"{job.path.name}.mp4"), _row(job.span, plan)
    every, greys, problem = max(1, round(job.config.fps / 2)), [], None
    with closing(PieceFile(aside, pictures.size, job.config)) as piece:
        try:
            for number in source_frames(pictures.info, plan, job.config).tolist():
                piece.add(pictures.at(number))
                if (piece.num_frames - 1) % every == 0:
                    greys.append(pictures.grey())
        except UnreadableVideo as error:
            problem = error.reason
    if problem is not None and (not piece.num_frames or is_short(piece.num_frames, job.config)):
        return replace(row, unusable=problem)
    width, height = pictures.size
    row = replace(row, num_frames=piece.num_frames, width=width, height=height, unusable=problem)
    row = replace(row, motion=motion(np.stack(greys)), looks=look_bits(np.stack(greys)))
    offset = out.tell()
    num_bytes, crc32 = _append(aside, out)
    return replace(row, offset=offset, num_bytes=num_bytes, crc32=crc32)


def _append(aside: Path, out: BinaryIO) -> tuple[int, int]:
    """Move a file's bytes to the end of another, and say how many they are, and their checksum."""
    crc32 = num_bytes = 0
    with aside.open("rb") as piece:
        while block := piece.read(2**20):
            crc32, num_bytes = zlib.crc32(block, crc32), num_bytes + out.write(block)
    return num_bytes, crc32


class _Pictures:
    """Give the pictures of a film that a span needs, by the numbers of frames, which must not fall."""

    def __init__(self, job: SpanJob) -> None:
        assert job.span.film.info is not None
        self.info = job.span.film.info
        self._film, self._root = job.span.film, job.root
        self._shrinker = Shrinker(job.span.film.path, self.info, job.config.short_side)
        self.size = self._shrinker.size
        plans = [plan for plan in _plans(job.span, job.config) if not is_short(plan.num_frames, job.config)]
        self._wanted = [source_frames(self.info, plan, job.config) for plan in plans]
        self._frames = self._decoded()
        self._number = -1
        self._picture: VideoFrame | None = None

    def _decoded(self) -> Generator[tuple[int, VideoFrame], None, None]:
        source = checked_source(self._root, self._film)
        with closing(decode_span(source, self.info, np.unique(np.concatenate(self._wanted)), num_threads=1)) as frames:
            yield from frames

    def at(self, number: int) -> VideoFrame:
        """Give the picture of a frame; raise UnreadableVideo where it cannot be had."""
        while self._number < number:
            self._number, frame = next(self._frames)
            self._picture = self._shrinker.shrink(frame)
        assert self._picture is not None
        return self._picture

    def grey(self) -> UInt8[np.ndarray, "32 32"]:
        """Give the last picture small and grey."""
        assert self._picture is not None
        return self._shrinker.grey(self._picture)

    def close(self) -> None:
        """Close the film."""
        self._frames.close()

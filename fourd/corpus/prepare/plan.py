"""Cut films into pieces, and gather pieces into work items. All of it is a function of the index and the config."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from fourd.corpus.prepare.config import PrepareConfig
from fourd.index.films import Film
from fourd.media import VideoInfo

_ROUNDING_S = 1e-6

_MOST_REPEATS = 100
"""How often the frames of a film may be shown, on average, at the corpus's rate. A file of a few KB can claim a gap of
years, which would be encoded frame by frame. Not from the paper."""


@dataclass(frozen=True)
class PiecePlan:
    """Say which part of a film a piece shows: `num_frames` frames at the corpus's rate from `start_s` on."""

    number: int
    start_s: float
    num_frames: int


@dataclass(frozen=True)
class Span:
    """Name pieces of one film that follow each other: those numbered `first` up to `stop`, which is not among them."""

    film: Film
    first: int
    stop: int


@dataclass(frozen=True)
class Item:
    """Hold what is worked on in one go."""

    number: int
    spans: tuple[Span, ...]


def piece_key(path: str, number: int) -> str:
    """Name a piece for good, without a dot, since WebDataset takes the key to end at the first."""
    return f"{hashlib.sha256(path.encode()).hexdigest()[:20]}-{number:05d}"


def why_unusable(num_frames: int, last_s: float, config: PrepareConfig) -> str | None:
    """Say why a film that can be read is of no use: it is almost all gap; None where it is of use."""
    if last_s * config.rate <= _MOST_REPEATS * num_frames:
        return None
    return (
        f"{num_frames} frames in {last_s:.0f} s: at {config.fps:g} a second each would be shown more than "
        f"{_MOST_REPEATS} times"
    )


def num_pieces(info: VideoInfo, config: PrepareConfig) -> int:
    """Count the pieces of a film, a short one at its end among them."""
    return 1 if config.piece_s is None else int((_last_s(info) + _ROUNDING_S) / config.piece_s) + 1


def piece_plan(info: VideoInfo, number: int, config: PrepareConfig) -> PiecePlan:
    """Plan a piece: its frames are evenly spaced, and none lies behind the film's last."""
    start_s = 0.0 if config.piece_s is None else number * config.piece_s
    there = math.floor((_last_s(info) - start_s + _ROUNDING_S) * config.rate) + 1
    if config.piece_s is None:
        return PiecePlan(number, start_s, there)
    return PiecePlan(number, start_s, min(there, math.ceil((config.piece_s - _ROUNDING_S) * config.rate)))


def source_frames(info: VideoInfo, piece: PiecePlan, config: PrepareConfig) -> Int64[np.ndarray, " n"]:
    """Find the number of the frame nearest to each time of a piece; the earlier one where two are equally near."""
    film_s = info.frame_times_s
    times_s = piece.start_s + np.arange(piece.num_frames) / float(config.rate)
    return np.searchsorted((film_s[:-1] + film_s[1:]) / 2, times_s - _ROUNDING_S).astype(np.int64)


def is_short(num_frames: int, config: PrepareConfig) -> bool:
    """Tell whether a piece is too short to be kept."""
    return num_frames < config.min_piece_s * config.rate


def spans_of(film: Film, config: PrepareConfig) -> Iterator[Span]:
    """Cut a film into spans of about an item's length, where decoding can start not far before the cut."""
    assert film.info is not None  # films that cannot be used have no spans
    total, first = num_pieces(film.info, config), 0
    if config.piece_s is not None:
        step = max(1, int(config.item_s // config.piece_s))
        for cut in range(step, total, step):
            if _is_cheap_cut(film.info, cut * config.piece_s, config):
                yield Span(film, first, cut)
                first = cut
    yield Span(film, first, total)


def _is_cheap_cut(info: VideoInfo, cut_s: float, config: PrepareConfig) -> bool:
    """Tell whether a second worker would decode little twice; in a film without key frames it would decode all."""
    keys_s = (info.key_pts - info.pts[0]) * float(info.time_base)
    return bool(cut_s - keys_s[np.searchsorted(keys_s, cut_s, side="right") - 1] <= config.item_s / 2)


def items_of(films: Iterable[Film], config: PrepareConfig) -> Iterator[Item]:
    """Gather the spans of films, in their order, until an item has its length."""
    number, gathered, seconds = 0, list[Span](), 0.0
    for film in films:
        for span in spans_of(film, config):
            gathered.append(span)
            seconds += span_s(span, config)
            if seconds >= config.item_s:
                yield Item(number, tuple(gathered))
                number, gathered, seconds = number + 1, [], 0.0
    if gathered:
        yield Item(number, tuple(gathered))


def span_s(span: Span, config: PrepareConfig) -> float:
    """Say how many seconds of film a span has."""
    assert span.film.info is not None
    last = piece_plan(span.film.info, span.stop - 1, config)
    first_s = 0.0 if config.piece_s is None else span.first * config.piece_s
    return last.start_s - first_s + float(last.num_frames / config.rate)


def _last_s(info: VideoInfo) -> float:
    return float((info.pts[-1] - info.pts[0]) * info.time_base)

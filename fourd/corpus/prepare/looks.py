"""How a piece looks, from small grey pictures: how much moves in it, and a few bits that similar pieces share.

Both are measures of our own making on standard ideas: the mean difference of neighbouring pictures, and signs of low
frequencies of a cosine transform (a "perceptual hash").
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64, UInt8

SIDE = 32
"""Pixels of a small picture's sides."""

HASH_BYTES = 32
_PICTURES, _FREQUENCIES = 4, 8
_DEAD_ZONE = 1.0
"""Grey levels; a frequency that is weaker counts as absent, so that flat pictures all look the same."""


def _cosines() -> Float[np.ndarray, "8 32"]:
    places = (np.arange(SIDE) + 0.5) / SIDE
    return np.cos(np.pi * np.arange(_FREQUENCIES)[:, None] * places) * np.sqrt(2) / SIDE


def motion(greys: UInt8[np.ndarray, "S 32 32"]) -> float:
    """Give the median, over neighbouring pictures, of the mean difference of their pixels, in grey levels (of 255).

    The median, so that a slide show does not count as moving because of its few changes. One picture has 0.
    """
    if len(greys) < 2:
        return 0.0
    changes = np.abs(np.diff(greys.astype(np.int16), axis=0)).mean((1, 2))
    return float(np.median(changes))


def look_bits(greys: UInt8[np.ndarray, "S 32 32"]) -> bytes:
    """Say in 256 bits how a piece looks: of four pictures, which of the 64 lowest frequencies are positive.

    The lowest of all, the mean brightness, counts as positive above mid-grey.
    """
    places = (2 * np.arange(_PICTURES) + 1) * len(greys) // (2 * _PICTURES)
    cosines = _cosines()
    strength = cosines @ (greys[places].astype(np.float64) - 128.0) @ cosines.T
    return np.packbits(strength > _DEAD_ZONE).tobytes()


def earlier_duplicate(looks: UInt8[np.ndarray, "n 32"], max_bits: int) -> Int64[np.ndarray, " n"]:
    """Give, for each piece, the first kept piece before it whose look differs in at most `max_bits` bits; -1 if none.

    A piece that has one is not kept itself. Where at most `max_bits` differ, one of `max_bits + 1` bands of bytes is
    equal, so only pieces that share a band are compared, and none is missed.
    """
    unique, first, copy_of = np.unique(looks, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # the different looks, in the order in which they come first
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    nearest = _greedy(len(order), _close_pairs(unique[order], max_bits))
    firsts = first[order]
    kept = np.where(nearest < 0, np.arange(len(order)), nearest)[rank[copy_of.reshape(-1)]]
    found = firsts[kept] if len(kept) else np.empty(0, np.int64)
    return np.where(found == np.arange(len(looks)), -1, found)


def _greedy(count: int, pairs: Int64[np.ndarray, "p 2"]) -> Int64[np.ndarray, " count"]:
    """Go through things in order, and drop each that has an earlier neighbour which was kept."""
    nearest = np.full(count, -1, np.int64)
    for later, earlier in sorted(map(tuple, pairs[:, ::-1].tolist())):
        if nearest[later] < 0 and nearest[earlier] < 0:
            nearest[later] = earlier
    return nearest


def _close_pairs(looks: UInt8[np.ndarray, "n 32"], max_bits: int) -> Int64[np.ndarray, "p 2"]:
    """List all pairs (earlier, later) that differ in at most `max_bits` bits."""
    pairs = [np.empty((0, 2), np.int64)]
    for band in np.array_split(np.arange(HASH_BYTES), max_bits + 1):
        values = np.unique(looks[:, band], axis=0, return_inverse=True)[1].reshape(-1)
        order = np.argsort(values, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(values[order])) + 1):
            pairs += _close_in_group(looks, group, max_bits) if len(group) > 1 else []
    return np.unique(np.concatenate(pairs), axis=0)


def _close_in_group(
    looks: UInt8[np.ndarray, "n 32"], group: Int64[np.ndarray, " g"], max_bits: int
) -> list[Int64[np.ndarray, "p 2"]]:
    """Compare each member of a group with those behind it."""
    found, members = [], looks[group]
    for place in range(len(group) - 1):
        bits = np.bitwise_count(members[place + 1 :] ^ members[place]).sum(1)
        near = group[place + 1 :][bits <= max_bits]
        found.append(np.stack([np.full(len(near), group[place]), near], 1))
    return found


def bits_apart(a: bytes, b: bytes) -> int:
    """Count the bits in which two looks differ."""
    return int(np.bitwise_count(np.frombuffer(a, np.uint8) ^ np.frombuffer(b, np.uint8)).sum())

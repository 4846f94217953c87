"""A keyed permutation of any number of places, in constant memory."""

from __future__ import annotations

_NUM_ROUNDS = 6
_64_BITS = (1 << 64) - 1


def permute(index: int, size: int, key: tuple[int, int]) -> int:
    """Send `index` to its place in a keyed permutation of `size` numbers, in constant memory.

    A Feistel network over the next power of four, walked along its cycle until it lands inside.
    """
    half_bits = _half_bits(size)
    while True:
        index = _feistel(index, half_bits, key, range(_NUM_ROUNDS))
        if index < size:
            return index


def unpermute(place: int, size: int, key: tuple[int, int]) -> int:
    """Say which index `permute` sends to `place`."""
    half_bits = _half_bits(size)
    low = (1 << half_bits) - 1
    while True:
        # the same network with its halves swapped and its rounds in reverse undoes it
        swapped = (place & low) << half_bits | place >> half_bits
        undone = _feistel(swapped, half_bits, key, range(_NUM_ROUNDS - 1, -1, -1))
        place = (undone & low) << half_bits | undone >> half_bits
        if place < size:
            return place


def _half_bits(size: int) -> int:
    return max(((size - 1).bit_length() + 1) // 2, 1)


def _feistel(index: int, half_bits: int, key: tuple[int, int], rounds: range) -> int:
    low = (1 << half_bits) - 1
    left, right = index >> half_bits, index & low
    for number in rounds:
        left, right = right, left ^ (mix(right, number, key) & low)
    return left << half_bits | right


def mix(value: int, number: int, key: tuple[int, int]) -> int:
    """Hash a value, a number and a key into 64 bits (the finaliser of splitmix64)."""
    x = (value * 0x9E3779B97F4A7C15 + number + key[0] * 0xD1B54A32D192ED03 + key[1] * 0x8CB92BA72F3D8DD7) & _64_BITS
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & _64_BITS
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & _64_BITS
    return x ^ x >> 31

"""Large numbers for people."""

from __future__ import annotations

import math


def by_thousands(number: float) -> str:
    """Write a number with three digits and the letter of its thousands: 1.2P is 1.2e15."""
    power = min(max(int(math.log10(abs(number))) // 3, 0), 7) if number else 0
    return f"{number / 1000**power:.3g}{('', 'K', 'M', 'G', 'T', 'P', 'E', 'Z')[power]}"

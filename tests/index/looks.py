"""Ways of looking into a film that go wrong, or are slow: importable, since other processes do it."""

from __future__ import annotations

import os
import time

from fourd.index.looking import FORBIDDEN, FilmAddress, Seen, look_into


def harmed(address: FilmAddress) -> Seen:
    """Crash, hang or eat memory as the film's name says."""
    name = os.path.basename(address.path)
    if name.startswith("crash"):
        os.abort()
    if name.startswith("hang"):
        time.sleep(600)
    if name.startswith("eat"):
        return Seen(None, "x" * 2**40, "")
    return look_into(address)


def failing(address: FilmAddress) -> Seen:
    """Fail at the third film as a disk does."""
    if address.path.startswith("3"):
        time.sleep(0.5)  # until those before are done
        raise OSError(5, "Input/output error", address.path)
    return look_into(address)


def slow(address: FilmAddress) -> Seen:
    """Take a while, and from the fourth film on so long that the process is killed before, however busy the machine."""
    time.sleep(0.3 if address.path[0] < "4" else 60)
    return look_into(address)


def forbidden(address: FilmAddress) -> Seen:
    """Say that the film must not be read."""
    return Seen(None, FORBIDDEN, "")

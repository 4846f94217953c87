"""Films that break down when they are checked; without torch, since other processes import it."""

from __future__ import annotations

import os
import time

from fourd.corpus.check.looking import FilmItem, Look


class Hanging(FilmItem):
    """Crash, hang or fail to be read as its name says, and else be a film."""

    def look(self) -> Look:
        """Break down, or look."""
        if self.key == "0.mp4":
            os.abort()
        if self.key == "1.mp4":
            time.sleep(600)
        if self.key == "2.mp4":
            raise OSError(5, "Input/output error")
        return super().look()

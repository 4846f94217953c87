"""Records of a run on disk, one JSON object a line, that go on where a checkpoint stands."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class JsonLines:
    """Append records to a file, one a line, after cutting off what a restart will do again."""

    def __init__(self, path: Path, last_step: int) -> None:
        kept = _records_up_to(path, last_step) if path.exists() else []
        aside = path.with_name(path.name + ".tmp")
        aside.write_text("".join(line + "\n" for line in kept))
        os.replace(aside, path)
        self.num_records = len(kept)
        self._file = path.open("a")

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; numbers that are not finite are written as null."""
        self.num_records += 1
        self._file.write(json.dumps({name: _finite(value) for name, value in record.items()}) + "\n")

    def flush(self) -> None:
        """Hand everything to the system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _records_up_to(path: Path, last_step: int) -> list[str]:
    """Read the lines of steps already done; a line torn by a kill lies beyond them and is dropped."""
    kept = []
    for line in path.read_text().splitlines():
        try:
            step = json.loads(line)["step"]
        except json.JSONDecodeError:
            break
        if step <= last_step:
            kept.append(line)
    return kept


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

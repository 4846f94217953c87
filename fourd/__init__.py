"""Learn about space and time from raw video: the open system of *Scaling 4D Representations*."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fourd.extraction import ExtractConfig as ExtractConfig
    from fourd.extraction import extract as extract
    from fourd.weights.hub import from_pretrained as from_pretrained
    from fourd.weights.hub import push_to_hub as push_to_hub
    from fourd.weights.hub import save_pretrained as save_pretrained
    from fourd.weights.load import load as load
    from fourd.weights.load import load_depth as load_depth
    from fourd.weights.load import names as names

__version__ = "0.1.0"

_HOMES = {
    "load": "fourd.weights.load",
    "load_depth": "fourd.weights.load",
    "names": "fourd.weights.load",
    "extract": "fourd.extraction",
    "ExtractConfig": "fourd.extraction",
    "save_pretrained": "fourd.weights.hub",
    "from_pretrained": "fourd.weights.hub",
    "push_to_hub": "fourd.weights.hub",
}


def __getattr__(name: str) -> Any:
    """Import what users call only when they call it, so that `import fourd` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fourd' has no attribute {name!r}; it has {', '.join(_HOMES)}")
    return getattr(importlib.import_module(_HOMES[name]), name)

"""Find plug-ins: every public module that stands directly in a family's package is one."""

from __future__ import annotations

import importlib.util
import pkgutil


def find_plugins(package: str) -> list[str]:
    """Name the modules and packages in `package`, without importing them; names with a leading `_` are private.

    A package that does not exist has none.
    """
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # the parent package does not exist
        return []
    paths = spec.submodule_search_locations if spec else None
    names = sorted(module.name for module in pkgutil.iter_modules(paths or []))
    return [f"{package}.{name}" for name in names if not name.startswith("_")]

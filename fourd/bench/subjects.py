"""Which backbones are measured: the plug-ins of `fourd.backbones`, each at one of its named sizes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import fourd.backbones
from fourd.types import BackboneConfig
from fourd.weights.published import PUBLISHED

_DEFAULT_SIZES = ("base", "large")
_TINY = "tiny"
_WORDS = {"small": "vits", "base": "vitb", "large": "vitl", "huge": "vith", "giant": "vitg"}


@dataclass(frozen=True)
class Subject:
    """Name a backbone and a size, with the config that they stand for and where its weights come from."""

    backbone: str
    size: str
    config: BackboneConfig
    source: str

    def __str__(self) -> str:
        """Name both."""
        return f"{self.backbone}:{self.size}"


def public_backbones() -> list[str]:
    """List the plug-ins, without importing them."""
    names = (module.name for module in pkgutil.iter_modules(fourd.backbones.__path__))
    return sorted(name for name in names if not name.startswith("_"))


def choose(asked: Sequence[str], tiny: bool) -> list[Subject]:
    """Find the backbones that are named `module` or `module:size`, or all of them.

    Where no size is named it is `base`, or `large` where there is no base, or `tiny` for all if so asked.
    Raises ValueError for a backbone or a size that there is not.
    """
    return [_find(name, tiny) for name in asked or public_backbones()]


def _find(name: str, tiny: bool) -> Subject:
    backbone, _, size = name.partition(":")
    known = public_backbones()
    if backbone not in known:
        raise ValueError(f"--backbones: there is no {backbone!r}; expected some of {', '.join(known)}")
    module = importlib.import_module(f"{fourd.backbones.__name__}.{backbone}")
    sizes = _sizes(module)
    if not size:
        size = _TINY if tiny else next((default for default in _DEFAULT_SIZES if default in sizes), "")
    if size not in sizes:
        raise ValueError(f"--backbones {name}: found no size {size or ' or '.join(_DEFAULT_SIZES)!r} of {sizes}")
    config = getattr(module, size)()
    return Subject(backbone, size, config, _source(module, size, config))


def _sizes(module: ModuleType) -> list[str]:
    """List the public functions of a module that need nothing to describe a backbone."""
    found = []
    for name, function in inspect.getmembers(module, inspect.isfunction):
        signature = inspect.signature(function)
        describes = not signature.parameters and str(signature.return_annotation).endswith("Config")
        if describes and function.__module__ == module.__name__ and not name.startswith("_"):
            found.append(name)
    return found


def _source(module: ModuleType, size: str, config: BackboneConfig) -> str:
    """Say where weights of this size are published, each by our name for it."""
    if size == _TINY:
        return "none: a size for tests"
    ours = [f"{name} ({published.file_name})" for name, published in PUBLISHED.items() if published.backbone == config]
    checkpoints: dict[str, str] = getattr(module, "CHECKPOINTS", {})
    words = (size, _WORDS.get(size, size))
    fitting = [name for name in checkpoints if any(word in name for word in words)] or list(checkpoints)
    theirs = [f"{name} ({checkpoints[name].partition('@')[0]})" for name in fitting]
    return "; ".join(ours + theirs) or "none"

"""Who is measured: from a name on the command line to a backbone, its weights, and an honest name for both."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import fourd.backbones
from fourd import provenance
from fourd.types import BackboneConfig, ClipShape
from fourd.weights.load import load, names
from fourd.weights.starting import identity

_NO_WEIGHTS = ("mean_pixel",)
"""Backbones that need no learning."""


@dataclass(frozen=True)
class Contender:
    """Describe what is measured.

    backbone, weights: the columns of its rows; the weights say what they are ("published", "pretrained 1a2b3c4d",
    "random", "none"). config: without a resize where the backbone cannot take the clips otherwise. source: what
    `fourd.load` takes; empty for random weights, drawn from the seed. trained_on: corpora that it saw, as far as they
    are published. remarks: what the measurement had to change.
    """

    backbone: str
    weights: str
    config: BackboneConfig
    source: str = ""
    identity: str = ""
    """Of the very weights (`fourd.weights.starting.identity`); empty for random ones."""
    num_parameters: int = 0
    trained_on: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def is_random(self) -> bool:
        """Say whether its weights are random: what it scores then says nothing of the model of that name."""
        return self.weights == "random"

    @property
    def slug(self) -> str:
        """Name its folder."""
        kept = (c if c.isalnum() or c in "-._" else "-" for c in f"{self.backbone}_{self.weights}")
        return "".join(kept)

    def without_place(self) -> Contender:
        """Leave out what decides no figure: where the weights lie, and what is told of them."""
        return replace(self, source="", remarks=(), trained_on=())

    def fitted_to(self, clip: ClipShape) -> Contender:
        """Let it take clips of another length than its own, by resampling its positions, and say so."""
        own = self.config.native_size and _native(self.config).num_frames
        if not own or own == clip.num_frames:
            return self
        remark = (
            f"made for clips of {own} frames, measured on {clip.num_frames}: its positions were resampled, and "
            "clips kept their size"
        )
        return replace(self, config=replace(self.config, native_size=False), remarks=(*self.remarks, remark))


def _native(config: BackboneConfig) -> Any:
    with torch.device("meta"):
        return config.build().native_input


def resolve(asked: Sequence[str]) -> list[Contender]:
    """Find every contender that is named.

    A name is `[LABEL=]WHAT`; WHAT is a published name (`fourd.load`), a file or folder of weights, a backbone of ours
    at one of its sizes (`videomae:base`), or a dotted path of a function that gives a BackboneConfig; the last two
    have random weights. Raises ValueError for what is none of these, and where two have the same name and weights.
    """
    found = [_resolve(name) for name in asked]
    columns = [(contender.backbone, contender.weights) for contender in found]
    twice = sorted({" ".join(pair) for pair in columns if columns.count(pair) > 1})
    if twice:
        raise ValueError(f"--backbones: several are called {', '.join(twice)}; give each its own name: LABEL=WHAT")
    return found


def _resolve(name: str) -> Contender:
    label, what = _parted(name)
    if what in names() or Path(what).expanduser().exists():
        contender = _with_weights(what)
    elif Path(what).suffix in (".safetensors", ".npz", ".pth", ".pt"):
        raise FileNotFoundError(f"--backbones {name}: there is no file {what}")
    elif "." in what.partition(":")[0]:
        config = provenance.find(what)()
        if not isinstance(config, BackboneConfig):
            raise ValueError(f"--backbones {name}: {what} gives a {type(config).__name__}; expected a BackboneConfig")
        contender = _at_random(what.rpartition(":")[2], config)
    else:
        contender = _own(what)
    return replace(contender, backbone=label) if label else contender


def _parted(name: str) -> tuple[str, str]:
    """Part a label from what it names; a path may hold a `=` of its own."""
    label, found, what = name.partition("=")
    is_label = bool(found) and "/" not in label and not Path(name).expanduser().exists()
    return (label, what) if is_label else ("", name)


def _own(what: str) -> Contender:
    """Build one of our backbones at random weights; `module` alone takes its `base`."""
    module_name, _, size = what.partition(":")
    known = sorted(m.name for m in pkgutil.iter_modules(fourd.backbones.__path__) if not m.name.startswith("_"))
    if module_name not in known:
        raise ValueError(
            f"--backbones {what}: not a published name (fourd.names()), a file, or one of {', '.join(known)} at one of "
            "its sizes, such as videomae:base"
        )
    module = importlib.import_module(f"{fourd.backbones.__name__}.{module_name}")
    factory = getattr(module, size or "base", None)
    config = factory() if callable(factory) else None
    if not isinstance(config, BackboneConfig):
        raise ValueError(f"--backbones {what}: {module_name} has no size {size or 'base'!r}; write {module_name}:SIZE")
    return _at_random(f"{module_name}:{size}" if size else module_name, config)


def _at_random(name: str, config: BackboneConfig) -> Contender:
    needs_none = type(config).__module__.rpartition(".")[2] in _NO_WEIGHTS
    return Contender(name, "none" if needs_none else "random", config, num_parameters=_count(config))


def _with_weights(what: str) -> Contender:
    """Load a backbone to see what it is; its weights are loaded again where they are used."""
    backbone: Any = load(what)
    config: BackboneConfig = backbone.config
    module = importlib.import_module(type(config).__module__)
    is_published = what in names()
    name = what if is_published else _size_of(module, config)
    digest = identity(what)
    of_whom = "published" if is_published else f"pretrained {digest[:8]}"
    return Contender(name, of_whom, config, what, digest, _count(config), _trained_on(module, what))


def _size_of(module: ModuleType, config: BackboneConfig) -> str:
    """Name a config by the size that describes it, or by its count of parameters."""
    name = module.__name__.rpartition(".")[2]
    for size, factory in vars(module).items():
        described = str(getattr(factory, "__annotations__", {}).get("return", ""))
        makes_one = described.endswith("Config") and not size.startswith("_") and not factory.__code__.co_argcount
        if makes_one and replace(factory(), native_size=config.native_size) == config:
            return f"{name}:{size}"
    return f"{name}:{_count(config) / 1e6:.3g}M"


def _count(config: BackboneConfig) -> int:
    with torch.device("meta"):
        return sum(math.prod(parameter.shape) for parameter in config.build().parameters())


def _trained_on(module: ModuleType, name: str) -> tuple[str, ...]:
    """Say which corpora a published model saw, by the longest beginning of its name that its module knows."""
    known: dict[str, tuple[str, ...]] = getattr(module, "TRAINED_ON", {})
    fitting = sorted((start for start in known if name.startswith(start)), key=len)
    return known[fitting[-1]] if fitting else ()

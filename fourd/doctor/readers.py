"""Find the readers of labelled datasets: modules that export `ABOUT` and `base(root, split)`."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import fourd.datasets
from fourd.datasets import About, LabelledConfig


@dataclass(frozen=True)
class Reader:
    """Name a reader, what it says of its dataset, and how its configs are made: `describe(root, split)`."""

    name: str
    about: About
    describe: Callable[..., LabelledConfig]
    class_names: Callable[..., Sequence[str]] | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        """Name the official splits, or the one that the reader takes by itself."""
        default = inspect.signature(self.describe).parameters["split"].default
        return tuple(self.about.official) or (default,)

    def names_of_classes(self, config: LabelledConfig) -> tuple[str, ...] | None:
        """Name the classes, None where the reader does not; errors are those of reading its list."""
        if self.class_names is None:
            return None
        asked = list(inspect.signature(self.class_names).parameters)[1:]
        return tuple(self.class_names(config.root, **{name: getattr(config, name) for name in asked}))


def all_readers() -> tuple[Reader, ...]:
    """Load every reader that comes with us."""
    names = [module.name for module in pkgutil.iter_modules(fourd.datasets.__path__)]
    return tuple(_reader(name, module) for name in names if _is_reader(module := _load(name)))


def find_reader(name: str) -> Reader:
    """Load a reader by its name, or by `package.module` or `package.module:function` where it is not one of ours.

    function: takes the place of `base`. Raises: ValueError where there is none, or where it is no reader.
    """
    module_name, _, function = name.partition(":")
    ours = {module.name for module in pkgutil.iter_modules(fourd.datasets.__path__)}
    if module_name not in ours and "." not in module_name:
        known = [reader.name for reader in all_readers()]
        near = difflib.get_close_matches(name, known, 1)
        raise ValueError(
            f"no dataset {name!r}{f', did you mean {near[0]}?' if near else ''}; expected one of {', '.join(known)}, "
            "or the dotted path of a module"
        )
    module = _load(module_name)
    wanted = [part for part in ("ABOUT", function or "base") if not hasattr(module, part)]
    if wanted:
        raise ValueError(f"{module_name}: not a reader of a labelled dataset: it has no {' and no '.join(wanted)}")
    return _reader(name, module, function or "base")


def _load(name: str) -> object:
    """Import a module; one of ours by its last name."""
    dotted = name if "." in name else f"{fourd.datasets.__name__}.{name}"
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError as error:
        if not dotted.startswith(error.name or "?"):
            raise
        raise ValueError(f"{dotted}: no such module; is its package installed or on PYTHONPATH?") from error


def _is_reader(module: object) -> bool:
    return hasattr(module, "ABOUT") and hasattr(module, "base")


def _reader(name: str, module: object, function: str = "base") -> Reader:
    about = getattr(module, "ABOUT")  # noqa: B009 - not every module has it
    return Reader(name, about, getattr(module, function), getattr(module, "class_names", None))

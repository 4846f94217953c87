"""What is stored against what a module expects: every name and every shape, and all differences at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

Shape = tuple[int, ...]

_LISTED = 20


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Take the shapes of named tensors."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def require_same(found: Mapping[str, Shape], expected: Mapping[str, Shape], what: str, advice: str) -> None:
    """Raise ValueError naming every array that is missing, unexpected or of another shape."""
    shared = [name for name in expected if name in found and found[name] != expected[name]]
    problems = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "misshapen": [f"{name} {found[name]}, expected {expected[name]}" for name in shared],
    }
    lines = [f"  {len(names)} {kind}: {listed(names)}" for kind, names in problems.items() if names]
    if lines:
        raise ValueError("\n".join([f"{what} and the module do not match:", *lines, advice]))


def listed(names: Sequence[str]) -> str:
    """Write names in a row, and count those beyond the first few."""
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return "; ".join(names[:_LISTED]) + more

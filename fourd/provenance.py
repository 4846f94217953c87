"""Where a number comes from: the resolved config, the code's state, the machine."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import torch

import fourd


def describe(value: Any) -> Any:
    """Turn a config into plain JSON values; every dataclass carries its `type` as a dotted path."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": f"{type(value).__module__}:{type(value).__qualname__}", **named}
    if isinstance(value, (tuple, list)):
        return [describe(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"cannot describe a {type(value).__name__}: configs hold numbers, strings, tuples and dataclasses")


def rebuild(described: Any) -> Any:
    """Turn the JSON values of `describe` back into the config; the inverse of `describe`."""
    if isinstance(described, dict):
        kind = find(described.get("type", "(no type)"))
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise ValueError(f"{described['type']!r} is no config; only dataclasses are rebuilt")
        values = {name: rebuild(value) for name, value in described.items() if name != "type"}
        names = {field.name for field in dataclasses.fields(kind)}
        if values.keys() - names:
            raise ValueError(
                f"{described['type']} has no {sorted(values.keys() - names)}; it was written by another version"
            )
        return kind(**values)
    if isinstance(described, list):
        return tuple(rebuild(item) for item in described)
    return described


def find(dotted: str) -> Any:
    """Find a part by its dotted path, `package.module:name`; raise ValueError saying what is missing."""
    module_name, colon, name = dotted.partition(":")
    if not colon or not name or module_name.startswith("."):
        raise ValueError(f"{dotted!r} is not a dotted path; expected package.module:name")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{dotted!r}: no module {error.name!r}; is its package installed or on PYTHONPATH?") from error
    if not hasattr(module, name):
        own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module_name}
        known = [key for key, value in own.items() if not key.startswith("_") and callable(value)]
        raise ValueError(f"{dotted!r}: module {module_name} has no {name!r}; it has {', '.join(sorted(known))}")
    return getattr(module, name)


def git_state() -> dict[str, Any]:
    """Say which commit the code is at, and whether it was changed since; None where there is no git."""
    root = Path(fourd.__file__).resolve().parent.parent
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": None if changed is None else bool(changed)}


def _git(root: Path, *arguments: str) -> str | None:
    if not (root / ".git").exists():
        return None
    answer = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None


def environment() -> dict[str, Any]:
    """Say what the code runs on: versions, processor, threads, accelerator, command."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "fourd": fourd.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "decoders": decoder_versions(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "gpu": gpu,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git": git_state(),
    }


def decoder_versions() -> dict[str, str]:
    """Say which versions of the decoders of video are installed: PyAV, the FFmpeg that it brings, torchcodec."""
    import av  # not before it is asked for: loading weights takes no decoder

    found = {name: importlib.metadata.version(name) for name in ("av", "torchcodec") if _is_installed(name)}
    libraries = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    return found | {name: libraries[name] for name in ("libavcodec", "libavformat", "libswscale")}


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def processor_name() -> str:
    """Name the processor as the system does."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def read_json(path: Path, way_out: str) -> dict[str, Any]:
    """Read an object that `write_json` wrote; raise ValueError naming the file and the way out where it is damaged."""
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): {way_out}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, expected an object: {way_out}")
    return found


def write_json(path: Path, value: Any) -> None:
    """Write JSON aside, then rename: a reader finds the old file or the new one, never half of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    aside.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(aside, path)

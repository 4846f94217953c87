"""How much memory a process and its device hold. GB are 1e9 bytes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"
"""What Linux takes in clear_refs to begin VmHWM anew (proc_pid_clear_refs(5))."""


def memory_gb(device: torch.device) -> Mapping[str, float]:
    """Read the memory in use and its peak since `reset_peak`, in GB, under names that metrics carry.

    On CUDA that of the allocator: `memory_gb`, `memory_peak_gb` and `memory_reserved_peak_gb`, and `host_memory_gb`,
    what the process holds of the host's. Elsewhere what the process holds: `memory_gb` and `memory_peak_gb`; where the
    system is not Linux only the peak is known.
    """
    host = _resident_gb()
    if device.type != "cuda":
        return host
    own = {
        "memory_gb": torch.cuda.memory_allocated(device) / 1e9,
        "memory_peak_gb": torch.cuda.max_memory_allocated(device) / 1e9,
        "memory_reserved_peak_gb": torch.cuda.max_memory_reserved(device) / 1e9,
    }
    return own | {f"host_{name}": value for name, value in host.items() if name == "memory_gb"}


def reset_peak(device: torch.device) -> None:
    """Begin the peak anew; of a process on a system other than Linux it stays that of its whole life."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _STATUS.exists():
        _STATUS.with_name("clear_refs").write_text(_RESET_PEAK)


def _resident_gb() -> dict[str, float]:
    if not _STATUS.exists():
        return {"memory_peak_gb": _peak_of_life_gb()}
    lines = (line.partition(":") for line in _STATUS.read_text().splitlines())
    kib = {name: value.split()[0] for name, _, value in lines if name in ("VmRSS", "VmHWM")}
    return {"memory_gb": int(kib["VmRSS"]) * 1024 / 1e9, "memory_peak_gb": int(kib["VmHWM"]) * 1024 / 1e9}


def _peak_of_life_gb() -> float:
    import resource  # not on every system

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9

"""Memory is told in GB, and its peak begins anew when asked to."""

from __future__ import annotations

import mmap
import sys

import pytest
import torch

from fourd.telemetry import memory_gb, reset_peak

CPU = torch.device("cpu")
NUM_BYTES = 200_000_000


def take_memory():
    """Map pages and write to each, past the allocator, which may keep what it frees."""
    taken = mmap.mmap(-1, NUM_BYTES)
    for place in range(0, NUM_BYTES, mmap.PAGESIZE):
        taken[place] = 1
    return taken


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it through /proc")
def test_memory_that_is_taken_shows_and_its_peak_stays_until_it_is_reset():
    before = memory_gb(CPU)
    taken = take_memory()
    held = memory_gb(CPU)
    taken.close()
    after = memory_gb(CPU)
    assert held["memory_gb"] - before["memory_gb"] == pytest.approx(0.2, abs=0.02)
    assert after["memory_gb"] == pytest.approx(before["memory_gb"], abs=0.02)
    assert after["memory_peak_gb"] == pytest.approx(held["memory_gb"], abs=0.02)
    reset_peak(CPU)
    assert memory_gb(CPU)["memory_peak_gb"] == pytest.approx(after["memory_gb"], abs=0.02)


def test_a_system_without_proc_tells_the_peak_of_the_process(monkeypatch, tmp_path):
    known = memory_gb(CPU)
    monkeypatch.setattr("fourd.telemetry.memory._STATUS", tmp_path / "status")
    elsewhere = memory_gb(CPU)
    assert list(elsewhere) == ["memory_peak_gb"]
    assert elsewhere["memory_peak_gb"] >= known["memory_peak_gb"] * 0.9
    reset_peak(CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_allocator_is_asked():
    device = torch.device("cuda")
    reset_peak(device)
    before = memory_gb(device)
    taken = torch.empty(NUM_BYTES, dtype=torch.uint8, device=device)
    held = memory_gb(device)
    del taken
    after = memory_gb(device)
    assert held["memory_gb"] - before["memory_gb"] == pytest.approx(0.2, abs=0.01)
    assert after["memory_peak_gb"] == pytest.approx(held["memory_gb"], abs=0.01)
    assert after["memory_reserved_peak_gb"] >= after["memory_peak_gb"]
    assert after["host_memory_gb"] > 0

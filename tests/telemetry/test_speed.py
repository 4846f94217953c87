"""The rate of matrix products is measured, and a window of steps is told as a share of it."""

from __future__ import annotations

import time

import pytest
import torch

from fourd.telemetry import StepClock, matrix_rate

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class Clock:
    """Stand still until moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("fourd.telemetry.speed.time.perf_counter", clock)
    return clock


def best_rate(device, dtype, side=1024):
    """Take the best of a few products: a rate that the machine does reach."""
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    spent = []
    for _ in range(4):
        began = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        spent.append(time.perf_counter() - began)
    return 2 * side**3 / min(spent)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_matrix_rate_is_what_products_reach(device, precision, dtype):
    rate = matrix_rate(torch.device(device), precision)
    assert 0.05 < rate / best_rate(device, dtype) < (20 if device == "cpu" else 200)  # beside whatever else runs


def test_the_random_numbers_of_a_run_are_left_alone():
    before = torch.get_rng_state()
    matrix_rate(torch.device("cpu"), "fp32")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_device_that_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="matrix rate of meta in fp32"):
        matrix_rate(torch.device("meta"), "fp32")


def test_a_window_tells_speed_waiting_and_utilisation(clock):
    steps = StepClock(samples_per_step=8, clips_per_step=2, flop_per_sample=5e9, flop_per_s=1e12)

    def arriving():
        for _ in range(4):
            clock.now += 0.25
            yield "clips"

    for _ in steps.waiting_for(arriving()):
        clock.now += 0.75
    speed = steps.read(4)
    assert speed["clips_per_s"] == pytest.approx(8.0)
    assert speed["unique_clips_per_s"] == pytest.approx(2.0)
    assert speed["data_wait"] == pytest.approx(0.25)
    assert speed["model_flop_utilisation"] == pytest.approx(0.04)
    clock.now += 2.0
    assert steps.read(1)["clips_per_s"] == pytest.approx(4.0)
    clock.now += 1.0
    assert steps.read(1)["data_wait"] == 0


def test_an_unknown_number_of_operations_gives_no_utilisation(clock):
    steps = StepClock(samples_per_step=8, clips_per_step=8, flop_per_s=1e12)
    clock.now += 1.0
    assert set(steps.read(1)) == {"clips_per_s", "unique_clips_per_s", "data_wait"}

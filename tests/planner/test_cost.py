from dataclasses import replace

import pytest

from fourd.flops import StepFlop
from fourd.parallel import ParallelConfig
from fourd.planner.cost import Assumptions, Load, step_time
from fourd.planner.gpus import GPUS, find_gpu

LOAD = Load(parameters=10**9, flop=StepFlop(once=0.0, each=1e12), batch=64, precision="bf16")
H200 = GPUS["h200"]


def time_of(gpus, **parallel):
    return step_time(LOAD, gpus, ParallelConfig(**parallel), H200, Assumptions(utilisation=0.5, network_gb_s=50.0))


def test_one_gpu_computes_and_sends_nothing():
    alone = time_of(1)
    assert alone.compute_s == pytest.approx(64e12 / (989e12 / 2))
    assert alone.traffic_s == 0
    assert alone.seconds == alone.compute_s


def test_what_is_done_once_is_done_for_every_part_and_the_largest_share_counts():
    load = replace(LOAD, flop=StepFlop(once=5e12, each=1e12))
    how = Assumptions(utilisation=0.5, network_gb_s=50.0)
    found = step_time(load, 3, ParallelConfig(parts=4), H200, how)
    assert found.compute_s == pytest.approx((4 * 5e12 + 22 * 1e12) / (989e12 / 2))


def test_gpus_share_the_arithmetic():
    assert time_of(8).compute_s == pytest.approx(time_of(1).compute_s / 8)


def test_shards_gather_weights_twice_and_scatter_gradients_once():
    """Each of 8 ranks receives 7/8 of: weights in bf16 twice, gradients in float32 once."""
    assert time_of(8, shard=8).traffic_s == pytest.approx(7 / 8 * (2 + 2 + 4) * 1e9 / 450e9)


def test_every_part_gathers_and_scatters_again():
    assert time_of(8, shard=8, parts=4).traffic_s == pytest.approx(4 * 7 / 8 * (4 + 4) * 1e9 / 450e9)


def test_whole_copies_add_their_gradients_up():
    """A ring sends all but one part of the gradients twice."""
    assert time_of(8, shard=1).traffic_s == pytest.approx(2 * 7 / 8 * 4 * 1e9 / 450e9)


def test_machines_speak_over_the_network():
    within = 7 / 8 * 8 * 1e9 / 450e9
    between = 2 * 1 / 2 * 4 * 1e9 / 8 / 50e9
    assert time_of(16, shard=8).traffic_s == pytest.approx(within + between)


def test_numbers_of_a_gpu_can_be_replaced():
    assert find_gpu("h200", memory_gb=100.0).memory_gb == 100
    assert find_gpu("h200", memory_gb=100.0).tflops == 989
    assert find_gpu("cpu", 16.0, 1.5).tflops == 1.5


def test_unknown_gpus_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="--gpu tpu: not known; expected one of b200, h200"):
        find_gpu("tpu")
    with pytest.raises(ValueError, match="--gpu-memory-gb and --gpu-tflops"):
        find_gpu("cpu")


def test_every_gpu_says_where_its_numbers_are_from():
    assert all(gpu.source.startswith("https://") and gpu.name == name for name, gpu in GPUS.items())

"""Fake steps beside the arithmetic that anyone can check, and beside real steps."""

import gc
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from fourd.backbones.video_vit import VideoViTConfig
from fourd.objectives import probe, simple_mae
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.optim import OptimConfig, build_optimizer
from fourd.parallel import ParallelConfig, Ranks, autocast, build_blank, materialise
from fourd.planner.ledger import peak_of
from fourd.planner.measure import Layout, blank_batch, measure, native_input
from fourd.types import map_tensors

CPU = torch.device("cpu")
SMALL = SimpleMAEConfig(VideoViTConfig(128, 5, 4, 512, patch=(2, 8, 8), num_frames=8, size=(32, 32)))
NUM_PARAMETERS = sum(parameter.numel() for parameter in build_blank(SMALL).parameters())


def peaks(*clips, gpus=1, on_gpu=False, **parallel):
    layout = Layout(gpus, 8, ParallelConfig(**parallel), on_gpu=on_gpu)
    return [peak_of(book) for book in measure(SMALL, layout, clips).values()]


def test_weights_and_moments_are_what_float32_takes():
    (found,) = peaks(16)
    assert found.by_kind["weights"] == 4 * NUM_PARAMETERS
    assert found.by_kind["moments"] == pytest.approx(8 * NUM_PARAMETERS, rel=0.001)


def test_state_is_split_over_shards_and_blocks_are_gathered():
    (split,) = peaks(16, gpus=8)
    assert split.by_kind["weights"] == pytest.approx(4 * NUM_PARAMETERS / 8, rel=0.01)
    assert split.by_kind["moments"] == pytest.approx(8 * NUM_PARAMETERS / 8, rel=0.01)
    assert split.by_kind["gathered"] > 0


def test_shards_are_of_one_machine_unless_said_otherwise():
    (of_machine,), (of_all,) = peaks(4, gpus=16), peaks(4, gpus=16, shard=16)
    assert of_machine.by_kind["weights"] == pytest.approx(2 * of_all.by_kind["weights"], rel=0.01)


def test_later_parts_find_gradients_of_earlier_ones():
    (one,), (two,) = peaks(16), peaks(16, parts=2)
    assert two.by_kind["gradients"] - one.by_kind["gradients"] == pytest.approx(4 * NUM_PARAMETERS, rel=0.05)


def test_recomputation_keeps_less():
    kept = [peaks(16, recompute=what)[0] for what in ("none", "selective", "full")]
    activations = [one.by_kind["activations"] for one in kept]
    assert activations[0] > activations[1] > activations[2]


def test_more_clips_take_more_and_each_as_much_as_those_before():
    """Every moment grows in proportion to the clips, and the peak is the highest of them."""
    eight, sixteen, twenty_four = (found.total for found in peaks(8, 16, 24))
    assert twenty_four - sixteen >= sixteen - eight > 0


def test_a_gpu_is_planned_with_its_own_kernels():
    (on_cpu,), (on_gpu,) = peaks(16), peaks(16, on_gpu=True)
    assert on_gpu.by_kind["activations"] < on_cpu.by_kind["activations"]


class AliveBytes(TorchDispatchMode):
    """Count the bytes of all real storages that are alive after each operation."""

    def __init__(self, tensors):
        super().__init__()
        self.most = 0
        self.alive = {}
        self.count(tensors)

    def count(self, values):
        for value in values:
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                self.alive[storage._cdata] = weakref.ref(storage)
        living = {address: found() for address, found in self.alive.items() if found() is not None}
        self.alive = {address: self.alive[address] for address in living}
        self.most = max(self.most, sum(storage.nbytes() for storage in living.values()))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.count(tree_iter((args, kwargs, made)))
        return made


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_a_fake_step_takes_what_a_real_one_takes(recompute):
    alone, parallel = Ranks(0, 1, 1, CPU), ParallelConfig(recompute=recompute)
    objective = materialise(SMALL, CPU, 0, ranks=alone, parallel=parallel, precision="bf16").train()
    optimizer = build_optimizer(objective, OptimConfig())
    batch = map_tensors(torch.zeros_like, blank_batch(native_input(SMALL), 8))
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        gc.collect()
        moments = [value for state in optimizer.state.values() for value in state.values()]
        with AliveBytes([*objective.parameters(), *moments, batch.video]) as counted:
            with autocast(CPU, "bf16"):
                loss = objective(batch).loss
            loss.backward()
            optimizer.step()
        del loss
    assert peaks(8, recompute=recompute)[0].total == pytest.approx(counted.most, rel=0.02)


def test_only_pretraining_is_planned():
    assert native_input(simple_mae.tiny()).num_frames == 4
    with pytest.raises(ValueError, match="cannot be planned"):
        native_input(probe.tiny())

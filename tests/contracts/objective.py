"""What every objective must keep. Each check takes a plug-in module, which exports `tiny()` and `tiny_batch()`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fourd.types import Batch, Objective, ObjectiveConfig, Step
from tests.contracts.nouns import assert_close, assert_finite, fill_with_nan, names_with_nan, take_clips


class ObjectivePlugin(Protocol):
    """A module that exports an objective."""

    def tiny(self) -> ObjectiveConfig:
        """Describe an objective that runs within a second on a CPU."""

    def tiny_batch(self) -> Batch:
        """Make a batch of two clips or more from which `tiny()` can learn."""


def fresh(plugin: ObjectivePlugin, seed: int = 0) -> Objective:
    """Build the tiny objective; `seed` decides what it trains, never what it keeps frozen."""
    torch.manual_seed(0)
    objective = plugin.tiny().build()
    objective.init_weights(torch.Generator().manual_seed(seed))
    objective.begin()
    return objective


def loss_of(objective: Objective, batch: Batch) -> Tensor:
    """Compute the loss alone."""
    return objective(batch).loss.detach()


def describes_an_objective(plugin: ObjectivePlugin) -> None:
    """`tiny()` gives an ObjectiveConfig that builds an Objective; `tiny_batch()` two clips or more."""
    config = plugin.tiny()
    assert isinstance(config, ObjectiveConfig)
    assert isinstance(config.build(), Objective)
    assert config == plugin.tiny(), "two calls of tiny() differ: a config must compare by its values"
    assert len(plugin.tiny_batch().key) >= 2, "tiny_batch() must hold two clips or more"


def fills_what_it_trains(plugin: ObjectivePlugin) -> None:
    """`init_weights` leaves no parameter that is trained as it was."""
    objective = fresh(plugin)
    fill_with_nan(objective, trained_only=True)
    objective.init_weights(torch.Generator().manual_seed(0))
    assert not names_with_nan(objective), "init_weights left these as they were"


def gives_a_finite_loss(plugin: ObjectivePlugin) -> None:
    """The step holds a finite loss, and finite scalars that carry no graph."""
    step = fresh(plugin)(plugin.tiny_batch())
    assert isinstance(step, Step)
    assert step.loss.shape == ()
    assert_finite(step.loss)
    for name, value in step.scalars.items():
        assert value.isfinite().all(), f"scalar {name} is {value}"
        assert not value.requires_grad, f"scalar {name} keeps the graph alive; detach it"


def learns_every_trained_parameter(plugin: ObjectivePlugin) -> None:
    """Each parameter that asks for a gradient gets a finite one, and not all are zero."""
    objective = fresh(plugin)
    objective(plugin.tiny_batch()).loss.backward()
    trained = {name: p.grad for name, p in objective.named_parameters() if p.requires_grad}
    assert trained, "nothing is trained"
    assert not [name for name, grad in trained.items() if grad is None], "these are trained but get no gradient"
    gradients = [grad for grad in trained.values() if grad is not None]
    assert all(grad.isfinite().all() for grad in gradients)
    assert any(grad.any() for grad in gradients), "every gradient is zero"


def repeats_itself(plugin: ObjectivePlugin) -> None:
    """The same batch gives the same loss: what is random comes from the batch's own seeds."""
    objective, batch = fresh(plugin), plugin.tiny_batch()
    first = loss_of(objective, batch)
    assert torch.equal(loss_of(objective, batch), first)


def ignores_the_order_of_clips(plugin: ObjectivePlugin) -> None:
    """The loss of a batch does not depend on the order of its clips, up to rounding."""
    objective, batch = fresh(plugin), plugin.tiny_batch()
    turned = take_clips(batch, list(reversed(range(len(batch.key)))))
    assert_close(loss_of(objective, turned), loss_of(objective, batch))


def exports_modules(plugin: ObjectivePlugin) -> None:
    """`export()` names at least one part that outlives the training."""
    parts = fresh(plugin).export()
    assert isinstance(parts, Mapping)
    assert parts, "export() names nothing: the training would leave no model behind"
    assert all(isinstance(name, str) and isinstance(part, nn.Module) for name, part in parts.items())


def draws_pictures(plugin: ObjectivePlugin) -> None:
    """`pictures()`, empty or not, gives uint8 pictures `H W 3`."""
    for name, picture in fresh(plugin).pictures(plugin.tiny_batch()).items():
        assert picture.dtype == torch.uint8, f"{name} is {picture.dtype}"
        assert (picture.ndim, picture.shape[-1]) == (3, 3), f"{name} has shape {tuple(picture.shape)}"


def survives_its_state_dict(plugin: ObjectivePlugin) -> None:
    """Another instance that loads the state computes the same loss."""
    objective, batch = fresh(plugin), plugin.tiny_batch()
    other = fresh(plugin, seed=1)
    other.load_state_dict(objective.state_dict(), strict=True)
    assert torch.equal(loss_of(other, batch), loss_of(objective, batch))


def moves_followers_only_with_applied_steps(plugin: ObjectivePlugin) -> None:
    """What follows without a gradient starts in line, moves after an applied step, and stays after a skipped one."""
    objective = fresh(plugin)
    parts = objective.followers().values()
    followers = [value for part in parts for value in (*part.parameters(), *part.buffers())]
    assert not any(value.requires_grad for value in followers), "a follower asks for gradients"
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=1.0)
    objective(plugin.tiny_batch()).loss.backward()
    optimizer.step()
    for applied, moves in ((0.0, False), (1.0, bool(followers))):
        before = [value.clone() for value in followers]
        objective.after_step(0.5, torch.tensor(applied))
        moved = any(not torch.equal(value, old) for value, old in zip(followers, before, strict=True))
        assert moved == moves, f"followers {'moved' if moved else 'stayed'} where applied is {applied:g}"


def names_parts_to_start_from(plugin: ObjectivePlugin) -> None:
    """`starting_weights()` names parts that are there, and `followers()` parts that no gradient moves."""
    objective = fresh(plugin)
    parts = dict(objective.named_modules())
    unknown = [name for name in (*objective.starting_weights(), *objective.followers()) if name not in parts]
    assert not unknown, f"there is no part named {unknown}"


def never_waits_for_the_device(plugin: ObjectivePlugin) -> None:
    """Neither the step nor what follows it looks at a number: on an accelerator the host would wait for it."""
    objective, batch = fresh(plugin), plugin.tiny_batch()
    with _LooksAtNumbers() as looks:
        objective(batch).loss.backward()
        objective.after_step(0.5, torch.ones(()))
    assert not looks.seen, f"the host looks at numbers: {looks.seen}"


class _LooksAtNumbers(TorchDispatchMode):
    """Collect the operations whose result, or its shape, the host has to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "masked_select", "equal"):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


CHECKS = (
    never_waits_for_the_device,
    moves_followers_only_with_applied_steps,
    names_parts_to_start_from,
    describes_an_objective,
    fills_what_it_trains,
    gives_a_finite_loss,
    learns_every_trained_parameter,
    repeats_itself,
    ignores_the_order_of_clips,
    exports_modules,
    draws_pictures,
    survives_its_state_dict,
)

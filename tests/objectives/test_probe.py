"""Probe: readouts learn side by side as if alone, from a frozen, a finetuned or an encoded backbone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from fourd.backbones import mean_pixel, video_vit
from fourd.objectives import probe
from fourd.objectives.probe import Probe, ProbeConfig
from fourd.optim import OptimConfig, build_optimizer
from fourd.tasks import action, camera_pose, depth
from fourd.tasks.camera_pose import first_from_last
from fourd.types import Backbone, BackboneConfig, Batch, ClipShape, Features, FeatureShape, NativeInput

CLIP = ClipShape(4, 32, 32)
CONFIG = replace(probe.tiny(), backbone=video_vit.tiny(), depths=(0.5, 1.0))


def built(config: ProbeConfig, seed: int = 0) -> Probe:
    objective = config.build()
    objective.init_weights(torch.Generator().manual_seed(seed))
    return objective


def encoded(config: ProbeConfig, source: Probe, batch: Batch) -> tuple[Probe, Batch]:
    """Make the probe that learns from what another's backbone gave once, as it is stored."""
    objective = built(replace(config, use="encoded"))
    objective.readouts.load_state_dict(source.readouts.state_dict())
    with torch.no_grad():
        grids = source.eval().backbone(batch.video, config.depths)
    features = tuple(Features(item.grid.half().float()) for item in grids)
    return objective, replace(batch, features=features)


def trained(objective: Probe, batch: Batch, steps: int = 5) -> Probe:
    optimizer = build_optimizer(objective, OptimConfig(learning_rate=0.01))
    for _ in range(steps):
        optimizer.zero_grad()
        objective(batch).loss.backward()
        optimizer.step()
    return objective


# ----------------------------------------------------------------------------- heads


def test_every_task_is_read_out_in_every_kind_at_every_depth():
    objective = built(CONFIG)
    labels = [objective.label(head) for head in objective.heads]
    assert labels == [
        f"{task}/{kind}/{depth}"
        for task in ("camera_pose", "action")
        for kind in ("attention", "linear")
        for depth in ("0.5", "1")
    ]
    step = objective(probe.tiny_batch())
    assert list(step.scalars) == labels
    torch.testing.assert_close(torch.stack(list(step.scalars.values())).sum(), step.loss.detach())


@pytest.mark.parametrize("number", range(8))
def test_a_readout_learns_as_if_alone(number):
    together = built(replace(CONFIG, use="encoded"))
    start = {name: value.clone() for name, value in together.readouts[number].state_dict().items()}
    batch = encoded(CONFIG, built(CONFIG), probe.tiny_batch())[1]
    head = together.heads[number]
    alone_config = replace(
        CONFIG,
        use="encoded",
        tasks=(CONFIG.tasks[head.task],),
        readouts=(head.kind,),
        depths=(CONFIG.depths[head.depth],),
    )
    alone = built(alone_config)
    alone.readouts[0].load_state_dict(start)
    own = replace(batch, tasks=(batch.tasks[head.task],), features=(batch.features[head.depth],))
    trained(together, batch)
    trained(alone, own)
    for name, value in alone.readouts[0].state_dict().items():
        assert torch.equal(together.readouts[number].state_dict()[name], value), name
        assert not torch.equal(start[name], value), name


def test_each_head_reads_its_own_depth_and_asks_its_own_task():
    objective, batch = encoded(CONFIG, built(CONFIG), probe.tiny_batch())
    trained(objective, batch, 2)  # a readout may start from an answer that looks at nothing
    before = objective(batch).scalars
    spoiled = replace(batch, features=(batch.features[0], Features(-batch.features[1].grid)))
    after = objective(spoiled).scalars
    for head in objective.heads:
        label = objective.label(head)
        assert torch.equal(before[label], after[label]) == (head.depth == 0), label


# ----------------------------------------------------------------------------- the backbone's use


def test_encoded_and_frozen_give_the_same_loss():
    frozen = built(CONFIG)
    objective, batch = encoded(CONFIG, frozen, probe.tiny_batch())
    one, other = objective(batch), frozen(probe.tiny_batch())
    torch.testing.assert_close(one.loss, other.loss, rtol=2e-3, atol=2e-3)
    assert not hasattr(objective, "backbone")
    assert set(objective.export()) == {"readouts"}
    assert set(frozen.export()) == {"readouts", "model"}


@pytest.mark.parametrize("use", ["frozen", "finetuned"])
def test_gradients_reach_the_backbone_only_when_it_is_finetuned(use):
    objective = built(replace(CONFIG, use=use))
    objective(probe.tiny_batch()).loss.backward()
    reached = [parameter.grad is not None for parameter in objective.backbone.parameters()]
    assert any(reached) == (use == "finetuned")
    assert all(parameter.grad is not None for parameter in objective.readouts.parameters())


@dataclass(frozen=True)
class NoisyConfig(BackboneConfig):
    """Describe a backbone that behaves differently in training."""

    def build(self) -> Noisy:
        return Noisy()


class Noisy(Backbone):
    """Normalise over the batch and drop out, as other people's encoders do."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        self.norm, self.dropout = nn.BatchNorm1d(8), nn.Dropout(0.5)

    @property
    def native_input(self) -> NativeInput:
        return NativeInput(None, (32, 32), (2, 16, 16))

    def forward(self, video: Tensor, depths: tuple[float, ...]) -> tuple[Features, ...]:
        tokens = video.float().mean(dim=(1, 2)).flatten(1)[:, :64].reshape(-1, 8)
        grid = self.dropout(self.norm(tokens)).reshape(len(video), 2, 2, 2, 8)
        return tuple(Features(grid) for _ in depths)

    def feature_shape(self, clip: ClipShape) -> FeatureShape:
        return FeatureShape(2, 2, 2, 8)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        self.norm.reset_parameters()


def test_a_frozen_backbone_is_used_as_it_was_encoded_even_while_readouts_train():
    objective = built(replace(CONFIG, backbone=NoisyConfig(), use="frozen"))
    before = {name: value.clone() for name, value in objective.backbone.state_dict().items()}
    first = objective.train()(probe.tiny_batch()).loss
    assert torch.equal(first, objective(probe.tiny_batch()).loss)
    assert all(torch.equal(before[name], value) for name, value in objective.backbone.state_dict().items())
    assert objective.readouts.training
    assert not objective.backbone.training


def test_a_finetuned_backbone_trains_as_it_does():
    objective = built(replace(CONFIG, backbone=NoisyConfig(), use="finetuned")).train()
    assert objective.backbone.training
    assert not objective.eval().backbone.training


# ----------------------------------------------------------------------------- errors


def test_wrong_numbers_are_named():
    batch = probe.tiny_batch()
    with pytest.raises(ValueError, match=r"samples of 1 tasks; the probe learns 2: camera_pose, action"):
        built(CONFIG)(replace(batch, tasks=batch.tasks[:1]))
    with pytest.raises(ValueError, match=r"features of 0 depths; expected 2"):
        built(replace(CONFIG, use="encoded"))(batch)


def test_a_clip_that_the_backbone_cannot_take_is_refused():
    with pytest.raises(ValueError, match="frames"):
        replace(CONFIG, clip=ClipShape(6, 32, 32)).build()


def test_no_weights_are_made_where_the_backbone_is_absent():
    objective = replace(CONFIG, use="encoded", backbone=video_vit.size_j().at(224), clip=ClipShape(16, 224, 224))
    small = replace(objective, tasks=(camera_pose.tiny(),), readouts=("linear",)).build()
    assert sum(parameter.numel() for parameter in small.parameters()) < 200_000


def test_the_tiny_probe_learns():
    objective = trained(built(replace(probe.tiny(), tasks=(camera_pose.tiny(), action.tiny()))), probe.tiny_batch(), 60)
    assert isinstance(objective.config.backbone, type(mean_pixel.tiny()))
    fresh = built(probe.tiny())(probe.tiny_batch()).loss
    assert float(objective(probe.tiny_batch()).loss.detach()) < 0.6 * float(fresh.detach())


def test_a_sample_of_another_task_is_refused():
    objective, batch = built(CONFIG), probe.tiny_batch()
    swapped = replace(batch, tasks=tuple(replace(sample, task="event_order") for sample in batch.tasks))
    with pytest.raises(ValueError, match="'event_order' in the place of task"):
        objective(swapped)


def test_targets_are_not_rounded_by_autocast():
    objective, batch = built(CONFIG), probe.tiny_batch()
    pose = objective.tasks[0]
    seen = []
    plain = pose.loss
    pose.loss = lambda prediction, target: seen.append(first_from_last(target)) or plain(prediction, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        objective(batch)
    assert torch.equal(seen[0], first_from_last(batch.tasks[0].target))


def test_a_task_is_read_out_in_the_kinds_that_it_has():
    config = replace(probe.tiny(), tasks=(camera_pose.tiny(), depth.tiny()), readouts=("linear", "dense"))
    assert [(head.task, head.kind) for head in config.build().heads] == [(0, "linear"), (1, "linear"), (1, "dense")]
    with pytest.raises(ValueError, match="no task of the probe has a 'dense' readout: camera_pose has attention, lin"):
        replace(config, tasks=(camera_pose.tiny(),)).build()

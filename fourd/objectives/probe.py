"""Probe: learn readouts on a backbone's features, many at a time, frozen or finetuned.

A frozen backbone runs once per clip, however many readouts learn from it: every task, kind of readout,
depth and learning rate. Their losses are added, and no two readouts share a parameter, so the gradient
of one never reaches another, as long as gradients are not clipped across them (`OptimConfig.clip_norm`
of 0). Where each starts and what it drops out follows from its own name, so a readout learns the same
whichever others learn beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from fourd.backbones import mean_pixel
from fourd.tasks import action, camera_pose
from fourd.types import (
    BackboneConfig,
    Batch,
    ClipShape,
    Features,
    Objective,
    ObjectiveConfig,
    ReadoutKind,
    Step,
    Task,
    TaskConfig,
)

BackboneUse = Literal["frozen", "finetuned", "encoded"]


@dataclass(frozen=True)
class Head:
    """Name one readout of a probe: for which task, of which kind, at which depth, learning at which of the rates."""

    task: int
    kind: ReadoutKind
    depth: int
    rate: int = 0


class Probe(Objective):
    """Train readouts for tasks on one backbone.

    The backbone is frozen, finetuned, or absent: with `encoded` the batch brings the features that it
    gave once.
    """

    def __init__(self, config: ProbeConfig) -> None:
        super().__init__()
        self.config = config
        self.tasks: tuple[Task[Any, Any, Any], ...] = tuple(task.build() for task in config.tasks)
        self.heads = tuple(
            Head(task, kind, depth, rate)
            for task in range(len(config.tasks))
            for kind in config.readouts
            if kind in self.tasks[task].readouts
            for depth in range(len(config.depths))
            for rate in range(len(config.rates))
        )
        _require_kinds(config.readouts, self.tasks)
        with torch.device("meta"):
            blank = config.backbone.build()
        shape = blank.feature_shape(config.clip)
        self.blocks = tuple(blank.block_at(depth) for depth in config.depths)
        """For each depth that is read, how many of the backbone's blocks that comes to."""
        if config.use != "encoded":
            self.backbone = config.backbone.build().requires_grad_(config.use == "finetuned")
        self.readouts = nn.ModuleList(
            self.tasks[head.task].build_readout(shape, config.clip, head.kind) for head in self.heads
        )

    def forward(self, batch: Batch) -> Step:
        """Add up the losses of all readouts."""
        _require_tasks(batch, self.tasks)
        scalars = {}
        predictions = self.predict(batch)
        # targets are not rounded: a loss takes its differences in float32
        with torch.autocast(batch.video.device.type, enabled=False):
            for head, prediction in zip(self.heads, predictions, strict=True):
                scalars[self.label(head)] = self.tasks[head.task].loss(prediction, batch.tasks[head.task].target).loss
        total = torch.stack(list(scalars.values())).sum()
        return Step(total, {name: loss.detach() for name, loss in scalars.items()})

    def train(self, mode: bool = True) -> Probe:
        """Switch the readouts to training; a frozen backbone stays as it is used, without dropout."""
        super().train(mode)
        if self.config.use == "frozen":
            self.backbone.eval()
        return self

    def predict(self, batch: Batch) -> list[Any]:
        """Answer every head's query; the answers are in the order of `heads`."""
        features = self._features(batch)
        seed, answers = torch.initial_seed(), []
        for head, readout in zip(self.heads, self.readouts, strict=True):
            if self.training:  # its own dropout, whoever else learns along
                torch.manual_seed(_seed_for(seed, self._place(head)))
            answers.append(readout(features[head.depth], batch.tasks[head.task].query))
        return answers

    def label(self, head: Head) -> str:
        """Name a readout for people."""
        rate = f"/x{self.config.rates[head.rate]:g}" if len(self.config.rates) > 1 else ""
        return self._place(head) + rate

    def _place(self, head: Head) -> str:
        """Name what a readout shares with those that learn at other rates: where it starts, what it drops out."""
        return f"{self.tasks[head.task].name}/{head.kind}/{self.config.depths[head.depth]:g}"

    def learning_rate_scale(self, parameter: str) -> float:
        """Say by what a parameter's learning rate is multiplied: each readout has its own."""
        part, _, rest = parameter.partition(".")
        return self.config.rates[self.heads[int(rest.partition(".")[0])].rate] if part == "readouts" else 1.0

    def _features(self, batch: Batch) -> Sequence[Features]:
        if self.config.use == "encoded":
            if len(batch.features) != len(self.config.depths):
                raise ValueError(
                    f"the batch brings features of {len(batch.features)} depths; expected {len(self.config.depths)}"
                )
            return batch.features
        learning = contextlib.nullcontext() if self.config.use == "finetuned" else torch.no_grad()
        with learning:
            features: tuple[Features, ...] = self.backbone(batch.video, self.config.depths)
        return features

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill the readouts, and the backbone with random weights, which a run's `init` then replaces."""
        if self.config.use != "encoded":
            self.backbone.init_weights(generator)
        device = next(self.readouts.parameters()).device
        seed = generator.initial_seed() if generator is not None else torch.initial_seed()
        for head, readout in zip(self.heads, self.readouts, strict=True):
            own = torch.Generator(device).manual_seed(_seed_for(seed, self._place(head)))
            readout.init_weights(own)  # type: ignore[operator]

    def export(self) -> Mapping[str, nn.Module]:
        """Name the readouts, and the backbone where there is one."""
        parts: dict[str, nn.Module] = {"readouts": self.readouts}
        if self.config.use != "encoded":
            parts["model"] = self.backbone
        return parts


def _require_kinds(kinds: Sequence[ReadoutKind], tasks: Sequence[Task[Any, Any, Any]]) -> None:
    for kind in kinds:
        if not any(kind in task.readouts for task in tasks):
            told = "; ".join(f"{task.name} has {', '.join(task.readouts)}" for task in tasks)
            raise ValueError(f"no task of the probe has a {kind!r} readout: {told}")


def _seed_for(seed: int, name: str) -> int:
    """Draw a seed for a named part, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8]) >> 1


def _require_tasks(batch: Batch, tasks: Sequence[Task[Any, Any, Any]]) -> None:
    if len(batch.tasks) != len(tasks):
        names = ", ".join(task.name for task in tasks)
        raise ValueError(f"the batch holds samples of {len(batch.tasks)} tasks; the probe learns {len(tasks)}: {names}")
    for sample, task in zip(batch.tasks, tasks, strict=True):
        if sample.task not in ("", task.name, task.kind):
            raise ValueError(f"the batch holds a sample of {sample.task!r} in the place of task {task.name!r}")


@dataclass(frozen=True)
class ProbeConfig(ObjectiveConfig):
    """Describe a probe. Every task is read out at every depth, learned at every one of the rates.

    readouts: each task is read out in those of the kinds that it has; a kind that none of them has is refused.
    rates: what the run's learning rate is multiplied by, each for a readout of its own.
    """

    backbone: BackboneConfig
    tasks: tuple[TaskConfig, ...]
    clip: ClipShape
    readouts: tuple[ReadoutKind, ...] = ("attention",)
    depths: tuple[float, ...] = (0.95,)
    use: BackboneUse = "frozen"
    rates: tuple[float, ...] = (1.0,)

    def build(self) -> Probe:
        """Build the probe, its parameters unset."""
        return Probe(self)


def tiny() -> ProbeConfig:
    """Describe a probe that runs at once, for tests."""
    tasks = (camera_pose.tiny(), action.tiny())
    return ProbeConfig(mean_pixel.tiny(), tasks, ClipShape(4, 32, 32), ("attention", "linear"))


def tiny_batch() -> Batch:
    """Make two clips that `tiny()` can learn from."""
    video = torch.randint(0, 256, (2, 4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    samples = (camera_pose.tiny_sample()[1], action.tiny_sample()[1])
    return Batch(video, torch.arange(4.0).expand(2, -1), ("a", "b"), ("a", "b"), torch.tensor([1, 2]), samples)

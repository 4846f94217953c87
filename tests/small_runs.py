"""A dataset, an objective and a run that take milliseconds: what the loop's tests train, here and in processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fourd.backbones import video_vit
from fourd.objectives import probe, simple_mae
from fourd.optim import OptimConfig
from fourd.trainer import RunConfig
from fourd.types import Batch, Dataset, DatasetConfig, Objective, ObjectiveConfig, Step, map_tensors
from tests.noise_clips import ClipsConfig


@dataclass(frozen=True)
class ProbeClipsConfig(DatasetConfig):
    """Describe the clips that the tiny probe learns from."""

    def build(self) -> ProbeClips:
        return ProbeClips()


class ProbeClips(Dataset):
    """Give the two clips of the tiny probe's batch, one by one."""

    def __len__(self) -> int:
        return 2

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        batch = probe.tiny_batch()
        one = map_tensors(lambda tensor: tensor[index : index + 1], batch)
        return replace(one, key=(batch.key[index],), group=(batch.group[index],))


@dataclass(frozen=True)
class LineConfig(ObjectiveConfig):
    """Describe a small network; the loss of `poisoned` clips is not a number, that of `exploding` ones is huge."""

    poisoned: tuple[str, ...] = ()
    exploding: tuple[str, ...] = ()
    poisoned_times: int = 1000
    freeze: bool = False

    def build(self) -> Line:
        return Line(self)


class Line(Objective):
    """Predict a clip's times from its colours, with dropout and with noise, as training may have both."""

    def __init__(self, config: LineConfig) -> None:
        super().__init__()
        self.config, self.times_left = config, config.poisoned_times
        self.backbone = nn.Linear(96, 8).requires_grad_(not config.freeze)
        self.head = nn.Linear(8, 2)
        self.unused = nn.Parameter(torch.empty(3))
        self.dtypes: list[torch.dtype] = []

    def forward(self, batch: Batch) -> Step:
        hidden = self.backbone(batch.video.flatten(1).float() / 255)
        self.dtypes.append(hidden.dtype)
        answer = self.head(F.dropout(hidden.relu(), 0.25, self.training))
        loss = (answer.float() - batch.time_s - 0.01 * torch.rand_like(batch.time_s)).square().mean()
        if self.training and self.times_left and set(self.config.poisoned) & set(batch.key):
            self.times_left -= 1
            loss = loss * torch.nan
        if self.training and set(self.config.exploding) & set(batch.key):
            loss = loss * 1000
        return Step(loss, {"answer": answer.detach().mean()})

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1, generator=generator)

    def export(self) -> Mapping[str, nn.Module]:
        return {"model": self.backbone, "head": self.head}

    def pictures(self, batch: Batch) -> Mapping[str, Any]:
        return {"first_frame": batch.video[0, 0].movedim(0, -1)}


@dataclass(frozen=True)
class AveragedConfig(LineConfig):
    """Describe a network that is taught by the running average of itself."""

    def build(self) -> Averaged:
        return Averaged(self)


class Averaged(Line):
    """Agree with what the average of earlier weights says."""

    def __init__(self, config: AveragedConfig) -> None:
        super().__init__(config)
        self.average = nn.Linear(96, 8).requires_grad_(False)
        self.register_buffer("moves", torch.zeros(()))

    def forward(self, batch: Batch) -> Step:
        pixels = batch.video.flatten(1).float() / 255
        apart = (self.backbone(pixels) - self.average(pixels)).square().mean()
        return Step(super().forward(batch).loss + apart)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        super().init_weights(generator)
        self.moves.zero_()

    def followers(self) -> Mapping[str, nn.Module]:
        return {"average": self.average}

    def begin(self) -> None:
        self.average.load_state_dict(self.backbone.state_dict())

    def after_step(self, done: float, applied: torch.Tensor) -> None:
        self.moves += applied
        for mine, other in zip(self.average.parameters(), self.backbone.parameters(), strict=True):
            mine.lerp_(other, applied * (1 - done / 2))


@dataclass(frozen=True)
class HollowConfig(ObjectiveConfig):
    """Describe an objective that forgets two buffers which no state holds."""

    def build(self) -> Hollow:
        return Hollow()


class Hollow(Line):
    """Forget to fill a buffer of numbers and one of whole numbers."""

    def __init__(self) -> None:
        super().__init__(LineConfig())
        self.register_buffer("table", torch.empty(2), persistent=False)
        self.register_buffer("index", torch.empty(2, dtype=torch.long), persistent=False)
        self.register_buffer("mask", torch.empty(2, dtype=torch.bool), persistent=False)  # no mark can be told here


OPTIM = OptimConfig(learning_rate=0.05, warmup_steps=3)


def run(
    objective: ObjectiveConfig | None = None,
    data: DatasetConfig | None = None,
    held_out: DatasetConfig | None = None,
    optim: OptimConfig = OPTIM,
    **changes: Any,
) -> RunConfig:
    """Describe a run of a few milliseconds a step."""
    values = {"steps": 8, "batch_size": 4, "save_every": 3, "log_every": 2, "held_out_every": 4, "device": "cpu"}
    return RunConfig(objective or LineConfig(), data or ClipsConfig(), held_out, optim, **{**values, **changes})


def long_run() -> RunConfig:
    """Describe the run that is killed again and again."""
    return run(
        held_out=ClipsConfig(5, 100),
        data=ClipsConfig(unreadable=(3,)),
        steps=60,
        save_every=4,
        log_every=3,
        max_quarantined=0.1,
    )


def pretraining() -> RunConfig:
    """Describe SimpleMAE on clips of noise, as a recipe."""
    return run(simple_mae.tiny(), ClipsConfig(12, shape=(4, 32, 32)), steps=4, save_every=2)


def finetuning() -> RunConfig:
    """Describe the tiny probe, its backbone finetuned, as a recipe."""
    config = replace(probe.tiny(), backbone=video_vit.tiny(), use="finetuned")
    return run(config, ProbeClipsConfig(), ProbeClipsConfig(), steps=4, batch_size=4)

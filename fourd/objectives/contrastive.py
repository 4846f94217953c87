"""Contrastive learning: two clips of one video agree, those of others do not.

Two forms: SimCLR (arXiv 2002.05709; of video: CVRL, arXiv 2008.03800), where the other clips are those of the batch,
and MoCo (arXiv 1911.05722), where they are a queue of earlier ones that an average of the weights has described.
Encoder, data and loop are those of SimpleMAE; a recipe loads clips that are longer than what the encoder sees, and the
two are cut out of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from fourd.backbones import video_vit
from fourd.backbones.video_vit import VideoViT, VideoViTConfig
from fourd.layers import LayerNorm, init_lecun_normal
from fourd.objectives._average import align, follow
from fourd.objectives._gathered import rows_of_all_ranks
from fourd.objectives._native import noisy_clips, require_native_size
from fourd.objectives._views import view
from fourd.types import Batch, Objective, ObjectiveConfig, Step

Form = Literal["simclr", "moco"]


class Contrastive(Objective):
    """Train an encoder so that a clip can be picked out by another clip of the same video.

    On many ranks, SimCLR compares with the clips of all of them; of a batch that is worked off in parts, with those of
    the part alone. Clips of one key are one video, which is never compared with itself; MoCo's queue may hold it from
    an earlier pass.
    """

    queue: Tensor
    next_place: Tensor

    def __init__(self, config: ContrastiveConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone: VideoViT = config.backbone.build()
        require_native_size(self.backbone, type(self).__name__)
        self.projector = Projector(config)
        if config.form == "moco":
            self.key_backbone = config.backbone.build().requires_grad_(False)
            self.key_projector = Projector(config).requires_grad_(False)
            self.register_buffer("queue", torch.empty(config.queue_size, config.projected_width))
            self.register_buffer("next_place", torch.empty((), dtype=torch.int64))
        self._keys: list[Tensor] = []

    def forward(self, batch: Batch) -> Step:
        """Compute the cross-entropy of picking the right clip; `accuracy` is how often it is picked."""
        one, other = (self._view(batch, stream) for stream in (1, 2))
        asking = self._described(self.backbone, self.projector, one)
        if self.config.form == "simclr":
            videos = _numbers_of(batch.key).to(asking.device, non_blocking=True)
            return self._among_each_other(asking, self._described(self.backbone, self.projector, other), videos)
        with torch.no_grad():
            keys = self._described(self.key_backbone, self.key_projector, other)
        if self.training:
            self._keys.append(keys)
        right = (asking * keys).sum(1, keepdim=True)
        first = torch.zeros(len(keys), dtype=torch.int64, device=keys.device)
        return self._step(torch.cat([right, _likeness(asking, self.queue)], 1), first)

    def _view(self, batch: Batch, stream: int) -> Float[Tensor, "B t 3 h w"]:
        config = self.config
        shape = (config.backbone.num_frames, config.backbone.size)
        return view(batch.video, batch.seed, stream, *shape, config.crop_scale, config.jitter)

    def _described(self, backbone: VideoViT, projector: nn.Module, clips: Tensor) -> Float[Tensor, "B E"]:
        """Describe clips by vectors of unit length; views are in range and of native size, so nothing is checked."""
        tokens = backbone.embed(clips)
        for block in backbone.blocks:
            tokens = block(tokens)
        return F.normalize(projector(tokens.mean(1)).float(), dim=-1)

    def _among_each_other(
        self, one: Float[Tensor, "B E"], other: Float[Tensor, "B E"], videos: Float[Tensor, "B 2"]
    ) -> Step:
        """Let each of two views pick the other among both views of all videos but its own."""
        rows = torch.cat([one, other, videos], 1)
        # held-out clips are compared within the rank
        all_rows, place = rows_of_all_ranks(rows) if self.training else (rows, 0)
        all_ones, all_others, all_videos = all_rows.split([one.shape[1], other.shape[1], 2], dim=1)
        own = place + torch.arange(len(one), device=one.device)
        same = (videos[:, None] == all_videos).all(2)
        steps = [
            self._step(_without_same_video(_likeness(asking, torch.cat([theirs, mine])), same, own), own)
            for asking, theirs, mine in ((one, all_others, all_ones), (other, all_ones, all_others))
        ]
        accuracy = torch.stack([step.scalars["accuracy"] for step in steps]).mean()
        return Step((steps[0].loss + steps[1].loss) / 2, {"accuracy": accuracy})

    def _step(self, likeness: Float[Tensor, "B N"], right: Int[Tensor, " B"]) -> Step:
        loss = F.cross_entropy(likeness / self.config.temperature, right)
        return Step(loss, {"accuracy": _is_picked(likeness.detach(), right).float().mean()})

    def followers(self) -> Mapping[str, nn.Module]:
        """Name the average of encoder and projector that describes the queue."""
        if self.config.form == "simclr":
            return {}
        return {"key_backbone": self.key_backbone, "key_projector": self.key_projector}

    def begin(self) -> None:
        """Start the average at the encoder."""
        for mine, other in self._pairs():
            align(mine, other)

    def after_step(self, done: float, applied: Tensor) -> None:
        """Move the average, and put the step's clips into the queue, the same on all ranks."""
        for mine, other in self._pairs():
            follow(mine, other, applied * (1 - self.config.momentum))
        if self._keys:
            keys, _ = rows_of_all_ranks(torch.cat(self._keys))
            self._keys.clear()
            self._enqueue(keys, applied)

    def _pairs(self) -> tuple[tuple[nn.Module, nn.Module], ...]:
        """Pair each part of the average with what it follows."""
        if self.config.form == "simclr":
            return ()
        return (self.key_backbone, self.backbone), (self.key_projector, self.projector)

    def _enqueue(self, keys: Float[Tensor, "N E"], applied: Tensor) -> None:
        """Replace the oldest; what is not finite, or of a step that was skipped, never enters."""
        if len(keys) > len(self.queue):
            raise ValueError(
                f"queue_size is {len(self.queue)}, and a step has {len(keys)} clips: expected at least as many"
            )
        places = (self.next_place + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        enters = (applied > 0) & torch.isfinite(keys).all(1, keepdim=True)
        self.queue.index_copy_(0, places, torch.where(enters, keys, self.queue.index_select(0, places)))
        self.next_place.add_((len(keys) * applied).long()).remainder_(len(self.queue))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter, and the queue with random directions."""
        self.backbone.init_weights(generator)
        self.projector.init_weights(generator)
        if self.config.form == "moco":
            self.key_backbone.init_weights(generator)
            self.key_projector.init_weights(generator)
            with torch.no_grad():
                self.queue.normal_(generator=generator)
                self.queue.div_(self.queue.norm(dim=1, keepdim=True))
                self.next_place.zero_()

    def export(self) -> Mapping[str, nn.Module]:
        """Name the encoder, which is what one trains for, and the projector."""
        return {"model": self.backbone, "projector": self.projector}


def _likeness(asking: Float[Tensor, "B E"], described: Float[Tensor, "N E"]) -> Float[Tensor, "B N"]:
    """Multiply in float32 whatever autocast says: the temperature makes what is rounded off many times larger."""
    kind = asking.device.type
    # there is no autocast where operations are only counted, on the meta device
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        return asking @ described.T


def _is_picked(likeness: Float[Tensor, "B N"], right: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
    """Tell where the right column is the most alike and no other one is as much: of equal ones none is picked."""
    return (likeness >= likeness.gather(1, right[:, None])).sum(1) == 1


def _without_same_video(
    likeness: Float[Tensor, "B M"], same: Bool[Tensor, "B N"], own: Int[Tensor, " B"]
) -> Float[Tensor, "B M"]:
    """Leave out the columns of a row's own video, twice N of them, but for the one that is to be picked."""
    left_out = torch.cat([same, same], 1).scatter(1, own[:, None], False)
    return likeness.masked_fill(left_out, -torch.inf)


def _numbers_of(keys: Sequence[str]) -> Float[Tensor, "B 2"]:
    """Give each key two numbers of 24 bits, which float32 holds exactly and which ranks can exchange."""
    digests = [hashlib.blake2b(key.encode(), digest_size=6).digest() for key in keys]
    halves = [[int.from_bytes(digest[:3]), int.from_bytes(digest[3:])] for digest in digests]
    return torch.tensor(halves, dtype=torch.float32)


class Projector(nn.Module):
    """Map a clip's mean token to where clips are compared: two layers, a norm of each clip by itself between them.

    SimCLR has batch norms there, which would tie every clip to its batch.
    """

    def __init__(self, config: ContrastiveConfig) -> None:
        super().__init__()
        width = config.backbone.width
        self.norm = LayerNorm(width)
        self.hidden = nn.Linear(width, config.hidden_width)
        self.hidden_norm = LayerNorm(config.hidden_width)
        self.out = nn.Linear(config.hidden_width, config.projected_width)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """Project."""
        return self.out(F.gelu(self.hidden_norm(self.hidden(self.norm(x)))))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter."""
        for norm in (self.norm, self.hidden_norm):
            norm.reset_parameters()
        for linear in (self.hidden, self.out):
            init_lecun_normal(linear, generator)


@dataclass(frozen=True)
class ContrastiveConfig(ObjectiveConfig):
    """Describe contrastive learning. None of its values is from the 4DS paper."""

    backbone: VideoViTConfig = field(default_factory=video_vit.base)
    form: Form = "simclr"
    temperature: float = 0.1
    """CVRL's."""
    hidden_width: int = 2048
    projected_width: int = 128
    crop_scale: tuple[float, float] = (0.3, 1.0)
    """Share of a frame's area that a view shows. CVRL's."""
    jitter: float = 0.4
    """By how much brightness, contrast and saturation change, as a share."""
    queue_size: int = 65536
    """Clips that MoCo compares with."""
    momentum: float = 0.999
    """Share of MoCo's average that stays in a step."""

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if not self.temperature > 0:
            raise ValueError(f"ContrastiveConfig.temperature is {self.temperature}: expected more than 0")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"ContrastiveConfig.crop_scale is {self.crop_scale}: expected two rising shares up to 1")
        if self.queue_size < 1:
            raise ValueError(f"ContrastiveConfig.queue_size is {self.queue_size}: expected 1 or more")

    def build(self) -> Contrastive:
        """Build the objective, its parameters unset."""
        return Contrastive(self)


def base() -> ContrastiveConfig:
    """Describe the pretraining of size B in SimCLR's form."""
    return ContrastiveConfig()


def moco() -> ContrastiveConfig:
    """Describe the pretraining of size B in MoCo's form."""
    return replace(base(), form="moco", temperature=0.07)


def tiny() -> ContrastiveConfig:
    """Describe a pretraining that runs at once, for tests."""
    return ContrastiveConfig(video_vit.tiny(), hidden_width=32, projected_width=16, queue_size=8)


def tiny_batch() -> Batch:
    """Make two noisy clips that `tiny()` can learn from."""
    return noisy_clips()

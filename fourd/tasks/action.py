"""Action: which of a few things happens in a clip.

Source: one learned query and a softmax, dropout on the attention's output (SciVid); label smoothing is
not from the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fourd import metrics, pictures
from fourd.readout import AttentionReadout, LinearReadout, ReadoutSize, build_attention, pool_tokens
from fourd.types import (
    ClipShape,
    Features,
    FeatureShape,
    Label,
    NoQuery,
    ReadoutKind,
    Score,
    Step,
    Task,
    TaskConfig,
    TaskSample,
)

Logits = Float[Tensor, "B K"]


class _ActionReadout(nn.Module):
    def __init__(self, features: FeatureShape, config: ActionConfig, kind: ReadoutKind) -> None:
        super().__init__()
        self.is_linear = kind == "linear"
        num_classes = len(config.class_names)
        self.readout: AttentionReadout | LinearReadout
        if self.is_linear:
            self.readout = LinearReadout(features.width, num_classes)
        else:
            self.readout = build_attention(kind, features, config.size, num_classes, num_queries=1)

    def forward(self, features: Features, query: NoQuery) -> Logits:
        """Predict a logit for each class."""
        if self.is_linear:
            return self.readout(pool_tokens(features))
        return self.readout(features).squeeze(1).float()

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        self.readout.init_weights(generator)


class Action(Task[NoQuery, Label, Logits]):
    """Measure the share of clips whose class is found."""

    kind = "action"
    metrics = (metrics.TOP_1, metrics.TOP_5)
    readouts = ("attention", "linear", "attention_deep")

    def __init__(self, config: ActionConfig) -> None:
        self.config, self.name = config, config.name

    def build_readout(self, features: FeatureShape, clip: ClipShape, kind: ReadoutKind) -> nn.Module:
        """Build a readout that gives a logit for each class."""
        self.require_readout(kind)
        return _ActionReadout(features, self.config, kind)

    def loss(self, prediction: Logits, target: Label) -> Step:
        """Take the cross-entropy."""
        return Step(F.cross_entropy(prediction, target.index, label_smoothing=self.config.label_smoothing))

    def scores(self, prediction: Logits, query: NoQuery, target: Label) -> tuple[Score, ...]:
        """Score 1 where the class is among the first guesses."""
        return (metrics.top_k(prediction, target.index, 1), metrics.top_k(prediction, target.index, 5))

    def fit_controls(
        self, samples: Sequence[TaskSample[NoQuery, Label]]
    ) -> Mapping[str, Callable[[NoQuery, ClipShape, int], Logits]]:
        """Learn how often each class occurs, and always guess the most frequent one."""
        index = torch.cat([s.target.index for s in samples])
        frequency = torch.bincount(index, minlength=len(self.config.class_names)).float() / len(index)
        # equally frequent classes must not tie: the first of them is the guess
        guess = frequency - 1e-6 * torch.arange(len(frequency))
        return {"mean_answer": lambda query, clip, num_clips: guess.expand(num_clips, -1)}

    def pool_views(self, prediction: Logits, num_views: int) -> Float[Tensor, "N K"]:
        """Average the probabilities of every `num_views` clips in a row; give their logarithm, which serves as logits.

        Source: SciVid's readout over several clips; some toolboxes average logits, which is another number. In double
        precision, so that classes far behind do not tie. Raises ValueError where views are missing.
        """
        if num_views < 1 or len(prediction) % num_views:
            raise ValueError(f"{self.name}: {len(prediction)} answers; expected a multiple of {num_views} views")
        by_clip = prediction.double().log_softmax(-1).unflatten(0, (-1, num_views))
        return by_clip.logsumexp(1) - math.log(num_views)

    def draw(self, video: Tensor, query: NoQuery, prediction: Logits, target: Label) -> Tensor:
        """Draw the input, the true class and the guesses."""
        return pictures.label_film(video, self.config.class_names, target, prediction.softmax(-1))


@dataclass(frozen=True)
class ActionConfig(TaskConfig):
    """Describe a classification of clips."""

    class_names: tuple[str, ...]
    size: ReadoutSize = field(default_factory=lambda: ReadoutSize(dropout=0.5))
    label_smoothing: float = 0.1

    def build(self) -> Action:
        """Build the task."""
        return Action(self)


def tiny() -> ActionConfig:
    """Describe one for tests."""
    return ActionConfig("action", ("rise", "fall", "turn"), size=ReadoutSize(16, 2))


def tiny_sample() -> tuple[ClipShape, TaskSample[NoQuery, Label]]:
    """Make the classes of two clips."""
    return ClipShape(4, 32, 32), TaskSample(NoQuery(), Label(torch.tensor([0, 2])))

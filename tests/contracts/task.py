"""What every task must keep. Each check takes a plug-in module, which exports `tiny()` and `tiny_sample()`."""

from __future__ import annotations

import inspect
from typing import Any, Protocol, get_args

import pytest
import torch
from torch import nn

from fourd.types import ClipShape, Features, FeatureShape, ReadoutKind, Score, Task, TaskConfig, TaskSample, map_tensors
from tests.contracts.nouns import (
    assert_close,
    assert_finite,
    fill_with_nan,
    names_with_nan,
    random_video,
    take_clips,
    tensors_in,
)

AnySample = TaskSample[Any, Any]


class TaskPlugin(Protocol):
    """A module that exports a task."""

    __name__: str

    def tiny(self) -> TaskConfig:
        """Describe a task whose readouts run within a second on a CPU."""

    def tiny_sample(self) -> tuple[ClipShape, AnySample]:
        """Make a question and its answer for two clips or more."""


def num_clips(sample: AnySample) -> int:
    """Count the clips of a sample."""
    return len(tensors_in(sample.target)[0])


def shape_for(clip: ClipShape) -> FeatureShape:
    """Choose a token grid as a backbone might give for a clip."""
    return FeatureShape(t=max(1, clip.num_frames // 2), h=4, w=4, width=32)


def features_for(plugin: TaskPlugin) -> Features:
    """Make up features of the sample's clips."""
    clip, sample = plugin.tiny_sample()
    shape = shape_for(clip)
    generator = torch.Generator().manual_seed(0)
    return Features(torch.randn(num_clips(sample), shape.t, shape.h, shape.w, shape.width, generator=generator))


def readout_for(plugin: TaskPlugin, task: Task[Any, Any, Any], kind: ReadoutKind) -> nn.Module:
    """Build a readout, the same weights each time."""
    clip, _ = plugin.tiny_sample()
    readout = task.build_readout(shape_for(clip), clip, kind)
    readout.init_weights(torch.Generator().manual_seed(0))  # type: ignore[operator]
    return readout.eval()


def predict(plugin: TaskPlugin, task: Task[Any, Any, Any], kind: ReadoutKind = "attention") -> Any:
    """Answer the sample's question with an untrained readout."""
    _, sample = plugin.tiny_sample()
    return readout_for(plugin, task, kind)(features_for(plugin), sample.query)


def describes_a_task(plugin: TaskPlugin) -> None:
    """`tiny()` gives a TaskConfig that builds a named Task; `tiny_sample()` holds two clips or more."""
    config = plugin.tiny()
    assert isinstance(config, TaskConfig)
    assert config == plugin.tiny(), "two calls of tiny() differ: a config must compare by its values"
    task = config.build()
    assert isinstance(task, Task)
    assert task.name, "a task needs a name for its rows"
    names = [metric.name for metric in task.metrics]
    assert names, "a task declares at least one metric"
    assert len(set(names)) == len(names), f"two metrics share a name: {names}"
    clip, sample = plugin.tiny_sample()
    assert isinstance(clip, ClipShape)
    assert isinstance(sample, TaskSample)
    assert {len(tensor) for tensor in tensors_in(sample)} == {num_clips(sample)}
    assert num_clips(sample) >= 2, "tiny_sample() must hold two clips or more"


def knows_its_kind(plugin: TaskPlugin) -> None:
    """`kind` is the name of the task's own module."""
    assert plugin.tiny().build().kind == plugin.__name__.rpartition(".")[2]


def fills_every_parameter_of_a_readout(plugin: TaskPlugin) -> None:
    """A readout has `init_weights(generator)`, which leaves no parameter as it was."""
    task = plugin.tiny().build()
    for kind in task.readouts:
        readout = readout_for(plugin, task, kind)
        fill_with_nan(readout)
        readout.init_weights(torch.Generator().manual_seed(0))  # type: ignore[operator]
        assert not names_with_nan(readout), f"init_weights of the {kind} readout left these as they were"


def answers_with_both_readouts(plugin: TaskPlugin) -> None:
    """Every kind of readout that the task has gives a finite prediction for every clip."""
    task = plugin.tiny().build()
    _, sample = plugin.tiny_sample()
    for kind in task.readouts:
        prediction = predict(plugin, task, kind)
        assert_finite(prediction)
        assert {len(tensor) for tensor in tensors_in(prediction)} == {num_clips(sample)}


def refuses_readouts_that_it_does_not_have(plugin: TaskPlugin) -> None:
    """`build_readout` raises ValueError for a kind that is not among `readouts`."""
    task = plugin.tiny().build()
    assert task.readouts, "a task has one kind of readout or more"
    clip, _ = plugin.tiny_sample()
    for kind in set(get_args(ReadoutKind)) - set(task.readouts):
        with pytest.raises(ValueError, match=f"no '{kind}' readout"):
            task.build_readout(shape_for(clip), clip, kind)


def learns_every_parameter_of_a_readout(plugin: TaskPlugin) -> None:
    """The loss of a prediction is finite, and each parameter of the readout gets a finite gradient."""
    task = plugin.tiny().build()
    _, sample = plugin.tiny_sample()
    for kind in task.readouts:
        readout = readout_for(plugin, task, kind)
        step = task.loss(readout(features_for(plugin), sample.query), sample.target)
        assert step.loss.shape == ()
        assert step.loss.isfinite()
        step.loss.backward()
        gradients = {name: parameter.grad for name, parameter in readout.named_parameters()}
        assert gradients, f"the {kind} readout has nothing to learn"
        assert not [name for name, grad in gradients.items() if grad is None], f"no gradient in the {kind} readout"
        assert all(grad.isfinite().all() for grad in gradients.values() if grad is not None)


def never_shows_a_readout_the_answer(plugin: TaskPlugin) -> None:
    """A readout takes features and query alone, and answers the same after the task has seen other answers."""
    task = plugin.tiny().build()
    _, sample = plugin.tiny_sample()
    spoiled = take_clips(sample.target, list(reversed(range(num_clips(sample)))))
    for kind in task.readouts:
        readout = readout_for(plugin, task, kind)
        assert list(inspect.signature(readout.forward).parameters) == ["features", "query"]
        before = readout(features_for(plugin), sample.query)
        task.loss(before, spoiled)
        task.scores(before, sample.query, spoiled)
        assert_close(readout(features_for(plugin), sample.query), before, tolerance=0)


def reads_the_features(plugin: TaskPlugin) -> None:
    """Other features give another prediction, once a readout has left the weights that it starts from."""
    task = plugin.tiny().build()
    _, sample = plugin.tiny_sample()
    for kind in task.readouts:
        readout = readout_for(plugin, task, kind)
        with torch.no_grad():  # a readout may start from one answer for all, as "nothing moves"
            for parameter in readout.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        one, other = (readout(Features(sign * features_for(plugin).grid), sample.query) for sign in (1, -1))
        pairs = zip(tensors_in(one), tensors_in(other), strict=True)
        assert any(not torch.equal(a, b) for a, b in pairs), f"the {kind} readout ignores the features"


def check_scores(task: Task[Any, Any, Any], scores: tuple[Score, ...], clips: int) -> None:
    """Hold scores to their contract: one per declared metric in order, finite, weights not negative."""
    assert tuple(score.metric for score in scores) == tuple(task.metrics)
    for score in scores:
        assert score.score.shape == score.weight.shape == (clips,), f"{score.metric.name} is not one number per clip"
        assert_finite(score.score)
        assert_finite(score.weight)
        assert (score.weight >= 0).all()
        assert not score.score[score.weight == 0].any(), f"{score.metric.name}: a clip of weight 0 must score 0"


def scores_every_metric(plugin: TaskPlugin) -> None:
    """`scores` gives every declared metric for every clip."""
    task = plugin.tiny().build()
    _, sample = plugin.tiny_sample()
    prediction = predict(plugin, task)
    check_scores(task, task.scores(prediction, sample.query, sample.target), num_clips(sample))


def scores_each_clip_by_itself(plugin: TaskPlugin) -> None:
    """A clip's score does not depend on the clips around it: rows are kept per clip."""
    task = plugin.tiny().build()
    _, sample = plugin.tiny_sample()
    prediction = predict(plugin, task)
    together = task.scores(prediction, sample.query, sample.target)
    for clip in range(num_clips(sample)):
        alone = task.scores(*take_clips((prediction, sample.query, sample.target), [clip]))
        assert_close(alone, take_clips(together, [clip]))


def has_controls(plugin: TaskPlugin) -> None:
    """At least one answer knows nothing of the pixels, and it can be scored."""
    task = plugin.tiny().build()
    shape, sample = plugin.tiny_sample()
    controls = task.fit_controls([sample])
    assert controls, "fit_controls gives no control"
    for control in controls.values():
        prediction = control(sample.query, shape, num_clips(sample))
        assert {len(tensor) for tensor in tensors_in(prediction)} == {num_clips(sample)}
        check_scores(task, task.scores(prediction, sample.query, sample.target), num_clips(sample))


def draws_a_film(plugin: TaskPlugin) -> None:
    """`draw` gives a film of one clip: uint8, `T H W 3`."""
    task = plugin.tiny().build()
    clip, sample = plugin.tiny_sample()
    noun = (predict(plugin, task), sample.query, sample.target)
    prediction, query, target = take_clips(map_tensors(torch.Tensor.detach, noun), [0])
    film = task.draw(random_video(1, clip), query, prediction, target)
    assert film.dtype == torch.uint8
    assert film.ndim == 4, f"the film has shape {tuple(film.shape)}"
    assert (len(film), film.shape[-1]) == (clip.num_frames, 3), f"the film has shape {tuple(film.shape)}"


CHECKS = (
    describes_a_task,
    knows_its_kind,
    fills_every_parameter_of_a_readout,
    answers_with_both_readouts,
    refuses_readouts_that_it_does_not_have,
    learns_every_parameter_of_a_readout,
    never_shows_a_readout_the_answer,
    reads_the_features,
    scores_every_metric,
    scores_each_clip_by_itself,
    has_controls,
    draws_a_film,
)

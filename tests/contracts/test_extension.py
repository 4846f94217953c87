"""Extend fourd as docs/extending.md says, with the very files of that page, and hold them to the contracts.

Then spoil those files, one promise at a time: the check that guards the promise must notice.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from tests.contracts import backbone, dataset, objective, task
from tests.contracts.discovery import find_plugins

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCK = re.compile(r"^```python\n# (my_lab/\S+\.py)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
FILES = dict(BLOCK.findall(PAGE.read_text()))

BACKBONE = "my_lab/backbones/frame_vit.py"
TASK = "my_lab/tasks/mean_depth.py"
OBJECTIVE = "my_lab/objectives/arrow_of_time.py"
DATASET = "my_lab/datasets/moving_square.py"
FAMILIES = {
    "my_lab.backbones": (BACKBONE, backbone.CHECKS),
    "my_lab.tasks": (TASK, task.CHECKS),
    "my_lab.objectives": (OBJECTIVE, objective.CHECKS),
    "my_lab.datasets": (DATASET, dataset.CHECKS),
}


def module_name(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


@pytest.fixture
def write_package(tmp_path, monkeypatch):
    """Write files under a folder that Python imports from; forget their modules afterwards."""

    def write(files: dict[str, str]) -> None:
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    for name in [name for name in sys.modules if name.split(".")[0] == "my_lab"]:
        del sys.modules[name]


def test_page_shows_one_file_of_each_kind():
    assert set(FILES) == {path for path, _ in FAMILIES.values()}
    assert PAGE.read_text().count("```python") == len(FILES), "a code block of the page is not run"


@pytest.mark.parametrize("package", FAMILIES)
def test_one_new_file_is_found(package, write_package):
    write_package({**FILES, f"{package.replace('.', '/')}/_private.py": "raise AssertionError('not a plug-in')"})
    path, _ = FAMILIES[package]
    assert find_plugins(package) == [module_name(path)]


@pytest.mark.parametrize(
    ("path", "check"),
    [pytest.param(path, check, id=check.__name__) for path, checks in FAMILIES.values() for check in checks],
)
def test_extension_keeps_its_contract(path, check, write_package):
    write_package(FILES)
    check(importlib.import_module(module_name(path)))


FOLLOWS = "followers = lambda self: {'head': self.head}\n\n    "
STARTS = "starting_weights = lambda self: {'eye': 'a'}\n\n    "

# A check, what the page says, and what breaks the promise that the check guards.
SPOILED = [
    (backbone.describes_a_backbone, "class FrameViTConfig(BackboneConfig)", "class FrameViTConfig"),
    (backbone.fills_every_parameter, "nn.init.normal_(self.positions, std=0.02, generator=generator)", "pass"),
    (backbone.draws_weights_from_the_generator, "std=0.02, generator=generator", "std=0.02"),
    (backbone.builds_on_the_meta_device, "**2, config.width)", "**2, config.width, device='cpu')"),
    (backbone.exposes_its_blocks, "nn.ModuleList(", "list("),
    (backbone.says_its_feature_shape, "native_input.grid(clip), self.config.width)", "native_input.grid(clip), 1)"),
    (backbone.reads_uint8_and_float_alike, "native_pixels(video,", "native_pixels(video.float() / 256,"),
    (backbone.gives_each_depth_alone_or_together, "for depth in depths]", "for depth in sorted(depths)]"),
    (backbone.refuses_impossible_depths, "self.block_at(depth) for", "round(depth * 2) % 3 for"),
    (backbone.keeps_clips_apart, "block(outputs[-1])", "block(outputs[-1] - outputs[-1].mean(dim=0))"),
    (backbone.looks_at_the_pixels, "self.embed(patchify(", "0 * self.embed(patchify("),
    (backbone.learns_what_it_uses, "+ positions]", "+ positions.detach()]"),
    (backbone.refuses_other_shapes_of_video, "native_pixels(video,", "native_pixels(video.expand(-1, -1, 3, -1, -1),"),
    (backbone.says_which_clips_it_takes, "fixed=self.config.native_size", "fixed=False"),
    (backbone.names_its_blocks, "def feature_shape(", "block_at = lambda self, depth: 1\n\n    def feature_shape("),
    (backbone.keeps_other_sizes_when_asked, "(1, self.side, self.side), (1, h, w))", "(1, 1, 1), (1, 1, 1))"),
    (backbone.gives_the_same_at_its_native_size, "+ positions]", "+ positions * (1 + self.config.native_size)]"),
    (task.describes_a_task, 'name = "mean_depth"', 'name = ""'),
    (task.fills_every_parameter_of_a_readout, "self.head.init_weights(generator)", "pass"),
    (task.knows_its_kind, 'kind = "mean_depth"', 'kind = "depth"'),
    (task.answers_with_both_readouts, "self.head(pool_tokens(features))[:, 0]", "self.head(pool_tokens(features))[0]"),
    (task.refuses_readouts_that_it_does_not_have, "self.require_readout(kind)", "pass"),
    (task.learns_every_parameter_of_a_readout, "truth).abs()", "truth).detach().abs().requires_grad_()"),
    (task.never_shows_a_readout_the_answer, "query: NoQuery) -> Metres", "query: NoQuery, target: int = 0) -> Metres"),
    (task.reads_the_features, "pool_tokens(features)", "0 * pool_tokens(features)"),
    (task.scores_every_metric, "error.where(known, 0)", "error.where(known, torch.nan)"),
    (task.scores_each_clip_by_itself, "truth.where(known, 1)", "truth[known].mean()"),
    (task.has_controls, "mean.expand(num_clips)", "mean[None]"),
    (task.draws_a_film, "frames = video[0].movedim(1, -1)", "frames = video[0]"),
    (objective.describes_an_objective, "class ArrowOfTimeConfig(ObjectiveConfig)", "class ArrowOfTimeConfig"),
    (objective.fills_what_it_trains, "init_lecun_normal(self.head, generator)", "pass"),
    (objective.gives_a_finite_loss, "Step(loss,", "Step(loss / 0,"),
    (objective.learns_every_trained_parameter, "features.grid.mean", "features.grid.detach().mean"),
    (objective.repeats_itself, "Step(loss,", "Step(loss * torch.rand(()),"),
    (objective.ignores_the_order_of_clips, "batch.seed % 2 == 1", "torch.arange(2) == 0"),
    (objective.exports_modules, '{"model": self.backbone}', "{}"),
    (objective.draws_pictures, "def export(", "pictures = lambda self, batch: {'a': batch.video}\n    def export("),
    (objective.never_waits_for_the_device, "Step(loss,", "Step(loss * (1 + 0 * loss.item()),"),
    (objective.moves_followers_only_with_applied_steps, "def export(", FOLLOWS + "def export("),
    (objective.names_parts_to_start_from, "def export(", STARTS + "def export("),
    (objective.survives_its_state_dict, "self.head = nn", "self.__dict__['head'] = nn"),
    (dataset.describes_a_dataset, "num_clips=3", "num_clips=0"),
    (dataset.reads_the_same_clip_again, "(self.config.seed, index)", "(id(self), index)"),
    (dataset.leaves_global_random_numbers_alone, "rng.normal(", "np.random.normal("),
    (dataset.gives_batches_of_one, "torch.arange(len(video))[None]", "torch.zeros(1, len(video))"),
    (dataset.joins_into_batches, "metres = self._metres(scene)", "metres = self._metres(scene)[: 1 + index]"),
    (dataset.names_clips_for_good, 'key=(f"moving_square/{self.config.seed}', 'key=(f"{rng.integers(100)}'),
    (dataset.stays_on_the_cpu, "dtype=torch.bool", "dtype=torch.bool, device='meta'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "right", "wrong"), [pytest.param(*spoiled, id=spoiled[0].__name__) for spoiled in SPOILED]
)
def test_check_notices_a_broken_promise(check, right, wrong, write_package):
    (path,) = [path for path, checks in FAMILIES.values() if check in checks]
    assert right in FILES[path], f"docs/extending.md no longer holds {right!r}"
    write_package({**FILES, path: FILES[path].replace(right, wrong)})
    plugin = importlib.import_module(module_name(path))
    with pytest.raises((AssertionError, pytest.fail.Exception, RuntimeError)):  # torch says RuntimeError of shapes
        check(plugin)


def test_every_check_is_known_to_notice():
    checks = {check for _, family in FAMILIES.values() for check in family}
    assert checks == {check for check, *_ in SPOILED}

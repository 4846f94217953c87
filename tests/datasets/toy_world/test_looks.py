"""What looks may not change: the studio's clips and names; and what none may depend on: threads, processes, company."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from fourd.datasets.toy_world import ToyWorldConfig, World, make_clips, make_video, shapes_of
from fourd.datasets.toy_world import clips as clips_module
from fourd.datasets.toy_world.draw import LookName, draw_scene
from fourd.datasets.toy_world.scene import MOVER, SHAPES, Kind

CPU = torch.device("cpu")
TINY = ToyWorldConfig(num_clips=1, num_frames=1, height=16, width=16, num_points=2)
BEFORE = Path(__file__).parent / "studio_before_looks.npz"
every_look = pytest.mark.parametrize("look", get_args(LookName))


def test_clips_of_the_studio_are_what_they_were_before_there_were_looks():
    """The file was written by the code of before. Another CPU may round a colour the other way, and no more."""
    clips, before = make_clips(World(2, 3, 40, 48, 0.7, 16, "random"), [0, 7], CPU), np.load(BEFORE)
    assert set(before.files) == set(vars(clips))
    for name in ("query_frame", "tracks_visible", "tracks_valid", "boxes_valid", "labels"):
        assert np.array_equal(getattr(clips, name).numpy(), before[name]), name
    for name in ("tracks", "boxes", "world_from_camera", "intrinsics"):
        assert np.allclose(getattr(clips, name).numpy(), before[name], rtol=1e-6, atol=1e-4), name
    assert np.allclose(clips.depth.numpy(), before["depth"], rtol=1e-3)
    change = np.abs(clips.video.numpy().astype(int) - before["video"])
    assert change.max() <= 2
    assert (change > 0).mean() < 1e-3


def test_names_of_the_studio_are_what_they_were_before_there_were_looks():
    """Stored clips are found by these names."""
    assert ToyWorldConfig().world.name == "v3-8x64x64-seed0-3a0cff7cdc"
    assert ToyWorldConfig(seed=5, query_frames="random").world.name == "v3-8x64x64-seed5-8da7f0f897"
    longer = ToyWorldConfig(num_frames=16, height=112, width=112, duration_s=1.4)
    assert longer.world.name == "v3-16x112x112-seed0-157d183379"


def test_each_look_has_a_name_of_its_own_that_changes_with_its_version(monkeypatch):
    worlds = [World(1, 2, 16, 16, 0.7, 4, "first", look) for look in get_args(LookName)]
    names = {world.name for world in worlds}
    assert len(names) == len(worlds)
    assert worlds[1].name.startswith("rich1-2x16x16-seed1-")
    monkeypatch.setattr(clips_module, "LOOK_VERSION", clips_module.LOOK_VERSION + 1)
    assert len(names | {world.name for world in worlds}) == 2 * len(worlds) - 1


def test_an_unknown_look_names_the_known_ones():
    with pytest.raises((ValueError, TypeError), match="look"):
        ToyWorldConfig(look="nigth")


# ----------------------------------------------------------------------------- what clips do not depend on


_DIGEST = """
import hashlib, sys, torch
from fourd.datasets.toy_world import World, make_clips
torch.set_num_threads(int(sys.argv[1]))
clips = make_clips(World(3, 3, 72, 72, 0.7, 8, "random", sys.argv[2]), [1, 5], torch.device("cpu"))
whole = b"".join(value.contiguous().numpy().tobytes() for value in vars(clips).values())
print(hashlib.sha256(whole).hexdigest())
"""


def test_threads_and_processes_do_not_matter():
    """A new process with another number of threads makes what this one makes."""
    others = "2" if torch.get_num_threads() == 1 else "1"
    told = subprocess.run([sys.executable, "-c", _DIGEST, others, "rich"], capture_output=True, text=True, check=True)
    here = make_clips(World(3, 3, 72, 72, 0.7, 8, "random", "rich"), [1, 5], CPU)
    whole = b"".join(value.contiguous().numpy().tobytes() for value in vars(here).values())
    assert told.stdout.strip() == hashlib.sha256(whole).hexdigest()


@every_look
def test_a_clip_does_not_depend_on_its_company(look):
    world = World(2, 3, 40, 48, 0.7, 8, "random", look)
    alone, later = make_clips(world, [4], CPU), make_clips(world, [1, 2, 4], CPU)
    for field in vars(alone):
        assert torch.equal(getattr(alone, field)[0], getattr(later, field)[2]), field
    assert torch.equal(make_video(world, [4], CPU), alone.video)


@every_look
@pytest.mark.parametrize(("num_frames", "side"), [(4, 224), (64, 64)])
def test_rasters_from_64_to_224_pixels_and_clips_of_4_to_64_frames(look, num_frames, side):
    clip = make_clips(World(0, num_frames, side, side, 0.0875 * num_frames, 8, "random", look), [3], CPU)
    assert clip.video.shape == (1, num_frames, 3, side, side)
    assert clip.tracks_visible.any(-1).all()
    changes = (clip.video[0, 1:].float() - clip.video[0, :-1].float()).abs().mean((1, 2, 3))
    assert (changes > 0.05).all(), "a frame repeats the one before"
    assert (clip.video.float().flatten(2).std(-1) > 5).all(), "a frame is of one colour"


# ----------------------------------------------------------------------------- the semantic task


@every_look
def test_shape_names_what_the_mover_is(look, tmp_path):
    config = replace(TINY, num_clips=32, tasks=("shape",), look=look, cache_dir=str(tmp_path))
    dataset, rng = config.build(), np.random.default_rng(0)
    labels = [dataset.read(index, rng).tasks[0].target.index.item() for index in range(32)]
    assert labels == [draw_scene(look, 0, index).bodies.kind[MOVER] for index in range(32)]
    assert len({*labels}) > 0.7 * len(shapes_of(look))
    assert max(labels) < len(shapes_of(look))


def test_shapes_are_the_kinds():
    assert tuple(Kind[name.upper()] for name in SHAPES) == tuple(Kind)
    assert shapes_of("studio") == ("sphere", "box", "capsule", "cylinder")
    assert len(shapes_of("night")) == 10


def test_keys_tell_looks_apart(tmp_path):
    keys = set()
    for look in ("studio", "rich"):
        config = replace(TINY, look=look, cache_dir=str(tmp_path))
        keys |= set(config.build().read(0, np.random.default_rng(0)).key)
    assert keys == {"toy_world/0/0", "toy_world/rich/0/0"}
